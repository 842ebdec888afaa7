"""What is an executor's own. What its runtime shares with the others is in tests/conformance."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest

from holdfast.clock import Clock
from holdfast.errors import FlowNotFound, HoldfastClosed
from holdfast.runtime.base import Call, RemoteError
from holdfast.runtime.context import Context
from holdfast.runtime.executor import ExecutorRuntime, order_of, run_elsewhere
from holdfast.testing.conformance import runtime_steps as steps
from holdfast.testing.conformance.runtime import PATIENCE_S, Recorder


class Here(Executor):
    """An executor whose elsewhere is here."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def call_of(host: Recorder, function: Callable[..., Any], **arguments: Any) -> Call:
    call = Call(
        host, 0, f"conformance/{function.__name__}", None, "execute", function, arguments, "thread", steps.REFERENCE
    )
    call.context = Context(call, "key", "key", 1, "task", None, Clock())
    if function.__code__.co_varnames[:1] == ("ctx",):
        arguments["ctx"] = call.context
    return call


def test_elsewhere_a_checkpoint_says_that_it_can_not_be_stored() -> None:
    host = Recorder()
    runtime = ExecutorRuntime(Here())
    call = call_of(host, steps.checkpoints)
    runtime.start(call)
    assert call.outcome is not None
    word, error = call.outcome
    assert word == "raised"
    assert isinstance(error, RemoteError)
    assert error.failure.types[0] == "holdfast.errors.UsageError"
    assert "a checkpoint can't be stored" in error.failure.message
    assert host.told == []


def test_elsewhere_progress_goes_nowhere() -> None:
    host = Recorder()
    call = call_of(host, steps.reports)
    ExecutorRuntime(Here()).start(call)
    assert call.outcome == ("returned", None)
    assert host.told == []


def test_a_step_that_can_not_be_found_elsewhere_is_a_failure() -> None:
    host = Recorder()
    call = call_of(host, lambda: 1)
    call.reference = None
    ExecutorRuntime(Here()).start(call)
    assert call.outcome is not None
    assert isinstance(call.outcome[1], FlowNotFound)
    call = call_of(host, steps.returns, value=1)
    call.step_id = "conformance/nothing"
    word, told = run_elsewhere(order_of(call))
    assert (word, told["types"][0]) == ("raised", "holdfast.errors.FlowNotFound")


def test_a_pool_that_breaks_is_a_death() -> None:
    host = Recorder()
    with ProcessPoolExecutor(1, mp_context=get_context("forkserver")) as pool:
        runtime = ExecutorRuntime(pool)
        call = call_of(host, steps.leaves, code=3)
        runtime.start(call)
        assert host.until(lambda: host.ends)
        assert call.outcome is not None
        word, why = call.outcome
        assert word == "died"
        assert why.startswith("BrokenProcessPool")
        again = call_of(host, steps.returns, value=os.getpid())
        runtime.start(again)  # the pool refuses it, and the task is told
        assert again.outcome is not None
        assert again.outcome[0] == "raised"


def test_a_call_that_waits_in_the_executor_is_taken_back() -> None:
    host = Recorder()
    free = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        runtime = ExecutorRuntime(pool)
        first, second = call_of(host, lambda: free.wait(PATIENCE_S)), call_of(host, steps.returns, value=1)
        runtime.start(first)
        runtime.start(second)
        runtime.ask(second, "cancel")
        assert second.outcome == ("stopped", "cancel")
        assert not second.began
        assert runtime.kill(first) is False
        free.set()
        assert host.until(lambda: len(host.ends) == 2)
        assert first.outcome == ("returned", True)


def test_a_closed_runtime_leaves_the_executor_alone() -> None:
    with ThreadPoolExecutor(1) as pool:
        runtime = ExecutorRuntime(pool)
        runtime.close()
        with pytest.raises(HoldfastClosed):
            runtime.start(call_of(Recorder(), steps.returns, value=1))
        assert pool.submit(int, "7").result(PATIENCE_S) == 7
