"""What becomes of rows that did not come to an end of their own: stopped, killed, died with their worker.

Theory: what was in flight when its worker died may have happened. Its author said what follows: run it again, undo it,
ask a person, or first ask the world by a probe (DESIGN.md G3). A death counts against each row that was in flight,
until an outcome of that row is recorded: what runs beside it says nothing of it (G10).

The author may say otherwise in an upgrade (G9). What became of the row by the journal goes before what its options make
of it today: `overrule`.
"""

from __future__ import annotations

from collections.abc import Iterable

from holdfast.core import events as e
from holdfast.core import rows
from holdfast.core.failure import Failure
from holdfast.core.state import State
from holdfast.core.states import (
    S_ABANDONED,
    S_INTERRUPTED,
    S_PENDING,
    S_REVERTING,
    S_WAITING,
)


def died(state: State, event: e.Died) -> None:
    if not event.ours:
        state.suspects[event.row] = state.suspects.get(event.row, 0) + 1
    state.running.pop(event.row, None)
    _in_doubt(state, event.row, event.at, event.poisoned)


def taken_over(state: State, event: e.TakenOver) -> None:
    died = [row for row in state.running if row not in (event.away or ())]
    for row in died:
        state.suspects[row] = state.suspects.get(row, 0) + 1
        del state.running[row]
    most = max((state.suspects[row] for row in died), default=0)
    for row in died:
        _in_doubt(state, row, event.at, event.poisoned and state.suspects[row] == most)


def poisons(state: State, in_flight: Iterable[int]) -> bool:
    """Whether one more death is one too many for any of those rows."""
    return any(state.suspects.get(row, 0) + 1 >= state.deaths_max for row in in_flight)


def _in_doubt(state: State, row: int, at: float, poisoned: bool | None) -> None:
    """The row was in flight when its worker or process died: what its author said decides."""
    if state.st[row] == S_REVERTING:
        rows.back_to_heap(state, row)
        if poisoned:
            state.doubts[row] = "poison"
        return
    step = state.steps[row]
    assert step is not None
    state.st[row] = S_INTERRUPTED
    if poisoned:
        rows.unpark(state, row)
        state.doubts[row] = "poison"
    elif step.has_probe:
        state.to_probe[row] = None
    else:
        _not_known(state, row, step.on_interrupt, at)


def _not_known(state: State, row: int, on_interrupt: str, at: float) -> None:
    if on_interrupt == "rerun":
        rows.back_to_ready(state, row)
        return
    rows.unpark(state, row)
    if on_interrupt == "suspend":
        state.doubts[row] = "outcome_unknown"
    elif not state.in_failing(row):
        _to_undo(state, row, at)


def _to_undo(state: State, row: int, at: float) -> None:
    state.failures[row] = Failure(("Interrupted",), "it was interrupted and its author asked to undo it", None, ())
    state.failed[row] = at


def overrule(state: State, row: int) -> None:
    """The journal says what became of a row that was in doubt. It is INTERRUPTED until that is folded, and nothing
    else is known of it."""
    state.doubts.pop(row, None)
    state.to_probe.pop(row, None)
    if state.failed.pop(row, None) is not None:
        state.failures.pop(row, None)
    rows.unpark(state, row)
    if state.st[row] == S_PENDING:
        rows.unready(state, row)
        state.attempt[row] += 1
    state.st[row] = S_INTERRUPTED


def rests(state: State, row: int, reason: str, at: float) -> None:
    """The task rests for an answer about the row."""
    if reason == "outcome_unknown" or (reason == "poison" and row not in state.undo_of):
        overrule(state, row)
        state.doubts[row] = reason
    elif reason in ("on_failure", "past_pivot") and row not in state.failed:
        overrule(state, row)
        _to_undo(state, row, at)


def probed(state: State, event: e.Probed) -> None:
    state.at = event.at
    row = event.row
    state.to_probe.pop(row, None)
    was_put_back = state.st[row] == S_PENDING and state.began[row]
    if row in state.undo_of or not (state.st[row] == S_INTERRUPTED or was_put_back):
        return
    overrule(state, row)
    if event.verdict == "done":
        state.results[row] = event.result
        rows.settle_step(state, row)
    elif event.verdict == "not_done":
        rows.back_to_ready(state, row)
    else:
        state.doubts[row] = "outcome_unknown"


def abandoned(state: State, event: e.Abandoned) -> None:
    state.running.pop(event.row, None)
    rows.unpark(state, event.row)
    state.st[event.row] = S_ABANDONED
    state.doubts[event.row] = "step_unresponsive"


def withdrawn(state: State, event: e.Withdrawn) -> None:
    row = event.row
    state.running.pop(row, None)
    if state.st[row] == S_REVERTING:
        rows.back_to_heap(state, row)
        return
    if row in state.parked:
        state.st[row] = S_WAITING
        rows.wake(state, row, event.at)
        return
    if row not in state.again:
        state.began[row] = 0
    if not state.again.get(row):
        state.pivots.discard(row)
    rows.back_to_ready(state, row)


def interrupted(state: State, event: e.Interrupted) -> None:
    row = event.row
    state.running.pop(row, None)
    if state.st[row] == S_REVERTING:
        rows.back_to_heap(state, row)
        return
    rows.unpark(state, row)
    state.st[row] = S_INTERRUPTED


def stopped(state: State, event: e.Stopped) -> None:
    row = event.row
    state.running.pop(row, None)
    if state.st[row] == S_REVERTING:
        rows.back_to_heap(state, row)
        return
    rows.back_to_ready(state, row)
