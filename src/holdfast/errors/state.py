"""Errors that the state of things makes: another time, or from another state, the same call would do."""

from __future__ import annotations

from holdfast.errors.tree import StateError


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


class NameTaken(StateError):
    """Another resource of the project, which is named by its name, has it."""

    code = "name.taken"


class LifecycleChanged(StateError):
    """When its turn came, the resource was in no state that the operation starts from: nothing was done."""

    code = "lifecycle"


class NoTask(StateError):
    """Resources are changed by tasks only: ask for an operation."""

    code = "resource.no_task"


class WebhookNotFound(NotFound):
    """There is no such webhook."""


class CopyRefused(StateError):
    """The database can't be copied as things are."""

    code = "database.copy_refused"


class ScheduleNotFound(NotFound):
    """There is no such schedule."""


class ScheduleExists(StateError):
    """Another schedule of the project has that name."""

    code = "schedule.exists"


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
