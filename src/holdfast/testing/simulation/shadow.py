"""What the checkers believe of each task, by its journal alone: folded as it is committed, event by event.

Nothing a worker holds in memory is looked at here. Who compares it with the rest: testing/simulation/checks.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast.core import events as e
from holdfast.core.machine import apply, invert
from holdfast.core.state import State, opened
from holdfast.core.values import decode as decode_value
from holdfast.flow.outline import changed, outline
from holdfast.store.base import JournalRow
from holdfast.store.journal import KINDS, WORDS, decode
from holdfast.tasks.claims import Claim, from_text
from holdfast.tasks.row import TaskRow
from holdfast.worker.load import finder

if TYPE_CHECKING:
    from holdfast.core.plan import Plan

VERBS = frozenset(KINDS[event].word for event in e.VERBS)
ADOPTED = KINDS[e.Adopted].word

#: What a replay need not bring out again: what is the plan's, caches, and the order of what has none.
_NOT_COMPARED = frozenset((
    "plan", "inputs", "ids", "kind", "succ", "steps", "bindings", "scope", "scopes", "weight", "frame", "frames",
    "elements", "index", "static", "at", "timers", "parked", "event_waits", "undo_pred", "ready", "undo_heap",
))  # fmt: skip
COMPARED = tuple(name for name in State.__slots__ if name not in _NOT_COMPARED)
_SORTED = ("ready", "undo_heap")


class Violation(BaseException):
    """Something that must never happen has happened. A BaseException, so that nobody takes it for a bad task's."""


class Shadow:
    """One task. `answered`: what a person has said of reverts."""

    def __init__(self, row: TaskRow, plan: Plan, inputs: str, claims: str) -> None:
        self.id = row.id
        self.uuid = row.uuid
        self.plan = plan
        self.inputs = inputs
        self.claims: tuple[Claim, ...] = from_text(claims)
        self.rollback_of = row.rollback_of
        #: Whether it is told things that no client has said: by its parent, or for its children's sake.
        self.family = row.parent_id is not None or plan.parental
        self.journal: list[tuple[JournalRow, e.Event]] = []
        self.verbs: Counter[str] = Counter()
        self.answered: dict[int, str] = {}
        self.seq = 0
        self.before: Sequence[Shadow] = ()
        self.state: State

    def begin(self, before: Sequence[Shadow], deaths_max: int) -> None:
        """`before`: of a rollback, the task whose reverts these are, and the rollbacks of it that came first."""
        self.before = before
        self.state = new_state(self, deaths_max)

    def recorded(self) -> set[str]:
        """The nodes that its journal names, and those of what it undoes."""
        return {row.node for each in (self, *self.before) for row, _ in each.journal if row.node is not None}

    def replan(self, plan: Plan, deaths_max: int) -> None:
        """A worker goes on with it by another plan. Raises: Violation: what is recorded has changed in that (G9)."""
        found = changed(self.recorded(), outline(self.plan), plan)
        if found:
            raise Violation(f"task {self.id} goes on by a plan that is not that of its journal: {'; '.join(found)}")
        before, self.plan = self.state, plan
        self.family = self.family or plan.parental
        self.state = new_state(self, deaths_max)
        fold_all(self.state, [row for row, _ in self.journal])
        self.answered = {self.state.row_of(before.ids[at]): word for at, word in self.answered.items()}

    def read(self, row: JournalRow) -> e.Event:
        return decode(row, finder(self.state))

    def fold(self, row: JournalRow, event: e.Event) -> None:
        if type(event) is e.ResumeAsked:
            for step, (word, _) in event.answers.items():
                at = self.state.row_of(step)
                if at in self.state.undo_of:
                    self.answered[at] = word
        elif type(event) is e.Started:
            self.answered.pop(event.row, None)
        apply(self.state, event)
        self.seq = row.seq
        self.journal.append((row, event))
        if row.kind in VERBS:
            self.verbs[row.kind] += 1


def new_state(shadow: Shadow, deaths_max: int) -> State:
    """What the task begins with."""
    of = shadow.before[0] if shadow.before else shadow
    state = State(shadow.plan, decode_value(of.inputs, None), deaths_max=deaths_max)
    for earlier in shadow.before:
        fold_all(state, [row for row, _ in earlier.journal])
        invert(state)
    return state


def fold_all(state: State, rows: Iterable[JournalRow]) -> None:
    index_of = finder(state)
    for row in rows:
        apply(state, decode(row, index_of))


def differences(one: State, other: State) -> list[str]:
    """The columns in which two states differ."""
    found = [name for name in COMPARED if getattr(one, name) != getattr(other, name)]
    if "results" in found and _opened(one) == _opened(other):
        found.remove("results")  # what is nothing is kept as nothing, and read as its text
    found += [name for name in _SORTED if sorted(getattr(one, name)) != sorted(getattr(other, name))]
    if one.parked.keys() != other.parked.keys():
        found.append("parked")
    return found


def _opened(state: State) -> list[Any]:
    return [opened(value) for value in state.results]


def is_workers(row: JournalRow) -> bool:
    """Whether only the worker that has the task may write such a row."""
    return row.kind not in VERBS and row.kind != ADOPTED and row.kind in WORDS


class Commit(NamedTuple):
    """What one commit has changed. `changed`: the ids of the tasks whose rows differ; `fresh`: their new journal rows
    and events, folded into the shadows by now; `tickets` and `workers`: all rows."""

    by: str
    at: float
    before: dict[int, TaskRow]
    after: dict[int, TaskRow]
    changed: list[int]
    fresh: dict[int, list[tuple[JournalRow, e.Event]]]
    tickets: list[Any]
    workers: list[Any]
