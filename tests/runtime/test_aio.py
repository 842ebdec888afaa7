"""Coroutines: what is theirs alone. What they share with other runtimes is in tests/conformance."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

from holdfast.clock import Clock
from holdfast.errors import HoldfastClosed
from holdfast.runtime.aio import AsyncRuntime, run_here
from holdfast.runtime.base import Call
from holdfast.runtime.context import AsyncContext
from holdfast.testing.conformance import runtime_steps as steps
from holdfast.testing.conformance.runtime import PATIENCE_S, Recorder


def call_of(host: Recorder, function: Callable[..., Any], **arguments: Any) -> Call:
    call = Call(host, 0, "test/step", None, "execute", function, arguments, "async")
    call.context = AsyncContext(call, "key", "key", 1, "task", None, Clock())
    if function.__code__.co_varnames[:1] == ("ctx",):
        arguments["ctx"] = call.context
    return call


class CountingLoop(asyncio.SelectorEventLoop):
    wakes = 0

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        self.wakes += 1
        return super().call_soon_threadsafe(callback, *args, context=context)


def test_many_starts_wake_the_loop_once() -> None:
    host, loop = Recorder(), CountingLoop()
    runtime = AsyncRuntime(loop)
    calls = [call_of(host, steps.a_returns, value=number) for number in range(1000)]
    for call in calls:  # the loop does not run yet, so nothing is taken between two starts
        runtime.start(call)
    assert loop.wakes == 1

    async def until_all_have_ended() -> None:
        while len(host.ends) < len(calls):
            await asyncio.sleep(0)

    loop.run_until_complete(until_all_have_ended())
    assert [call.outcome for call in calls] == [("returned", number) for number in range(1000)]
    assert loop.wakes == 1
    loop.close()


def test_on_the_loops_own_thread_nothing_is_woken() -> None:
    host, loop = Recorder(), CountingLoop()

    async def main() -> None:
        runtime = AsyncRuntime(asyncio.get_running_loop())
        for number in range(3):
            call = call_of(host, steps.a_returns, value=number)
            runtime.start(call)
            while call not in host.ends:
                await asyncio.sleep(0)
        runtime.close()

    loop.run_until_complete(main())
    loop.close()
    assert loop.wakes == 1  # the first, before the runtime had seen where the loop runs


def test_a_coroutine_that_swallows_its_cancellation_is_not_killed_until_it_ends() -> None:
    host, runtime = Recorder(), AsyncRuntime()
    later: list[Callable[[BaseException | None], None]] = []
    host.on_checkpoint = lambda call, value, done: later.append(done)
    call = call_of(host, steps.a_swallows)
    runtime.start(call)
    assert host.until(lambda: host.told)
    assert runtime.kill(call) is True
    assert host.until(lambda: later)
    assert call.outcome is None
    call.stop_reason = None  # or the checkpoint would raise Stopping, as it should
    later[0](None)
    assert host.until(lambda: host.ends)
    assert call.outcome == ("returned", "went on")
    runtime.close()


def test_a_cancellation_of_its_own_is_a_failure_of_the_step() -> None:
    async def gives_up() -> None:
        raise asyncio.CancelledError("of its own")

    host, runtime = Recorder(), AsyncRuntime()
    call = call_of(host, gives_up)
    runtime.start(call)
    assert host.until(lambda: host.ends)
    runtime.close()
    assert call.outcome is not None
    assert call.outcome[0] == "raised"
    assert isinstance(call.outcome[1], asyncio.CancelledError)


def test_two_sleeps_at_once_are_both_woken() -> None:
    async def sleeps_twice_at_once(ctx: AsyncContext) -> list[str]:
        ctx.progress(0.0)
        ends = await asyncio.gather(ctx.sleep(600), ctx.sleep(600), return_exceptions=True)
        return [type(end).__name__ for end in ends]

    host, runtime = Recorder(), AsyncRuntime()
    host.on_progress = lambda call: asyncio.get_running_loop().call_later(0.01, runtime.ask, call, "suspend")
    call = call_of(host, sleeps_twice_at_once)
    runtime.start(call)
    assert host.until(lambda: host.ends)
    runtime.close()
    # gather lets a BaseException that is no Exception through at the first one.
    assert call.outcome in [("returned", ["Stopping", "Stopping"]), ("stopped", "suspend")]


def test_closed_on_the_loops_own_thread_it_cancels_what_still_runs() -> None:
    host = Recorder()

    async def main() -> None:
        runtime = AsyncRuntime(asyncio.get_running_loop())
        call = call_of(host, steps.a_hangs)
        runtime.start(call)
        while not host.told:
            await asyncio.sleep(0)
        runtime.close()
        while not host.ends:
            await asyncio.sleep(0)
        assert call.outcome == ("killed", None)

    asyncio.run(main())
    assert len(host.ends) == 1


def test_close_leaves_a_blocked_loop_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.runtime.aio.CANCEL_S", 0.02)
    free = threading.Event()

    async def blocks() -> str:
        return "late" if free.wait(PATIENCE_S) else "never"

    host, runtime = Recorder(), AsyncRuntime()
    call = call_of(host, blocks)
    runtime.start(call)
    runtime.close(grace_s=0.0)
    assert call.outcome is None
    free.set()
    assert host.until(lambda: host.ends)


def test_close_ends_what_a_step_left_on_the_loop() -> None:
    left: list[asyncio.Task[None]] = []

    async def forgets() -> None:
        async def runs_on() -> None:
            await asyncio.Event().wait()

        left.append(asyncio.get_running_loop().create_task(runs_on()))

    host, runtime = Recorder(), AsyncRuntime()
    runtime.start(call_of(host, forgets))
    assert host.until(lambda: host.ends)
    runtime.close()
    assert left[0].cancelled()


def test_context_variables_are_those_of_who_made_the_runtime() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="none")

    async def reads() -> str:
        return variable.get()

    token = variable.set("the maker's")
    host, runtime = Recorder(), AsyncRuntime()
    variable.reset(token)
    call = call_of(host, reads)
    runtime.start(call)
    assert host.until(lambda: host.ends)
    runtime.close()
    assert call.outcome == ("returned", "the maker's")


def test_a_closed_runtime_says_so() -> None:
    runtime = AsyncRuntime()
    runtime.close()
    with pytest.raises(HoldfastClosed):
        runtime.start(call_of(Recorder(), steps.a_returns, value=1))


def test_a_checkpoint_that_is_stored_after_the_loop_has_closed_is_nobodys() -> None:
    host = Recorder()
    later: list[Callable[[BaseException | None], None]] = []
    host.on_checkpoint = lambda call, value, done: later.append(done)

    async def main() -> None:
        runtime = AsyncRuntime(asyncio.get_running_loop())
        runtime.start(call_of(host, steps.a_checkpoints))
        while not later:
            await asyncio.sleep(0)
        runtime.close()

    asyncio.run(main())
    later[0](None)
    assert host.ends[0].outcome == ("killed", None)


def test_a_call_can_be_run_on_this_thread() -> None:
    call = call_of(Recorder(), steps.a_returns, value=1)
    run_here(call)
    assert call.outcome == ("returned", 1)


def test_a_call_that_was_asked_to_stop_is_not_entered_on_this_thread() -> None:
    call = call_of(Recorder(), steps.a_returns, value=1)
    call.stop_reason = "cancel"
    run_here(call)
    assert call.outcome == ("stopped", "cancel")
    assert not call.began
