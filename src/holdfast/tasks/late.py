"""Late claims: what a child needs beside what its root holds.

Theory: who holds must not wait, or two could wait for each other. So a late claim is granted at once or refused: it
is granted where nothing that conflicts holds the resource and nobody queues for it. A child uses what its root holds
and has tickets only for the rest; the root declares the union of what its children need.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import bindparam, false, func, insert, literal, select, true

from holdfast.errors import ClaimRefused
from holdfast.store.base import Tx
from holdfast.store.schema import tasks, tickets
from holdfast.tasks.claims import EXCLUSIVE, SUSPENDED, Claim, take_number, tickets_of

_t = tickets.c
_HELD: Final = select(_t.mode).where(_t.resource == bindparam("_r"), _t.granted == true())
_QUEUED: Final = (
    select(func.count())
    .select_from(tickets.join(tasks, tasks.c.id == _t.task))
    .where(_t.resource == bindparam("_r"), _t.granted == false(), tasks.c.state != literal(SUSPENDED))
)
_ADD: Final = insert(tickets)


def add(tx: Tx, child: int, root: int, wanted: Sequence[Claim]) -> None:
    """Tickets, granted, for a new child, for what its root does not hold. Raises: ClaimRefused: one of them is not
    free, or somebody queues for it."""
    usable = [Claim(ticket.resource, ticket.mode) for ticket in tickets_of(tx, root) if ticket.granted]
    for claim in wanted:
        if any(has.covers(claim) for has in usable):
            continue
        number = take_number(tx, claim.resource)
        held = tx.execute(_HELD, {"_r": claim.resource}).scalars()
        if (
            any(EXCLUSIVE in (mode, claim.mode) for mode in held)
            or tx.execute(_QUEUED, {"_r": claim.resource}).scalar()
        ):
            raise ClaimRefused(
                f"{claim.resource} is claimed or queued for, and a late claim is never waited for: claim it when the"
                " task is submitted",
                resource=claim.resource,
            )
        ticket = {"resource": claim.resource, "ticket": number, "task": child, "mode": claim.mode}
        tx.execute(_ADD, {**ticket, "granted": True, "yielding": False})
