"""The plan: what the compiler makes of a flow. Immutable once made.

Theory: a plan is a table of *rows*, in depth-first order of the flow, so the rows of any flow (a *scope*) are one
contiguous range. A row is a STEP, or one of the few rows that user code never sees: OPEN and CLOSE (the two ends of
a scope; they keep an unordered of m followed by one of n at m + n edges and not m x n), MAP and its CLOSE, and GATE
(a link's `when`). `succ` and `need` (the in-degree) are all that readiness wants; what a step's parameters are bound
to is in `bindings`. A map holds its body as a plan of its own, whose rows are laid behind the table once the length
is known (core/ready.py).

How a flow becomes a plan: flow/compile.py. How a plan is run: core/machine.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple, Protocol

from holdfast.core.retry import Retry

STEP: Final = 0
OPEN: Final = 1
CLOSE: Final = 2
MAP: Final = 3
GATE: Final = 4


class StepSpec(Protocol):
    """What the core reads of a step. flow/step.py has the thing itself."""

    name: str
    retry: Retry | None
    revert_retry: Retry | None
    timeout_s: float | None
    revert_timeout_s: float | None
    on_interrupt: str
    pivot: bool
    weight: int
    isolation: str

    @property
    def has_revert(self) -> bool: ...
    @property
    def has_probe(self) -> bool: ...


class FromInput(NamedTuple):
    """The task's input `name`."""

    name: str


class FromRow(NamedTuple):
    """What `row` provided, `up` map bodies further out (0: the same plan); `key`: None all of it, int an index of a
    tuple, str a key of a dict."""

    up: int
    row: int
    key: int | str | None


class FromItem(NamedTuple):
    """The item of the map whose body is `up` bodies further out (0: the innermost)."""

    up: int


class FromTry(NamedTuple):
    """The value of `over` for the current try of the retrying scope number `scope`, `up` map bodies further out."""

    up: int
    scope: int


class FromValue(NamedTuple):
    """A value fixed when the flow was written (`inject=`)."""

    value: Any


Source = FromInput | FromRow | FromItem | FromTry | FromValue


class Binding(NamedTuple):
    """One parameter of a step. Not `required`: it has a default, which is taken when the source was skipped or an
    input was not given."""

    parameter: str
    source: Source
    required: bool


class Scope(NamedTuple):
    """One flow that needs rows of its own, or the whole plan (scope 0). `first <= row < end` are its rows, OPEN and
    CLOSE included. `over` is where the list of a for-each-value retry comes from."""

    path: str
    parent: int  # -1 for scope 0
    first: int
    end: int
    open_row: int  # -1 where the scope has no OPEN (scope 0 without a retry)
    close_row: int
    retry: Retry | None
    over: Source | None


class MapSpec(NamedTuple):
    """One map. `template` is its body compiled as a plan of its own (one root scope; entry rows are those with
    need 0; ids relative to the element). `result` says which row of the template an element's result is."""

    close_row: int
    over: Source
    template: Plan
    result: FromRow | None
    at_once: int | None


class FlowOptions(NamedTuple):
    """Options of the outermost flow."""

    on_failure: str = "revert"  # revert | suspend | keep
    on_revert_failure: str = "suspend"  # suspend | fail
    undo: str = "parallel"  # parallel | serial
    deadline_s: float | None = None


class Plan:
    """The table. All lists have one item a row unless said otherwise; treat them as constants."""

    __slots__ = (
        "_parental",
        "_pred",
        "_remote",
        "bindings",
        "digest",
        "ids",
        "inputs",
        "kind",
        "link_count",
        "links",
        "maps",
        "name",
        "need",
        "options",
        "outline",
        "outputs",
        "scope",
        "scopes",
        "steps",
        "succ",
        "version",
        "weight",
    )

    def __init__(self, name: str, version: str = "1") -> None:
        self.name = name
        self.version = version
        self.ids: list[str] = []  # path, unique: "build/prepare/make_port"; rows that are no step end in "/(open)" …
        self.kind = bytearray()
        self.succ: list[tuple[int, ...]] = []
        self.need: list[int] = []
        self.steps: list[
            StepSpec | None
        ] = []  # the step of a STEP row; the `when` (a StepSpec-less function) of a GATE
        self.bindings: list[tuple[Binding, ...]] = []
        self.scope: list[int] = []  # the innermost scope a row is in
        self.weight: list[int] = []  # for progress; 0 for rows that are no step or map
        self.scopes: list[Scope] = []
        self.links: dict[int, frozenset[int]] = {}  # row -> those of its successors that an explicit link leads to
        self.link_count: dict[int, int] = {}  # row -> number of explicit links into it
        self.maps: dict[int, MapSpec] = {}  # MAP row -> its map
        self.inputs: dict[str, tuple[bool, str]] = {}  # name -> (required, id of the first step that wants it)
        self.outputs: list[tuple[str, int, int | str | None]] = []  # (name, row, key), in row order
        self.options = FlowOptions()
        self.outline: str | None = None  # and its digest: computed when a task is stored (flow/outline.py)
        self.digest: str | None = None
        self._pred: list[list[int]] | None = None
        self._parental: bool | None = None
        self._remote: bool | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def parental(self) -> bool:
        """Whether any step makes a child task; looked for when first asked, and kept."""
        if self._parental is None:
            self._parental = any(getattr(step, "makes_child", False) for step in steps_of(self))
        return self._parental

    @property
    def remote(self) -> bool:
        """Whether agents run any of the steps; looked for when first asked, and kept."""
        if self._remote is None:
            self._remote = any(getattr(step, "agent", None) is not None for step in steps_of(self))
        return self._remote

    @property
    def pred(self) -> list[list[int]]:
        """The edges turned round; made when first asked for, and kept."""
        if self._pred is None:
            pred: list[list[int]] = [[] for _ in self.ids]
            for row, targets in enumerate(self.succ):
                for target in targets:
                    pred[target].append(row)
            self._pred = pred
        return self._pred


def steps_of(plan: Plan) -> Iterator[Any]:
    """The steps of a plan, those of its maps' bodies included."""
    plans = [plan]
    while plans:
        at = plans.pop()
        yield from (step for row, step in enumerate(at.steps) if at.kind[row] == STEP)
        plans.extend(spec.template for spec in at.maps.values())
