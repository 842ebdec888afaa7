"""Many listeners, one reader: each gets everything once, in order; a slow one is ended and holds nobody up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from holdfast.feed import hub as hubs
from holdfast.feed import log
from holdfast.feed.hub import Hub
from holdfast.feed.log import ALL, Filter
from holdfast.store.sqlite import SqliteStore
from tests.tasks.desk import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with SqliteStore(str(tmp_path / "tasks.db"), synchronous="normal") as opened:
        yield Desk(opened)


@asynccontextmanager
async def opened(desk: Desk, heartbeat_s: float = 10.0) -> AsyncIterator[Hub]:
    hub = Hub(desk.store, heartbeat_s=heartbeat_s)
    hub.start()
    try:
        yield hub
    finally:
        await hub.stop()


def ids(sent: bytes) -> list[int]:
    """The events of some frames."""
    return [int(part.split(b"\n")[0][4:]) for part in sent.split(b"\n\n") if b"data:" in part]


async def take(frames: AsyncIterator[bytes], number: int) -> list[int]:
    found: list[int] = []
    while len(found) < number:
        found += ids(await asyncio.wait_for(anext(frames), 20))
    return found


async def submit(desk: Desk, number: int = 1, **fields: object) -> None:
    for _ in range(number):
        await asyncio.to_thread(lambda: desk.submit(**fields))


def test_one_change_reaches_two_hundred_listeners(desk: Desk) -> None:
    async def listen() -> tuple[list[list[int]], int]:
        async with opened(desk) as hub:
            frames = [hub.frames(ALL, None) for _ in range(200)]
            for each in frames:
                await anext(each)
            assert hub.streams == 200
            await submit(desk)
            heard = list(await asyncio.gather(*(take(each, 1) for each in frames)))
            for each in frames:
                await each.aclose()  # type: ignore[attr-defined]
            return heard, hub.streams

    heard, left = asyncio.run(listen())
    assert heard == [[1]] * 200
    assert left == 0


def test_who_joins_in_the_middle_of_a_storm_misses_nothing(desk: Desk) -> None:
    total = 400

    async def listen() -> list[list[int]]:
        async with opened(desk) as hub:
            storm = threading.Thread(target=lambda: [desk.submit() for _ in range(total)])
            storm.start()
            listeners = []
            for after in (0, None, 5, 0):
                await asyncio.sleep(0.01)
                if after == 5:
                    while desk.store.read(log.newest) < 5:
                        await asyncio.sleep(0.001)
                frames = hub.frames(ALL, after)
                opening = await anext(frames)
                began = int(opening.split(b"id: ")[1]) if after is None else after
                assert (b"id: " in opening) == (after is None)
                listeners.append(asyncio.ensure_future(take(frames, total - began)))
            heard = list(await asyncio.gather(*listeners))
            storm.join()
            return heard

    for heard in asyncio.run(listen()):
        assert heard == list(range(total + 1 - len(heard), total + 1))


def test_each_hears_what_it_asked_for(desk: Desk) -> None:
    async def listen() -> list[list[int]]:
        async with opened(desk) as hub:
            filters = (Filter(project="a"), Filter(project="b"), Filter(resource="r"), Filter(task=1))
            frames = [hub.frames(filter, 0) for filter in filters]
            for each in frames:
                await anext(each)
            await submit(desk, project_id="a")
            await submit(desk, 2, project_id="b", resource_id="r")
            return [await take(each, number) for each, number in zip(frames, (1, 2, 2, 1), strict=True)]

    assert asyncio.run(listen()) == [[1], [2, 3], [2, 3], [1]]


def test_a_listener_that_is_ahead_of_the_hub_hears_nothing_twice(desk: Desk) -> None:
    """It has read the last events elsewhere before this hub has seen them."""

    async def listen() -> list[int]:
        async with opened(desk) as hub:
            other = hub.frames(ALL, None)
            await anext(other)
            desk.submit()
            desk.submit()  # on the loop's own thread, so the hub can't have given them to anybody
            ahead = hub.frames(ALL, 2)
            await anext(ahead)
            await submit(desk)
            return await take(ahead, 1)

    assert asyncio.run(listen()) == [3]


def test_a_slow_listener_is_ended_and_goes_on_from_the_log(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubs, "QUEUE_MAX", 5)

    async def listen() -> tuple[list[int], list[int], int]:
        async with opened(desk) as hub:
            slow, brisk = hub.frames(ALL, 0), hub.frames(ALL, 0)
            await anext(slow)
            await anext(brisk)
            await submit(desk)
            heard = await take(slow, 1)
            for _ in range(12):
                await submit(desk)
                await take(brisk, 1)
            with pytest.raises(StopAsyncIteration):
                await anext(slow)
            again = hub.frames(ALL, heard[-1])
            await anext(again)
            return heard, await take(again, 12), hub.closed_slow

    heard, rest, closed = asyncio.run(listen())
    assert heard + rest == list(range(1, 14))
    assert closed == 1


def test_what_comes_while_one_reads_the_log_is_read_there_too(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long replay is no slowness: nothing is lost with the queue that overflows meanwhile."""
    monkeypatch.setattr(hubs, "QUEUE_MAX", 5)
    for _ in range(150):
        desk.submit()

    async def listen() -> tuple[list[int], int]:
        async with opened(desk) as hub:
            frames, brisk = hub.frames(ALL, 0), hub.frames(ALL, None)
            await anext(frames)
            await anext(brisk)
            heard = ids(await anext(frames))  # a page: in the middle of it
            for _ in range(20):
                await submit(desk)
                await take(brisk, 1)
            return heard + await take(frames, 170 - len(heard)), hub.closed_slow

    heard, closed = asyncio.run(listen())
    assert heard == list(range(1, 171))
    assert closed == 0


def test_an_idle_stream_has_a_heartbeat_and_a_stopped_hub_ends_it(desk: Desk) -> None:
    async def listen() -> list[bytes]:
        async with opened(desk, heartbeat_s=0.01) as hub:
            frames = hub.frames(ALL, None)
            said = [await anext(frames), await anext(frames), await anext(frames)]
            await hub.stop()
            async for rest in frames:
                said.append(rest)
            late = hub.frames(ALL, None)
            said.append(await anext(late))
            with pytest.raises(StopAsyncIteration):
                await anext(late)
            return said

    opening = b"retry: 2000\n\nid: 0\n\n"
    assert asyncio.run(listen()) == [opening, b": \n\n", b": \n\n", opening]


def test_who_hears_nothing_is_kept_up_to_date_all_the_same(desk: Desk) -> None:
    """Else it would come back, after a long silence, with a place that is no longer kept."""

    async def listen() -> list[bytes]:
        async with opened(desk, heartbeat_s=0.02) as hub:
            frames, other = hub.frames(Filter(project="quiet"), None), hub.frames(ALL, None)
            await anext(frames)
            await anext(other)
            await submit(desk, 2)
            await take(other, 2)
            return [await anext(frames) for _ in range(5)]

    said = asyncio.run(listen())
    assert set(said) <= {b": \n\n", b": \nid: 1\n\n", b": \nid: 2\n\n"}
    assert said[-1] == b": \nid: 2\n\n"


def test_a_stream_does_not_live_for_ever(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token may have been taken back meanwhile: who listens has to show it again."""
    monkeypatch.setattr(hubs, "LIFE_S", 0.0)

    async def listen() -> list[bytes]:
        async with opened(desk, heartbeat_s=0.01) as hub:
            return [each async for each in hub.frames(ALL, None)]

    assert len(asyncio.run(listen())) == 1


def test_the_stream_of_a_task_ends_with_it(desk: Desk) -> None:
    async def listen() -> bytes:
        async with opened(desk) as hub:
            task = desk.submit()
            frames = hub.frames(Filter(task=task), 0, until_end=True)
            await anext(frames)
            await asyncio.to_thread(desk.end, task)
            said = b""
            async for each in frames:
                said += each
            return said

    assert ids(asyncio.run(listen())) == [1, 2]
