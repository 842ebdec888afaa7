"""Folding: what each event makes of the state.

Theory: `apply` only folds and never decides; `decide` (core/decide.py) only decides and never folds. Replay is
`apply` over a journal, and so it can't come out differently from what happened. `apply` changes the state in place
and returns nothing: a task has one state, and a copy a step would cost more than the step.

Folding a fact and folding a verb commute (tests/core/test_commute.py): the journal may hold them in either order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heappop
from typing import Any

from holdfast.core import doubt, ready, rows, scopes, undo, verbs
from holdfast.core import events as e
from holdfast.core.failure import Failure
from holdfast.core.plan import OPEN
from holdfast.core.state import State
from holdfast.core.states import (
    S_FAILED,
    S_INTERRUPTED,
    S_PENDING,
    S_REVERT_FAILED,
    S_REVERTED,
    S_REVERTING,
    S_RUNNING,
    S_SUCCEEDED,
    S_WAITING,
)


def apply(state: State, event: e.Event) -> None:
    """Fold one event into the state."""
    _FOLD[type(event)](state, event)


def replay(state: State, events: Iterable[e.Event]) -> None:
    for event in events:
        _FOLD[type(event)](state, event)


# --- verbs -------------------------------------------------------------------------------------------------------


# --- facts, forward ----------------------------------------------------------------------------------------------


def _succeeded(state: State, event: e.Succeeded) -> None:
    state.at = event.at
    row = event.row
    del state.running[row]
    state.results[row] = event.result
    if state.failures:
        state.failures.pop(row, None)  # that of an earlier try
    if row in state.parked:
        rows.took_event(state, row)
        rows.unpark(state, row)
    rows.settle_step(state, row)


def _failed(state: State, event: e.Failed) -> None:
    row = event.row
    state.running.pop(row, None)
    state.suspects.pop(row, None)
    state.to_probe.pop(row, None)
    if state.st[row] == S_PENDING:  # a link's `when` or a map's list
        rows.unready(state, row)
    rows.unpark(state, row)
    state.st[row] = S_FAILED
    state.failures[row] = event.failure
    state.pivots.discard(row)
    if not state.in_failing(row):
        state.failed[row] = event.at


def _parked(state: State, event: e.Parked) -> None:
    row = event.row
    del state.running[row]
    if state.suspects:
        state.suspects.pop(row, None)
    deadline_at = None
    if state.st[row] != S_REVERTING:  # a revert that waits goes on being one; its timeout is each entry's
        state.st[row] = S_WAITING
        deadline_at = state.deadlines.get(row)
    rows.took_event(state, row)
    state.parked[row] = event
    if event.checkpoint is not None:
        state.checkpoints[row] = event.checkpoint
    due = [at for at in (event.until, deadline_at) if at is not None]
    if due:
        rows.wake(state, row, min(due))
    if event.event is not None:
        state.event_waits.setdefault(event.event, {})[row] = None
        rows.hand_event(state, row)


def _checkpointed(state: State, event: e.Checkpointed) -> None:
    state.checkpoints[event.row] = event.value


def _decided(state: State, event: e.Decided) -> None:
    state.at = event.at
    row = event.row
    rows.unready(state, row)
    if event.yes:
        ready.settle(state, row, S_SUCCEEDED)
        ready.release(state, [row])
    else:
        ready.skip(state, row)


def _expanded(state: State, event: e.Expanded) -> None:
    state.at = event.at
    row = event.row
    rows.unready(state, row)
    ready.expand(state, row, event.length)
    if state.kind[row] == OPEN and not event.length:
        state.st[row] = S_FAILED
        state.failures[row] = Failure(("NoValues",), "the list to try the values of is empty", None, ())
        state.failed[row] = event.at


def _deadline_reached(state: State, event: e.DeadlineReached) -> None:
    state.deadline_reached = True


# --- facts, back -------------------------------------------------------------------------------------------------


def _reverted(state: State, event: e.Reverted) -> None:
    row = event.row
    state.running.pop(row, None)
    state.suspects.pop(row, None)
    if row in state.parked:
        rows.took_event(state, row)
        rows.unpark(state, row)
    state.st[row] = S_REVERTED
    state.reverted += 1
    undo.undone(state, row)


def _revert_failed(state: State, event: e.RevertFailed) -> None:
    row = event.row
    state.running.pop(row, None)
    state.suspects.pop(row, None)
    if row in state.parked:
        rows.took_event(state, row)
        rows.unpark(state, row)
    state.st[row] = S_REVERT_FAILED
    state.revert_errors[row] = event.failure


# --- decisions ---------------------------------------------------------------------------------------------------


def _began(state: State, event: e.Began) -> None:
    state.at = event.at
    rows.move(state, "begin")
    if not state.inverse:
        ready.enter(state)


def _started(state: State, event: e.Started) -> None:
    row = event.row
    queue = state.ready
    if queue and queue[0] == row:
        queue.popleft()
    else:
        state.wake_at.pop(row, None)
        if state.st[row] == S_INTERRUPTED:
            doubt.overrule(state, row)
        else:
            rows.unready(state, row)
    state.st[row] = S_RUNNING
    state.running[row] = None
    if state.phase == "WAITING":
        _wake_task(state)
    state.attempt[row] = event.attempt
    if not state.began[row]:
        state.began_count += 1
        state.began[row] = state.began_count
    else:
        state.again[row] = row in state.pivots
    step = state.steps[row]
    assert step is not None
    if step.pivot:
        state.pivots.add(row)
    if step.retry is not None and event.attempt == 1:
        state.first_at[row] = event.at
    if event.deadline_at is not None:
        state.deadlines[row] = event.deadline_at


def _reentered(state: State, event: e.Reentered) -> None:
    row = event.row
    state.wake_at.pop(row, None)
    if state.st[row] != S_REVERTING:
        state.st[row] = S_RUNNING
    state.running[row] = None
    _wake_task(state)


def _revert_started(state: State, event: e.RevertStarted) -> None:
    row = event.row
    heap = state.undo_heap
    if heap and heap[0][1] == row:
        heappop(heap)
    elif state.wake_at.pop(row, None) is None:
        heap[:] = sorted(item for item in heap if item[1] != row)
    state.st[row] = S_REVERTING
    state.running[row] = None
    state.revert_tries[row] = event.attempt
    if event.attempt == 1 and row not in state.revert_began:
        state.revert_began.add(row)
        state.first_at[row] = event.at


def _waited(state: State, event: e.Waited) -> None:
    if state.phase != "WAITING":
        rows.move(state, "wait")


def _woke(state: State, event: e.Woke) -> None:
    _wake_task(state)


def _wake_task(state: State) -> None:
    """Something runs again. Where polls were folded into one row, the `Woke` that said so is gone."""
    if state.phase == "WAITING":
        rows.move(state, "wake")


def _rested(state: State, event: e.Rested) -> None:
    rows.move(state, "rest")
    state.reason = event.reason
    state.resting = event.rows
    state.asked_undo = False
    for row in event.rows:
        doubt.rests(state, row, event.reason, event.at)


def _ended(state: State, event: e.Ended) -> None:
    rows.move(state, f"end_{event.state.lower()}")
    if event.state == "ABORTED":
        rows.note_aborted(state)


def _adopted(state: State, event: e.Adopted) -> None:
    """Which plan a journal is read with is the reader's business (worker/take); nothing in the table changes."""


def invert(state: State) -> None:
    """Make of a final task's state the beginning of its rollback: a task whose steps are its reverts."""
    state.inverse = True
    state.phase = "PENDING"
    state.goal = state.reason = None
    state.turned = False
    state.resting = ()
    state.reverted = 0
    state.deadline_reached = state.asked_undo = False
    state.cancel_reverts = True
    state.forced = None
    for column in (
        state.ready,
        state.running,
        state.wake_at,
        state.failed,
        state.doubts,
        state.failing,
        state.suspects,
        state.revert_tries,
        state.revert_errors,
    ):
        column.clear()
    state.to_probe.clear()
    state.pivots.clear()


_FOLD: dict[type, Callable[[State, Any], None]] = {
    e.CancelAsked: verbs.cancel_asked,
    e.AbortAsked: verbs.abort_asked,
    e.SuspendAsked: verbs.suspend_asked,
    e.ResumeAsked: verbs.resume_asked,
    e.RollbackAsked: verbs.rollback_asked,
    e.ForceFailed: verbs.force_failed,
    e.Delivered: verbs.delivered,
    e.TakenOver: doubt.taken_over,
    e.Succeeded: _succeeded,
    e.Failed: _failed,
    e.Parked: _parked,
    e.Stopped: doubt.stopped,
    e.Interrupted: doubt.interrupted,
    e.Died: doubt.died,
    e.Abandoned: doubt.abandoned,
    e.Withdrawn: doubt.withdrawn,
    e.Checkpointed: _checkpointed,
    e.Decided: _decided,
    e.Expanded: _expanded,
    e.Probed: doubt.probed,
    e.Reverted: _reverted,
    e.RevertFailed: _revert_failed,
    e.DeadlineReached: _deadline_reached,
    e.Began: _began,
    e.Started: _started,
    e.Reentered: _reentered,
    e.RetryScheduled: scopes.retry_scheduled,
    e.ScopeFailing: scopes.scope_failing,
    e.ScopeTurned: scopes.scope_turned,
    e.ScopeReset: scopes.scope_reset,
    e.Turned: scopes.turned,
    e.RevertStarted: _revert_started,
    e.Waited: _waited,
    e.Woke: _woke,
    e.Rested: _rested,
    e.Ended: _ended,
    e.Adopted: _adopted,
}
