"""What an upgrade may change under a task that has begun, and what it may not (G9)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from holdfast.core.retry import Retry
from holdfast.flow.compile import changed, compile, digest, outline
from holdfast.flow.patterns import Flow, graph, linear, unordered
from holdfast.flow.patterns import map as map_
from holdfast.flow.step import Step, step


def nothing() -> None:
    """A step that does nothing."""


def takes(x: Any) -> Any:
    return x


def plain(name: str, provides: str | None = None) -> Step:
    return step(nothing, name=name, provides=provides)


def wants(name: str, x: str = "x") -> Step:
    return step(takes, name=name, bind={"x": x})


A, B, C, D = plain("a", "x"), plain("b"), wants("c"), plain("d")


def test_an_outline_is_canonical_json_without_code_retry_or_options() -> None:
    one = compile(linear("f", A, C))
    assert json.loads(outline(one)) == [
        [["f/a", "step", [], [], -1], ["f/c", "step", [["x", ["row", 0, 0, None], True]], [0], -1]]
    ]
    other = linear("f", A.with_options(retry=Retry(attempts=5), timeout_s=3), C, version="2", on_failure="keep")
    assert outline(compile(other)) == outline(one)
    assert digest(compile(other)) == digest(one) == one.digest
    assert digest(compile(linear("f", A, C, D))) != digest(one)


def test_injected_values_count_and_live_objects_by_their_type() -> None:
    def make(value: object) -> str:
        return digest(compile(step(takes, inject={"x": value})))

    assert make(1) != make(2)
    assert make(object()) == make(object())
    assert make(object()) != make(nothing)


def test_maps_are_tables_of_their_own_and_count_in_the_digest() -> None:
    def flow(*steps: Step) -> Flow:
        return linear("f", A, map_("m", linear("b", *steps), over="xs", item="i"))

    tables = json.loads(outline(compile(flow(C, wants("e", "i")))))
    assert [row[0] for row in tables[1]] == ["b/c", "b/e"]
    assert tables[1][0][2] == [["x", ["row", 1, 0, None], True]]
    assert tables[1][1][2] == [["x", ["item", 0], True]]
    assert tables[0][1] == ["f/m", "map", [["over", ["input", "xs"], True]], [0], 1]
    assert digest(compile(flow(C))) != digest(compile(flow(C, D)))


MAP = map_("m", linear("b", B, D), over="xs", item="i")
SAME: list[tuple[str, Flow, list[str], Flow]] = [
    ("a step after all that has begun", linear("f", A, B), ["f/a", "f/b"], linear("f", A, B, C)),
    ("another step in the place of one that has not begun", linear("f", A, B, C), ["f/a"], linear("f", A, D, C)),
    (
        "a step before a barrier nobody has reached",
        linear("f", A, unordered("u", B, D)),
        ["f/a"],
        linear("f", A, C, unordered("u", B, D)),
    ),
    ("a new sibling", linear("f", A, unordered("u", B, D)), ["f/a", "f/u/b"], linear("f", A, unordered("u", B, D, C))),
    (
        "a first sibling, which makes OPEN and CLOSE",
        linear("f", A, unordered("u", B), D),
        ["f/a", "f/u/b"],
        linear("f", A, unordered("u", B, C), D),
    ),
    ("a retry around it all", linear("f", A, B), ["f/a", "f/b"], linear("f", A, B, retry=Retry(attempts=2))),
    (
        "a step behind what is tried with each value of a list",
        linear("f", linear("in", B, retry=Retry(over="xs", item="x"))),
        ["f/in/(open)", "f/in/b"],
        linear("f", linear("in", B, retry=Retry(over="xs", item="x")), D),
    ),
    ("the order of steps that don't wait for each other", unordered("f", A, B), ["f/a", "f/b"], unordered("f", B, A)),
    (
        "a step behind in an element",
        linear("f", MAP),
        ["f/m", "f/m[1]/b/b"],
        linear("f", map_("m", linear("b", B, C), over="xs", item="i")),
    ),
]


@pytest.mark.requirement("G9", "TF-5")
@pytest.mark.parametrize(("what", "old", "recorded", "new"), SAME, ids=[case[0] for case in SAME])
def test_a_begun_task_goes_on_after(what: str, old: Flow, recorded: list[str], new: Flow) -> None:
    assert digest(compile(old)) != digest(compile(new)) or "retry" not in what
    assert changed(recorded, outline(compile(old)), compile(new)) == []


OTHER: list[tuple[str, Flow, list[str], Flow, str]] = [
    ("gone", linear("f", A, B), ["f/a", "f/b"], linear("f", A), "f/b has begun and is no longer in the flow"),
    (
        "moved",
        linear("f", A, B),
        ["f/b"],
        linear("f", A, linear("in", B)),
        "f/b has begun and is no longer in the flow",
    ),
    (
        "a step between",
        linear("f", A, B),
        ["f/a", "f/b"],
        linear("f", A, D, B),
        "f/b no longer comes right after the same steps: f/a then, none now",
    ),
    (
        "swapped",
        linear("f", A, B),
        ["f/a", "f/b"],
        linear("f", B, A),
        "f/a no longer comes right after the same steps: none then, f/b now",
    ),
    (
        "other data",
        linear("f", A, C),
        ["f/a", "f/c"],
        linear("f", A, wants("c", "y")),
        "f/c takes its arguments from elsewhere: x",
    ),
    (
        "another provider",
        linear("f", A, B, C),
        ["f/a", "f/b", "f/c"],
        linear("f", A, B.with_options(provides="x"), C),
        "f/c takes its arguments from elsewhere: x",
    ),
    (
        "a map no more",
        linear("f", map_("m", C, over="xs", item="x")),
        ["f/m"],
        linear("f", plain("m")),
        "f/m was a map and is a step now",
    ),
    (
        "another list",
        linear("f", map_("m", C, over="xs", item="x")),
        ["f/m"],
        linear("f", map_("m", C, over="ys", item="x")),
        "f/m takes its arguments from elsewhere: over",
    ),
    (
        "an element's step",
        linear("f", map_("m", linear("b", B, D), over="xs", item="i")),
        ["f/m[3]/b/b", "f/m[3]/b/d"],
        linear("f", map_("m", linear("b", B, C, D), over="xs", item="i")),
        "f/m/b/d no longer comes right after the same steps: f/m/b/b then, none now",
    ),
    (
        "one joins what comes before",
        linear("f", unordered("u", A, B, D), wants("e", "z")),
        ["f/u/a", "f/u/b", "f/e"],
        linear("f", A, unordered("u", B, D), wants("e", "z")),
        "f/u/a has begun and is no longer in the flow",
    ),
    (
        "a list of values to try",
        linear("f", A, linear("in", B, D)),
        ["f/a", "f/in/b"],
        linear("f", A, linear("in", B, D, retry=Retry(over="xs", item="x"))),
        "f/in/(open) asks for a list of values to try, and the steps behind it have begun without one",
    ),
    (
        "a list of values to try, in an element",
        linear("f", map_("m", linear("b", A, linear("in", B, D)), over="xs", item="i")),
        ["f/m", "f/m[0]/b/a", "f/m[0]/b/in/b"],
        linear(
            "f", map_("m", linear("b", A, linear("in", B, D, retry=Retry(over="ys", item="y"))), over="xs", item="i")
        ),
        "f/m/b/in/(open) asks for a list of values to try, and the steps behind it have begun without one",
    ),
    (
        "a condition",
        graph("f", A, B).link(A, B, when=nothing),
        ["f/a", "f/a->b"],
        graph("f", A, B).link(A, B),
        "f/a->b has begun and is no longer in the flow",
    ),
]


@pytest.mark.requirement("G9", "TF-5")
@pytest.mark.parametrize(
    ("old", "recorded", "new", "sentence"), [case[1:] for case in OTHER], ids=[case[0] for case in OTHER]
)
def test_a_begun_task_does_not_go_on_after(old: Flow, recorded: list[str], new: Flow, sentence: str) -> None:
    assert sentence in changed(recorded, outline(compile(old)), compile(new))


def test_wide_barriers_are_compared_in_passing() -> None:
    wide = [plain(f"s{number}") for number in range(3_000)]
    more = [plain(f"t{number}") for number in range(3_000)]

    def flow(last: Step) -> Any:
        return compile(linear("f", unordered("u", *wide), unordered("v", *more), last))

    old, new = flow(A), flow(B)
    recorded = [row_id for row_id in old.ids if "(" not in row_id and row_id != "f/a"]
    assert changed(recorded, outline(old), new) == []
    calls: list[Callable[[], object]] = [lambda: changed([*recorded, "f/a"], outline(old), new)]
    assert [call() for call in calls] == [["f/a has begun and is no longer in the flow"]]
