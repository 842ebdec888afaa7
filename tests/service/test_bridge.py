"""Between the event loop and the thread that writes."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.service import bridge


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

    async def go() -> None:
        with bridge.Still(asyncio.get_running_loop()):
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(go(), 10))
