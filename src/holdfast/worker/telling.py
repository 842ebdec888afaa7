"""What a worker tells the event feed of one task: each change of state, and now and then its steps and its progress.

Theory: a change of state is written in the append that makes it. Steps and progress are many, and who listens wants
to see that it moves, not each of them: so they go with an append every `progress_interval_s`, and where no append comes
(one long step) in a write of their own. What stops the task (its end, its coming to rest) tells first what is still
untold, so that nothing of the task comes behind its end. Which steps have changed is found out by looking at those
that run, those that began last and those last told of as unfinished: an append that tells nothing leaves no note here.

What a row of the feed is: tasks/tell.py. What steps say of their own progress: worker/report.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, update

from holdfast.core import events as e
from holdfast.core.states import PENDING, STEP, STEP_STATES, TASK, api_state
from holdfast.store.base import Append, FeedRow, Tx
from holdfast.store.schema import tasks
from holdfast.tasks import tell

if TYPE_CHECKING:
    from holdfast.core.state import State
    from holdfast.tasks.row import TaskRow
    from holdfast.worker.record import Recorder
    from holdfast.worker.report import Said

STEPS_MAX: Final = 16  # in one event
_MOVES: Final[dict[type, str]] = {
    e.Began: "begin", e.Waited: "wait", e.Woke: "wake", e.Rested: "rest", e.Turned: "turn",
}  # fmt: skip
_UNFINISHED: Final = frozenset(("RUNNING", "REVERTING", "WAITING"))
_FENCE: Final = (
    update(tasks).where(tasks.c.id == bindparam("_task"), tasks.c.token == bindparam("_token")).values(seq=tasks.c.seq)
)


class Telling:
    """See the module. `since`: when the worker took the task."""

    __slots__ = ("_interval_s", "_progress", "_recorder", "_state", "_task", "_told", "due_at", "tells", "untold")

    def __init__(self, task: TaskRow, state: State, recorder: Recorder, interval_s: float, since: float) -> None:
        self._task = task
        self._state = state
        self._recorder = recorder
        self._interval_s = interval_s
        self._told: dict[int, str] = {}  # the states of steps, as told last
        self._progress: tuple[Any, ...] | None = None  # as told last
        self.due_at = since + interval_s  # when steps and progress may be told again
        self.untold = False  # something has been stored since
        self.tells: tuple[float, dict[int, str], Any] | None = None  # what the append under way will have told

    # --- with an append -------------------------------------------------------------------------------------------

    def add(self, append: Append, decisions: Sequence[e.Event], now: float) -> Append:
        """The append, with what is to be told with it. It is told only if all of the append is taken."""
        self.untold = True
        columns = append.projection
        last = decisions[-1] if decisions else None
        stops_here = type(last) is e.Ended or type(last) is e.Rested
        if now < self.due_at and not stops_here and (columns is None or "state" not in columns):
            return append
        moves = self._moves(decisions, now)
        told = [news for news, stops in moves if not stops]
        if now >= self.due_at or stops_here:
            steps, shown = self._steps(type(last) is e.Ended and last.state == "ABORTED", now)
            told += steps
            progress = self._progress
            if columns is not None and type(last) is not e.Ended:
                news, progress = self._progress_of(columns, now)
                told += news
            self.tells = now, shown, progress
        told += [news for news, stops in moves if stops]
        return append._replace(news=[*told, *append.news]) if told else append

    def taken(self, accepted: bool) -> None:
        """The append with `tells` was taken, whole or its facts only."""
        if accepted and self.tells is not None:
            self._is_told(*self.tells)
        self.tells = None

    def _is_told(self, now: float, shown: dict[int, str], progress: Any) -> None:
        self.due_at = now + self._interval_s
        self._progress = progress
        self._told = shown
        self.untold = False

    def _moves(self, decisions: Sequence[e.Event], now: float) -> list[tuple[FeedRow, bool]]:
        """Each change of the task's state, as users see it, and whether the task then stands still."""
        found = []
        state, phase = self._state, self._state.phase
        for event in decisions:
            kind = type(event)
            if kind not in _MOVES or (kind is e.Turned and state.inverse):
                continue
            before, phase = phase, TASK.move(phase, _MOVES[kind])
            if api_state(before) != api_state(phase):
                reason = event.reason if kind is e.Rested else None  # type: ignore[union-attr]
                news = tell.state_news(self._task, api_state(before), api_state(phase), now, tell.WORKER, reason)
                found.append((news, kind is e.Rested or kind is e.Waited))
        return found

    # --- steps and progress ---------------------------------------------------------------------------------------

    def _steps(self, aborts: bool, now: float) -> tuple[list[FeedRow], dict[int, str]]:
        """The steps that are not as they were told last, and what of all that were looked at is then told."""
        state, told = self._state, self._told
        shown: dict[int, str] = {}
        changed: list[int] = []
        unfinished = [row for row, word in told.items() if word in _UNFINISHED]
        for row in (*unfinished, *islice(state.running, 4 * STEPS_MAX), *self._recorder.latest(STEPS_MAX)):
            word = STEP_STATES[state.st[row]]
            if row in shown or word == PENDING:
                continue
            if aborts:
                word = STEP.next[word].get("aborted", word)
            if told.get(row) != word:
                if len(changed) == STEPS_MAX:
                    continue
                changed.append(row)
            shown[row] = word
        if not changed:
            return [], shown
        steps = [{"id": state.ids[row], "state": shown[row], "attempt": state.attempt[row]} for row in sorted(changed)]
        return [tell.news(self._task, tell.STEP, self._named({"steps": steps}), now)], shown

    def _progress_of(self, columns: Any, now: float) -> tuple[list[FeedRow], tuple[Any, ...]]:
        """What the columns say, unless it has been told. Columns that do not change are not among them."""
        state, said = self._state, self._recorder.said
        message = next((said[row][1] for row in reversed(list(said)) if said[row][1]), None) if said else None
        weight = state.total_weight
        percent = min(99, int(100 * columns["progress_done"] / weight)) if weight else 0
        running = next(reversed(state.running), None)
        step = columns.get("progress_step") or (None if running is None else state.ids[running])
        shown = (percent, columns["completed"], columns.get("total", state.total), step, message)
        if shown == self._progress:
            return [], shown
        data = dict(zip(("percent", "completed", "total", "step", "message"), shown, strict=True))
        return [tell.news(self._task, tell.PROGRESS, self._named(data), now)], shown

    def _named(self, data: dict[str, Any]) -> dict[str, Any]:
        return data | {"task": tell.brief(self._task, api_state(self._state.phase))}

    # --- without one ----------------------------------------------------------------------------------------------

    def is_overdue(self, now: float) -> bool:
        """Whether something is untold, and no append has come to tell it with."""
        return self.untold and now >= self.due_at + self._interval_s / 2

    def apart(
        self, token: str, done: float, said: Sequence[Said], now: float
    ) -> tuple[Callable[[Tx], None] | None, Callable[[], None]]:
        """What is untold, to be written apart, and what to call once it is stored. `done`, `said`: report.write's."""
        state = self._state
        columns: dict[str, Any] = {
            "progress_done": done + sum(each.share for each in said),
            "completed": state.reverted if state.inverse else state.completed,
            "progress_step": said[-1].node if said else None,
        }
        steps, shown = self._steps(False, now)
        news, progress = self._progress_of(columns, now)
        told = steps + news
        writes = partial(_tell_apart, self._task.id, token, told) if told else None
        return writes, partial(self._is_told, now, shown, progress)


def _tell_apart(task: int, token: str, told: Sequence[FeedRow], tx: Tx) -> None:
    """A stale token tells nothing."""
    if tx.execute(_FENCE, {"_task": task, "_token": token}).rowcount == 1:
        tell.write(tx, told)
        tx.touched(task)
