"""Errors of the caller: the call has to be changed. What the state forbids though the call is right: state.py."""

from __future__ import annotations

from holdfast.errors.tree import UsageError


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
    """There is no key to seal secrets with: set HOLDFAST_SECRET_KEY (`holdfast key new` prints one)."""

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


class WebhookRefused(UsageError):
    """Webhooks may not go there."""

    code = "webhook.refused"


class ScheduleInvalid(UsageError):
    """The schedule can't be kept: its cron expression, its time zone or its rules are wrong."""

    code = "schedule.invalid"
