"""Waiting for a task to change, without a thread and without asking the database again and again.

A commit of this process names the tasks that it touched, and whoever waits for one of them is woken. What another
process commits is noticed by looking: once for all who wait, every `poll_s`, and only while somebody waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from sqlalchemy import bindparam, select

from holdfast.errors import HoldfastClosed, WorldError
from holdfast.service.bridge import Bridge
from holdfast.store.base import Tx
from holdfast.store.schema import tasks

_STAMPS: Final = select(tasks.c.id, tasks.c.seq, tasks.c.updated_at, tasks.c.progress_at).where(
    tasks.c.id.in_(bindparam("_ids", expanding=True))
)
IDS_MAX: Final = 500  # asked for at once


class Waiting:
    """For the loop that it was started on."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._hold = bridge.hold
        self._loop: asyncio.AbstractEventLoop | None = None
        self._events: dict[int, set[asyncio.Event]] = {}
        self._ends: Callable[[], None] | None = None
        self._looker: asyncio.Task[None] | None = None
        self._stopped = False

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ends = self._hold.store.subscribe(self._touched)

    def stop(self) -> None:
        """Whoever waits is told that nothing changed."""
        self._stopped = True
        if self._ends is not None:
            self._ends()
            self._ends = None
        if self._looker is not None:
            self._looker.cancel()
        for events in self._events.values():
            for event in events:
                event.set()

    async def until(
        self, task: int, wanted: Callable[[], Awaitable[bool]], timeout_s: float,
        gone: Callable[[], Awaitable[None]] | None = None,
    ) -> bool:  # fmt: skip
        """Wait until `wanted()` after a change of the task; whether it was. It ends early when the service stops, or
        the client has gone (`gone` returns)."""
        assert self._loop is not None
        end = self._loop.time() + timeout_s
        event = asyncio.Event()
        self._events.setdefault(task, set()).add(event)
        if self._looker is None or self._looker.done():
            self._looker = self._loop.create_task(self._look())
        left = None if gone is None else asyncio.ensure_future(gone())
        try:
            while not await wanted():
                left_s = end - self._loop.time()
                if left_s <= 0 or self._stopped or (left is not None and left.done()):
                    return False
                changed = asyncio.ensure_future(event.wait())
                try:
                    await asyncio.wait(
                        {changed} if left is None else {changed, left}, timeout=left_s,
                        return_when=asyncio.FIRST_COMPLETED,
                    )  # fmt: skip
                finally:
                    changed.cancel()
                event.clear()
            return True
        finally:
            if left is not None:
                left.cancel()
            mine = self._events.get(task, set())
            mine.discard(event)
            if not mine:
                self._events.pop(task, None)

    # --- being told -----------------------------------------------------------------------------------------------

    def _touched(self, changed: frozenset[int]) -> None:
        """On the thread that committed."""
        waited = [task for task in changed if task in self._events]
        if waited and self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._wake, waited)
            except RuntimeError:
                pass  # the loop has ended

    def _wake(self, changed: list[int]) -> None:
        for task in changed:
            for event in self._events.get(task, ()):
                event.set()

    async def _look(self) -> None:
        """While anybody waits: has another process changed what is waited for?"""
        seen: dict[int, Any] = {}
        changes = -1
        while self._events and not self._stopped:
            try:
                now = self._hold.store.changes()
                if now != changes or seen.keys() != self._events.keys():
                    changes = now
                    found = await self._stamps(list(self._events))
                    # Who is new here is woken too: it may have changed before this first look.
                    self._wake([task for task, stamp in found.items() if task not in seen or seen[task] != stamp])
                    seen = found
            except HoldfastClosed:
                return
            except WorldError:
                pass  # the next time
            await asyncio.sleep(self._hold.settings.poll_s)

    async def _stamps(self, waited: list[int]) -> dict[int, Any]:
        def read(tx: Tx) -> dict[int, Any]:
            found: dict[int, Any] = dict.fromkeys(waited)
            for start in range(0, len(waited), IDS_MAX):
                for each in tx.execute(_STAMPS, {"_ids": waited[start : start + IDS_MAX]}).all():
                    found[each.id] = tuple(each)
            return found

        return await self._bridge.read(read)
