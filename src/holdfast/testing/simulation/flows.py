"""Random flows of every pattern. Their functions are never called: what steps do is made up by testing/simulation/
code.py, so a function only says by its parameters what it needs."""

from __future__ import annotations

from random import Random
from typing import Any

from holdfast.core.plan import Plan
from holdfast.core.retry import Retry
from holdfast.errors import FlowError
from holdfast.flow.compile import compile
from holdfast.flow.patterns import Flow, graph, linear, map, unordered
from holdfast.flow.step import NotDone, Probe, Step, step
from holdfast.runtime.context import Context


def act(ctx: Context) -> int:
    return 1


def use(ctx: Context, value: int) -> int:
    return value


def undo(ctx: Context) -> None: ...


def ask(ctx: Context) -> Probe:
    return NotDone()


def yes() -> bool:
    return True


def no() -> bool:
    return False


def make_flow(chance: Random, name: str) -> Flow:
    """A flow that compiles, with options of its own."""
    while True:
        options: dict[str, Any] = {
            "on_failure": chance.choice(("revert", "revert", "suspend", "keep")),
            "on_revert_failure": chance.choice(("suspend", "suspend", "fail")),
            "undo": chance.choice(("parallel", "parallel", "serial")),
        }
        if chance.random() < 0.08:
            options["deadline_s"] = chance.choice((4.0, 20.0))
        children = [_child(chance, chance.randint(0, 2), f"{name}{place}") for place in range(chance.randint(1, 4))]
        made = linear(name, *_bound(chance, children), **options)
        try:
            plan = compile(made)
        except FlowError:
            continue
        if 2 <= _size(plan) <= 16:
            return made


def newer(chance: Random, flow: Flow) -> Flow:
    """The flow after somebody has worked on it: with a step more, or another altogether. Of the same name."""
    if chance.random() < 0.5:
        return make_flow(chance, flow.name)
    return linear(flow.name, *flow.children, _step(chance, f"{flow.name}new"))


def _size(plan: Plan) -> int:
    return plan.kind.count(0) + sum(3 * _size(spec.template) for spec in plan.maps.values())


def _child(chance: Random, depth: int, name: str) -> Step | Flow:
    if depth == 0 or chance.random() < 0.3:
        return _step(chance, name)
    children = [_child(chance, depth - 1, f"{name}{place}") for place in range(chance.randint(1, 3))]
    pattern = chance.choice(("linear", "unordered", "unordered", "graph", "map"))
    if pattern == "map":
        return map(name, children[0], over="items", item="it", at_once=chance.choice((None, 1, 2)))
    options: dict[str, Any] = {}
    if chance.random() < 0.25:
        over = {"over": "zones", "item": "zone"} if chance.random() < 0.3 else {"attempts": chance.randint(1, 3)}
        options["retry"] = Retry(backoff_s=chance.choice((0, 1)), spent=chance.choice(("flow", "all")), **over)
    if pattern == "graph":
        return _graph(chance, name, children, options)
    if pattern == "linear":
        return linear(name, *_bound(chance, children), **options)
    return unordered(name, *children, **options)


def _graph(chance: Random, name: str, children: list[Step | Flow], options: dict[str, Any]) -> Flow:
    made = graph(name, *children, **options)
    for place, source in enumerate(children):
        for target in children[place + 1 :]:
            if chance.random() < 0.5:
                when = chance.choice((yes, yes, no)) if chance.random() < 0.4 else None
                made.link(source, target, when=when)
    return made


def _bound(chance: Random, children: list[Step | Flow]) -> list[Step | Flow]:
    """Now and then a step needs what an earlier one gives."""
    given: list[str] = []
    for place, child in enumerate(children):
        if not isinstance(child, Step):
            continue
        if given and chance.random() < 0.4:
            children[place] = _step(chance, child.name, needs=chance.choice(given))
        provides = children[place].provides  # type: ignore[union-attr]
        if isinstance(provides, str):
            given.append(provides)
    return children


def _step(chance: Random, name: str, needs: str | None = None) -> Step:
    options: dict[str, Any] = {"name": name, "on_interrupt": chance.choice(("rerun", "rerun", "undo", "suspend"))}
    if chance.random() < 0.3:
        options["retry"] = Retry(attempts=chance.randint(1, 3), backoff_s=chance.choice((0, 1)))
    if chance.random() < 0.25:
        options["timeout_s"] = 5.0
        options["grace_s"] = 1.0
    if chance.random() < 0.05:
        options["pivot"] = True
    if chance.random() < 0.5:
        options["provides"] = f"v_{name}"
    if chance.random() < 0.3:
        options["isolation"] = "process"
    if needs is not None:
        options["bind"] = {"value": needs}
    made = step(act if needs is None else use, **options)
    if chance.random() < 0.7:
        timeout_s = 6.0 if chance.random() < 0.2 else None
        made.revert(retry=Retry(attempts=2, backoff_s=1) if chance.random() < 0.3 else None, timeout_s=timeout_s)(undo)
    if chance.random() < 0.2:
        made.probe(ask)
    return made
