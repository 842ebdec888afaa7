"""How another process finds the code of a step: the flow by its reference, the step by its path in the flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from holdfast.errors import FlowNotFound
from holdfast.flow.patterns import Flow
from holdfast.flow.registry import find
from holdfast.flow.step import Step


def function_of(reference: str, step_id: str, what: str) -> tuple[Step, Callable[..., Any]]:
    """The step and its function for `what`. Raises: FlowNotFound: the code here is not that of the worker."""
    step = step_at(find(reference), step_id)
    function: Any = None
    if step is not None:
        function = getattr(step, {"execute": "execute", "revert": "undo", "probe": "probing"}[what])
    if step is None or function is None:
        raise FlowNotFound(
            f"{reference} has no {what} of a step {step_id} in this process: it finds other code than the worker has"
        )
    return step, function


def step_at(flow: Flow | Step, step_id: str) -> Step | None:
    """The step of that path; the index of a map's element says nothing about its code."""
    names = [name.partition("[")[0] for name in step_id.split("/")]
    return _below(flow, names[1:]) or (flow if isinstance(flow, Step) else None)


def _below(node: Flow | Step, names: list[str]) -> Step | None:
    if isinstance(node, Step):
        return None if names else node
    for child in node.children:
        if names and child.name == names[0]:
            found = _below(child, names[1:])
            if found is not None:
                return found
    return None


def is_async(function: Callable[..., Any]) -> bool:
    """Whether it is an `async def`. As inspect.iscoroutinefunction, which takes 15 ms to import."""
    return bool(getattr(getattr(function, "__code__", None), "co_flags", 0) & 0x80)
