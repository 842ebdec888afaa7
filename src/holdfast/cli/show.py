"""What people and programs are shown: a task's story as lines, how it ended and what to do next, tables, JSON.

The tree on a terminal: live.py. What a task says of itself: tasks/show.py. Who looks and how often: follow.py, near.py
and far.py.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from holdfast.cli.options import typed
from holdfast.core import states

if TYPE_CHECKING:
    from holdfast.cli.options import Where
    from holdfast.clock import Clock

PAST_LINES: Final = 60  # of what had happened before somebody began to look
PROGRESS_S: Final = 1.0  # between two lines about the progress of one step

#: Why a task rests, and what a person can do about it.
REASONS: Final = {
    "asked": "it was asked to hold",
    "on_failure": "a step failed, and its flow wants a person to look",
    "outcome_unknown": "nobody knows whether the step that was interrupted took effect: look, then say",
    "definition_changed": "its flow is not the one it began with: put the old one back and resume it, or let it take"
    " the new one",
    "revert_failed": "an undo failed: look, then say",
    "step_unresponsive": "a step ignored every request to stop and may still run: look, then say",
    "past_pivot": "it failed past its point of no return: mend it, then say",
    "poison": "it took its worker down too often: look, then say",
}
_UNDONE: Final = {
    "done": "what was done is undone",
    "partial": "what was done is undone in part",
    "failed": "nothing could be undone",
}


class Step(Protocol):
    """A step that began. Times are seconds since the epoch."""

    @property
    def ord(self) -> int: ...
    @property
    def node(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def started_at(self) -> float: ...
    @property
    def ended_at(self) -> float | None: ...
    @property
    def progress(self) -> float | None: ...
    @property
    def message(self) -> str | None: ...


class Look(NamedTuple):
    """A task at one moment. `steps`: those that began last. `ahead`: the ids of those that have not begun, if the plan
    is no larger than a screen could show. `news`: seconds since it was accepted, and what happened, since the look
    before."""

    view: dict[str, Any]
    steps: Sequence[Step]
    ahead: list[str]
    news: list[tuple[float, str]]


class Screen(Protocol):
    """Where a task is followed on."""

    def say(self, text: str) -> None:
        """Something about the command itself."""

    def update(self, look: Look) -> None: ...
    def close(self) -> None:
        """Leave the terminal as it was."""


class Silent:
    """For programs: they get the end only."""

    def say(self, text: str) -> None:
        print(plain(text), file=sys.stderr, flush=True)

    def update(self, look: Look) -> None: ...
    def close(self) -> None: ...


class Lines:
    """For a pipe: a line for each event, no colours. A reader that goes away stops no task."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._shown: dict[int, tuple[float | None, str | None]] = {}
        self._said_at: dict[int, float] = {}
        self._first = True
        self._deaf = False

    def say(self, text: str) -> None:
        self._print(text)

    def update(self, look: Look) -> None:
        news = look.news
        if self._first and len(news) > PAST_LINES:
            self._print(f"… {len(news) - PAST_LINES} earlier events")
            news = news[-PAST_LINES:]
        self._first = False
        for at, line in news:
            self._print(f"{at:9.3f} s  {line}")
        for step in look.steps:
            self._progress(step)

    def _progress(self, step: Step) -> None:
        told = (step.progress, step.message)
        if step.state not in ("RUNNING", "WAITING", "REVERTING") or told == (None, None):
            return
        now = self._clock.monotonic()
        if self._shown.get(step.ord) == told or now - self._said_at.get(step.ord, -PROGRESS_S) < PROGRESS_S:
            return
        self._shown[step.ord], self._said_at[step.ord] = told, now
        self._print(f"             {step.node} {progress_of(step)}")

    def _print(self, text: str) -> None:
        if self._deaf:
            return
        try:
            print(plain(text), flush=True)
        except OSError:  # the pipe or the terminal is gone
            self._deaf = True

    def close(self) -> None: ...


def screen(output: str, clock: Clock) -> Screen:
    """The one that fits where the output goes."""
    if output == "json":
        return Silent()
    if sys.stdout.isatty():
        from holdfast.cli.live import Tree

        return Tree()
    return Lines(clock)


def progress_of(step: Step) -> str:
    percent = "" if step.progress is None else f"{step.progress:.0%}"
    return ": ".join(part for part in (percent, plain(step.message or "")) if part)


def plain(text: str) -> str:
    """On one line, and without what a terminal would obey: names and messages are others' words."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


# --- how it ended ------------------------------------------------------------------------------------------------


def ending(view: dict[str, Any], where: Where) -> list[str]:
    """What became of the task and, where it rests, why and how to go on. A line each."""
    state, error = view["state"], view["error"]
    head = f"task {view['uuid']} {state}"
    if state == states.SUCCEEDED:
        result = view["result"] or {}
        return [head, *(f"  {name} = {json.dumps(value, ensure_ascii=False)}" for name, value in result.items())]
    why = "" if error is None else f": {failure(error)}"
    if state in states.FINAL:
        undone = _UNDONE.get(view["revert"])
        return [head + why + (f"; {undone}" if undone else "")]
    if state != "SUSPENDED":
        return [head]
    reason = view["reason"] or "asked"
    return [
        f"{head} ({reason}): {REASONS[reason]}",
        *([f"  {failure(error)}"] if error is not None else ()),
        *(f"  {rest['step']} is {', '.join(rest['answers'])}?" for rest in view["resting"]),
        f"go on with: {go_on(view, where)}",
    ]


def failure(error: dict[str, Any]) -> str:
    place = f"{error['step']}: " if error.get("step") else ""
    return f"{place}{error['title']}: {error['detail']}"


def go_on(view: dict[str, Any], where: Where) -> str:
    """The command that lets a resting task go on."""
    reason = view["reason"]
    if reason == "definition_changed":
        return typed("task", "adopt", view["uuid"], where=where)
    said: list[str] = []
    if reason in states.REASONS and states.REASONS[reason].needs_answer:
        for rest in view["resting"]:
            said += ["--answer", f"{rest['step']}=ANSWER"]
    return typed("task", "resume", view["uuid"], *said, where=where)


# --- documents and tables ----------------------------------------------------------------------------------------


def page(document: dict[str, Any], trace: Sequence[str]) -> list[str]:
    """A task for a person to read: its facts, its steps, what happened."""
    facts = {
        "task": f"{document['uuid']}  {document['task']} (version {document['version']})",
        "state": document["state"] + (f" ({document['reason']})" if document["reason"] else ""),
        "tag": document["tag"],
        "done": f"{document['progress']['percent']} %, {document['progress']['completed']} of"
        f" {document['progress']['total']} steps",
        "accepted": moment(document["created_at"]),
        "ended": moment(document["finish_time"]),
        "claims": ", ".join(f"{claimed(claim)} ({claim['mode']})" for claim in document["claims"]),
        "worker": _silence(document["worker"]),
        "waits behind": ", ".join(document["blocked_by"]),
        "retry of": document["retry_of"],
        "rollback of": document["rollback_of"],
        "inputs": _values(document["params"]),
        "results": _values(document["result"]),
        "error": None if document["error"] is None else failure(document["error"]),
        "undo": _UNDONE.get(document["revert"]),
        "verbs": ", ".join(document["supported_verbs"]),
    }
    lines = [f"{name:<13} {text}" for name, text in facts.items() if text]
    if document["steps"]:
        lines.append("steps")
        for step in document["steps"]:
            tries = f", try {step['attempt']}" if step["attempt"] > 1 else ""
            why = f": {failure(step['error'])}" if step["error"] else ""
            lines.append(f"  {step['id']} {step['state']}{tries}{why}")
    if trace:
        lines += ["trace", *(f"  {line}" for line in trace)]
    return [plain(line) for line in lines]


def claimed(claim: dict[str, Any]) -> str:
    """What a claim is on, as it was asked for: a service tells the kind and the id apart."""
    named: str = claim["resource"] if "resource" in claim else "/".join(filter(None, (claim["type"], claim["id"])))
    return named


def _silence(worker: dict[str, Any] | None) -> str | None:
    """What there is to say of a worker that says nothing."""
    if worker is None or not worker["stale"]:
        return None
    return f"not heard of since {moment(worker['heartbeat_at'])}; another takes the task over"


def _values(values: dict[str, Any] | None) -> str:
    return ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in (values or {}).items())


def print_json(data: Any) -> None:
    print(json.dumps(data, indent=2, ensure_ascii=False), flush=True)


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Aligned columns, with colour for states on a terminal."""
    lines = [list(head), *([plain(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def moment(text: str | None) -> str:
    """A stored time, to the second."""
    return "" if text is None else text[:19].replace("T", " ")


def print_tasks(views: Sequence[Mapping[str, Any]], output: str) -> None:
    """A list of tasks, for people or for programs."""
    if output == "json":
        print_json(views)
        return
    rows = [
        (
            view["uuid"],
            view["task"],
            view["state"] + (f" ({view['reason']})" if view["reason"] else ""),
            f"{view['progress']['percent']} %",
            view["tag"] or "",
            moment(view["created_at"]),
        )
        for view in views
    ]
    print_table(("ID", "FLOW", "STATE", "DONE", "TAG", "ACCEPTED (UTC)"), rows)
