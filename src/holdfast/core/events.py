"""What has happened, in the past tense: the journal's words.

Theory: *facts* (what user code, a device or a person did) may reach the journal in any order relative to verbs, so
folding a fact and folding a verb commute. *Decisions* are what `decide` made of a state and the driver made true;
the store refuses them when a verb that `decide` had not seen lies between. `at` is seconds since the epoch (UTC).
`row` is an index into the state's table; on disk it is the row's id, so that a journal outlives its plan.

How they are folded: core/machine.py. How they are stored: store/journal.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple

# --- verbs: appended by whoever accepts them, without a token ----------------------------------------------------


class CancelAsked(NamedTuple):
    revert: bool
    actor: str
    at: float


class AbortAsked(NamedTuple):
    actor: str
    at: float


class SuspendAsked(NamedTuple):
    release_claims: bool
    actor: str
    at: float


class ResumeAsked(NamedTuple):
    """`answers`: step id -> (word, result), where the word is done, rerun, undo or skip."""

    answers: dict[str, tuple[str, Any]]
    actor: str
    at: float


class RollbackAsked(NamedTuple):
    actor: str
    at: float


class ForceFailed(NamedTuple):
    reason: str
    actor: str
    at: float


class Delivered(NamedTuple):
    """An event that a step waits for (`WaitFor(name)`) has come."""

    name: str
    payload: Any
    at: float


# --- facts -------------------------------------------------------------------------------------------------------


class TakenOver(NamedTuple):
    """A worker took the task from a dead one; what was in flight is in doubt, but for the rows `away`: agents run
    those, and did not die with the worker. `poisoned`: for those with the most deaths that was one too many
    (`deaths_max`), which the event says because the setting may be another when the journal is read again."""

    epoch: int
    at: float
    poisoned: bool = False
    away: tuple[int, ...] | None = None


class Succeeded(NamedTuple):
    row: int
    result: Any
    at: float


class Failed(NamedTuple):
    row: int
    failure: Any
    at: float


class Parked(NamedTuple):
    """The step returned `Again` or `WaitFor`: it holds no thread. `entries` counts its entries so far."""

    row: int
    until: float | None
    event: str | None
    checkpoint: Any
    entries: int
    at: float


class Stopped(NamedTuple):
    """The step (or revert) let `Stopping` pass."""

    row: int
    at: float


class Interrupted(NamedTuple):
    """The step was ended from outside: its process was killed or its coroutine cancelled."""

    row: int
    at: float


class Died(NamedTuple):
    """The process that ran the step died by itself. `poisoned`: as in TakenOver. `ours`: its worker ended it, for a
    lease that was over or because it left, or left it behind: what it did is in doubt, and that was not its doing."""

    row: int
    why: str
    at: float
    poisoned: bool = False
    ours: bool | None = None


class Abandoned(NamedTuple):
    """The step's thread ignored every request to stop and was left behind."""

    row: int
    at: float


class Withdrawn(NamedTuple):
    """A recorded start that never began."""

    row: int
    at: float


class Checkpointed(NamedTuple):
    row: int
    value: Any
    at: float


class Decided(NamedTuple):
    """A link's `when` said yes or no."""

    row: int
    yes: bool
    at: float


class Expanded(NamedTuple):
    """The length of a map's list, or of the list of a for-each-value retry, is now fixed."""

    row: int
    length: int
    at: float


class Probed(NamedTuple):
    """After a crash the step's probe answered `done`, `not_done` or `unknown`."""

    row: int
    verdict: str
    result: Any
    why: str | None
    at: float


class Reverted(NamedTuple):
    row: int
    at: float


class RevertFailed(NamedTuple):
    row: int
    failure: Any
    at: float


class DeadlineReached(NamedTuple):
    """The task's `deadline_s` has passed."""

    at: float


# --- decisions ---------------------------------------------------------------------------------------------------


class Began(NamedTuple):
    at: float


class Started(NamedTuple):
    """`agent`: an agent is to run it, and nobody does before it is offered."""

    row: int
    attempt: int
    deadline_at: float | None
    at: float
    agent: bool | None = None


class Reentered(NamedTuple):
    """A parked step is entered again. `agent`: as in Started."""

    row: int
    at: float
    agent: bool | None = None


class RetryScheduled(NamedTuple):
    """The step, the revert, or the scope whose OPEN is `row` will be tried again at `until`."""

    row: int
    until: float
    at: float


class ScopeFailing(NamedTuple):
    """A retrying scope (its OPEN is `row`) will be undone and tried again: running siblings are asked to stop."""

    row: int
    at: float


class ScopeTurned(NamedTuple):
    """Nothing in the scope runs any more: its undo begins."""

    row: int
    at: float


class ScopeReset(NamedTuple):
    """The scope is undone and its next try begins."""

    row: int
    at: float


class Turned(NamedTuple):
    """The whole task begins to undo. `goal` is FAILED, CANCELLED, REVERTED or (a rollback task) SUCCEEDED."""

    goal: str
    at: float


class RevertStarted(NamedTuple):
    """`agent`: as in Started."""

    row: int
    attempt: int
    deadline_at: float | None
    at: float
    agent: bool | None = None


class Waited(NamedTuple):
    at: float


class Woke(NamedTuple):
    at: float


class Rested(NamedTuple):
    reason: str
    rows: tuple[int, ...]
    at: float


class Ended(NamedTuple):
    state: str
    at: float


class Adopted(NamedTuple):
    """An operator let the task take a changed plan."""

    digest: str
    at: float


Event = (
    CancelAsked
    | AbortAsked
    | SuspendAsked
    | ResumeAsked
    | RollbackAsked
    | ForceFailed
    | Delivered
    | TakenOver
    | Succeeded
    | Failed
    | Parked
    | Stopped
    | Interrupted
    | Died
    | Abandoned
    | Withdrawn
    | Checkpointed
    | Decided
    | Expanded
    | Probed
    | Reverted
    | RevertFailed
    | DeadlineReached
    | Began
    | Started
    | Reentered
    | RetryScheduled
    | ScopeFailing
    | ScopeTurned
    | ScopeReset
    | Turned
    | RevertStarted
    | Waited
    | Woke
    | Rested
    | Ended
    | Adopted
)

VERBS = (CancelAsked, AbortAsked, SuspendAsked, ResumeAsked, RollbackAsked, ForceFailed, Delivered)
FACTS = (
    TakenOver, Succeeded, Failed, Parked, Stopped, Interrupted, Died, Abandoned, Withdrawn, Checkpointed, Decided,
    Expanded, Probed, Reverted, RevertFailed, DeadlineReached,
)  # fmt: skip
DECISIONS = (
    Began, Started, Reentered, RetryScheduled, ScopeFailing, ScopeTurned, ScopeReset, Turned, RevertStarted, Waited,
    Woke, Rested, Ended, Adopted,
)  # fmt: skip
