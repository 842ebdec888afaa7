"""From a command to the event that makes it true: where the clock and chance come in."""

from __future__ import annotations

from holdfast.core import commands as c
from holdfast.core import events as e
from holdfast.core.state import State


def begin_of(command: c.Start | c.Reenter | c.Revert, state: State, now: float, agent: bool | None) -> e.Event:
    """`agent`: whether an agent is to run it."""
    row = command.row
    if type(command) is c.Reenter:
        return e.Reentered(row, now, agent)
    step = state.steps[row]
    assert step is not None
    goes_on = type(command) is c.Start
    timeout_s = step.timeout_s if goes_on else step.revert_timeout_s
    deadline_at = None if timeout_s is None else now + timeout_s
    if goes_on:
        return e.Started(row, state.attempt[row] + 1, deadline_at, now, agent)
    return e.RevertStarted(row, state.revert_tries.get(row, 0) + 1, deadline_at, now, agent)


def decision_of(command: c.Command, state: State, now: float, chance: float) -> e.Event:
    """Of one that begins nothing. `chance`: 0 to 1, drawn for this decision."""
    match command:
        case c.Begin():
            return e.Began(now)
        case c.Schedule(row, delay_s, jitter):
            return e.RetryScheduled(row, now + delay_s * (1 - jitter * chance), now)
        case c.FailScope(row):
            return e.ScopeFailing(row, now)
        case c.TurnScope(row):
            return e.ScopeTurned(row, now)
        case c.ResetScope(row):
            return e.ScopeReset(row, now)
        case c.Turn(goal):
            return e.Turned(goal, now)
        case c.Wait():
            return e.Waited(now)
        case c.Wake():
            return e.Woke(now)
        case c.Rest(reason, rows):
            return e.Rested(reason, rows, now)
        case c.End(ended):
            return e.Ended(ended, now)
    raise AssertionError(f"{command} is no decision")
