"""Leases whose agents were not heard of in time.

Theory: what such an agent has begun is ended as its death, and what it still does is late: the fencing number of the
task grows. What it never said a word of, and had promised not to begin before, is offered anew: a request for work
that waits at the service is answered although its agent is frozen or cut off. No step is in doubt for that, and none
has died.
"""

from __future__ import annotations

import json
from typing import Final

from sqlalchemy import bindparam, func, null, select, update

from holdfast.store.base import Tx
from holdfast.store.schema import leases, tasks
from holdfast.tasks.agents import Lease, outcome_text

#: When there will be one, if nothing more is heard; null: there is none.
FIRST: Final = select(func.min(leases.c.expires_at)).where(leases.c.expires_at.is_not(null()))
_over = (leases.c.expires_at <= bindparam("_now")) & leases.c.expires_at.is_not(null())
_TASKS: Final = select(leases.c.task).where(_over).distinct().order_by(leases.c.task)
_OF_TASK: Final = select(leases).where(_over, leases.c.task == bindparam("_task")).order_by(leases.c.id)
_one = update(leases).where(leases.c.id == bindparam("_id"), leases.c.expires_at <= bindparam("_now"))
_END: Final = _one.values(
    outcome=bindparam("_outcome"), ended_at=bindparam("_now"), expires_at=null(), revision=leases.c.revision + 1
)
_OFFER_ANEW: Final = _one.where(leases.c.told_at.is_(null())).values(
    token=null(), holder=null(), agent=null(), leased_at=null(), expires_at=null(), revision=leases.c.revision + 1
)
_LOCK: Final = select(tasks.c.id).where(tasks.c.id == bindparam("_task")).with_for_update()
_FENCE: Final = (
    update(tasks).where(tasks.c.id == bindparam("_task"), tasks.c.finished_at.is_(null()))
    .values(due_at=bindparam("_now"), epoch=tasks.c.epoch + 1)
)  # fmt: skip


def tasks_with(tx: Tx, now: float) -> list[int]:
    """The tasks that have such leases."""
    return list(tx.execute(_TASKS, {"_now": now}).scalars())


def end(tx: Tx, task: int, now: float) -> bool:
    """End those of the task, or offer them anew; whether any was ended."""
    tx.execute(_LOCK, {"_task": task})  # row.lock would refuse a lease of no task, and so all that run out with it
    is_any = False
    for found in tx.execute(_OF_TASK, {"_task": task, "_now": now}).all():
        lease = Lease._make(found)
        at = {"_id": lease.id, "_now": now}
        if not lease.is_begun and lease.stop is None:
            if tx.execute(_OFFER_ANEW, at).rowcount == 1:
                tx.touched(task)
            continue
        died = outcome_text("died", json.dumps(f"nothing was heard of the agent {lease.agent} any more"))
        outcome = died if lease.is_begun else outcome_text("stopped", json.dumps(lease.stop))
        if tx.execute(_END, at | {"_outcome": outcome}).rowcount == 1:
            tx.execute(_FENCE, {"_task": task, "_now": now})
            tx.touched(task)
            is_any = True
    return is_any
