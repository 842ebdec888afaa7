"""Admission: a request becomes a task, once.

Theory: the tag, the row, its inputs and its tickets are one transaction, so a request is accepted as a whole or never
was. Its tickets are drawn when it becomes due: a task that starts later stands in no queue before. A child draws no
tickets: it uses what its root holds, and claims the rest late.

How tickets are granted: tasks/claims.py. What a tag is for: tasks/tags.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import bindparam, exists, false, func, insert, literal, null, select, update

from holdfast.core.states import PENDING
from holdfast.errors import StateError
from holdfast.store.base import Into, Tx
from holdfast.store.schema import inputs, plans, tasks, tickets
from holdfast.tasks import claims, late, pools, quota, row, tags, tell
from holdfast.tasks.claims import Claim, Place
from holdfast.tasks.quota import Limits
from holdfast.tasks.row import TaskRow


class Request(NamedTuple):
    """What somebody asks for. `inputs` is JSON text of the codec; `claims` as `claims_of` gives them.

    `operation` is what the task is called where that is not the flow's name; `resource_type` and `resource_id` are
    what it is for. `fingerprint` is the request as a text that is equal where the request is; where it is None, it is
    made of the flow, the inputs and the claims. `canonical` then stands for inputs that hold secrets, whose sealed text
    is new each time. `request` names the request to people, as `POST /v3/servers`. `outline` describes the plan of
    `digest`; `steps` and `weight` are its totals, for progress. `limits`: the quotas that hold; None: none. `unheard`:
    the claimed resource that the task makes, where its id was made for it."""

    flow: str
    reference: str
    inputs: str = "{}"
    version: str = "1"
    claims: tuple[Claim, ...] = ()
    yielding: bool = False
    operation: str = ""
    resource_type: str | None = None
    resource_id: str | None = None
    tag: str | None = None
    fingerprint: str | None = None
    request: str = ""
    canonical: str | None = None
    digest: str | None = None
    outline: str | None = None
    steps: int = 0
    weight: float = 0.0
    start_after: float | None = None
    deadline_s: float | None = None  # of the flow: how long after now it has to end
    priority: int = 0
    pool: str = "default"
    project_id: str = "default"
    user_id: str = ""
    request_id: str = ""
    global_request_id: str = ""
    origin: str = "library"
    parent: int | None = None
    child_key: str | None = None  # of a child: no other task may have it
    retry_of: int | None = None
    rollback_of: int | None = None
    limits: Limits | None = None
    actor: str = ""  # who the event feed says it was; '': the user, or else the origin
    unheard: str | None = None


class Submitted(NamedTuple):
    """`replayed`: the same request had made this task before. `request`: what made it now."""

    task: TaskRow
    replayed: bool
    request: Request | None = None


_INPUTS: Final = Into(inputs, "task", "inputs", "claims")
_PLAN_KNOWN: Final = select(plans.c.digest).where(plans.c.digest == bindparam("_digest"))
_PLAN: Final = insert(plans)
_unbegun = (
    tasks.c.start_after.is_not(null()) & tasks.c.executed_at.is_(null()) & tasks.c.finished_at.is_(null())
)  # the index's own words
DRAWN_MAX: Final = 100  # tasks whose start has come, at once
UNDRAWN: Final = (
    select(tasks.c.id)
    .where(
        _unbegun,
        tasks.c.start_after <= bindparam("_now"),
        tasks.c.state != literal(claims.SUSPENDED),
        tasks.c.ready == false(),
        ~exists().where(tickets.c.task == tasks.c.id),
    )
    .order_by(tasks.c.start_after, tasks.c.id)
    .limit(bindparam("_limit"))
)
#: The next `start_after` to come.
NEXT_START: Final = select(func.min(tasks.c.start_after)).where(_unbegun, tasks.c.start_after > bindparam("_now"))
_DRAWN: Final = (
    update(tasks).where(tasks.c.id == bindparam("_task"), tasks.c.start_after.is_not(null())).values(start_after=null())
)


def submit(tx: Tx, request: Request, now: float, uuid: str) -> Submitted:
    """Make the task, or find the one that the same request made before. `uuid` is a UUIDv7 of the caller's.

    Raises: TagInvalid, TagReused, TaskGone, QuotaExceeded, ClaimRefused (a child's), TaskNotFound and StateError (its
    parent).
    """
    asked = None
    if request.tag is not None:
        tags.check(request.tag)
        asked = request.fingerprint
        if asked is None:
            asked = tags.fingerprint(request.flow, request.canonical or request.inputs, request.claims)
        known = tags.find(tx, request.project_id, request.tag, asked, now, request=request.request)
        if known is not None:
            return Submitted(row.read(tx, known), replayed=True)
    queued_max = None
    if request.parent is None and request.rollback_of is None:  # what began, and what undoes, is never held up
        queued_max = pools.lock_queue(tx, request.pool)
    root = None if request.parent is None else _root_of(tx, request.parent)
    if request.digest is not None and request.outline is not None:
        remember_plan(tx, request.digest, request.outline)
    places: list[Place] = []
    if root is None and not _is_later(request, now):
        places = claims.reserve(tx, request.claims, yielding=request.yielding, unheard=request.unheard)
    if request.limits is not None and root is None:
        quota.check_queues(tx, request.limits, request.claims, places)
    free = bool(places) and claims.are_free(tx, places)
    made = _insert(tx, request, now, uuid, root, ready=free or root is not None or not request.claims)
    if request.limits is not None:
        quota.check_project(tx, request.limits, request.project_id, made.id)
    if queued_max is not None:
        pools.check_queue(tx, request.pool, queued_max, made.id, request.limits)
    if request.tag is not None and asked is not None:
        tags.take(tx, request.project_id, request.tag, asked, made.id, now, request=request.request)
    if places:
        claims.occupy(tx, made.id, places, granted=free)
    elif root is not None:
        late.add(tx, made.id, root, request.claims)
    tx.touched(made.id)
    tell.state(tx, made, None, PENDING, now, actor=request.actor or request.user_id or request.origin)
    return Submitted(made, replayed=False, request=request)


def make_known(tx: Tx, request: Request) -> None:
    """What its tasks share with others, once and for ever: in a transaction that ends soon, for whoever needs the same
    waits for its end."""
    if request.digest is not None and request.outline is not None:
        remember_plan(tx, request.digest, request.outline)
    pools.make_known(tx, request.pool)


def remember_plan(tx: Tx, digest: str, outline: str) -> None:
    """Keep the outline of a plan, once and for ever."""
    if digest not in tx.known:
        if tx.execute(_PLAN_KNOWN, {"_digest": digest}).first() is None:
            tx.execute(_PLAN, {"digest": digest, "outline": outline})
        tx.known.add(digest)


def draw(tx: Tx, tasks_due: Sequence[int], now: float) -> int:
    """Draw the tickets of tasks whose `start_after` has come, in that order: those that UNDRAWN gave. How many it
    were."""
    drawn = 0
    for task in tasks_due:
        if tx.execute(_DRAWN, {"_task": task}).rowcount != 1:
            continue  # another worker has done it meanwhile
        drawn += 1
        _, text = row.asked_for(tx, task)
        claims.draw(tx, task, claims.from_text(text), yielding=claims.is_yielding(text))
        claims.grant(tx, task, now)
    return drawn


def _is_later(request: Request, now: float) -> bool:
    return request.start_after is not None and request.start_after > now


def _root_of(tx: Tx, parent: int) -> int:
    above = row.lock(tx, parent)
    if above.finished_at is not None:
        raise StateError(f"task {above.uuid} has ended ({above.state}): it can have no more children")
    return above.root


def _insert(tx: Tx, request: Request, now: float, uuid: str, root: int | None, *, ready: bool) -> TaskRow:
    later = _is_later(request, now)
    values: dict[str, Any] = {
        "uuid": uuid,
        "state": PENDING,
        "ready": ready,
        "due_at": request.start_after if later else now,
        "start_after": request.start_after if later else None,
        "deadline_at": None if request.deadline_s is None or root is not None else now + request.deadline_s,
        "priority": request.priority,
        "pool": request.pool,
        "progress_total": request.weight,
        "total": request.steps,
        "created_at": now,
        "updated_at": now,
        "flow": request.flow,
        "version": request.version,
        "reference": request.reference,
        "digest": request.digest,
        "operation": request.operation,
        "resource_type": request.resource_type,
        "resource_id": request.resource_id,
        "tag": request.tag,
        "project_id": request.project_id,
        "user_id": request.user_id,
        "request_id": request.request_id,
        "global_request_id": request.global_request_id,
        "origin": request.origin,
        "parent_id": request.parent,
        "root_id": root,
        "child_key": request.child_key,
        "retry_of": request.retry_of,
        "rollback_of": request.rollback_of,
    }
    task = tx.insert(tasks, values)
    text = claims.to_text(request.claims, yielding=request.yielding)
    tx.add(_INPUTS, (task, request.inputs, text))
    values["id"] = task
    return row.fresh(values)
