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
    if state.suspects:
        state.suspects.pop(row, None)
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
        waiting = state.event_waits.get(parked.event)
        if waiting is not None:
            waiting.pop(row, None)
            if not waiting:
                del state.event_waits[parked.event]


def hand_event(state: State, row: int) -> None:
    """Give a waiting step the next event of that name that it has not taken, if there is one."""
    parked = state.parked[row]
    told = state.events.get(parked.event, ())
    taken = state.events_taken.get((row, parked.event), 0)
    if taken < len(told):
        state.delivered[row] = told[taken]
        wake(state, row, parked.at)


def took_event(state: State, row: int) -> None:
    """The entry that was handed an event has come to an end of its own: it will not be handed it again."""
    if row in state.delivered:
        name = state.parked[row].event
        state.events_taken[(row, name)] = state.events_taken.get((row, name), 0) + 1
        del state.delivered[row]


def back_to_ready(state: State, row: int) -> None:
    """The step will be entered again, with its checkpoint; the attempt is not counted."""
    unpark(state, row)
    state.st[row] = S_PENDING
    state.attempt[row] -= 1
    if not state.in_failing(row):
        state.ready.appendleft(row)


def back_to_heap(state: State, row: int) -> None:
    unpark(state, row)
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
