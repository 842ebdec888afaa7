"""The plan as text: what an upgrade may not change under a task that has begun (DESIGN.md §3, G9).

Theory: an outline has a table for the plan and one for every map's body, each row its id, kind, bindings, predecessors
(by number) and, for a map, the number of its body's table. It holds no step's code, no retry and no option: those may
change under a running task. The tables are flat, so a deep nest of maps is no deep JSON. The text is canonical: equal
plans have equal text, whose SHA-256 is the plan's digest.

How a plan is made: flow/compile.py. Where outlines are kept: store/schema.py (`plans`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from holdfast.core.plan import CLOSE, OPEN, FromInput, FromItem, FromRow, FromTry, Plan, Source
from holdfast.errors import FlowError, MissingInput, UnknownInput

_KINDS: Final = ("step", "open", "close", "map", "gate")

# One row of an outline: id, kind, bindings, predecessors, table of the body (-1: no map).
Row = tuple[str, str, list[list[Any]], list[int], int]


def outline(plan: Plan) -> str:
    """The plan's outline as canonical JSON; kept in `plan.outline`."""
    if plan.outline is None:
        import json

        plan.outline = json.dumps(_tables(plan), separators=(",", ":"), ensure_ascii=False)
    return plan.outline


def digest(plan: Plan) -> str:
    """The SHA-256 of the outline, in hex; kept in `plan.digest`."""
    if plan.digest is None:
        import hashlib

        plan.digest = hashlib.sha256(outline(plan).encode()).hexdigest()
    return plan.digest


def _tables(plan: Plan) -> list[list[Row]]:
    plans = [plan]
    tables: list[list[Row]] = []
    for one in plans:  # grows as maps are met
        table: list[Row] = []
        before = one.pred
        for row, row_id in enumerate(one.ids):
            body = -1
            if row in one.maps:
                body = len(plans)
                plans.append(one.maps[row].template)
            bindings = [[parameter, _words(source), required] for parameter, source, required in one.bindings[row]]
            table.append((row_id, _KINDS[one.kind[row]], bindings, sorted(before[row]), body))
        tables.append(table)
    return tables


def _words(source: Source) -> list[Any]:
    """A source as JSON. An injected value that is no plain one counts by its type: it may be a live object."""
    if type(source) is FromRow:
        return ["row", source.up, source.row, source.key]
    if type(source) is FromInput:
        return ["input", source.name]
    if type(source) is FromItem:
        return ["item", source.up]
    if type(source) is FromTry:
        return ["try", source.up, source.scope]
    value = source.value  # type: ignore[union-attr]
    if value is None or isinstance(value, (bool, int, float, str)):
        return ["value", value]
    return ["type", type(value).__qualname__]


def changed(recorded_ids: Iterable[str], old_outline: str, new_plan: Plan) -> list[str]:
    """Why a task that has begun under the old outline can't go on under the new plan; nothing where it can.

    `recorded_ids` are the ids the journal names, as "build/volumes[0]/make". Each must exist unchanged: kind, bindings
    and the order among the recorded ones. OPEN and CLOSE rows count as the edges they stand for.
    """
    import json

    old = _Outline(json.loads(old_outline))
    new = _Outline(_tables(new_plan))
    recorded = {name for step_id in recorded_ids for name in _template_names(step_id)}
    faults: list[str] = []
    pairs: list[tuple[str, tuple[int, int], tuple[int, int]]] = []
    for name in sorted(recorded, key=lambda name: old.place.get(name, (1 << 30, 0))):
        was, now = old.place.get(name), new.place.get(name)
        if was is None:
            continue  # no row of the old plan either: nothing that could have changed
        label = "/".join(name)
        if now is None:
            faults.append(f"{label} has begun and is no longer in the flow")
        elif old.row(was)[1] != new.row(now)[1]:
            faults.append(f"{label} was a {old.row(was)[1]} and is a {new.row(now)[1]} now")
        elif old.bound(was) != new.bound(now):
            faults.append(f"{label} takes its arguments from elsewhere: {_difference(old.bound(was), new.bound(now))}")
        else:
            pairs.append((label, was, now))
    old.keep(recorded)
    new.keep(recorded)
    same: dict[tuple[int, int], bool] = {}
    for label, was, now in pairs:
        before, after = old.before(was), new.before(now)
        key = (id(before), id(after))
        if key not in same:
            same[key] = before == after
        if not same[key]:
            faults.append(
                f"{label} no longer comes right after the same steps: {_names(before)} then, {_names(after)} now"
            )
    return [*faults, *_unlisted(new_plan, recorded)]


Name = tuple[str, ...]  # the ids of the maps around a row, from outside in, and its own


def _template_names(step_id: str) -> Iterator[Name]:
    """The name of a row by its id in a task, and those of the maps around it."""
    parts: list[str] = []
    for piece in step_id.split("]/"):
        own, _, _index = piece.partition("[")
        parts.append(own)
        yield tuple(parts)


def _unlisted(plan: Plan, recorded: set[Name], around: Name = ()) -> Iterator[str]:
    """The flows to be tried with one value of a list after the other of which steps have begun without: in the new
    plan nothing in them comes before its list is there. The outline doesn't tell of retries."""
    for scope in plan.scopes:
        if scope.over is None or (*around, plan.ids[scope.open_row]) in recorded:
            continue
        if any((*around, plan.ids[row]) in recorded for row in range(scope.first, scope.end)):
            label = "/".join((*around, plan.ids[scope.open_row]))
            yield f"{label} asks for a list of values to try, and the steps behind it have begun without one"
    for row, spec in plan.maps.items():
        yield from _unlisted(spec.template, recorded, (*around, plan.ids[row]))


def _difference(was: list[Any], now: list[Any]) -> str:
    gone = [binding[0] for binding in was if binding not in now]
    come = [binding[0] for binding in now if binding not in was]
    return f"{', '.join(dict.fromkeys([*gone, *come])) or 'in another order'}"


def _names(names: frozenset[Name]) -> str:
    return ", ".join(sorted("/".join(name) for name in names)) or "none"


class _Outline:
    """An outline's tables with its rows found by name."""

    def __init__(self, tables: list[Any]) -> None:
        self.tables: list[list[Row]] = tables
        self.place: dict[Name, tuple[int, int]] = {}
        self.path: dict[int, Name] = {0: ()}
        self._kept: set[Name] = set()
        self._before: dict[tuple[int, int], frozenset[Name]] = {}
        for at, table in enumerate(tables):
            path = self.path[at]
            for row, (row_id, _kind, _bindings, _before, body) in enumerate(table):
                self.place[(*path, row_id)] = (at, row)
                if body >= 0:
                    self.path[body] = (*path, row_id)

    def row(self, place: tuple[int, int]) -> Row:
        return self.tables[place[0]][place[1]]

    def bound(self, place: tuple[int, int]) -> list[Any]:
        """The bindings of a row, with rows by name and in the order of the parameters' names."""
        found = []
        for parameter, source, required in self.row(place)[2]:
            if source[0] == "row":
                path = self.path[place[0]]
                path = path[: len(path) - source[1]] if source[1] else path
                table = self.tables[self._table_of(path)]
                source = ["row", source[1], table[source[2]][0], source[3]]
            found.append([parameter, source, required])
        return sorted(found, key=lambda binding: str(binding[0]))

    def _table_of(self, path: Name) -> int:
        if not path:
            return 0
        at, row = self.place[path]
        return self.tables[at][row][4]

    def keep(self, recorded: set[Name]) -> None:
        """Only these count as predecessors."""
        self._kept = recorded

    def before(self, place: tuple[int, int]) -> frozenset[Name]:
        """The recorded rows right before this one, seen through the rows that user code never sees."""
        at = place[0]
        path, table = self.path[at], self.tables[at]
        stack = [place[1]]
        while stack:
            row = stack[-1]
            if (at, row) in self._before:
                stack.pop()
                continue
            through = [one for one in table[row][3] if table[one][1] in (_KINDS[OPEN], _KINDS[CLOSE])]
            ahead = [one for one in through if (at, one) not in self._before]
            if ahead:
                stack.extend(ahead)
                continue
            own = [(*path, table[one][0]) for one in table[row][3] if one not in through]
            kept = frozenset(name for name in own if name in self._kept)
            found = kept.union(*(self._before[at, one] for one in through)) if kept or len(through) != 1 else None
            self._before[at, row] = self._before[at, through[0]] if found is None else found
            stack.pop()
        return self._before[place]


def input_fault(plan: Plan, inputs: Mapping[str, Any]) -> FlowError | UnknownInput | None:
    """What is wrong with a flow's inputs, or None."""
    for name, (required, step_id) in plan.inputs.items():
        if required and name not in inputs:
            return MissingInput(
                f"{plan.name} needs an input {name!r}: {step_id} requires it and nothing before it provides it. "
                + _takes(plan)
            )
    for name in inputs:
        if name not in plan.inputs:
            return UnknownInput(f"{plan.name} takes no input {name!r}. {_takes(plan)}")
    return None


def _takes(plan: Plan) -> str:
    if not plan.inputs:
        return "It takes no inputs"
    names = [name if required else f"{name} (optional)" for name, (required, _step_id) in plan.inputs.items()]
    return f"It takes: {', '.join(names)}"
