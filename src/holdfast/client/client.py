"""The client that blocks. What it can be asked: surface.py. What it says and hears: protocol.py."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any, TypeVar

import httpx

from holdfast.client import shell
from holdfast.client.protocol import Call, Command, Emit, Pause, Read, Request
from holdfast.client.surface import Blocking, Root

T = TypeVar("T")


class Client(Root[Blocking]):
    """A service, from here. Threads may share it. Close it, or use it with `with`."""

    def __init__(self, options: shell.Options) -> None:
        self.ways = shell.ways_of(options)
        self._http = httpx.Client(**shell.kwargs_of(options))
        self._closed = threading.Event()
        super().__init__(self)

    def run(self, call: Call[T]) -> T:
        """Do what the call yields, to its end; its value."""
        wire = _Wire(self)
        answer: Any = None
        try:
            while True:
                answer = wire.do(call.send(answer))
        except StopIteration as end:
            value: T = end.value
            return value
        finally:
            call.close()
            wire.close()

    def each(self, call: Call[None]) -> Iterator[Any]:
        """Do what the call yields, and hand on what it emits."""
        wire = _Wire(self)
        answer: Any = None
        try:
            while True:
                command = call.send(answer)
                if isinstance(command, Emit):
                    yield command.value
                    answer = None
                else:
                    answer = wire.do(command)
        except StopIteration:
            return
        finally:
            call.close()
            wire.close()

    def pause(self, seconds: float) -> None:
        """Wait; closing the client ends it."""
        self._closed.wait(seconds)

    def close(self) -> None:
        self._closed.set()
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def http(self) -> httpx.Client:
        """What sends."""
        return self._http


class _Wire:
    """What one call has open."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._response: httpx.Response | None = None
        self._pieces: Iterator[bytes] = iter(())

    def do(self, command: Command) -> Any:
        if isinstance(command, Request):
            return self._send(command)
        if isinstance(command, Read):
            try:
                return next(self._pieces, b"")
            except shell.FAILURES as error:
                return shell.lost(error)
        if isinstance(command, Pause):
            self._client.pause(command.seconds)
        return None

    def _send(self, request: Request) -> Any:
        self.close()
        http = self._client.http
        try:
            response = http.send(shell.request_of(http, self._client.ways, request), stream=True)
            if shell.is_streamed(request, response):
                self._response, self._pieces = response, response.iter_bytes()
                return shell.reply_of(response, b"")
            try:
                return shell.reply_of(response, response.read())
            finally:
                response.close()
        except shell.FAILURES as error:
            return shell.lost(error)

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None
