"""Between the event loop and the thread that writes."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

import holdfast as hf
from holdfast.errors import TaskNotFound
from holdfast.service import bridge
from holdfast.store.base import Tx


def test_the_loop_stands_still_while_it_is_held_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "STILL_S", 60.0)
    ran: list[str] = []

    def hold(loop: asyncio.AbstractEventLoop, error: Exception | None) -> list[str]:
        with bridge.Still(loop):
            loop.call_soon_threadsafe(ran.append, "loop")
            if error is not None:
                raise error
            return list(ran)

    async def go() -> None:
        loop = asyncio.get_running_loop()
        assert await asyncio.to_thread(hold, loop, None) == []
        assert ran == ["loop"]
        with pytest.raises(KeyError):
            await asyncio.to_thread(hold, loop, KeyError())
        assert ran == ["loop"] * 2

    asyncio.run(asyncio.wait_for(go(), 10))


def test_who_holds_it_too_long_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "STILL_S", 0.001)

    rounds: list[int] = []

    async def go() -> None:
        with bridge.Still(asyncio.get_running_loop()):
            for number in range(2):
                await asyncio.sleep(0)
                rounds.append(number)

    asyncio.run(asyncio.wait_for(go(), 10))
    assert rounds == [0, 1]


def test_of_many_who_read_some_one_does_in_each_round_of_the_loop() -> None:
    order: list[str] = []

    def read(tx: Tx) -> int:
        order.append("read")
        return 1

    def fail(tx: Tx) -> int:
        raise TaskNotFound

    async def other() -> None:
        for _ in range(20):
            order.append("other")
            await asyncio.sleep(0)

    async def go() -> None:
        between = bridge.Bridge(hold)
        between.start()
        first = asyncio.ensure_future(between.read_some(read))
        reads = [asyncio.ensure_future(between.read_some(each)) for each in (read, fail, read, read)]
        late = asyncio.ensure_future(between.read_some(read))
        await asyncio.sleep(0)
        late.cancel()
        _, found = await asyncio.gather(other(), asyncio.gather(first, *reads, return_exceptions=True))
        assert [each for each in found if isinstance(each, bytes)] == [b"1"] * 4
        assert isinstance(found[2], TaskNotFound)
        assert late.cancelled()
        assert await between.read_some(read) == b"1"
        await asyncio.to_thread(between.close)

    with hf.open("sqlite:///:memory:") as hold:
        asyncio.run(asyncio.wait_for(go(), 10))
    waiting = order[order.index("other") : 20]
    assert "read" in waiting
    assert not any(pair == ("read", "read") for pair in pairwise(waiting))
