"""Flows of any size and depth compile, and every plan holds together."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.plan import CLOSE, MAP, OPEN, FromRow, Plan
from holdfast.core.retry import Retry
from holdfast.errors import AmbiguousInput, Cycle
from holdfast.flow.compile import compile, digest
from holdfast.flow.patterns import Flow, graph, linear, unordered
from holdfast.flow.patterns import map as map_
from holdfast.flow.step import Step, step


def nothing() -> None:
    """A step that does nothing."""


def takes(x: Any) -> Any:
    return x


STEP = step(nothing)
TAKES = step(takes)


def test_a_hundred_thousand_steps() -> None:
    steps = [STEP.with_options(name=f"s{number}") for number in range(100_000)]
    plan = compile(linear("l", *steps))
    assert len(plan) == 100_000
    assert plan.succ[:2] == [(1,), (2,)]
    assert (plan.succ[-1], sum(plan.need), plan.ids[-1]) == ((), 99_999, "l/s99999")
    wide = compile(linear("f", unordered("u", *steps), STEP))
    assert (wide.need[100_001], len(wide.succ[0])) == (100_000, 100_000)


def test_a_thousand_barriers() -> None:
    steps = [STEP.with_options(name=f"s{number}") for number in range(10)]
    plan = compile(linear("f", *(unordered(f"u{number}", *steps) for number in range(1000))))
    assert len(plan) == 12_000
    assert sum(map(len, plan.succ)) == 1000 * 20 + 999


def test_a_random_graph_of_ten_thousand_steps_with_data() -> None:
    chance = random.Random(7)
    steps = [
        TAKES.with_options(name=f"s{n}", provides=f"n{n}", bind={"x": f"n{chance.randrange(n)}" if n else "start"})
        for n in range(10_000)
    ]
    chance.shuffle(steps)
    plan = compile(graph("g", *steps))
    assert sum(plan.need) == 9_999
    check(plan)


@pytest.mark.parametrize("pattern", [linear, unordered, graph])
def test_nesting_five_thousand_deep(pattern: Any) -> None:
    flow: Flow | Step = TAKES
    for depth in range(5_000):
        flow = pattern(f"d{depth}", flow, STEP) if depth % 100 == 0 else pattern("d", flow)
    plan = compile(flow)
    assert plan.kind.count(0) == 51
    assert plan.inputs == {"x": (True, plan.ids[next(row for row in range(len(plan)) if plan.bindings[row])])}
    assert len(digest(plan)) == 64


def test_maps_three_thousand_deep() -> None:
    flow: Flow | Step = TAKES
    for depth in range(3_000):
        flow = map_("m", flow, over=f"list{depth + 1}", item=f"list{depth}" if depth else "x")
    plan = compile(flow)
    assert plan.inputs == {"list3000": (True, "m")}
    assert len(digest(plan)) == 64


NAMES = st.sampled_from("abcd")


@st.composite
def flows(draw: st.DrawFn, depth: int = 3, patterns: tuple[Any, ...] = (linear, unordered, graph, map_)) -> Any:
    """Flows of these patterns, in which any two may provide and require the same few names."""
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        made = TAKES.with_options(bind={"x": draw(NAMES)}) if draw(st.booleans()) else STEP
        return made.with_options(provides=draw(st.none() | NAMES))
    kind: Any = draw(st.sampled_from(patterns))
    retry: Any = draw(st.sampled_from([None, None, Retry(attempts=2), Retry(over="a", item="b")]))
    if kind is map_:
        return map_("m", draw(flows(depth - 1, patterns)), over=draw(NAMES), item=draw(NAMES), retry=retry)
    children = draw(st.lists(flows(depth - 1, patterns), max_size=4))
    named: list[Any] = [renamed(child, f"{child.name}{at}") for at, child in enumerate(children)]
    flow: Any = kind("f", *named, retry=retry)
    if kind is graph and len(named) > 1:
        for target in range(1, len(named)):
            if draw(st.booleans()):
                source = draw(st.integers(0, target - 1))
                flow.link(named[source], named[target], when=draw(st.sampled_from([None, nothing])))
    return flow


def renamed(child: Flow | Step, name: str) -> Flow | Step:
    if isinstance(child, Step):
        return child.with_options(name=name)
    child.name = name
    return child


@given(flows())
def test_every_plan_holds_together(flow: Flow | Step) -> None:
    try:
        plan = compile(flow)
    except (AmbiguousInput, Cycle):
        return  # names may well clash; then the flow is refused, not compiled
    check(plan)


def check(plan: Plan) -> None:
    """The columns fit each other, the rows have an order, scopes are ranges, and data comes from before."""
    size = len(plan)
    columns = (plan.kind, plan.succ, plan.need, plan.steps, plan.bindings, plan.scope, plan.weight)
    assert {len(column) for column in columns} == {size}
    assert len(set(plan.ids)) == size
    into = Counter(target for targets in plan.succ for target in targets)
    assert plan.need == [into[row] for row in range(size)]
    assert all(len(set(targets)) == len(targets) for targets in plan.succ)
    above: list[set[int]] = [set() for _ in range(size)] if size < 1000 else []
    need = plan.need.copy()
    ready = [row for row in range(size) if not need[row]]
    for row in ready:
        for target in plan.succ[row]:
            need[target] -= 1
            if above:
                above[target] |= above[row] | {row}
            if not need[target]:
                ready.append(target)
    assert len(ready) == size
    opens = [scope.open_row for scope in plan.scopes if scope.open_row >= 0]
    assert sorted(opens) == [row for row in range(size) if plan.kind[row] == OPEN]
    for number, scope in enumerate(plan.scopes):
        assert scope.parent < number
        assert 0 <= scope.first < scope.end <= size
        if scope.open_row >= 0:
            assert (scope.open_row, scope.close_row) == (scope.first, scope.end - 1)
            assert plan.kind[scope.close_row] == CLOSE
            assert all(row in above[scope.close_row] for row in range(scope.first, scope.end - 1) if above)
    for row in range(size):
        scope = plan.scopes[plan.scope[row]]
        assert scope.first <= row < scope.end
        assert (
            not any(
                inner.first <= row < inner.end and inner.end - inner.first < scope.end - scope.first
                for inner in plan.scopes
            )
            or size > 1000
        )
        for one in plan.bindings[row]:
            if above and isinstance(one.source, FromRow) and one.source.up == 0:
                assert one.source.row in above[row]
        assert plan.links.get(row, frozenset()) <= set(plan.succ[row])
    assert Counter(target for targets in plan.links.values() for target in targets) == plan.link_count
    for row, spec in plan.maps.items():
        assert plan.kind[row] == MAP
        assert plan.succ[row] == (spec.close_row,)
        check(spec.template)
