"""The steps that the house puts into operations: read what is desired, look at the world.

Theory: an operation works with the revision that was the newest when it was asked for, so that revisions are applied
in their order, and never with an older one than is applied by now (a task that starts late). The lifecycle is checked
again here because only now is it sure what the tasks before have left. The first look may find that nothing may be
done: then nothing has been.

The flow around them: registry.py. What a probe's answer does: probing.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import bindparam, select

from holdfast.errors import LifecycleChanged, NoTask
from holdfast.flow.arguments import signature
from holdfast.flow.step import FunctionStep, Step, step
from holdfast.resources import sealing, state
from holdfast.resources.kind import Kind, Operation
from holdfast.store.schema import operations, tasks

if TYPE_CHECKING:
    from holdfast.resources.registry import World
    from holdfast.runtime.context import Context
    from holdfast.seal import Sealer
    from holdfast.store.base import Tx

READ: Final = "read_desired"
_MINE: Final = (
    select(operations)
    .join(tasks, tasks.c.id == operations.c.task)
    .where(tasks.c.uuid == bindparam("_uuid"))
)  # fmt: skip


class Turn(NamedTuple):
    """What a task finds when its turn has come. Secrets of the documents are Secrets."""

    desired: dict[str, Any]
    revision: int
    applied: dict[str, Any] | None
    before: str


def turn(tx: Tx, task: str, sealer: Sealer) -> Turn:
    """What the operation of the task with that uuid is to work with.

    Raises: LifecycleChanged: nothing may be done. NoTask: it is no operation's task.
    """
    mine = tx.execute(_MINE, {"_uuid": task}).first()
    if mine is None:
        raise NoTask(f"task {task} is none of an operation: hold.operate(…) makes such")
    row = state.read(tx, mine.kind, mine.id, deleted=True)
    starts = json.loads(mine.rules)["starts"]
    if row.lifecycle not in starts:
        raise LifecycleChanged(
            f"cannot {mine.name} {row.key}: it is {row.lifecycle} now, and that starts from {' or '.join(starts)}",
            lifecycle=row.lifecycle,
        )
    number = max(mine.revision, row.applied_revision)
    text = row.desired if number == row.revision else state.revision(tx, row.kind, row.id, number)
    if text is None:
        text, number = row.desired, row.revision
    applied = None if row.applied is None else sealing.read(sealer, row.applied)
    return Turn(sealing.read(sealer, text), number, applied, row.lifecycle)


def read_step(kind: Kind, operation: Operation, world: World) -> FunctionStep[Any, Any]:
    """The step before all others: it provides what they ask for by name."""
    fields = () if operation.params is None else tuple(operation.params.__struct_fields__)

    def read_desired(ctx: Context, resource_id: str, params: dict[str, Any]) -> dict[str, Any]:
        hold = world.hold
        found = hold.store.read(lambda tx: turn(tx, ctx.task_id, hold.sealer))
        return {**_given(operation, params), **found._asdict()}

    return step(read_desired, name=READ, provides=frozenset((*Turn._fields, *fields)), weight=0)


def action_step(kind: Kind, operation: Operation, function: Any, world: World) -> FunctionStep[Any, Any]:
    """A blocking function as the one step of its task."""
    wants = {name for name, _required in signature(function, f"action {kind.name}.{operation.name}").wants}

    def act(ctx: Context, resource_id: str, params: dict[str, Any]) -> dict[str, Any]:
        hold = world.hold
        found = hold.store.read(lambda tx: turn(tx, ctx.task_id, hold.sealer))
        there = {**_given(operation, params), **found._asdict(), "resource_id": resource_id, "params": params}
        there |= {"ctx": ctx, "driver": kind.driver}
        answer = function(**{name: value for name, value in there.items() if name in wants})
        return {"answer": answer, "revision": found.revision}

    return step(act, name=operation.name, provides=frozenset(("answer", "revision")))


def _given(operation: Operation, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters as steps get them: plain data, with the defaults of those that were left out."""
    if operation.params is None:
        return {}
    return {name: params.get(name) for name in operation.params.__struct_fields__}


def verify_step(kind: Kind, world: World) -> Step:
    from holdfast.resources import probing

    return probing.verify_step(kind, world)


def sync_step(kind: Kind, world: World) -> Step:
    from holdfast.resources import sync

    return sync.sync_step(kind, world)
