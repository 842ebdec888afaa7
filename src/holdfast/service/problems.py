"""Every error of the service, in one body that satisfies RFC 9457 and the API-SIG's guideline for errors.

Whatever is raised becomes a problem here: an error of errors.py by its own code and status, any other as a fault of
ours, of which the asker learns no more than that there was one. Pages that say what a code means: `page`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, Final

from holdfast import errors
from holdfast.errors import HoldfastClosed, HoldfastError, StateError, UsageError

log = logging.getLogger("holdfast.service")

RETRY_AFTER_S: Final = 1
_OWN: Final = frozenset(
    ("type", "title", "status", "detail", "instance", "code", "request_id", "errors", "retry_after_s", "headers")
)


class RequestInvalid(UsageError):
    """The request can't be understood."""

    code = "request.invalid"


class PageNotFound(StateError):
    """There is nothing at this address."""

    code = "not_found"
    status = 404


class MethodNotAllowed(UsageError):
    """This address does not take that method."""

    code = "method"
    status = 405


class NotAcceptable(UsageError):
    """The answer does not come in any of the media types that are asked for."""

    code = "media.not_acceptable"
    status = 406


class MediaUnsupported(UsageError):
    """A body is JSON."""

    code = "media.unsupported"
    status = 415


class VersionUnsupported(UsageError):
    """The service does not speak that version."""

    code = "api.version"
    status = 406


class TooLarge(UsageError):
    """The request is larger than the service takes."""

    code = "too_large"
    status = 413


class HeadersTooLarge(UsageError):
    """The request's headers are larger than the service takes."""

    code = "headers.too_large"
    status = 431


class RequestTimeout(UsageError):
    """The request did not come to its end in time."""

    code = "request.timeout"
    status = 408


class IssuerUnreachable(errors.WorldError):
    """The keys of who signs the tokens can't be fetched."""

    code = "auth.issuer_unreachable"


class TokensUnreadable(errors.WorldError):
    """The file of tokens can't be read now."""

    code = "auth.tokens_unreadable"


class TooManyConnections(errors.WorldError):
    """The service has as many connections as it takes: try again."""

    code = "busy"


class NotReady(errors.WorldError):
    """The service does not take requests now."""

    code = "not_ready"


class ServiceStopping(errors.WorldError):
    """The service is about to stop: another one answers, or this one when it is back."""

    code = "stopping"


class Internal(HoldfastError):
    """The service is at fault: its log says where, under this request's id."""

    code = "internal"


def known(error: Exception) -> HoldfastError:
    """The error itself if it is one of ours that an asker may see; else what stands for it. What stands for a fault is
    told in the log."""
    if isinstance(error, HoldfastClosed):
        return ServiceStopping("the service is about to stop: send the same request again, with the same Task-Tag")
    if isinstance(error, HoldfastError) and not isinstance(error, Internal) and error.code != HoldfastError.code:
        return error
    if isinstance(error, RecursionError):
        return RequestInvalid("the request is nested too deeply")
    return Internal()


def of(error: HoldfastError, *, request_id: str, instance: str) -> dict[str, Any]:
    """The body."""
    status, code, title, detail = error.status, error.code, title_of(type(error)), str(error)
    if code.startswith("store."):  # where the database is, is for those who run the service
        log.error("%s: %s", request_id, error)
        detail = title
    href = f"/errors/{code}"
    body: dict[str, Any] = {
        "type": href, "title": title, "status": status, "detail": detail, "instance": instance, "code": code,
        "request_id": request_id,
    }  # fmt: skip
    body |= {name: _plain(value) for name, value in error.details.items() if name not in _OWN}
    body["errors"] = [
        {"request_id": request_id, "code": code, "status": status, "title": title, "detail": detail,
         "links": [{"rel": "help", "href": href}]}
    ]  # fmt: skip
    return body


def headers_of(error: HoldfastError) -> list[tuple[str, str]]:
    """What goes beside the body."""
    found: list[tuple[str, str]] = [("Cache-Control", "no-store")]
    given = error.details.get("headers")
    if isinstance(given, Mapping):
        found += [(str(name), str(value)) for name, value in given.items()]
    if error.status in (429, 503):
        after: Any = error.details.get("retry_after_s", RETRY_AFTER_S)
        found.append(("Retry-After", str(max(1, round(after)))))
    return found


def _plain(value: object) -> Any:
    """As JSON has it."""
    if isinstance(value, str | int | float | bool | None):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    return str(value)


# --- pages -------------------------------------------------------------------------------------------------------


def title_of(kind: type[HoldfastError]) -> str:
    """One line that is the same each time: the first sentence of the class."""
    text = " ".join((kind.__doc__ or kind.__name__).split())
    return re.split(r"[:.](?: |$)", text, maxsplit=1)[0]


def codes() -> dict[str, type[HoldfastError]]:
    """Code -> the class that has it; the first that does, where a base shares its code with those beneath."""
    found: dict[str, type[HoldfastError]] = {}
    waiting: list[type[HoldfastError]] = [HoldfastError]
    while waiting:
        kind = waiting.pop(0)
        if kind is not HoldfastError:
            found.setdefault(kind.code, kind)
        waiting += kind.__subclasses__()
    return found


def page(code: str) -> dict[str, Any]:
    """What the code means. Raises: PageNotFound."""
    kind = codes().get(code)
    if kind is None:
        raise PageNotFound(f"there is no error with the code {code}")
    return {
        "code": code,
        "status": kind.status,
        "title": title_of(kind),
        "detail": " ".join((kind.__doc__ or "").split()),
        "retryable": kind.retryable,
    }
