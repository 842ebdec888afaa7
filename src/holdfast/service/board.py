"""Waiting for something to be offered in a pool, without a thread and without asking the database for each who waits.

A commit of this process may have offered something, and one read says in which pools there is anything: only those who
wait for these are woken. What another process offers is noticed by looking, as in waiting.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from holdfast.errors import HoldfastClosed, WorldError
from holdfast.service.bridge import Bridge
from holdfast.tasks import agents


class Board:
    """For the loop that it was started on."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._hold = bridge.hold
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._ends: Callable[[], None] | None = None
        self._looker: asyncio.Task[None] | None = None
        self._announced = False
        self._told = asyncio.Event()
        self._changes = -1
        self.stopped = False

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ends = self._hold.store.subscribe(self._touched)

    def stop(self) -> None:
        """Whoever waits is told that there is nothing."""
        self.stopped = True
        if self._ends is not None:
            self._ends()
            self._ends = None
        if self._looker is not None:
            self._looker.cancel()
        for events in self._waiting.values():
            for event in events:
                event.set()

    async def wait(self, pool: str, timeout_s: float, gone: asyncio.Future[Any]) -> None:
        """Until there may be something in the pool, the time is up, the service stops, or the client has gone."""
        assert self._loop is not None
        if self.stopped:
            return
        event = asyncio.Event()
        self._waiting.setdefault(pool, set()).add(event)
        if self._looker is None or self._looker.done():
            self._looker = self._loop.create_task(self._look())
        woken = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait({woken, gone}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()
            mine = self._waiting.get(pool, set())
            mine.discard(event)
            if not mine:
                self._waiting.pop(pool, None)

    def _touched(self, changed: frozenset[int]) -> None:
        """On the thread that committed."""
        if self._waiting and not self._announced and self._loop is not None:
            self._announced = True
            try:
                self._loop.call_soon_threadsafe(self._announce)
            except RuntimeError:
                pass  # the loop has ended

    def _announce(self) -> None:
        self._announced = False
        self._told.set()

    async def _look(self) -> None:
        """While anybody waits: has this process committed something, or another?"""
        self._changes = -1  # who is new here may have come after the commit that he waits for
        while self._waiting and not self.stopped:
            try:
                now = self._hold.store.changes()
            except HoldfastClosed:
                return
            except WorldError:
                now = self._changes
            if now != self._changes or self._told.is_set():
                self._told.clear()
                self._changes = now
                await self._wake()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), self._hold.settings.poll_s)

    async def _wake(self) -> None:
        try:
            offered = await self._bridge.read(agents.waiting)
        except (HoldfastClosed, WorldError):
            self._changes = -1  # look again
            return
        for pool in offered & self._waiting.keys():
            for event in self._waiting[pool]:
                event.set()
