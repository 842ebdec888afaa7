"""What the end of a call means for the task: the fact that is recorded."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from holdfast.core import events as e
from holdfast.core.doubt import poisons
from holdfast.core.failure import Failure
from holdfast.core.state import State
from holdfast.errors import StepError, StepTimeout, UsageError
from holdfast.flow.step import Again, Done, NotDone, Unknown, WaitFor
from holdfast.runtime.base import Call, RemoteError

Keep = Callable[[Any, str], Any]


def fact_of(call: Call, state: State, now: float, keep: Keep | None) -> e.Event | None:
    """The fact, or None where there is nothing to record (a probe that was stopped)."""
    assert call.outcome is not None
    how, what = call.outcome
    if how == "returned" and call.what == "execute":
        return _returned(call, what, state, now, keep)
    if call.what == "probe":
        return _probed(call, how, what, now, keep)
    if how == "returned":
        if not isinstance(what, (Again, WaitFor)):
            return e.Reverted(call.row, now)
        try:
            return _parked(call, what, state, now, keep)
        except Exception as error:  # whatever is wrong with what a revert returns is the revert's failure
            return e.RevertFailed(call.row, Failure.of(error), now)
    if how == "raised":
        return _failed(call, failure_of(what), now)
    if how == "died":
        return e.Died(call.row, what, now, poisons(state, (call.row,)))
    if what == "timeout" and call.stop_reason is None and now < state.deadlines.get(call.row, float("inf")):
        return e.Stopped(call.row, now)  # it was the flow's deadline
    if call.stop_reason == "timeout" or what == "timeout":
        step: Any = call.step
        timeout_s = step.revert_timeout_s if call.what == "revert" else step.timeout_s
        late = StepTimeout(f"{call.step_id} did not end within its timeout of {timeout_s:g} s")
        return _failed(call, Failure.of(late), now)
    if how == "killed":
        # Who is killed for an undo or an abort is not entered again; anybody else's effect is in doubt. So it is where
        # a lease was over and nobody took the task: it goes on here.
        asked = call.stop_reason in ("cancel", "rollback", "sibling_failed", "abort")
        return e.Interrupted(call.row, now) if asked else e.Died(call.row, "killed", now, ours=True)
    if not call.began:
        return e.Withdrawn(call.row, now)
    if call.stop_reason is None:
        unasked = StepError(f"{call.step_id} raised holdfast.Stopping though nobody had asked it to stop")
        return _failed(call, Failure.of(unasked), now)
    return e.Stopped(call.row, now)


def failure_of(error: BaseException) -> Failure:
    return error.failure if isinstance(error, RemoteError) else Failure.of(error)


def _failed(call: Call, failure: Failure, now: float) -> e.Event:
    if call.what == "revert":
        return e.RevertFailed(call.row, failure, now)
    return e.Failed(call.row, failure, now)


def _returned(call: Call, value: Any, state: State, now: float, keep: Keep | None) -> e.Event:
    kind = type(value)
    try:
        if kind is Again or kind is WaitFor:
            return _parked(call, value, state, now, keep)
        provides = call.step.provides  # type: ignore[union-attr]
        if provides is not None and type(provides) is not str:
            _check_shape(call, provides, value)
        return e.Succeeded(call.row, value if keep is None else keep(value, f"the result of {call.step_id}"), now)
    except Exception as error:  # whatever is wrong with what a step returns is the step's failure
        return e.Failed(call.row, Failure.of(error), now)


def _parked(call: Call, value: Again | WaitFor, state: State, now: float, keep: Keep | None) -> e.Parked:
    row = call.row
    before = state.parked.get(row)
    entries = 1 if before is None else before.entries + 1
    checkpoint = value.checkpoint if isinstance(value, Again) else None
    if checkpoint is None:
        checkpoint = state.checkpoints.get(row)  # each entry tells all, so that older ones may be dropped
    elif keep is not None:
        checkpoint = keep(checkpoint, f"the checkpoint of {call.step_id}")
    if isinstance(value, Again):
        return e.Parked(row, now + _seconds(call, "Again", value.after_s), None, checkpoint, entries, now)
    if not isinstance(value.event, str):
        raise UsageError(f"{call.step_id} returned WaitFor({value.event!r}): an event's name is a text")
    until = None if value.timeout_s is None else now + _seconds(call, "WaitFor", value.timeout_s)
    return e.Parked(row, until, value.event, checkpoint, entries, now)


def _seconds(call: Call, what: str, value: Any) -> float:
    """A pause that will end."""
    seconds = float(value) if isinstance(value, (int, float)) else math.nan
    if not math.isfinite(seconds):
        raise UsageError(f"{call.step_id} returned {what} with {value!r} for the seconds to wait")
    return seconds


def _check_shape(call: Call, provides: Any, value: Any) -> None:
    if isinstance(provides, tuple):
        if not isinstance(value, (tuple, list)) or len(value) != len(provides):
            raise UsageError(
                f"{call.step_id} provides {', '.join(provides)}, so it returns {len(provides)} values in a tuple"
            )
        return
    missing = sorted(provides - value.keys()) if isinstance(value, dict) else sorted(provides)
    if missing:
        raise UsageError(f"{call.step_id} provides {', '.join(sorted(provides))}; its dict lacks {', '.join(missing)}")


def _probed(call: Call, how: str, what: Any, now: float, keep: Keep | None) -> e.Event | None:
    if how == "returned":
        if isinstance(what, Done):
            try:
                provides = call.step.provides  # type: ignore[union-attr]
                if provides is not None and type(provides) is not str:
                    _check_shape(call, provides, what.result)
                result = what.result if keep is None else keep(what.result, f"the result of {call.step_id}")
            except UsageError as error:
                return e.Probed(call.row, "unknown", None, str(error), now)
            return e.Probed(call.row, "done", result, None, now)
        if isinstance(what, NotDone):
            return e.Probed(call.row, "not_done", None, None, now)
        if isinstance(what, Unknown):
            return e.Probed(call.row, "unknown", None, str(what.why), now)
        said = f"the probe returned a {type(what).__name__}, not Done, NotDone or Unknown"
        return e.Probed(call.row, "unknown", None, said, now)
    if how == "raised":
        return e.Probed(call.row, "unknown", None, failure_of(what).summary, now)
    return e.Probed(call.row, "unknown", None, f"the probe was {how}", now) if how != "stopped" else None
