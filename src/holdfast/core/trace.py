"""A journal as lines that read like the story: `boot RUNNING`, `boot SUCCEEDED`, `task REVERTING`."""

from __future__ import annotations

from collections.abc import Iterable

from holdfast.core import events as e

_STEP_WORD: dict[type, str] = {
    e.Started: "RUNNING",
    e.Reentered: "RUNNING",
    e.Succeeded: "SUCCEEDED",
    e.Failed: "FAILED",
    e.Parked: "WAITING",
    e.Stopped: "STOPPED",
    e.Interrupted: "INTERRUPTED",
    e.Died: "DIED",
    e.Abandoned: "ABANDONED",
    e.Withdrawn: "WITHDRAWN",
    e.Probed: "PROBED",
    e.RevertStarted: "REVERTING",
    e.Reverted: "REVERTED",
    e.RevertFailed: "REVERT_FAILED",
    e.RetryScheduled: "RETRYING",
}
_TASK_WORD: dict[type, str] = {
    e.Began: "RUNNING",
    e.Waited: "WAITING",
    e.Woke: "RUNNING",
    e.CancelAsked: "asked to CANCEL",
    e.AbortAsked: "asked to ABORT",
    e.SuspendAsked: "asked to SUSPEND",
    e.ResumeAsked: "asked to RESUME",
    e.RollbackAsked: "asked to ROLL BACK",
    e.ForceFailed: "FAILED by force",
    e.TakenOver: "taken over",
}


def line_of(event: e.Event, ids: list[str]) -> str | None:
    """One line, or None for what is no change that a reader wants."""
    kind = type(event)
    word = _STEP_WORD.get(kind)
    if word is not None:
        line = f"{ids[event.row].removesuffix('/(open)')} {word}"  # type: ignore[union-attr]
        if isinstance(event, (e.Failed, e.RevertFailed)):
            return f"{line} ({event.failure.summary})"
        if isinstance(event, e.Probed):
            return f"{line} ({event.verdict})"
        return line
    if kind in _TASK_WORD:
        return f"task {_TASK_WORD[kind]}"
    if isinstance(event, e.Decided):
        return f"{ids[event.row]} {'yes' if event.yes else 'no'}"
    if isinstance(event, e.Turned):
        return "task REVERTING"
    if isinstance(event, e.Rested):
        return f"task SUSPENDED ({event.reason})"
    if isinstance(event, e.Ended):
        return f"task {event.state}"
    return None


class Story:
    """The journal of a run in memory, for its trace only: nothing is ever replayed from it.

    A start is kept as its row, a success as the row's complement, everything else as its event: a run of many steps
    leaves the garbage collector nothing to walk over.
    """

    __slots__ = ("_told",)

    def __init__(self) -> None:
        self._told: list[int | e.Event] = []

    def tell(self, events: Iterable[e.Event]) -> None:
        told = self._told
        for event in events:
            kind = type(event)
            if kind is e.Succeeded:
                told.append(~event.row)  # type: ignore[union-attr]
            else:
                told.append(event.row if kind is e.Started else event)  # type: ignore[union-attr]

    def lines(self, ids: list[str]) -> list[str]:
        """What happened, a line a change."""
        found = []
        for each in self._told:
            if type(each) is int:
                line: str | None = f"{ids[each]} RUNNING" if each >= 0 else f"{ids[~each]} SUCCEEDED"
            else:
                line = line_of(each, ids)  # type: ignore[arg-type]
            if line is not None:
                found.append(line)
        return found
