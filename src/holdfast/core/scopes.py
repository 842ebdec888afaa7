"""What a retrying scope, and the whole task, do to turn back and to begin again."""

from __future__ import annotations

from holdfast.core import events as e
from holdfast.core import ready, rows, undo
from holdfast.core.plan import STEP
from holdfast.core.state import State
from holdfast.core.states import (
    S_FAILED,
    S_WAITING,
)


def retry_scheduled(state: State, event: e.RetryScheduled) -> None:
    row = event.row
    state.failed.pop(row, None)
    if row in state.undo_of or state.kind[row] == STEP:
        if state.st[row] == S_FAILED:
            state.st[row] = S_WAITING
    rows.wake(state, row, event.until)


def scope_failing(state: State, event: e.ScopeFailing) -> None:
    scope = state.scope[event.row]
    if any(outer in state.failing for outer in state.scopes_above(event.row)):
        return  # it failed in the same moment as one around it, which is tried again as a whole
    state.failing[scope] = False
    for row in [row for row in state.failed if state.within(row, scope)]:
        del state.failed[row]
    for row in [row for row in state.ready if state.within(row, scope)]:
        state.ready.remove(row)
    for row in [row for row in state.wake_at if state.within(row, scope) and row != event.row]:
        del state.wake_at[row]
    for inner in [inner for inner in state.failing if inner != scope and _inside(state, inner, scope)]:
        _drop_undo(state, inner)


def _inside(state: State, inner: int, scope: int) -> bool:
    at = state.scopes[inner].parent
    while at > scope:
        at = state.scopes[at].parent
    return at == scope


def _drop_undo(state: State, scope: int) -> None:
    """An inner scope's undo is taken over by that of the scope around it."""
    del state.failing[scope]
    state.undo_left.pop(scope, None)
    rows = [row for row, of in state.undo_of.items() if of == scope]
    for row in rows:
        del state.undo_of[row]
        state.undo_need.pop(row, None)
        state.undo_pred.pop(row, None)
    state.undo_heap[:] = sorted(item for item in state.undo_heap if item[1] in state.undo_of)


def scope_turned(state: State, event: e.ScopeTurned) -> None:
    scope = state.scope[event.row]
    state.failing[scope] = True
    undo.turn(state, scope, whole=False)


def scope_reset(state: State, event: e.ScopeReset) -> None:
    state.at = event.at
    scope = state.scope[event.row]
    state.wake_at.pop(event.row, None)
    del state.failing[scope]
    state.undo_left.pop(scope, None)
    ready.reset(state, scope)


def turned(state: State, event: e.Turned) -> None:
    if not state.inverse:
        rows.move(state, "turn")
    state.goal = event.goal
    state.turned = True
    state.ready.clear()
    state.wake_at.clear()
    state.timers.clear()
    state.event_waits.clear()
    state.to_probe.clear()
    undo.turn(state, 0, whole=True)
