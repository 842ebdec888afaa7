"""Errors of power drivers, and of the BMCs they talk to."""

from __future__ import annotations

from holdfast.errors.tree import StepError, UsageError


class DriverInvalid(UsageError):
    """There is no driver of that name here, or a node's `driver_info` is not what it needs."""

    code = "driver.invalid"


class PowerUnsupported(UsageError):
    """The node's driver does not support that power state."""

    code = "power.unsupported"


class BMCError(StepError):
    """The BMC answered that it failed, or with something that makes no sense."""

    code = "bmc.failed"


class BMCUnreachable(BMCError):
    """The BMC gave no answer: whether it has heard is not known."""

    code = "bmc.unreachable"
    retryable = True


class BMCAuthFailed(BMCError):
    """The BMC refused the user name or the password."""

    code = "bmc.auth"


class BMCRefused(BMCError):
    """The BMC answered that it won't do that."""

    code = "bmc.refused"


class PowerUnchanged(BMCError):
    """The machine was not in the power state that was asked for within the time that it had."""

    code = "power.timeout"


class PowerUnknown(BMCError):
    """A command was sent, its outcome is not known, and nothing that can be seen tells it."""

    code = "power.unknown"
