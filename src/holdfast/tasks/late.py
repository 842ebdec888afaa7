"""Late claims: what a running task, or a child, finds out it needs.

Theory: who holds must not wait, or two could wait for each other. So a late claim is granted at once or refused: it
is granted where nothing that conflicts holds the resource and nobody queues for it. A child uses what its root holds
and has tickets only for the rest; the root declares the union of what its children need.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import bindparam, false, func, insert, literal, select, true, update

from holdfast.errors import ClaimRefused, LeaseLost
from holdfast.store.base import Tx
from holdfast.store.schema import inputs, tasks, tickets
from holdfast.tasks import row
from holdfast.tasks.claims import EXCLUSIVE, SUSPENDED, Claim, from_text, take_number, tickets_of, to_text

_t = tickets.c
_HOLDERS: Final = select(_t.task, _t.mode).where(
    _t.resource == bindparam("_r"), _t.granted == true(), _t.task != bindparam("_task")
)
_QUEUED: Final = (
    select(func.count())
    .select_from(tickets.join(tasks, tasks.c.id == _t.task))
    .where(_t.resource == bindparam("_r"), _t.granted == false(), tasks.c.state != literal(SUSPENDED))
)
_ADD: Final = insert(tickets)
_RAISE: Final = (
    update(tickets).where(_t.resource == bindparam("_r"), _t.task == bindparam("_task")).values(mode=literal(EXCLUSIVE))
)
_KEEP: Final = update(inputs).where(inputs.c.task == bindparam("_task")).values(claims=bindparam("_claims"))


def held(tx: Tx, task: int) -> list[Claim]:
    """What the task has been granted."""
    return [Claim(ticket.resource, ticket.mode) for ticket in tickets_of(tx, task) if ticket.granted]


def claim_now(tx: Tx, task: int, token: str, wanted: Sequence[Claim]) -> None:
    """Grant a running task what it claims late: all of it, or none.

    Raises: ClaimRefused: it is not free, or somebody queues for it. LeaseLost: the token is stale.
    """
    held_by = row.lock(tx, task)
    if held_by.token != token:
        raise LeaseLost
    added = add(tx, task, held_by.root, wanted)
    if added:
        _, text = row.asked_for(tx, task)
        known = {claim.resource: claim for claim in from_text(text)} | {claim.resource: claim for claim in added}
        claims = [known[resource] for resource in sorted(known, key=str.encode)]
        tx.execute(_KEEP, {"_task": task, "_claims": to_text(claims)})


def add(tx: Tx, task: int, root: int, wanted: Sequence[Claim]) -> list[Claim]:
    """Tickets, granted, for what neither the task nor its root holds; which that was. Raises: ClaimRefused."""
    mine = held(tx, task)
    usable = mine if root == task else [*mine, *held(tx, root)]
    added = []
    for claim in wanted:
        if any(has.covers(claim) for has in usable):
            continue
        number = take_number(tx, claim.resource)
        others = tx.execute(_HOLDERS, {"_r": claim.resource, "_task": task}).all()
        in_the_way = [other.task for other in others if EXCLUSIVE in (other.mode, claim.mode)]
        if in_the_way or tx.execute(_QUEUED, {"_r": claim.resource}).scalar():
            raise ClaimRefused(
                f"{claim.resource} is claimed or queued for, and a late claim is never waited for: claim it when the"
                " task is submitted",
                resource=claim.resource,
            )
        if any(has.resource == claim.resource for has in mine):
            tx.execute(_RAISE, {"_r": claim.resource, "_task": task})
        else:
            ticket = {"resource": claim.resource, "ticket": number, "task": task, "mode": claim.mode}
            tx.execute(_ADD, {**ticket, "granted": True, "yielding": False})
        added.append(claim)
    return added
