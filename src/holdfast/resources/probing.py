"""Looking at the world without touching it: the probe of a kind, and what its answer changes.

Theory: a probe takes no claim, so it can look while others queue; but what it saw is worth nothing once somebody has
worked on the resource meanwhile. `resources.turns` counts the operations that have ended, and a granted ticket says
that one may be at work; an answer counts only if neither has changed since before the look.

Who asks for a look: project.py after an abort, sync.py from time to time.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import bindparam, select, true

from holdfast.core.retry import Retry
from holdfast.errors import KindError, LeaseLost, TaskNotFound
from holdfast.flow.arguments import signature
from holdfast.flow.step import Again, FunctionStep, step
from holdfast.resources import sealing, state
from holdfast.resources.kind import Kind, Seen
from holdfast.resources.project import seen_columns
from holdfast.resources.state import ResourceRow
from holdfast.store.schema import tasks, tickets
from holdfast.tasks import row as task_rows
from holdfast.tasks.row import TaskRow

if TYPE_CHECKING:
    from holdfast.resources.registry import World
    from holdfast.runtime.context import AsyncContext, Context
    from holdfast.seal import Sealer
    from holdfast.store.base import Tx

AGAIN_S: Final = 1.0
#: For a world that does not answer. Who gives up here leaves the doubt to the drift probe.
RETRY: Final = Retry(attempts=8, backoff_s=0.5, backoff_max_s=60.0)
_HELD: Final = select(tickets.c.task).where(tickets.c.resource == bindparam("_r"), tickets.c.granted == true()).limit(1)
_BY_UUID: Final = select(tasks).where(tasks.c.uuid == bindparam("_uuid"))


class Look(NamedTuple):
    """What there was before a look: None for `row`: somebody is at work, so there is no point in looking."""

    row: ResourceRow | None


def before(tx: Tx, kind: str, id: str) -> Look | None:
    """None: the resource is no more."""
    row = state.find(tx, kind, id)
    if row is None or row.deleted_at is not None:
        return None
    if is_busy(tx, row):
        return Look(None)
    return Look(row)


def is_busy(tx: Tx, row: ResourceRow) -> bool:
    """Whether a task holds the resource."""
    return tx.execute(_HELD, {"_r": row.key}).first() is not None


def ask(kind: Kind, look: Look, sealer: Sealer) -> Seen:
    """Call the kind's probe."""
    row = look.row
    assert row is not None
    assert kind.prober is not None
    there = {
        "driver": kind.driver, "resource_id": row.id, "desired": sealing.read(sealer, row.desired),
        "revision": row.revision, "before": row.lifecycle, "doubt": row.doubt, "kind": kind,
        "observed": json.loads(row.observed),
    }  # fmt: skip
    wants = signature(kind.prober, f"the probe of {kind.name}").wants
    seen = kind.prober(**{name: there[name] for name, _required in wants if name in there})
    if not isinstance(seen, Seen):
        raise KindError(f"the probe of {kind.name} returned {seen!r}, not a Seen")
    if seen.lifecycle is not None and seen.lifecycle not in kind.lifecycle:
        raise KindError(f"the probe of {kind.name} saw {seen.lifecycle!r}, which is no state of its lifecycle")
    return seen


def is_news(kind: Kind, look: Look, seen: Seen) -> bool:
    """Whether what was seen would change anything."""
    row = look.row
    assert row is not None
    return row._replace(**_columns(kind, row, row, seen, 0.0)) != row


def found(tx: Tx, kind: Kind, look: Look, seen: Seen, by: TaskRow, now: float) -> ResourceRow | None:
    """Write what was seen by a task that is `held`; None: somebody has been at work since `look`, so it is dropped."""
    assert look.row is not None
    row = state.lock(tx, look.row.kind, look.row.id)
    if row is None or row.turns != look.row.turns or row.deleted_at != look.row.deleted_at or is_busy(tx, row):
        return None
    return state.change(tx, by, row, now, **_columns(kind, row, look.row, seen, now))


def _columns(kind: Kind, row: ResourceRow, before: ResourceRow, seen: Seen, now: float) -> dict[str, Any]:
    """What a look makes of a row. `before`: as it was then."""
    columns = seen_columns(row, dict(seen.observed))
    if seen.lifecycle is not None and seen.lifecycle != row.lifecycle:
        columns["lifecycle"] = seen.lifecycle
        columns.setdefault("status", seen.lifecycle)
        if not row.waiting:
            columns["planned"] = seen.lifecycle
        if kind.is_final(seen.lifecycle):
            columns["deleted_at"] = now
    if seen.in_sync is not None:
        columns["doubt"] = None if seen.in_sync else state.DRIFT
    if seen.in_sync:
        columns |= _as_desired(row, before)
    return columns


def noted(tx: Tx, kind: str, id: str, seen: dict[str, Any], by: TaskRow, now: float) -> None:
    """Write what a task that is `held` sees of a resource that it has, before its end."""
    row = state.lock(tx, kind, id)
    if row is not None and row.deleted_at is None:
        state.change(tx, by, row, now, **seen_columns(row, seen))


def _as_desired(row: ResourceRow, seen: ResourceRow) -> dict[str, Any]:
    """The world is as that revision says, whoever made it so."""
    columns: dict[str, Any] = {}
    if seen.revision > row.applied_revision:
        columns |= {"applied_revision": seen.revision, "applied": seen.desired}
    failed = None if row.last_failed is None else json.loads(row.last_failed)
    if failed is not None and failed["applies"] and failed["revision"] <= seen.revision:
        columns["last_failed"] = None
    return columns


def held(tx: Tx, ctx: Context | AsyncContext) -> TaskRow:
    """The task of a step that writes by itself: until the transaction ends nobody takes it over. Locked before the
    resources, as where it ends.

    Raises: LeaseLost: somebody has, since the step began; or the task has ended.
    """
    at = task_rows.lock(tx, by_uuid(tx, ctx.task_id).id)
    if at.token is None or task_rows.epoch_of(at.token) > ctx.fence:
        raise LeaseLost(task=at.id)
    return at


def by_uuid(tx: Tx, uuid: str) -> TaskRow:
    """Raises: TaskNotFound."""
    known = tx.execute(_BY_UUID, {"_uuid": uuid}).first()
    if known is None:
        raise TaskNotFound(task=uuid)
    return TaskRow._make(known)


def verify_step(kind: Kind, world: World) -> FunctionStep[Any, Any]:
    """Look at a resource that nobody knows the state of, until an answer counts or a task has settled it."""

    def verify(ctx: Context, resource_id: str) -> Any:
        hold = world.hold
        look = hold.store.read(lambda tx: before(tx, kind.name, resource_id))
        if look is None:
            return {"verdict": "gone"}
        if look.row is None:
            return Again(AGAIN_S)
        if look.row.doubt != state.IN_DOUBT:
            return {"verdict": look.row.sync_status}
        seen = ask(kind, look, hold.sealer)
        now = hold.clock.time()
        after = hold.store.write(lambda tx: found(tx, kind, look, seen, held(tx, ctx), now))
        if after is None:
            return Again(AGAIN_S)
        if not seen.reached:
            raise TimeoutError(f"{look.row.key} did not answer")
        return {"verdict": after.sync_status}

    return step(verify, provides=frozenset(("verdict",)), timeout_s=kind.probe_timeout_s, retry=RETRY)
