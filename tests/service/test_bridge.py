"""Between the event loop and the thread that writes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest

import holdfast as hf
from holdfast.errors import TaskNotFound
from holdfast.local import Holdfast
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


def test_those_who_ask_again_when_they_are_answered_share_a_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "GATHER_S", 60.0)
    sizes: list[int] = []

    async def go(hold: Holdfast) -> None:
        between = bridge.Bridge(hold)
        between.start()
        writing, going = threading.Event(), threading.Event()

        def wait(tx: Tx, now: float) -> None:
            writing.set()
            assert going.wait(10)

        write_all = hold.write_all

        def counted(fns: Sequence[Callable[[Tx], object]], around: Any = None) -> list[Any]:
            sizes.append(len(fns))
            return write_all(fns, around)

        monkeypatch.setattr(hold, "write_all", counted)
        asked = [asyncio.ensure_future(between.write(wait))]
        await asyncio.to_thread(writing.wait, 10)
        asked += [asyncio.ensure_future(between.write(lambda tx, now: None)) for _ in range(3)]
        await asyncio.sleep(0)
        going.set()
        await asked[0]
        for _ in range(4):
            asked.append(asyncio.ensure_future(between.write(lambda tx, now: None)))
            await asyncio.sleep(0)
        await asyncio.gather(*asked)
        await asyncio.to_thread(between.close)

    with hf.open("sqlite:///:memory:") as hold:
        asyncio.run(asyncio.wait_for(go(hold), 10))
    assert sizes == [1, 7]


def test_nobody_is_waited_for_without_end() -> None:
    async def go(hold: Holdfast) -> None:
        between = bridge.Bridge(hold)
        between.start()
        asked = [asyncio.ensure_future(between.write(lambda tx, now: None))]
        while not asked[0].done():  # there is always one more on his way
            asked.append(asyncio.ensure_future(between.write(lambda tx, now: None)))
            await asyncio.sleep(0)
        assert len(asked) > 1
        await asyncio.gather(*asked)
        await asyncio.to_thread(between.close)

    with hf.open("sqlite:///:memory:") as hold:
        asyncio.run(asyncio.wait_for(go(hold), 10))


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
