"""A clock that jumps, so that tests of hours take no time and come out the same every time.

The real one is clock.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from threading import Condition, Event

from holdfast.clock import Clock

#: 2030-01-01 00:00 UTC: after every file on the disk, and easy to recognise.
START = 1_893_456_000.0


#: How often the event loop goes round before time jumps, so that whatever is ready has run.
ROUNDS = 10


class _Waiter:
    """One thread in `wait`, or one coroutine in `wait_async`. `wake` lets it look again."""

    __slots__ = ("event", "until", "wake")

    def __init__(self, event: Event | asyncio.Event, until: float, wake: Callable[[], None]) -> None:
        self.event = event
        self.until = until
        self.wake = wake


class FakeClock(Clock):
    """Time stands still until it is told to jump, by `advance` or, when `threads` threads wait for it, by itself to
    the moment that the first of them waits for. `threads=1` (the default) suits code in one thread: every wait returns
    at once, later. `threads=None`: only `advance` and `jump` move it. Chance is drawn from `seed`.

    Threads that wait are woken by what they wait for (an event that is set, a jump), never by real time.
    """

    __slots__ = ("_chance", "_moved", "_now", "_skew", "_threads", "_waiters")

    real = False

    def __init__(self, start: float = START, *, threads: int | None = 1, seed: int = 0) -> None:
        super().__init__()
        self._now = 0.0
        self._skew = start
        self._threads = threads
        self._chance = Random(seed)
        self._waiters: list[_Waiter] = []
        self._moved = Condition()  # notified when a waiter comes or goes

    def time(self) -> float:
        return self._skew + self._now

    def monotonic(self) -> float:
        return self._now

    def random_bytes(self, count: int) -> bytes:
        with self._moved:
            return self._chance.randbytes(count)

    def advance(self, seconds: float) -> None:
        """Let time pass, and wake whoever waited for it."""
        with self._moved:
            due = self._pass(self._now + max(0.0, seconds))
        _wake(due)

    def jump(self) -> float:
        """Go to the earliest moment that anybody waits for; how many seconds that was (0.0: nobody waits for one)."""
        with self._moved:
            before = self._now
            due = self._pass(self._first())
            passed = self._now - before
        _wake(due)
        return passed

    def set_back(self, seconds: float) -> None:
        """Set the wall clock back (or, negative, forward), as an administrator may; `monotonic` does not notice."""
        with self._moved:
            self._skew -= seconds

    def await_waiters(self, count: int, timeout_s: float = 10.0) -> bool:
        """Block, in real time, until `count` threads wait for this clock; False: they didn't come."""
        with self._moved:
            return self._moved.wait_for(lambda: self._waiting() >= count, timeout_s)

    def wait(self, event: Event, timeout_s: float | None = None) -> bool:
        if event.is_set() or (timeout_s is not None and timeout_s <= 0):
            return event.is_set()

        # An Event can't be waited for together with something else, so a jump notifies the event's own condition.
        changed: Condition = event._cond  # type: ignore[attr-defined]

        def wake() -> None:
            with changed:
                changed.notify_all()

        waiter = self._enter(event, timeout_s, wake)
        with changed:
            while not event.is_set() and self._now < waiter.until:
                changed.wait()
        self._leave(waiter)
        return event.is_set()

    async def wait_async(self, event: asyncio.Event, timeout_s: float | None = None) -> bool:
        """`wait` for a coroutine. With `threads=1` time jumps when the loop has nothing else to do."""
        if event.is_set() or (timeout_s is not None and timeout_s <= 0):
            await asyncio.sleep(0)
            return event.is_set()
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(changed.set)

        alone = self._threads == 1 and timeout_s is not None
        waiter = self._enter(event, timeout_s, wake, jump=not alone)
        try:
            while not event.is_set() and self._now < waiter.until:
                if alone:
                    await self._idle(waiter)
                else:
                    either = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(changed.wait())]
                    try:
                        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        for task in either:
                            task.cancel()
        finally:
            self._leave(waiter)
        return event.is_set()

    async def _idle(self, waiter: _Waiter) -> None:
        """Let the loop go round; then, if nobody waits for an earlier moment, jump to this one's."""
        for _ in range(ROUNDS):
            await asyncio.sleep(0)
            if waiter.event.is_set() or self._now >= waiter.until:
                return
        with self._moved:
            due = self._pass(waiter.until) if self._first() == waiter.until else []
        _wake(due)

    def _enter(
        self, event: Event | asyncio.Event, timeout_s: float | None, wake: Callable[[], None], *, jump: bool = True
    ) -> _Waiter:
        with self._moved:
            waiter = _Waiter(event, float("inf") if timeout_s is None else self._now + timeout_s, wake)
            self._waiters.append(waiter)
            self._moved.notify_all()
            due = []
            if jump and self._threads is not None and self._waiting() >= self._threads:
                due = self._pass(self._first())
        _wake(due)
        return waiter

    def _leave(self, waiter: _Waiter) -> None:
        with self._moved:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            self._moved.notify_all()

    def _waiting(self) -> int:
        """How many threads really wait: one whose event is set is about to go on."""
        return sum(not waiter.event.is_set() for waiter in self._waiters)

    def _first(self) -> float:
        first = min((waiter.until for waiter in self._waiters if not waiter.event.is_set()), default=float("inf"))
        return self._now if first == float("inf") else first

    def _pass(self, until: float) -> list[_Waiter]:
        """Set the time, never back; those who waited for it no longer count as waiting."""
        self._now = max(self._now, until)
        due = [waiter for waiter in self._waiters if waiter.until <= self._now]
        self._waiters = [waiter for waiter in self._waiters if waiter.until > self._now]
        return due


def _wake(due: list[_Waiter]) -> None:
    for waiter in due:
        waiter.wake()
