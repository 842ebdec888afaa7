"""Claims at rest: what a suspended task gives up, and how it gets it again before anything moves.

Theory: a task that rests keeps its claims, unless it never began (then it is passed over and keeps its place in the
queues) or was told to release them (then it queues anew, at the end). What `ready` says about the rest of a task's
life is decided here and in `claims.grant`.

The queues: tasks/claims.py. The verbs: tasks/control.py.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import bindparam, false, null, select, update

from holdfast.core.events import SuspendAsked
from holdfast.core.states import SUSPENDED_PENDING, phase
from holdfast.store.base import Tx
from holdfast.store.journal import KINDS
from holdfast.store.schema import journal, tasks, tickets
from holdfast.tasks import children, claims, joined, row, take
from holdfast.tasks.row import TaskRow

_NOT_READY: Final = update(tasks).where(tasks.c.id == bindparam("_task")).values(ready=false())
_FENCE: Final = (
    update(tasks)
    .where(tasks.c.id == bindparam("_task"), tasks.c.worker_id.is_not(null()))
    .values(worker_id=null(), token=null(), epoch=tasks.c.epoch + 1)
)
_SUSPENDS: Final = (
    select(journal.c.data)
    .where(journal.c.task == bindparam("_task"), journal.c.kind == KINDS[SuspendAsked].word)
    .order_by(journal.c.seq.desc())
    .limit(1)
)
_FENCE_AT_REST: Final = _FENCE.values(due_at=null())
_ANY: Final = select(tickets.c.ticket).where(tickets.c.task == bindparam("_task")).limit(1)


def rested(tx: Tx, task: int, token: str, now: float) -> None:
    """A worker's task has come to rest, in its row too: give it back, and what it does not keep. For `Append.then`."""
    at = row.read(tx, task)
    never_began = phase(at.state, at.hold) == SUSPENDED_PENDING
    release_claims = at.reason == "asked" and _release_asked(tx, task)
    take.release(tx, task, token, due_at=None, now=now)
    joined.rested(tx, at, now)  # it may lock a resource, which comes before the queues
    at_rest(tx, at, now, never_began=never_began, release_claims=release_claims)
    children.tell_rest(tx, at, now)


def _release_asked(tx: Tx, task: int) -> bool:
    import json

    data = tx.execute(_SUSPENDS, {"_task": task}).scalar()
    return data is not None and bool(json.loads(data).get("release_claims"))


def at_rest(tx: Tx, task: TaskRow, now: float, *, never_began: bool, release_claims: bool) -> None:
    """The task is SUSPENDED, in its row too: give up what it does not keep."""
    if task.parent_id is not None:
        return  # it holds what its root holds
    held = claims.tickets_of(tx, task.id)
    if not held:
        return
    if release_claims:
        claims.free(tx, [task.id], now)
    elif never_began or not all(ticket.granted for ticket in held):
        claims.step_back(tx, task.id, now)
    else:
        return
    tx.execute(_NOT_READY, {"_task": task.id})
    # A worker that has it still has nothing running, and must not go on by itself when it is resumed.
    tx.execute(_FENCE_AT_REST, {"_task": task.id})


def has_released(tx: Tx, task: TaskRow) -> bool:
    """Whether a suspended task has nothing that others wait for."""
    return task.parent_id is not None or tx.execute(_ANY, {"_task": task.id}).first() is None


def go_on(tx: Tx, task: TaskRow, now: float) -> None:
    """The task moves again, in its row too: queue for the claims it lacks. No worker has it before it has them."""
    if task.parent_id is not None:
        return
    _, text = row.asked_for(tx, task.id)
    wanted = claims.from_text(text)
    if wanted and tx.execute(_ANY, {"_task": task.id}).first() is None:
        if task.start_after is not None and task.start_after > now:
            return  # submit.draw will
        claims.draw(tx, task.id, wanted, yielding=claims.is_yielding(text))
    if not claims.grant(tx, task.id, now):
        tx.execute(_NOT_READY, {"_task": task.id})
        tx.execute(_FENCE, {"_task": task.id})
