"""The hub: one reader of the log, and as many streams of it as there are listeners.

Theory: one thread reads what is new, once, and makes bytes of it, once; the loop hands these to every stream that wants
them. The thread is woken by this process's commits, and looks for other processes' (store.wait). A stream begins with a
place in the log: what is up to there it reads from the log, what is behind comes from the hub, so nothing is missed and
nothing comes twice. Nobody waits for a listener: one that does not keep up has its queue emptied and is ended, and goes
on from the log when it comes back.

What a stream carries: feed/shape.py. The log: feed/log.py. HTTP: service/feed.py.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Container, Sequence
from typing import Final, NamedTuple

from holdfast.errors import EventsGone, HoldfastClosed, WorldError
from holdfast.feed import log, shape
from holdfast.feed.log import Entry, Filter
from holdfast.store.base import Store

QUEUE_MAX: Final = 1000  # events that a listener may be behind
HEARTBEAT_S: Final = 10.0
LIFE_S: Final = 3600.0  # of one stream: who comes back is asked again who he is
PAUSE_S: Final = 0.004  # between two reads: a storm of commits is read in a few of them
_LOOK_S: Final = 0.25  # how soon the thread hears that it is to end


class Item(NamedTuple):
    """An event, ready to be sent."""

    entry: Entry
    frame: bytes
    is_end: bool


def item(entry: Entry) -> Item:
    return Item(entry, shape.frame(entry), entry.is_end)


class Stream:
    """One listener's queue, for the loop. `since`: the place in the log behind which the hub gives it everything."""

    __slots__ = ("_queue", "_waiter", "filter", "is_full", "is_over", "since")

    def __init__(self, filter: Filter, since: int) -> None:
        self.filter = filter
        self.since = since
        self.is_full = False  # it was too slow, and what it should have had is in the log only
        self.is_over = False
        self._queue: deque[Item] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def offer(self, items: Sequence[Item]) -> None:
        """Queue these, unless it is, or now turns out to be, too slow for that."""
        if self.is_full:
            return
        if len(self._queue) + len(items) > QUEUE_MAX:
            self.is_full = True
            self._queue.clear()
        else:
            self._queue.extend(items)
        self._wake()

    def end(self) -> None:
        self.is_over = True
        self._wake()

    def anew(self, since: int) -> None:
        """Begin again at another place, after having been too slow."""
        self.is_full = False
        self.since = since
        self._queue.clear()

    async def take(self, timeout_s: float) -> list[Item]:
        """What is queued, as soon as there is something; [] when the time is up, or it is full or over."""
        if not self._queue and not self.is_full and not self.is_over:
            loop = asyncio.get_running_loop()
            waiter = self._waiter = loop.create_future()
            timer = loop.call_later(timeout_s, _release, waiter)
            try:
                await waiter
            finally:
                timer.cancel()
                self._waiter = None
        found = list(self._queue)
        self._queue.clear()
        return found

    def _wake(self) -> None:
        if self._waiter is not None:
            _release(self._waiter)


def _release(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class Hub:
    """For the loop that it was started on. `closed_slow`: how many streams were ended because they did not keep up."""

    def __init__(self, store: Store, *, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._store = store
        self.heartbeat_s = heartbeat_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._streams: dict[Filter, set[Stream]] = {}
        self._place = 0  # up to where streams have been given all
        self._read_to = 0  # the thread's own place
        self._joining = asyncio.Lock()
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._read, name="holdfast-feed", daemon=True)
        self.closed_slow = 0

    # --- its life -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """On the running loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """End every stream; those who listen come back to another process."""
        self._stopping.set()
        self._wanted.set()
        for streams in list(self._streams.values()):
            for stream in list(streams):
                stream.end()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    @property
    def streams(self) -> int:
        """How many there are."""
        return sum(map(len, self._streams.values()))

    # --- listening ------------------------------------------------------------------------------------------------

    async def join(self, filter: Filter) -> Stream:
        """A stream of everything from now on; the caller must `leave`."""
        async with self._joining:
            if not self._streams:
                # Nobody listened, so nobody has read: what has come meanwhile is not for who comes now.
                self._place = await asyncio.to_thread(self._store.read, log.newest)
                self._wanted.set()
            stream = Stream(filter, self._place)
            if self._stopping.is_set():
                stream.end()
            self._streams.setdefault(filter, set()).add(stream)
            return stream

    def leave(self, stream: Stream) -> None:
        mine = self._streams.get(stream.filter, set())
        mine.discard(stream)
        if not mine:
            self._streams.pop(stream.filter, None)
        if not self._streams and not self._stopping.is_set():
            self._wanted.clear()

    async def frames(
        self, filter: Filter, after: int | None, *, until_end: bool = False, types: Container[str] = log.EVERY
    ) -> AsyncIterator[bytes]:
        """The bytes of one event stream, behind `after`, or (None) from now on. until_end: of one task, to its end,
        whichever `types` are to be seen of it."""
        stream = await self.join(filter)
        loop = asyncio.get_running_loop()
        end = loop.time() + LIFE_S
        try:
            yield shape.OPENING if after is not None else shape.OPENING + shape.mark(stream.since)
            place = stream.since if after is None else after
            while True:
                while place < stream.since:
                    try:
                        items, place = await asyncio.to_thread(self._replay, filter, place, stream.since)
                    except (EventsGone, HoldfastClosed):  # while it was read: who comes back is told
                        return
                    sent, is_end = _joined(items, until_end, types)
                    if sent:
                        yield sent
                    if is_end:
                        return
                    if place >= stream.since and stream.is_full:  # the log has what came meanwhile
                        stream.anew(self._place)
                items = await stream.take(self.heartbeat_s)
                if items and items[0].entry.id <= place:  # the listener is ahead of this hub
                    items = [each for each in items if each.entry.id > place]
                sent, is_end = _joined(items, until_end, types)
                if sent:
                    yield sent
                if is_end or stream.is_full or stream.is_over or loop.time() >= end:
                    self.closed_slow += stream.is_full
                    return
                if items:
                    place = items[-1].entry.id
                if not sent:
                    yield shape.heartbeat(self._place if self._place > place else None)
        finally:
            self.leave(stream)

    def _replay(self, filter: Filter, after: int, until: int) -> tuple[list[Item], int]:
        """Some of what the log has between the two, and up to where that goes."""
        found = self._store.read(lambda tx: log.read(tx, after, filter=filter, until=until))
        return [item(entry) for entry in found], found[-1].id if len(found) == log.LIMIT else until

    # --- the thread -----------------------------------------------------------------------------------------------

    def _read(self) -> None:
        while True:
            self._wanted.wait()
            if self._stopping.is_set():
                return
            try:
                seen = self._store.changes()
                self._read_to = max(self._read_to, self._place)
                found = self._store.read(lambda tx: log.behind(tx, self._read_to, limit=log.LIMIT_MAX))
                if found:
                    self._read_to = found[-1].id
                    self._give([item(entry) for entry in found])
                if len(found) < log.LIMIT_MAX:
                    self._stopping.wait(PAUSE_S)
                    self._store.wait(seen, _LOOK_S)
            except HoldfastClosed:
                return
            except WorldError:
                self._stopping.wait(_LOOK_S)  # the next time

    def _give(self, items: list[Item]) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._fan_out, items)
        except RuntimeError:
            pass  # the loop has ended, and nobody listens

    # --- on the loop ----------------------------------------------------------------------------------------------

    def _fan_out(self, items: list[Item]) -> None:
        if items[0].entry.id <= self._place:  # read before everybody left and somebody came
            items = [each for each in items if each.entry.id > self._place]
        if not items:
            return
        self._place = items[-1].entry.id
        for filter, streams in self._streams.items():
            wanted = items if filter == log.ALL else [each for each in items if filter.wants(each.entry)]
            if wanted:
                for stream in streams:
                    stream.offer(wanted)


def _joined(items: Sequence[Item], until_end: bool, types: Container[str]) -> tuple[bytes, bool]:
    """The frames, to the end of the task if that is where the stream is to end; whether that was among them."""
    is_end = False
    if until_end:
        for place, each in enumerate(items):
            if each.is_end:
                items, is_end = items[: place + 1], True
                break
    return b"".join(each.frame for each in items if each.entry.type in types), is_end
