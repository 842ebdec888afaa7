"""The edges of a graph: its links, their conditions, and who needs what from whom.

Theory: when the graph's members have all been laid down, each name that a member asked for and did not provide itself
is given to the member that provides it, which is an edge. Where several provide it, those count from which explicit
links lead to the asking member, and the last of these wins, if the links put them in a line; otherwise the name is
ambiguous. A name nobody provides is looked for outside. A condition (`when=`) is a row of its own between the two
members; what its source provides is nearest to it.

The rest of the compiler: flow/compile.py. What skipping means: core/ready.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from holdfast.core.plan import GATE, MAP, OPEN, Binding, FromInput, FromRow, FromValue, Source
from holdfast.errors import Cycle
from holdfast.flow.frame import Frame, Given, Special, Wait
from holdfast.flow.patterns import Graph

if TYPE_CHECKING:
    from holdfast.flow.compile import Compiler


class Edges:
    """The graph's nodes are its members and, behind them, its conditions; `out[node]` maps each target to whether an
    explicit link leads there."""

    def __init__(self, compiler: Compiler, frame: Frame) -> None:
        assert isinstance(frame.flow, Graph)
        self.compiler = compiler
        self.frame = frame
        self.flow = frame.flow
        self.names = [child.name for child in self.flow.children]
        self.out: list[dict[int, bool]] = [{} for _ in self.names]
        self.before: dict[int, list[int]] = {}  # node -> where explicit links come from
        self.asker: dict[int, int] = {}  # condition -> the member it asks about
        self.gated: set[tuple[int, int]] = set()
        self._rank: dict[int, int] | None = None
        for (source, target), when in self.flow.links.items():
            if when is None:
                self._explicit(source, target)
                continue
            node = len(self.names)
            row = compiler.row(GATE, frame.prefix + when.name, frame.scope, asks=when)
            self.names.append(when.name)
            self.out.append({})
            self.asker[node] = source
            self.gated.add((source, target))
            frame.starts.append(row)
            frame.ends.append(row)
            self._explicit(source, node)
            self._explicit(node, target)
            compiler.plan.bindings[row] = tuple(
                Binding(parameter, FromInput(parameter), required) for parameter, required in when.wants
            )
            frame.waits.extend(
                Wait(parameter, compiler.plan, compiler.level, row, at, required, node)
                for at, (parameter, required) in enumerate(when.wants)
            )

    def _explicit(self, source: int, target: int) -> None:
        self.out[source][target] = True
        self.before.setdefault(target, []).append(source)

    def join(self, close: int) -> None:
        """Draw the edges, once the members have all been laid down. `close` is the graph's CLOSE row or -1."""
        self._bind_steps()
        for wait in self.frame.waits:
            _put_right(wait, self._find(wait))
        self._check_order()
        self._draw(close)
        self._provide()

    # --- data ----------------------------------------------------------------------------------------------------

    def _bind_steps(self) -> None:
        """Bind the steps among the members."""
        plan = self.compiler.plan
        for member, first, count in self.frame.runs:
            for row in range(first, first + count):
                step: Any = plan.steps[row]
                if step.wants:
                    plan.bindings[row] = self._bind(step, member, row)
                member += 1

    def _bind(self, step: Any, member: int, row: int) -> tuple[Binding, ...]:
        compiler, given, several = self.compiler, self.frame.given, self.frame.several
        bind, inject = step.bind, step.inject
        flat = not compiler.level
        bound: list[Binding] = []
        for parameter, required in step.wants:
            source: Source
            if inject and parameter in inject:
                bound.append(Binding(parameter, FromValue(inject[parameter]), required))
                continue
            name = bind.get(parameter, parameter) if bind else parameter
            found = given.get(name)
            if flat and found is not None and found[0] != member and name not in several and type(found[1]) is FromRow:
                source = found[1]
                self._data_edge(found[0], member)
            else:
                source = self._find(Wait(name, compiler.plan, compiler.level, row, len(bound), required, member))
            bound.append(Binding(parameter, source, required))
        return tuple(bound)

    def _find(self, wait: Wait) -> Source:
        """Who provides what a binding asks for, here or outside."""
        found = self._provider(wait)
        compiler = self.compiler
        if found is None:
            return compiler.source(wait, compiler.names.get(wait.name))
        self._data_edge(found[0], wait.member)
        return compiler.seen(wait, found[1])

    def _data_edge(self, source: int, target: int) -> None:
        if (source, target) not in self.gated:
            self.out[source].setdefault(target, False)

    def _provider(self, wait: Wait) -> Given | None:
        found = self.frame.given.get(wait.name)
        several = self.frame.several.get(wait.name)
        if several is None:
            return found if found is not None and found[0] != wait.member else None
        others = [one for one in several if one[0] != wait.member]
        if len(others) < 2:
            return others[0] if others else None
        asked = self.asker.get(wait.member)
        for one in others:
            if one[0] == asked:
                return one
        above = self._above(wait.member)
        nearest = self._last([one for one in others if one[0] in above])
        return nearest or (others[0][0], Special.ambiguous(others[0][1], others[1][1]))

    def _above(self, node: int) -> set[int]:
        """Every node from which explicit links lead to this one."""
        above: set[int] = set()
        ahead = [node]
        while ahead:
            for source in self.before.get(ahead.pop(), ()):
                if source not in above:
                    above.add(source)
                    ahead.append(source)
        return above

    def _last(self, found: list[Given]) -> Given | None:
        """The one that all the others lead to, if there is such a one."""
        if len(found) < 2:
            return found[0] if found else None
        if self._rank is None:
            explicit = [[target for target, explicit in targets.items() if explicit] for targets in self.out]
            self._rank = {node: at for at, node in enumerate(_sorted(explicit))}
        rank = self._rank
        last = max(found, key=lambda one: rank.get(one[0], -1))
        above = self._above(last[0])
        return last if all(one is last or one[0] in above for one in found) else None

    # --- edges ---------------------------------------------------------------------------------------------------

    def _check_order(self) -> None:
        """Raise Cycle where the members can't be put in an order."""
        done = _sorted(self.out)
        if len(done) == len(self.out):
            return
        left = set(range(len(self.out))).difference(done)
        behind = {target: source for source in left for target in self.out[source] if target in left}
        # Whatever is left and not merely behind the circle has something left before it: walking back must meet itself.
        at = next(iter(behind))
        walked: dict[int, None] = {}
        while at not in walked:
            walked[at] = None
            at = behind[at]
        circle = list(walked)[list(walked).index(at) :]
        members = [self.names[node] for node in reversed([*circle, at]) if node not in self.asker]
        if len(members) < 2 or members[0] != members[-1]:
            members.append(members[0])
        raise Cycle(
            f"graph {self.frame.prefix[:-1]} goes in a circle: {' -> '.join(members)}. "
            f"Drop a link, or rename what one of them provides"
        )

    def _draw(self, close: int) -> None:
        plan, starts, ends = self.compiler.plan, self.frame.starts, self.frame.ends
        succ, need = plan.succ, plan.need
        for node, targets in enumerate(self.out):
            if not targets:
                continue
            row = ends[node]
            succ[row] = rows = tuple(sorted([starts[target] for target in targets]))
            for target in rows:
                need[target] += 1
            if not self.before:
                continue
            explicit = frozenset(starts[target] for target, explicit in targets.items() if explicit)
            if explicit:
                plan.links[row] = explicit
                for target in explicit:
                    plan.link_count[target] = plan.link_count.get(target, 0) + 1
        if close < 0:
            return
        first = tuple(row for row in starts if not need[row])
        for row in first:
            need[row] = 1
        succ[self.frame.open] = first
        last = [ends[node] for node, targets in enumerate(self.out) if not targets]
        for row in last:
            succ[row] = (close,)
        need[close] = len(last)

    def _provide(self) -> None:
        """Let what follows the graph see what its members provide."""
        several = self.frame.several
        for name, (_member, entry) in self.frame.given.items():
            if name in several:
                found = several[name]
                nearest = self._last(found)
                entry = nearest[1] if nearest else Special.ambiguous(found[0][1], found[1][1])
            self.compiler.provide(name, entry)


def _sorted(out: Sequence[Iterable[int]]) -> list[int]:
    """The nodes in an order in which every edge leads forward; those on or behind a circle are missing."""
    need = [0] * len(out)
    for targets in out:
        for target in targets:
            need[target] += 1
    ready = deque(node for node, left in enumerate(need) if not left)
    done: list[int] = []
    while ready:
        node = ready.popleft()
        done.append(node)
        for target in out[node]:
            need[target] -= 1
            if not need[target]:
                ready.append(target)
    return done


def _put_right(wait: Wait, source: Source) -> None:
    plan, row, at = wait.plan, wait.row, wait.at
    bound = plan.bindings[row]
    plan.bindings[row] = (*bound[:at], bound[at]._replace(source=source), *bound[at + 1 :])
    if plan.kind[row] == MAP:
        plan.maps[row] = plan.maps[row]._replace(over=source)
    elif plan.kind[row] == OPEN:
        scope = plan.scope[row]
        plan.scopes[scope] = plan.scopes[scope]._replace(over=source)
