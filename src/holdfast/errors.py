"""Every error that Holdfast raises, as one tree.

The class docstring is the default message. `code` is the stable word for programs, `status` the HTTP status a
service answers with, `retryable` whether the same call may succeed later without a change. The branches say whose
fault it is: yours (`UsageError`), the state's (`StateError`), that you may not (`AccessError`), another owner's
(`LeaseLost`), the world's (`WorldError`). What a *step* did wrong is a `Failure` (core/values.py), never one of these.
"""

from __future__ import annotations


class HoldfastError(Exception):
    """Something went wrong in Holdfast."""

    code = "holdfast"
    status = 500
    retryable = False

    def __init__(self, message: str | None = None, **details: object) -> None:
        self.details = details
        super().__init__(message or (type(self).__doc__ or "").strip())


class UsageError(HoldfastError):
    """The call is wrong: change it and call again."""

    code = "request.invalid"
    status = 400


class QueryUnknown(UsageError):
    """A list takes no parameter of that name."""

    code = "query.unknown"


class FlowError(UsageError):
    """The flow is not sound."""

    code = "flow.invalid"


class MissingInput(FlowError):
    """A step requires a value that nothing provides."""

    code = "flow.missing_input"


class UnknownInput(UsageError):
    """The flow takes no input of that name."""

    code = "flow.unknown_input"


class AmbiguousInput(FlowError):
    """Two steps provide the same name and neither is nearer."""

    code = "flow.ambiguous_input"


class DuplicateName(FlowError):
    """Two members of one flow have the same name."""

    code = "flow.duplicate_name"


class Cycle(FlowError):
    """The flow's links go in a circle."""

    code = "flow.cycle"


class FlowFrozen(FlowError):
    """A graph can't be changed once it has been used: make a new one."""

    code = "flow.frozen"


class MachineFault(FlowError):
    """The state table is not sound."""

    code = "machine.fault"


class FlowNotFound(UsageError):
    """The flow can't be found again after a restart."""

    code = "flow.not_found"


class KindError(FlowError):
    """The kind, or one of its operations, is not sound."""

    code = "kind.invalid"


class DocumentInvalid(UsageError):
    """A field of the document or a parameter is wrong."""

    code = "request.invalid"


class OperationUnknown(UsageError):
    """The kind has no such operation."""

    code = "request.invalid"


class ValueRefused(UsageError):
    """The value can't be stored exactly."""

    code = "value.refused"


class ValueTooLarge(ValueRefused):
    """The value is larger than `value_bytes_max`."""

    code = "value.too_large"
    status = 413


class SecretKeyMissing(UsageError):
    """There is no key to seal secrets with: set HOLDFAST_SECRET_KEY (`holdfast doctor --new-key` prints one)."""

    code = "secret.key_missing"


class TagInvalid(UsageError):
    """A tag is 1 to 255 visible ASCII characters."""

    code = "tag.invalid"


class TagReused(UsageError):
    """That tag already names another request."""

    code = "tag.reused"
    status = 422


class TagNotSupported(UsageError):
    """This request makes no task: send it without a tag."""

    code = "tag.not_supported"


class SettingInvalid(UsageError):
    """The setting's value can't be used."""

    code = "setting.invalid"


class DatabaseUrlInvalid(UsageError):
    """The database URL can't be used: sqlite:///FILE, sqlite:////ABSOLUTE/FILE or sqlite:///:memory:."""

    code = "database.url_invalid"


class StateError(HoldfastError):
    """The state of things forbids the call."""

    code = "state"
    status = 409


class NotFound(StateError):
    """There is nothing of that name."""

    code = "not_found"
    status = 404


class TaskNotFound(NotFound):
    """There is no such task."""


class Gone(StateError):
    """It was there, and is no longer kept."""

    code = "gone"
    status = 410


class TaskGone(Gone):
    """The task has been purged."""


class PreconditionFailed(StateError):
    """It has changed since you looked (If-Match): look again."""

    code = "precondition.failed"
    status = 412


class ResourceNotFound(NotFound):
    """There is no such resource."""


class KindUnknown(NotFound):
    """No kind of resource has that name."""


class ResourceImmutable(StateError):
    """The resource's state, as its last queued task will leave it, does not allow the operation."""

    code = "resource.immutable"


class ResourceBusy(StateError):
    """Others work on the resource or wait for it, and you asked not to wait (Prefer: fail-if-busy)."""

    code = "resource.busy"


class LifecycleChanged(StateError):
    """When its turn came, the resource was in no state that the operation starts from: nothing was done."""

    code = "lifecycle"


class NoTask(StateError):
    """Resources are changed by tasks only: ask for an operation."""

    code = "resource.no_task"


class WebhookNotFound(NotFound):
    """There is no such webhook."""


class WebhookRefused(UsageError):
    """Webhooks may not go there."""

    code = "webhook.refused"


class EventsGone(Gone):
    """Events that old are no longer kept."""


class VerbRefused(StateError):
    """The task's state does not allow the verb."""

    code = "task.verb_not_allowed"


class PastPivot(VerbRefused):
    """The task has passed its point of no return: only `cancel` without undo is left."""

    code = "task.past_pivot"


class RollbackSuperseded(VerbRefused):
    """Others have changed the task's resources since: force the rollback if that doesn't matter."""

    code = "rollback.superseded"


class VerbUnsupported(VerbRefused):
    """What the task does can't be stopped that way."""

    code = "task.verb_unsupported"


class AnswerNeeded(VerbRefused):
    """The task rests for a person's answer: say for each step whether it is done, rerun, undo or skip."""

    code = "task.answer_needed"


class AnswerRefused(VerbRefused):
    """That answer does not fit the step."""

    code = "task.answer_refused"


class QuotaExceeded(StateError):
    """The project has as many tasks that have not ended, or the resource as many that wait, as it may have."""

    code = "quota"
    status = 429
    retryable = True


class ClaimRefused(StateError):
    """The resource is claimed or queued for, and a late claim is never waited for."""

    code = "claim.refused"


class SchemaNewer(StateError):
    """The database was made by a newer Holdfast: upgrade this one."""

    code = "database.schema_newer"


class SchemaOlder(StateError):
    """The database's schema is older than this Holdfast: run `holdfast db upgrade`."""

    code = "database.schema_older"


class HoldfastClosed(StateError):
    """This Holdfast has been closed: open it again."""

    code = "closed"


class AccessError(HoldfastError):
    """Who asks may not."""

    code = "access"
    status = 403


class AuthRequired(AccessError):
    """The service wants to know who asks: give it a token (HOLDFAST_TOKEN)."""

    code = "auth.required"
    status = 401


class PolicyForbidden(AccessError):
    """The policy does not let you do that."""

    code = "policy.forbidden"


class LeaseLost(HoldfastError):
    """Another worker has taken the task over: stop, and write nothing more."""

    code = "lease.lost"
    status = 409


class WorldError(HoldfastError):
    """The world outside did not do its part."""

    code = "world"
    status = 503
    retryable = True


class StoreBusy(WorldError):
    """The database is locked by another program: try again, or see `holdfast doctor`."""

    code = "store.busy"


class StoreUnwritable(WorldError):
    """The database can't be written."""

    code = "store.unwritable"
    retryable = False


class StoreFull(WorldError):
    """The disk is full: make room and go on; nothing acknowledged was lost."""

    code = "store.full"


class StoreCorrupt(WorldError):
    """The file is not a sound database: restore it from a copy."""

    code = "store.corrupt"
    retryable = False


class ServiceUnreachable(WorldError):
    """The service can't be reached, or gives no answer."""

    code = "service.unreachable"


class AnswerUnreadable(WorldError):
    """What answers is not the service, or not one that this client understands."""

    code = "service.answer"
    status = 502
    retryable = False


class RateLimited(WorldError):
    """Too many requests in too short a time: wait, then ask again."""

    code = "rate"
    status = 429


class StepError(HoldfastError):
    """A step did not end as it should; seen by users as the type of a stored failure."""

    code = "step"


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


class TaskFailed(HoldfastError):
    """The task did not succeed."""

    code = "task.failed"


class WaitTimeout(HoldfastError):
    """The task did not end in time; it goes on."""

    code = "wait.timeout"
    retryable = True


class Stopping(BaseException):
    """This step was asked to stop: let the exception pass. It is not an `Exception`, so that a step's own
    `except Exception` does not swallow it (as asyncio.CancelledError).

    `reason` is one of suspend, cancel, rollback, abort, timeout, sibling_failed, lease_lost.
    """

    def __init__(self, reason: str = "cancel") -> None:
        self.reason = reason
        super().__init__(reason)
