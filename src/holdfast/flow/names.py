"""What names mean while a flow is compiled, and the rows laid down so far.

Theory: one dict says what each name means here and now. Under a flow whose children don't see each other a trail
remembers what names meant before, so that a child's names can be taken back. Inside a member of a graph only what the
member itself provides counts at once (rows from `low` on, the rest is left to the graph's end, flow/links.py), since a
sibling that has not been seen yet may be the provider.

The walk over the flow: flow/compile.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from holdfast.core.plan import Binding, FromInput, FromItem, FromRow, FromTry, FromValue, Plan, Source
from holdfast.errors import AmbiguousInput
from holdfast.flow.frame import Entry, Frame, Special, Wait


class Names:
    """`level` counts map bodies from outside in; `plans[level]` is the plan that rows are being added to."""

    __slots__ = ("graph", "inside", "level", "low", "names", "plan", "plans", "tracking", "trail")

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.plans = [plan]
        self.inside: dict[int, Plan] = {}  # id of a template -> the plan its map is in
        self.level = 0
        self.names: dict[str, Entry | None] = {}
        self.trail: list[tuple[str, Entry | None]] = []
        self.tracking = 0  # flows around us whose children don't see each other
        self.graph: Frame | None = None  # the innermost graph around us
        self.low = 0  # rows of this plan from here on are inside the graph's current member

    def bind(self, child: Any, row: int) -> tuple[Binding, ...]:
        names, low, flat = self.names, self.low, not self.level
        bind, inject = child.bind, child.inject
        bound: list[Binding] = []
        for parameter, required in child.wants:
            source: Source
            if inject and parameter in inject:
                source = FromValue(inject[parameter])
            else:
                name = bind.get(parameter, parameter) if bind else parameter
                entry = names.get(name)
                if flat and type(entry) is FromRow and entry.row >= low:
                    source = entry
                else:
                    source = self.source(Wait(name, self.plan, self.level, row, len(bound), required), entry)
            bound.append(Binding(parameter, source, required))
        return tuple(bound)

    def provide(self, name: str, entry: Entry | None) -> None:
        """From here on the name means this."""
        if self.tracking:
            self.trail.append((name, self.names.get(name)))
        self.names[name] = entry

    def taken_back(self, mark: int) -> dict[str, Entry]:
        """Make the names mean what they meant when the trail was that long; return what they came to mean since."""
        names, trail = self.names, self.trail
        latest: dict[str, Entry | None] = {}
        while len(trail) > mark:
            name, before = trail.pop()
            latest.setdefault(name, names[name])
            names[name] = before
        return {name: found for name, found in latest.items() if found is not None and names[name] is not found}

    def source(self, wait: Wait, entry: Entry | None) -> Source:
        """What a name means to the binding that asks for it, given what it means here and now."""
        graph = self.graph
        if graph is not None and (entry is None or (entry.up, entry.row) < graph.floor):
            graph.waits.append(wait._replace(member=graph.member))
            return FromInput(wait.name)  # put right at the end of the graph
        if entry is None:
            return self._input(wait)
        return self.seen(wait, entry)

    def seen(self, wait: Wait, entry: Entry) -> Source:
        """The source that stands for `entry` in the plan where it is asked for."""
        up = wait.level - entry.up
        if type(entry) is FromRow:
            return entry._replace(up=up)
        assert isinstance(entry, Special)
        if entry.what == "item":
            return FromItem(up)
        if entry.what == "try":
            return FromTry(up, entry.scope)
        self.refuse_ambiguous(entry, wait.name, self.label(wait.plan, wait.row))

    def _input(self, wait: Wait) -> FromInput:
        inputs = self.plans[0].inputs
        known = inputs.get(wait.name)
        if known is None or (wait.required and not known[0]):
            inputs[wait.name] = (wait.required, self.label(wait.plan, wait.row))
        return FromInput(wait.name)

    def over(self, over: str | Sequence[object], row: int) -> Source:
        """The list of a map or a retry, which is a binding of `row` too."""
        source: Source
        if isinstance(over, str):
            source = self.source(Wait(over, self.plan, self.level, row, 0, True), self.names.get(over))
        else:
            source = FromValue(over)
        self.plan.bindings[row] = (Binding("over", source, True),)
        return source

    def refuse_ambiguous(self, entry: Special, name: str, place: str) -> NoReturn:
        first, second = (self.label(self.plans[found.up], found.row) for found in entry.both())
        raise AmbiguousInput(
            f"{place} asks for {name!r}, which both {first} and {second} provide: "
            f"give one of them another provides=, and say bind={{{name!r}: …}} here"
        )

    def label(self, plan: Plan, row: int) -> str:
        """The id of a row as a person reads it, from the outermost flow on."""
        label = plan.ids[row].removesuffix("/(end)").removesuffix("/(open)")
        while id(plan) in self.inside:
            label = f"{plan.name}[]/{label}"
            plan = self.inside[id(plan)]
        return label

    def row(self, kind: int, row_id: str, scope: int, weight: int = 0, asks: Any = None) -> int:
        """Add one row, and say which."""
        plan = self.plan
        plan.ids.append(row_id)
        plan.kind.append(kind)
        plan.succ.append(())
        plan.need.append(0)
        plan.steps.append(asks)
        plan.bindings.append(())
        plan.scope.append(scope)
        plan.weight.append(weight)
        return len(plan.ids) - 1

    def edge(self, row: int, target: int) -> None:
        self.plan.succ[row] = (target,)
        self.plan.need[target] += 1

    def find_low(self) -> None:
        graph = self.graph
        self.low = graph.floor[1] if graph is not None and graph.floor[0] == self.level else 0
