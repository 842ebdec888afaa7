"""The wire to a Redfish BMC: HTTP exchanges that end in time, can be cut from another thread, and go to one host.

Theory: `requests` waits for each piece of an answer anew, so a BMC that drips bytes holds its caller for ever, and
nothing outside can reach the socket that it waits on. Here every wait of a call ends at one deadline (`Wire`), and
`cut` wakes whatever waits. What a BMC says about hosts (absolute links, a monitor's Location, its own name behind a
NAT) is not believed: each request goes to the address of the node, so the password does too.

This module needs sushy, and is imported by the first call that needs it. What is asked and what is made of answers:
redfish.py.
"""

from __future__ import annotations

import functools
import http.client
import io
import os
import socket
import ssl
import threading
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict
from sushy.connector import Connector
from sushy.resources.base import ResourceBase
from sushy.resources.common import ResetActionField

from holdfast.clock import SYSTEM
from holdfast.errors import BMCError, BMCUnreachable
from holdfast.resources.node.redfish_answers import Answer, Place, is_json, local

#: A connection that takes longer is not made, whatever time the call has.
CONNECT_S = 10.0
#: No system's document is larger.
ANSWER_BYTES_MAX = 4 << 20
REDIRECTS_MAX = 3
_REDIRECTS = (301, 302, 303, 307, 308)


class Wire(BaseAdapter):
    """The transport under sushy's connector; for one call, used by one thread; `cut` may come from any."""

    def __init__(self, place: Place, timeout_s: float) -> None:
        super().__init__()
        self.place = place
        #: The last answer that came whole.
        self.answer: Answer | None = None
        self._began = SYSTEM.monotonic()
        self._until = self._began + timeout_s
        self._lock = threading.Lock()
        self._watched: socket.socket | None = None
        self._cut = False

    def cut(self) -> None:
        """End the exchange that is going on, and every later one."""
        with self._lock:
            self._cut = True
            if self._watched is not None:
                try:
                    self._watched.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # not connected yet, or not any more

    def splice(self, timeout_s: float) -> None:
        """Go on for that long, after a cut too: to log out."""
        with self._lock:
            self._cut = False
        self._until = SYSTEM.monotonic() + timeout_s

    def left_s(self) -> float:
        """Time until the deadline. Raises: TimeoutError."""
        left = self._until - SYSTEM.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def close(self) -> None:
        """Each exchange has closed its own connection."""

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """One exchange. Raises: BMCUnreachable, BMCError."""
        self.answer = None
        try:
            answer = self._exchange(request)
        except (OSError, http.client.HTTPException) as problem:
            raise self._told(problem) from None
        self.answer = answer
        # sushy logs errors, and what it can't read, as they are: with the password, should the BMC say it back.
        shown = answer.body if answer.status < 400 and is_json(answer) else b"{}"
        response = requests.Response()
        response.status_code = answer.status
        response.headers = CaseInsensitiveDict(answer.headers)
        response.raw = io.BytesIO(shown)
        response.url = request.url or ""
        response.request = request
        return response

    def _exchange(self, request: requests.PreparedRequest) -> Answer:
        connection = http.client.HTTPConnection(self.place.host, self.place.port)
        try:
            line = self._connect()
        except BaseException:
            self._forget()
            raise
        try:
            connection.sock = _Line(line, self)  # the part of a socket that it uses
            body: Any = request.body  # JSON, in bytes
            connection.request(request.method or "GET", request.path_url, body, dict(request.headers))
            answer = connection.getresponse()
            content = answer.read(ANSWER_BYTES_MAX + 1)
            if self._cut:
                raise ConnectionAbortedError  # what looks like an answer may be the part of it that had come
            if len(content) > ANSWER_BYTES_MAX:
                raise BMCError(f"the BMC at {self.place} answered with more than {ANSWER_BYTES_MAX >> 20} MiB")
            if answer.length:
                raise http.client.IncompleteRead(content, answer.length)
            return Answer(answer.status, CaseInsensitiveDict(answer.getheaders()), content)
        finally:
            line.close()
            self._forget()

    def _connect(self) -> socket.socket:
        context = _context(self.place.verify) if self.place.scheme == "https" else None
        problem: OSError = OSError("no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(
            self.place.host, self.place.port, type=socket.SOCK_STREAM
        ):
            plain = socket.socket(family, kind, protocol)
            try:
                self._watch(plain)
                plain.settimeout(min(CONNECT_S, self.left_s()))
                plain.connect(address)
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if context is None:
                    return plain
                plain.settimeout(self.left_s())
                return context.wrap_socket(plain, server_hostname=self.place.host)
            except ssl.SSLError:
                plain.close()
                raise
            except OSError as error:
                plain.close()
                problem = error
        raise problem

    def _watch(self, plain: socket.socket) -> None:
        """Let `cut` reach it. A duplicate, because TLS takes the socket itself away from its owner."""
        with self._lock:
            if self._cut:
                raise ConnectionAbortedError
            if self._watched is not None:
                self._watched.close()
            self._watched = plain.dup()

    def _forget(self) -> None:
        with self._lock:
            if self._watched is not None:
                self._watched.close()
                self._watched = None

    def _told(self, problem: Exception) -> BMCError:
        """What went wrong, in a sentence."""
        bmc = f"the BMC at {self.place}"
        if self._cut:
            return BMCUnreachable(f"the call to {bmc} was ended before it answered")
        if isinstance(problem, ssl.SSLCertVerificationError):
            return BMCError(
                f"the certificate of {bmc} is not trusted: {problem.verify_message}; "
                "driver_info.verify_ca names the CA that signed it"
            )
        if isinstance(problem, TimeoutError):
            return BMCUnreachable(f"{bmc} gave no answer within {SYSTEM.monotonic() - self._began:.2g} s")
        if isinstance(problem, socket.gaierror):
            return BMCUnreachable(f"{bmc} has a name that nobody knows: {problem.strerror}")
        if isinstance(problem, ConnectionRefusedError):
            return BMCUnreachable(f"{bmc} refused the connection")
        if isinstance(problem, http.client.IncompleteRead):
            return BMCUnreachable(f"{bmc} broke off in the middle of its answer")
        if isinstance(problem, ConnectionError | ssl.SSLEOFError):
            return BMCUnreachable(f"{bmc} closed the connection before it had answered")
        if isinstance(problem, ssl.SSLError):
            return BMCError(f"{bmc} and this worker cannot agree on TLS: {problem.reason or 'no TLS at all'}")
        if isinstance(problem, http.client.HTTPException):
            return BMCError(f"{bmc} answered with something that is not HTTP")
        return BMCUnreachable(
            f"{bmc} cannot be reached: {getattr(problem, 'strerror', None) or type(problem).__name__}"
        )


class _Line:
    """A socket of which every wait ends at the wire's deadline."""

    def __init__(self, line: socket.socket, wire: Wire) -> None:
        self._line = line
        self._wire = wire

    def sendall(self, data: bytes) -> None:
        self._line.settimeout(self._wire.left_s())
        self._line.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reading(self))

    def receive(self, buffer: Any) -> int:
        self._line.settimeout(self._wire.left_s())
        return self._line.recv_into(buffer)

    def close(self) -> None:
        """It is closed by who has made it: the connection would do so before the answer's body is read."""


class _Reading(io.RawIOBase):
    def __init__(self, line: _Line) -> None:
        self._line = line

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._line.receive(buffer)


def _context(verify: bool | str) -> ssl.SSLContext:
    """What TLS is done with. Raises: BMCError: the CAs cannot be read."""
    try:
        changed = os.stat(verify).st_mtime_ns if isinstance(verify, str) else 0
        return _made(verify, changed)
    except (OSError, ssl.SSLError) as problem:
        raise BMCError(f"driver_info.verify_ca: no CA can be read from {verify}: {problem.strerror}") from None


# To read the system's CAs takes longer than a call, and 500 nodes have the same ones.
@functools.lru_cache(maxsize=32)
def _made(verify: bool | str, changed: int) -> ssl.SSLContext:
    if isinstance(verify, str):
        folder = os.path.isdir(verify)
        return ssl.create_default_context(cafile=None if folder else verify, capath=verify if folder else None)
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class Line(Connector):  # type: ignore[misc]  # sushy has no types
    """sushy's connector on a wire of ours: each request is sent once.

    On a time-out sushy repeats any request, a POST included, up to three times, and more by what an answer says; with
    `server_side_retries=0` it takes its default. What may be repeated is decided where the machine is looked at.
    """

    def __init__(self, wire: Wire) -> None:
        super().__init__(str(wire.place), server_side_retries=1)
        self.wire = wire
        self._session.trust_env = False  # no proxy, and no password out of ~/.netrc, for a BMC
        self._session.headers["User-Agent"] = "holdfast"
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, wire)

    def get(self, path: str = "", **options: Any) -> Any:
        """A GET that follows redirects within the BMC: some want a slash at the end of a path, which sushy removes."""
        for _ in range(REDIRECTS_MAX):
            response = super().get(path, **{**_ONCE, **options})
            if response.status_code not in _REDIRECTS:
                return response
            to = urljoin(f"{self.wire.place}{urlsplit(path).path}", response.headers.get("Location", ""))
            if urlsplit(to).scheme != self.wire.place.scheme:
                shown = quote(to[:200], safe=":/?=&%")
                raise BMCError(f"the BMC at {self.wire.place} sends on to {shown}: give that as its address")
            path = local(to)
        raise BMCError(f"the BMC at {self.wire.place} sends on and on from {quote(path[:200])}")

    def post(self, path: str = "", data: Any = None, **options: Any) -> Any:
        return super().post(path, data=data, **{**_ONCE, **options})

    def delete(self, path: str = "", data: Any = None, **options: Any) -> Any:
        return super().delete(path, data=data, **{**_ONCE, **options})


_ONCE = {"allow_redirects": False, "server_side_retries_left": 0}


class System(ResourceBase):  # type: ignore[misc]
    """The part of a system that power needs. sushy's own reads all of it, asks for its settings too, and fails at an
    odd value anywhere."""

    reset = ResetActionField(["Actions", "#ComputerSystem.Reset"])
