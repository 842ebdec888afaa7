"""The drift probe: a periodic task for each kind that looks whether its resources still are as applied.

Theory: it is one task that never ends by itself. Between its rounds it waits and holds no thread; in a round it looks
at as many resources at once as the kind says, and passes over those that somebody works on or waits for: users never
wait for it, nor it for them. Only what it sees to be otherwise than known is written, and told with the task's id. What
it finds is one word on the resource (OUT_OF_SYNC); `reconcile` mends it.

The look itself: probing.py.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import bindparam, literal, null, select

from holdfast.core.retry import Retry
from holdfast.core.states import CANCELLED
from holdfast.errors import ResourceBusy
from holdfast.flow.step import Again, FunctionStep, step
from holdfast.resources import probing, state
from holdfast.resources.kind import Kind, Seen
from holdfast.resources.registry import Kinds
from holdfast.resources.state import ResourceRow
from holdfast.store.schema import tasks
from holdfast.tasks import control, row
from holdfast.tasks.row import TaskRow
from holdfast.tasks.submit import Request, submit
from holdfast.tasks.take import HOUSE, SCHEDULE

if TYPE_CHECKING:
    from holdfast.resources.registry import World
    from holdfast.runtime.context import Context
    from holdfast.store.base import Tx

PAGE: Final = 100
BATCH: Final = 100  # changes of one transaction
LOOK_S: Final = 0.05  # for which one is gathered at most, and how often somebody looks whether the round is to end
TRIES: Final = 3
OFF_S: Final = 60.0  # where there are no rounds, until it is seen whether there are to be some
#: One that fails begins its round anew: nobody would notice that it had ended.
RETRY: Final = Retry(attempts=1 << 30, backoff_s=1.0, backoff_max_s=60.0)
OPERATION: Final = "sync"
_LAST: Final = (
    select(tasks)
    .where(
        tasks.c.project_id == literal(HOUSE),
        tasks.c.resource_type == bindparam("_kind"),
        tasks.c.operation == literal(OPERATION),
        tasks.c.tag.is_not(null()),
    )
    .order_by(tasks.c.id.desc())
    .limit(1)
)


def sync_step(kind: Kind, world: World) -> FunctionStep[Any, Any]:
    """Rounds over all resources of the kind, `sync_interval_s` apart. `rounds`: end after so many; 0: never."""

    def sync(ctx: Context, rounds: int) -> Any:
        interval_s = world.hold.settings.sync_interval_s
        if not interval_s and not rounds:
            return Again(OFF_S, checkpoint=ctx.last_checkpoint)
        done = (ctx.last_checkpoint or 0) + 1
        tally = Round(kind, world, ctx).go()
        if done == rounds:
            return {"looked": tally}
        return Again(interval_s, checkpoint=done)

    return step(sync, provides=frozenset(("looked",)), retry=RETRY)


class Round:
    """One look at every resource of the kind. What was seen is written by one thread, that of the step, a batch at
    once; what is as it was known is not written."""

    def __init__(self, kind: Kind, world: World, ctx: Context) -> None:
        self._kind = kind
        self._hold = world.hold
        self._ctx = ctx
        self._at_once = max(1, kind.probes_at_once)
        self._ids: SimpleQueue[str | None] = SimpleQueue()
        self._answers: SimpleQueue[_Answer] = SimpleQueue()
        self._threads = 0
        self._batch: list[_Answer] = []
        self._batch_since = 0.0
        self.tally = {"seen": 0, "drifted": 0, "busy": 0, "unreachable": 0}

    def go(self) -> dict[str, int]:
        """How many were seen, passed over because somebody is at work, and out of reach. Raises: Stopping; what is
        being looked at then is left to its end, and nobody hears of it."""
        asked = 0
        try:
            for id in self._all():
                self._ask(id, asked)
                asked += 1
                while asked - self._answered >= self._at_once:
                    self._take()
            while asked > self._answered:
                self._take()
            self._write()
            return self.tally
        finally:
            for _ in range(self._threads):
                self._ids.put(None)

    @property
    def _answered(self) -> int:
        return sum(self.tally.values()) + len(self._batch)

    def _all(self) -> Iterator[str]:
        marker: str | None = None
        while True:
            page = self._hold.store.read(partial(state.page, kind=self._kind.name, limit=PAGE, marker=marker))
            yield from (row.id for row in page)
            if len(page) < PAGE:
                return
            marker = page[-1].id

    def _ask(self, id: str, asked: int) -> None:
        if self._threads < min(self._at_once, asked - self._answered + 1):
            self._threads += 1
            threading.Thread(target=self._look_at_all, name=f"holdfast-sync-{self._threads}", daemon=True).start()
        self._ids.put(id)

    def _take(self) -> None:
        """Hear an answer, or look whether this is to end. What is news is written with what comes soon after."""
        self._ctx.raise_if_stopping()
        try:
            answer = self._answers.get(timeout=LOOK_S)
        except Empty:
            self._write()
            return
        if answer.seen is None or not probing.is_news(self._kind, answer.look, answer.seen):
            self.tally[answer.word or _word(answer.look.row)] += 1
            return
        now = self._hold.clock.monotonic()
        if not self._batch:
            self._batch_since = now
        self._batch.append(answer)
        if len(self._batch) >= BATCH or now - self._batch_since >= LOOK_S:
            self._write()

    def _write(self) -> None:
        in_order_of_locks = sorted(self._batch, key=lambda each: each.look.row.id.encode())
        batch, self._batch = in_order_of_locks, []
        if not batch:
            return
        now = self._hold.clock.time()

        def write(tx: Tx) -> list[ResourceRow | None]:
            by = probing.held(tx, self._ctx)
            return [probing.found(tx, self._kind, each.look, each.seen, by, now) for each in batch if each.seen]

        for answer, after in zip(batch, self._hold.store.write(write), strict=True):
            self.tally["busy" if after is None else answer.word or _word(after)] += 1

    # --- on threads of their own ----------------------------------------------------------------------------------

    def _look_at_all(self) -> None:
        while (id := self._ids.get()) is not None:
            self._answers.put(self._look(id))

    def _look(self, id: str) -> _Answer:
        for _ in range(TRIES):
            try:
                look = self._hold.store.read(lambda tx: probing.before(tx, self._kind.name, id))
                if look is None or look.row is None or look.row.waiting:
                    return _Answer("busy")
                seen = probing.ask(self._kind, look, self._hold.sealer)
            except ResourceBusy:  # the look has made way for somebody, of this resource or of another
                continue
            except Exception:  # one that can't be reached must not keep the others from being looked at
                return _Answer("unreachable")
            return _Answer(None if seen.reached else "unreachable", look, seen)
        return _Answer("busy")


class _Answer(NamedTuple):
    """`word`: how it counts; None: by what is known of it then."""

    word: str | None
    look: Any = None
    seen: Seen | None = None


def _word(row: ResourceRow) -> str:
    return "drifted" if row.doubt == state.DRIFT else "seen"


def begin(tx: Tx, kinds: Kinds, now: float, uuids: Callable[[], str], *, rounds: int = 0) -> list[TaskRow]:
    """The periodic task of each kind that has a probe: the one there is, else a new one. `uuids` makes UUIDv7s. One
    that an administrator has cancelled is not made again; one that rests because its kind was not known goes on."""
    return [
        _begin(tx, kinds, kind, now, uuids(), rounds=rounds)
        for kind in kinds
        if kind.prober is not None
    ]  # fmt: skip


def _begin(tx: Tx, kinds: Kinds, kind: Kind, now: float, uuid: str, *, rounds: int) -> TaskRow:
    found = None if rounds else tx.execute(_LAST, {"_kind": kind.name}).first()
    last = None if found is None else row.of(found)
    if last is not None and (last.finished_at is None or last.state == CANCELLED):
        if last.reason == "definition_changed":
            control.resume(tx, last.id, now, actor=SCHEDULE)
        return row.read(tx, last.id)
    flow = kinds.prepared(kind.name, OPERATION)
    request = Request(
        flow=flow.name,
        version=flow.version,
        reference=flow.reference,
        inputs=json.dumps({"rounds": rounds}),
        operation=OPERATION,
        resource_type=kind.name,
        # The next of two that begin at once finds this one.
        tag=None if rounds else f"{OPERATION}.{kind.name}" + ("" if last is None else f".{last.uuid}"),
        digest=flow.digest,
        outline=flow.outline,
        steps=flow.steps,
        weight=flow.weight,
        pool=flow.pool or "default",
        project_id=HOUSE,
        origin="library" if rounds else SCHEDULE,
    )
    return submit(tx, request, now, uuid).task
