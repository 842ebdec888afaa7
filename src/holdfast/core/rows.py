"""What several events do to a row: settle it, park it, put it back; and the task's own moves."""

from __future__ import annotations

from heapq import heappush

from holdfast.core import ready, undo
from holdfast.core.state import State
from holdfast.core.states import (
    S_ABORTED,
    S_INTERRUPTED,
    S_PENDING,
    S_REVERTING,
    S_RUNNING,
    S_SUCCEEDED,
    S_WAITING,
    TASK,
)


def move(state: State, what: str) -> None:
    state.phase = TASK.move(state.phase, what)


def settle_step(state: State, row: int) -> None:
    state.st[row] = S_SUCCEEDED
    state.settled[row] = 1
    state.left -= 1
    state.completed += 1
    if row < state.static:
        state.done_weight += state.weight[row]
        need = state.need
        ended: list[int] = []
        for target in state.succ[row]:
            left = need[target] - 1
            need[target] = left
            if not left:
                ready.arrive(state, target, ended)
        if ended:
            ready.release(state, ended)
    else:
        state.done_extra += state.weight[row] * state.frame_of(row).unit
        ready.release(state, [row])


def wake(state: State, row: int, at: float) -> None:
    state.wake_at[row] = at
    heappush(state.timers, (at, row))


def unpark(state: State, row: int) -> None:
    parked = state.parked.pop(row, None)
    state.wake_at.pop(row, None)
    state.delivered.pop(row, None)
    if parked is not None and parked.event is not None:
        rows = state.event_waits.get(parked.event, [])
        if row in rows:
            rows.remove(row)
        if not rows:
            state.event_waits.pop(parked.event, None)


def keep_event(state: State, row: int) -> None:
    """The step has not done with what it waited for: its next entry, or its next try, finds it again."""
    if row in state.delivered:
        state.mailbox[state.parked[row].event] = state.delivered[row]


def back_to_ready(state: State, row: int) -> None:
    """The step will be entered again, with its checkpoint; the attempt is not counted."""
    keep_event(state, row)
    unpark(state, row)
    state.st[row] = S_PENDING
    state.attempt[row] -= 1
    if not state.in_failing(row):
        state.ready.appendleft(row)


def back_to_heap(state: State, row: int) -> None:
    state.st[row] = S_INTERRUPTED
    state.revert_tries[row] = state.revert_tries.get(row, 1) - 1
    undo.again(state, row)


def unready(state: State, row: int) -> None:
    if state.ready and state.ready[0] == row:
        state.ready.popleft()
    else:
        try:
            state.ready.remove(row)
        except ValueError:
            pass


def note_aborted(state: State) -> None:
    for row in range(len(state.ids)):
        if state.began[row] and state.st[row] in (S_RUNNING, S_WAITING, S_INTERRUPTED, S_REVERTING):
            state.st[row] = S_ABORTED
