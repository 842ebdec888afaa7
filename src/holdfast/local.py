"""The library's front door: `open` a database, submit flows, work, and hold a `Task` in the hand.

Everything here is thin: admission and verbs are functions of a transaction (tasks/), the work is the worker's
(worker/loop.py), what is read is tasks/query.py's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.asking import Asking
from holdfast.clock import Clock
from holdfast.errors import HoldfastClosed
from holdfast.handle import Task
from holdfast.resources import again, project, state
from holdfast.resources.handle import Resource
from holdfast.runtime.base import refuse_while_loading
from holdfast.scheduling import Scheduling, admitting
from holdfast.seal import Sealer
from holdfast.settings import Settings
from holdfast.store import is_postgresql, keep_time, lock_prefix, open_store, redacted
from holdfast.store.base import Tx
from holdfast.tasks import finish, joined, query, retention

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from holdfast.feed.log import Entry
    from holdfast.flow.patterns import Flow
    from holdfast.resources.kind import Kind
    from holdfast.resources.registry import Kinds
    from holdfast.worker.loop import Worker

T = TypeVar("T")


def open(
    url: str | None = None,
    *,
    flows: Iterable[Flow] | Callable[[], Iterable[Flow]] = (),
    kinds: Kinds | Iterable[Kind] = (),
    clock: Clock | None = None,
    create: bool = True,
    **settings: Any,
) -> Holdfast:
    """Open a database of tasks, and make it if there is none: `sqlite:///tasks.db`, `sqlite:///:memory:`,
    `postgresql://USER@HOST/DATABASE` (where there is a database, it gets its tables).

    flows: those that can't be found by import, because functions make them; a restart must give them again, under
    the same names and versions. kinds: of the resources that tasks act on. Settings are those of
    docs/reference/settings.md.
    Raises: KindError, DatabaseUrlInvalid, SchemaOlder, SchemaNewer, StoreUnwritable, StoreBusy, StoreCorrupt,
    StoreAway, SettingInvalid.
    """
    refuse_while_loading()
    known = Settings.load(**settings)
    return Holdfast(
        url or known.database, flows=flows, kinds=kinds, clock=clock or Clock(), settings=known, create=create
    )


class Holdfast(Asking, Scheduling):
    """An open database of tasks. Threads may share it. Close it, or use it with `with`."""

    def __init__(
        self,
        url: str,
        *,
        flows: Iterable[Flow] | Callable[[], Iterable[Flow]],
        kinds: Kinds | Iterable[Kind] = (),
        clock: Clock,
        settings: Settings,
        create: bool = True,
    ) -> None:
        self.url = url
        self.shown = redacted(url)
        self.settings = settings
        self.actor = "library"
        self._known = set()
        self.kinds = _opened(kinds, settings)
        self.flows: tuple[Flow, ...] = (*(flows() if callable(flows) else flows), *self.kinds.flows)
        self.clock = clock
        self.sealer = Sealer(settings.read_keys)
        self._workers: list[Worker] = []
        self._threads: list[threading.Thread] = []
        self._closed = False
        # PostgreSQL tells of others' commits, and its own look is a net that all processes cast: seldom.
        # What became of a commit is found out for as long as a lease leaves: who never knows has to begin anew.
        doubt_s = min(settings.lease_s - settings.heartbeat_s, settings.database_timeout_s)
        theirs = {"silence_s": settings.database_timeout_s / 2, "doubt_s": doubt_s}
        own = theirs if is_postgresql(url) else {"look_s": settings.poll_s}
        self.store = open_store(
            url, busy_timeout_s=settings.busy_timeout_s, batch_max=settings.batch_max, create=create, **own
        )
        keep_time(self.store, clock)
        self.store.hear_others(self.poke)
        self.kinds.world.open(self)
        finish.join(project.project)
        joined.join(again.JOINT)

    # --- resources ------------------------------------------------------------------------------------------------

    def operate(
        self,
        kind: str,
        operation: str,
        id: str | None = None,
        params: Mapping[str, Any] | None = None,
        *,
        desired: Mapping[str, Any] | None = None,
        tag: str | None = None,
        if_match: int | None = None,
        fail_if_busy: bool = False,
        claims: Iterable[str | tuple[str, str]] = (),
        start_after: float | None = None,
        priority: int = 0,
        project_id: str = "default",
    ) -> Task:
        """Ask for an operation on a resource: it is accepted, and queues. `hold.operate("server", "create",
        desired={…})` makes a resource, whose id is `task.view()["resource_id"]` unless `id` was given.

        desired: the whole document, for an operation that takes one. if_match: the revision you have seen.
        fail_if_busy: refuse rather than queue. Raises: what resources/operate.py says.
        """
        from holdfast.resources.operate import Asked, operate

        asked = Asked(
            kind, operation, id, dict(params or {}), None if desired is None else dict(desired), if_match, tag,
            project_id=project_id, start_after=start_after, priority=priority, claims=tuple(claims),
            fail_if_busy=fail_if_busy, pool=self.settings.pool,
        )  # fmt: skip
        found = self.write(lambda tx, now: operate(tx, self.kinds, asked, now, self.clock.uuid7()))
        return Task(self, found.task.id, found.task.uuid, replayed=found.replayed)

    def resource(self, kind: str, id: str) -> Resource[Task]:
        """A resource, even one that is no more. Raises: ResourceNotFound."""
        self.store.read(lambda tx: state.read(tx, kind, id, deleted=True))
        return Resource(self, kind, id)

    def resources(self, kind: str | None = None, *, limit: int = state.LIMIT, **filters: Any) -> list[Resource[Task]]:
        """Resources that are there, by id: `status=`, `name=` and the others of resources/state.py's `page`."""
        found = self.store.read(lambda tx: state.page(tx, kind, limit=limit, **filters))
        return [Resource(self, row.kind, row.id) for row in found]

    def watch_drift(self, *, rounds: int = 0) -> list[Task]:
        """Have somebody look from time to time (`sync_interval_s`) whether resources are still as applied: a task for
        each kind that has a probe; the same ones if asked again. They are done by workers that know the kinds; one that
        works until it is idle leaves between two rounds. rounds: end after so many; 0: never."""
        from holdfast.resources import sync

        made = self.write(lambda tx, now: sync.begin(tx, self.kinds, now, self.clock.uuid7, rounds=rounds))
        return [Task(self, row.id, row.uuid) for row in made]

    # --- finding --------------------------------------------------------------------------------------------------

    def task(self, ref: str) -> Task:
        """The task with that id, the beginning of its id, or its tag. Raises: TaskNotFound, TaskGone."""
        found = self.store.read(lambda tx: query.find(tx, ref))
        return Task(self, found.id, found.uuid)

    def tasks(self, *, limit: int = query.LIMIT, **filters: Any) -> list[Task]:
        """Tasks that match, the newest first: `state="running,waiting"`, `flow=`, `tag=`, `resource=` and the other
        fields of tasks/listing.py's `Filter`."""
        found = self.store.read(lambda tx: query.page(tx, query.Filter(**filters), limit=limit))
        return [Task(self, row.id, row.uuid) for row in found.tasks]

    # --- working --------------------------------------------------------------------------------------------------

    def work(
        self, *, until_idle: bool = False, runtime: str | Executor = "threads", until: Callable[[], bool] | None = None
    ) -> None:
        """Do tasks, in this thread. until_idle: return when nothing is left that could be done now or later by
        itself; rounds that never end (`watch_drift`) don't count between two of them. until: asked whenever there is
        nothing to do; True ends it. runtime: as `holdfast.run`; inline, a step hears of verbs only when it asks for a
        checkpoint.
        """
        worker = self.worker(runtime)
        try:
            if until_idle:
                worker.run(worker.is_idle)
            else:
                worker.run(until)
        finally:
            self._workers.remove(worker)
            worker.close()

    def worker(self, runtime: str | Executor = "threads", *, only: Task | None = None) -> Worker:
        """A worker on this database, not running yet. `only`: it does this task and leaves all others alone, so
        nobody else counts on it."""
        from holdfast.flow.registry import registered
        from holdfast.runtime.choice import Runtimes
        from holdfast.worker.lease import Lease
        from holdfast.worker.loop import Worker

        if self._closed:
            raise HoldfastClosed
        lease = Lease(
            self.store, self.clock, self.settings, self.settings.pool if only is None else f"task {only.id}",
            lock_prefix=lock_prefix(self.url, self.store.generation),
        )  # fmt: skip
        lease.flows = tuple(registered(self.flows))
        inherit = () if lease.lock_fd is None else (lease.lock_fd,)
        runtimes = Runtimes(
            runtime,
            workers_max=self.settings.workers_max,
            inherit=inherit,
            value_bytes_max=self.settings.value_bytes_max,
        )
        worker = Worker(
            self.store, runtimes, clock=self.clock, settings=self.settings, flows=self.flows,
            pool=self.settings.pool, only=None if only is None else (only._id,), seal=self.sealer.seal,
            unseal=self.sealer.unseal, lease=lease, house=self, admit=None if only else admitting(self),
        )  # fmt: skip
        self._workers.append(worker)
        return worker

    @contextmanager
    def working(
        self, runtime: str | Executor = "threads", *, failed: Callable[[BaseException], None] | None = None
    ) -> Iterator[None]:
        """A worker in a thread of its own, for as long as the `with` lasts. failed: told what it died of before that,
        on its thread; without it, it is raised there."""
        worker = self.worker(runtime)
        thread = threading.Thread(target=_run_and_close, args=(worker, failed), name="holdfast-worker", daemon=True)
        self._threads.append(thread)
        thread.start()
        try:
            yield
        finally:
            worker.stop()
            thread.join()
            self._threads.remove(thread)
            self._workers.remove(worker)

    # --- what happens ---------------------------------------------------------------------------------------------

    def events(self, after: int = 0, *, follow: bool = False, task: Task | str | None = None) -> Iterator[Entry]:
        """What has happened behind the event `after`, in order; 0: as far back as events are kept. follow: and what
        happens from here on, until this is closed; of one task, until its end. Whoever keeps the `id` of the last
        event it has seen goes on there after a restart, with neither gap nor repeat.

        Raises: EventsGone: events behind `after` are no longer kept (`feed_retention_s`).
        """
        from holdfast.feed import log

        of = self.task(task) if isinstance(task, str) else task
        return log.follow(self.store, after, filter=log.Filter(task=None if of is None else of._id), wait=follow)

    # --- housekeeping ---------------------------------------------------------------------------------------------

    def purge(self) -> int:
        """Delete tasks whose retention is over; how many."""
        now, gone = self.clock.time(), 0
        while True:
            purged = self.store.write(lambda tx: retention.purge(tx, now, tombstone_s=self.settings.retention_s))
            gone += purged.tasks
            if not purged.more:
                return gone

    def close(self) -> None:
        """Stop this object's workers and close the database. What was accepted stays accepted."""
        if not self._closed:
            self._closed = True
            for worker in list(self._workers):
                worker.stop()
            for thread in self._threads:  # what their steps have said is stored first
                if thread is not threading.current_thread():
                    thread.join()
            self.store.close()

    def __enter__(self) -> Holdfast:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- for Task -------------------------------------------------------------------------------------------------

    def write(self, fn: Callable[[Tx, float], T]) -> T:
        """What `fn` made of a transaction, now; this process's workers hear of it at once."""
        now = self.clock.time()
        answer = self.store.write(lambda tx: fn(tx, now))
        self.poke()
        return answer

    def write_all(
        self, fns: Sequence[Callable[[Tx], T]], around: AbstractContextManager[None] | None = None
    ) -> list[T | Exception]:
        """As `write` for each of them, all in one commit. `around`: as Store.write_all has it."""
        answers = self.store.write_all(fns, around)
        self.poke()
        return answers

    def poke(self, went_on: bool = False) -> None:
        """Let this process's workers look. `went_on`: tasks of others did, and that is all."""
        for worker in self._workers:
            worker.poke(went_on)


def _run_and_close(worker: Worker, failed: Callable[[BaseException], None] | None) -> None:
    try:
        worker.run()
    except BaseException as error:
        if failed is None:
            raise
        failed(error)
    finally:
        worker.close()


def _opened(kinds: Kinds | Iterable[Kind], settings: Settings) -> Kinds:
    """The kinds with their flows, for one database."""
    from holdfast.resources.registry import Kinds, World

    return (kinds if isinstance(kinds, Kinds) else Kinds(kinds)).open(World(settings))


__all__ = ["Holdfast", "Task", "open"]
