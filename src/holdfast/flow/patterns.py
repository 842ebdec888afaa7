"""Flows: steps and flows joined by a pattern. `linear`, `unordered`, `graph` and `map` make them.

Theory: a flow is only a description and never changes after it was made, but for a graph's links, which are added
until its first use. Children are steps, flows, and plain functions, which become steps. Making a flow costs no more
than a look at the types of its children; names, links and data are checked when it is compiled, where errors can say
the whole path.

What becomes of a flow: flow/compile.py. How it is found again after a restart: flow/registry.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeAlias, TypedDict, Unpack

from holdfast.core.retry import Retry
from holdfast.errors import DuplicateName, FlowError, FlowFrozen
from holdfast.flow.arguments import Wants, signature
from holdfast.flow.options import check_name, check_weight
from holdfast.flow.step import FunctionStep, Step, step

LINEAR: Final = 0
UNORDERED: Final = 1
GRAPH: Final = 2
MAP: Final = 3


class FlowKeywords(TypedDict, total=False):
    """What every pattern takes. All but `retry` belong to the outermost flow only."""

    retry: Retry | None
    on_failure: str  # "revert" | "suspend" | "keep"
    on_revert_failure: str  # "suspend" | "fail"
    undo: str  # "parallel" | "serial"
    version: str
    deadline_s: float | None


_CHOICES: Final = {
    "on_failure": ("revert", "suspend", "keep"),
    "on_revert_failure": ("suspend", "fail"),
    "undo": ("parallel", "serial"),
}


class Flow:
    """Steps and flows joined by a pattern; made by `linear`, `unordered`, `graph` or `map`."""

    __slots__ = ("_plan", "children", "flat", "made_in", "name", "options", "pattern", "plain", "retry")

    name: str
    pattern: int
    children: tuple[Step | Flow, ...]
    flat: bool  # every child is a step
    plain: bool  # no child is a class step, whose options nobody has checked yet
    retry: Retry | None
    options: dict[str, Any] | None  # those of the outermost flow; None where none is set
    made_in: str  # the module that called `linear` …
    _plan: Any

    def __init__(
        self, name: str, pattern: int, children: tuple[Any, ...], keywords: FlowKeywords, made_in: str
    ) -> None:
        self.name = check_name(name, f"flow {name!r}")
        self.pattern = pattern
        self.made_in = made_in
        self._plan = None
        kinds = {type(child) for child in children}
        if not all(issubclass(kind, (Step, Flow)) for kind in kinds):
            children = tuple(_child(child, name) for child in children)
            kinds = {type(child) for child in children}
        self.children = children
        self.flat = not any(issubclass(kind, Flow) for kind in kinds)
        self.plain = not any(issubclass(kind, Step) and kind is not FunctionStep for kind in kinds)
        self.retry, self.options = _keywords(keywords, f"flow {name!r}") if keywords else (None, None)

    @property
    def version(self) -> str:
        return str((self.options or {}).get("version", "1"))

    def __repr__(self) -> str:
        return f"<flow {self.name}>"


Child: TypeAlias = Step | Flow | Callable[..., Any]


class When:
    """A link's question, in the place of a step in the plan: the core finds the options of a step that has none."""

    __slots__ = ("execute", "name", "wants")

    retry = revert_retry = timeout_s = revert_timeout_s = grace_s = pool = provides = undo = probing = None
    on_interrupt = "rerun"
    isolation = "inline"
    pivot = has_revert = has_probe = wants_ctx = False
    weight = 0
    bind: Mapping[str, str] = MappingProxyType({})
    inject: Mapping[str, Any] = bind

    def __init__(self, name: str, function: Callable[..., Any], place: str) -> None:
        read = signature(function, f"{place}: when")
        if read.coroutine:
            raise FlowError(
                f"{place}: when= is an async def, but it is only asked, never awaited: make it a plain function"
            )
        if any(parameter == "ctx" for parameter, _required in read.wants):
            raise FlowError(f"{place}: when= gets no ctx; it only says yes or no from what steps provide")
        self.name = name
        self.execute = function
        self.wants: Wants = read.wants


class Graph(Flow):
    """A flow whose order is its links and who needs what from whom."""

    __slots__ = ("_frozen", "_members", "links")

    links: dict[tuple[int, int], When | None]
    _frozen: bool
    _members: dict[object, int]

    def __init__(self, name: str, children: tuple[Any, ...], keywords: FlowKeywords, made_in: str) -> None:
        super().__init__(name, GRAPH, children, keywords, made_in)
        self.links = {}
        self._frozen = False
        # A member is known by its name, itself, or the function it was made of here.
        self._members = {}
        for at, child in enumerate(self.children):
            for key in (child.name, id(child), id(children[at])):
                if self._members.setdefault(key, at) != at:
                    raise DuplicateName(f"flow {name!r} has two members named {child.name!r}: give one another name=")

    def link(self, source: Child | str, target: Child | str, /, *, when: Callable[..., Any] | None = None) -> Graph:
        """Let `target` begin after `source`, and with `when` only if that says yes.

        `when` is a plain function bound by name like a step; its answer is recorded. A member is skipped when every
        link into it said no or came from a skipped one. Returns the graph, so that links can be chained.
        """
        if self._frozen:
            raise FlowFrozen(
                f"graph {self.name!r} has been used and can't be changed: add its links first, or make a new one"
            )
        ends = (self._index(source), self._index(target))
        place = f"{self.name}/{self.children[ends[0]].name}->{self.children[ends[1]].name}"
        if ends[0] == ends[1]:
            raise FlowError(f"link {place} leads from a member to itself")
        if ends in self.links:
            raise FlowError(f"link {place} exists already: say all its conditions in one when=")
        if when is not None and not callable(when):
            raise FlowError(f"link {place}: when={when!r} must be a function")
        self.links[ends] = None if when is None else When(place.removeprefix(f"{self.name}/"), when, f"link {place}")
        return self

    def _index(self, member: Child | str) -> int:
        at = self._members.get(member if isinstance(member, str) else id(member))
        if at is None:
            raise FlowError(
                f"graph {self.name!r} has no member {getattr(member, 'name', member)!r}: "
                f"its members are {', '.join(child.name for child in self.children)}"
            )
        return at


class Map(Flow):
    """A flow that runs its body once for each value of a list."""

    __slots__ = ("at_once", "body", "collect", "item", "over", "provides", "weight")

    def __init__(
        self,
        name: str,
        body: Child,
        over: str | Sequence[Any],
        item: str,
        provides: str | None,
        at_once: int | None,
        collect: str | None,
        weight: int,
        keywords: FlowKeywords,
        made_in: str,
    ) -> None:
        super().__init__(name, MAP, (body,), keywords, made_in)
        place = f"map {name!r}"
        if isinstance(over, str):
            fault = not over
        else:
            fault = not isinstance(over, Sequence) or isinstance(over, bytes)
        if fault:
            raise FlowError(f"{place}: over={over!r} must be the name of a list, or a list")
        if not isinstance(item, str) or not item or item in ("ctx", "result", "failures"):
            raise FlowError(f"{place}: item={item!r} must be the name by which the body's steps ask for their element")
        for option, value in (("provides", provides), ("collect", collect)):
            if value is not None and (not isinstance(value, str) or not value or value == "ctx"):
                raise FlowError(f"{place}: {option}={value!r} must be one name")
        if at_once is not None and (isinstance(at_once, bool) or not isinstance(at_once, int) or at_once < 1):
            raise FlowError(f"{place}: at_once={at_once!r} must be a whole number above 0, or None for all at once")
        if provides is None and collect is not None:
            raise FlowError(f"{place}: collect={collect!r} has nowhere to go: say provides= too")
        if provides is not None and collect is None and isinstance(self.children[0], Flow):
            raise FlowError(f"{place}: its body is a flow, so say collect=, the name whose values make up {provides!r}")
        self.body = self.children[0]
        self.over = over
        self.item = item
        self.provides = provides
        self.at_once = at_once
        self.collect = collect
        self.weight = check_weight(weight, place)


def _child(child: Any, name: str) -> Step | Flow:
    if isinstance(child, (Step, Flow)):
        return child
    if not callable(child) or isinstance(child, type):
        hint = "an instance of it" if isinstance(child, type) else "a step, a flow or a function"
        raise FlowError(f"flow {name!r} can't hold {child!r}: give it {hint}")
    return step(child)


def _keywords(keywords: FlowKeywords, place: str) -> tuple[Retry | None, dict[str, Any] | None]:
    """The retry, and the options of the outermost flow that are set."""
    retry = keywords.get("retry")
    if retry is not None and not isinstance(retry, Retry):
        raise FlowError(f"{place}: retry={retry!r} must be a Retry, as hf.Retry(attempts=3)")
    options: dict[str, Any] = {option: value for option, value in keywords.items() if option != "retry"}
    for option, value in options.items():
        if option in _CHOICES:
            if value not in _CHOICES[option]:
                words = ", ".join(f'"{word}"' for word in _CHOICES[option])
                raise FlowError(f"{place}: {option}={value!r} is not one of {words}")
        elif option == "version":
            check_name(value, f"{place}: version")
        elif option == "deadline_s":
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0):
                raise FlowError(f"{place}: deadline_s={value!r} must be a number of seconds above 0")
        else:
            raise FlowError(f"{place} takes no option {option!r}: it takes {', '.join(FlowKeywords.__annotations__)}")
    return retry, options or None


def linear(name: str, /, *children: Child, **keywords: Unpack[FlowKeywords]) -> Flow:
    """One after the other. `retry` tries the whole flow again; see `FlowKeywords` for the rest."""
    return Flow(name, LINEAR, children, keywords, _caller())


def unordered(name: str, /, *children: Child, **keywords: Unpack[FlowKeywords]) -> Flow:
    """All at once, in no order. Children don't see what their siblings provide."""
    return Flow(name, UNORDERED, children, keywords, _caller())


def graph(name: str, /, *children: Child, **keywords: Unpack[FlowKeywords]) -> Graph:
    """In the order of who needs what, and of the links added by `.link(a, b, when=…)`.

    A member that asks for a name which another member provides comes after it. Where several provide it, the links
    must tell: those from which links lead to the asking member count, the last of them wins.
    """
    return Graph(name, children, keywords, _caller())


def map(
    name: str,
    body: Child,
    /,
    *,
    over: str | Sequence[Any],
    item: str,
    provides: str | None = None,
    at_once: int | None = None,
    collect: str | None = None,
    weight: int = 1,
    **keywords: Unpack[FlowKeywords],
) -> Map:
    """`body` once for each value of the list named `over`, which its steps ask for as `item`.

    provides: the name of the list of results, in the order of the list; an empty list gives an empty list.
    collect: where the body is a flow, the name of the value that is an element's result.
    at_once: how many elements may run at the same time.
    """
    return Map(name, body, over, item, provides, at_once, collect, weight, keywords, _caller())


def _caller() -> str:
    """The module that called `linear` …: the first place to look for the flow's variable."""
    return str(sys._getframe(2).f_globals.get("__name__", ""))
