"""How a flow is found again: after a restart, in another worker, in the process of a step.

Theory: a reference is "name@version" for a flow that was registered, or "module:variable". A script that is run has no
module name that another process could import, so its absolute path stands for it; what it defines is found by loading
the file once more under a private name, so that its `if __name__ == "__main__":` does not run. A flow is found by
looking for the object itself among the globals, first of the module that made it. Registered flows are asked first.

What a flow is: flow/patterns.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any, Final, TypeAlias

from holdfast.errors import DuplicateName, FlowError, FlowNotFound
from holdfast.flow.patterns import Child, Flow
from holdfast.flow.step import FunctionStep, Step, step

Flows: TypeAlias = "Iterable[Flow | Step] | Callable[[], Iterable[Flow | Step]]"

_PRIVATE: Final = "holdfast script "  # begins the name of a module loaded from a script; no import can spell it
_KEPT: Final[dict[int, tuple[Flow | Step, str]]] = {}  # id -> the flow and its reference, found once
_STEPS: Final[dict[str, FunctionStep[Any, Any]]] = {}  # plain functions that were asked for as flows


def registered(flows: Flows = ()) -> dict[str, Flow | Step]:
    """The registered flows by "name@version". `flows` is a list of them, or makes one when called."""
    found: dict[str, Flow | Step] = {}
    for flow in flows() if callable(flows) else flows:
        if not isinstance(flow, (Flow, Step)):
            raise FlowError(f"{flow!r} can't be registered: give a list of flows, or a function that returns one")
        key = f"{flow.name}@{_version(flow)}"
        if found.setdefault(key, flow) is not flow:
            raise DuplicateName(f"two different flows are registered as {key}: give one another name or version=")
    return found


def _version(flow: Flow | Step) -> str:
    return flow.version if isinstance(flow, Flow) else "1"


def reference_of(flow: Child, flows: Flows = ()) -> str:
    """The reference by which `find` will find this flow. Raises FlowNotFound where nothing could."""
    if not isinstance(flow, (Flow, Step)):
        flow = step(flow)
    key = f"{flow.name}@{_version(flow)}"
    known = registered(flows).get(key)
    if known is not None:
        _check_same(flow, known, key)
        return key
    kept = _KEPT.get(id(flow))
    if kept is not None and kept[0] is flow:
        return kept[1]
    reference, itself = _search(flow)
    if itself:  # a step made of a variable's function is made anew at every use, and is not worth keeping
        _KEPT[id(flow)] = (flow, reference)
    return reference


def _check_same(flow: Flow | Step, known: Flow | Step, key: str) -> None:
    """Refuse a flow that only has the name and version of a registered one."""
    if flow is known:
        return
    from holdfast.flow.compile import compile
    from holdfast.flow.outline import digest

    if digest(compile(flow)) != digest(compile(known)):
        raise FlowError(
            f"the flow registered as {key} has other steps than this one: give one another name or version="
        )


def _search(flow: Flow | Step) -> tuple[str, bool]:
    """Look for the object among the globals of modules: the one that made it, its function's, then every other.
    A function that is a step without options stands for it; then the second answer is False."""
    function = flow.execute if isinstance(flow, FunctionStep) and _is_bare(flow) else flow
    made_in = flow.made_in if isinstance(flow, Flow) else _home(flow)
    others = (name for name in sorted(sys.modules) if name not in (made_in, "__main__"))
    for name in (made_in, "__main__", *others):
        module = sys.modules.get(name)
        stands = _stands_for(module, name) if isinstance(module, ModuleType) else None
        if module is None or stands is None:
            continue
        for wanted in (flow, function):
            variable = _variable(module, wanted)
            if variable is not None:
                return f"{stands}:{variable}", wanted is flow
    hint = (
        "make it a variable of a module, or give it to hf.open(…, flows=[…]) or holdfast worker --flows module:callable"
    )
    if made_in == "__main__" and _stands_for(sys.modules["__main__"], "__main__") is None:
        raise FlowNotFound(
            f"flow {flow.name!r} is only in this session, where no other process finds it: save it in a file, or {hint}"
        )
    raise FlowNotFound(f"flow {flow.name!r} is in no variable, so it could not be found again after a restart: {hint}")


def _is_bare(made: FunctionStep[Any, Any]) -> bool:
    """Whether making a step of its function again would give the same step."""
    if not getattr(made.execute, "__name__", ""):
        return False
    again = FunctionStep(made.execute, {})
    return all(
        getattr(again, slot) == getattr(made, slot)
        for slot in FunctionStep.__slots__
        if slot not in ("_plan", "_copied")
    )


def _home(step: Step) -> str:
    function: Any = step.execute if isinstance(step, FunctionStep) else type(step)
    return str(getattr(function, "__module__", ""))


def _variable(module: ModuleType, wanted: object) -> str | None:
    for variable, value in list(vars(module).items()):
        if value is wanted:
            return variable
    return None


def _stands_for(module: ModuleType, name: str) -> str | None:
    """What another process imports or loads to have this module; None where it can't."""
    if name.startswith(_PRIVATE):
        return name.removeprefix(_PRIVATE)
    if name not in ("__main__", "__mp_main__"):
        return name
    spec = getattr(module, "__spec__", None)
    if spec is not None:  # python -m package.module
        return str(spec.name)
    path = getattr(module, "__file__", None)
    return _absolute(path) if path else None


def _absolute(path: str) -> str:
    import os

    return os.path.realpath(path)


def find(reference: str, flows: Flows = ()) -> Flow | Step:
    """The flow that `reference_of` gave this reference. Registered flows are asked first. Modules and scripts are
    loaded once; a plain function is a step.

    Raises: FlowNotFound: put the code back, or register the flow.
    """
    known = registered(flows)
    if reference in known:
        return known[reference]
    place, colon, variable = reference.rpartition(":")
    if not colon:
        name = reference.rpartition("@")[0]
        there = sorted(key for key in known if key.rpartition("@")[0] == name) or sorted(known)
        raise FlowNotFound(
            f"no flow is registered as {reference}: give it to hf.open(…, flows=[…]) or holdfast worker --flows "
            f"module:callable. Registered are: {', '.join(there) or 'none'}"
        )
    module = _module(place)
    if variable not in vars(module) and module is sys.modules.get("__main__") and getattr(module, "__file__", None):
        # A script that is still running from top to bottom may not have come to it; a copy of its own has.
        module = _script(_absolute(str(module.__file__)))
    return _taken(module, place, variable)


def _taken(module: ModuleType, place: str, variable: str) -> Flow | Step:
    found = vars(module).get(variable)
    if isinstance(found, (Flow, Step)):
        return found
    if callable(found) and not isinstance(found, type):
        key = f"{place}:{variable}"
        made = _STEPS.get(key)
        if made is None or made.execute is not found:
            made = _STEPS[key] = step(found)
        return made
    raise FlowNotFound(f"{place} has no flow {variable!r}{_suggestion(module, variable)}")


def load(target: str) -> Flow | Step:
    """The flow that a person names as MODULE_OR_FILE:FLOW. A plain function is taken as a step.

    Raises: FlowNotFound with the flows that are there.
    """
    place, colon, variable = target.rpartition(":")
    if not colon:
        place, variable = target, ""
    if not place:
        raise FlowNotFound(f"{target!r} names no flow: say MODULE:FLOW or FILE.py:FLOW")
    module = _place(place)
    if not variable:
        raise FlowNotFound(f"{target!r} names no flow: say {place}:FLOW{_suggestion(module, '')}")
    return _taken(module, place, variable)


def load_flows(target: str) -> Flows:
    """The flows that MODULE_OR_FILE:NAME stands for, where NAME is a list of flows or a function that returns one."""
    place, colon, variable = target.rpartition(":")
    if not colon or not place:
        raise FlowNotFound(
            f"{target!r} names no flows: say MODULE:NAME, where NAME is a list of flows or a function that returns one"
        )
    found = vars(_place(place)).get(variable)
    if isinstance(found, (Flow, Step)):
        return (found,)
    if not callable(found) and not isinstance(found, (list, tuple)):
        raise FlowNotFound(f"{place} has no {variable!r} that is a list of flows, or a function that returns one")
    flows: Flows = found
    registered(flows)  # so that a mistake is told here
    return flows


def flows_in(module: ModuleType) -> Iterator[tuple[str, Flow | Step]]:
    """The flows of a module and the variables they are in: flows first, then steps."""
    found = [(name, value) for name, value in vars(module).items() if isinstance(value, (Flow, Step))]
    yield from sorted(found, key=lambda pair: isinstance(pair[1], Step))


def _suggestion(module: ModuleType, wanted: str) -> str:
    there = [name for name, _flow in flows_in(module)]
    if not there:
        return ": there are no flows in it at all"
    if wanted:
        import difflib

        close = difflib.get_close_matches(wanted, there, n=1)
        if close:
            return f": did you mean {close[0]!r}? It has {', '.join(there)}"
    return f": it has {', '.join(there)}"


def _place(place: str) -> ModuleType:
    """The module or file that a person names; modules are looked for in the current directory too."""
    import os

    if place.endswith(".py") or os.sep in place:
        return _module(_absolute(place))
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)  # as python -m does
    return _module(place)


def _module(place: str) -> ModuleType:
    """The module of that name, or the script at that path."""
    import os

    if place.endswith(".py") or os.sep in place:
        main = sys.modules.get("__main__")
        if main is not None and getattr(main, "__file__", None) and _absolute(str(main.__file__)) == place:
            return main
        return _script(place)
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if main is not None and spec is not None and spec.name == place:
        return main
    import importlib

    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is not None and (place == error.name or place.startswith(error.name + ".")):
            raise FlowNotFound(
                f"there is no module {place!r}: is its directory on PYTHONPATH, or is it a file (…/{place}.py)?"
            ) from error
        raise FlowNotFound(f"{place} can't be imported: {error}") from error
    except Exception as error:
        raise FlowNotFound(f"{place} can't be imported: {type(error).__name__}: {error}") from error


def _script(path: str) -> ModuleType:
    """The script as a module under a private name, run once."""
    name = _PRIVATE + path
    loaded = sys.modules.get(name)
    if loaded is not None:
        return loaded
    import os
    from importlib.util import module_from_spec, spec_from_file_location

    if not os.path.isfile(path):
        raise FlowNotFound(f"there is no file {path}: put it back where it was, or register its flows")
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise FlowNotFound(f"{path} is not a Python file")
    module = module_from_spec(spec)
    folder = os.path.dirname(path)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # a script finds its neighbours
    sys.modules[name] = module
    try:
        # From its source, as Python runs a script: a cached copy is told from it by size and second only, and a
        # deployment can be quicker than that.
        loader: Any = spec.loader
        exec(loader.source_to_code(loader.get_data(path), path), module.__dict__)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, SystemExit):
            raise FlowNotFound(
                f'{path} exits when it is loaded: put what runs under `if __name__ == "__main__":`'
            ) from error
        if isinstance(error, Exception):
            raise FlowNotFound(f"{path} can't be loaded: {type(error).__name__}: {error}") from error
        raise
    return module
