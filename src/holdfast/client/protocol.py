"""What the client says and hears, without a socket: a call is a generator that yields what is to be done and is sent
what came of it.

Theory: a shell (client.py blocks, aio.py awaits) does what a call yields, in order: a `Request` is answered by a
`Reply` or by `Lost`; `Read` by the next bytes of a streamed answer (b"": its end) or by `Lost`; a `Pause` and an `Emit`
by nothing. So what is asked, what is asked again and how answers are read is here once, and can be tested as a table.
Asking again is safe: every request that makes a task carries a tag, made once for the logical request and the same on
every try, and the service knows it again (the REST contract, section 4).

The calls: tasks.py, resources.py, stream.py. When to give up: patience.py. What a refusal means: problems.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from holdfast.client.patience import Patience, retry_after_s
from holdfast.client.problems import error_of
from holdfast.errors import AnswerUnreadable, HoldfastError, ServiceUnreachable, UsageError

T = TypeVar("T")
AGAIN: Final = frozenset((502, 503, 504))


class Request(NamedTuple):
    """`path` is on the service's own address, with its query. `answer_s`: how long its answer may take. `stream`: the
    body of a good answer is read piece by piece."""

    method: str
    path: str
    headers: Mapping[str, str] = {}
    body: bytes | None = None
    answer_s: float = 30.0
    stream: bool = False


class Reply(NamedTuple):
    """`headers` by their names in small letters. `body`: empty where it is streamed."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


class Lost(NamedTuple):
    """No answer came: nobody knows whether the request did."""

    why: str


class Read(NamedTuple):
    """The next bytes of the answer."""


class Pause(NamedTuple):
    seconds: float


class Emit(NamedTuple):
    """One of many values, for who made the call."""

    value: Any


Command = Request | Read | Pause | Emit
Call = Generator[Command, Any, T]


class Ways(NamedTuple):
    """What every call of a client shares. `url`: the service, for what is said to people. `now` is seconds that only
    grow, `wall` seconds since the epoch, `chance` from 0 to 1, `uuid` a new id. `plurals`: of the kinds that have been
    asked for; calls fill it."""

    url: str
    headers: Mapping[str, str]
    patience: Patience
    now: Callable[[], float]
    wall: Callable[[], float]
    chance: Callable[[], float]
    uuid: Callable[[], str]
    plurals: dict[str, str]


# --- one request -------------------------------------------------------------------------------------------------


def exchange(ways: Ways, request: Request) -> Call[Reply]:
    """Ask until there is an answer that counts. Raises: HoldfastError: what the service refuses, or that it can't be
    reached."""
    begun, tries = ways.now(), 0
    request = request._replace(headers={**ways.headers, **request.headers})
    while True:
        reply: Reply | Lost = yield request
        if isinstance(reply, Reply) and not is_tried_again(reply):
            return _good(request, reply, ways)
        tries += 1
        asked_s = None if isinstance(reply, Lost) else retry_after_s(reply.headers.get("retry-after"), ways.wall())
        pause_s = ways.patience.pause_s(tries, ways.chance(), asked_s)
        if ways.now() + pause_s - begun > ways.patience.deadline_s:
            raise given_up(ways, request, reply, tries)
        yield Pause(pause_s)


def is_tried_again(reply: Reply) -> bool:
    """Whether the same request may be answered otherwise after a while."""
    return reply.status in AGAIN or (reply.status == 429 and "retry-after" in reply.headers)


def given_up(ways: Ways, request: Request, reply: Reply | Lost, tries: int) -> HoldfastError:
    """The error after the last try. Where it may have been accepted all the same, it says by what it can be found."""
    tag = request.headers.get("Task-tag")
    found = "" if tag is None else f"; if it was accepted all the same, its task has the tag {tag}"
    if isinstance(reply, Reply):
        error = error_of(reply.status, reply.headers, reply.body)
        error.details["tag"] = tag
        error.args = (f"{error}{found}",)
        return error
    often = f" {tries} times" if tries > 1 else ""
    return ServiceUnreachable(f"{ways.url} gave no answer{often}: {reply.why}{found}", tag=tag)


def _good(request: Request, reply: Reply, ways: Ways) -> Reply:
    if reply.status >= 400:
        raise error_of(reply.status, reply.headers, reply.body)
    if reply.status >= 300 and reply.status != 304:
        raise AnswerUnreadable(
            f"{ways.url} answers {request.method} {request.path} with {reply.status}: it is not the service, or not at "
            "this address"
        )
    return reply


def ask(
    ways: Ways, method: str, path: str, *, query: Mapping[str, Any] | None = None, body: Any = None,
    headers: Mapping[str, str] | None = None, answer_s: float | None = None,
) -> Call[Reply]:  # fmt: skip
    """One request and its answer."""
    sent = {"Accept": "application/json", **(headers or {})}
    data = None
    if body is not None:
        sent["Content-Type"] = "application/json"
        data = to_json(body)
    wait_s = ways.patience.answer_s if answer_s is None else answer_s
    return exchange(ways, Request(method, with_query(path, query), sent, data, wait_s))


def ask_json(ways: Ways, path: str, query: Mapping[str, Any] | None = None) -> Call[Any]:
    """The document at a path."""
    reply = yield from ask(ways, "GET", path, query=query)
    return document(reply)


def document(reply: Reply) -> Any:
    """The answer's JSON. Raises: AnswerUnreadable."""
    try:
        return json.loads(reply.body)
    except ValueError:
        raise AnswerUnreadable(f"the answer ({reply.status}) is no JSON: is it the service's?") from None


def member(found: Any, name: str) -> Any:
    """A member that the contract promises. Raises: AnswerUnreadable."""
    if not isinstance(found, dict) or name not in found:
        raise AnswerUnreadable(f"the answer has no {name!r}: it is not one of this service's contract")
    return found[name]


# --- lists -------------------------------------------------------------------------------------------------------


def pages(
    ways: Ways, path: str, name: str, query: Mapping[str, Any] | None = None, limit: int | None = None
) -> Call[None]:
    """Emit the members of a list, page after page, at most `limit`."""
    link: str | None = with_query(path, query)
    count = 0
    while link is not None and (limit is None or count < limit):
        reply = yield from exchange(ways, Request("GET", link, {"Accept": "application/json"}))
        found = document(reply)
        for value in member(found, name):
            if limit is not None and count >= limit:
                return
            count += 1
            yield Emit(value)
        before, link = link, next_link(found, ways.url)
        if link == before:
            raise AnswerUnreadable(f"the page behind {link} is the same page")


def next_link(found: Mapping[str, Any], url: str) -> str | None:
    """The path of the next page. Raises: AnswerUnreadable: it leads to another host, which must not see the token."""
    for link in found.get("links") or ():
        if link.get("rel") == "next":
            to, here = urlsplit(str(link["href"])), urlsplit(url)
            if to.netloc and to.netloc != here.netloc:
                raise AnswerUnreadable(f"the next page is said to be on another host, {to.netloc}")
            prefix = here.path.rstrip("/")
            return to.path.removeprefix(prefix) + (f"?{to.query}" if to.query else "")
    return None


# --- words -------------------------------------------------------------------------------------------------------


def path_of(*parts: str) -> str:
    """`path_of("tasks", id)`: below /v3, each part escaped. Raises: UsageError: a part that would be another path."""
    for part in parts:
        if part in ("", ".", ".."):
            raise UsageError(f"{part!r} is no name of anything")
    return "/".join(("/v3", *(quote(part, safe="") for part in parts)))


def with_query(path: str, query: Mapping[str, Any] | None) -> str:
    """What is None is left out; a list is several values with commas between."""
    words = {name: _word(value) for name, value in (query or {}).items() if value is not None}
    return f"{path}?{urlencode(words)}" if words else path


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple, set, frozenset)):
        return ",".join(str(each) for each in value)
    return str(value)


def to_json(body: Any) -> bytes:
    """Raises: UsageError: JSON has no such value."""
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, UnicodeEncodeError) as error:
        raise UsageError(f"the request can't be sent as JSON: {error}") from None
