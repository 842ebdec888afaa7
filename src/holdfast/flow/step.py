"""Steps: a function or a class, and how it is to be run.

Theory: a step is data for the core (core/plan.py, `StepSpec`) and callables for the runtime: `execute`, `undo` (the
revert, or None) and `probing` (the probe, or None). A decorated function is a `FunctionStep`; called directly it is
just the function. A class derives from `Step` and has `execute`, `revert` and `probe` as methods and options as class
attributes; its `__init__` is its own. `with_options` copies a step; nothing of a step changes after it was copied.

How options are checked: flow/options.py. How parameters are read: flow/arguments.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from types import MethodType
from typing import Any, ClassVar, Final, Generic, NamedTuple, ParamSpec, TypeAlias, TypeVar, Unpack, overload

from holdfast.core.retry import Retry
from holdfast.errors import FlowError
from holdfast.flow.arguments import Wants, signature
from holdfast.flow.options import CHECKS, StepOptions, check_agent, check_name

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

_EMPTY: Final[Mapping[str, Any]] = {}


class Again(NamedTuple):
    """Return it from a step, or a revert, to be entered again after `after_s` seconds; it holds no thread meanwhile.
    `checkpoint` is handed back as `ctx.last_checkpoint`."""

    after_s: float
    checkpoint: Any = None


class WaitFor(NamedTuple):
    """Return it from a step, or a revert, to be entered again once `event` is delivered, or after `timeout_s`
    seconds."""

    event: str
    timeout_s: float | None = None


class Done(NamedTuple):
    """A probe's answer: it happened, and this is the result."""

    result: Any = None


class NotDone(NamedTuple):
    """A probe's answer: it did not happen; the step is run again."""


class Unknown(NamedTuple):
    """A probe's answer: nobody can tell. The task rests as `outcome_unknown`, for a person to say."""

    why: str


Probe: TypeAlias = Done | NotDone | Unknown


class Step:
    """The base of steps written as classes; every step is one.

    The class attributes below are a step's options; a subclass, or its `__init__`, sets its own. `execute`, `revert`
    and `probe` are methods whose parameters are bound by name. The name is the class's unless `name` is set.
    """

    __slots__ = ()

    name: str = ""
    provides: str | tuple[str, ...] | frozenset[str] | None = None
    retry: Retry | None = None
    revert_retry: Retry | None = None
    timeout_s: float | None = None
    revert_timeout_s: float | None = None
    grace_s: float | None = None
    on_interrupt: str = "rerun"
    pivot: bool = False
    isolation: str = "thread"
    weight: int = 1
    pool: str | None = None
    agent: str | None = None
    bind: Mapping[str, str] = _EMPTY
    inject: Mapping[str, Any] = _EMPTY

    # What the compiler and the drive read; set by __init_subclass__ from the methods.
    execute: Callable[..., Any]
    wants: Wants = ()  # parameters of execute without ctx
    wants_ctx: bool = False
    revert_wants: Wants = ()  # every parameter, ctx, result and failures included
    probe_wants: Wants = ()
    revert_isolation: str = "thread"
    probe_isolation: str = "thread"
    has_revert: bool = False
    has_probe: bool = False
    makes_child: ClassVar[bool] = False
    _rest: ClassVar[bool] = False
    _declared: ClassVar[str | None] = None

    def __init_subclass__(cls, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        if callable(getattr(cls, "execute", None)):
            _read_class(cls)

    @property
    def undo(self) -> Callable[..., Any] | None:
        """The revert, ready to be called, or None."""
        return getattr(self, "revert", None)

    @property
    def probing(self) -> Callable[..., Any] | None:
        """The probe, ready to be called, or None."""
        return getattr(self, "probe", None)

    def with_options(self, **options: Unpack[StepOptions]) -> Step:
        """Make another step of this one, with other options. `bind` and `inject` take the place of the old ones."""
        import copy

        made = copy.copy(self)
        _set_options(made, options)
        return made

    def __repr__(self) -> str:
        return f"<step {self.name}>"

    def __str__(self) -> str:
        return f"step {self.name!r}"


def _read_class(cls: type[Step]) -> None:
    """Take from a class's methods what its instances are asked for."""
    own = vars(cls)
    who = f"class {cls.__qualname__}"
    if "name" not in own:
        cls.name = cls.__name__
    if "isolation" in own:
        cls._declared = own["isolation"]
    execute = signature(_method(cls, "execute"), f"{who}: execute")
    cls.isolation = _isolation(cls._declared, execute.coroutine, who)
    cls.wants = tuple(want for want in execute.wants if want[0] != "ctx")
    cls.wants_ctx = len(cls.wants) != len(execute.wants)
    cls._rest = execute.rest
    cls.has_revert = callable(getattr(cls, "revert", None))
    if cls.has_revert:
        revert = signature(_method(cls, "revert"), f"{who}: revert")
        cls.revert_wants = revert.wants
        cls.revert_isolation = _beside(cls.isolation, revert.coroutine)
    cls.has_probe = callable(getattr(cls, "probe", None))
    if cls.has_probe:
        probe = signature(_method(cls, "probe"), f"{who}: probe")
        cls.probe_wants = probe.wants
        cls.probe_isolation = _beside(cls.isolation, probe.coroutine)
    for option, check in CHECKS.items():
        if option in own and option != "isolation":
            setattr(cls, option, check(own[option], who))
    if "bind" in own or "inject" in own:
        cls.wants = _extended(cls, who)
    if cls.agent is not None:
        check_agent(cls, who)


def _method(cls: type[Step], name: str) -> Callable[..., Any]:
    """The method as an instance would have it, so that `self` is no parameter."""
    for owner in cls.__mro__:
        if name in vars(owner):
            found = vars(owner)[name]
            if isinstance(found, (staticmethod, classmethod)):
                bound: Callable[..., Any] = found.__get__(None, cls)
                return bound
            return MethodType(found, _EMPTY)
    raise FlowError(f"class {cls.__qualname__} has no {name}")  # unreachable: the caller has looked


def _isolation(asked: str | None, coroutine: bool, who: str) -> str:
    """How the step is run: as asked, or as its function is."""
    if asked not in (None, "thread", "process", "async"):
        raise FlowError(f'{who}: isolation={asked!r} is not one of "thread", "process", "async"')
    if coroutine and asked not in (None, "async"):
        raise FlowError(f"{who} is an async def, which runs on the event loop: leave isolation={asked!r} out")
    if asked == "async" and not coroutine:
        raise FlowError(f'{who}: isolation="async" needs an async def')
    return asked or ("async" if coroutine else "thread")


def _beside(isolation: str, coroutine: bool) -> str:
    """How the revert or probe of a step with that isolation is run."""
    return "async" if coroutine else "thread" if isolation == "async" else isolation


class FunctionStep(Step, Generic[P, R]):
    """A step made of a function. Called directly it is the function."""

    __slots__ = (
        "name", "provides", "retry", "revert_retry", "timeout_s", "revert_timeout_s", "grace_s", "on_interrupt",
        "pivot", "isolation", "weight", "pool", "agent", "bind", "inject", "wants", "wants_ctx", "revert_wants",
        "probe_wants", "revert_isolation", "probe_isolation", "has_revert", "has_probe", "execute", "undo", "probing",
        "_base", "_plan", "_copied",
    )  # fmt: skip

    execute: Callable[P, R]
    undo: Callable[..., Any] | None
    probing: Callable[..., Any] | None

    def __init__(self, function: Callable[P, R], options: StepOptions) -> None:
        self.name = options["name"] if "name" in options else getattr(function, "__name__", "")
        read = signature(function, self)
        wants = read.wants
        self.wants_ctx = False
        for parameter, _required in wants:
            if parameter == "ctx":
                self.wants_ctx = True
                wants = tuple(want for want in wants if want[0] != "ctx")
                break
        self.execute = function
        self.provides = self.retry = self.revert_retry = self.timeout_s = self.revert_timeout_s = self.grace_s = None
        self.on_interrupt = "rerun"
        self.pivot = self.has_revert = self.has_probe = False
        self.isolation = "async" if read.coroutine else "thread"
        self.revert_isolation = self.probe_isolation = "thread"
        self.weight = 1
        self.pool = self.agent = self.undo = self.probing = self._plan = None
        self.bind = self.inject = _EMPTY
        self._base = (wants, read.rest, read.coroutine)
        self.wants = wants
        self.revert_wants = self.probe_wants = ()
        self._copied = False
        if options:
            _set_options(self, options)
        if "name" not in options:
            if not self.name:
                raise FlowError(f"{function!r} has no name of its own: say hf.step(…, name=…)")
            check_name(self.name, self)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.execute(*args, **kwargs)

    @property
    def __wrapped__(self) -> Callable[P, R]:
        return self.execute

    @property
    def __name__(self) -> str:
        return self.name

    @overload
    def revert(self, function: F, /) -> F: ...
    @overload
    def revert(self, /, *, retry: Retry | None = None, timeout_s: float | None = None) -> Callable[[F], F]: ...
    def revert(
        self, function: F | None = None, /, *, retry: Retry | None = None, timeout_s: float | None = None
    ) -> F | Callable[[F], F]:
        """Declare (decorator) what undoes this step. Its parameters may be the step's inputs and outputs (with a
        default), `result`, `failures` and `ctx`. The function itself is returned."""
        self._only_before_copying("revert")

        def declare(undo: F) -> F:
            read = signature(undo, f"the revert of step {self.name!r}")
            self.undo, self.has_revert, self.revert_wants = undo, True, read.wants
            self.revert_isolation = _beside(self.isolation, read.coroutine)
            return undo

        if retry is not None or timeout_s is not None:
            _set_options(self, {"revert_retry": retry, "revert_timeout_s": timeout_s})
        return declare if function is None else declare(function)

    def probe(self, function: F, /) -> F:
        """Declare (decorator) what finds out, after a crash, whether the step's effect happened: it returns
        `Done(result)`, `NotDone()` or `Unknown(why)`. The function itself is returned."""
        self._only_before_copying("probe")
        read = signature(function, f"the probe of step {self.name!r}")
        self.probing, self.has_probe, self.probe_wants = function, True, read.wants
        self.probe_isolation = _beside(self.isolation, read.coroutine)
        return function

    def _only_before_copying(self, what: str) -> None:
        if self._copied:
            raise FlowError(
                f"step {self.name!r} has been copied by with_options, and the copies would lack the {what}: "
                f"declare it right after the step"
            )

    def with_options(self, **options: Unpack[StepOptions]) -> FunctionStep[P, R]:
        """Make another step of this one, with other options. `bind` and `inject` take the place of the old ones."""
        made: FunctionStep[P, R] = _new(FunctionStep)
        (
            made.name, made.provides, made.retry, made.revert_retry, made.timeout_s, made.revert_timeout_s,
            made.grace_s, made.on_interrupt, made.pivot, made.isolation, made.weight, made.pool, made.agent,
            made.bind, made.inject, made.wants, made.wants_ctx, made.revert_wants, made.probe_wants,
            made.revert_isolation, made.probe_isolation, made.has_revert, made.has_probe, made.execute, made.undo,
            made.probing, made._base,
        ) = _shared(self)  # fmt: skip
        made._plan = None
        made._copied = False
        self._copied = True
        _set_options(made, options)
        return made


_new: Final = object.__new__
_shared: Final = attrgetter(*FunctionStep.__slots__[:-2])


def _set_options(step: Any, options: Mapping[str, Any]) -> None:
    """Check the options and set them; `bind`, `inject` and `isolation` last, as they are checked against the
    signature."""
    for option, value in options.items():
        check = CHECKS.get(option)
        if check is None:
            raise FlowError(f"{step} takes no option {option!r}: it takes {', '.join(CHECKS)}")
        setattr(step, option, check(value, step))
    if "isolation" in options:
        coroutine = step._base[2] if isinstance(step, FunctionStep) else type(step).isolation == "async"
        step.isolation = _isolation(options["isolation"], coroutine, str(step))
        if step.revert_isolation != "async":
            step.revert_isolation = _beside(step.isolation, False)
        if step.probe_isolation != "async":
            step.probe_isolation = _beside(step.isolation, False)
    if "bind" in options or "inject" in options:
        step.wants = _extended(step, str(step))
    if step.agent is not None:
        check_agent(step, str(step))


def _extended(step: Step | type[Step], who: str) -> Wants:
    """The step's parameters with what `bind` and `inject` add by way of `**rest`."""
    wants, rest = step._base[:2] if isinstance(step, FunctionStep) else _class_base(step)
    known = {name for name, _required in wants}
    both = step.bind.keys() & step.inject.keys()
    if both:
        raise FlowError(f"{who}: {sorted(both)} is both bound and injected; choose one")
    added = [name for name in (*step.bind, *step.inject) if name not in known]
    if added and (not rest or "ctx" in added):
        names = ", ".join(sorted(known)) or "none"
        raise FlowError(f"{who} has no parameter {added[0]!r} to bind or inject; its parameters are: {names}")
    return (*wants, *((name, True) for name in added))


def check_step(step: Step) -> None:
    """Check what the `__init__` of a class step set, which nobody has looked at yet. Done when a flow is compiled."""
    if isinstance(step, FunctionStep):
        return
    who = f"class {type(step).__qualname__}"
    if not hasattr(step, "execute"):
        raise FlowError(f"{who} has no execute: give it that method")
    own = getattr(step, "__dict__", _EMPTY)
    options = {option: own[option] for option in CHECKS if option in own}
    if options:
        _set_options(step, options)


def _class_base(step: Step | type[Step]) -> tuple[Wants, bool]:
    cls = step if isinstance(step, type) else type(step)
    read = signature(_method(cls, "execute"), f"class {cls.__qualname__}: execute")
    return tuple(want for want in read.wants if want[0] != "ctx"), read.rest


@overload
def step(function: FunctionStep[P, R], /, **options: Unpack[StepOptions]) -> FunctionStep[P, R]: ...
@overload
def step(function: Callable[P, R], /, **options: Unpack[StepOptions]) -> FunctionStep[P, R]: ...
@overload
def step(**options: Unpack[StepOptions]) -> Callable[[Callable[P, R]], FunctionStep[P, R]]: ...
def step(function: Any = None, /, **options: Unpack[StepOptions]) -> Any:
    """Make a step of a function: `@hf.step`, `@hf.step(provides="port_id")` or `hf.step(function, name="boot")`.

    provides: the name of what it returns; a tuple of names for the parts of a tuple; a set for keys of a dict.
    name: its name in a flow; the function's unless said.
    retry, timeout_s, grace_s: tries, the seconds one may take, and how long a stopped one may take to leave.
    on_interrupt: after a crash in the middle of it: "rerun" | "undo" | "suspend" (at most once).
    pivot: the point of no return. weight: its share of the progress. pool: which workers may run its task.
    agent: not the worker runs it but an agent of that pool (`holdfast agent --pool`); "hv-{host}": of the one that its
    parameter host names. isolation: "thread" | "process"; an `async def` always runs on the event loop.
    bind: {parameter: name} takes a value from another name; inject: {parameter: value} fixes it.
    """
    if function is None:
        return lambda decorated: step(decorated, **options)
    if isinstance(function, Step):
        return function.with_options(**options)
    if not callable(function) or isinstance(function, type):
        hint = "derive it from hf.Step and use an instance" if isinstance(function, type) else "give it a function"
        raise FlowError(f"{function!r} can't be a step: {hint}")
    return FunctionStep(function, options)
