"""A request as a handler sees it: who asks, for what, under which tag, and how long he would wait.

What is common to all requests is read here, once: ids, the version, the preferences (RFC 7240), the tag, the query and
the body. Nothing that is unknown is let pass: it would be a misspelt wish. What is checked in which order: app.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qsl, quote, unquote
from uuid import UUID

import msgspec

from holdfast.clock import SYSTEM
from holdfast.errors import PreconditionFailed, QueryUnknown, TagInvalid, TagNotSupported
from holdfast.service.bodies import decode, fields_of
from holdfast.service.problems import (
    MediaUnsupported,
    NotAcceptable,
    RequestInvalid,
    RequestTimeout,
    TooLarge,
    VersionUnsupported,
)
from holdfast.service.routes import JSON, PROBLEM, SAFE, Route
from holdfast.tasks import params, tags

if TYPE_CHECKING:
    from holdfast.service.app import Service
    from holdfast.service.identity import Caller

VERSION_MIN: Final = (1, 0)
VERSION_MAX: Final = (1, 0)
SERVICE_TYPE: Final = "tasks"
QUERY_FIELDS_MAX: Final = 100
REVISION_DIGITS_MAX: Final = 18
_REQUEST_ID: Final = re.compile(r"^req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", re.IGNORECASE)
_REFUSED: Final = re.compile(r";\s*q=0(\.0*)?\s*(,|;|$)")  # RFC 9110 §12.4.2
_TRACEPARENT: Final = re.compile(r"^(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$")
#: As JSON has numbers, which is what the document says: Python's own words take white space, `1_0` and `١` as well.
_WHOLE: Final = re.compile(r"-?[0-9]{1,4000}")
_NUMBER: Final = re.compile(r"-?[0-9]+([.][0-9]+)?([eE][+-]?[0-9]+)?")
_VERSION: Final = re.compile(r"^(\d{1,4})\.(\d{1,4})$")


class Marks(NamedTuple):
    """What is known of a request before it is routed."""

    request_id: str
    global_request_id: str
    headers: Mapping[str, str]
    peer: str


def marks_of(scope: Mapping[str, Any]) -> Marks:
    headers = _headers(scope["headers"])
    client = scope.get("client")
    return Marks(new_request_id(), _global_request_id(headers), headers, client[0] if client else "")


def _global_request_id(headers: Mapping[str, str]) -> str:
    """What the caller calls what it does; "": it does not say. The id of a trace is as good a name as OpenStack's."""
    given = headers.get("x-openstack-request-id", "")
    if _REQUEST_ID.match(given):
        return given
    came = traceparent(headers)
    return "" if came is None else f"req-{UUID(int=came.trace)}"


class Traceparent(NamedTuple):
    """The caller's span, as W3C's Trace Context has it."""

    trace: int
    span: int
    flags: int


def traceparent(headers: Mapping[str, str]) -> Traceparent | None:
    """None: there is none, or none that can be read."""
    given = headers.get("traceparent")
    match = None if given is None else _TRACEPARENT.match(given)
    if match is None:
        return None
    found = Traceparent(int(match[1], 16), int(match[2], 16), int(match[3], 16))
    return found if found.trace and found.span else None


def new_request_id() -> str:
    return f"req-{SYSTEM.uuid7()}"  # those of one time are beside each other in the index of tasks


def _headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def version_of(headers: Mapping[str, str]) -> str:
    """The version that is asked for, as it is echoed. Raises: RequestInvalid, VersionUnsupported."""
    for word in headers.get("openstack-api-version", "").split(","):
        kind, _, text = word.strip().partition(" ")
        if kind.lower() != SERVICE_TYPE:
            continue
        if text.strip().lower() == "latest":
            return _dotted(VERSION_MAX)
        match = _VERSION.match(text.strip())
        if match is None:
            raise RequestInvalid(f"OpenStack-API-Version is `tasks 1.0` or `tasks latest`, not {word.strip()[:40]!r}")
        if not VERSION_MIN <= (version := (int(match[1]), int(match[2]))) <= VERSION_MAX:
            raise VersionUnsupported(
                f"version {_dotted(version)} is not served: {_dotted(VERSION_MIN)} to {_dotted(VERSION_MAX)} are",
                min_version=_dotted(VERSION_MIN),
                max_version=_dotted(VERSION_MAX),
            )
        return _dotted(version)
    return _dotted(VERSION_MIN)


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


class Ask:
    """One request. `path`: the parameters of the route's path. `query`: those of the query; `pairs`: as they came.
    `data`: the body, as the route's Struct."""

    __slots__ = (
        "_prefer", "_raw", "caller", "data", "global_request_id", "headers", "pairs", "path", "query", "received",
        "request_id", "route", "scope", "service", "tag", "url",
    )  # fmt: skip

    def __init__(self, service: Service, route: Route, scope: Any, received: Any, caller: Caller, marks: Marks) -> None:
        self.service = service
        self.route = route
        self.scope = scope
        self.received = received
        self.caller = caller
        self.headers = marks.headers
        self.request_id = marks.request_id
        self.global_request_id = marks.global_request_id
        self.url: str = scope["path"]
        self.path = _path(route, scope)
        self.query, self.pairs = _query(route, scope["query_string"])
        self.tag = _tag(route, self.headers)
        if "if-match" in self.headers and route.method not in SAFE and PreconditionFailed.status not in route.answers:
            raise PreconditionFailed(f"{route.method} {route.path} is about nothing that has a revision: no If-Match")
        self.data: Any = None
        self._raw = b""
        self._prefer: dict[str, str] | None = None
        _check_accepted(route, self.headers.get("accept", ""))

    async def gone(self) -> None:
        """Returns when the client has gone. For after the body has been read."""
        while (await self.received())["type"] != "http.disconnect":
            pass  # a GET's body, which nobody has read

    # --- the query ------------------------------------------------------------------------------------------------

    def text(self, name: str) -> str:
        """The parameter; "": it is not given."""
        return self.query.get(name, "")

    def integer(self, name: str, default: int, *, least: int = 0, most: int | None = None) -> int:
        """More than `most` is `most`. Raises: RequestInvalid."""
        given = self.query.get(name)
        if not given:
            return default
        value = int(given) if _WHOLE.fullmatch(given) else None
        if value is None or value < least:
            raise RequestInvalid(f"{name} is a whole number of at least {least}, not {given[:40]!r}", parameter=name)
        return value if most is None else min(value, most)

    def boolean(self, name: str) -> bool:
        """Raises: RequestInvalid. A bare `?name` is true."""
        given = self.query.get(name)
        return given is not None and (not given or params.truth(name, given))

    # --- preferences ----------------------------------------------------------------------------------------------

    def prefers(self, word: str) -> str | None:
        """The value of a preference of RFC 7240; "" if it has none; None: it is not there."""
        if self._prefer is None:
            self._prefer = {}
            given = self.headers.get("prefer")
            for each in given.split(",") if given else ():
                name, _, value = each.partition(";")[0].partition("=")
                self._prefer.setdefault(name.strip().lower(), value.strip().strip('"'))
        return self._prefer.get(word)

    def wait_s(self) -> float:
        """How long the asker would wait for the task: `?wait=`, else `Prefer: wait=`. Raises: RequestInvalid."""
        most = self.service.settings.wait_s_max
        given = self.query.get("wait")
        if given:
            if (seconds := _seconds(given)) is None:
                raise RequestInvalid(f"wait is a number of seconds, 0 or more, not {given[:40]!r}", parameter="wait")
            return min(seconds, most)
        preferred = self.prefers("wait")
        return min(_seconds(preferred) or 0.0, most) if preferred else 0.0

    def check_match(self, etag: str) -> None:
        """Raises: PreconditionFailed: If-Match names another state of the thing than `etag`."""
        given = self.headers.get("if-match")
        if given is not None and given.strip() != "*" and etag not in _etags(given):
            raise PreconditionFailed(f"it is at {etag} now, not at {given[:80]}", etag=etag)

    def check_new(self, what: str) -> None:
        """Raises: PreconditionFailed: there is If-Match, and what it would be about is only made by this request."""
        if "if-match" in self.headers:
            raise PreconditionFailed(f"If-Match is about what is there already, and {what} is not")

    def revision(self) -> int | None:
        """The revision that If-Match names, of a thing whose ETag begins with it; None: any.

        Raises: PreconditionFailed: it names none.
        """
        given = self.headers.get("if-match", "*").strip()
        if given == "*":
            return None
        text = given.removeprefix("W/").strip('"').partition(".")[0]
        if not text.isascii() or not text.isdigit() or len(text) > REVISION_DIGITS_MAX:
            raise PreconditionFailed(f'If-Match names a revision, as "7", not {given[:80]}')
        return int(text)

    def has_seen(self, etag: str) -> bool:
        """Whether If-None-Match names it."""
        given = self.headers.get("if-none-match")
        return given is not None and (given.strip() == "*" or etag in _etags(given))

    # --- the body -------------------------------------------------------------------------------------------------

    async def read(self) -> None:
        """Take in the body, and make it what the route wants. Raises: TooLarge, MediaUnsupported, RequestInvalid."""
        most = self.service.settings.body_bytes_max
        length = self.headers.get("content-length", "")
        if length.isdigit() and int(length) > most:
            raise TooLarge(f"a body is {most} bytes at most; this one has {length}", bytes_max=most)
        parts: list[bytes] = []
        size = 0
        more = True
        while more:
            message = await self.received()
            if message["type"] == "http.disconnect":
                raise RequestTimeout
            size += len(message.get("body", b""))
            if size > most:
                raise TooLarge(f"a body is {most} bytes at most", bytes_max=most)
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        self._raw = parts[0] if len(parts) == 1 else b"".join(parts)
        if self.route.body is not None:
            self.data = self._decoded()
        elif self._raw:
            raise RequestInvalid(f"{self.route.method} {self.route.path} takes no body")

    def _decoded(self) -> Any:
        if not self._raw:
            if self.route.body_needed:
                raise RequestInvalid(f"a body is needed: {fields_of(self.route.body)}")
            return self.route.body()
        kind = self.headers.get("content-type", JSON).partition(";")[0].strip().lower()
        if kind not in ("", JSON) and not (kind.startswith("application/") and kind.endswith("+json")):
            raise MediaUnsupported(f"a body is {JSON}, not {kind[:80]}")
        return decode(self._raw, self.route.body)

    @property
    def raw(self) -> bytes:
        """The body as it came."""
        return self._raw

    @property
    def plain(self) -> Any:
        """The body as plain data, with everything that was in it and no defaults."""
        return msgspec.json.decode(self._raw) if self._raw else {}

    @property
    def fingerprint(self) -> str | None:
        """What is asked for, as a hash that does not depend on how it was written; None without a tag."""
        if self.tag is None:
            return None
        return tags.hashed([self.request, sorted(self.pairs), self.plain])

    @property
    def request(self) -> str:
        """The request as people are told of it. The seed's paths are other names of the same."""
        path = self.url.rstrip("/")
        if "//" in path:
            path = re.sub(r"//+", "/", path)
        if path == "/tasks":
            path = "/v3/tasks"
        if path.endswith("/actions"):
            path = path.removesuffix("s")
        return f"{self.route.method} {path}"


# --- parts -------------------------------------------------------------------------------------------------------


def segments(scope: Mapping[str, Any]) -> list[str]:
    """Of the path, each decoded by itself: a slash in a name, sent as %2F, is no border."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    try:
        return [unquote(part, errors="strict") for part in raw.partition(b"?")[0].decode("ascii").split("/")]
    except UnicodeDecodeError:
        raise RequestInvalid("the path is not UTF-8") from None


def address(scope: Mapping[str, Any]) -> str:
    """The path as it was asked for: in the letters that a URI has."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return quote(raw.partition(b"?")[0], safe="/%:@!$&'()*+,;=~")


def _path(route: Route, scope: Mapping[str, Any]) -> dict[str, str]:
    places = route.places
    if not places:
        return {}
    parts = segments(scope)
    return {name: parts[place] for name, place in places.items()}


def _query(route: Route, raw: bytes) -> tuple[dict[str, str], list[tuple[str, str]]]:
    if not raw:
        return {}, []
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=QUERY_FIELDS_MAX)
    except (UnicodeDecodeError, ValueError):
        raise RequestInvalid("the query is no UTF-8 in %-escapes, or has too many parameters") from None
    known = [param.name for param in route.query]
    repeatable = {param.name for param in route.query if param.repeats}
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            allowed = f"it takes {', '.join(known)}" if known else "it takes none"
            raise QueryUnknown(f"there is no parameter {name[:40]!r} here: {allowed}", allowed=known)
        if name in found and name not in repeatable:
            raise RequestInvalid(f"{name} is given twice", parameter=name)
        found[name] = value
    return found, pairs


def _tag(route: Route, headers: Mapping[str, str]) -> str | None:
    if route.method in SAFE:
        return None
    tag, key = headers.get("task-tag"), headers.get("idempotency-key")
    if key is not None and len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if tag is None and key is None:
        return None
    if not route.tagged:
        raise TagNotSupported
    if tag is not None and key is not None and tag != key:
        raise TagInvalid("Task-tag and Idempotency-Key name the same thing: send one of them")
    given = tag if tag is not None else key
    assert given is not None
    return tags.check(given)


def _seconds(text: str) -> float | None:
    value = float(text) if _NUMBER.fullmatch(text) else -1.0
    return value if value >= 0 else None


def _etags(header: str) -> list[str]:
    return [each.strip().removeprefix("W/") for each in header.split(",")]


def takes_plain_json(headers: Mapping[str, str]) -> bool:
    """Whether the asker names JSON as what he reads, and nothing that a problem would be; or is one of OpenStack's
    clients, which look for the sentence of an error in nothing else, and there as `message`, but accept anything.
    """
    accept = headers.get("accept", "*/*")
    if _REFUSED.search(accept) or PROBLEM in accept:
        return False
    kinds = {each.partition(";")[0].strip().lower() for each in accept.split(",")}
    return kinds <= {"", JSON} or "keystoneauth1/" in headers.get("user-agent", "")


def _check_accepted(route: Route, accept: str) -> None:
    """Raises: NotAcceptable."""
    if not accept or "*/*" in accept:
        return
    offered = (*route.media, PROBLEM) if JSON in route.media else route.media
    for each in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in each.split(";"))
        if "q=0" in parameters or "q=0.0" in parameters:
            continue
        for media in offered:
            plain = media.partition(";")[0]
            if kind in (plain, "*/*") or (kind.endswith("/*") and plain.startswith(kind[:-1])):
                return
    raise NotAcceptable(f"the answer is {' or '.join(route.media)}, not {accept[:80]}", allowed=list(route.media))
