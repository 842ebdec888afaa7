"""What verbs and a person's answers make of the state. Which verb a phase allows: core/states.py."""

from __future__ import annotations

from typing import Any

from holdfast.core import events as e
from holdfast.core import ready, rows, undo
from holdfast.core.failure import Failure
from holdfast.core.plan import MAP, OPEN, STEP
from holdfast.core.state import State
from holdfast.core.states import (
    S_FAILED,
    S_INTERRUPTED,
    S_PENDING,
    S_REVERT_FAILED,
    S_REVERTED,
    S_REVERTING,
    S_SUCCEEDED,
    S_WAITING,
)


def cancel_asked(state: State, event: e.CancelAsked) -> None:
    rows.move(state, "cancel")
    state.cancel_reverts = event.revert
    if state.phase == "CANCELLING":
        state.goal = "CANCELLED"


def abort_asked(state: State, event: e.AbortAsked) -> None:
    rows.move(state, "abort")
    if state.phase == "ABORTED":
        rows.note_aborted(state)


def suspend_asked(state: State, event: e.SuspendAsked) -> None:
    rows.move(state, "suspend")
    if state.phase.startswith("SUSPENDED"):
        state.reason = "asked"


def rollback_asked(state: State, event: e.RollbackAsked) -> None:
    rows.move(state, "rollback")
    if state.phase == "REVERTING" and not state.turned:
        state.goal = "REVERTED"


def force_failed(state: State, event: e.ForceFailed) -> None:
    rows.move(state, "force_fail")
    state.forced = event.reason
    rows.note_aborted(state)


def delivered(state: State, event: e.Delivered) -> None:
    """An event is for every step that waits for its name, now or later; each takes it once, in the order of delivery.
    So it does not matter which came first, the event or the wait."""
    state.events.setdefault(event.name, []).append(event.payload)
    for row in state.event_waits.get(event.name, ()):
        parked = state.parked.get(row)
        waits = parked is not None and parked.event == event.name and state.st[row] in (S_WAITING, S_REVERTING)
        if waits and row not in state.running and row not in state.delivered:
            rows.hand_event(state, row)


def resume_asked(state: State, event: e.ResumeAsked) -> None:
    state.at = event.at
    resting = state.resting if state.phase.startswith("SUSPENDED") else ()
    rows.move(state, "resume")
    for step_id, (word, result) in event.answers.items():
        row = state.row_of(step_id)
        if row >= 0:
            _answer(state, row, word, result, event.at)
    if state.reason == "on_failure":
        for row in resting:
            if row in state.failed and state.ids[row] not in event.answers:
                _answer(state, row, "rerun", None, event.at)
    state.reason = None
    state.resting = ()


def _answer(state: State, row: int, word: str, result: Any, at: float) -> None:
    state.suspects.pop(row, None)
    if state.st[row] == S_REVERT_FAILED or (row in state.undo_of and row not in state.failed):
        _answer_revert(state, row, word)
        return
    state.doubts.pop(row, None)
    state.to_probe.pop(row, None)
    if word == "undo":
        state.asked_undo = True
        state.st[row] = S_INTERRUPTED if state.st[row] != S_FAILED else S_FAILED
        state.failures.setdefault(row, Failure(("Undone",), "a person asked to undo it", None, ()))
        state.failed[row] = at
        return
    state.failed.pop(row, None)
    if word == "rerun":
        state.st[row] = S_PENDING
        state.attempt[row] = 0
        if not state.in_failing(row):
            state.ready.append(row)
    elif word == "skip" or state.kind[row] in (MAP, OPEN):  # of a list that nobody knows nothing can be done
        ready.skip(state, row)
    elif state.kind[row] != STEP:  # a link's `when`: it said yes
        ready.settle(state, row, S_SUCCEEDED)
        ready.release(state, [row])
    else:
        state.results[row] = result
        rows.settle_step(state, row)


def _answer_revert(state: State, row: int, word: str) -> None:
    state.doubts.pop(row, None)
    if word in ("rerun", "undo"):
        state.revert_tries.pop(row, None)
        state.st[row] = S_INTERRUPTED
        undo.again(state, row)
        return
    if word == "done":
        state.st[row] = S_REVERTED
        state.reverted += 1
    else:  # it stays as it is, and the end says so
        state.st[row] = S_REVERT_FAILED
        state.revert_errors.setdefault(row, Failure(("Skipped",), "a person said to leave it as it is", None, ()))
    state.undo_heap[:] = sorted(item for item in state.undo_heap if item[1] != row)  # sorted, it is a heap
    undo.undone(state, row)
