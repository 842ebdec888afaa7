"""What is answered at once, on the owner's thread: a link's `when`, the length of a list, a wait whose time is over."""

from __future__ import annotations

from typing import Any

from holdfast.core import commands as c
from holdfast.core import events as e
from holdfast.core.failure import Failure
from holdfast.core.state import State
from holdfast.errors import StepTimeout
from holdfast.runtime.bind import item_count, step_arguments


def answer_of(command: c.Command, state: State, now: float) -> e.Event:
    """What a link's `when`, a list's length or the clock says."""
    row: int = command.row  # type: ignore[union-attr]
    if type(command) is c.Expire:
        return e.Failed(row, Failure.of(StepTimeout(_late(state, row))), now)
    try:
        if type(command) is c.Decide:
            when: Any = state.steps[row]
            return e.Decided(row, bool(when.execute(**step_arguments(state, row))), now)
        return e.Expanded(row, item_count(state, row), now)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # as of a step: SystemExit too, or it would end one worker after the other
        return e.Failed(row, Failure.of(error), now)


def _late(state: State, row: int) -> str:
    step = state.steps[row]
    assert step is not None
    had = "the timeout that it began with" if step.timeout_s is None else f"its timeout of {step.timeout_s:g} s"
    return f"{state.ids[row]} did not end within {had}"
