"""Deciding: what a state asks for next.

Theory: a pure question, asked of the live state only. `now` and the number of free `slots` are arguments. The answer
is a list of commands that may all be taken at once; asking again before they have been folded gives them again, so
nothing is lost when a journal refuses them. While the task goes forward and all is well, the answer costs as much as
the rows it names.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop
from itertools import islice
from typing import Final

from holdfast.core import commands as c
from holdfast.core import undo
from holdfast.core.failure import Failure
from holdfast.core.plan import GATE, OPEN, STEP
from holdfast.core.retry import Retry
from holdfast.core.state import State
from holdfast.core.states import S_FAILED, S_REVERT_FAILED, S_REVERTING, S_WAITING

_BEGINS: Final = (c.Start, c.Reenter, c.Revert)


def decide(state: State, now: float, slots: int) -> list[c.Command]:
    """What is to be done now. `slots`: how many more rows may run."""
    phase = state.phase
    if phase == "RUNNING" or phase == "WAITING":
        if state.inverse:
            return _back(state, now, slots)
        return _forward(state, now, slots)
    if phase == "PENDING":
        if state.deadline_reached:
            return [c.End("FAILED")]
        return [c.Begin(), *_first(state, slots)]
    if phase == "CANCELLING" or phase == "REVERTING":
        return _back(state, now, slots)
    if phase.startswith("SUSPENDING"):
        return _suspending(state)
    if phase == "ABORTING":
        return _ask_all(state, "abort") or [c.End("ABORTED")]
    return []


def next_due(state: State, asked_at: float | None = None) -> float | None:
    """When time alone will give `decide` something new; None: never. `asked_at`: when it was asked last, so that what
    was due by then waits for something else to end."""
    timers = state.timers
    while timers and state.wake_at.get(timers[0][1]) != timers[0][0]:
        heappop(timers)
    if timers and asked_at is not None and timers[0][0] <= asked_at:
        return min((at for at in state.wake_at.values() if at > asked_at), default=None)
    return timers[0][0] if timers else None


# --- forward -----------------------------------------------------------------------------------------------------


def _forward(state: State, now: float, slots: int) -> list[c.Command]:
    found: list[c.Command] = []
    if state.failed or state.doubts or state.failing or state.deadline_reached or state.asked_undo:
        verdict = _trouble(state, now, slots, found)
        if verdict is not None:
            return verdict
    if state.to_probe:
        return [c.Probe(row) for row in state.to_probe]
    if state.timers:
        _due(state, now, slots, found)
    if state.ready and slots > len(found):
        _starts(state, slots - len(found), found)
    if state.suspects:
        found = _apart(state, found)
    if found:
        return _woken(state, found)
    if not state.left:
        return [c.End("SUCCEEDED")]
    if state.running or state.ready:
        return []
    stuck = undo.stuck_rows(state) if state.failing else ()
    if stuck:
        may_turn = state.plan.options.on_revert_failure == "fail" and not state.pivots
        return [c.Turn("FAILED") if may_turn else c.Rest("revert_failed", stuck)]
    return [c.Wait()] if state.phase == "RUNNING" else []


def _first(state: State, slots: int) -> Iterator[c.Command]:
    """The steps that begin with the task, because they need nothing. What else there is to do is asked once it has."""
    if state.inverse:
        return
    for row in islice((row for row, need in enumerate(state.plan.need) if not need), slots):
        if state.kind[row] == STEP:
            yield c.Start(row, False)


def _woken(state: State, found: list[c.Command]) -> list[c.Command]:
    return [c.Wake(), *found] if found and state.phase == "WAITING" else found


def _apart(state: State, found: list[c.Command]) -> list[c.Command]:
    """What may be done of it by the side of those that were in flight at a death: each begins when nothing else runs,
    and nothing begins beside it, so that the next death is its own. What agents run does not fall with it, and may wait
    for one for ever: they see to it that a suspect has a process of its own."""
    suspects, steps = state.suspects, state.steps
    running = [row for row in state.running if steps[row].agent is None]  # type: ignore[union-attr]
    begin = [each for each in found if type(each) in _BEGINS and steps[each.row].agent is None]  # type: ignore[union-attr]
    due = [each for each in begin if each.row in suspects]  # type: ignore[union-attr]
    if not due and not any(row in suspects for row in running):
        return found
    rest = [each for each in found if each not in begin]
    return rest if running else [*rest, *due[:1]]


def _starts(state: State, slots: int, found: list[c.Command]) -> None:
    kinds = state.kind
    for row in islice(state.ready, slots):
        kind = kinds[row]
        if kind == STEP:
            found.append(c.Start(row, row in state.suspects))
        elif kind == GATE:
            found.append(c.Decide(row))
        else:
            found.append(c.Expand(row))


def _due(state: State, now: float, slots: int, found: list[c.Command]) -> None:
    """Steps whose time has come, in that order."""
    due = next_due(state)
    if due is None or due > now:
        return
    rows = sorted((at, row) for row, at in state.wake_at.items() if at <= now)
    for _, row in rows[:slots]:
        if state.st[row] != S_WAITING or state.in_failing(row):
            continue  # a scope's OPEN or a revert: _failing_scope and _back see to those
        if row not in state.parked:
            found.append(c.Start(row, False))
        elif row not in state.delivered and state.deadlines.get(row, now + 1) <= now:
            found.append(c.Expire(row))
        else:
            found.append(c.Reenter(row))


def _trouble(state: State, now: float, slots: int, found: list[c.Command]) -> list[c.Command] | None:
    """What failures, doubts and failing scopes ask for: a verdict on the whole task, or None and what was `found`
    to be done beside the rest."""
    # A deadline that passes behind a pivot ends nothing: there is no way back, and no failure to be asked about.
    late = state.deadline_reached and not (state.pivots and state.plan.options.on_failure == "revert")
    doomed = late or state.asked_undo
    for row in state.failed:
        answer = None if state.asked_undo else _second_chance(state, row)
        if answer is None:
            doomed = True
        elif answer not in found:
            found.append(answer)
    if doomed:
        return _doomed(state)
    if state.doubts:
        reason = next(iter(state.doubts.values()))
        rows = tuple(row for row, why in state.doubts.items() if why == reason)
        return _ask_all(state, "suspend") or [c.Rest(reason, rows)]
    if any(type(command) is c.FailScope for command in found):
        return _woken(state, found)  # it takes over the undo of the scopes in it: what they ask for now is void then
    for scope, turned in state.failing.items():
        room = _undo_room(state, slots) - sum(type(command) is c.Revert for command in found)
        found.extend(_failing_scope(state, scope, turned, now, room))
    return None


def _second_chance(state: State, row: int) -> c.Command | None:
    """The retry that answers for a failed row: its own, or the nearest enclosing flow's that will."""
    failure = state.failures[row]
    if state.kind[row] == STEP and state.st[row] == S_FAILED:  # interrupted, it is to be undone and not repeated
        step = state.steps[row]
        assert step is not None
        retry = step.retry
        at = state.first_at.get(row, 0.0)
        if retry is not None and _willing(retry, failure, state.attempt[row], None, at, state.failed[row]):
            return c.Schedule(row, retry.delay_s(state.attempt[row]), retry.jitter)
    for scope in state.scopes_above(row):
        spec = state.scopes[scope]
        if spec.retry is None or (spec.open_row == row and state.kind[row] == OPEN):
            continue
        if any(state.within(pivot, scope) for pivot in state.pivots):
            return None
        tried = state.tries.get(scope, 1)
        values = state.lengths.get(spec.open_row) if spec.over is not None else None
        if _willing(spec.retry, failure, tried, values, state.first_at.get(spec.open_row, 0.0), state.failed[row]):
            return c.FailScope(spec.open_row)
        if spec.retry.spent == "all":
            return None
    return None


def _willing(retry: Retry, failure: Failure, tried: int, values: int | None, first_at: float, at: float) -> bool:
    if not retry.matches(failure.types) or retry.exhausted(tried, values):
        return False
    return retry.deadline_s is None or at + retry.delay_s(tried) <= first_at + retry.deadline_s


def _doomed(state: State) -> list[c.Command]:
    """A failure that nobody answers for: the task as a whole has failed."""
    policy = state.plan.options.on_failure
    rows = tuple(state.failed)
    if state.pivots and (state.asked_undo or policy == "revert"):
        return _ask_all(state, "suspend") or [c.Rest("past_pivot", rows)]
    if state.asked_undo or policy == "revert":
        stops = _ask_all(state, "sibling_failed")
        if stops or state.running:
            return stops
        unresponsive = _unresponsive(state)
        return [c.Rest("step_unresponsive", unresponsive)] if unresponsive else [c.Turn("FAILED")]
    stops = _ask_all(state, "suspend")
    if stops or state.running:
        return stops
    return [c.Rest("on_failure", rows)] if policy == "suspend" and not state.deadline_reached else [c.End("FAILED")]


def _unresponsive(state: State) -> tuple[int, ...]:
    return tuple(row for row, why in state.doubts.items() if why == "step_unresponsive")


def _failing_scope(state: State, scope: int, turned: bool, now: float, room: int) -> Iterator[c.Command]:
    spec = state.scopes[scope]
    if not turned:
        running = [row for row in state.running if state.within(row, scope)]
        if running:
            yield from (c.Ask(row, "sibling_failed") for row in running if state.st[row] != S_REVERTING)
        else:
            yield c.TurnScope(spec.open_row)
        return
    if not state.undo_left.get(scope, 0):
        if spec.open_row not in state.wake_at:
            retry = spec.retry
            assert retry is not None
            yield c.Schedule(spec.open_row, retry.delay_s(state.tries.get(scope, 1)), retry.jitter)
        elif state.wake_at[spec.open_row] <= now:
            yield c.ResetScope(spec.open_row)
        return
    mine = [row for row in undo.pop_reverts(state, room) if state.undo_of.get(row) == scope]
    yield from (c.Revert(row, row in state.suspects) for row in mine)
    yield from _revert_again(state, now, scope, room - len(mine))
    yield from _reenter_reverts(state, now, scope)


# --- back --------------------------------------------------------------------------------------------------------


def _back(state: State, now: float, slots: int) -> list[c.Command]:
    if state.inverse and state.phase == "CANCELLING":
        return [] if state.running else [c.End("CANCELLED")]
    if not state.turned:
        return _turn_back(state)
    poisoned = tuple(row for row, why in state.doubts.items() if why == "poison")
    if poisoned:
        return [] if state.running else [c.Rest("poison", poisoned)]
    if not state.undo_left.get(0, 0):
        return [c.End("SUCCEEDED" if state.inverse else state.goal or "FAILED")]
    room = _undo_room(state, slots)
    found: list[c.Command] = [c.Revert(row, row in state.suspects) for row in undo.pop_reverts(state, room)]
    found.extend(_revert_again(state, now, 0, room - len(found)))
    found.extend(_reenter_reverts(state, now, 0))
    if state.suspects:
        found = _apart(state, found)
    if found or state.running or state.wake_at or state.parked:
        return found
    unresponsive = _unresponsive(state)
    if unresponsive:
        return [c.Rest("step_unresponsive", unresponsive)]
    stuck = undo.stuck_rows(state)
    return [c.End("FAILED") if state.plan.options.on_revert_failure == "fail" else c.Rest("revert_failed", stuck)]


def _turn_back(state: State) -> list[c.Command]:
    reason = "cancel" if state.phase == "CANCELLING" else "rollback"
    stops = _ask_all(state, reason)
    if stops or state.running:
        return stops
    unresponsive = _unresponsive(state)
    if unresponsive:
        return [c.Rest("step_unresponsive", unresponsive)]
    if state.phase == "CANCELLING" and not state.cancel_reverts:
        return [c.End("CANCELLED")]
    return [c.Turn("SUCCEEDED" if state.inverse else state.goal or "FAILED")]


def _undo_room(state: State, slots: int) -> int:
    """How many more reverts may run: one at a time where the flow says so."""
    if state.plan.options.undo != "serial":
        return slots
    waiting = sum(undo.is_waiting(state, row) for row in state.parked)
    return min(slots, 1 - waiting - sum(state.st[row] == S_REVERTING for row in state.running))


def _revert_again(state: State, now: float, scope: int, room: int) -> Iterator[c.Command]:
    """Reverts that failed and have tries left: plan the next, or begin it when its time has come. `room`: how many."""
    for row in state.revert_errors:
        if state.undo_of.get(row) != scope or state.st[row] != S_REVERT_FAILED:
            continue
        if row in state.wake_at:
            if state.wake_at[row] <= now and room > 0:
                room -= 1
                yield c.Revert(row, False)
            continue
        step = state.steps[row]
        retry = step.revert_retry if step is not None else None
        tried = state.revert_tries.get(row, 1)
        if retry is not None and retry.matches(state.revert_errors[row].types) and not retry.exhausted(tried):
            yield c.Schedule(row, retry.delay_s(tried), retry.jitter)


def _reenter_reverts(state: State, now: float, scope: int) -> Iterator[c.Command]:
    """Reverts that wait and whose time or event has come: there is always room for what has begun."""
    for row in state.parked:
        due = state.wake_at.get(row)
        if due is not None and due <= now and state.undo_of.get(row) == scope and undo.is_waiting(state, row):
            yield c.Reenter(row)


# --- holding -----------------------------------------------------------------------------------------------------


def _suspending(state: State) -> list[c.Command]:
    stops = _ask_all(state, "suspend")
    if stops or state.running:
        return stops
    if state.phase == "SUSPENDING/forward" and not state.inverse and not state.left and not state.failed:
        return [c.End("SUCCEEDED")]
    if state.inverse and state.phase == "SUSPENDING/cancelling":
        return [c.End("CANCELLED")]
    if state.turned and not state.undo_left.get(0, 0):
        return [c.End("SUCCEEDED" if state.inverse else state.goal or "FAILED")]
    return [c.Rest("asked", ())]


def _ask_all(state: State, reason: str) -> list[c.Command]:
    """Ask everything that runs to stop; reverts only when the task is held or aborted."""
    shielded = reason not in ("suspend", "abort")
    return [c.Ask(row, reason) for row in state.running if not (shielded and state.st[row] == S_REVERTING)]
