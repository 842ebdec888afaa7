"""How far a task is, and what it left behind: questions asked of a state, answered without a walk where they are asked
at every step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from holdfast.core.failure import Failure
from holdfast.core.plan import STEP
from holdfast.core.state import State
from holdfast.core.states import (
    ABORTED,
    S_ABANDONED,
    S_ABORTED,
    S_FAILED,
    S_INTERRUPTED,
    S_REVERT_FAILED,
    S_REVERTED,
    S_REVERTING,
    S_RUNNING,
    S_SKIPPED,
    STEP_STATES,
    SUCCEEDED,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from fractions import Fraction


#: Nobody has heard how these came out.
IN_FLIGHT: Final = frozenset(
    STEP_STATES[at] for at in (S_RUNNING, S_REVERTING, S_INTERRUPTED, S_ABANDONED, S_ABORTED)
)  # fmt: skip
_REVERTED: Final = STEP_STATES[S_REVERTED]
_REVERT_FAILED: Final = STEP_STATES[S_REVERT_FAILED]
#: Steps in these states have left nothing behind.
_HARMLESS: Final = frozenset((_REVERTED, STEP_STATES[S_SKIPPED]))


class Progress(NamedTuple):
    """`fraction` is exact: the weight done over the weight of all. `completed` of `total` steps are done."""

    fraction: Fraction
    completed: int
    total: int


class Aftermath(NamedTuple):
    """effect: none | partial | applied | unknown; revert: none | partial | done | failed (API.md §2)."""

    effect: str
    revert: str


def progress(state: State) -> Progress:
    """Forward: weights done. Of a rollback: reverts done."""
    from fractions import Fraction

    if state.inverse:
        left = state.undo_left.get(0, 0)
        total = state.reverted + left
        return Progress(
            Fraction(state.reverted, total) if total else Fraction(int(state.turned)), state.reverted, total
        )
    if not state.total_weight:
        return Progress(Fraction(int(not state.left)), state.completed, state.total)
    done = Fraction(state.done_weight, state.total_weight)
    return Progress(done + state.done_extra if state.done_extra else done, state.completed, state.total)


def left_behind(end: str, steps: Mapping[str, int], *, undone: bool = False) -> Aftermath:
    """What a task leaves that ends so. `steps`: how many of those that ever began stand in each state. `undone`: all
    that can be undone has been, so what stands otherwise has nothing to undo."""
    reverted = steps.get(_REVERTED, 0)
    left = sum(number for word, number in steps.items() if word not in _HARMLESS)
    if undone or not left:
        return Aftermath("none", "done" if reverted or (undone and end == SUCCEEDED) else "none")
    revert = "partial" if reverted else "failed" if steps.get(_REVERT_FAILED) else "none"
    if end == SUCCEEDED:
        return Aftermath("applied", revert)
    in_doubt = end == ABORTED or not steps.keys().isdisjoint(IN_FLIGHT)
    return Aftermath("unknown" if in_doubt else "partial", revert)


def aftermath(state: State, end: str | None = None) -> Aftermath:
    """What the task leaves behind. `end`: how it is about to end; None: as it stands."""
    if state.inverse and not state.turned:  # it has done nothing, and what there is is another task's
        return Aftermath("none", "none")
    steps: dict[str, int] = {}
    for row, began in enumerate(state.began):
        if began and state.kind[row] == STEP:
            word = STEP_STATES[state.st[row]]
            steps[word] = steps.get(word, 0) + 1
    undone = state.turned and not state.undo_left.get(0, 0) and _REVERT_FAILED not in steps
    return left_behind(end or state.phase, steps, undone=undone)


def final_failure(state: State) -> Failure | None:
    """The failure that a person wants to see first: the first step's that failed for good, else why it was forced
    or what came too late."""
    if state.phase in ("SUCCEEDED", "REVERTED"):
        return None
    if state.forced is not None:
        return Failure(("ForceFailed",), state.forced, None, ())
    for row, failure in state.failures.items() if not state.inverse else ():
        if state.st[row] == S_FAILED or state.turned or row in state.failed:
            return failure
    for failure in state.revert_errors.values():
        return failure
    if state.deadline_reached:
        return Failure(("DeadlinePassed",), "the task did not end within its flow's deadline", None, ())
    return None
