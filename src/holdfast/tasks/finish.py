"""The end of a task: what it left behind, how long it is kept, and who may go on.

Everything here is part of the transaction that ends the task: the end, the freed claims and the next grants are one.
Who asks for it: the worker's last append (`Append.then`), and verbs that end a task at once (tasks/control.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from sqlalchemy import bindparam, false, func, null, select, update

from holdfast.core import progress, states
from holdfast.errors import TaskNotFound
from holdfast.store.base import APART, FeedRow, Tx
from holdfast.store.schema import steps, tasks
from holdfast.tasks import anew, children, claims, row, tell
from holdfast.tasks.row import TaskRow
from holdfast.tasks.steps import settle

#: What else an end means: (tx, the task's row as it was before, the state it ends in, (effect, revert), its result as
#: text or None, now). The row in the database is already that of the ended task, its claims are not free yet. It says
#: what the task's effect is, where it knows that better and has written it; None: it doesn't.
Projection: TypeAlias = Callable[[Tx, TaskRow, str, "tuple[str, str]", "str | None", float], "str | None"]

STEP_ABORTED: Final = states.STEP_STATES[states.S_ABORTED]
STEP_SUCCEEDED: Final = states.STEP_STATES[states.S_SUCCEEDED]
STEP_REVERT_FAILED: Final = states.STEP_STATES[states.S_REVERT_FAILED]

_COUNT: Final = (
    select(steps.c.state, func.count().label("number"))
    .where(steps.c.task == bindparam("_task"))
    .group_by(steps.c.state)
)
_SHOWN: Final = select(steps.c.node, steps.c.state).where(steps.c.task == bindparam("_task")).order_by(steps.c.ord)
#: What holds of no task that has ended.
_CLEARED: Final[dict[str, Any]] = {
    "hold": None, "reason": None, "resting": None, "due_at": None, "ready": False, "worker_id": None, "token": None,
}  # fmt: skip
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
        **{name: null() if value is None else false() for name, value in _CLEARED.items()},
    )
    .execution_options(**{APART: True})
)
_CUT_OFF: Final = (
    update(steps)
    .where(steps.c.task == bindparam("_task"), steps.c.state == bindparam("_before"))
    .values(state=STEP_ABORTED, ended_at=bindparam("_now"))
)

_projections: list[Projection] = []


def join(projection: Projection) -> None:
    """Have every end, in this process, of a task that is for a resource call `projection`, inside the transaction that
    ends it. What it raises undoes the end. Joined twice, it is called once."""
    if projection not in _projections:
        _projections.append(projection)


class End(NamedTuple):
    """One task's. `columns`: further ones to set (`result`, `error` …); `left` is what `left_behind` says, where the
    caller knows it better; `actor` who the event feed says it was. `before`: the task's row, where the append that ends
    it sets what `columns_of` says; nothing else of it may have changed that a projection reads."""

    task: int
    state: str
    now: float
    retention_s: float
    left: tuple[str, str] | None = None
    actor: str = tell.WORKER
    columns: Mapping[str, Any] = {}
    before: TaskRow | None = None


def columns_of(end: End) -> dict[str, Any]:
    """What the end sets in the task's row; `left` has to be known."""
    assert end.left is not None
    return {
        "state": end.state,
        "effect": end.left[0],
        "revert": end.left[1],
        "finished_at": end.now,
        "updated_at": end.now,
        "expires_at": end.now + end.retention_s,
        **_CLEARED,
        **end.columns,
    }


def news_of(end: End) -> FeedRow:
    """The last that is told of the task: who follows it stops listening here. `before` and `left` have to be known."""
    assert end.before is not None
    assert end.left is not None
    error = end.columns.get("error", end.before.error)
    return tell.end_news(end.before, end.state, end.now, actor=end.actor, left=end.left, error=error)


def is_alone(before: TaskRow, *, has_claims: bool) -> bool:
    """Whether the end of the task means nothing but that: `columns_of` and `news_of` are all of it."""
    return before.resource_type is None and before.parent_id is None and not has_claims


def ended(
    tx: Tx,
    task: int,
    state: str,
    now: float,
    *,
    retention_s: float,
    left: tuple[str, str] | None = None,
    actor: str = tell.WORKER,
    **columns: Any,
) -> None:
    """`ended_all` for one."""
    ended_all(tx, [End(task, state, now, retention_s, left, actor, columns)])


def ended_all(tx: Tx, ends: Sequence[End]) -> None:
    """End the tasks: set what an end sets, free their claims and grant the next. Nobody can write to them afterwards:
    their tokens are gone.

    A row's state must still be the one before, or all of the end be in it: a final state and `finished_at` come
    together.
    """
    found = row.read_all(tx, [end.task for end in ends if end.before is None])
    lefts: dict[int, tuple[str, str]] = {}
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for end in ends:
        if end.before is not None and end.left is not None:
            found[end.task], lefts[end.task] = end.before, end.left
            continue
        if end.task not in found:
            raise TaskNotFound(task=end.task)
        left = lefts[end.task] = end.left or left_behind(tx, found[end.task], end.state)
        values = {"_task": end.task, "_state": end.state, "_effect": left[0], "_revert": left[1], "_now": end.now}
        members = groups.setdefault(tuple(end.columns), [])
        members.append({**values, "_expires": end.now + end.retention_s, **end.columns})
    for members in groups.values():
        tx.executemany(_END, members)
    for end in ends:
        before, left = found[end.task], lefts[end.task]
        for projection in _projections if before.resource_type is not None else ():
            result = end.columns.get("result")
            left = (projection(tx, before, end.state, left, result, end.now) or left[0], left[1])
        tell.write(tx, [news_of(end._replace(before=before, left=left))])
    claims.free(tx, [end.task for end in ends], ends[0].now)
    for end in ends:
        children.tell_end(tx, found[end.task], end.state, end.now)
        tx.touched(end.task)


def cut_off(tx: Tx, task: int, now: float) -> None:
    """The steps of a task that is ended over their heads were aborted, as the table of steps says."""
    settle(tx, task)
    for before, moves in states.STEP.next.items():
        if moves.get("aborted") == STEP_ABORTED:
            tx.execute(_CUT_OFF, {"_task": task, "_before": before, "_now": now})


def left_behind(tx: Tx, at: TaskRow, state: str) -> tuple[str, str]:
    """The effect and the revert of a task that ends in `state` over its worker's head, by what its steps show. A worker
    knows the plan besides, so it may know better (core/progress.py)."""
    settle(tx, at.id)
    if at.rollback_of is not None and at.executed_at is not None:
        counts = _counts_of_rollback(tx, at)
    else:
        counts = {found.state: found.number for found in tx.execute(_COUNT, {"_task": at.id}).all()}
    left = progress.left_behind(state, counts)
    return left.effect, left.revert


def _counts_of_rollback(tx: Tx, at: TaskRow) -> dict[str, int]:
    """It shows those steps alone whose undo has begun: the others stand as what it undoes has left them, and what could
    not be undone then is to be undone now."""
    shown: dict[str, str] = {}
    for each in (at.rollback_of, *anew.rollbacks_before(tx, at), at.id):
        shown = {node: STEP_SUCCEEDED if word == STEP_REVERT_FAILED else word for node, word in shown.items()}
        shown.update({found.node: found.state for found in tx.execute(_SHOWN, {"_task": each}).all()})
    return Counter(shown.values())
