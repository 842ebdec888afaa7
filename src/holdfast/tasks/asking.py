"""What a task that rests asks a person: what is to become of each step that it rests for.

Which answers there are for which reason: core/states.py. What they do: core/verbs.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from holdfast.core import states
from holdfast.errors import AnswerNeeded, AnswerRefused
from holdfast.tasks.row import TaskRow

#: step -> the word, and for `done` the result.
Answers = Mapping[str, tuple[str, Any]]


def steps_of(at: TaskRow) -> list[str]:
    """The ids of the steps that the task rests for."""
    return list(json.loads(at.resting)) if at.resting else []


def check(at: TaskRow, given: Answers) -> None:
    """Raises: AnswerNeeded, AnswerRefused."""
    rests = states.phase(at.state, at.hold) in states.RESTING
    reason = states.REASONS[(at.reason if rests else None) or "asked"]
    resting = steps_of(at)
    for step, (word, result) in given.items():
        if step not in resting:
            raise AnswerRefused(
                f"task {at.uuid} does not rest for an answer about {step}"
                + (f": it rests for {', '.join(resting)}" if resting and reason.answers else ""),
                steps=resting,
            )
        if word not in reason.answers:
            raise AnswerRefused(
                f"'{word}' is no answer for {step}, which rests as {at.reason}: say {_or(reason.answers)}",
                steps=[step],
                words=list(reason.answers),
            )
        if result is not None and word != "done":
            raise AnswerRefused(f"only 'done' has a result: {step} was given one with '{word}'", steps=[step])
    missing = [step for step in resting if step not in given] if reason.needs_answer else []
    if missing:
        raise AnswerNeeded(
            f"task {at.uuid} rests as {at.reason}: say for {', '.join(missing)} whether it is {_or(reason.answers)}",
            steps=missing,
            words=list(reason.answers),
        )


def _or(words: tuple[str, ...]) -> str:
    return ", ".join(words[:-1]) + f" or {words[-1]}" if len(words) > 1 else "".join(words)
