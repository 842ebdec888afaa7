"""Steps that make a task of their own, a child, and wait for its end: `child`.

Theory: a child step is entered when it begins and when its child has ended; in between it is parked and holds no
thread. Each entry asks the desk for the child of this try, and the desk makes it only if there is none; so a crash
between the making and the recording makes no second one. Its revert has whatever the step's tries have made stopped and
undone, and waits for that in the same way. All it needs of the house is the desk, which it finds where it runs.

The desk: worker/desk.py. What becomes of children when their parent is told something: tasks/control.py. Children that
are operations on resources: resources/child.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypedDict, Unpack

from holdfast.core.plan import steps_of
from holdfast.core.retry import Retry
from holdfast.errors import FlowError, UsageError
from holdfast.flow.arguments import Wants, signature
from holdfast.flow.compile import as_flow, compile
from holdfast.flow.options import CHECKS, check_name
from holdfast.flow.registry import Flows, reference_of
from holdfast.flow.step import Again, Step, WaitFor

if TYPE_CHECKING:
    from holdfast.flow.patterns import Child as Runnable

LOOK_S: Final = 0.05  # how soon a step looks again whether it is asked to stop, when it may make nothing any more

Claims = Iterable[str | tuple[str, str]]


class Made(NamedTuple):
    """Where a child stands. `event`: its end will be delivered by this name; None: it has SUCCEEDED."""

    event: str | None
    results: dict[str, Any]


class Desk(Protocol):
    """What a child step asks of the house. Each call is one transaction, and blocks."""

    def make(self, ask: Callable[[Any], Any], key: str, attempt: int) -> Made | None:
        """The child of this try of the step, made if there is none. None: none may be made any more, because the
        parent is about to stop. Raises what admission raises, and a failure for a child that ended otherwise than
        well."""

    def undo(self, key: str, told: Any) -> str | None:
        """Stop and undo what the step's tries have made: the event to wait for, '' to look again soon, or None: all
        is undone. `told` came with the last event. Raises a failure where that can't be done."""

    def order(self, flow: Any, inputs: dict[str, Any], **options: Any) -> Any:
        """How to admit a task of a flow."""


class ChildOptions(TypedDict, total=False):
    """What a child step takes of a step's options."""

    retry: Retry | None
    revert_retry: Retry | None
    timeout_s: float | None
    weight: int


class ChildStep(Step):
    """A step whose work is a task of its own. `ask(desk, given)` says how the desk is to admit it."""

    __slots__ = (
        "ask", "bind", "flow", "inject", "name", "provides", "retry", "revert_retry", "timeout_s", "wants", "weight",
    )  # fmt: skip

    makes_child = True
    isolation = "async"
    revert_isolation = "async"
    wants_ctx = True
    has_revert = True
    revert_wants = (("ctx", True),)

    def __init__(
        self,
        name: str,
        ask: Callable[[Any, dict[str, Any]], Any],
        wants: Wants,
        *,
        provides: Any = None,
        bind: Mapping[str, str] | None = None,
        inject: Mapping[str, Any] | None = None,
        flow: Any = None,
        **options: Unpack[ChildOptions],
    ) -> None:
        self.name = check_name(name, f"child {name!r}")
        self.ask = ask
        self.flow = flow  # where it is known beforehand
        self.wants = wants
        self.provides = self.retry = self.revert_retry = self.timeout_s = None
        self.weight = 1
        self.bind = self.inject = {}
        self._set({"provides": provides, "bind": bind or {}, "inject": inject or {}, **options})

    def _set(self, options: Mapping[str, Any]) -> None:
        for option, value in options.items():
            if option not in _OPTIONS:
                raise FlowError(f"{self} takes no option {option!r}: it takes {', '.join(_OPTIONS)}")
            setattr(self, option, CHECKS[option](value, self))
        names = {name for name, _ in self.wants}
        for parameter in (*self.bind, *self.inject):
            if parameter not in names:
                raise FlowError(f"{self} has no input {parameter!r}: it takes {', '.join(sorted(names)) or 'none'}")

    def with_options(self, **options: Any) -> ChildStep:
        """Make another step of this one, with other options. `bind` and `inject` take the place of the old ones."""
        import copy

        made = copy.copy(self)
        made._set(options)
        return made

    @property
    def execute(self) -> Callable[..., Any]:  # type: ignore[override]
        return self._run

    async def _run(self, ctx: Any, **given: Any) -> Any:
        from asyncio import to_thread

        desk = _desk(ctx)
        while (
            made := await to_thread(desk.make, lambda at: self.ask(at, given), ctx.forward_key, ctx.attempt)
        ) is None:
            await ctx.sleep(LOOK_S)  # until it is told why
        return self._result(made.results) if made.event is None else WaitFor(made.event)

    def _result(self, results: dict[str, Any]) -> Any:
        provides = self.provides
        if provides is None or isinstance(provides, str):
            return None if provides is None else results
        missing = sorted(name for name in provides if name not in results)
        if missing:
            raise UsageError(f"{self} provides {', '.join(missing)}, which its child task did not: say other names")
        if isinstance(provides, tuple):
            return tuple(results[name] for name in provides)
        return {name: results[name] for name in provides}

    async def revert(self, ctx: Any) -> Any:
        """Stop and undo the child."""
        from asyncio import to_thread

        left = await to_thread(_desk(ctx).undo, ctx.forward_key, ctx.event)
        if left is None:
            return None
        return WaitFor(left) if left else Again(1.0)


_OPTIONS: Final = ("name", "provides", "bind", "inject", "retry", "revert_retry", "timeout_s", "weight")


def child(
    name: str,
    flow: Runnable,
    /,
    *,
    provides: str | tuple[str, ...] | set[str] | frozenset[str] | None = None,
    bind: Mapping[str, str] | None = None,
    inject: Mapping[str, Any] | None = None,
    claims: Claims | Callable[..., Claims] = (),
    priority: int | None = None,
    pool: str | None = None,
    **options: Unpack[ChildOptions],
) -> ChildStep:
    """A step that makes a task of `flow`, waits for its end, and fails if that isn't SUCCEEDED.

    The inputs of the flow are bound by name as a step's parameters are; bind, inject: as in `hf.step`.
    provides: one name for all that the child's steps provided, as a dict; or some of their names, as a set or a tuple.
    claims: what the child needs beyond what its root holds; granted at once or refused, so let the root claim it.
    A function that returns claims is bound by name.
    priority, pool: the parent's unless said. weight: that of the child's steps unless said.
    A task with children needs a database: `hf.run` refuses it.
    """
    runnable = as_flow(flow)
    plan = compile(runnable)
    wants = tuple((parameter, required) for parameter, (required, _) in plan.inputs.items())
    asked: tuple[str, ...] = ()
    if callable(claims):
        more = signature(claims, f"child {name!r}: claims").wants
        asked = tuple(parameter for parameter, _ in more)
        wants += tuple(want for want in more if want[0] not in plan.inputs)
    options.setdefault("weight", sum(plan.weight) or 1)
    made = ChildStep(
        name,
        _asking(runnable, claims, asked, priority, pool),
        wants,
        provides=provides,
        bind=bind,
        inject=inject,
        flow=runnable,
        **options,
    )
    known = {output for output, _, _ in plan.outputs}
    if provides is not None and not isinstance(provides, str) and (missing := sorted(set(provides) - known)):
        raise FlowError(f"{made} provides {', '.join(missing)}, which no step of {plan.name} provides")
    return made


def check_references(flow: Runnable, flows: Flows) -> None:
    """Raise FlowNotFound where the flow of a child could not be found again: said when the parent is asked for."""
    plans = [compile(flow)]
    for plan in plans:
        for step in steps_of(plan) if plan.parental else ():
            if step.makes_child and step.flow is not None:
                reference_of(step.flow, flows)
                plans.append(compile(step.flow))


def _asking(
    flow: Any, claims: Claims | Callable[..., Claims], asked: tuple[str, ...], priority: int | None, pool: str | None
) -> Callable[[Any, dict[str, Any]], Any]:
    """Asks the desk for a task of `flow`. `asked`: the parameters of `claims`, where that is a function."""

    def ask(desk: Desk, given: dict[str, Any]) -> Any:
        wanted = claims(**{name: given[name] for name in asked if name in given}) if callable(claims) else claims
        inputs = {name: given[name] for name in compile(flow).inputs if name in given}
        return desk.order(flow, inputs, claims=tuple(wanted), priority=priority, pool=pool)

    return ask


def _desk(ctx: Any) -> Desk:
    desk: Desk | None = getattr(ctx._call.host, "desk", None)
    if desk is None:
        raise UsageError(NEEDS_DATABASE.format(ctx.step_id))
    return desk


NEEDS_DATABASE: Final = "{} makes a child task, which needs a database: submit the flow with hf.open(…)"
