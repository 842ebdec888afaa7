"""The arguments of user code: what its parameters are bound to, opened and by name."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from holdfast.core.plan import MAP
from holdfast.core.state import State, opened, part
from holdfast.errors import UsageError


def step_arguments(state: State, row: int, only: Collection[str] | None = None) -> dict[str, Any]:
    """The step's arguments; `only`: those of these names. One that was not given is left to its default."""
    arguments: dict[str, Any] = {}
    for binding in state.bindings[row]:
        parameter, source, required = binding
        if only is not None and parameter not in only:
            continue
        if required or state.given(row, binding):
            arguments[parameter] = opened(state.value_of(row, source))
    return arguments


def revert_arguments(state: State, row: int) -> dict[str, Any]:
    """What a revert may ask for: the step's inputs, its outputs if it has any, `result` and `failures`."""
    step: Any = state.steps[row]
    wanted = {name for name, _ in step.revert_wants}
    arguments = step_arguments(state, row, wanted)
    result = opened(state.results[row]) if state.settled[row] else None
    if state.settled[row]:
        for name, value in outputs_of(step.provides, result).items():
            if name in wanted and name not in arguments:  # what it was given wins: an update is undone to that
                arguments[name] = value
    if "result" in wanted:
        arguments["result"] = result
    if "failures" in wanted:
        arguments["failures"] = {state.ids[at]: failure for at, failure in state.failures.items()}
    return arguments


def outputs_of(provides: Any, result: Any) -> dict[str, Any]:
    """The named outputs in a step's result."""
    if provides is None:
        return {}
    if isinstance(provides, str):
        return {provides: result}
    if isinstance(provides, tuple):
        return {name: part(result, at) for at, name in enumerate(provides)}
    return {name: part(result, name) for name in provides}


def item_count(state: State, row: int) -> int:
    """How long the list is that a map or a for-each-value retry goes over."""
    frame = state.frame_of(row)
    if state.kind[row] == MAP:
        over = frame.plan.maps[row - frame.base].over
    else:
        found = state.scopes[state.scope[row]].over
        assert found is not None
        over = found
    value = opened(state.value_of(row, over))
    if not isinstance(value, (list, tuple)):
        raise UsageError(f"{state.ids[row]} goes over a list or a tuple, not over a {type(value).__name__}")
    return len(value)
