"""Running a flow in memory: outcomes, traces, and what a Ctrl-C or a cancelled caller leaves behind."""

from __future__ import annotations

import asyncio

import pytest

import holdfast as hf
from holdfast.testing.clock import FakeClock

said: list[str] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    said.clear()


@hf.step(provides="port")
def make_port(network: str) -> str:
    said.append(f"make port on {network}")
    return "port-1"


@make_port.revert
def drop_port(port: str | None = None) -> None:
    said.append(f"drop {port}")


@hf.step
def boom(port: str) -> None:
    raise ConnectionError("refused")


class Interrupting:
    """Presses Ctrl-C, the first `times` it is run."""

    def __init__(self, times: int) -> None:
        self.left = times

    def press(self) -> None:
        if self.left:
            self.left -= 1
            raise KeyboardInterrupt


@pytest.mark.requirement("TF-8")
def test_a_failed_flow_is_undone_and_reads_like_the_story() -> None:
    outcome = hf.run(hf.linear("build", make_port, boom), {"network": "public"})
    assert outcome.trace == [
        "task RUNNING",
        "build/make_port RUNNING",
        "build/make_port SUCCEEDED",
        "build/boom RUNNING",
        "build/boom FAILED (ConnectionError: refused)",
        "task REVERTING",
        "build/make_port REVERTING",
        "build/make_port REVERTED",
        "task FAILED",
    ]
    assert said == ["make port on public", "drop port-1"]
    assert outcome.failure is not None
    assert outcome.failure.type == "ConnectionError"
    with pytest.raises(hf.TaskFailed, match="refused"):
        outcome.raise_for_state()


def test_ctrl_c_undoes_what_was_done_and_is_passed_on() -> None:
    press = hf.step(Interrupting(1).press, name="press")
    with pytest.raises(KeyboardInterrupt):
        hf.run(hf.linear("build", make_port, press), {"network": "public"})
    assert said == ["make port on public", "drop port-1"]


def test_a_second_ctrl_c_leaves_at_once() -> None:
    interrupting = Interrupting(2)
    press = hf.step(interrupting.press, name="press")
    press.revert(interrupting.press)
    with pytest.raises(KeyboardInterrupt):
        hf.run(hf.linear("build", make_port, press), {"network": "public"})
    assert said == ["make port on public"]


def test_a_cancelled_caller_undoes_what_was_done() -> None:
    began = asyncio.Event()

    @hf.step
    async def wait_long(ctx: hf.AsyncContext) -> None:
        began.set()
        await ctx.sleep(3600)

    async def main() -> None:
        running = asyncio.create_task(hf.run_async(hf.linear("build", make_port, wait_long), {"network": "public"}))
        await began.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    assert said == ["make port on public", "drop port-1"]


def test_a_wait_for_an_event_that_nobody_can_deliver_comes_back() -> None:
    outcome = hf.run(hf.step(lambda: hf.WaitFor("approved"), name="approve"))
    assert outcome.state == "WAITING"


def test_a_cancelled_caller_stops_a_plain_await_too() -> None:
    began = asyncio.Event()

    @hf.step
    async def deaf() -> None:
        began.set()
        await asyncio.sleep(3600)

    @deaf.revert
    async def hear() -> None:
        said.append("undo deaf")

    async def main() -> None:
        running = asyncio.create_task(hf.run_async(hf.linear("build", make_port, deaf), {"network": "public"}))
        await began.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    assert said == ["make port on public", "undo deaf", "drop port-1"]


def test_the_flows_deadline_ends_a_sleep_inline_too() -> None:
    clock = FakeClock()
    nap = hf.step(lambda ctx: ctx.sleep(3600), name="nap")
    outcome = hf.run(hf.linear("build", make_port, nap, deadline_s=60.0), {"network": "public"}, clock=clock)
    assert outcome.state == "FAILED"
    assert outcome.failure is not None
    assert outcome.failure.type == "DeadlinePassed"
    assert said == ["make port on public", "drop port-1"]
