"""The drift probe: a periodic task for each kind that looks whether its resources still are as applied.

Theory: it is one task that never ends by itself. Between its rounds it waits and holds no thread; in a round it looks
at one resource after the other and passes over those that somebody works on or waits for: users never wait for it.
What it finds is one word on the resource (OUT_OF_SYNC); `reconcile` mends it.

The look itself: probing.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, literal, null, select

from holdfast.core.retry import Retry
from holdfast.core.states import CANCELLED
from holdfast.flow.step import Again, FunctionStep, step
from holdfast.resources import probing, state
from holdfast.resources.kind import Kind
from holdfast.resources.registry import Kinds
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
        done = (ctx.last_checkpoint or 0) + 1
        tally = one_round(kind, world, ctx)
        if done == rounds:
            return {"looked": tally}
        return Again(world.hold.settings.sync_interval_s, checkpoint=done)

    return step(sync, provides=frozenset(("looked",)), retry=RETRY)


def one_round(kind: Kind, world: World, ctx: Context) -> dict[str, int]:
    """Look at every resource once; how many were seen, passed over because somebody is at work, and out of reach."""
    hold = world.hold
    tally = {"seen": 0, "drifted": 0, "busy": 0, "unreachable": 0}
    marker: str | None = None
    while True:
        page = hold.store.read(partial(state.page, kind=kind.name, limit=PAGE, marker=marker))
        for each in page:
            ctx.raise_if_stopping()
            tally[_look(kind, world, ctx, each.id)] += 1
        if len(page) < PAGE:
            return tally
        marker = page[-1].id


def _look(kind: Kind, world: World, ctx: Context, id: str) -> str:
    hold = world.hold
    look = hold.store.read(lambda tx: probing.before(tx, kind.name, id))
    if look is None or look.row is None or look.row.waiting:
        return "busy"
    try:
        seen = probing.ask(kind, look, hold.sealer)
    except Exception:  # one that can't be reached must not keep the others from being looked at
        return "unreachable"
    now = hold.clock.time()
    after = hold.store.write(lambda tx: probing.found(tx, kind, look, seen, ctx.task_id, now))
    if after is None:
        return "busy"
    return "drifted" if after.doubt == state.DRIFT else "seen"


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
