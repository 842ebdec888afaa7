"""What a step sees: time by the clock it was given, stops, and nothing it did not ask for."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from holdfast.clock import Clock
from holdfast.errors import Stopping
from holdfast.runtime.aio import AsyncRuntime
from holdfast.runtime.base import Call
from holdfast.runtime.context import AsyncContext, Context
from holdfast.runtime.inline import InlineRuntime
from holdfast.runtime.threads import ThreadRuntime
from holdfast.testing.clock import FakeClock
from holdfast.testing.conformance.runtime import Recorder


def context_of(
    function: Callable[..., Any], clock: Clock, *, deadline_at: float | None = None, host: Recorder | None = None
) -> Call:
    call = Call(
        host or Recorder(), 0, "build/step", None, "execute", function, {}, "thread", None, deadline_at
    )  # fmt: skip
    kind = AsyncContext if asyncio.iscoroutinefunction(function) else Context
    call.context = kind(call, "revert-key", "forward-key", 3, "task-1", None, clock)
    call.arguments["ctx"] = call.context
    return call


def plain(clock: Clock, deadline_at: float | None = None, host: Recorder | None = None) -> tuple[Call, Context]:
    call = context_of(lambda ctx: None, clock, deadline_at=deadline_at, host=host)
    assert isinstance(call.context, Context)
    return call, call.context


def test_a_sleep_passes_on_the_clock_it_was_given_and_nowhere_else() -> None:
    clock = FakeClock()
    _, ctx = plain(clock)
    before = clock.time()
    ctx.sleep(3600)
    assert clock.time() - before == 3600


def test_a_sleep_ends_with_the_deadline() -> None:
    clock = FakeClock()
    before = clock.time()
    _, ctx = plain(clock, deadline_at=before + 60)
    ctx.sleep(59)
    assert ctx.stopping is None
    with pytest.raises(Stopping) as stop:
        ctx.sleep(3600)
    assert stop.value.reason == "timeout"
    assert clock.time() - before == 60
    assert ctx.stopping == "timeout"
    with pytest.raises(Stopping):
        ctx.raise_if_stopping()


def test_a_deadline_is_met_at_a_checkpoint_too_and_after_it_is_stored() -> None:
    clock = FakeClock()
    host = Recorder()
    _, ctx = plain(clock, deadline_at=clock.time() + 1, host=host)
    clock.advance(2)
    with pytest.raises(Stopping):
        ctx.checkpoint({"at": 7})
    assert host.told == [("checkpoint", {"at": 7})]
    assert ctx.last_checkpoint == {"at": 7}


@pytest.mark.requirement("G6")
def test_a_stop_arrives_while_nobody_moves_the_clock() -> None:
    clock = FakeClock(threads=None)
    host, runtime = Recorder(), ThreadRuntime()
    call = context_of(lambda ctx: ctx.sleep(60), clock, host=host)
    runtime.start(call)
    assert clock.await_waiters(1)
    runtime.ask(call, "cancel")
    assert host.until(lambda: host.ends)
    runtime.close()
    assert call.outcome == ("stopped", "cancel")
    assert clock.monotonic() == 0.0


async def sleeps(ctx: AsyncContext) -> str:
    await ctx.sleep(60)
    return "rested"


@pytest.mark.parametrize("ending", ["time passes", "a stop", "a kill"])
def test_a_coroutine_sleeps_by_a_fake_clock_too(ending: str) -> None:
    clock = FakeClock(threads=None)
    host, runtime = Recorder(), AsyncRuntime()
    call = context_of(sleeps, clock, host=host)
    runtime.start(call)
    assert clock.await_waiters(1)
    if ending == "time passes":
        clock.advance(60)
    elif ending == "a stop":
        runtime.ask(call, "suspend")
    else:
        runtime.kill(call)
    assert host.until(lambda: host.ends)
    runtime.close()
    expected = {"time passes": ("returned", "rested"), "a stop": ("stopped", "suspend"), "a kill": ("killed", None)}
    assert call.outcome == expected[ending]


def test_every_thread_of_a_step_is_woken() -> None:
    clock = FakeClock(threads=None)
    call, ctx = plain(clock)
    stopped: list[str] = []

    def sleep() -> None:
        try:
            ctx.sleep(60)
        except Stopping as stop:
            stopped.append(stop.reason)

    threads = [threading.Thread(target=sleep) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert clock.await_waiters(4)
    InlineRuntime().ask(call, "abort")
    for thread in threads:
        thread.join()
    assert stopped == ["abort"] * 4


def test_progress_is_kept_between_0_and_1() -> None:
    host = Recorder()
    _, ctx = plain(FakeClock(), host=host)
    for fraction in (-1.0, 0.5, 2.0, float("nan")):
        ctx.progress(fraction)
    assert [told[1][0] for told in host.told] == [0.0, 0.5, 1.0, 0.0]


def test_it_names_the_entry() -> None:
    call, ctx = plain(FakeClock(), deadline_at=1e10)
    assert (ctx.step_id, ctx.task_id, ctx.attempt, ctx.deadline_at) == ("build/step", "task-1", 3, 1e10)
    assert (ctx.idempotency_key, ctx.forward_key, ctx.last_checkpoint, ctx.event) == (
        "revert-key", "forward-key", None, None,
    )  # fmt: skip
    assert repr(call) == "<Call execute build/step open>"


def test_a_failure_keeps_no_frame_of_the_runtime() -> None:
    def fails(ctx: Context) -> None:
        raise LookupError

    call = context_of(fails, FakeClock())
    InlineRuntime().start(call)
    assert call.outcome is not None
    traceback = call.outcome[1].__traceback__
    assert traceback.tb_frame.f_code.co_name == "fails"
    assert traceback.tb_next is None


def test_contexts_and_threads_load_no_event_loop() -> None:
    script = "import sys, holdfast.runtime.threads, holdfast.runtime.context; print('asyncio' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stdout.strip() == "False"
