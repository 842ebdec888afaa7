"""What the service refuses, as errors of the one tree (errors.py): by the problem's code, else by the status.

The body is RFC 9457's; who receives it: protocol.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from holdfast import errors

#: Of the problem itself, in the words of one guideline or another.
_OWN: Final = frozenset(("type", "title", "status", "detail", "code", "message", "error_message"))
_OF_STATUS: Final[dict[int, type[errors.HoldfastError]]] = {
    401: errors.AuthRequired,
    403: errors.PolicyForbidden,
    404: errors.NotFound,
    409: errors.StateError,
    410: errors.Gone,
    412: errors.StateError,
    429: errors.RateLimited,
}


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> errors.HoldfastError:
    """The error that the answer stands for, its `code` and `status` as the service gave them; what else the problem
    says is in its `details`."""
    problem = _problem(body)
    code = problem.get("code")
    kind = _kind(code if isinstance(code, str) else "", status)
    said = problem.get("detail") or problem.get("title") or _text(body, status)
    details = {name: value for name, value in problem.items() if name not in _OWN}
    if "request_id" not in details and "x-openstack-request-id" in headers:
        details["request_id"] = headers["x-openstack-request-id"]
    error = kind(str(said))
    error.details.update(details)  # a member may have any name
    error.code = code if isinstance(code, str) else kind.code
    error.status, error.is_foreign = status, not isinstance(code, str)
    return error


def _kind(code: str, status: int) -> type[errors.HoldfastError]:
    named = _BY_CODE.get(code)
    if named is not None:
        return named
    if status in _OF_STATUS:
        return _OF_STATUS[status]
    if 400 <= status < 500:
        return errors.UsageError
    return errors.WorldError if status >= 500 else errors.AnswerUnreadable


def _problem(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _text(body: bytes, status: int) -> str:
    """Of an answer that is no problem document: whatever stands between may have sent it."""
    text = " ".join(body[:200].decode("utf-8", "replace").split())
    return f"the answer is {status}" + (f": {text}" if text and not text.startswith("<") else "")


def _tree(kind: type[errors.HoldfastError]) -> Iterator[type[errors.HoldfastError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:  # a service in this process has some of its own
            yield from _tree(child)


#: The first of a code counts: those below it say it more exactly, and the service can't tell them apart.
_BY_CODE: Final = {kind.code: kind for kind in reversed([*_tree(errors.HoldfastError)])}
