"""Claims: who may use a resource, and who waits for it in which order.

Theory: a ticket is a task's place in the queue of one resource. The tickets of all resources of a task are drawn in
one transaction, resources in one order, each under the lock of the resource's row; so who is admitted first is before
the other in every queue that both are in. A task is granted all its tickets at once or none: when nothing before any
of them conflicts, and nothing granted does. So who holds waits for nothing, who waits holds nothing, and no circle of
waits can exist. A suspended task that holds nothing is passed over and keeps its numbers. Yielding tickets
(background work) stand behind all others.

`tasks.ready` says that a worker may take the task: it has all its tickets, or is on its way to where none is needed.
Every function here is part of the caller's transaction. When tickets are drawn: tasks/submit.py. When they are given
up: tasks/finish.py, tasks/control.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    bindparam,
    delete,
    false,
    func,
    literal,
    or_,
    select,
    true,
    union_all,
    update,
)
from sqlalchemy.sql import Select

from holdfast.core import compact
from holdfast.core.states import FINAL, SUSPENDED_PENDING, api_state
from holdfast.errors import UsageError
from holdfast.store.base import Into, Tx
from holdfast.store.schema import operations, queues, resources, tasks, tickets

EXCLUSIVE: Final = "exclusive"
SHARED: Final = "shared"
YIELDING: Final = "yielding"
SUSPENDED: Final = api_state(SUSPENDED_PENDING)
RESOURCE_CHARS_MAX: Final = 255
CLAIMS_MAX: Final = 256
_text: Final = compact.writer()


class Claim(NamedTuple):
    """The right to a resource (`server/<id>`, `network/public`): alone, or beside others that share it."""

    resource: str
    mode: str = EXCLUSIVE

    def covers(self, other: Claim) -> bool:
        """Whether who has this claim needs no other."""
        return self.resource == other.resource and self.mode in (EXCLUSIVE, other.mode)


class Place(NamedTuple):
    """A number that was drawn in the queue of a resource. `task` 0: for a task that is still to be made."""

    resource: str
    ticket: int
    mode: str
    yielding: bool
    task: int = 0


def claims_of(given: Iterable[str | tuple[str, str]]) -> tuple[Claim, ...]:
    """The claims as given, one a resource, in the one order. `"network/public"` claims it for the task alone,
    `("network/public", "shared")` beside others.

    Raises: UsageError: not a claim.
    """
    found: dict[str, str] = {}
    for each in given:
        resource, mode = (each, EXCLUSIVE) if isinstance(each, str) else each
        if mode not in (EXCLUSIVE, SHARED):
            raise UsageError(f"a claim is exclusive or shared, not {mode!r}")
        if not resource or len(resource) > RESOURCE_CHARS_MAX or not resource.isprintable() or " " in resource:
            raise UsageError(
                f"a claim names a resource in 1 to {RESOURCE_CHARS_MAX} visible characters, as network/public:"
                f" {resource[:40]!r} doesn't"
            )
        if found.get(resource) != EXCLUSIVE:
            found[resource] = mode
    if len(found) > CLAIMS_MAX:
        raise UsageError(f"a task claims at most {CLAIMS_MAX} resources, not {len(found)}")
    return tuple(Claim(resource, found[resource]) for resource in sorted(found, key=str.encode))


def to_text(claims: Sequence[Claim], *, yielding: bool = False) -> str:
    """The claims as the database keeps them."""
    if not claims:
        return "[]"
    return _text([[*claim, YIELDING] if yielding else list(claim) for claim in claims])


def from_text(text: str) -> tuple[Claim, ...]:
    """What `to_text` wrote."""
    return tuple(Claim(item[0], item[1]) for item in json.loads(text)) if text != "[]" else ()


def is_yielding(text: str) -> bool:
    """Whether the claims that `to_text` wrote are those of background work."""
    return any(YIELDING in item[2:] for item in json.loads(text))


# --- statements --------------------------------------------------------------------------------------------------

_t = tickets.c
_LOCK: Final = select(queues.c.next_ticket).where(queues.c.resource == bindparam("_r")).with_for_update()
_AWAITED: Final = (_t.task.in_(bindparam("_tasks", expanding=True)), _t.granted == false())
_LOCK_AWAITED: Final = (
    select(queues.c.resource)
    .where(queues.c.resource.in_(select(_t.resource).where(*_AWAITED)))
    .order_by(queues.c.resource)
    .with_for_update()
)
_LOCK_OPERATED: Final = (
    select(resources.c.id)
    .where(operations.c.task.in_(select(_t.task).where(*_AWAITED)))
    .where(resources.c.kind == operations.c.kind, resources.c.id == operations.c.id)
    .order_by(resources.c.kind, resources.c.id)
    .with_for_update(of=resources)
)
_INTO: Final = Into(tickets, "resource", "ticket", "task", "mode", "granted", "yielding")
_QUEUES_INTO: Final = Into(queues, "resource", "next_ticket")
_OF_TASK: Final = select(tickets).where(_t.task == bindparam("_task")).order_by(_t.resource)
_GRANT: Final = update(tickets).where(_t.task == bindparam("_task")).values(granted=true())
_UNGRANT: Final = update(tickets).where(_t.task == bindparam("_task")).values(granted=false())
_DROP: Final = delete(tickets).where(_t.task.in_(bindparam("_tasks", expanding=True))).returning(_t.resource)
_CANDIDATE: Final = select(tasks.c.state, tasks.c.ready).where(tasks.c.id == bindparam("_task")).with_for_update()
_READY: Final = (
    update(tasks)
    .where(tasks.c.id == bindparam("_task"))
    .values(ready=true(), due_at=func.coalesce(tasks.c.due_at, bindparam("_now")), updated_at=bindparam("_now"))
)

_granted = (_t.resource == bindparam("_r")) & (_t.granted == true())
_mode = _t.mode == bindparam("_mode")
# Nothing moves a suspended task, so it stands in nobody's way unless it holds.
_waits = (_t.resource == bindparam("_r")) & (_t.granted == false()) & (tasks.c.state != literal(SUSPENDED))
_line = tickets.join(tasks, tasks.c.id == _t.task)
# One condition for each case, because an OR would keep the database from seeking.
_before = (_t.yielding == false()) & (_t.ticket < bindparam("_n"))
_before_yielding = (_t.yielding == false()) | (_t.ticket < bindparam("_n"))
_MODES: Final = {EXCLUSIVE: (EXCLUSIVE, SHARED), SHARED: (EXCLUSIVE,)}  # what a ticket conflicts with


def _before_it(mode: str, yielding: bool) -> CompoundSelect[Any]:
    """Who holds what a ticket of that mode waits for, and the first who wait before it: one part for each mode, because
    only with a mode the database finds the first by a seek."""
    named = (_t.task, tasks.c.uuid, tasks.c.project_id)
    ahead, order = (_before_yielding, (_t.yielding, _t.ticket)) if yielding else (_before, (_t.ticket,))
    parts = []
    for other in _MODES[mode]:
        is_other = _t.mode == literal(other)
        held = select(*named).select_from(_line).where(_granted, is_other, _t.task != bindparam("_task"))
        waits = select(*named).select_from(_line).where(_waits, is_other, ahead)
        parts += [held, waits.order_by(*order)]
    return union_all(*(select(part.limit(bindparam("_limit")).subquery()) for part in parts))


def _place(yielding: bool) -> Select[Any]:
    """How many hold what a ticket waits for, or wait before it."""
    ahead = _before_yielding if yielding else _before
    waits = [
        select(func.count()).select_from(_line).where(_waits, _t.mode == literal(mode), ahead).scalar_subquery()
        for mode in (EXCLUSIVE, SHARED)
    ]
    held = select(func.count()).where(_granted, _t.task != bindparam("_task")).scalar_subquery()
    return select(held + waits[0] + waits[1])


_BEFORE_IT: Final = {(mode, yields): _before_it(mode, yields) for mode in _MODES for yields in (False, True)}
_PLACE: Final = {yielding: _place(yielding) for yielding in (False, True)}


def _blocks(mode: str, ahead: Any) -> ColumnElement[bool]:
    """Whether a ticket of that mode is granted to another, or waits before."""
    held = _t.mode == literal(mode)
    return or_(
        select(_t.task).where(_granted, held, _t.task != bindparam("_task")).exists(),
        select(_t.task).select_from(_line).where(_waits, held, ahead).exists(),
    )


def _blocked(modes: Sequence[str], ahead: Any) -> Select[Any]:
    return select(or_(*(_blocks(mode, ahead) for mode in modes)))


#: By what a ticket conflicts with, which is a sequence of modes, and whether it yields.
_BLOCKED: Final[dict[tuple[tuple[str, ...], bool], Select[Any]]] = {
    (modes, yielding): _blocked(modes, ahead)
    for modes in ((EXCLUSIVE, SHARED), (EXCLUSIVE,))
    for yielding, ahead in ((False, _before), (True, _before_yielding))
}
_ANY_HELD: Final = select(_t.task).where(_granted, _mode).limit(1)
_QUEUE: Final = select(_t.task, _t.yielding, _t.ticket).select_from(_line).where(_waits, _mode)
_FIRST_EXCLUSIVE: Final = _QUEUE.order_by(_t.yielding, _t.ticket).limit(1)
_ALL_SHARED: Final = _QUEUE.order_by(_t.yielding, _t.ticket)
_SHARED_BEFORE: Final = _QUEUE.where(_before).order_by(_t.ticket)
_SHARED_BEFORE_YIELDING: Final = _QUEUE.where(_before_yielding).order_by(_t.yielding, _t.ticket)
_WANTED: Final = (
    select(_t.resource)
    .where(_t.granted == false(), _t.resource > bindparam("_after"))
    .distinct()
    .order_by(_t.resource)
    .limit(bindparam("_limit"))
)


# --- drawing and granting ----------------------------------------------------------------------------------------


def reserve(tx: Tx, claims: Sequence[Claim], *, yielding: bool = False, unheard: str | None = None) -> list[Place]:
    """Places at the end of the queue of each resource, for a task that is made in this transaction. `claims` as
    `claims_of` gives them. `unheard`: a resource whose name nobody can have heard of before: its queue begins here."""
    places = []
    for resource, mode in claims:
        if resource == unheard:
            tx.add(_QUEUES_INTO, (resource, 2))
            number = 1
        else:
            number = take_number(tx, resource)
        places.append(Place(resource, number, mode, yielding))
    return places


def are_free(tx: Tx, places: Sequence[Place]) -> bool:
    """Whether nothing stands before any of the places: then they may be taken as granted. The resources' rows are
    locked, so whoever frees one of them meanwhile looks at its queue after this transaction."""
    return not any(place.ticket > 1 and _is_blocked(tx, place) for place in places)


def occupy(tx: Tx, task: int, places: Sequence[Place], *, granted: bool = False) -> None:
    """Let the task stand there."""
    for place in places:
        tx.add(_INTO, (place.resource, place.ticket, task, place.mode, granted, place.yielding))


def draw(tx: Tx, task: int, claims: Sequence[Claim], *, yielding: bool = False) -> None:
    """Put the task at the end of the queue of each resource. `claims` as `claims_of` gives them."""
    occupy(tx, task, reserve(tx, claims, yielding=yielding))


def take_number(tx: Tx, resource: str) -> int:
    """The next ticket number of the resource, whose row is then locked."""
    return tx.draw(queues, {"resource": resource, "next_ticket": 2}, "next_ticket") - 1


def lock_queue(tx: Tx, resource: str) -> None:
    """Have whoever locks the same queue, or draws a number in it, wait for the end of this transaction; even where
    nobody has ever queued."""
    if not tx.insert_new(queues, {"resource": resource, "next_ticket": 1}):
        tx.execute(_LOCK, {"_r": resource})


def lock_awaited(tx: Tx, them: Sequence[int]) -> None:
    """Lock the queues in which these tasks wait, before their own rows: who frees a resource has its queue when he asks
    for the row of the next in it. The resources that they are to change come before the queues, as they do at an end.
    Who has been granted all is asked for by nobody, and his queues come after his row, as at his end."""
    tx.execute(_LOCK_OPERATED, {"_tasks": them}).all()
    tx.execute(_LOCK_AWAITED, {"_tasks": them}).all()


def grant(tx: Tx, task: int, now: float) -> bool:
    """Grant the task its tickets if nothing stands before any of them; whether it has them all now.

    The task's row is locked before its tickets are looked at: of two that free what it waits for, the second sees
    what the first did.
    """
    candidate = tx.execute(_CANDIDATE, {"_task": task}).first()
    if candidate is None or candidate.state in FINAL:  # it ends in this transaction: its tickets go with the others
        return False
    mine = tx.execute(_OF_TASK, {"_task": task}).all()
    if not all(ticket.granted for ticket in mine):
        if candidate.state == SUSPENDED or any(_is_blocked(tx, ticket) for ticket in mine):
            return False
        tx.execute(_GRANT, {"_task": task})
    if not candidate.ready and candidate.state != SUSPENDED:
        tx.execute(_READY, {"_task": task, "_now": now})
        tx.touched(task)
    return True


def _is_blocked(tx: Tx, ticket: Any) -> bool:
    where = {"_r": ticket.resource, "_task": ticket.task, "_n": ticket.ticket}
    return bool(tx.execute(_BLOCKED[_conflicting(ticket.mode), bool(ticket.yielding)], where).scalar())


def _conflicting(mode: str) -> tuple[str, ...]:
    return (EXCLUSIVE, SHARED) if mode == EXCLUSIVE else (EXCLUSIVE,)


def wake(tx: Tx, names: Iterable[str], now: float) -> int:
    """Grant whoever is next in the queues of these resources; how many were granted."""
    heads: set[int] = set()
    for resource in sorted(set(names), key=str.encode):
        tx.execute(_LOCK, {"_r": resource})
        heads.update(_head(tx, resource))
    return sum(grant(tx, task, now) for task in sorted(heads))


def _head(tx: Tx, resource: str) -> list[int]:
    """The tasks that nothing on this resource holds up: one that wants it alone, or all the first that share it."""
    if tx.execute(_ANY_HELD, {"_r": resource, "_mode": EXCLUSIVE}).first() is not None:
        return []
    alone = tx.execute(_FIRST_EXCLUSIVE, {"_r": resource, "_mode": EXCLUSIVE}).first()
    where = {"_r": resource, "_mode": SHARED}
    if alone is None:
        return tx.execute(_ALL_SHARED, where).scalars()
    statement = _SHARED_BEFORE_YIELDING if alone.yielding else _SHARED_BEFORE
    shared = tx.execute(statement, {**where, "_n": alone.ticket}).scalars()
    if shared or tx.execute(_ANY_HELD, where).first() is not None:
        return shared
    return [alone.task]


def sweep(tx: Tx, now: float, *, after: str = "", limit: int = 100) -> tuple[int, str | None]:
    """Evaluate queues again, as a net below `wake`: how many tasks were granted, and after which resource to go on
    (None: that was the last)."""
    names = tx.execute(_WANTED, {"_after": after, "_limit": limit}).scalars()
    granted = wake(tx, names, now)
    return granted, names[-1] if len(names) == limit else None


# --- giving up ---------------------------------------------------------------------------------------------------


def free(tx: Tx, ended: Sequence[int], now: float) -> None:
    """Give up the tasks' tickets, and grant whoever is next."""
    names = tx.execute(_DROP, {"_tasks": ended}).scalars()
    if names:
        wake(tx, names, now)


def step_back(tx: Tx, task: int, now: float) -> None:
    """Let the task be passed over while it is suspended (its row says so by now). It keeps its numbers."""
    mine = tx.execute(_OF_TASK, {"_task": task}).all()
    if mine:
        if any(ticket.granted for ticket in mine):
            tx.execute(_UNGRANT, {"_task": task})
        wake(tx, [ticket.resource for ticket in mine], now)


def tickets_of(tx: Tx, task: int) -> list[Any]:
    """The task's rows of `tickets`, by resource."""
    return tx.execute(_OF_TASK, {"_task": task}).all()


# --- who waits for whom ------------------------------------------------------------------------------------------


class Blocker(NamedTuple):
    """Who is before a task."""

    task: int
    uuid: str
    project_id: str


def waiting(tx: Tx, task: int) -> list[Any]:
    """The tickets that the task is not granted yet."""
    return [ticket for ticket in tickets_of(tx, task) if not ticket.granted]


def blocked_by(tx: Tx, waiting: Sequence[Any], *, limit: int = 20) -> list[Blocker]:
    """The tasks that must end, or give up a claim, before the one of these tickets can go on; at most `limit`."""
    found: set[Blocker] = set()
    for ticket in waiting:
        where = {"_r": ticket.resource, "_task": ticket.task, "_n": ticket.ticket, "_limit": limit}
        found.update(map(Blocker._make, tx.execute(_BEFORE_IT[ticket.mode, ticket.yielding], where).all()))
    return sorted(found)[:limit]


def queue_position(tx: Tx, waiting: Sequence[Any]) -> int | None:
    """How many tasks have or will have a resource before the one of these tickets, where most have; None: there are no
    such tickets."""
    places = (
        tx.execute(_PLACE[each.yielding], {"_r": each.resource, "_task": each.task, "_n": each.ticket}).scalar()
        for each in waiting
    )
    return max(map(int, places), default=None)
