"""What the compiler keeps in hand while it walks a flow.

How it is used: flow/compile.py, flow/links.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from holdfast.core.plan import FromRow, Plan
from holdfast.flow.patterns import Flow
from holdfast.flow.step import Step


class Special(NamedTuple):
    """What a name may mean beside a row's result: a map's item, the value of a retry's try, or two rows at once.

    `up` is here, as in every entry, the *level* of the provider (map bodies counted from outside), `row` where it
    begins to be seen.
    """

    up: int
    row: int
    what: str  # item | try | ambiguous
    scope: int
    first: Any = None
    second: Any = None

    @classmethod
    def ambiguous(cls, first: Entry, second: Entry) -> Special:
        return cls(second.up, second.row, "ambiguous", 0, first, second)

    def both(self) -> tuple[FromRow, FromRow]:
        """The first two rows that provide the name."""
        first, second = self.first, self.second
        while isinstance(first, Special):
            first = first.first
        while isinstance(second, Special):
            second = second.first
        return first, second


Entry = FromRow | Special
Given = tuple[int, Entry]  # which child, what


class Wait(NamedTuple):
    """A binding that asks for a name: binding number `at` of `row` in `plan`, which is `level` maps deep."""

    name: str
    plan: Plan
    level: int
    row: int
    at: int
    required: bool
    member: int = -1  # of the graph it waits in


class Frame:
    """A flow that has begun and not ended."""

    __slots__ = (
        "at", "children", "cut", "ends", "entry", "floor", "flow", "given", "item", "last", "mark", "member", "open",
        "outer", "pattern", "prefix", "runs", "scope", "several", "starts", "waits",
    )  # fmt: skip

    def __init__(
        self, flow: Flow | None, pattern: int, children: tuple[Step | Flow, ...], prefix: str, scope: int, first: int
    ) -> None:
        self.flow = flow
        self.pattern = pattern
        self.children = children
        self.prefix = prefix  # of its children's ids
        self.cut = 0  # how much of it is its own
        self.scope = scope
        self.at = 0  # the next child
        self.open = -1
        self.entry = -1  # linear: the first child's row, and the last one's so far
        self.last = -1
        self.starts: list[int] = []  # unordered and graph: a child each
        self.ends: list[int] = []
        self.given: dict[str, Given] = {}  # name -> the first child that provides it
        self.several: dict[str, list[Given]] = {}  # … and all of them where there are more
        self.mark = 0  # the trail's length when the current child began
        self.item: tuple[str, Entry | None, Entry] | None = (
            None  # of a retry over values: name, meaning before, and in it
        )
        self.runs: list[tuple[int, int, int]] = []  # graph: the steps among its children: (child, row, how many)
        self.waits: list[Wait] = []  # graph: names asked for in a member flow and provided by no one in it
        self.member = -1  # graph: the current child …
        self.floor = (0, first)  # … and where its rows begin
        self.outer: Frame | None = None  # the graph around

    def give(self, name: str, child: int, entry: Entry) -> None:
        """Note that the child provides the name."""
        if name in self.given:
            self.several.setdefault(name, [self.given[name]]).append((child, entry))
        else:
            self.given[name] = (child, entry)
