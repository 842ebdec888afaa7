"""What one task's drive has to say, as an `Append`: journal rows, step rows and the columns of `tasks`.

Theory: the journal is the truth. `tasks` is a projection that every append writes; `steps` is one that follows in its
own time (worker/showing.py).

How an event is a row: store/journal.py. Who makes it durable: worker/loop.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from holdfast.core import events as e
from holdfast.core.progress import aftermath, final_failure, progress
from holdfast.core.state import State
from holdfast.core.states import S_RUNNING, S_WAITING, TASK, api_state, hold
from holdfast.core.values import Stored
from holdfast.store.base import Append, Appended, Tx
from holdfast.store.journal import encode
from holdfast.worker.showing import Showing

_MOVES: dict[type, str] = {e.Began: "begin", e.Waited: "wait", e.Woke: "wake", e.Rested: "rest", e.Turned: "turn"}
_STARTS = frozenset((e.Started, e.RevertStarted))
_POLLS = _STARTS | {e.Parked, e.Reentered, e.Withdrawn, e.Checkpointed, e.Waited, e.Woke}


class Recorder:
    """The projections of one task. `task` is its row's id, `steps_seq` the last seq that its rows of `steps` tell."""

    def __init__(self, state: State, task: int, steps_seq: int = 0) -> None:
        self._state = state
        self._task = task
        self._steps_seq = steps_seq
        self._showing = Showing(state)
        self._was_steady = False  # the last append
        self._parked: dict[int, list[int]] = {}  # seqs that a step's next `Parked` will tell anew
        self._waited: int | None = None  # the last `Waited`, until the task has woken
        self._waits: list[int] = []  # pairs of `Waited` and `Woke`
        self._checkpoint: dict[int, int] = {}
        self._columns: dict[str, Any] = {}
        self._pending: dict[str, Any] = {}

    @property
    def said(self) -> Mapping[int, tuple[float, str | None]]:
        """What steps that have not ended say of their progress."""
        return self._showing.said

    @said.setter
    def said(self, said: Mapping[int, tuple[float, str | None]]) -> None:
        self._showing.said = said

    # --- reading back ---------------------------------------------------------------------------------------------

    def saw(self, seq: int, event: e.Event) -> None:
        """An event read from the journal, already folded."""
        self._showing.saw(event, seq <= self._steps_seq)
        if type(event) in _POLLS:
            self._note(seq, event)
        elif self._showing.is_bulk(event):
            self._turn_page()

    def caught_up(self) -> None:
        """The journal has been read."""
        self._showing.caught_up()

    # --- writing --------------------------------------------------------------------------------------------------

    def append(
        self,
        token: str,
        seen: int,
        facts: Sequence[e.Event],
        decisions: Sequence[e.Event],
        now: float,
        then: Callable[[Tx], None] | None,
    ) -> Append:
        """One append: the facts are folded, the decisions not yet."""
        showing = self._showing
        if showing.is_unanswered():
            self.not_stored()  # the last one was not
        self._was_steady = then is None and self._is_steady(facts, decisions)
        if self._was_steady:
            return self._steady(token, seen, facts, decisions, now)
        ids = self._state.ids
        if decisions and type(decisions[0]) is e.Began and not facts and not showing.stale:
            steps_facts, steps_all = showing.of_steady((), decisions[1:])  # type: ignore[arg-type]
        else:
            steps_facts = showing.of_facts(facts)
            steps_all = steps_facts + showing.of_decisions(decisions)
        return Append(
            self._task,
            token,
            seen,
            [encode(event, ids) for event in facts],
            [encode(event, ids) for event in decisions],
            steps_facts,
            steps_all,
            self._projection(facts, decisions, now),
            self._superseded(facts),
            then=then,
        )

    def _is_steady(self, facts: Sequence[e.Event], decisions: Sequence[e.Event]) -> bool:
        """Whether steps succeed and others begin for the first time, and nothing else is new: what nearly every append
        of a task says."""
        state, told, showing = self._state, self._columns, self._showing
        if showing.stale or showing.said or state.phase != "RUNNING" or told.get("state") != "RUNNING":
            return False
        if told["deaths"] != state.deaths or told["total"] != state.total or state.inverse or state.failures:
            return False
        if told["past_pivot"] is not bool(state.pivots):
            return False
        for event in facts:
            if type(event) is not e.Succeeded:
                return False
        for event in decisions:
            if type(event) is not e.Started or event.row in showing.ord or state.steps[event.row].pivot:  # type: ignore[union-attr]
                return False
        return True

    def _steady(self, token: str, seen: int, facts: Sequence[Any], decisions: Sequence[Any], now: float) -> Append:
        """`append` for that case, in one pass."""
        state = self._state
        ids = state.ids
        columns = {"progress_done": self.done(), "completed": state.completed, "updated_at": now}
        steps_facts, steps_all = self._showing.of_steady(facts, decisions)
        if decisions:
            columns["progress_step"] = ids[decisions[-1].row]
        return Append(
            self._task,
            token,
            seen,
            [encode(event, ids) for event in facts],
            [encode(event, ids) for event in decisions],
            steps_facts,
            steps_all,
            columns,
        )

    def appended(self, answer: Appended, facts: Sequence[e.Event], decisions: Sequence[e.Event]) -> None:
        """The append was taken, whole or its facts only."""
        if self._was_steady and answer.accepted:
            self._showing.stored()
            return
        taken = [*facts, *decisions] if answer.accepted else facts
        first = answer.seq - len(taken) + 1
        for at, event in enumerate(taken):
            kind = type(event)
            if kind in _POLLS:
                self._note(first + at, event)
            elif self._showing.is_bulk(event):
                self._turn_page()
        if answer.accepted:
            self._showing.stored()
            self._columns.update(self._pending)
        else:
            self.not_stored()

    def not_stored(self) -> None:
        """The last append was refused, or lost."""
        self._showing.not_stored()
        self._columns.clear()

    def _turn_page(self) -> None:
        """Many rows changed at once, and how depends on which of them ran and which waited: so the polls before this
        event stay in the journal, or whoever reads it would take a step that waited for one that ran."""
        self._showing.stale = True
        self._parked.clear()
        self._waited = None
        self._waits.clear()

    def _note(self, seq: int, event: Any) -> None:
        if type(event) is e.Checkpointed:
            self._checkpoint[event.row] = seq
        elif type(event) is e.Waited:
            self._waited = seq
        elif type(event) is e.Woke:
            if self._waited is not None:  # the two go together, or a reader would think that the task still waits
                self._waits += (self._waited, seq)
                self._waited = None
        elif type(event) in _STARTS:
            if self._parked.pop(event.row, None):  # the last poll before says that the step took an event
                self._waits.clear()
        elif type(event) is e.Parked:
            self._parked[event.row] = [seq] if event.event is None else []
        elif self._parked.get(event.row):
            self._parked[event.row].append(seq)

    def _superseded(self, facts: Sequence[e.Event]) -> list[int]:
        """Older rows that these facts tell anew: polls and checkpoints fold into one row."""
        found: list[int] = []
        for event in facts:
            kind = type(event)
            if kind is e.Parked:
                found += self._parked.pop(event.row, ())  # type: ignore[union-attr]
                if found:
                    found += self._waits
                    self._waits.clear()
            elif kind is e.Checkpointed and event.row in self._checkpoint:  # type: ignore[union-attr]
                found.append(self._checkpoint.pop(event.row))  # type: ignore[union-attr]
        return found

    # --- tasks ----------------------------------------------------------------------------------------------------

    def _projection(self, facts: Sequence[e.Event], decisions: Sequence[e.Event], now: float) -> dict[str, Any]:
        """The columns that change, beside those that change with every step."""
        state = self._state
        columns: dict[str, Any] = {}
        phase, reason, resting, goal = state.phase, state.reason, (), state.goal
        past_pivot = bool(state.pivots)
        step: str | None = None
        for event in decisions:
            kind = type(event)
            if kind is e.Started or kind is e.RevertStarted:
                step = state.ids[event.row]  # type: ignore[union-attr]
                past_pivot = past_pivot or bool(getattr(state.steps[event.row], "pivot", False))  # type: ignore[union-attr]
                continue
            if kind is e.Began:
                columns["executed_at"] = now
            elif kind is e.Rested:
                reason, resting = event.reason, event.rows  # type: ignore[union-attr,assignment]
                columns["revert"] = aftermath(state).revert  # who has to answer wants to know what is undone
            elif kind is e.Turned:
                goal = event.goal  # type: ignore[union-attr]
                if state.inverse:
                    continue
            move = _MOVES.get(kind)
            if move is not None:
                phase = TASK.move(phase, move)
        if phase != state.phase or "state" not in self._columns:
            columns["state"] = api_state(phase)
            columns["hold"] = hold(phase)
        elif self._columns["state"] != api_state(phase) or self._columns["hold"] != hold(phase):
            columns["state"], columns["hold"] = api_state(phase), hold(phase)
        self._change(columns, "reason", reason if phase.startswith("SUSPENDED") else None)
        names = json.dumps([state.ids[row] for row in resting]) if resting else None
        self._change(columns, "resting", names if phase.startswith("SUSPENDED") else None)
        self._change(columns, "goal", None if state.inverse else goal)
        if decisions and type(decisions[-1]) in (e.Rested, e.Turned):
            self._change(columns, "error", self._error())
        self._change(columns, "past_pivot", past_pivot)
        self._change(columns, "deaths", state.deaths)
        self._change(columns, "total", progress(state).total if state.inverse else state.total)
        self._change(columns, "progress_total", float(state.total_weight))
        self._pending = dict(columns)
        # With the share of those that run: what one has said must not be taken back because another ends.
        said = self._showing.said
        columns["progress_done"] = self.done() + sum(self.weight_of(row) * told[0] for row, told in said.items())
        columns["completed"] = progress(state).completed if state.inverse else state.completed
        columns["updated_at"] = now
        if step is not None:
            columns["progress_step"] = step
        return columns

    def _change(self, columns: dict[str, Any], name: str, value: Any) -> None:
        if name not in self._columns or self._columns[name] != value:
            columns[name] = value

    def done(self) -> float:
        """The weight of what is done, out of `progress_total`."""
        state = self._state
        if state.inverse:
            return float(progress(state).fraction * state.total_weight)
        return state.done_weight + (float(state.done_extra * state.total_weight) if state.done_extra else 0.0)

    def latest(self, number: int) -> list[int]:
        """The steps that began last, the latest first."""
        return list(islice(reversed(self._showing.ord), number))

    def ord_of(self, row: int) -> int:
        return self._showing.ord[row]

    def id_of(self, row: int) -> str:
        return self._state.ids[row]

    def weight_of(self, row: int) -> float:
        """A step's share of `progress_total`; what is being undone, or was done before, adds nothing."""
        state = self._state
        if state.settled[row] or state.st[row] not in (S_RUNNING, S_WAITING):
            return 0.0
        if row < state.static:
            return float(state.weight[row])
        return float(state.weight[row] * state.frame_of(row).unit * state.total_weight)

    def forget_columns(self) -> None:
        """A verb has written the row: tell it all again. Its event may have changed steps too."""
        self._columns.clear()
        self._showing.stale = True

    def end_columns(self, ended: e.Ended, seal: Callable[[Any], str]) -> dict[str, Any]:
        """What the end of the task adds to its row."""
        state = self._state
        columns: dict[str, Any] = {}
        if ended.state == "SUCCEEDED":
            columns["result"] = seal(_opened_outputs(state))
        columns["error"] = None if ended.state in ("SUCCEEDED", "REVERTED") else self._error()
        return columns

    def _error(self) -> str | None:
        failure = final_failure(self._state)
        return None if failure is None else json.dumps(failure.to_json() | {"step": failed_step(self._state)})


def failed_step(state: State) -> str | None:
    """The id of the step whose failure `final_failure` is."""
    failure = final_failure(state)
    for row, found in (*state.failures.items(), *state.revert_errors.items()):
        if found is failure:
            return state.ids[row]
    return None


def _opened_outputs(state: State) -> dict[str, Any]:
    return {name: value.value if type(value) is Stored else value for name, value in state.outputs().items()}
