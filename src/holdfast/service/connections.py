"""A connection, and what it may cost: how many there are, how large a request's head is, how long it may take to come.

Theory: who sends slowly, or half a request, holds a descriptor and nothing else, and that for `request_timeout_s`; a
large body has a second more for every 16 KiB that came. Who does not read his answer holds the answer too, so he is cut
off when he has taken nothing of it for that time, or when the service stops. What can't be read gets a problem like any
other error. An offer to speak another protocol (`Upgrade: h2c`, which some clients make with every first request) is
passed over: the parser takes whatever comes behind such a head for the other protocol, so it is given the head again,
without the offer. How large a body may be: requests.py.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from holdfast.errors import HoldfastError
from holdfast.service import problems
from holdfast.service.logs import Seldom
from holdfast.service.problems import HeadersTooLarge, RequestInvalid, RequestTimeout, TooManyConnections
from holdfast.service.reply import HOLD
from holdfast.service.requests import new_request_id
from holdfast.service.routes import PROBLEM
from holdfast.settings import Settings

BYTES_A_SECOND: Final = 16_384
IDLE_S: Final = 1.0  # for which a connection is kept at least once it was of use
CONNECT: Final = b"CONNECT"
UPGRADE: Final = b"upgrade"
_journal: Final = logging.getLogger("uvicorn.error")


def protocol(settings: Settings) -> type[HttpToolsProtocol]:
    """The protocol with these limits, as uvicorn wants it: a class."""
    if not any(isinstance(each, Seldom) for each in _journal.filters):
        _journal.addFilter(Seldom())  # anybody can send what it warns of

    class Limited(Connection):
        limits = settings

    return Limited


class _Asked:
    """One request on its way to the application. When the other end sends no more, whoever listens for the end of the
    connection hears of it at once; what is not a stream can still be answered.

    It is the transport, too, as the request's cycle sees it: of an answer that is whole the head is held back until
    there is its body, for two packets cost the kernel twice as much as one."""

    __slots__ = ("_app", "_connection", "_cycle", "_head", "_holds", "_receive", "_transport", "_whole")

    def __init__(self, connection: Connection, cycle: RequestResponseCycle, app: Any) -> None:
        self._connection = connection
        self._cycle = cycle
        self._app = app
        self._receive: Any = None
        self._whole = False  # all of it has been received
        self._holds = False  # what is written next is a head whose body follows at once
        self._head = b""
        self._transport = connection.transport

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self._receive = receive
        if scope["method"] != "HEAD":
            scope[HOLD] = self._hold
        await self._app(scope, self.receive, send)

    def _hold(self) -> None:
        self._holds = True

    def write(self, data: bytes) -> None:
        if self._holds:
            self._holds = False
            self._head = data
        elif self._head:
            data, self._head = self._head + data, b""
            self._transport.write(data)
        else:
            self._transport.write(data)

    def close(self) -> None:
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    async def receive(self) -> Any:
        if not (self._whole and self._connection.sends_no_more):
            message = await self._receive()
            if message["type"] != "http.request" or not self._whole:
                self._whole = not message.get("more_body", False)
                return message
        if self._cycle.response_started:
            self._cycle.disconnected = True
            self._connection.transport.close()
        return {"type": "http.disconnect"}


class Connection(HttpToolsProtocol):
    """See the module."""

    limits: Settings

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._in_head = True
        self._receives = True  # a connection on which nothing comes is a request that does not come
        self._since = self.loop.time()
        self._received = 0
        self._counted = False
        self._timer: asyncio.TimerHandle | None = None
        self._unread = 0
        self._reading: asyncio.TimerHandle | None = None
        self.sends_no_more = False
        if len(self.connections) > self.limits.connections_max:
            self._refuse(TooManyConnections())
            return
        self._arm(self.limits.request_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._let_be()

    # --- what goes ------------------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        """More lies here than the other end has taken."""
        super().pause_writing()
        self._unread = self.transport.get_write_buffer_size()
        self._reading = self.loop.call_later(self.limits.request_timeout_s, self._look_at_reader)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._let_be()

    def cut(self) -> None:
        """End it, if the other end does not take what lies here."""
        if self._reading is not None:
            self.transport.abort()

    def _look_at_reader(self) -> None:
        unread = self.transport.get_write_buffer_size()
        if unread >= self._unread:
            self.transport.abort()
            return
        self._unread = unread
        self._reading = self.loop.call_later(self.limits.request_timeout_s, self._look_at_reader)

    def _let_be(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    # --- what comes -----------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._received += len(data)
        self._parse(data)
        if self._in_head and self._receives and self._received > self.limits.header_bytes_max:
            self._refuse(HeadersTooLarge(f"a request's head is {self.limits.header_bytes_max} bytes at most"))

    def _parse(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserError:
                _journal.warning("Invalid HTTP request received.")
                self.send_400_response("")
                return
            except httptools.HttpParserUpgrade as offer:
                if self.transport.is_closing():
                    return
                data = self._without_offer() + data[offer.args[0] :]

    def _without_offer(self) -> bytes:
        """The head that has been read, for a parser that has read nothing."""
        made = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name == b"connection":
                value = b",".join(each for each in value.split(b",") if each.strip().lower() != UPGRADE)
            if name != UPGRADE:
                made.append(b"%s: %s" % (name, value))
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        return b"\r\n".join([*made, b"", b""])

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = self._receives = True
        self._counted = self._received > 0  # else it begins in one packet with the end of the request before
        self._since = self.loop.time()
        if self._timer is None:
            self._arm(self.limits.request_timeout_s)

    def on_headers_complete(self) -> None:
        self._in_head = False
        most = self.limits.header_bytes_max
        size = self._received
        if size > most or not self._counted:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > most:
            self._refuse(HeadersTooLarge(f"a request's head is {most} bytes at most"))
            return
        if self.parser.get_method() == CONNECT:
            self._refuse(RequestInvalid("this is no proxy: CONNECT leads nowhere"))
        elif not self.parser.should_upgrade():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # it is read again
        self._receives = False
        self._received = 0
        if not self.transport.is_closing():
            super().on_message_complete()
            if self.cycle.response_complete:
                self._expect()

    def on_response_complete(self) -> None:
        """As uvicorn has it, but for a timer for each answer: `_look` has one for all."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif not self._receives:
            self._expect()

    def _expect(self) -> None:
        """All is answered: a connection on which nothing comes is a request that does not come."""
        self._in_head = self._receives = True
        self._since = self.loop.time() + max(0.0, IDLE_S - self.limits.request_timeout_s)
        if self._timer is None:
            self._arm(self.limits.request_timeout_s)

    def send_400_response(self, msg: str) -> None:
        self._refuse(RequestInvalid("this is no HTTP request that can be understood"))

    def eof_received(self) -> bool:  # type: ignore[override]
        """The other end sends no more. It may be gone, or wait for what it has asked for. Whether to go on."""
        last: Any = self.cycle
        if self._receives or last is None or last.response_complete or self._answered.response_started:
            return False  # there is nothing to answer, or a stream to end
        self.sends_no_more = True
        last.keep_alive = False
        self._answered.message_event.set()
        return True

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answered = cycle
        asked: Any = _Asked(self, cycle, app)
        cycle.transport = asked
        super()._start_asgi_task(cycle, asked)

    # --- time -----------------------------------------------------------------------------------------------------

    def _arm(self, after_s: float) -> None:
        self._timer = self.loop.call_later(after_s, self._look)

    def _look(self) -> None:
        """Whether what is being received takes too long."""
        self._timer = None
        if not self._receives or self.transport.is_closing():
            return
        end = self._since + self.limits.request_timeout_s + self._received / BYTES_A_SECOND
        left_s = end - self.loop.time()
        if left_s > 0:
            self._arm(left_s)
        elif self._received == 0 and self._in_head:
            self.transport.close()  # nobody has asked for anything
        else:
            self._refuse(RequestTimeout())

    def _refuse(self, error: HoldfastError) -> None:
        """Say what is wrong, and close. Nothing may have been said yet."""
        self._receives = False
        if self.transport.is_closing():
            return
        cycle: Any = self.cycle
        if cycle is None or cycle.response_complete or not cycle.response_started:
            request_id = new_request_id()
            body = msgspec.json.encode(problems.of(error, request_id=request_id, instance="/"))
            headers = [
                ("Content-Type", PROBLEM), ("Content-Length", str(len(body))), ("Connection", "close"),
                ("X-OpenStack-Request-Id", request_id), ("X-Compute-Request-Id", request_id),
                *problems.headers_of(error),
            ]  # fmt: skip
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
            self.transport.write(STATUS_LINE[error.status] + lines.encode() + b"\r\n" + body)
        self.transport.close()
