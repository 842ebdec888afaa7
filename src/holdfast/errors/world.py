"""Errors of access, and of the world outside: disks, networks, services."""

from __future__ import annotations

from holdfast.errors.tree import AccessError, WorldError


class AuthRequired(AccessError):
    """The service wants to know who asks: give it a token (HOLDFAST_TOKEN)."""

    code = "auth.required"
    status = 401


class PolicyForbidden(AccessError):
    """The policy does not let you do that."""

    code = "policy.forbidden"


class StoreBusy(WorldError):
    """The database is locked by another program: try again, or see `holdfast doctor`."""

    code = "store.busy"


class StoreAway(WorldError):
    """The database can't be reached: nothing was stored; try again when it is back."""

    code = "store.away"


class StoreUnknown(WorldError):
    """The connection broke while a commit was under way, and the database is still away: look at what is there before
    you ask again."""

    code = "store.unknown"
    retryable = False


class StoreSilent(WorldError):
    """The database gave no answer in time, and may have done what it was asked: ask again, with the same tag."""

    code = "store.silent"


class StoreUnwritable(WorldError):
    """The database can't be written."""

    code = "store.unwritable"
    retryable = False


class StoreReplaced(WorldError):
    """Another file was put in the place of the database while it was in use: stop everything, and start it again."""

    code = "store.replaced"
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
