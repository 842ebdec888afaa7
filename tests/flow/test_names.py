"""What names mean, against a model that is slow and plain: it copies the dict of names wherever flows part."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from holdfast.core.plan import MAP, FromInput, FromItem, FromRow, FromTry, Plan
from holdfast.errors import AmbiguousInput
from holdfast.flow.compile import compile
from holdfast.flow.patterns import LINEAR, UNORDERED, Flow, Map, linear, unordered
from holdfast.flow.patterns import map as map_
from holdfast.flow.step import Step
from tests.flow.test_size import flows

Meanings = dict[str, Any]  # name -> who provides it, in words
AMBIGUOUS = "ambiguous"


class Model:
    """Who provides what to each step, by the rules of DESIGN.md §5, for flows without graphs."""

    def __init__(self, flow: Flow | Step) -> None:
        self.found: dict[str, list[str]] = {}
        self.walk(flow, {}, "")

    def ask(self, row_id: str, name: str, meanings: Meanings) -> None:
        meaning = meanings.get(name) or "input"
        if meaning == AMBIGUOUS:
            raise AmbiguousInput
        self.found.setdefault(row_id, []).append(f"{name}: {meaning}")

    def walk(self, flow: Flow | Step, meanings: Meanings, before: str) -> Meanings:
        """The meanings after the flow."""
        path = before + flow.name
        if isinstance(flow, Step):
            for parameter, _required in flow.wants:
                self.ask(path, flow.bind.get(parameter, parameter), meanings)
            return {**meanings, flow.provides: path} if isinstance(flow.provides, str) else meanings
        after = meanings
        retry = flow.retry
        if retry is not None and retry.item is not None:
            self.ask(f"{path}/(open)", str(retry.over), meanings)
            after = {**meanings, retry.item: f"try of {path}"}
        if isinstance(flow, Map):
            self.ask(path, str(flow.over), after)
            self.walk(flow.body, {**after, flow.item: f"item of {path}"}, f"{path}[]/")
        elif flow.pattern == UNORDERED:
            after = self.part(flow, after, f"{path}/")
        else:
            assert flow.pattern == LINEAR
            for child in flow.children:
                after = self.walk(child, after, f"{path}/")
        if retry is not None and retry.item is not None and after.get(retry.item) == f"try of {path}":
            after = {**after, retry.item: meanings.get(retry.item)}
        return after

    def part(self, flow: Flow, meanings: Meanings, before: str) -> Meanings:
        given: Meanings = {}
        for child in flow.children:
            after = self.walk(child, meanings, before)
            for name, meaning in after.items():
                if meaning is not None and meaning != meanings.get(name):
                    given[name] = AMBIGUOUS if name in given else meaning
        return {**meanings, **given}


def read(plan: Plan) -> dict[str, list[str]]:
    """The same from a plan."""
    found: dict[str, list[str]] = {}
    stack: list[tuple[tuple[Plan, ...], tuple[str, ...]]] = [((plan,), ("",))]
    while stack:
        plans, before = stack.pop()
        for row, row_id in enumerate(plans[-1].ids):
            for one in plans[-1].bindings[row]:
                name, meaning = words(one.source, plans, before)
                found.setdefault(before[-1] + row_id, []).append(f"{name}{meaning}")
            if plans[-1].kind[row] == MAP:
                stack.append(((*plans, plans[-1].maps[row].template), (*before, f"{before[-1]}{row_id}[]/")))
    return found


def words(source: Any, plans: tuple[Plan, ...], before: tuple[str, ...]) -> tuple[str, str]:
    if isinstance(source, FromInput):
        return f"{source.name}: ", "input"
    if isinstance(source, FromItem):
        return "", f"item of {before[-1 - source.up].removesuffix('[]/')}"
    plan, prefix = plans[-1 - source.up], before[-1 - source.up]
    if isinstance(source, FromTry):
        return "", f"try of {prefix}{plan.scopes[source.scope].path}"
    assert isinstance(source, FromRow)
    return "", f"{prefix}{plan.ids[source.row]}"


def nameless(found: dict[str, list[str]]) -> dict[str, list[str]]:
    """Only who provides; the plan does not keep by which name, but for inputs."""
    return {
        row: [one if one.endswith(": input") else one.rpartition(": ")[2] for one in ones]
        for row, ones in found.items()
    }


@settings(max_examples=300)
@given(flows(4, (linear, unordered, map_)))
def test_names_mean_what_the_model_says(flow: Flow | Step) -> None:
    try:
        model = Model(flow)
    except AmbiguousInput:
        with pytest.raises(AmbiguousInput):
            compile(flow)
        return
    assert nameless(read(compile(flow))) == nameless(model.found)
