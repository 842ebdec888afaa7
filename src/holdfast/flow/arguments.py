"""What a callable wants: its parameters, read once, and whether a revert or a probe can have what it wants.

Theory: everything is called with keyword arguments. A parameter without a default is required; one named `ctx` gets
the context and requires nothing. `*args` and positional-only parameters can't be given by name, so they are refused;
`**rest` is given nothing but what `bind=` and `inject=` name. A plain function is read from its code object, because
`inspect` costs milliseconds to load and 20 microseconds a function.

Which value a parameter gets: flow/compile.py (`Plan.bindings`). Who calls: runtime/bind.py, runtime/drive.py.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from holdfast.errors import FlowError

if TYPE_CHECKING:
    from holdfast.flow.step import Step

Wants = tuple[tuple[str, bool], ...]  # (parameter, required) …

_VARIADIC: Final = 0x04  # inspect.CO_VARARGS
_REST: Final = 0x08  # inspect.CO_VARKEYWORDS
_GENERATOR: Final = 0x20 | 0x200  # CO_GENERATOR, CO_ASYNC_GENERATOR
_COROUTINE: Final = 0x80  # CO_COROUTINE


class Signature(NamedTuple):
    """`wants` is every parameter in order, `ctx` included; `rest`: there is a `**rest`; `coroutine`: an `async def`."""

    wants: Wants
    rest: bool
    coroutine: bool


_NOTHING: Final = Signature((), False, False)


def signature(function: Callable[..., Any], who: object) -> Signature:
    """What `function` wants. `who` names it in errors, as in "step 'boot'"."""
    plain = function.__func__ if type(function) is MethodType else function
    if type(plain) is not FunctionType or plain.__dict__:
        # Attributes may mean `functools.wraps`, whose wrapper says nothing about the parameters.
        return _inspected(function, who)
    code = plain.__code__
    flags = code.co_flags
    skip = 0 if plain is function else 1
    if flags & (_VARIADIC | _GENERATOR) or code.co_posonlyargcount > skip:
        _refuse(
            who,
            variadic=bool(flags & _VARIADIC),
            generator=bool(flags & _GENERATOR),
        )
    count = code.co_argcount
    names = code.co_varnames
    if count == skip and not code.co_kwonlyargcount:
        if not flags & (_REST | _COROUTINE):
            return _NOTHING
        return Signature((), bool(flags & _REST), bool(flags & _COROUTINE))
    required = count - len(plain.__defaults__ or ())
    wants = [(names[at], at < required) for at in range(skip, count)]
    defaults = plain.__kwdefaults__ or {}
    wants += [(name, name not in defaults) for name in names[count : count + code.co_kwonlyargcount]]
    return Signature(tuple(wants), bool(flags & _REST), bool(flags & _COROUTINE))


def _inspected(function: Callable[..., Any], who: object) -> Signature:
    """The slow way, for partials, callable objects and wrapped functions."""
    import inspect

    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        raise FlowError(
            f"{who}: the parameters of {function!r} can't be read; wrap it in a function of yours"
        ) from error
    called = function if inspect.isroutine(function) or hasattr(function, "func") else type(function).__call__
    kinds = {parameter.kind for parameter in parameters}
    if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        _refuse(who, generator=True)
    if kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY}:
        _refuse(who, variadic=inspect.Parameter.VAR_POSITIONAL in kinds)
    wants = tuple(
        (parameter.name, parameter.default is inspect.Parameter.empty)
        for parameter in parameters
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    )
    return Signature(wants, inspect.Parameter.VAR_KEYWORD in kinds, inspect.iscoroutinefunction(called))


def _refuse(who: object, *, variadic: bool = False, generator: bool = False) -> None:
    if generator:
        raise FlowError(
            f"{who} is a generator, which does nothing when called: return the value instead of yielding it"
        )
    what = "*args" if variadic else "positional-only parameters (/)"
    raise FlowError(f"{who} has {what}: arguments are given by name, so name every parameter")


def check_revert(step: Step, place: str) -> None:
    """Raise FlowError where the revert or the probe of `step` wants what it can't be given."""
    optional = {name for name, required in step.wants if not required and name not in step.inject}
    inputs = {name for name, _required in step.wants}
    provided = _provided(step)
    for name, required in step.revert_wants:
        if not required or name in ("ctx", "result", "failures"):
            continue
        if name in inputs:
            if name in optional:
                raise FlowError(
                    f"the revert of {place} requires {name!r}, which the step may go without: give it a default"
                )
        elif name in provided:
            raise FlowError(
                f"the revert of {place} requires the step's own output {name!r}, but an interrupted step has none: "
                f"give the parameter a default ({name}=None)"
            )
        else:
            raise FlowError(
                f"the revert of {place} wants {name!r}, which is no input and no output of the step: "
                f"a revert gets those, result, failures and ctx"
            )
    for name, required in step.probe_wants:
        if required and name != "ctx" and (name not in inputs or name in optional):
            raise FlowError(f"the probe of {place} requires {name!r}: a probe gets what the step always gets, and ctx")


def _provided(step: Step) -> frozenset[str] | tuple[str, ...]:
    provides = step.provides
    if provides is None:
        return ()
    if isinstance(provides, str):
        return (provides,)
    return provides if isinstance(provides, tuple) else frozenset(provides)
