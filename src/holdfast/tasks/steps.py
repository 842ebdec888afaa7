"""The steps of a task as they are shown: the rows of `steps`, and what the journal says behind them.

Theory: nearly every append of a running task says that steps have succeeded and that others begin for the first time.
The journal has that, so the rows of `steps` are not written with each of these appends, but with every so many, and
with the first that says anything else (worker/showing.py). `tasks.steps_seq` is the last event that the rows tell.
Behind it lie first starts, successes, and what changes no step's row, so the rest is told without the plan.

Who reads the steps of a task: tasks/query.py.
"""

from __future__ import annotations

import json
from typing import Any, Final

from sqlalchemy import bindparam, func, select

from holdfast.core.progress import IN_FLIGHT
from holdfast.core.states import S_RUNNING, S_SUCCEEDED, STEP_STATES
from holdfast.store.base import StepRow, Tx
from holdfast.store.schema import journal, steps, tasks

STARTED: Final = "started"
SUCCEEDED: Final = "succeeded"
_RUNNING: Final = STEP_STATES[S_RUNNING]
_SUCCEEDED: Final = STEP_STATES[S_SUCCEEDED]

_ALL: Final = select(*steps.c[1:]).where(steps.c.task == bindparam("_task")).order_by(steps.c.ord)
_PAGE: Final = (
    select(*steps.c[1:])
    .where(steps.c.task == bindparam("_task"), steps.c.ord > bindparam("_behind"))
    .order_by(steps.c.ord)
    .limit(bindparam("_limit"))
)
_LATEST: Final = (
    select(*steps.c[1:])
    .where(steps.c.task == bindparam("_task"))
    .order_by(steps.c.ord.desc())
    .limit(bindparam("_limit"))
)
_LAST: Final = select(func.max(steps.c.ord)).where(steps.c.task == bindparam("_task"))
_NAMED: Final = select(*steps.c[1:]).where(
    steps.c.task == bindparam("_task"), steps.c.node.in_(bindparam("_nodes", expanding=True))
)
_IN_FLIGHT: Final = (
    select(steps.c.ord).where(steps.c.task == bindparam("_task"), steps.c.state.in_(sorted(IN_FLIGHT))).limit(1)
)
_TOLD: Final = select(tasks.c.steps_seq).where(tasks.c.id == bindparam("_task")).scalar_subquery()
_BEHIND: Final = (
    select(journal.c.kind, journal.c.node, journal.c.data, journal.c.at)
    .where(journal.c.task == bindparam("_task"), journal.c.seq > _TOLD, journal.c.kind.in_((STARTED, SUCCEEDED)))
    .order_by(journal.c.seq)
)


def of(tx: Tx, task: int) -> list[StepRow]:
    """The steps that ever began, in the order in which they first did."""
    found = [StepRow._make(each) for each in tx.execute(_ALL, {"_task": task}).all()]
    return _told(tx, task, found, found[-1].ord if found else -1)


def page(tx: Tx, task: int, behind: int, limit: int) -> list[StepRow]:
    """The first `limit` of the steps that ever began, behind the one of that `ord`."""
    found = [
        StepRow._make(each) for each in tx.execute(_PAGE, {"_task": task, "_behind": behind, "_limit": limit}).all()
    ]
    last = found[-1].ord if found else tx.execute(_LAST, {"_task": task}).scalar()
    told = _told(tx, task, found, -1 if last is None else last)
    return [row for row in told if row.ord > behind][:limit]


def latest(tx: Tx, task: int, limit: int) -> list[StepRow]:
    """The steps that began last, the latest first."""
    found = [StepRow._make(each) for each in tx.execute(_LATEST, {"_task": task, "_limit": limit}).all()]
    found.reverse()
    told = _told(tx, task, found, found[-1].ord if found else -1)
    return told[: -limit - 1 : -1]


def settle(tx: Tx, task: int) -> None:
    """Write the rows that are not written yet, for who is about to change or to count them."""
    behind = tx.execute(_BEHIND, {"_task": task}).all()
    if not behind:
        return
    nodes = sorted({each.node for each in behind})
    before = [StepRow._make(each) for each in tx.execute(_NAMED, {"_task": task, "_nodes": nodes}).all()]
    last = tx.execute(_LAST, {"_task": task}).scalar()
    tx.write_steps(task, _fold(behind, before, -1 if last is None else last))


def is_in_flight(tx: Tx, task: int) -> bool:
    """Whether a step was begun, or its undo, that nobody has heard the end of."""
    settle(tx, task)
    return tx.execute(_IN_FLIGHT, {"_task": task}).first() is not None


def _told(tx: Tx, task: int, rows: list[StepRow], last: int) -> list[StepRow]:
    """`rows`, and behind them what the journal alone tells. `last`: the highest `ord` of the task's rows."""
    behind = tx.execute(_BEHIND, {"_task": task}).all()
    return _fold(behind, rows, last) if behind else rows


def _fold(behind: list[Any], rows: list[StepRow], last: int) -> list[StepRow]:
    """The rows as these events make them. Successes of steps that are not among them are passed over."""
    found = {row.node: row for row in rows}
    for kind, node, data, at in behind:
        if kind == STARTED:
            last += 1
            attempt = 1 if data is None else json.loads(data)["attempt"]
            found[node] = StepRow(last, node, _RUNNING, attempt, at)
        elif node in found:
            found[node] = found[node]._replace(state=_SUCCEEDED, ended_at=at, progress=1.0, message=None, error=None)
    return list(found.values())
