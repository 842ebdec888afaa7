"""Small flows and the plans they become, as tables; and the sentences in which a wrong flow is refused."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast

import pytest

from holdfast.core.plan import FlowOptions, FromInput, FromRow, FromValue
from holdfast.core.retry import Retry
from holdfast.errors import (
    AmbiguousInput,
    Cycle,
    DuplicateName,
    FlowError,
    FlowFrozen,
    MissingInput,
    UnknownInput,
)
from holdfast.flow.compile import check_inputs, compile
from holdfast.flow.patterns import graph, linear, unordered
from holdfast.flow.patterns import map as map_
from holdfast.flow.step import Step, step
from tests.flow.render import render


def nothing() -> None:
    """A step that wants nothing and gives nothing."""


def takes(x: Any) -> Any:
    return x


def gives(name: str, provides: Any = None) -> Step:
    return step(nothing, name=name, provides=provides or name)


def does(name: str, *wants: str, provides: Any = None) -> Step:
    """A step of that name that requires these names."""

    def function(**values: Any) -> Any:
        return values

    return step(function, name=name, provides=provides, bind={want: want for want in wants})


def table(text: str) -> str:
    return inspect.cleandoc(text)


@pytest.mark.requirement("TF-10")
def test_linear_is_a_chain_without_rows_of_its_own() -> None:
    plan = compile(linear("l", gives("a"), linear("in", does("b", "a"), does("c", "n")), does("d")))
    assert render(plan) == table("""
        0 | step | l/a | -> 1 | need 0 | scope 0
        1 | step | l/in/b | -> 2 | need 1 | scope 0 | a=#0
        2 | step | l/in/c | -> 3 | need 1 | scope 0 | n=input n
        3 | step | l/d | -> . | need 1 | scope 0
    """)
    assert plan.inputs == {"n": (True, "l/in/c")}
    assert plan.outputs == [("a", 0, None)]
    assert [tuple(scope) for scope in plan.scopes] == [("l", -1, 0, 4, -1, -1, None, None)]
    assert plan.weight == [1, 1, 1, 1]


@pytest.mark.requirement("TF-10")
def test_unordered_in_a_chain_has_two_ends_and_outermost_none() -> None:
    pair = unordered("u", gives("a"), linear("l", gives("b"), gives("c")))
    assert render(compile(linear("f", does("x"), pair, does("y", "a", "c")))) == table("""
        0 | step | f/x | -> 1 | need 0 | scope 0
        1 | open | f/u/(open) | -> 2 3 | need 1 | scope 1
        2 | step | f/u/a | -> 5 | need 1 | scope 1
        3 | step | f/u/l/b | -> 4 | need 1 | scope 1
        4 | step | f/u/l/c | -> 5 | need 1 | scope 1
        5 | close | f/u/(close) | -> 6 | need 2 | scope 1
        6 | step | f/y | -> . | need 1 | scope 0 | a=#2, c=#4
    """)
    plan = compile(pair)
    assert render(plan) == table("""
        0 | step | u/a | -> . | need 0 | scope 0
        1 | step | u/l/b | -> 2 | need 0 | scope 0
        2 | step | u/l/c | -> . | need 1 | scope 0
    """)
    assert compile(pair) is plan


def test_one_child_needs_no_ends_and_no_child_needs_both() -> None:
    assert render(compile(linear("f", unordered("u", does("a")), unordered("e"), graph("g", does("b"))))) == table("""
        0 | step | f/u/a | -> 1 | need 0 | scope 0
        1 | open | f/e/(open) | -> 2 | need 1 | scope 1
        2 | close | f/e/(close) | -> 3 | need 1 | scope 1
        3 | step | f/g/b | -> . | need 1 | scope 0
    """)
    plan = compile(linear("empty"))
    assert render(plan) == table("""
        0 | open | empty/(open) | -> 1 | need 0 | scope 0
        1 | close | empty/(close) | -> . | need 1 | scope 0
    """)
    assert tuple(plan.scopes[0])[:6] == ("empty", -1, 0, 2, 0, 1)


@pytest.mark.requirement("TF-1")
def test_a_step_is_a_flow_of_one_and_so_is_a_function() -> None:
    assert render(compile(does("alone", "x"))) == "0 | step | alone | -> . | need 0 | scope 0 | x=input x"
    assert render(compile(takes)) == "0 | step | takes | -> . | need 0 | scope 0 | x=input x"
    assert compile(linear("f", nothing, takes)).ids == ["f/nothing", "f/takes"]


def test_a_retrying_flow_is_a_scope() -> None:
    retry = Retry(attempts=3)
    plan = compile(linear("f", does("a"), linear("r", does("b"), retry=retry), does("c"), retry=Retry(attempts=2)))
    assert render(plan) == table("""
        0 | open | f/(open) | -> 1 | need 0 | scope 0
        1 | step | f/a | -> 2 | need 1 | scope 0
        2 | open | f/r/(open) | -> 3 | need 1 | scope 1
        3 | step | f/r/b | -> 4 | need 1 | scope 1
        4 | close | f/r/(close) | -> 5 | need 1 | scope 1
        5 | step | f/c | -> 6 | need 1 | scope 0
        6 | close | f/(close) | -> . | need 1 | scope 0
    """)
    assert [tuple(scope)[:6] for scope in plan.scopes] == [("f", -1, 0, 7, 0, 6), ("f/r", 0, 2, 5, 2, 4)]
    assert plan.scopes[1].retry is retry


def test_a_try_hands_its_value_to_the_flow_and_to_nothing_after_it() -> None:
    tries = linear(
        "r", does("b", "zone"), unordered("u", does("c", "zone"), does("d")), retry=Retry(over="zones", item="zone")
    )
    plan = compile(linear("f", gives("zones"), tries, does("e", "zone")))
    assert render(plan) == table("""
        0 | step | f/zones | -> 1 | need 0 | scope 0
        1 | open | f/r/(open) | -> 2 | need 1 | scope 1 | over=#0
        2 | step | f/r/b | -> 3 | need 1 | scope 1 | zone=try 1
        3 | open | f/r/u/(open) | -> 4 5 | need 1 | scope 2
        4 | step | f/r/u/c | -> 6 | need 1 | scope 2 | zone=try 1
        5 | step | f/r/u/d | -> 6 | need 1 | scope 2
        6 | close | f/r/u/(close) | -> 7 | need 2 | scope 2
        7 | close | f/r/(close) | -> 8 | need 1 | scope 1
        8 | step | f/e | -> . | need 1 | scope 0 | zone=input zone
    """)
    assert plan.scopes[1].over == plan.bindings[1][0].source
    literal = compile(linear("l", does("a", "n"), retry=Retry(over=(1, 2), item="n")))
    assert literal.scopes[0].over == FromValue((1, 2))


def test_nearest_earlier_provider_wins() -> None:
    plan = compile(linear("f", gives("a", "x"), does("b", "x"), does("c", "x", provides="x"), does("d", "x")))
    assert [plan.bindings[row][0].source for row in (1, 2, 3)] == [(0, 0, None), (0, 0, None), (0, 2, None)]
    inner = linear("in", does("c", "x"), gives("d", "x"))
    plan = compile(linear("f", gives("a", "x"), unordered("u", inner, does("e", "x"), gives("y")), does("g", "x")))
    assert {
        plan.ids[row]: cast(FromRow, plan.bindings[row][0].source).row for row in range(len(plan)) if plan.bindings[row]
    } == {
        "f/u/in/c": 0,
        "f/u/e": 0,
        "f/g": 3,
    }


def test_provides_of_several_names() -> None:
    plan = compile(linear("f", does("a", provides=("x", "y")), does("b", provides={"p", "q"}), does("c", "y", "p")))
    assert render(plan).splitlines()[2] == "2 | step | f/c | -> . | need 1 | scope 0 | y=#0[1], p=#1['p']"
    assert plan.outputs == [("x", 0, 0), ("y", 0, 1), ("p", 1, "p"), ("q", 1, "q")]


def test_bind_and_inject() -> None:
    plan = compile(step(takes, name="a", bind={"x": "other"}))
    assert plan.inputs == {"other": (True, "a")}
    assert compile(step(takes, name="a", inject={"x": 5})).bindings == [(("x", (5,), True),)]


def test_siblings_of_unordered_do_not_see_each_other() -> None:
    plan = compile(unordered("u", gives("x"), does("a", "x"), linear("l", does("b", "x"))))
    assert plan.inputs == {"x": (True, "u/a")}
    assert plan.bindings[1] == plan.bindings[2]


def test_using_what_two_children_provide_is_ambiguous_and_not_using_it_is_fine() -> None:
    pair = unordered("u", gives("a", "x"), linear("l", gives("b", "x"), does("c", "x")))
    assert compile(linear("f", pair, gives("d", "x"), does("e", "x"))).bindings[-1][0].source == (0, 5, None)
    with pytest.raises(AmbiguousInput, match=r"f/e asks for 'x', which both f/u/a and f/u/l/b provide"):
        compile(linear("f", pair, does("e", "x")))
    with pytest.raises(AmbiguousInput, match=r"f/v/e asks for 'x', which both f/v/u/a and f/v/u/l/b provide"):
        compile(graph("f", graph("v", pair, does("e", "x")), does("z")))


# --- graph -------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("TF-10")
def test_a_graph_is_ordered_by_data_and_by_links() -> None:
    a, b, c, d = does("a", "y"), does("b", "x", provides="y"), gives("c", "x"), does("d")
    plan = compile(graph("g", a, b, c, d).link(c, d).link("b", "d"))
    assert render(plan) == table("""
        0 | step | g/a | -> . | need 1 | scope 0 | y=#1
        1 | step | g/b | -> 0 3* | need 1 | scope 0 | x=#2
        2 | step | g/c | -> 1 3* | need 0 | scope 0
        3 | step | g/d | -> . | need 2 | scope 0
    """)
    assert (plan.links, plan.link_count) == ({2: frozenset({3}), 1: frozenset({3})}, {3: 2})


def test_a_condition_is_a_row_between_two_members() -> None:
    a, b, c = gives("a", "x"), does("b"), does("c", "y")
    flow = graph("g", a, linear("l", b, gives("y")), c).link(a, "l", when=lambda x, limit=3: x > limit)
    plan = compile(linear("f", flow))
    assert render(plan) == table("""
        0 | open | f/g/(open) | -> 1 | need 0 | scope 1
        1 | step | f/g/a | -> 7* | need 1 | scope 1
        2 | open | f/g/l/(open) | -> 3 | need 1 | scope 2
        3 | step | f/g/l/b | -> 4 | need 1 | scope 2
        4 | step | f/g/l/y | -> 5 | need 1 | scope 2
        5 | close | f/g/l/(close) | -> 6 | need 1 | scope 2
        6 | step | f/g/c | -> 8 | need 1 | scope 1 | y=#4
        7 | gate | f/g/a->l | -> 2* | need 1 | scope 1 | x=#1, limit?=input limit
        8 | close | f/g/(close) | -> . | need 1 | scope 1
    """)
    assert (plan.links, plan.link_count) == ({1: frozenset({7}), 7: frozenset({2})}, {7: 1, 2: 1})
    gate: Any = plan.steps[7]
    assert [gate.execute(x=4), gate.has_revert, gate.weight] == [True, False, 0]
    assert plan.inputs == {"limit": (False, "f/g/a->l")}


def test_a_condition_on_data_that_another_member_gives_waits_for_it_too() -> None:
    a, b, c = gives("a"), does("b", "a"), gives("c", "x")
    plan = compile(graph("g", a, b, c).link(a, b, when=lambda x: x))
    assert plan.succ == [(3,), (), (3,), (1,)]
    assert plan.need == [0, 1, 0, 2]
    assert plan.links == {0: {3}, 3: {1}}


def test_in_a_graph_a_flow_gets_from_siblings_what_it_does_not_give_itself() -> None:
    deep = linear("l", does("b", "x", "n"), graph("in", does("c", "x", "y"), gives("d", "y"), does("e", "z")))
    plan = compile(linear("f", gives("z"), graph("g", deep, gives("x"), gives("w", "y"))))
    assert {plan.ids[row]: plan.bindings[row] for row in range(len(plan)) if plan.bindings[row]} == {
        "f/g/l/b": (("x", (0, 10, None), True), ("n", ("n",), True)),
        "f/g/l/in/c": (("x", (0, 10, None), True), ("y", (0, 6, None), True)),
        "f/g/l/in/e": (("z", (0, 0, None), True),),
    }
    assert plan.ids[10] == "f/g/x"
    assert plan.ids[2] == "f/g/l/(open)"
    assert 2 in plan.succ[10]
    assert plan.need[2] == 1


def test_in_a_graph_a_sibling_is_nearer_than_what_came_before_the_graph() -> None:
    deep = linear("l", does("b", "x"), map_("m", does("c", "x", "i"), over="x", item="i"))
    plan = compile(linear("f", gives("before", "x"), graph("g", deep, gives("sibling", "x"), does("d", "x"))))
    assert render(plan) == table("""
        0 | step | f/before | -> 1 | need 0 | scope 0
        1 | open | f/g/(open) | -> 7 | need 1 | scope 1
        2 | open | f/g/l/(open) | -> 3 | need 1 | scope 2
        3 | step | f/g/l/b | -> 4 | need 1 | scope 2 | x=#7
        4 | map | f/g/l/m | -> 5 | need 1 | scope 2 | over=#7
          each of #7 gives -:
          0 | step | c | -> . | need 0 | scope 0 | x=^#7, i=item
        5 | close | f/g/l/m/(end) | -> 6 | need 1 | scope 2
        6 | close | f/g/l/(close) | -> 9 | need 1 | scope 2
        7 | step | f/g/sibling | -> 2 8 | need 1 | scope 1
        8 | step | f/g/d | -> 9 | need 1 | scope 1 | x=#7
        9 | close | f/g/(close) | -> . | need 2 | scope 1
    """)


def test_among_several_providers_the_last_that_links_lead_from_counts() -> None:
    a, b, c, d = gives("a", "x"), does("b", "x", provides="x"), does("c", "x"), gives("d", "x")
    plan = compile(graph("g", a, b, c, d).link(a, b).link(b, c))
    assert plan.bindings[1][0].source == (0, 0, None)
    assert plan.bindings[2][0].source == (0, 1, None)
    chain = graph("g", a, b).link(a, b)
    assert compile(linear("f", chain, does("e", "x"))).bindings[-1][0].source == (0, 2, None)
    with pytest.raises(AmbiguousInput, match="g/c asks for 'x', which both g/a and g/d provide"):
        compile(graph("g", a, c, d))
    with pytest.raises(AmbiguousInput, match="g/c asks for 'x', which both g/a and g/d provide"):
        compile(graph("g", a, c, d).link(a, c).link(d, c))
    with pytest.raises(AmbiguousInput, match="f/e asks for 'x', which both f/g/a and f/g/d provide"):
        compile(linear("f", graph("g", a, d), does("e", "x")))


def test_a_cycle_is_named() -> None:
    a, b, c, d = does("a", "z"), does("b"), gives("c", "z"), does("d")
    with pytest.raises(
        Cycle, match=r"graph f/g goes in a circle: (a -> b -> c -> a|b -> c -> a -> b|c -> a -> b -> c)\. "
    ):
        compile(linear("f", graph("g", d, a, b, c).link(a, b).link(b, c).link(c, d)))
    with pytest.raises(Cycle, match=r"in a circle: (a -> b -> a|b -> a -> b)\."):
        compile(graph("g", a, b).link(a, b, when=nothing).link(b, a))


def test_a_graph_is_frozen_by_its_first_use() -> None:
    inner = graph("g", does("a"), does("b"))
    compile(linear("f", inner))
    with pytest.raises(FlowFrozen, match="graph 'g' has been used"):
        inner.link("a", "b")


def test_links_are_checked_when_they_are_made() -> None:
    async def later() -> bool:
        return True

    flow = graph("g", nothing, takes).link(nothing, takes)
    wrongs: list[tuple[Callable[[], object], str]] = [
        (lambda: flow.link(nothing, takes), "link g/nothing->takes exists already"),
        (lambda: flow.link(nothing, nothing), "leads from a member to itself"),
        (lambda: flow.link("nothing", "else"), "graph 'g' has no member 'else': its members are nothing, takes"),
        (lambda: flow.link(takes, nothing, when=later), "make it a plain function"),
        (lambda: flow.link(takes, nothing, when=lambda ctx: ctx), "gets no ctx"),
        (lambda: flow.link(takes, nothing, when=5), "must be a function"),  # type: ignore[arg-type]
    ]
    for wrong, sentence in wrongs:
        with pytest.raises(FlowError, match=sentence):
            wrong()


# --- map ---------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("TF-10")
def test_a_map_holds_its_body_as_a_plan() -> None:
    make = does("make", "size", "zone", provides="id")
    volumes = map_("volumes", make, over="sizes", item="size", provides="ids", at_once=2, weight=7)
    plan = compile(linear("f", gives("sizes"), gives("zone"), volumes, does("d", "ids", "size")))
    assert render(plan) == table("""
        0 | step | f/sizes | -> 1 | need 0 | scope 0
        1 | step | f/zone | -> 2 | need 1 | scope 0
        2 | map | f/volumes | -> 3 | need 1 | scope 0 | over=#0
          each of #0 gives #0:
          0 | step | make | -> . | need 0 | scope 0 | size=item, zone=^#1
        3 | close | f/volumes/(end) | -> 4 | need 1 | scope 0
        4 | step | f/d | -> . | need 1 | scope 0 | ids=#3, size=input size
    """)
    assert plan.maps[2].at_once == 2
    assert plan.maps[2].close_row == 3
    assert plan.weight == [1, 1, 7, 0, 1]
    assert plan.outputs[-1] == ("ids", 3, None)


def test_a_map_in_a_map_and_in_a_graph() -> None:
    disks = map_("each", does("make", "disk", "host", "n", "x"), over="disks", item="disk", provides="made")
    body = linear("host", gives("disks"), disks, does("end", "made", "host", provides="done"), retry=Retry(attempts=2))
    hosts = map_("hosts", body, over="hosts", item="host", provides="all", collect="done")
    plan = compile(graph("g", hosts, gives("x"), gives("hosts_list", "hosts"), does("after", "all")))
    assert render(plan) == table("""
        0 | map | g/hosts | -> 1 | need 2 | scope 0 | over=#3
          each of #3 gives #4:
          0 | open | host/(open) | -> 1 | need 0 | scope 0
          1 | step | host/disks | -> 2 | need 1 | scope 0
          2 | map | host/each | -> 3 | need 1 | scope 0 | over=#1
            each of #1 gives #0:
            0 | step | make | -> . | need 0 | scope 0 | disk=item, host=^item, n=input n, x=^^#2
          3 | close | host/each/(end) | -> 4 | need 1 | scope 0
          4 | step | host/end | -> 5 | need 1 | scope 0 | made=#3, host=item
          5 | close | host/(close) | -> . | need 1 | scope 0
        1 | close | g/hosts/(end) | -> 4 | need 1 | scope 0
        2 | step | g/x | -> 0 | need 0 | scope 0
        3 | step | g/hosts_list | -> 0 | need 0 | scope 0
        4 | step | g/after | -> . | need 1 | scope 0 | all=#1
    """)
    assert plan.inputs == {"n": (True, "g/hosts[]/host/each[]/make")}


def test_a_map_may_be_the_outermost_flow_have_a_retry_and_go_over_a_literal_list() -> None:
    plan = compile(
        map_("m", does("a", "x", "z"), over=[1, 2], item="x", retry=Retry(over=["p"], item="z"), version="4")
    )
    assert render(plan) == table("""
        0 | open | m/(open) | -> 1 | need 0 | scope 1 | over=['p']
        1 | map | m | -> 2 | need 1 | scope 1 | over=[1, 2]
          each of [1, 2] gives -:
          0 | step | a | -> . | need 0 | scope 0 | x=item, z=^try 1
        2 | close | m/(end) | -> 3 | need 1 | scope 1
        3 | close | m/(close) | -> . | need 1 | scope 1
    """)
    assert (plan.name, plan.version) == ("m", "4")
    assert [tuple(scope)[:6] for scope in plan.scopes] == [("m", -1, 0, 4, -1, -1), ("m", 0, 0, 4, 0, 3)]


def test_what_a_map_collects_must_come_from_its_body() -> None:
    body = linear("b", does("s", "x"))
    with pytest.raises(FlowError, match="map f/m: collect='y' is provided by no step of its body"):
        compile(linear("f", gives("y"), map_("m", body, over="xs", item="x", provides="ys", collect="y")))
    pair = unordered("u", gives("a", "y"), gives("b", "y"))
    with pytest.raises(AmbiguousInput, match=r"asks for 'y', which both m\[\]/u/a and m\[\]/u/b provide"):
        compile(map_("m", pair, over="xs", item="x", provides="ys", collect="y"))


# --- what is refused ---------------------------------------------------------------------------------------------


def test_duplicate_names_are_refused_with_their_place() -> None:
    with pytest.raises(DuplicateName, match="f/u has two members named 'nothing': give one another name"):
        compile(linear("f", unordered("u", nothing, takes, nothing)))
    with pytest.raises(DuplicateName, match="flow 'g' has two members named 'nothing'"):
        graph("g", nothing, nothing)


@pytest.mark.parametrize(
    "option",
    [{"on_failure": "keep"}, {"on_revert_failure": "fail"}, {"undo": "serial"}, {"version": "2"}, {"deadline_s": 5}],
)
def test_options_of_the_outermost_flow_are_refused_further_in(option: Any) -> None:
    name = next(iter(option))
    with pytest.raises(FlowError, match=f"f/g/h has {name}=, which is for the outermost flow: give it to 'f'"):
        compile(linear("f", unordered("g", nothing, linear("h", **option))))
    with pytest.raises(FlowError, match=rf"f/m\[\]/h has {name}="):
        compile(linear("f", map_("m", linear("h", **option), over="xs", item="x")))
    plan = compile(linear("f", nothing, **option))
    assert plan.version == option.get("version", "1")
    assert plan.options == FlowOptions(**{key: value for key, value in option.items() if key != "version"})


def test_missing_and_unknown_inputs_are_told_with_what_the_flow_takes() -> None:
    plan = compile(linear("f", does("a", "network"), step(lambda size=3: size, name="b")))
    assert plan.inputs == {"network": (True, "f/a"), "size": (False, "f/b")}
    check_inputs(plan, {"network": "public"})
    with pytest.raises(
        MissingInput, match=r"f needs an input 'network': f/a requires it .* takes: network, size \(optional\)"
    ):
        check_inputs(plan, {"size": 3})
    with pytest.raises(UnknownInput, match=r"f takes no input 'netwrok'\. It takes: network, size \(optional\)"):
        check_inputs(plan, {"network": "public", "netwrok": "x"})
    with pytest.raises(UnknownInput, match="It takes no inputs"):
        check_inputs(compile(nothing), {"x": 1})


def test_an_input_that_anyone_requires_is_required() -> None:
    plan = compile(linear("f", step(lambda x=1: x, name="may"), does("must", "x")))
    assert plan.inputs == {"x": (True, "f/must")}
    assert plan.bindings == [(("x", FromInput("x"), False),), (("x", FromInput("x"), True),)]
