"""The only reader of time and of chance; everything else is handed a `Clock`.

A fake one that jumps is testing/clock.py.
"""

from __future__ import annotations

import os
import time
from threading import Event, Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

#: `wait` is never asked of the system for longer: threading refuses some centuries, and infinity.
WAIT_S_MAX = 86_400.0

DRAWN = 64  # ids whose chance is drawn at once

# Goes on while the machine sleeps, as the leases of its tasks do on other machines (clock_gettime(2)).
_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock:
    """The system's clock and randomness. Safe to use from any thread. `off_s`: by how much it is set off the system's,
    to go by another (`set_by`)."""

    __slots__ = ("_drawn", "_lock", "_process", "_ticks", "off_s")

    #: Whether waiting takes time. Who can wait in a cheaper way than `wait` (an event loop's timer) may, if it does.
    real = True

    def __init__(self) -> None:
        self._lock = Lock()
        self._ticks = 0
        self._drawn: list[int] = []  # of chance, for the next ids of this process
        self._process = 0
        self.off_s = 0.0

    def set_by(self, told: Callable[[float], float]) -> None:
        """Go by another clock from now on, as far as can be known: `told` is given the moment by this one, and says
        what it is by the other; the same, if there is no other. As long as the answer was on its way, nobody knows by
        how much they differ: within that they agree, or else those of one machine would be set apart."""
        off_s = self.off_s
        sent = self.time()
        said = told(sent)
        answered = self.time() - self.off_s + off_s  # another thread may have set it meanwhile, and found the same
        if said == sent or answered < sent:
            return  # the second: it was set back meanwhile
        self.off_s = off_s + min(0.0, said - sent) + max(0.0, said - answered)

    def time(self) -> float:
        """Seconds since the epoch, UTC, to the microsecond: what is shown of a time is all of it, so that who asks for
        what is later than a time he was shown is not given that again. It may be set back: compare it with stored
        times only."""
        # Not round(…, 6): that is a float written as text and read again, five times as slow.
        return (time.time_ns() // 1000 + round(self.off_s * 1e6)) / 1e6

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back and does not stop while the machine sleeps."""
        return time.clock_gettime(_BOOT)

    def wait(self, event: Event, timeout_s: float | None = None) -> bool:
        """Wait until the event is set, at most `timeout_s`, and at most WAIT_S_MAX where there is a timeout; whether
        it is set."""
        return event.wait(None if timeout_s is None else min(max(timeout_s, 0.0), WAIT_S_MAX))

    async def wait_async(self, event: asyncio.Event, timeout_s: float | None = None) -> bool:
        """`wait` for a coroutine, without the bound."""
        import asyncio

        if not event.is_set():
            try:
                async with asyncio.timeout(None if timeout_s is None else max(timeout_s, 0.0)):
                    await event.wait()
            except TimeoutError:
                pass
        return event.is_set()

    def random(self) -> float:
        """A number at least 0 and less than 1."""
        return (int.from_bytes(self.random_bytes(7)) >> 3) / (1 << 53)

    def random_bytes(self, count: int) -> bytes:
        """Bytes that nobody can guess."""
        return os.urandom(count)

    def token_hex(self, count: int = 16) -> str:
        """`count` random bytes in hex."""
        return self.random_bytes(count).hex()

    def uuid7(self) -> str:
        """A new id (RFC 9562 §5.7). Those of one clock sort in the order in which they were made, those of several by
        their milliseconds. The 12 bits behind the milliseconds are a fraction of them (§6.2, method 3)."""
        ticks = int(self.time() * 4_096_000)  # milliseconds in 4096ths
        with self._lock:
            self._ticks = ticks = max(ticks, self._ticks + 1)
            if not self._drawn or self._process != os.getpid():  # a fork has its parent's
                self._draw()
            rest = self._drawn.pop()
        moment = (ticks >> 12 & 0xFFFF_FFFF_FFFF) << 80 | (0x7000 | ticks & 0xFFF) << 64
        text = f"{moment | 1 << 63 | rest >> 2:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def _draw(self) -> None:
        """What ids are made of, for many of them: asking the system lets another thread go on first."""
        count = DRAWN if self.real else 1
        chance = self.random_bytes(8 * count)
        self._drawn = [int.from_bytes(chance[at : at + 8]) for at in range(0, len(chance), 8)]
        self._process = os.getpid()


SYSTEM = Clock()
