"""How an answer goes out: as messages of ASGI.

An answer that is whole is two messages, made here of bytes; a framework's response objects would take as long as the
rest of a small request. What goes out in parts (a stream) is the framework's. The headers that every answer has are
added on the way: app.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

import msgspec
from litestar.response.streaming import ASGIStreamingResponse
from litestar.types import ASGIApp, Receive, Scope, Send

from holdfast.service.routes import JSON, Answer

#: In the scope of a request, where its server can do so: call it before the two messages of a whole answer are sent,
#: and they go out as one packet.
HOLD: Final = "holdfast.hold"
_BODILESS: Final = frozenset((204, 304))
_LENGTH: Final = b"content-length"
_TYPE: Final = b"content-type"


class Whole:
    """An answer that is sent at once. An ASGI application, which answers whatever it is asked so."""

    __slots__ = ("_body", "_headers", "_status")

    def __init__(
        self, status: int, body: bytes = b"", headers: Iterable[tuple[str, str]] = (), media: str = JSON
    ) -> None:
        self._status = status
        self._body = body
        found = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        if status not in _BODILESS:
            if _TYPE not in dict(found):
                found.append((_TYPE, _with_charset(media).encode("latin-1")))
            found.append((_LENGTH, b"%d" % len(body)))
        self._headers = found

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ours: Any = scope
        if HOLD in ours:
            ours[HOLD]()
        start: Any = {"type": "http.response.start", "status": self._status, "headers": self._headers}
        await send(start)
        await send({"type": "http.response.body", "body": self._body, "more_body": False})


class Streamed:
    """An answer that goes out as it comes. Its head goes with the first piece: by then a stream has its place in what
    it tells, so whoever has the head misses nothing that he does from then on."""

    __slots__ = ("_answer", "_pieces")

    def __init__(self, answer: Answer, pieces: AsyncIterator[bytes]) -> None:
        self._answer = answer
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer, first = self._answer, await anext(self._pieces, b"")
        sent = ASGIStreamingResponse(
            iterator=_all(first, self._pieces), headers=dict(answer.headers), media_type=answer.media,
            status_code=answer.status,
        )  # fmt: skip
        await sent(scope, receive, send)


async def _all(first: bytes, others: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for each in others:
        yield each


class Answered:
    """An answer that is made already, as Litestar's exception handlers give theirs."""

    def __init__(self, answer: ASGIApp) -> None:
        self._answer = answer

    def to_asgi_response(self, *args: Any, **kwargs: Any) -> ASGIApp:
        return self._answer


def of(answer: Answer, *, head: bool) -> ASGIApp:
    """The answer as an ASGI application; to a HEAD nothing is streamed."""
    body = answer.body
    if answer.stream is not None and not head:
        return Streamed(answer, answer.stream)
    if body is None:
        return Whole(answer.status, b"", answer.headers, answer.media if answer.stream is not None else JSON)
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return Whole(answer.status, raw, answer.headers, answer.media)


def _with_charset(media: str) -> str:
    return f"{media}; charset=utf-8" if media.startswith("text/") and "charset" not in media else media
