"""The states of tasks and of steps: two tables, and what is derived from them.

Theory: a task's row is a *phase*: SUSPENDING and SUSPENDED keep what they hold ("SUSPENDED/reverting"), because a verb
means there what it means in the state that is held. The API shows the part before the slash. The edges and the verb
matrix are the REST contract's sections 2 and 5. No other module types a state's name into a list.

What a row is, and the checker: core/table.py. What is done in a state: core/machine.py.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from holdfast.core.table import ANEW as ANEW
from holdfast.core.table import IGNORE as IGNORE
from holdfast.core.table import REFUSE as REFUSE
from holdfast.core.table import Machine as Machine
from holdfast.core.table import Row as Row
from holdfast.core.table import faults as faults
from holdfast.core.table import final as final
from holdfast.core.table import moving as moving
from holdfast.core.table import resting as resting

# --- tasks -------------------------------------------------------------------------------------------------------

PENDING: Final = "PENDING"
RUNNING: Final = "RUNNING"
WAITING: Final = "WAITING"
SUSPENDING_FORWARD: Final = "SUSPENDING/forward"
SUSPENDING_REVERTING: Final = "SUSPENDING/reverting"
SUSPENDING_CANCELLING: Final = "SUSPENDING/cancelling"
SUSPENDED_PENDING: Final = "SUSPENDED/pending"
SUSPENDED_FORWARD: Final = "SUSPENDED/forward"
SUSPENDED_REVERTING: Final = "SUSPENDED/reverting"
SUSPENDED_CANCELLING: Final = "SUSPENDED/cancelling"
CANCELLING: Final = "CANCELLING"
REVERTING: Final = "REVERTING"
ABORTING: Final = "ABORTING"
SUCCEEDED: Final = "SUCCEEDED"
FAILED: Final = "FAILED"
CANCELLED: Final = "CANCELLED"
ABORTED: Final = "ABORTED"
REVERTED: Final = "REVERTED"

#: What anybody who may change the task may ask; force_fail is an administrator's.
VERBS: Final = ("cancel", "abort", "suspend", "resume", "rollback", "retry")
#: begin: its first step may start. wait: nothing runs and something is awaited. wake: it goes on. rest: nothing runs,
#: and a person has to say how to go on. turn: it failed, and undoes. worker_died: another worker will go on.
INPUTS: Final = (
    "begin", "wait", "wake", "rest", "turn",
    "end_succeeded", "end_failed", "end_cancelled", "end_aborted", "end_reverted", "worker_died",
)  # fmt: skip

TASK: Final = Machine(
    "task",
    {
        PENDING: moving(
            cancel=CANCELLED, abort=ABORTED, suspend=SUSPENDED_PENDING, resume=IGNORE, rollback=REFUSE, retry=REFUSE,
            force_fail=FAILED, begin=RUNNING, rest=SUSPENDED_PENDING, end_failed=FAILED, worker_died=IGNORE,
        ),
        RUNNING: moving(
            cancel=CANCELLING, abort=ABORTING, suspend=SUSPENDING_FORWARD, resume=IGNORE, rollback=REVERTING,
            retry=REFUSE, force_fail=FAILED, wait=WAITING, rest=SUSPENDED_FORWARD, turn=REVERTING,
            end_succeeded=SUCCEEDED, end_failed=FAILED, worker_died=IGNORE,
        ),
        # Nothing runs, so there is nothing to stop first: abort and suspend are done at once.
        WAITING: moving(
            cancel=CANCELLING, abort=ABORTED, suspend=SUSPENDED_FORWARD, resume=IGNORE, rollback=REVERTING,
            retry=REFUSE, force_fail=FAILED, wake=RUNNING, rest=SUSPENDED_FORWARD, turn=REVERTING, end_failed=FAILED,
            worker_died=IGNORE,
        ),
        # The last step may end before it is stopped: then the task ends, and is not suspended.
        SUSPENDING_FORWARD: moving(
            cancel=CANCELLING, abort=ABORTING, suspend=IGNORE, resume=RUNNING, rollback=REVERTING, retry=REFUSE,
            force_fail=FAILED, rest=SUSPENDED_FORWARD, end_succeeded=SUCCEEDED, end_failed=FAILED, worker_died=IGNORE,
        ),
        SUSPENDING_REVERTING: moving(
            cancel=REFUSE, abort=ABORTING, suspend=IGNORE, resume=REVERTING, rollback=IGNORE, retry=REFUSE,
            force_fail=FAILED, rest=SUSPENDED_REVERTING, end_reverted=REVERTED, end_failed=FAILED, worker_died=IGNORE,
        ),
        SUSPENDING_CANCELLING: moving(
            cancel=IGNORE, abort=ABORTING, suspend=IGNORE, resume=CANCELLING, rollback=REFUSE, retry=REFUSE,
            force_fail=FAILED, rest=SUSPENDED_CANCELLING, end_cancelled=CANCELLED, end_failed=FAILED,
            worker_died=IGNORE,
        ),
        SUSPENDED_PENDING: resting(
            cancel=CANCELLED, abort=ABORTED, suspend=IGNORE, resume=PENDING, rollback=REFUSE, retry=REFUSE,
            force_fail=FAILED, worker_died=IGNORE,
        ),
        SUSPENDED_FORWARD: resting(
            cancel=CANCELLING, abort=ABORTED, suspend=IGNORE, resume=RUNNING, rollback=REVERTING, retry=REFUSE,
            force_fail=FAILED, worker_died=IGNORE,
        ),
        SUSPENDED_REVERTING: resting(
            cancel=REFUSE, abort=ABORTED, suspend=IGNORE, resume=REVERTING, rollback=IGNORE, retry=REFUSE,
            force_fail=FAILED, worker_died=IGNORE,
        ),
        SUSPENDED_CANCELLING: resting(
            cancel=IGNORE, abort=ABORTED, suspend=IGNORE, resume=CANCELLING, rollback=REFUSE, retry=REFUSE,
            force_fail=FAILED, worker_died=IGNORE,
        ),
        # `turn` marks where what runs has stopped and the undo begins; the state says the goal and stays.
        CANCELLING: moving(
            cancel=IGNORE, abort=ABORTING, suspend=SUSPENDING_CANCELLING, resume=IGNORE, rollback=REFUSE, retry=REFUSE,
            force_fail=FAILED, turn=IGNORE, rest=SUSPENDED_CANCELLING, end_cancelled=CANCELLED, end_failed=FAILED,
            worker_died=IGNORE,
        ),
        REVERTING: moving(
            cancel=REFUSE, abort=ABORTING, suspend=SUSPENDING_REVERTING, resume=IGNORE, rollback=IGNORE, retry=REFUSE,
            force_fail=FAILED, turn=IGNORE, rest=SUSPENDED_REVERTING, end_reverted=REVERTED, end_failed=FAILED,
            worker_died=IGNORE,
        ),
        ABORTING: moving(
            cancel=REFUSE, abort=IGNORE, suspend=REFUSE, resume=REFUSE, rollback=REFUSE, retry=REFUSE,
            force_fail=FAILED, end_aborted=ABORTED, end_failed=FAILED, worker_died=IGNORE,
        ),
        SUCCEEDED: final(
            cancel=REFUSE, abort=REFUSE, suspend=REFUSE, resume=REFUSE, rollback=ANEW, retry=REFUSE, force_fail=REFUSE
        ),
        FAILED: final(
            cancel=REFUSE, abort=REFUSE, suspend=REFUSE, resume=REFUSE, rollback=ANEW, retry=ANEW, force_fail=REFUSE
        ),
        CANCELLED: final(
            cancel=IGNORE, abort=REFUSE, suspend=REFUSE, resume=REFUSE, rollback=ANEW, retry=ANEW, force_fail=REFUSE
        ),
        ABORTED: final(
            cancel=REFUSE, abort=IGNORE, suspend=REFUSE, resume=REFUSE, rollback=ANEW, retry=ANEW, force_fail=REFUSE
        ),
        REVERTED: final(
            cancel=REFUSE, abort=REFUSE, suspend=REFUSE, resume=REFUSE, rollback=IGNORE, retry=ANEW, force_fail=REFUSE
        ),
    },
    verbs=(*VERBS, "force_fail"),
    inputs=INPUTS,
    check=False,  # proven by the tests and by `holdfast machine check`; importing is not the time to do it again
)  # fmt: skip


def api_state(phase: str) -> str:
    """The state that users see."""
    return phase.partition("/")[0]


def hold(phase: str) -> str | None:
    """What SUSPENDING or SUSPENDED holds: pending, forward, reverting or cancelling; None for any other state."""
    return phase.partition("/")[2] or None


def phase(state: str, held: str | None) -> str:
    """The phase of a state and what it holds: the other way round."""
    return f"{state}/{held}" if held else state


#: Phases, by kind. A final or moving phase without a slash is also the state that users see.
FINAL: Final = TASK.of_kind("final")
MOVING: Final = TASK.of_kind("moving")
RESTING: Final = TASK.of_kind("resting")
#: States as users see them, in the table's order, and those that a worker may take up.
API_STATES: Final = tuple(dict.fromkeys(map(api_state, TASK.rows)))
CLAIMABLE: Final = tuple(dict.fromkeys(api_state(row) for row in TASK.rows if row in MOVING))
HOLDS: Final = tuple(dict.fromkeys(held for held in map(hold, TASK.rows) if held))
#: What a task that undoes may end in.
GOALS: Final = (FAILED, CANCELLED, REVERTED)


def verbs_allowed(phase: str) -> list[str]:
    """The verbs that users may give now and that would change something; none to what is no phase."""
    return list(_ALLOWED.get(phase, ()))


_ALLOWED: Final = {phase: tuple(verb for verb in TASK.verbs_allowed(phase) if verb in VERBS) for phase in TASK.rows}


class Reason(NamedTuple):
    """Why a task rests. `answers`: what a person may say of each step it rests for; `default`: what is meant by a
    bare `resume`; None: an answer is needed, if there are answers at all."""

    answers: tuple[str, ...]
    default: str | None = None

    @property
    def needs_answer(self) -> bool:
        return bool(self.answers) and self.default is None


REASONS: Final = {
    "asked": Reason(()),
    "on_failure": Reason(("done", "rerun", "undo", "skip"), default="rerun"),
    "outcome_unknown": Reason(("done", "rerun", "undo", "skip")),
    "definition_changed": Reason(()),  # goes on once the definition fits again, or it is adopted
    "revert_failed": Reason(("done", "rerun", "skip")),
    "step_unresponsive": Reason(("done", "rerun", "undo", "skip")),
    "past_pivot": Reason(("done", "rerun", "skip")),
    "poison": Reason(("done", "rerun", "undo", "skip")),
}


# --- steps -------------------------------------------------------------------------------------------------------

# Inputs are named after the events of core/events.py, except where one event leads to two states: a step that was
# asked to stop is `stopped` when its task is about to undo it, and `held` when it will be entered again. The final
# states are the end for the step, but not for good: a later undo and the next try of its flow reopen them.

#: In memory a step's state is its index here.
STEP_STATES: Final = (
    "PENDING", "RUNNING", "WAITING", "SUCCEEDED", "FAILED", "INTERRUPTED", "ABANDONED", "SKIPPED", "REVERTING",
    "REVERTED", "REVERT_FAILED", "ABORTED",
)  # fmt: skip
S_PENDING: Final = 0
S_RUNNING: Final = 1
S_WAITING: Final = 2
S_SUCCEEDED: Final = 3
S_FAILED: Final = 4
S_INTERRUPTED: Final = 5
S_ABANDONED: Final = 6
S_SKIPPED: Final = 7
S_REVERTING: Final = 8
S_REVERTED: Final = 9
S_REVERT_FAILED: Final = 10
S_ABORTED: Final = 11

#: What a person may say of a step that its task rests for.
STEP_VERBS: Final = ("answered_done", "answered_rerun", "answered_undo", "answered_skip")
STEP_INPUTS: Final = (
    "started", "reentered", "succeeded", "failed", "parked", "stopped", "held", "interrupted", "died", "abandoned",
    "withdrawn", "skipped", "retry_scheduled", "probed_done", "probed_not_done", "probed_unknown", "revert_started",
    "reverted", "revert_failed", "reset", "aborted", "taken_over",
)  # fmt: skip

_UNASKED: Final = dict.fromkeys(STEP_VERBS, REFUSE)

STEP: Final = Machine(
    "step",
    {
        "PENDING": moving(
            started="RUNNING", skipped="SKIPPED", reset=IGNORE, aborted=IGNORE, taken_over=IGNORE, **_UNASKED
        ),
        "RUNNING": moving(
            succeeded="SUCCEEDED", failed="FAILED", parked="WAITING", stopped="INTERRUPTED", held="PENDING",
            interrupted="INTERRUPTED", died="INTERRUPTED", abandoned="ABANDONED", withdrawn="PENDING",
            aborted="ABORTED", taken_over="INTERRUPTED", **_UNASKED,
        ),
        # Nothing runs: a back-off (of the step or of its revert), `Again` or `WaitFor`. No worker's death matters.
        "WAITING": moving(
            started="RUNNING", reentered="RUNNING", failed="FAILED", stopped="INTERRUPTED", held=IGNORE,
            revert_started="REVERTING", reset="PENDING", aborted="ABORTED", taken_over=IGNORE, **_UNASKED,
        ),
        "SUCCEEDED": final(revert_started="REVERTING", reset="PENDING", aborted=IGNORE, taken_over=IGNORE, **_UNASKED),
        "FAILED": resting(
            started="RUNNING", retry_scheduled="WAITING", revert_started="REVERTING", reset="PENDING", aborted=IGNORE,
            taken_over=IGNORE, answered_done="SUCCEEDED", answered_rerun="PENDING", answered_undo=IGNORE,
            answered_skip="SKIPPED",
        ),
        # Its effect is in doubt, or (after a revert that did not end) its undo is due.
        "INTERRUPTED": resting(
            started="RUNNING", retry_scheduled="WAITING", probed_done="SUCCEEDED", probed_not_done="PENDING",
            probed_unknown=IGNORE, revert_started="REVERTING", reset="PENDING", aborted="ABORTED", taken_over=IGNORE,
            answered_done="SUCCEEDED", answered_rerun="PENDING", answered_undo=IGNORE, answered_skip="SKIPPED",
        ),
        # Its thread may still run: only a person knows when it may be retried or undone.
        "ABANDONED": resting(
            aborted=IGNORE, taken_over=IGNORE, answered_done="SUCCEEDED", answered_rerun="PENDING",
            answered_undo="INTERRUPTED", answered_skip="SKIPPED",
        ),
        "SKIPPED": final(reset="PENDING", aborted=IGNORE, taken_over=IGNORE, **_UNASKED),
        "REVERTING": moving(
            reverted="REVERTED", revert_failed="REVERT_FAILED", held="INTERRUPTED", interrupted="INTERRUPTED",
            died="INTERRUPTED", abandoned="ABANDONED", withdrawn="INTERRUPTED", parked=IGNORE, reentered=IGNORE,
            aborted="ABORTED", taken_over="INTERRUPTED", **_UNASKED,
        ),
        "REVERTED": final(reset="PENDING", aborted=IGNORE, taken_over=IGNORE, **_UNASKED),
        "REVERT_FAILED": resting(
            revert_started="REVERTING", retry_scheduled="WAITING", aborted=IGNORE, taken_over=IGNORE,
            answered_done="REVERTED", answered_rerun="INTERRUPTED", answered_undo=REFUSE, answered_skip="SKIPPED",
        ),
        "ABORTED": final(aborted=IGNORE, taken_over=IGNORE, **_UNASKED),
    },
    verbs=STEP_VERBS,
    inputs=STEP_INPUTS,
    death="taken_over",
    reopens=("revert_started", "reset"),
    operated=("resting",),  # a step that moves is stopped by a verb on its task
    check=False,  # as TASK
)  # fmt: skip

#: For `holdfast machine check | show`.
MACHINES: Final = {machine.name: machine for machine in (TASK, STEP)}
