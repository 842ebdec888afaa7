"""How another process finds the code of a step.

Theory: by the flow's reference and the step's path in the flow, as after a restart. The flows that were only registered
with this worker aren't there; of those a step is found if its function is a module's own, by the function's place.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from holdfast.errors import FlowNotFound
from holdfast.flow.patterns import Flow
from holdfast.flow.registry import find
from holdfast.flow.step import FunctionStep, Step
from holdfast.runtime.base import Loading

_ATTRIBUTE = {"execute": "execute", "revert": "undo", "probe": "probing"}


def place_elsewhere(reference: str | None, step_id: str, function: Callable[..., Any]) -> str | None:
    """Where the function itself is ("module:name"), or None: the flow's reference is enough.

    Raises: FlowNotFound: no other process can find it.
    """
    if reference is not None and ":" in reference:
        return None
    module, name = getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
    found = _at(module, name) if module in sys.modules and module not in ("__main__", "__mp_main__") else None
    if found is function or (isinstance(found, FunctionStep) and found.execute is function):
        return f"{module}:{name}"
    raise FlowNotFound(
        f"{step_id} runs in another process, which can't find its code: put the flow in a variable of a module, "
        "or write the step as a function of a module, or run it in a thread"
    )


def can_run_elsewhere(reference: str | None, step_id: str, function: Callable[..., Any]) -> bool:
    """Whether another process could find the function."""
    try:
        place_elsewhere(reference, step_id, function)
    except FlowNotFound:
        return False
    return True


def function_of(reference: str | None, place: str | None, step_id: str, what: str) -> Callable[..., Any]:
    """The step's function for `what`. Raises: FlowNotFound: the code here is not that of the worker."""
    function: Any = None
    if place is not None:
        import importlib

        module, _, name = place.partition(":")
        try:
            with Loading(module):
                importlib.import_module(module)
        except ImportError as error:
            raise FlowNotFound(f"{module} can't be imported in this process: {error}") from error
        found = _at(module, name)
        function = found.execute if isinstance(found, FunctionStep) else found
    elif reference is not None:
        with Loading(reference.rpartition(":")[0]):
            step = step_at(find(reference), step_id)
        function = None if step is None else getattr(step, _ATTRIBUTE[what])
    if function is None:
        raise FlowNotFound(
            f"{place or reference} has no {what} of a step {step_id} in this process: it finds other code than the "
            "worker has"
        )
    return function  # type: ignore[no-any-return]


def step_at(flow: Flow | Step, step_id: str) -> Step | None:
    """The step of that path; the index of a map's element says nothing about its code."""
    names = [name.partition("[")[0] for name in step_id.split("/")]
    return _below(flow, names[1:])


def _below(node: Flow | Step, names: list[str]) -> Step | None:
    if isinstance(node, Step):
        return None if names else node
    for child in node.children:
        if names and child.name == names[0]:
            return _below(child, names[1:])
    return None


def _at(module: str, qualname: str) -> Any:
    found: Any = sys.modules[module]
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found


def is_async(function: Callable[..., Any]) -> bool:
    """Whether it is an `async def`. As inspect.iscoroutinefunction, which takes 15 ms to import."""
    return bool(getattr(getattr(function, "__code__", None), "co_flags", 0) & 0x80)
