"""Several mechanisms that apply one resource together: what they check before a change is accepted, and the graph in
which they apply it afterwards.

Theory: `precommit` runs in the transaction of the admission: if any mechanism objects, nothing of the change is stored
and nobody applies anything. `postcommit` is a step of the task; the steps make a graph, so independent mechanisms work
side by side and the task's graph shows who waited for whom. What the failure of one means is its own policy. `fail`:
those that are not done yet don't begin. `isolate`: the others do their part; then the task fails all the same, in a
step of the mechanism's name behind the graph, because the resource is not as desired.

How an operation gets its flow: kind.py.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from holdfast.core.retry import Retry
from holdfast.errors import KindError, MechanismFailed
from holdfast.flow.options import check_name
from holdfast.flow.patterns import Flow, graph, linear, unordered
from holdfast.flow.step import FunctionStep, step
from holdfast.resources.kind import Change

ISOLATE: Final = "isolate"
FAIL: Final = "fail"


class Mechanism(NamedTuple):
    """One of them. `postcommit` is a function that asks by name for what a step of an operation can ask for.

    `precommit` raises to refuse the change. `after`: the names of mechanisms that have to be done before. `undo`: what
    takes back what `postcommit` did, where the flow is to be undone."""

    name: str
    postcommit: Callable[..., Any]
    precommit: Callable[[Change], None] | None = None
    policy: str = ISOLATE
    after: tuple[str, ...] = ()
    retry: Retry | None = None
    timeout_s: float | None = None
    undo: Callable[..., Any] | None = None


class Mechanisms:
    """Mechanisms that work together on one kind. Raises: KindError."""

    def __init__(self, *mechanisms: Mechanism) -> None:
        self.all: Mapping[str, Mechanism] = {each.name: each for each in mechanisms}
        if len(self.all) != len(mechanisms):
            raise KindError("two mechanisms have one name")
        for each in mechanisms:
            check_name(each.name, f"mechanism {each.name!r}")
            if each.policy not in (ISOLATE, FAIL):
                raise KindError(f'mechanism {each.name}: policy={each.policy!r} is not one of "isolate", "fail"')
            if each.policy == ISOLATE and each.retry is not None and each.retry.attempts is None:
                raise KindError(f"mechanism {each.name} is isolated: its retry needs attempts=")
            for name in each.after:
                if name not in self.all:
                    raise KindError(f"mechanism {each.name} comes after {name!r}, which is none of them")
        self.order = _ordered(mechanisms)

    def check(self, change: Change) -> None:
        """For `Kind.precommit`: let each look at a change of what is desired, in their order."""
        if change.kind.get(change.operation).desires:
            for name in self.order:
                precommit = self.all[name].precommit
                if precommit is not None:
                    precommit(change)

    def flow(self, name: str = "mechanisms", *, on_failure: str | None = None) -> Flow:
        """The flow of an operation that applies the resource.

        on_failure: what was done is kept unless this says "revert", which no mechanism with the policy `isolate` can
        be part of: its failure would undo what the others did.
        """
        isolated = [each for each in self.all.values() if each.policy == ISOLATE]
        if on_failure == "revert" and isolated:
            raise KindError(f"flow {name}: {isolated[0].name} is isolated, so its failure can't undo the others' part")
        members = {each.name: _step(each) for each in self.all.values()}
        work = graph("postcommit", *members.values())
        for each in self.all.values():
            for before in each.after:
                work.link(members[before], members[each.name])
        parts: list[Flow] = [work]
        if isolated:
            parts.append(unordered("verdict", *(_verdict(each) for each in isolated)))
        return linear(name, *parts, on_failure=on_failure or "keep")


def _ordered(mechanisms: Sequence[Mechanism]) -> list[str]:
    """Their names, each behind those it comes after, else as they were given."""
    order: list[str] = []
    left = list(mechanisms)
    while left:
        ready = next((each for each in left if all(name in order for name in each.after)), None)
        if ready is None:
            raise KindError(f"the mechanisms {', '.join(each.name for each in left)} wait for each other")
        order.append(ready.name)
        left.remove(ready)
    return order


def _step(mechanism: Mechanism) -> FunctionStep[Any, Any]:
    given: dict[str, Any] = {"name": mechanism.name}
    if mechanism.retry is not None:
        given["retry"] = mechanism.retry
    if mechanism.timeout_s is not None:
        given["timeout_s"] = mechanism.timeout_s
    if mechanism.policy == ISOLATE:
        made = step(_isolated(mechanism), provides=_outcome(mechanism), **given)
    else:
        made = step(mechanism.postcommit, **given)
    if mechanism.undo is not None:
        made.revert(mechanism.undo)
    return made


def _outcome(mechanism: Mechanism) -> str:
    return f"outcome_of_{mechanism.name}"


def _isolated(mechanism: Mechanism) -> Callable[..., Any]:
    """The function, which hands its failure on instead of failing, once it is not to be tried again."""
    function = mechanism.postcommit
    parameters = list(inspect.signature(function).parameters.values())
    wants_ctx = any(parameter.name == "ctx" for parameter in parameters)
    tries = (mechanism.retry.attempts if mechanism.retry is not None else None) or 1

    def failed(error: Exception, ctx: Any) -> str:
        if ctx.attempt < tries:
            raise error
        return f"{type(error).__name__}: {error}"

    def call(**given: Any) -> str | None:
        ctx = given["ctx"] if wants_ctx else given.pop("ctx")
        try:
            function(**given)
        except Exception as error:
            return failed(error, ctx)
        return None

    async def call_async(**given: Any) -> str | None:
        ctx = given["ctx"] if wants_ctx else given.pop("ctx")
        try:
            await function(**given)
        except Exception as error:
            return failed(error, ctx)
        return None

    made: Any = call_async if inspect.iscoroutinefunction(function) else call
    if not wants_ctx:
        parameters.append(inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY))
    made.__signature__ = inspect.Signature(sorted(parameters, key=lambda parameter: parameter.kind))
    made.__name__ = mechanism.name
    return made  # type: ignore[no-any-return]


def _verdict(mechanism: Mechanism) -> FunctionStep[Any, Any]:
    def verdict(outcome: str | None) -> None:
        if outcome is not None:
            raise MechanismFailed(f"{mechanism.name} failed: {outcome}")

    return step(verdict, name=mechanism.name, bind={"outcome": _outcome(mechanism)}, weight=0)
