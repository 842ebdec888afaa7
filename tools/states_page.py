"""The page docs/reference/states.md: the tables of core/states.py and, beside each state, a sentence for people.

The sentences stand here because programs never need them; a state or a reason without one is a KeyError.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from holdfast.core import diagram
from holdfast.core.table import ANEW, IGNORE, REFUSE, Machine
from tools import pages

HEAD = """
A *moving* state has work to do and belongs to a worker; if that worker dies, another goes on. A *resting* one waits for
a person. A *final* one never changes. The part before the slash is the state that is shown; the part behind it says
what a suspended task holds.
"""
TASKS = """
## Tasks, and what each verb does

`·` accepted and nothing changes. `–` refused, and the answer lists the verbs that are allowed.
"""
TASK = {
    "PENDING": "It has not begun: it waits for its time, its claims or a worker.",
    "RUNNING": "Its steps run.",
    "WAITING": "Nothing runs: a timer, a repeat or an event is awaited.",
    "SUSPENDING/forward": "It was asked to hold and its steps come to a safe point.",
    "SUSPENDING/reverting": "The same, while it undoes.",
    "SUSPENDING/cancelling": "The same, while it undoes to end CANCELLED.",
    "SUSPENDED/pending": "It holds and had not begun.",
    "SUSPENDED/forward": "It holds; `resume` goes on with the steps that are left.",
    "SUSPENDED/reverting": "It holds; `resume` goes on with the undo.",
    "SUSPENDED/cancelling": "The same, and it ends CANCELLED.",
    "CANCELLING": "Its steps come to a safe point and what was done is undone.",
    "REVERTING": "What was done is undone: a step failed, or somebody asked.",
    "ABORTING": "Its steps are stopped now; nothing is undone.",
    "SUCCEEDED": "Every step is done.",
    "FAILED": "A step failed. `revert` says how much was undone.",
    "CANCELLED": "Somebody cancelled it; its code has stopped.",
    "ABORTED": "Somebody aborted it; nothing was undone.",
    "REVERTED": "Somebody asked to undo it, and all is undone.",
}
STEP = {
    "PENDING": "It has not begun, or will be entered again.",
    "RUNNING": "Its code runs.",
    "WAITING": "It waits for its next try, or returned `Again` or `WaitFor`.",
    "SUCCEEDED": "It is done and its result recorded.",
    "FAILED": "It raised, or ran out of time.",
    "INTERRUPTED": "It was stopped, or its worker died: its effect is in doubt.",
    "ABANDONED": "Its thread ignored every request to stop and was left behind.",
    "SKIPPED": "The links into it said no, or a person said so.",
    "REVERTING": "Its revert runs.",
    "REVERTED": "It is undone.",
    "REVERT_FAILED": "Its revert raised, and its tries are spent.",
    "ABORTED": "It was stopped by an abort and is not undone.",
}
REASONS = {
    "asked": "Somebody asked.",
    "on_failure": 'A step failed, and the flow says `on_failure="suspend"`.',
    "outcome_unknown": "A step that must not run twice was interrupted, or its probe could not tell.",
    "definition_changed": "The flow has changed so that the recorded steps don't fit: bring the old one, or `adopt`.",
    "revert_failed": "A revert could not succeed; what did not depend on it is undone.",
    "step_unresponsive": "A thread step ignored its timeout and the request to stop.",
    "past_pivot": "A step failed behind the point of no return.",
    "poison": "Its steps took several workers down with them.",
}
ANSWERS = {
    "done": "it did happen (give its result)",
    "rerun": "do it again",
    "undo": "undo it",
    "skip": "leave it as it is and go on",
}
MARKS = {IGNORE: "·", REFUSE: "–", ANEW: "new task"}


def states(module: ModuleType) -> str:
    return "\n\n".join(
        (
            pages.head("States", HEAD),
            TASKS.strip(),
            pages.table(("state", "kind", *module.VERBS, "means"), rows(module.TASK, module.VERBS, TASK)),
            diagram_of(module.TASK),
            "## Why a task rests, and what a person may answer\n\nAn answer is given for each step that it rests for: "
            + ", ".join(f"*{answer}*, {what}" for answer, what in ANSWERS.items())
            + ".",
            pages.table(("reason", "means", "answers"), reasons(module.REASONS)),
            "## Steps",
            pages.table(("state", "kind", "means"), rows(module.STEP, (), STEP)),
            diagram_of(module.STEP),
        )
    )


def rows(machine: Machine, verbs: tuple[str, ...], means: dict[str, str]) -> list[tuple[str, ...]]:
    found = []
    for state, row in machine.rows.items():
        answers = (row.moves[verb] for verb in verbs)
        found.append((f"`{state}`", row.kind, *(MARKS.get(answer, answer) for answer in answers), means[state]))
    return found


def reasons(table: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            f"`{name}`",
            REASONS[name],
            ", ".join(
                f"{answer} (if none is given)" if answer == reason.default else answer for answer in reason.answers
            )
            or "none needed",
        )
        for name, reason in table.items()
    ]


def diagram_of(machine: Machine) -> str:
    return f"```mermaid\n{diagram.mermaid(machine)}```"
