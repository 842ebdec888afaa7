"""How far a task is, and what it left behind: questions asked of a state, answered without a walk where they are asked
at every step."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from holdfast.core.failure import Failure
from holdfast.core.state import State
from holdfast.core.states import S_FAILED, S_REVERT_FAILED

if TYPE_CHECKING:
    from fractions import Fraction


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


def aftermath(state: State) -> Aftermath:
    """What the task's end leaves behind."""
    began = state.began_count > 0
    if state.phase == "ABORTED":
        return Aftermath("unknown" if began else "none", _revert(state))
    if state.phase == "SUCCEEDED":
        return Aftermath("none" if state.inverse else "applied", "done" if state.inverse else "none")
    if not began:
        return Aftermath("none", "none")
    if state.turned and not state.undo_left.get(0, 0) and not any_revert_failed(state):
        return Aftermath("none", "done" if state.reverted else "none")
    return Aftermath("partial", _revert(state))


def _revert(state: State) -> str:
    if state.turned and state.reverted:
        return "partial"
    return "failed" if any_revert_failed(state) else "none"


def any_revert_failed(state: State) -> bool:
    return any(state.st[row] == S_REVERT_FAILED for row in state.revert_errors)


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
