"""The client that awaits. What it can be asked: surface.py. What it says and hears: protocol.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, TypeVar

import httpx

from holdfast.client import shell
from holdfast.client.protocol import Call, Command, Emit, Pause, Read, Request
from holdfast.client.surface import Awaiting, Root

T = TypeVar("T")


class AsyncClient(Root[Awaiting]):
    """A service, from a coroutine. The tasks of one event loop may share it. Close it, or use it with `async with`."""

    def __init__(self, options: shell.Options) -> None:
        self.ways = shell.ways_of(options)
        self._http = httpx.AsyncClient(**shell.kwargs_of(options))
        super().__init__(self)

    async def run(self, call: Call[T]) -> T:
        """Do what the call yields, to its end; its value."""
        wire = _Wire(self)
        answer: Any = None
        try:
            while True:
                try:
                    command = call.send(answer)
                except StopIteration as end:
                    value: T = end.value
                    return value
                answer = await wire.do(command)
        finally:
            call.close()
            await wire.close()

    async def each(self, call: Call[None]) -> AsyncIterator[Any]:
        """Do what the call yields, and hand on what it emits."""
        wire = _Wire(self)
        answer: Any = None
        try:
            while True:
                try:
                    command = call.send(answer)
                except StopIteration:
                    return
                if isinstance(command, Emit):
                    yield command.value
                    answer = None
                else:
                    answer = await wire.do(command)
        finally:
            call.close()
            await wire.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def http(self) -> httpx.AsyncClient:
        """What sends."""
        return self._http


class _Wire:
    """What one call has open."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._response: httpx.Response | None = None
        self._pieces: AsyncIterator[bytes] | None = None

    async def do(self, command: Command) -> Any:
        if isinstance(command, Request):
            return await self._send(command)
        if isinstance(command, Read) and self._pieces is not None:
            try:
                return await anext(self._pieces, b"")
            except shell.FAILURES as error:
                return shell.lost(error)
        if isinstance(command, Pause):
            await asyncio.sleep(command.seconds)
        return None

    async def _send(self, request: Request) -> Any:
        await self.close()
        http = self._client.http
        try:
            response = await http.send(shell.request_of(http, self._client.ways, request), stream=True)
            if shell.is_streamed(request, response):
                self._response, self._pieces = response, response.aiter_bytes()
                return shell.reply_of(response, b"")
            try:
                return shell.reply_of(response, await response.aread())
            finally:
                await response.aclose()
        except shell.FAILURES as error:
            return shell.lost(error)

    async def close(self) -> None:
        if self._response is not None:
            await self._response.aclose()
            self._response = None
            self._pieces = None
