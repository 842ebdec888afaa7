"""How a task joins the queue of a resource, with what is desired from then on.

Who asks for it: operate.py (a new request), again.py (a retry, a rollback). How it leaves: project.py.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from holdfast.resources import state
from holdfast.resources.state import ResourceRow
from holdfast.store.base import Into, Tx
from holdfast.store.schema import operations
from holdfast.tasks.row import TaskRow

_OPERATION: Final = Into(operations, "task", "kind", "id", "name", "revision", "applies", "ends", "rules", "live")


class Entering(NamedTuple):
    """An operation that joins the queue of a resource."""

    name: str
    ends: str | None
    applies: bool
    rules: str  # Rules.text


def enter(
    tx: Tx,
    task: TaskRow,
    current: ResourceRow,
    entering: Entering,
    now: float,
    *,
    desired: str | None = None,
    name: str | None = None,
    is_new: bool = False,
) -> ResourceRow:
    """Put a task that exists into the resource's queue; with it comes what is desired from now on, as its text,
    and with that the `name` in it, where it is at hand. `is_new`: the resource is not written yet."""
    columns: dict[str, Any] = {"waiting": current.waiting + 1, "last_task": task.uuid}
    if entering.applies:
        columns["applying"] = current.applying + 1
    if entering.ends is not None:
        columns["planned"] = entering.ends
    if desired is not None:
        columns["desired"] = desired
        if name is not None:
            columns["name"] = name
    after = state.change(tx, task, current, now, is_new=is_new, **columns)
    made = (task.id, current.kind, current.id, entering.name, after.revision, entering.applies, entering.ends)
    tx.add(_OPERATION, (*made, entering.rules, True))
    return after
