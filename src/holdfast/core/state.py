"""The state of one task, as a table: a row a step, a column a fact about it.

Theory: everything the engine knows of a task is here, and only `apply` (core/machine.py) changes it. The first
`len(plan)` rows are the plan's; the rows of a map's elements are laid behind them when its length is known, each
element a *frame* that says which template it is of and where it begins. Columns every row needs are lists, what only
few rows have is in dicts keyed by row. Two sets make deciding cheap: `ready` (may start now) and `running` (user code
runs, forward or back).

How rows become ready: core/ready.py. How they are undone: core/undo.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from holdfast.core.failure import Failure
from holdfast.core.plan import Binding, FromInput, FromItem, FromRow, FromTry, FromValue, Plan, Scope, Source, StepSpec
from holdfast.core.states import S_SKIPPED, S_SUCCEEDED
from holdfast.core.values import Stored

if TYPE_CHECKING:
    from fractions import Fraction


class Frame:
    """One copy of a template: the plan itself, or an element of a map."""

    __slots__ = ("base", "exits_left", "index", "map_row", "parent", "plan", "scope_base", "unit")

    def __init__(self, plan: Plan, base: int, scope_base: int, parent: Frame | None, map_row: int, index: int) -> None:
        self.plan = plan
        self.base = base
        self.scope_base = scope_base
        self.parent = parent
        self.map_row = map_row
        self.index = index
        self.exits_left = 0
        self.unit: Fraction | int = 0  # the share of the whole task's weight that one unit of this frame's weight has


class State:
    """See the module. `phase` is a row of states.TASK; `goal` where an undo is heading."""

    __slots__ = (
        "again", "asked_undo", "at", "attempt", "began", "began_count", "bindings", "cancel_reverts", "checkpoints",
        "closes", "completed", "deadline_reached", "deadlines", "deaths_max", "delivered", "done_extra",
        "done_weight", "doubts", "elements", "event_waits", "events", "events_taken", "failed", "failing", "failures",
        "first_at", "forced", "frame", "frames", "goal", "ids", "incarnation", "index", "inputs", "inverse", "kind",
        "left", "lengths", "map_next", "need", "no", "parked", "phase", "pivots", "plan", "ready", "reason", "resting",
        "results", "revert_began", "revert_errors", "revert_tries", "reverted", "running", "scope", "scopes", "settled",
        "skips", "st", "static", "steps", "succ", "suspects", "timers", "to_probe", "total", "total_weight", "tries",
        "turned", "undo_heap", "undo_left", "undo_need", "undo_of", "undo_pred", "wake_at", "weight",
    )  # fmt: skip

    def __init__(self, plan: Plan, inputs: dict[str, Any], *, deaths_max: int = 3, inverse: bool = False) -> None:
        size = len(plan)
        self.plan = plan
        self.inputs = inputs
        self.phase = "PENDING"
        self.goal: str | None = None
        self.reason: str | None = None
        self.resting: tuple[int, ...] = ()
        self.inverse = inverse  # a rollback task: its steps are another task's reverts
        self.deaths_max = deaths_max
        self._make_columns(plan, size)
        self._make_forward(size)
        self._make_back()
        # progress: weights of the plan's rows are whole, the shares of map elements exact fractions
        self.done_weight = 0
        self.done_extra: Fraction | int = 0
        self.total_weight = sum(plan.weight)
        self.completed = 0
        self.total = plan.kind.count(0)

    def _make_columns(self, plan: Plan, size: int) -> None:
        """Those that the plan shares are copied when the first map is laid out (core/ready.py)."""
        self.static = size
        self.ids = plan.ids
        self.kind = plan.kind
        self.succ = plan.succ
        self.steps: list[StepSpec | None] = plan.steps
        self.bindings: list[tuple[Binding, ...]] = plan.bindings
        self.scope = plan.scope
        self.scopes: list[Scope] = plan.scopes
        self.weight = plan.weight
        self.need = plan.need.copy()
        self.st = bytearray(size)
        self.settled = bytearray(size)  # counted as done, also while and after it is undone
        self.results: list[Any] = [None] * size
        self.attempt = [0] * size
        self.began = [0] * size  # order of start in this incarnation, 0: not begun
        self.began_count = 0
        self.frames: list[Frame] = [Frame(plan, 0, 0, None, -1, 0)]
        self.frame: list[Frame] = []  # of the rows behind the plan's
        self.elements: dict[int, list[Frame]] = {}  # map row -> its elements, also those of an earlier, longer try
        self.lengths: dict[int, int] = {}  # map row, or OPEN of a for-each-value retry -> length of its list
        self.map_next: dict[int, int] = {}
        self.closes: dict[int, int] = {}  # CLOSE of a map -> its MAP row
        self.index: dict[str, int] | None = None
        self.at = 0.0  # when the last event was that may open a scope

    def _make_forward(self, size: int) -> None:
        self.ready: deque[int] = deque()
        self.running: dict[int, None] = {}
        self.left = size
        self.no: dict[int, int] = {}
        self.skips = False
        self.parked: dict[int, Any] = {}
        self.event_waits: dict[str, dict[int, None]] = {}
        self.events: dict[str, list[Any]] = {}  # what was delivered, by name, in that order
        self.events_taken: dict[tuple[int, str], int] = {}  # how many of a name a step has taken
        self.delivered: dict[int, Any] = {}
        self.checkpoints: dict[int, Any] = {}
        self.timers: list[tuple[float, int]] = []
        self.wake_at: dict[int, float] = {}
        self.first_at: dict[int, float] = {}
        self.deadlines: dict[int, float] = {}  # of the current attempt, where the step has a timeout
        self.incarnation: dict[int, int] = {}
        self.failures: dict[int, Failure] = {}  # the last failure of each row that has one
        self.failed: dict[int, float] = {}  # failures nobody has answered for: row -> when
        self.doubts: dict[int, str] = {}  # rows that wait for a person: row -> reason
        self.to_probe: dict[int, None] = {}
        self.suspects: dict[int, int] = {}  # rows in flight at deaths -> how many since their last outcome
        self.pivots: set[int] = set()
        self.again: dict[int, bool] = {}  # rows started more than once: whether the pivot was passed before
        self.tries: dict[int, int] = {}  # scope -> tries begun
        self.failing: dict[int, bool] = {}  # retrying scope -> its undo has begun
        self.deadline_reached = False
        self.cancel_reverts = True
        self.asked_undo = False
        self.forced: str | None = None

    def _make_back(self) -> None:
        self.turned = False
        self.undo_need: dict[int, int] = {}
        self.undo_pred: dict[int, list[int]] = {}
        self.undo_of: dict[int, int] = {}
        self.undo_left: dict[int, int] = {}  # scope (0: the task) -> rows not undone yet
        self.undo_heap: list[tuple[int, int]] = []
        self.revert_began: set[int] = set()
        self.revert_tries: dict[int, int] = {}
        self.revert_errors: dict[int, Failure] = {}
        self.reverted = 0

    @property
    def deaths(self) -> int:
        """Those of the row that has most."""
        return max(self.suspects.values()) if self.suspects else 0

    def row_of(self, step_id: str) -> int:
        """The row with that id, or -1."""
        index = self.index
        if index is None:
            index = self.index = {}
        if len(index) < len(self.ids):
            for at in range(len(index), len(self.ids)):
                index[self.ids[at]] = at
        return index.get(step_id, -1)

    def frame_of(self, row: int) -> Frame:
        return self.frames[0] if row < self.static else self.frame[row - self.static]

    def rows_of(self, scope: int) -> Iterator[int]:
        """The rows of a scope, those of its maps' elements included."""
        spec = self.scopes[scope]
        stack = [(spec.first, spec.end)]
        while stack:
            first, end = stack.pop()
            for row in range(first, end):
                yield row
                if row in self.elements:
                    for frame in self.elements[row][: self.lengths.get(row, 0)]:
                        stack.append((frame.base, frame.base + len(frame.plan)))

    def within(self, row: int, scope: int) -> bool:
        """Whether the row is in the scope, however deep."""
        at = self.scope[row]
        while at != scope and at > 0:
            at = self.scopes[at].parent
        return at == scope

    def scopes_above(self, row: int) -> Iterator[int]:
        """The scopes the row is in, innermost first."""
        at = self.scope[row]
        while at >= 0:
            yield at
            at = self.scopes[at].parent

    def in_failing(self, row: int) -> bool:
        return bool(self.failing) and any(scope in self.failing for scope in self.scopes_above(row))

    def source_row(self, row: int, source: FromRow) -> int:
        """The row that `source`, as written in `row`'s template, means."""
        return self._outer(row, source.up).base + source.row

    def _outer(self, row: int, up: int) -> Frame:
        frame = self.frame_of(row)
        for _ in range(up):
            assert frame.parent is not None
            frame = frame.parent
        return frame

    def value_of(self, row: int, source: Source) -> Any:
        """What a source of `row` is worth now: the stored thing, before a Stored is opened."""
        if type(source) is FromRow:
            frame = self._outer(row, source.up) if row >= self.static else self.frames[0]
            found = self._result(frame.base + source.row)
            return part(found, source.key)
        if type(source) is FromInput:
            return self.inputs[source.name]
        if type(source) is FromItem:
            frame = self._outer(row, source.up)
            assert frame.parent is not None
            spec = frame.parent.plan.maps[frame.map_row - frame.parent.base]
            return opened(self.value_of(frame.map_row, spec.over))[frame.index]
        if type(source) is FromTry:
            scope = self._outer(row, source.up).scope_base + source.scope
            over = self.scopes[scope].over
            assert over is not None
            values = opened(self.value_of(self.scopes[scope].open_row, over))
            return values[self.tries[scope] - 1]
        assert type(source) is FromValue
        return source.value

    def _result(self, row: int) -> Any:
        if row not in self.closes:
            return self.results[row]
        of = self.closes[row]
        frame = self.frame_of(of)
        result = frame.plan.maps[of - frame.base].result
        if result is None:
            return None
        collected = []
        for element in self.elements[of][: self.lengths[of]]:
            found = self._result(element.base + result.row)
            collected.append(opened(part(found, result.key)))
        return collected

    def given(self, row: int, binding: Binding) -> bool:
        """Whether a binding has a value: an optional one may not, and then the parameter's default is taken."""
        source = binding.source
        if type(source) is FromInput:
            return source.name in self.inputs
        if type(source) is FromRow:
            return self.st[self.source_row(row, source)] not in (S_SKIPPED, 0)
        return True

    def outputs(self) -> dict[str, Any]:
        """Every provided name and its value; where two steps give one name, the later row's."""
        return {
            name: part(self._result(row), key) for name, row, key in self.plan.outputs if self.st[row] == S_SUCCEEDED
        }


def part(value: Any, key: int | str | None) -> Any:
    """One of the values that a step gave, or all of it. None where it gave no such thing: it was skipped, or a person
    said that it was done and not what came of it."""
    if key is None:
        return value
    try:
        return opened(value)[key]
    except (TypeError, LookupError):
        return None


def opened(value: Any) -> Any:
    """The value itself, where a result read from the journal is still its text."""
    return value.value if type(value) is Stored else value
