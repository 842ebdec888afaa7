"""What no resource may be, and how many there are of each: for `holdfast doctor` and for tests after any chaos."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sqlalchemy import case, func, select

from holdfast.resources import state
from holdfast.resources.state import ResourceRow
from holdfast.store.base import Tx
from holdfast.store.schema import is_live, operations, resources, tasks

_o = operations.c
_LIVE: Final = (
    select(_o.kind, _o.id, func.count().label("waiting"), func.sum(case((_o.applies, 1), else_=0)).label("applying"))
    .where(is_live)
    .group_by(_o.kind, _o.id)
)
_DANGLING: Final = (
    select(_o.kind, _o.id, _o.task)
    .select_from(operations.outerjoin(tasks, tasks.c.id == _o.task))
    .where(is_live, tasks.c.id.is_(None) | tasks.c.finished_at.is_not(None))
)
_ALL: Final = select(resources)
_COUNTS: Final = (
    select(resources.c.sync_status, func.count().label("number"))
    .where(resources.c.deleted_at.is_(None))
    .group_by(resources.c.sync_status)
)


def counts(tx: Tx) -> dict[str, int]:
    """How many resources there are of each sync status."""
    found = {row.sync_status: row.number for row in tx.execute(_COUNTS).all()}
    return {word: found[word] for word in state.SYNC_STATES if word in found}


def faults(tx: Tx) -> Iterator[str]:
    """A sentence for each thing that can't be. Nothing of this should ever be seen."""
    live = {(row.kind, row.id): (int(row.waiting), int(row.applying)) for row in tx.execute(_LIVE).all()}
    for row in tx.execute(_DANGLING).all():
        yield f"{row.kind}/{row.id} waits for a task that has ended"
    for found in tx.execute(_ALL).all():
        row = ResourceRow._make(found)
        waiting = live.get((row.kind, row.id), (0, 0))
        if (row.waiting, row.applying) != waiting:
            yield f"{row.key} counts {row.waiting} tasks ({row.applying} that apply it), but there are {waiting}"
        if row.sync_status != state.sync_of(row):
            yield f"{row.key} says {row.sync_status}, but is {state.sync_of(row)}"
        if not row.waiting and row.planned != row.lifecycle:
            yield f"{row.key} is {row.lifecycle} and nothing waits, but {row.planned} is planned"
        if row.applied_revision and row.applied is None:
            yield f"{row.key} does not know what is applied"
