"""What a task's steps show: the rows of `steps` that its appends bring.

Theory: a step has a row from its first start on, numbered in that order. While steps only succeed and others begin
for the first time, the journal tells it all and the rows wait until `PENDING_MAX` of them do; the first append that
says anything else brings them with its own. Who reads them meanwhile: tasks/steps.py. What one event changes is
written with it; what an event changes in many rows at once (an undo begins, a scope is tried again) is written with
the next append.

The journal rows and the columns of `tasks`: worker/record.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from holdfast.core import events as e
from holdfast.core.state import State
from holdfast.core.states import S_FAILED, STEP, STEP_STATES
from holdfast.store.base import StepRow

PENDING_MAX: Final = 64
_BULK = frozenset((e.TakenOver, e.Turned, e.ScopeTurned, e.ScopeReset, e.Abandoned))
_DONE_STATES = frozenset(("SUCCEEDED", "FAILED", "SKIPPED", "REVERTED", "REVERT_FAILED", "ABORTED", "ABANDONED"))


class Showing:
    """See the module."""

    __slots__ = (
        "_ended_at", "_intended", "_new", "_pending", "_shown", "_started_at", "_state", "ord", "said", "stale",
    )  # fmt: skip

    def __init__(self, state: State) -> None:
        self._state = state
        self.ord: dict[int, int] = {}  # of every row of the state's table that ever began
        self._started_at: dict[int, float] = {}
        self._ended_at: dict[int, float] = {}
        self._new: list[int] = []  # rows whose first start is not durable yet
        self._shown: dict[int, str] = {}  # the states in the database
        self._intended: list[int] = []  # rows that the last append brings
        self._pending: dict[int, None] = {}  # rows that the journal tells and no append has brought
        self.stale = False  # others may have changed too
        self.said: Mapping[int, tuple[float, str | None]] = {}  # what steps that have not ended say of their progress

    # --- reading back ---------------------------------------------------------------------------------------------

    def saw(self, event: e.Event, is_told: bool) -> None:
        """An event read from the journal, already folded. `is_told`: the rows in the database tell it."""
        kind = type(event)
        if kind is e.Started or kind is e.RevertStarted:
            self._begin(event.row, event.at)  # type: ignore[union-attr]
        elif kind is e.Succeeded:
            self._ended_at[event.row] = event.at  # type: ignore[union-attr]
        else:
            self._note_end(event)
            return
        if not is_told:
            self._pending[event.row] = None  # type: ignore[union-attr]

    def caught_up(self) -> None:
        """The journal has been read: the database shows what it says, but for what is pending, or where many changed
        at once."""
        self._new.clear()
        for row in self.ord:
            self._shown[row] = "" if self.stale or row in self._pending else STEP_STATES[self._state.st[row]]

    def _begin(self, row: int, at: float) -> None:
        if row not in self.ord:
            self.ord[row] = len(self.ord)
            self._started_at[row] = at
            self._new.append(row)

    def _note_end(self, fact: e.Event) -> None:
        row = getattr(fact, "row", -1)
        if row in self.ord and STEP_STATES[self._state.st[row]] in _DONE_STATES:
            self._ended_at[row] = fact.at

    # --- an append ------------------------------------------------------------------------------------------------

    def of_steady(
        self, facts: Sequence[e.Succeeded], starts: Sequence[e.Started]
    ) -> tuple[list[StepRow], list[StepRow]]:
        """The rows of an append of successes and first starts: mostly none. First those if only its facts are taken."""
        pending = self._pending
        for fact in facts:
            pending[fact.row] = None
            self._ended_at[fact.row] = fact.at
        if len(pending) < PENDING_MAX:
            for event in starts:
                row = event.row
                self.ord[row] = len(self.ord)
                self._started_at[row] = event.at
                pending[row] = None
                self._new.append(row)
            return [], []
        steps_facts = self._of_pending()
        return steps_facts, steps_facts + self.of_decisions(starts)

    def _of_pending(self) -> list[StepRow]:
        """As `of_facts` where nothing has failed, for a thousand times as many."""
        ids, attempts, started_at, ended_at, shown = (
            self._state.ids, self._state.attempt, self._started_at, self._ended_at, self._shown,
        )  # fmt: skip
        rows, self._pending = self._pending, {}
        self._intended += rows
        found = []
        for row in rows:
            if row in ended_at:
                shown[row] = "SUCCEEDED"
                step = StepRow(self.ord[row], ids[row], "SUCCEEDED", attempts[row], started_at[row], ended_at[row], 1.0)
            else:
                shown[row] = "RUNNING"
                step = StepRow(self.ord[row], ids[row], "RUNNING", attempts[row], started_at[row])
            found.append(step)
        return found

    def of_facts(self, facts: Sequence[e.Event]) -> list[StepRow]:
        """What is pending, and what these facts change."""
        state, rows = self._state, self._pending
        for event in facts:
            self._note_end(event)
        if self.stale or any(self.is_bulk(event) for event in facts):
            self.stale = False
            rows = {row: None for row in self.ord if self._shown.get(row) != STEP_STATES[state.st[row]]}
        for event in facts:
            row = getattr(event, "row", -1)
            if row in self.ord:
                rows[row] = None
        self._pending = {}
        return [self._row(row, STEP_STATES[state.st[row]], self._ended_at.get(row)) for row in rows]

    def of_decisions(self, decisions: Sequence[e.Event]) -> list[StepRow]:
        found: list[StepRow] = []
        for event in decisions:
            kind = type(event)
            if kind is e.Started:
                self._begin(event.row, event.at)  # type: ignore[union-attr]
                found.append(self._row(event.row, "RUNNING", None, event.attempt))  # type: ignore[union-attr]
            elif kind is e.Reentered:
                found.append(self._row(event.row, "RUNNING", None))  # type: ignore[union-attr]
            elif kind is e.RevertStarted:
                self._begin(event.row, event.at)  # type: ignore[union-attr]
                found.append(self._row(event.row, "REVERTING", None))  # type: ignore[union-attr]
            elif kind is e.RetryScheduled and event.row in self.ord:  # type: ignore[union-attr]
                at = self._state.st[event.row]  # type: ignore[union-attr]
                word = "WAITING" if at == S_FAILED else STEP_STATES[at]  # a revert's back-off shows why
                found.append(self._row(event.row, word, None))  # type: ignore[union-attr]
            elif kind is e.Ended and event.state == "ABORTED":  # type: ignore[union-attr]
                found += [
                    self._row(row, "ABORTED", event.at)
                    for row in self.ord
                    if STEP.next[STEP_STATES[self._state.st[row]]].get("aborted") == "ABORTED"
                ]
        return found

    def is_bulk(self, event: Any) -> bool:
        """Whether an event may have changed many steps at once. A resume does where steps have failed."""
        kind = type(event)
        return kind in _BULK or (kind is e.ResumeAsked and bool(self._state.failures or event.answers))

    def _row(self, row: int, word: str, ended_at: float | None, attempt: int | None = None) -> StepRow:
        state = self._state
        self._shown[row] = word
        self._intended.append(row)
        error = None
        if state.failures or state.revert_errors:
            failure = state.revert_errors.get(row) if word == "REVERT_FAILED" else state.failures.get(row)
            error = None if failure is None else json.dumps(failure.to_json())
        if word not in _DONE_STATES:
            ended_at = None
        fraction, message = (1.0, None) if word == "SUCCEEDED" else self.said.get(row, (None, None))
        return StepRow(
            self.ord[row],
            state.ids[row],
            word,
            state.attempt[row] if attempt is None else attempt,
            self._started_at[row],
            ended_at,
            fraction,
            message,
            error,
        )

    # --- its answer -----------------------------------------------------------------------------------------------

    def is_unanswered(self) -> bool:
        return bool(self._new or self._intended)

    def stored(self) -> None:
        self._new.clear()
        self._intended.clear()

    def not_stored(self) -> None:
        """The last append was refused, or lost: what it would have shown is not, and its first starts never were."""
        while self._new:
            row = self._new.pop()
            del self.ord[row], self._started_at[row]
        for row in self._intended:
            self._shown.pop(row, None)
        self._intended.clear()
        self.stale = True  # with that goes what was pending
