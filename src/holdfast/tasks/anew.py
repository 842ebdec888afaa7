"""New tasks in answer to a verb on one that has ended: a retry, a rollback.

Theory: a final state never changes, so what is asked of an ended task becomes a task of its own, which names it
(`retry_of`, `rollback_of`). There is at most one that may yet succeed or did: asking again returns it. It takes its
claims anew and has no tag, because the tag stays with the first. Which states answer with a new task is in
core/states.py; what a rollback task does is in core/undo.py.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import bindparam, exists, literal, null, or_, select

from holdfast.core import states
from holdfast.errors import PastPivot, RollbackSuperseded, TaskGone, TaskNotFound, VerbRefused
from holdfast.store.base import Tx
from holdfast.store.schema import inputs, tasks
from holdfast.tasks import children, claims, joined, row
from holdfast.tasks.claims import EXCLUSIVE
from holdfast.tasks.quota import Limits
from holdfast.tasks.row import TaskRow
from holdfast.tasks.submit import Request, Submitted, submit

_promising = or_(tasks.c.finished_at.is_(null()), tasks.c.state == literal(states.SUCCEEDED))
_RETRIES: Final = (
    select(tasks).where(tasks.c.retry_of == bindparam("_task"), _promising).order_by(tasks.c.id.desc()).limit(1)
)
_ROLLBACKS: Final = (
    select(tasks).where(tasks.c.rollback_of == bindparam("_task"), _promising).order_by(tasks.c.id.desc()).limit(1)
)
_EARLIER: Final = (
    select(tasks.c.id)
    .where(tasks.c.rollback_of == bindparam("_of"), tasks.c.id < bindparam("_task"), tasks.c.finished_at.is_not(null()))
    .order_by(tasks.c.id)
)


def may_roll_back(at: TaskRow) -> bool:
    """Whether a task that has ended has left anything to undo; True for one that hasn't ended, unless it is a
    rollback itself."""
    return at.rollback_of is None and (at.finished_at is None or at.effect != "none")


def retry(
    tx: Tx,
    at: TaskRow,
    now: float,
    *,
    actor: str,
    uuid: str,
    request_id: str,
    global_request_id: str = "",
    limits: Limits | None = None,
) -> Submitted:
    """The task that makes the same request again. It counts as any other; an undo is never refused for a quota."""
    _check_kept(at, now)
    known = tx.execute(_RETRIES, {"_task": at.id}).first()
    if known is not None:
        return Submitted(row.of(known), replayed=True)
    if at.rollback_of is not None:
        _check_origin(tx, at, now)
        known = tx.execute(_ROLLBACKS, {"_task": at.rollback_of}).first()
        if known is not None:
            return Submitted(row.of(known), replayed=True)
    request = _request(tx, at, actor, request_id, global_request_id)
    if at.rollback_of is None:
        request = request._replace(limits=limits)
    joined.making(tx, at)
    if at.deadline_at is not None:
        request = request._replace(deadline_s=at.deadline_at - at.created_at)
    made = submit(tx, request._replace(retry_of=at.id, rollback_of=at.rollback_of), now, uuid)
    joined.made(tx, at, made.task, False, now)
    return made


def rollback(
    tx: Tx,
    at: TaskRow,
    now: float,
    *,
    actor: str,
    uuid: str,
    request_id: str,
    force: bool,
    global_request_id: str = "",
    parent: TaskRow | None = None,
) -> Submitted | None:
    """The task that undoes what this one did; None: nothing is left to undo. `parent`: whose child it is to be."""
    known = tx.execute(_ROLLBACKS, {"_task": at.id}).first()
    if known is not None:
        return Submitted(row.of(known), replayed=True)
    if at.rollback_of is not None:
        raise VerbRefused(f"Cannot 'rollback' task {at.uuid}: it is a rollback itself", allowed=_verbs(at))
    if at.past_pivot:
        raise PastPivot(f"Cannot 'rollback' task {at.uuid}: it has passed its point of no return", allowed=_verbs(at))
    if at.effect == "none":
        return None
    _check_kept(at, now)
    request = _request(tx, at, actor, request_id, global_request_id)
    if not force:
        _check_unchanged(tx, at, request)
    request = request._replace(rollback_of=at.id)
    if parent is not None:
        request = children.request_of(parent, request, None)
    joined.making(tx, at)
    made = submit(tx, request, now, uuid)
    joined.made(tx, at, made.task, force, now)
    return made


def rollbacks_before(tx: Tx, at: TaskRow) -> list[int]:
    """The rollbacks of the same task that ended before this one was asked for. What they undid is undone."""
    return tx.execute(_EARLIER, {"_of": at.rollback_of, "_task": at.id}).scalars()


def _verbs(at: TaskRow) -> list[str]:
    return [verb for verb in states.verbs_allowed(at.state) if verb != "rollback"]


def _check_kept(at: TaskRow, now: float) -> None:
    if at.expires_at is not None and at.expires_at <= now:
        raise TaskGone(f"what task {at.uuid} did is being purged: it is too late to do it again or to undo it")


def _check_origin(tx: Tx, at: TaskRow, now: float) -> None:
    """A rollback undoes by the journal of the task that it is for."""
    try:
        origin = row.read(tx, at.rollback_of or 0)
    except TaskNotFound:
        raise TaskGone(f"what task {at.uuid} was to undo has been purged") from None
    _check_kept(origin, now)


def _check_unchanged(tx: Tx, at: TaskRow, request: Request) -> None:
    """Refuse to undo beneath somebody who has built on it, and hasn't been undone."""
    undone = tasks.alias()
    for claim in request.claims:
        if claim.mode != EXCLUSIVE:
            continue
        # Seldom asked, so it may look at every task since; the text of a claim ends behind its mode.
        later = tx.execute(
            select(tasks.c.uuid, tasks.c.project_id)
            .join(inputs, inputs.c.task == tasks.c.id)
            .where(
                tasks.c.id > at.id,
                tasks.c.executed_at >= at.finished_at,
                tasks.c.effect != "none",
                ~exists().where(undone.c.rollback_of == tasks.c.id, undone.c.state == states.SUCCEEDED),
                inputs.c.claims.contains(claims.to_text([claim])[1:-2], autoescape=True),
            )
            .order_by(tasks.c.id)
            .limit(1)
        ).first()
        if later is not None:
            other = later.uuid if later.project_id == at.project_id else None  # else nobody's business here
            raise RollbackSuperseded(
                f"Cannot 'rollback' task {at.uuid}: {f'task {other}' if other else 'another project'} has changed"
                f" {claim.resource} since",
                task=other,
                resource=claim.resource,
            )


def _request(tx: Tx, at: TaskRow, actor: str, request_id: str, global_request_id: str) -> Request:
    """The request that made the task, as a request for another: without its tag, in nobody's name but the asker's."""
    text, claimed = row.asked_for(tx, at.id)
    return Request(
        flow=at.flow,
        reference=at.reference,
        inputs=text,
        version=at.version,
        digest=at.digest,
        claims=claims.from_text(claimed),
        yielding=claims.is_yielding(claimed),
        steps=at.total,
        weight=at.progress_total,
        priority=at.priority,
        pool=at.pool,
        operation=at.operation,
        resource_type=at.resource_type,
        resource_id=at.resource_id,
        project_id=at.project_id,
        user_id=actor or at.user_id,
        request_id=request_id,
        global_request_id=global_request_id,
        origin=at.origin,
        actor=actor,
    )
