"""The root of the errors, and its branches: whose fault it is. What grows on them: the other files here."""

from __future__ import annotations


class HoldfastError(Exception):
    """Something went wrong in Holdfast."""

    code = "holdfast"
    status = 500
    retryable = False
    is_foreign = False  # it stands for an answer that the service did not give, but whatever stands before it

    def __init__(self, message: str | None = None, **details: object) -> None:
        self.details = details
        super().__init__(message or (type(self).__doc__ or "").strip())


class UsageError(HoldfastError):
    """The call is wrong: change it and call again."""

    code = "request.invalid"
    status = 400


class StateError(HoldfastError):
    """The state of things forbids the call."""

    code = "state"
    status = 409


class AccessError(HoldfastError):
    """Who asks may not."""

    code = "access"
    status = 403


class LeaseLost(HoldfastError):
    """Another worker has taken the task over: stop, and write nothing more."""

    code = "lease.lost"
    status = 409


class WorldError(HoldfastError):
    """The world outside did not do its part."""

    code = "world"
    status = 503
    retryable = True


class StepError(HoldfastError):
    """A step did not end as it should; seen by users as the type of a stored failure."""

    code = "step"


class TaskFailed(HoldfastError):
    """The task did not succeed."""

    code = "task.failed"


class WaitTimeout(HoldfastError):
    """The task did not end in time; it goes on."""

    code = "wait.timeout"
    retryable = True
