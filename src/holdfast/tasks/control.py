"""The verbs: cancel, abort, suspend, resume, rollback, retry, force_fail; and events that a step waits for.

Theory: a verb is an event in the task's journal, written without a token under the lock of the task's row. So the
lock decides between a verb and the end: who comes second sees what the first made of the task, and is answered by the
table of core/states.py for that state. What the table ignores changes nothing and is no error. A verb waits for no
claim and for no worker. Whatever it leaves to be done makes the task due; a worker that has the task is rung for
(tasks/take.py).

A new task in answer to a verb: tasks/anew.py. What a resting task asks: tasks/asking.py. Taking a changed plan:
tasks/adopt.py. What the events mean to the steps: core/machine.py.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from holdfast.core import states
from holdfast.core.events import (
    AbortAsked,
    CancelAsked,
    Delivered,
    Event,
    ForceFailed,
    ResumeAsked,
    RollbackAsked,
    SuspendAsked,
    Woke,
)
from holdfast.core.failure import Failure
from holdfast.errors import PastPivot, UsageError, VerbRefused
from holdfast.store.base import Tx
from holdfast.store.journal import encode
from holdfast.tasks import anew, asking, children, finish, joined, rest, row, tell
from holdfast.tasks.quota import Limits
from holdfast.tasks.retention import DAY_S
from holdfast.tasks.row import TaskRow
from holdfast.tasks.submit import Submitted

RETENTION_S: Final = 30 * DAY_S
ACCEPTED: Final = "accepted"
NO_OP: Final = "no-op"
NEW_TASK: Final = "new task"
REPLAYED: Final = "replayed"
_VERBS: Final[dict[type, str]] = {
    CancelAsked: "cancel",
    AbortAsked: "abort",
    SuspendAsked: "suspend",
    ResumeAsked: "resume",
    RollbackAsked: "rollback",
    ForceFailed: "force_fail",
}
_SUSPENDING: Final = states.api_state(states.SUSPENDING_FORWARD)


class Answer(NamedTuple):
    """What became of a verb: `accepted`, `no-op` (it was so already), `new task`, or `replayed` (the new task was
    made before). `task` is the task as it is now; the new one if there is one."""

    task: TaskRow
    accepted: str


def cancel(
    tx: Tx, task: int, now: float, *, actor: str, revert: bool = True, retention_s: float = RETENTION_S
) -> Answer:
    """Stop at the next safe point and undo what was done (`revert`) or leave it. Raises: VerbRefused, PastPivot."""
    at = children.lock(tx, task)
    phase = _next(at, "cancel", pivot_forbids=revert)
    if phase is None:
        return Answer(at, NO_OP)
    if revert:
        children.refuse_past_pivot(tx, at, "cancel")
    children.reach(tx, at, lambda child: _cancel_child(tx, at, child, now, actor, revert))
    goal = states.CANCELLED if phase == states.CANCELLING else at.goal
    event = CancelAsked(revert, actor, now)
    answer = _go(tx, at, phase, event, now, retention_s, claimless=not revert, goal=goal)
    _wake_children(tx, at, now, actor)
    return answer


def abort(tx: Tx, task: int, now: float, *, actor: str, retention_s: float = RETENTION_S) -> Answer:
    """Stop now and undo nothing. Raises: VerbRefused, VerbUnsupported."""
    at = children.lock(tx, task)
    phase = _next(at, "abort")
    if phase is None:
        return Answer(at, NO_OP)
    joined.aborting(tx, at)
    children.reach(tx, at, lambda child: abort(tx, child.id, now, actor=actor, retention_s=retention_s))
    before: tuple[Event, ...] = ()
    if phase == states.ABORTED and children.living(tx, task):  # not before their code has stopped
        phase, before = states.ABORTING, _awake(at, actor, now)
    return _go(tx, at, phase, AbortAsked(actor, now), now, retention_s, before=before)


def suspend(tx: Tx, task: int, now: float, *, actor: str, release_claims: bool = False) -> Answer:
    """Stop at the next safe point and hold. With `release_claims` others may have its resources meanwhile; a task
    that is suspended already can still be told so. Raises: VerbRefused."""
    at = children.lock(tx, task)
    phase = _next(at, "suspend")
    if release_claims and children.living(tx, task):
        raise VerbRefused(
            f"Cannot 'suspend' task {at.uuid} and release its claims: it has child tasks that use them; suspend it and"
            " let it keep them",
            state=at.state,
        )
    if phase is None:
        if not release_claims or rest.has_released(tx, at):
            return Answer(at, NO_OP)
        if _phase(at) in states.RESTING:  # nothing changes for the task itself
            rest.at_rest(tx, at, now, never_began=False, release_claims=True)
            tell.control(tx, at, "suspend", now, actor=actor, release_claims=True)
            return Answer(row.read(tx, task), ACCEPTED)
        phase = _phase(at)
    children.reach(tx, at, lambda child: suspend(tx, child.id, now, actor=actor))
    before: tuple[Event, ...] = ()
    if at.state == states.WAITING and children.moving(tx, task):
        phase, before = states.SUSPENDING_FORWARD, _awake(at, actor, now)
    event = SuspendAsked(release_claims, actor, now)
    return _go(tx, at, phase, event, now, RETENTION_S, reason="asked", release_claims=release_claims, before=before)


def resume(tx: Tx, task: int, now: float, *, actor: str, answers: asking.Answers | None = None) -> Answer:
    """Go on. `answers` says of each step that the task rests for what is to become of it: (`done`, its result),
    (`rerun`, None), (`undo`, None) or (`skip`, None).

    Raises: VerbRefused; AnswerNeeded: give an answer for each step it names; AnswerRefused.
    """
    at = children.lock(tx, task)
    phase = _next(at, "resume")
    if phase is not None:
        _refuse_beneath_rest(tx, at)
        given = dict(answers or {})
        asking.check(at, given)
        defaults = asking.steps_of(at) if at.reason == "on_failure" else []
        children.let_go(tx, at, {*(step for step, said in given.items() if said[0] == "rerun"), *defaults})
    held = [child for child in children.living(tx, task) if _holds_for_parent(child)]
    if phase is None:
        for child in held:
            resume(tx, child.id, now, actor=actor)
        return Answer(row.read(tx, task), ACCEPTED if held else NO_OP)
    answer = _go(tx, at, phase, ResumeAsked(given, actor, now), now, RETENTION_S)
    for child in held:  # not first: nothing of a task that rests may go on
        resume(tx, child.id, now, actor=actor)
    return answer


def rollback(
    tx: Tx, task: int, now: float, *, actor: str, uuid: str, request_id: str = "", global_request_id: str = "",
    force: bool = False,
) -> Answer:  # fmt: skip
    """Undo: of a moving task once it has stopped; of one that has ended by a new task (its id will be `uuid`), unless
    there is one. `force`: even if others have changed its resources since. Raises: VerbRefused, PastPivot, TaskGone.
    """
    at = children.lock(tx, task)
    children.refuse_alone(tx, at, "rollback")
    if _answer(at, "rollback") == states.ANEW:
        children.refuse_past_pivot(tx, at, "rollback")
        made = anew.rollback(
            tx, at, now, actor=actor, uuid=uuid, request_id=request_id, force=force, global_request_id=global_request_id
        )
        return Answer(at, NO_OP) if made is None else _anew(tx, at, made, "rollback", now, actor)
    if at.rollback_of is not None:
        raise VerbRefused(f"Cannot 'rollback' task {at.uuid}: it is a rollback itself", allowed=supported_verbs(at))
    phase = _next(at, "rollback", pivot_forbids=True)
    if phase is None:
        return Answer(at, NO_OP)
    children.refuse_past_pivot(tx, at, "rollback")
    children.reach(tx, at, lambda child: _cancel_child(tx, at, child, now, actor, True))
    answer = _go(tx, at, phase, RollbackAsked(actor, now), now, RETENTION_S, goal=states.REVERTED)
    _wake_children(tx, at, now, actor)
    return answer


def retry(
    tx: Tx, task: int, now: float, *, actor: str, uuid: str, request_id: str = "", global_request_id: str = "",
    limits: Limits | None = None,
) -> Answer:  # fmt: skip
    """The same request again, as a new task (its id will be `uuid`), unless there is one that may yet succeed or did.

    Raises: VerbRefused, TaskGone, QuotaExceeded.
    """
    at = row.lock(tx, task)
    if _answer(at, "retry") != states.ANEW:
        raise refused(at, "retry")
    children.refuse_alone(tx, at, "retry")
    made = anew.retry(
        tx, at, now, actor=actor, uuid=uuid, request_id=request_id, limits=limits, global_request_id=global_request_id
    )
    return _anew(tx, at, made, "retry", now, actor)


def force_fail(tx: Tx, task: int, now: float, *, actor: str, reason: str, retention_s: float = RETENTION_S) -> Answer:
    """An administrator's last word: the task is FAILED now, even if it is in no state that there is. Its worker, if it
    has one, can write no more to it; what it still does nobody knows. Raises: VerbRefused: it has ended."""
    at = children.lock(tx, task)
    phase = _next(at, "force_fail") if _phase(at) in states.TASK.rows else states.FAILED
    assert phase is not None
    children.reach(tx, at, lambda child: force_fail(tx, child.id, now, actor=actor, reason=reason))
    failure = Failure(("ForceFailed",), reason or "an administrator ended it", None, ())
    return _go(tx, at, phase, ForceFailed(reason, actor, now), now, retention_s, failure=failure)


def deliver(tx: Tx, task: int, name: str, payload: Any, now: float) -> Answer:
    """Hand the task an event that a step of it waits for, or will. Raises: VerbRefused: it has ended; UsageError: only
    the end of a child is called so."""
    if name.startswith(children.EVENTS):
        raise UsageError(f"events called {children.EVENTS}… are told by tasks alone: call it otherwise")
    at = row.lock(tx, task)
    if at.state in states.FINAL:
        raise VerbRefused(f"cannot deliver '{name}' to task {at.uuid}: it is {at.state}", allowed=supported_verbs(at))
    bell = at.worker_id is not None or (_phase(at) in states.MOVING and at.state != states.PENDING)
    columns: dict[str, Any] = {"updated_at": now} | ({"due_at": now} if bell else {})
    tx.record(task, [encode(Delivered(name, payload, now), ())], columns)
    tx.touched(task)
    return Answer(row.read(tx, task), ACCEPTED)


def supported_verbs(at: TaskRow) -> list[str]:
    """The verbs that a user may give the task now and that would change something."""
    verbs = states.verbs_allowed(_phase(at))
    if at.past_pivot or not anew.may_roll_back(at):
        verbs = [verb for verb in verbs if verb != "rollback"]
    return verbs


def _anew(tx: Tx, at: TaskRow, made: Submitted, verb: str, now: float, actor: str) -> Answer:
    if made.replayed:
        return Answer(made.task, REPLAYED)
    tell.control(tx, at, verb, now, actor=actor, new_task=made.task.uuid)
    return Answer(made.task, NEW_TASK)


# --- families ----------------------------------------------------------------------------------------------------


def _cancel_child(tx: Tx, parent: TaskRow, child: TaskRow, now: float, actor: str, revert: bool) -> None:
    if revert and child.rollback_of is not None and parent.rollback_of is None:
        return  # it undoes already, as its parent now will
    cancel(tx, child.id, now, actor=actor, revert=revert)


def _wake_children(tx: Tx, at: TaskRow, now: float, actor: str) -> None:
    """Those that were held with a task that rested, while they undid something already: it waits for them now."""
    if _phase(at) in states.RESTING:
        for child in filter(_holds_for_parent, children.living(tx, at.id)):
            resume(tx, child.id, now, actor=actor)


def _holds_for_parent(child: TaskRow) -> bool:
    """Whether a bare `resume` of its parent is meant for the child too."""
    return child.hold is not None and child.reason in (None, "asked")


def _refuse_beneath_rest(tx: Tx, at: TaskRow) -> None:
    """Nothing of a task that rests may go on. Raises: VerbRefused."""
    if at.parent_id is not None and _phase(parent := row.read(tx, at.parent_id)) in states.RESTING:
        raise VerbRefused(
            f"Cannot 'resume' task {at.uuid} by itself: task {parent.uuid}, whose child it is, is {parent.state}:"
            " resume that one",
            state=at.state,
            parent=parent.uuid,
        )


def _awake(at: TaskRow, actor: str, now: float) -> tuple[Event, ...]:
    """What a task that waits or rests has to be told first, to go where it stops what still runs."""
    return (Woke(now),) if at.state == states.WAITING else (ResumeAsked({}, actor, now),)


# --- what they share ---------------------------------------------------------------------------------------------


def _phase(at: TaskRow) -> str:
    return states.phase(at.state, at.hold)


def _answer(at: TaskRow, verb: str) -> str:
    """What the table says. Raises: VerbRefused: nothing, because the task is in no state that there is."""
    phase = _phase(at)
    if phase not in states.TASK.rows:  # by no hand of ours
        said = f"Cannot '{verb}' task {at.uuid}: it is {phase}, which is no state. Only force-fail ends it"
        raise VerbRefused(said, state=at.state, allowed=[])
    return states.TASK.answer(phase, verb)


def _next(at: TaskRow, verb: str, *, pivot_forbids: bool = False) -> str | None:
    """The phase after the verb, by the table; None: it is so already. Raises: VerbRefused, PastPivot."""
    answer = _answer(at, verb)
    if answer == states.REFUSE:
        raise refused(at, verb)
    if answer == states.IGNORE:
        return None
    if pivot_forbids and at.past_pivot:
        raise PastPivot(
            f"Cannot '{verb}' task {at.uuid}: it has passed its point of no return; cancel it without undo",
            allowed=supported_verbs(at),
        )
    return answer


def refused(at: TaskRow, verb: str) -> VerbRefused:
    """The error for a verb that the task's state does not allow."""
    return VerbRefused(
        f"Cannot '{verb}' task {at.uuid} while it is {at.state}", state=at.state, allowed=supported_verbs(at)
    )


def _go(
    tx: Tx,
    at: TaskRow,
    phase: str,
    event: Event,
    now: float,
    retention_s: float,
    *,
    goal: str | None = None,
    reason: str | None = None,
    claimless: bool = False,
    release_claims: bool = False,
    failure: Failure | None = None,
    before: tuple[Event, ...] = (),
) -> Answer:
    """Append the verb's event, and make the row what the verb made of the task. `before`: what it is told first."""
    entry = [encode(each, ()) for each in (*before, event)]
    actor: str = event.actor  # type: ignore[union-attr]
    tell.control(tx, at, _VERBS[type(event)], now, actor=actor)
    if phase in states.FINAL:
        tx.record(at.id, entry)
        finish.cut_off(tx, at.id, now)
        columns: dict[str, Any] = {} if failure is None else {"error": _json(failure)}
        finish.ended(tx, at.id, phase, now, retention_s=retention_s, actor=actor, **columns)
        return Answer(row.read(tx, at.id), ACCEPTED)
    state, hold = states.api_state(phase), states.hold(phase)
    columns = {
        "state": state,
        "hold": hold,
        "goal": goal or at.goal,
        "reason": reason if phase in states.RESTING else None,
        "resting": None,
        "due_at": _due_at(at, phase, now),
        "updated_at": now,
    }
    if at.reason == "definition_changed" and phase not in states.RESTING:
        columns["error"] = None  # it said what had changed
    # Nothing begins in these, so they wait for no claim.
    if claimless or phase == states.ABORTING or state == _SUSPENDING:
        columns["ready"] = True
    tx.record(at.id, entry, columns)
    after = row.read(tx, at.id)
    if state != at.state:
        tell.state(tx, at, at.state, state, now, actor=actor, reason=after.reason)
    if phase in states.RESTING:
        never_began = phase == states.SUSPENDED_PENDING
        rest.at_rest(tx, after, now, never_began=never_began, release_claims=release_claims)
        children.tell_rest(tx, after, now)
    elif at.hold is not None and not columns.get("ready"):
        rest.go_on(tx, after, now)
    tx.touched(at.id)
    return Answer(row.read(tx, at.id), ACCEPTED)


def _due_at(at: TaskRow, phase: str, now: float) -> float | None:
    if at.worker_id is not None:
        return now  # the bell
    if phase in states.RESTING:
        return None
    if phase == states.PENDING and at.start_after is not None:
        return max(now, at.start_after)
    return now


def _json(failure: Failure) -> str:
    import json

    return json.dumps(failure.to_json())
