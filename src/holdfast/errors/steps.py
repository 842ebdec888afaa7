"""Errors that steps end with, as stored failures name them, and what a step is told to stop with."""

from __future__ import annotations

from holdfast.errors.tree import StepError


class StepTimeout(StepError):
    """The step did not end within its `timeout_s`."""

    code = "step.timeout"
    retryable = True


class StepUnresponsive(StepError):
    """The step ignored its timeout and every request to stop; its thread was left behind."""

    code = "step.unresponsive"


class ChildFailed(StepError):
    """The child task that the step made did not succeed."""

    code = "step.child_failed"


class ChildNotUndone(StepError):
    """What the step's child task did could not be undone."""

    code = "step.child_not_undone"


class StepProcessDied(StepError):
    """The process that ran the step died."""

    code = "step.process_died"


class MechanismFailed(StepError):
    """One of the mechanisms that apply a resource failed; the others did their part."""

    code = "driver.failed"


class DeadlinePassed(StepError):
    """The task did not end within its flow's `deadline_s`."""

    code = "task.deadline"


class Stopping(BaseException):
    """This step was asked to stop: let the exception pass. It is not an `Exception`, so that a step's own
    `except Exception` does not swallow it (as asyncio.CancelledError).

    `reason` is one of suspend, cancel, rollback, abort, timeout, sibling_failed, lease_lost.
    """

    def __init__(self, reason: str = "cancel") -> None:
        self.reason = reason
        super().__init__(reason)
