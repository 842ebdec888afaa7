"""From the event loop to the store and back.

Theory: the loop never waits for a disk. What is to be written is queued to one thread, which takes all that is queued
into one commit and wakes the loop once for all of it: while one commit syncs, the next forms. It is told when the loop
has nothing more in hand, or after GATHER_S: those who were answered together ask again together, and one large commit
costs much less than two. While the functions of a commit run the loop stands still (`Still`): two threads
that both have much to do pass the interpreter on with every statement, which costs as much again as the statement.

A read of a local file is shorter than the way to another thread and back, so it is done where it is asked for; what
reads long (a graph, a log, a long list) says so. What reads long is made JSON where it is read, and only two of these
are at work at once: a hundred who ask for a thousand tasks each wait for each other, and nobody else for them.

A server may not answer. So what is read from one is read on threads, a few; and nobody waits for longer than
`database_timeout_s`: he is told that what he asked may have been written, and what was not begun by then never is.

What writes share a commit with other threads': store/writer.py.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from holdfast.errors import HoldfastClosed, StoreSilent
from holdfast.local import Holdfast
from holdfast.store.base import Tx

T = TypeVar("T")
STILL_S: Final = 0.01
STILL_MIN: Final = 4  # fewer functions are over before the loop hears of them
GATHER_S: Final = 0.005
QUIET: Final = 3  # what is read in one round of the loop is begun in the next, and asks in that one
READERS: Final = 2  # more would only hold the loop up: they share one interpreter with it
ASKERS: Final = 8  # of a server: they wait, most of the time
LOOKS: Final = 20  # at who waits for too long, in the time that he may wait


class _Write(NamedTuple):
    fn: Callable[[Tx], Any]
    future: asyncio.Future[Any]


class Still:
    """While it is held, by another thread, the loop stands still: for STILL_S at most, and once it has done what it
    has in hand."""

    __slots__ = ("_loop", "_over")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._over = threading.Event()

    def __enter__(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._over.wait, STILL_S)
        except RuntimeError:
            pass  # it has ended

    def __exit__(self, *error: object) -> None:
        self._over.set()


class Bridge:
    """One for each service; its methods are for the loop that it was started on."""

    def __init__(self, hold: Holdfast) -> None:
        self.hold = hold
        self._runs_here = hold.store.runs_here
        self._timeout_s = hold.settings.database_timeout_s
        self._waiting: deque[tuple[float, asyncio.Future[Any]]] = deque()  # who came first is first
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queue: deque[_Write] = deque()
        self._asked = threading.Event()
        self._gathers = False  # the loop will set `_asked`, or the thread is at work
        self._there = 0  # how long the queue was when it was last looked at
        self._quiet = 0  # how many rounds of the loop have added nothing
        self._until = 0.0  # it is waited for more
        self._closed = False
        self._reads_some = False  # in this round of the loop
        self._reads: deque[tuple[Callable[[Tx], Any], asyncio.Future[bytes]]] = deque()
        #: Told, on another thread, why nothing can be written any more.
        self.broken: Callable[[BaseException], None] | None = None
        self._readers = ThreadPoolExecutor(READERS, "holdfast-reads")
        self._askers = ThreadPoolExecutor(ASKERS, "holdfast-asks")
        self._thread = threading.Thread(target=self._write_all, name="holdfast-writes", daemon=True)

    def start(self) -> None:
        """On the running loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def write(self, fn: Callable[[Tx, float], T]) -> T:
        """What `fn` made of a transaction, now, once it is durable; what it raises, once undone. It shares its commit
        with others, and must not wait. If the caller is cancelled, it is written all the same."""
        if self._closed or self._loop is None:
            raise HoldfastClosed
        clock = self.hold.clock
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.append(_Write(lambda tx: fn(tx, clock.time()), future))
        if not self._gathers:
            self._gather()
        return await self._in_time(future)

    async def read(self, fn: Callable[[Tx], T], *, timeout_s: float | None = None) -> T:
        """What `fn` made of a snapshot. For what takes a few indexed look-ups."""
        if self._runs_here:
            return self.hold.store.read(fn)
        return await self._elsewhere(self._askers, self.hold.store.read, fn, timeout_s)

    async def read_long(self, fn: Callable[[Tx], T]) -> T:
        """`read`, on another thread, after those who asked before."""
        return await self._elsewhere(self._readers, self.hold.store.read, fn)

    async def read_some(self, fn: Callable[[Tx], Any]) -> bytes:
        """What reads for a millisecond or two, as JSON: here, but one in a round of the loop. Who wants less, and comes
        when hundreds want this, waits for one of them."""
        if not self._runs_here:
            return await self._elsewhere(self._askers, self._read_as_json, fn)
        assert self._loop is not None
        if not self._reads_some:
            self._reads_some = True
            self._loop.call_soon(self._read_next)
            return self._read_as_json(fn)
        future: asyncio.Future[bytes] = self._loop.create_future()
        self._reads.append((fn, future))
        return await future

    def _read_next(self) -> None:
        assert self._loop is not None
        while self._reads:
            fn, future = self._reads.popleft()
            if future.cancelled():
                continue
            self._loop.call_soon(self._read_next)
            try:
                future.set_result(self._read_as_json(fn))
            except Exception as error:
                future.set_exception(error)
            return
        self._reads_some = False

    def _read_as_json(self, fn: Callable[[Tx], Any]) -> bytes:
        return msgspec.json.encode(self.hold.store.read(fn))

    async def read_json(self, fn: Callable[[Tx], Any]) -> bytes:
        """`read_long`, as JSON."""
        return await self._elsewhere(self._readers, self._read_as_json, fn)

    def close(self) -> None:
        """Once what is queued is written. From any thread but the loop's, or when nothing waits any more."""
        self._closed = True
        self._asked.set()
        if self._thread.is_alive():
            self._thread.join()
        self._readers.shutdown(cancel_futures=True)
        self._askers.shutdown(cancel_futures=True)

    # --- who waits ------------------------------------------------------------------------------------------------

    async def _elsewhere(
        self, threads: ThreadPoolExecutor, read: Callable[[Any], T], fn: Any, timeout_s: float | None = None
    ) -> T:
        assert self._loop is not None
        try:
            asked = self._loop.run_in_executor(threads, read, fn)
        except RuntimeError as error:  # they have been shut down
            raise HoldfastClosed from error
        if self._runs_here:
            return await asked
        try:
            return await asyncio.wait_for(asked, timeout_s or self._timeout_s)
        except TimeoutError:
            raise StoreSilent from None

    def _in_time(self, future: asyncio.Future[T]) -> asyncio.Future[T]:
        """The future, which ends with StoreSilent when its time is up."""
        assert self._loop is not None
        if not self._waiting:
            self._loop.call_later(self._timeout_s / LOOKS, self._look)
        self._waiting.append((self._loop.time() + self._timeout_s, future))
        return future

    def _look(self) -> None:
        """One look for all: a timer for each would cost more than what most of them ask for."""
        assert self._loop is not None
        now, waiting = self._loop.time(), self._waiting
        while waiting and (waiting[0][1].done() or waiting[0][0] <= now):
            _, future = waiting.popleft()
            if not future.done():
                future.set_exception(StoreSilent())
        if waiting:
            self._loop.call_later(self._timeout_s / LOOKS, self._look)

    def _gather(self) -> None:
        """Wait for those who are on their way, so that they share a commit."""
        assert self._loop is not None
        self._gathers = True
        self._there = self._quiet = 0
        self._until = self._loop.time() + GATHER_S
        self._loop.call_soon(self._look_for_more)

    def _look_for_more(self) -> None:
        assert self._loop is not None
        there = len(self._queue)
        self._quiet = self._quiet + 1 if there == self._there else 0
        self._there = there
        if self._quiet < QUIET and self._loop.time() < self._until:
            self._loop.call_soon(self._look_for_more)
        else:
            self._asked.set()

    def _written(self) -> None:
        """All are answered that were there when the thread was told; others may have come meanwhile."""
        self._gathers = False
        if self._queue:
            self._gather()

    # --- the thread -----------------------------------------------------------------------------------------------

    def _write_all(self) -> None:
        batch_max = self.hold.settings.batch_max
        while True:
            self._asked.wait()
            self._asked.clear()
            closed = self._closed
            left = len(self._queue)  # what comes from now on is seen when these are written
            while left:
                batch = [self._queue.popleft() for _ in range(min(left, batch_max))]
                left -= len(batch)
                self._write(batch)
            if closed:
                return
            self._tell(self._written)

    def _write(self, batch: list[_Write]) -> None:
        assert self._loop is not None
        batch = [each for each in batch if each.future.cancelled() or not each.future.done()]  # else it is given up
        if not batch:
            return
        still = Still(self._loop) if len(batch) >= STILL_MIN else None
        answers: list[Any]
        try:
            answers = self.hold.write_all([each.fn for each in batch], still)
        except Exception as error:
            answers = [error] * len(batch)
            if self.broken is not None and self.hold.store.broken:
                self.broken(error)
        self._tell(_answer, batch, answers)

    def _tell(self, fn: Callable[..., None], *about: Any) -> None:
        """Have the loop do it."""
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(fn, *about)
        except RuntimeError:
            pass  # it has ended, and nobody waits


def _answer(batch: list[_Write], answers: list[Any]) -> None:
    for (_, future), answer in zip(batch, answers, strict=True):
        if future.done():
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
