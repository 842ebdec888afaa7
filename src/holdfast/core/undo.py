"""Undo: which reverts may begin, and in which order.

Theory: the same counting as forward, with the edges turned round and over those rows only that have begun. A row may
be reverted when everything recorded that depends on it is undone; among those that may, the one that began last goes
first. Rows with nothing to revert (no revert, skipped, never a step) are passed over at once. An undo covers the whole
task or one retrying scope; the task's swallows those of its scopes.
"""

from __future__ import annotations

from heapq import heappop, heappush

from holdfast.core.plan import STEP
from holdfast.core.state import State
from holdfast.core.states import (
    S_INTERRUPTED,
    S_PENDING,
    S_REVERT_FAILED,
    S_REVERTED,
    S_REVERTING,
    S_RUNNING,
    S_SKIPPED,
    S_WAITING,
)


def turn(state: State, scope: int, whole: bool) -> None:
    """Begin the undo of a scope, or of the whole task: nothing in it runs forward any more."""
    rows = [row for row in _rows(state, scope, whole) if state.began[row] or state.st[row] != S_PENDING]
    mark = 0 if whole else scope
    if whole:
        state.undo_need.clear()
        state.undo_pred.clear()
        state.undo_of.clear()
        state.undo_left.clear()
        state.undo_heap.clear()
        state.failing.clear()
    state.undo_left[mark] = len(rows)
    need, pred, of = state.undo_need, state.undo_pred, state.undo_of
    for row in rows:
        of[row] = mark
        need[row] = 0
        _loosen(state, row)
    for row in rows:
        for target in state.succ[row]:
            if of.get(target) == mark and target in need:
                need[row] += 1
                pred.setdefault(target, []).append(row)
    undone: list[int] = []
    for row in rows:
        if not need[row]:
            _may_revert(state, row, undone)
    _lower(state, undone)


def _rows(state: State, scope: int, whole: bool) -> list[int]:
    if whole:
        return list(range(len(state.ids)))
    return list(state.rows_of(scope))


def _loosen(state: State, row: int) -> None:
    """What was waiting or held is now interrupted: its effect may have happened."""
    if state.st[row] in (S_PENDING, S_WAITING, S_RUNNING, S_REVERT_FAILED) or is_waiting(state, row):
        state.st[row] = S_INTERRUPTED
    state.wake_at.pop(row, None)
    state.parked.pop(row, None)
    state.delivered.pop(row, None)
    state.failed.pop(row, None)
    state.to_probe.pop(row, None)
    if state.doubts.get(row) != "step_unresponsive":
        state.doubts.pop(row, None)


def is_trivial(state: State, row: int) -> bool:
    """Whether undo passes the row over."""
    if state.kind[row] != STEP or not state.began[row] or state.st[row] in (S_SKIPPED, S_REVERTED):
        return True
    step = state.steps[row]
    return step is None or not step.has_revert


def _may_revert(state: State, row: int, undone: list[int]) -> None:
    if is_trivial(state, row):
        undone.append(row)
    elif row not in state.running:
        heappush(state.undo_heap, (-state.began[row], row))


def again(state: State, row: int) -> None:
    """The revert is to be entered (again), unless a wider undo has taken the row over and not begun yet."""
    item = (-state.began[row], row)
    if row in state.undo_of and item not in state.undo_heap:
        heappush(state.undo_heap, item)


def undone(state: State, row: int) -> None:
    """The row is undone or passed over: those it depends on come nearer."""
    if row in state.undo_of:  # else a wider undo has taken it over, and will see for itself
        _lower(state, [row])


def _lower(state: State, rows: list[int]) -> None:
    need, of = state.undo_need, state.undo_of
    while rows:
        row = rows.pop()
        mark = of.pop(row)
        state.undo_left[mark] -= 1
        for before in state.undo_pred.pop(row, ()):
            need[before] -= 1
            if not need[before]:
                _may_revert(state, before, rows)
        del need[row]


def is_waiting(state: State, row: int) -> bool:
    """Whether it is a revert that returned `Again` or `WaitFor`."""
    return state.st[row] == S_REVERTING and row in state.parked and row not in state.running


def stuck_rows(state: State) -> tuple[int, ...]:
    """The reverts that failed for good, and hold up the undo of what they depend on."""
    return tuple(row for row in state.undo_of if state.st[row] == S_REVERT_FAILED and row not in state.wake_at)


def pop_reverts(state: State, slots: int) -> list[int]:
    """The reverts to begin now, without taking them off the heap."""
    if not state.undo_heap or slots <= 0:
        return []
    heap = state.undo_heap
    found: list[int] = []
    front = [(heap[0], 0)]
    while front and len(found) < slots:  # walk down the heap: the cost is in `slots`, not in its size
        (_, row), at = heappop(front)
        found.append(row)
        for child in (2 * at + 1, 2 * at + 2):
            if child < len(heap):
                heappush(front, (heap[child], child))
    return found
