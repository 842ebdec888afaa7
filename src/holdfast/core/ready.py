"""Readiness, forward: which rows may start, and what follows when one has ended.

Theory: a row counts the predecessors it still needs; whoever ends lowers the count of its successors, and a count of
nought makes a row *arrive*. So choosing what is ready costs the out-degree of the row that ended, whatever the size
of the flow. Rows that are no step (OPEN, CLOSE) end as they arrive, on an explicit stack, never by recursion.

A row is skipped when every explicit link into it said no or came from a skipped row, or when an input it requires
came from one (DESIGN.md §5); a skipped OPEN skips its whole scope at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core.plan import GATE, MAP, OPEN, STEP, FromRow
from holdfast.core.state import Frame, State
from holdfast.core.states import S_PENDING, S_SKIPPED, S_SUCCEEDED

if TYPE_CHECKING:
    from fractions import Fraction


_ASKED_FOR = frozenset((STEP, GATE, MAP))


def enter(state: State) -> None:
    """Let the rows that need nothing arrive: the task begins."""
    ended: list[int] = []
    for row, need in enumerate(state.plan.need):
        if not need:
            arrive(state, row, ended)
    if ended:
        release(state, ended)


def release(state: State, ended: list[int]) -> None:
    """Lower the counts of the successors of rows that have just been settled."""
    succ, need, st = state.succ, state.need, state.st
    while ended:
        row = ended.pop()
        targets = succ[row]
        if state.skips and st[row] == S_SKIPPED:
            _note_skip(state, row)
        for target in targets:
            left = need[target] - 1
            need[target] = left
            if not left:
                arrive(state, target, ended)
        if row >= state.static and not _plan_succ(state, row):
            _element_exit(state, row, ended)


def arrive(state: State, row: int, ended: list[int]) -> None:
    """Everything before the row is settled: it becomes ready, or ends at once."""
    if state.st[row] != S_PENDING or (state.failing and state.in_failing(row)):
        return
    if state.skips and _is_skipped(state, row):
        _skip(state, row, ended)
        return
    kind = state.kind[row]
    if kind in _ASKED_FOR:
        state.ready.append(row)
    elif kind == OPEN and state.scopes[state.scope[row]].retry is not None:
        _open_try(state, row, ended)
    else:
        settle(state, row, S_SUCCEEDED)
        ended.append(row)


def _open_try(state: State, row: int, ended: list[int]) -> None:
    scope = state.scope[row]
    if state.scopes[scope].over is not None and row not in state.lengths:
        state.ready.append(row)  # its list is asked for first
        return
    state.tries[scope] = state.tries.get(scope, 0) + 1
    if state.tries[scope] == 1:
        state.first_at[row] = state.at
    settle(state, row, S_SUCCEEDED)
    ended.append(row)


def settle(state: State, row: int, how: int) -> None:
    """Mark a row as done for what follows it, and count its weight."""
    state.st[row] = how
    state.settled[row] = 1
    state.left -= 1
    kind = state.kind[row]
    if kind == STEP:
        state.completed += 1
    _weigh(state, row, kind, 1)


def _weigh(state: State, row: int, kind: int, sign: int) -> None:
    weight = state.weight[row]
    if not weight:
        return
    if kind == MAP and state.lengths.get(row) and _template_weight(state, row):
        return  # its elements carry the map's weight
    if row < state.static:
        state.done_weight += sign * weight
    else:
        state.done_extra += sign * weight * state.frame_of(row).unit


def unsettle(state: State, row: int) -> None:
    """Take back `settle`: the row will be tried again."""
    state.settled[row] = 0
    state.left += 1
    kind = state.kind[row]
    if kind == STEP:
        state.completed -= 1
    _weigh(state, row, kind, -1)


def _template_weight(state: State, row: int) -> int:
    frame = state.frame_of(row)
    return sum(frame.plan.maps[row - frame.base].template.weight)


# --- skipping ----------------------------------------------------------------------------------------------------


def _note_skip(state: State, row: int) -> None:
    frame = state.frame_of(row)
    for local in frame.plan.links.get(row - frame.base, ()):
        target = frame.base + local
        state.no[target] = state.no.get(target, 0) + 1


def _is_skipped(state: State, row: int) -> bool:
    frame = state.frame_of(row)
    links = frame.plan.link_count.get(row - frame.base, 0)
    if links and state.no.get(row, 0) >= links:
        return True
    for _, source, required in state.bindings[row]:
        if required and type(source) is FromRow and state.st[state.source_row(row, source)] == S_SKIPPED:
            return True
    return False


def _skip(state: State, row: int, ended: list[int]) -> None:
    kind = state.kind[row]
    if kind == OPEN:
        spec = state.scopes[state.scope[row]]
        for inner in range(spec.first, spec.end):
            if state.st[inner] == S_PENDING:
                settle(state, inner, S_SKIPPED)
        ended.append(spec.close_row)
        return
    settle(state, row, S_SKIPPED)
    if kind == MAP:
        frame = state.frame_of(row)
        close = frame.base + frame.plan.maps[row - frame.base].close_row
        settle(state, close, S_SKIPPED)
        ended.append(close)
    else:
        ended.append(row)


def skip(state: State, row: int) -> None:
    """A person said skip, or a link said no."""
    state.skips = True
    state.st[row] = S_PENDING
    ended: list[int] = []
    _skip(state, row, ended)
    release(state, ended)


# --- maps --------------------------------------------------------------------------------------------------------


def _plan_succ(state: State, row: int) -> tuple[int, ...]:
    frame = state.frame[row - state.static]
    return frame.plan.succ[row - frame.base]


def expand(state: State, row: int, length: int) -> None:
    """The length of a list is known: lay out the map's elements and let the first of them arrive."""
    state.lengths[row] = length
    ended: list[int] = []
    if state.kind[row] == OPEN:
        if length:
            _open_try(state, row, ended)
            release(state, ended)
        return
    frame = state.frame_of(row)
    spec = frame.plan.maps[row - frame.base]
    close = frame.base + spec.close_row
    state.closes[close] = row
    elements = state.elements.setdefault(row, [])
    while len(elements) < length:
        elements.append(_lay_out(state, row, close, frame, len(elements)))
    entries = [local for local, need in enumerate(spec.template.need) if not need]
    exits = sum(1 for targets in spec.template.succ if not targets)
    weight = sum(spec.template.weight)
    share = _share(state, frame, row)
    live: list[int] = []
    for element in elements[:length]:
        element.exits_left = exits
        element.unit = share / (length * weight) if weight else 0
        live.extend(element.base + local for local in entries)
    state.left += length * len(spec.template)
    state.total += length * spec.template.kind.count(STEP)
    state.need[close] += length * exits
    state.succ[row] = frame_succ(frame, row) + tuple(live)  # for the undo's order; `release` never walks it
    settle(state, row, S_SUCCEEDED)
    for target in frame_succ(frame, row):
        state.need[target] -= 1
        if not state.need[target]:
            arrive(state, target, ended)
    state.map_next[row] = 0
    for _ in range(min(length, spec.at_once or length)):
        _next_element(state, row, ended)
    release(state, ended)


def _share(state: State, frame: Frame, row: int) -> Fraction:
    """A map's share of the weight of the whole task, exactly."""
    from fractions import Fraction

    if frame.parent is None:
        return Fraction(state.weight[row], state.total_weight or 1)
    return Fraction(frame.unit * state.weight[row])


def frame_succ(frame: Frame, row: int) -> tuple[int, ...]:
    """A row's successors as its template has them."""
    base = frame.base
    targets = frame.plan.succ[row - base]
    return tuple(base + local for local in targets) if base else targets


def _next_element(state: State, row: int, ended: list[int]) -> None:
    at = state.map_next[row]
    state.map_next[row] = at + 1
    element = state.elements[row][at]
    for local, need in enumerate(element.plan.need):
        if not need:
            arrive(state, element.base + local, ended)


def _element_exit(state: State, row: int, ended: list[int]) -> None:
    frame = state.frame[row - state.static]
    frame.exits_left -= 1
    if frame.exits_left:
        return
    of = frame.map_row
    if state.map_next[of] < state.lengths[of]:
        _next_element(state, of, ended)


def _lay_out(state: State, row: int, close: int, parent: Frame, index: int) -> Frame:
    """Put one element's rows behind the table."""
    template = parent.plan.maps[row - parent.base].template
    if not state.frame:  # the first: from now on the columns are this state's own
        state.ids = state.ids.copy()
        state.kind = bytearray(state.kind)
        state.succ = state.succ.copy()
        state.steps = state.steps.copy()
        state.bindings = state.bindings.copy()
        state.scope = state.scope.copy()
        state.scopes = state.scopes.copy()
        state.weight = state.weight.copy()
    base, scope_base = len(state.ids), len(state.scopes)
    frame = Frame(template, base, scope_base, parent, row, index)
    prefix = f"{state.ids[row]}[{index}]"
    state.ids.extend(f"{prefix}/{step_id}" if step_id else prefix for step_id in template.ids)
    state.kind.extend(template.kind)
    state.succ.extend(tuple(base + local for local in targets) if targets else (close,) for targets in template.succ)
    state.steps.extend(template.steps)
    state.bindings.extend(template.bindings)
    state.scope.extend(scope_base + local for local in template.scope)
    for spec in template.scopes:
        state.scopes.append(
            spec._replace(
                path=f"{prefix}/{spec.path}" if spec.path else prefix,
                parent=state.scope[row] if spec.parent < 0 else scope_base + spec.parent,
                first=base + spec.first,
                end=base + spec.end,
                open_row=base + spec.open_row if spec.open_row >= 0 else -1,
                close_row=base + spec.close_row if spec.close_row >= 0 else -1,
            )
        )
    state.weight.extend(template.weight)
    state.need.extend(template.need)
    size = len(template)
    state.st.extend(bytes(size))
    state.settled.extend(bytes(size))
    state.results.extend([None] * size)
    state.attempt.extend([0] * size)
    state.began.extend([0] * size)
    state.frame.extend([frame] * size)
    return frame


# --- trying a scope again ----------------------------------------------------------------------------------------


def reset(state: State, scope: int) -> None:
    """Make every row of an undone scope as if it had never begun, and let it arrive again."""
    spec = state.scopes[scope]
    rows = list(state.rows_of(scope))
    own_frame = state.frame_of(spec.open_row)
    for row in rows:
        inside = state.frame_of(row)
        if inside is not own_frame:  # a map's element: it is laid out anew when the map is
            if state.settled[row]:
                unsettle(state, row)
            state.left -= 1
            state.total -= state.kind[row] == STEP
        elif state.settled[row]:
            unsettle(state, row)
        forget(state, row)
        state.need[row] = inside.plan.need[row - inside.base]
        state.no.pop(row, None)
    for row in rows:
        if row != spec.open_row:
            state.lengths.pop(row, None)
            state.map_next.pop(row, None)
            if state.kind[row] == OPEN:
                state.tries.pop(state.scope[row], None)
                state.first_at.pop(row, None)
    state.need[spec.open_row] = 0
    ended: list[int] = []
    arrive(state, spec.open_row, ended)
    release(state, ended)


def forget(state: State, row: int) -> None:
    """The row is new again: a new incarnation where its revert had begun (new key, no checkpoint)."""
    state.st[row] = S_PENDING
    state.results[row] = None
    state.attempt[row] = 0
    state.began[row] = 0
    state.parked.pop(row, None)
    state.delivered.pop(row, None)
    state.wake_at.pop(row, None)
    state.failed.pop(row, None)
    state.doubts.pop(row, None)
    state.to_probe.pop(row, None)
    state.revert_tries.pop(row, None)
    state.revert_errors.pop(row, None)
    state.again.pop(row, None)
    state.pivots.discard(row)
    if row in state.revert_began:
        state.revert_began.discard(row)
        state.incarnation[row] = state.incarnation.get(row, 0) + 1
        state.checkpoints.pop(row, None)
