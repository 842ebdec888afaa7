"""What the two shells share: how a client is set up, and how httpx's words become the protocol's.

The loops: client.py, aio.py.
"""

from __future__ import annotations

import random
import time
import uuid
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

from holdfast.client.patience import Patience
from holdfast.client.protocol import Lost, Reply, Request, Ways
from holdfast.errors import UsageError

try:
    import httpx
except ImportError as error:  # pragma: no cover - an installation without the extra
    raise UsageError("the client needs httpx: pip install 'holdfast[client]'") from error

if TYPE_CHECKING:
    from collections.abc import Mapping

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


class Options(NamedTuple):
    """How a service is reached and who asks. `project`, `user` and `roles` are for a service that takes them from
    headers; one that wants a token takes them from the token."""

    url: str
    token: str | None = None
    project: str | None = None
    user: str | None = None
    roles: str | None = None
    patience: Patience = Patience()
    verify: Any = True


def ways_of(options: Options) -> Ways:
    """Raises: UsageError: the address is none."""
    parts = urlsplit(options.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{options.url!r} is no address of a service: it looks like http://127.0.0.1:8760")
    if parts.username is not None or parts.query or parts.fragment:
        raise UsageError("the address of a service has no user, query or fragment: give the token apart")
    headers = {
        "X-Auth-Token": options.token,
        "X-Project-Id": options.project,
        "X-User-Id": options.user,
        "X-Roles": options.roles,
    }
    known = {name: _header(name, value) for name, value in headers.items() if value}
    return Ways(
        url=options.url.rstrip("/"),
        headers={"User-Agent": "holdfast", "OpenStack-API-Version": "tasks 1.0", **known},
        patience=options.patience,
        now=time.monotonic,
        wall=time.time,
        chance=random.random,
        uuid=lambda: str(uuid.uuid4()),
        plurals={},
    )


def _header(name: str, value: str) -> str:
    if not value.isascii() or not value.isprintable():
        raise UsageError(f"what is given for {name} has letters that no header can carry")
    return value


def kwargs_of(options: Options) -> dict[str, Any]:
    """For httpx's clients. Redirects are not followed: they would carry the token elsewhere. What is on this machine
    is reached without the environment's proxy. Certificates take 30 ms to load, so they are where they are used."""
    parts = urlsplit(options.url)
    return {
        "verify": options.verify if parts.scheme == "https" else False,
        "follow_redirects": False,
        "limits": httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=30.0),
        "trust_env": parts.hostname not in LOOPBACK,
    }


def request_of(client: Any, ways: Ways, request: Request) -> httpx.Request:
    """As httpx sends it."""
    patience = ways.patience
    made: httpx.Request = client.build_request(
        request.method,
        ways.url + request.path,
        headers=dict(request.headers),
        content=request.body,
        timeout=httpx.Timeout(request.answer_s, connect=patience.connect_s, pool=patience.deadline_s),
    )
    return made


def reply_of(response: httpx.Response, body: bytes) -> Reply:
    headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}
    return Reply(response.status_code, headers, body)


def lost(error: Exception) -> Lost:
    said = str(error).strip()
    if isinstance(error, httpx.TimeoutException):
        said = "it took too long"
    return Lost(said or type(error).__name__)


def is_streamed(request: Request, response: httpx.Response) -> bool:
    return request.stream and response.status_code == 200


FAILURES: Final = (httpx.TransportError, httpx.StreamError)
