"""Making a plan of a flow.

Theory: one walk over the flow with a stack of frames of our own, so depth costs no recursion, and the steps of a flow
are laid down by the run, so a step costs a microsecond or two. Each frame reports to the one around it the row by
which its flow is entered and the row by which it is left; the frame around it draws the edges.

Names are looked up in one dict. What the children of an unordered flow, a graph or a map provide is taken back when
the child ends (there is a trail to undo it by) and given to what follows when the flow ends. A child of a graph may
need what a sibling provides that has not been seen yet, so a name that was not provided inside the child *waits* for
the end of the graph (flow/links.py).

A linear flow makes no rows of its own but where it is empty, has a retry, or is a member of a graph (whose skipping
must skip all of it). The `over` of a map or a retry is a binding of its MAP or OPEN row too, so that it is skipped
like any step whose input was skipped.

What a plan is: core/plan.py. The plan as text, to compare: flow/outline.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from holdfast.core.plan import (
    CLOSE,
    OPEN,
    FlowOptions,
    FromRow,
    MapSpec,
    Plan,
    Scope,
)
from holdfast.core.plan import (
    MAP as MAP_ROW,
)
from holdfast.errors import DuplicateName, FlowError
from holdfast.flow.arguments import check_revert
from holdfast.flow.frame import Frame, Special
from holdfast.flow.links import Edges
from holdfast.flow.names import Names
from holdfast.flow.outline import changed, digest, input_fault, outline
from holdfast.flow.patterns import GRAPH, LINEAR, MAP, Flow, Graph, Map
from holdfast.flow.step import FunctionStep, Step, check_step, step

__all__ = ["as_flow", "changed", "check_inputs", "compile", "digest", "outline"]

_NONE: Final = ()


def as_flow(flow: Flow | Step | Callable[..., Any]) -> Flow | Step:
    """The flow itself; a plain function is a step, and a step is a flow of one."""
    if isinstance(flow, (Flow, Step)):
        return flow
    return step(flow)


def compile(flow: Flow | Step | Callable[..., Any]) -> Plan:
    """The plan of a flow, made at the first call and kept with the flow. From then on a graph in it is frozen.

    Raises a FlowError whose sentence names the place: MissingInput is left to `check_inputs`.
    """
    root = as_flow(flow)
    kept: Plan | None = getattr(root, "_plan", None)
    if kept is not None:
        return kept
    plan = Compiler(root).run()
    if isinstance(root, (Flow, FunctionStep)):
        root._plan = plan
    return plan


def check_inputs(plan: Plan, inputs: Mapping[str, Any]) -> None:
    """Raise MissingInput or UnknownInput where `inputs` are not what the plan takes."""
    if (fault := input_fault(plan, inputs)) is not None:
        raise fault


class Compiler(Names):
    """One compilation. `level` counts map bodies outward-in; `plans[level]` is the plan rows are being added to."""

    __slots__ = ("root", "stack")

    def __init__(self, root: Flow | Step) -> None:
        super().__init__(Plan(root.name, root.version if isinstance(root, Flow) else "1"))
        self.root = root
        self.stack: list[Frame] = []

    def run(self) -> Plan:
        plan, stack = self.plan, self.stack
        if isinstance(self.root, Flow) and self.root.options:
            given = self.root.options
            plan.options = FlowOptions(**{option: value for option, value in given.items() if option != "version"})
        self._enter_root(self.root)
        while stack:
            frame = stack[-1]
            at = frame.at
            if at == len(frame.children):
                self._leave()
            elif isinstance(child := frame.children[at], Flow):
                frame.at = at + 1
                self._enter(child, frame)
            else:
                self._steps(frame, at)
        return plan

    # --- flows ---------------------------------------------------------------------------------------------------

    def _enter_root(self, flow: Flow | Step) -> None:
        """Begin a plan: the whole one, or a map's body."""
        if isinstance(flow, Flow) and flow.pattern != MAP:
            self._open(flow, "", None)
            return
        if not isinstance(flow, Flow):
            check_step(flow)
        self.plan.scopes.append(Scope(flow.name, -1, 0, 0, -1, -1, None, None))
        self.stack.append(Frame(None, LINEAR, (flow,), "", 0, 0))

    def _enter(self, flow: Flow, parent: Frame) -> None:
        if flow.options is not None and flow is not self.root:
            self._refuse_options(flow, parent.prefix)
        if parent.pattern != LINEAR:
            parent.mark = len(self.trail)
            if parent.pattern == GRAPH:
                self.graph = parent
                parent.member = parent.at - 1
                parent.floor = (self.level, len(self.plan.ids))
                self.low = len(self.plan.ids)
        if flow.pattern == MAP and (flow.retry is None or parent.flow is flow):
            assert isinstance(flow, Map)
            self._enter_map(flow, parent)
        else:
            self._open(flow, parent.prefix, parent)
            parent.prefix = ""  # found again from the child's: a deep flow must not keep a path for every level

    def _refuse_options(self, flow: Flow, before: str) -> None:
        option = next(iter(flow.options or ()))
        raise FlowError(
            f"{before}{flow.name} has {option}=, which is for the outermost flow: give it to {self.root.name!r}"
        )

    def _open(self, flow: Flow, before: str, parent: Frame | None) -> None:
        """Begin a flow, with an OPEN row where it needs one."""
        children = flow.children
        path = before + flow.name
        if len(children) > 1 and len({child.name for child in children}) != len(children):
            _refuse_duplicate(children, path)
        if not flow.plain:
            for child in children:
                if isinstance(child, Step):
                    check_step(child)
        pattern = flow.pattern if len(children) > 1 else LINEAR
        retry = flow.retry
        plan = self.plan
        scope, first = parent.scope if parent else 0, len(plan.ids)
        wrapped = (
            retry is not None
            or not children
            or (parent is not None and pattern != LINEAR)
            or (parent is not None and parent.pattern == GRAPH and not (len(children) == 1 and flow.flat))
        )
        if type(flow) is Graph:
            flow._frozen = True
        if flow.pattern == MAP:  # one with a retry: the scope is around the map's own row
            frame = Frame(flow, LINEAR, (flow,), before, scope, first)
        else:
            frame = Frame(flow, pattern, children, path + "/", scope, first)
            frame.cut = len(flow.name) + 1
        if wrapped or parent is None:
            frame.scope = len(plan.scopes)
            plan.scopes.append(Scope(path, scope if parent else -1, first, -1, -1, -1, retry, None))
        if wrapped:
            frame.open = self.row(OPEN, path + "/(open)", frame.scope)
            if retry is not None and retry.over is not None:
                self._begin_tries(frame, retry.over, str(retry.item))
        if pattern != LINEAR:
            self.tracking += 1
            frame.outer = self.graph
        self.stack.append(frame)

    def _begin_tries(self, frame: Frame, over: str | Sequence[object], item: str) -> None:
        scopes = self.plan.scopes
        source = self.over(over, frame.open)
        scopes[frame.scope] = scopes[frame.scope]._replace(over=source)
        frame.item = (item, self.names.get(item), Special(self.level, frame.open, "try", frame.scope))
        self.provide(item, frame.item[2])

    def _leave(self) -> None:
        """End the flow on top of the stack, and tell the frame around it where it is entered and left."""
        frame = self.stack.pop()
        plan = self.plan
        if frame.pattern == MAP:
            self._leave_map(frame)
            return
        edges = Edges(self, frame) if frame.pattern == GRAPH else None  # its conditions are rows before the CLOSE
        close = self.row(CLOSE, self._path(frame) + "/(close)", frame.scope) if frame.open >= 0 else -1
        if frame.pattern == LINEAR:
            entry, exit = frame.entry, frame.last
            if close >= 0:
                self.edge(frame.open, entry if entry >= 0 else close)
                if exit >= 0:
                    self.edge(exit, close)
        else:
            self.tracking -= 1
            if edges is not None:
                self.graph = frame.outer
                self.find_low()
                edges.join(close)
            else:
                self._fan(frame, close)
        if close >= 0:
            entry, exit = frame.open, close
        elif frame.pattern != LINEAR:
            entry = exit = -1  # the outermost one: nothing comes before or after it
        if frame.open >= 0 or not self.stack or self.stack[-1].pattern == MAP:
            plan.scopes[frame.scope] = plan.scopes[frame.scope]._replace(
                end=len(plan.ids), open_row=frame.open, close_row=close
            )
        if frame.item is not None and self.names.get(frame.item[0]) is frame.item[2]:
            self.provide(frame.item[0], frame.item[1])
        if self.stack and self.stack[-1].pattern != MAP:
            parent = self.stack[-1]
            parent.prefix = frame.prefix[: len(frame.prefix) - frame.cut]
            self._joined(parent, entry, exit)

    def _path(self, frame: Frame) -> str:
        return self.plan.scopes[frame.scope].path

    def _fan(self, frame: Frame, close: int) -> None:
        """Draw the edges of an unordered flow and let what follows see what it provides."""
        if close >= 0:
            plan = self.plan
            succ, need = plan.succ, plan.need
            succ[frame.open] = tuple(frame.starts)
            for row in frame.starts:
                need[row] = 1
            to_close = (close,)
            for row in frame.ends:
                succ[row] = to_close
            need[close] = len(frame.ends)
        for name, (_child, entry) in frame.given.items():
            several = frame.several.get(name)
            self.provide(name, Special.ambiguous(entry, several[1][1]) if several else entry)

    def _joined(self, parent: Frame, entry: int, exit: int) -> None:
        """A child flow has ended."""
        if parent.pattern == LINEAR:
            if parent.last >= 0:
                self.edge(parent.last, entry)
            else:
                parent.entry = entry
            parent.last = exit
            return
        parent.starts.append(entry)
        parent.ends.append(exit)
        if len(self.trail) != parent.mark:
            for name, found in self.taken_back(parent.mark).items():
                parent.give(name, parent.at - 1, found)

    # --- maps ----------------------------------------------------------------------------------------------------

    def _enter_map(self, flow: Map, parent: Frame) -> None:
        plan = self.plan
        path = parent.prefix + flow.name
        row = self.row(MAP_ROW, path, parent.scope, flow.weight)
        close = self.row(CLOSE, path + "/(end)", parent.scope)
        self.edge(row, close)
        over = self.over(flow.over, row)
        frame = Frame(flow, MAP, _NONE, "", parent.scope, row)
        frame.open = row
        frame.last = close
        frame.mark = len(self.trail)
        self.stack.append(frame)
        template = Plan(path)
        plan.maps[row] = MapSpec(close, over, template, None, flow.at_once)
        self.inside[id(template)] = plan
        self.plans.append(template)
        self.plan = template
        self.level += 1
        self.tracking += 1
        self.low = 0
        self.provide(flow.item, Special(self.level, -1, "item", 0))
        body = flow.body
        if isinstance(body, Flow) and body.options is not None:
            self._refuse_options(body, path + "[]/")
        self._enter_root(body)

    def _leave_map(self, frame: Frame) -> None:
        flow = frame.flow
        assert isinstance(flow, Map)
        template = self.plan
        result: FromRow | None = None
        if flow.collect is not None:
            found = self.names.get(flow.collect)
            if type(found) is not FromRow or found.up != self.level:
                if isinstance(found, Special) and found.what == "ambiguous":
                    self.refuse_ambiguous(found, flow.collect, f"map {template.name}")
                raise FlowError(f"map {template.name}: collect={flow.collect!r} is provided by no step of its body")
            result = found._replace(up=0)
        elif flow.provides is not None:
            result = FromRow(0, 0, None)
        self.taken_back(frame.mark)
        self.tracking -= 1
        self.plans.pop()
        self.plan = plan = self.plans[-1]
        self.level -= 1
        self.find_low()
        row, close = frame.open, frame.last
        plan.maps[row] = plan.maps[row]._replace(result=result)
        parent = self.stack[-1]
        if flow.provides is not None:
            self.provide(flow.provides, FromRow(self.level, close, None))
            plan.outputs.append((flow.provides, close, None))
        self._joined(parent, row, close)

    # --- steps ---------------------------------------------------------------------------------------------------

    def _steps(self, frame: Frame, at: int) -> None:
        """Lay down the run of steps that begins with child `at`."""
        children = frame.children
        end = len(children)
        if frame.flow is not None and not frame.flow.flat:
            end = at + 1
            while end < len(children) and isinstance(children[end], Step):
                end += 1
        frame.at = end
        steps: Sequence[Any] = children if end - at == len(children) else children[at:end]
        count = end - at
        plan = self.plan
        first = len(plan.ids)
        if prefix := frame.prefix:
            plan.ids += [prefix + child.name for child in steps]
        else:
            plan.ids += [child.name for child in steps]
        plan.kind += bytes(count)
        plan.steps += steps
        plan.scope += [frame.scope] * count
        plan.weight += [child.weight for child in steps]
        if frame.pattern == LINEAR:
            plan.need.append(0)
            plan.need += [1] * (count - 1)
            plan.succ += zip(range(first + 1, first + count))  # one-tuples: each leads to the next
            plan.succ.append(_NONE)
            self._bind_run(frame, steps, first)
            self._joined(frame, first, first + count - 1)
            return
        plan.need += [0] * count
        plan.succ += [_NONE] * count
        frame.starts += range(first, first + count)
        frame.ends += range(first, first + count)
        if frame.pattern == GRAPH:
            frame.runs.append((at, first, count))
        self._bind_apart(frame, steps, first, at)

    def _bind_run(self, frame: Frame, steps: Iterable[Step], row: int) -> None:
        """Bind steps of which each sees what those before it provide."""
        add = self.plan.bindings.append
        for child in steps:
            add(self.bind(child, row) if child.wants else _NONE)
            if child.revert_wants or child.probe_wants:
                check_revert(child, self.plan.ids[row])
            if child.provides is not None:
                for name, key in _parts(child.provides):
                    self.provide(name, FromRow(self.level, row, key))
                    self.plan.outputs.append((name, row, key))
            row += 1

    def _bind_apart(self, frame: Frame, steps: Iterable[Step], row: int, at: int) -> None:
        """Bind steps that don't see each other; those of a graph are bound at its end."""
        add = self.plan.bindings.append
        later = frame.pattern == GRAPH
        level = self.level
        for child in steps:
            add(self.bind(child, row) if child.wants and not later else _NONE)
            if child.revert_wants or child.probe_wants:
                check_revert(child, self.plan.ids[row])
            if child.provides is not None:
                for name, key in _parts(child.provides):
                    frame.give(name, at, FromRow(level, row, key))
                    self.plan.outputs.append((name, row, key))
            row += 1
            at += 1


def _parts(provides: str | tuple[str, ...] | frozenset[str]) -> Iterable[tuple[str, int | str | None]]:
    """The names a step provides, each with what of the result it is."""
    if isinstance(provides, str):
        return ((provides, None),)
    if isinstance(provides, tuple):
        return ((name, at) for at, name in enumerate(provides))
    return ((name, name) for name in sorted(provides))


def _refuse_duplicate(children: Iterable[Flow | Step], path: str) -> None:
    seen: set[str] = set()
    for child in children:
        if child.name in seen:
            raise DuplicateName(
                f"{path} has two members named {child.name!r}: give one another name, as with_options(name=…)"
            )
        seen.add(child.name)
