"""Tasks in a database that this process opens: their story is their journal, and a worker of ours can do them.

What commands see of it: place.py. A service instead: far.py.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from holdfast.cli import options
from holdfast.cli.options import Where
from holdfast.cli.show import Look
from holdfast.clock import Clock
from holdfast.core import events as e
from holdfast.core.trace import line_of
from holdfast.errors import FlowNotFound
from holdfast.tasks import fleet, lease, query, row
from holdfast.tasks import show as shown

if TYPE_CHECKING:
    from holdfast.cli.place import Wanted
    from holdfast.flow.patterns import Flow
    from holdfast.flow.step import Step
    from holdfast.local import Holdfast, Task
    from holdfast.store.base import JournalRow, StepRow, Tx

LOOK_S: Final = 0.04  # between two looks at least
WAIT_S: Final = 0.1  # longer for a change
STEPS_SEEN: Final = 200


@contextmanager
def opened(where: Where, *, flows: Sequence[str] | None = None, kinds: bool = False) -> Iterator[Near]:
    with options.opened(where.database, flows=flows, kinds=kinds) as hold:
        yield Near(hold, where)


class Near:
    """See `Place`."""

    is_near = True

    def __init__(self, hold: Holdfast, where: Where) -> None:
        self.hold = hold
        self.where = where

    def task(self, ref: str) -> Task:
        return self.hold.task(ref)

    def submit(
        self, name: str, inputs: Mapping[str, Any], *, tag: str | None, claims: Sequence[str | tuple[str, str]],
        start_after: str | None, priority: int,
    ) -> Task:  # fmt: skip
        at = options.moment(start_after, self.hold.clock.time())
        return self.hold.submit(self._flow(name), inputs, tag=tag, claims=claims, start_after=at, priority=priority)

    def _flow(self, name: str) -> Flow | Step:
        """Raises: FlowNotFound."""
        from holdfast.flow.registry import registered

        known = registered(self.hold.flows)
        found = [flow for key, flow in known.items() if name in (key, key.rpartition("@")[0])]
        if len(found) != 1:
            raise FlowNotFound(
                f"{len(found) or 'no'} flows are called {name!r}: --flows MODULE:CALLABLE says where they are, and "
                "`holdfast run` takes one from a file"
            )
        return found[0]

    def tasks(self, *, limit: int, state: str, tag: str, flow: str, resource: str) -> list[dict[str, Any]]:
        found = self.hold.tasks(limit=limit, state=state, tag=tag, flow=flow, resource=resource, roots=True)
        return [task.view() for task in found]

    def document(self, task: Task) -> dict[str, Any]:
        return task.view() | {"steps": [shown.step(each) for each in task.steps]}

    def mark(self, task: Task) -> int:
        return self.hold.store.read(lambda tx: query.get(tx, task.id)).seq

    def story(self, task: Task, after: int | None = None) -> Story:
        return Story(self.hold, task, after or 0)

    def work(self, task: Task, runtime: str) -> Working:
        return Working(self.hold, task, runtime)

    def idle(self, view: Mapping[str, Any]) -> str | None:
        if owner_lives(self.hold, view["uuid"]) or any(worker.pool == view["pool"] for worker in _living(self.hold)):
            return None
        return "no worker lives that would do it: `holdfast worker` does, or --work here"

    # --- schedules ------------------------------------------------------------------------------------------------

    def add_schedule(self, asked: Wanted) -> dict[str, Any]:
        from holdfast.flow.registry import load

        how: dict[str, Any] = {
            "cron": asked.cron, "timezone": asked.timezone, "catch_up": asked.catch_up, "overlap": asked.overlap,
            "claims": asked.claims, "priority": asked.priority, "replace": False,
        }  # fmt: skip
        if asked.on is not None:
            kind, _, id = asked.on.partition("/")
            made = self.hold.schedule_operation(asked.name, kind, asked.task, id or None, asked.inputs, **how)
        else:
            flow = load(asked.task) if ":" in asked.task else self._flow(asked.task)
            made = self.hold.schedule(asked.name, flow, asked.inputs, **how)
        return made.view()

    def schedules(self) -> list[dict[str, Any]]:
        return [each.view() for each in self.hold.schedules()]

    def schedule(self, ref: str) -> dict[str, Any]:
        return self.hold.scheduled(ref).view()

    def set_schedule(self, ref: str, verb: str) -> dict[str, Any] | None:
        known = self.hold.scheduled(ref)
        getattr(known, verb)()
        return None if verb == "remove" else known.view()

    # --- workers and pools ----------------------------------------------------------------------------------------

    def workers(self, pool: str | None) -> list[dict[str, Any]]:
        now = self.hold.clock.time()
        return self.hold.store.read(lambda tx: fleet.workers(tx, now, pool=pool))

    def pools(self) -> list[dict[str, Any]]:
        now = self.hold.clock.time()
        return self.hold.store.read(lambda tx: fleet.all_pools(tx, now))

    def pool(self, name: str) -> dict[str, Any]:
        now = self.hold.clock.time()
        return self.hold.store.read(lambda tx: fleet.one_pool(tx, name, now))

    def set_pool(self, name: str, limits: Mapping[str, int | None]) -> dict[str, Any]:
        return self.hold.write(lambda tx, now: fleet.limit(tx, name, dict(limits), now))

    def give_pool(self, name: str, verb: str) -> dict[str, Any]:
        return self.hold.write(lambda tx, now: fleet.give(tx, name, verb, now))

    # --- resources ------------------------------------------------------------------------------------------------

    def kinds(self) -> dict[str, Any]:
        from holdfast.resources.describe import describe

        return describe(self.hold.kinds)

    def resources(self, kind: str, *, limit: int, filters: Mapping[str, Any]) -> list[dict[str, Any]]:
        self.hold.kinds.kind(kind)
        return [_timed(each.view()) for each in self.hold.resources(kind, limit=limit, **filters)]

    def resource(self, kind: str, id: str) -> dict[str, Any]:
        self.hold.kinds.kind(kind)
        return _timed(self.hold.resource(kind, id).view())

    def revisions(self, kind: str, id: str) -> list[dict[str, Any]]:
        self.hold.kinds.kind(kind)
        return [_timed(each) for each in self.hold.resource(kind, id).revisions()]

    def node_states(self, id: str) -> dict[str, Any]:
        from holdfast.resources import state
        from holdfast.resources.node import views

        return _timed(self.hold.store.read(lambda tx: views.node_states(tx, state.read(tx, "node", id))))

    def operate(
        self, kind: str, operation: str, id: str | None, given: Mapping[str, Any], *, tag: str | None,
        revision: int | None = None,
    ) -> Task:  # fmt: skip
        desired = operation in ("create", "update")
        return self.hold.operate(
            kind, operation, id, None if desired else given, desired=given if desired else None, tag=tag,
            if_match=revision,
        )  # fmt: skip


def _timed(document: dict[str, Any]) -> dict[str, Any]:
    """Its times as people and the service say them."""
    return {
        name: shown.moment(value) if name.endswith("_at") and isinstance(value, (int, float)) else value
        for name, value in document.items()
    }


# --- its story ---------------------------------------------------------------------------------------------------


class Story:
    """Looks at a task again and again, and reads each row of its journal once; those up to `after` not at all."""

    def __init__(self, hold: Holdfast, task: Task, after: int = 0) -> None:
        self._hold = hold
        self._task = hold.store.read(lambda tx: query.get(tx, task.id)).id
        self._seq = after
        self._ids: list[str] = []
        self._rows: dict[str, int] = {}
        self._plan: list[str] | None = None
        self._polling: set[int] = set()
        self._waits = False
        self._clock = Clock()
        self._pause = threading.Event()  # nobody sets it
        self._changes = -1

    def look(self) -> Look:
        self._changes = self._hold.store.changes()
        now = self._hold.clock.time()

        def read(tx: Tx) -> tuple[float, dict[str, Any], list[StepRow], list[JournalRow]]:
            at = row.read(tx, self._task)
            if self._plan is None:
                self._plan = _steps_of(query.outline_of(tx, at)) if at.rollback_of is None else []
            steps = query.latest_steps(tx, self._task, STEPS_SEEN)
            return at.created_at, shown.task(tx, at, now=now), steps, tx.journal(self._task, self._seq)

        since, view, steps, journal = self._hold.store.read(read)
        news = [(entry.at - since, line) for entry in journal if (line := self._line(entry)) is not None]
        if journal:
            self._seq = journal[-1].seq
        begun = {step.node for step in steps}
        return Look(view, steps, [step for step in self._plan or () if step not in begun], news)

    def wait(self) -> None:
        self._clock.wait(self._pause, LOOK_S)
        self._hold.store.wait(self._changes, WAIT_S)

    def close(self) -> None:
        """Nothing is open."""

    def _line(self, entry: JournalRow) -> str | None:
        from holdfast.store.journal import decode

        event = decode(entry, self._number)
        place = getattr(event, "row", -1)
        if isinstance(event, (e.Parked, e.Reentered, e.Waited, e.Woke)) and self._repeats(event, place):
            return None
        self._polling.discard(place)
        self._waits = isinstance(event, e.Waited)
        if isinstance(event, e.Parked):
            self._polling.add(place)
        return line_of(event, self._ids)

    def _repeats(self, event: e.Event, place: int) -> bool:
        """Whether it only says that a step which polls looks again; its progress says what it sees."""
        if isinstance(event, (e.Waited, e.Woke)):
            return self._waits
        return place in self._polling

    def _number(self, node: str) -> int:
        if node not in self._rows:
            self._rows[node] = len(self._ids)
            self._ids.append(node)
        return self._rows[node]


def _steps_of(outline: str | None) -> list[str]:
    """The ids of the plan's steps and maps, in its order."""
    rows = [] if outline is None else json.loads(outline)[0]
    names = [row[0] for row in rows if row[1] in ("step", "map")]
    return names if len(names) <= STEPS_SEEN else []


# --- who works ---------------------------------------------------------------------------------------------------


class Working:
    """A worker for one task, in a thread of its own."""

    def __init__(self, hold: Holdfast, task: Task, runtime: str) -> None:
        self._hold = hold
        self.worker = hold.worker(runtime, only=task)
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="holdfast-worker", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.worker.run()
        except BaseException as error:
            self.error = error

    def has(self, view: Mapping[str, Any]) -> bool:
        owner = self._hold.store.read(lambda tx: query.get(tx, view["uuid"])).worker_id
        return owner is None or owner == self.worker.lease.id

    def close(self) -> None:
        """Give back what it has."""
        self.worker.stop()
        self._thread.join()
        self.worker.close()


def owner_lives(hold: Holdfast, uuid: str) -> bool:
    """Whether a worker has the task and lives."""
    owner = hold.store.read(lambda tx: query.get(tx, uuid)).worker_id
    return any(worker.id == owner for worker in _living(hold))


def _living(hold: Holdfast) -> list[lease.WorkerRow]:
    from holdfast.cli.findings import is_dead

    now = hold.clock.time()
    return [worker for worker in hold.store.read(lease.alive) if not is_dead(worker, now)]
