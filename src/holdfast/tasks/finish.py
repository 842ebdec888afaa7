"""The end of a task: what it left behind, how long it is kept, and who may go on.

Everything here is part of the transaction that ends the task: the end, the freed claims and the next grants are one.
Who asks for it: the worker's last append (`Append.then`), and verbs that end a task at once (tasks/control.py).
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import bindparam, false, func, null, select, update

from holdfast.store.base import Tx
from holdfast.store.schema import steps, tasks
from holdfast.tasks import claims

_COUNT: Final = (
    select(steps.c.state, func.count().label("number"))
    .where(steps.c.task == bindparam("_task"))
    .group_by(steps.c.state)
)
_END: Final = (
    update(tasks)
    .where(tasks.c.id == bindparam("_task"))
    .values(
        state=bindparam("_state"),
        effect=bindparam("_effect"),
        revert=bindparam("_revert"),
        finished_at=bindparam("_now"),
        updated_at=bindparam("_now"),
        expires_at=bindparam("_expires"),
        hold=null(),
        resting=null(),
        due_at=null(),
        ready=false(),
        worker_id=null(),
        token=null(),
    )
)
#: Steps in these states have left nothing behind.
_HARMLESS: Final = frozenset(("REVERTED", "SKIPPED"))


def ended(tx: Tx, task: int, state: str, now: float, *, retention_s: float, **columns: Any) -> None:
    """End the task: set what an end sets, free its claims and grant the next. `columns` are further ones to set
    (`result`, `error` …). Nobody can write to it afterwards: its token is gone.

    The row's state must still be the one before: an append that ends a task leaves `state` out of its projection,
    because a final state and `finished_at` come together.
    """
    effect, revert = left_behind(tx, task, state)
    values = {"_task": task, "_state": state, "_effect": effect, "_revert": revert, "_now": now}
    tx.execute(_END, {**values, "_expires": now + retention_s, **columns})
    claims.free(tx, task, now)
    tx.touched(task)


def left_behind(tx: Tx, task: int, state: str) -> tuple[str, str]:
    """The effect (none, partial, applied, unknown) and the revert (none, partial, done, failed) of a task that ends
    in `state`, by what its steps came to."""
    counts: dict[str, int] = {found.state: found.number for found in tx.execute(_COUNT, {"_task": task}).all()}
    undone = counts.get("REVERTED", 0)
    left = sum(number for word, number in counts.items() if word not in _HARMLESS)
    if undone:
        revert = "partial" if left else "done"
    else:
        revert = "failed" if counts.get("REVERT_FAILED") else "none"
    if not left:
        effect = "none"
    elif state == "SUCCEEDED":
        effect = "applied"
    elif state == "ABORTED" or not counts.keys().isdisjoint(_IN_FLIGHT):
        effect = "unknown"
    else:
        effect = "partial"
    return effect, revert


#: What a step was doing when the task was ended over its head, or never told.
_IN_FLIGHT: Final = frozenset(("RUNNING", "REVERTING", "INTERRUPTED", "ABANDONED", "ABORTED"))
