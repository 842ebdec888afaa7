"""Every runtime against the one suite."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from holdfast.runtime.aio import AsyncRuntime
from holdfast.runtime.base import Call, Runtime
from holdfast.runtime.executor import ExecutorRuntime
from holdfast.runtime.inline import InlineRuntime
from holdfast.runtime.processes import ProcessRuntime
from holdfast.runtime.threads import ThreadRuntime
from holdfast.testing.conformance.runtime import (
    KillableConformance,
    LiveConformance,
    Recorder,
    RuntimeConformance,
)


class TestInline(RuntimeConformance, LiveConformance):
    isolation = "inline"

    def make(self) -> Runtime:
        return InlineRuntime()


class TestThreads(RuntimeConformance, LiveConformance):
    def make(self) -> Runtime:
        return ThreadRuntime(max_workers=3)


class TestAsyncOnItsOwnLoop(RuntimeConformance, LiveConformance, KillableConformance):
    isolation = "async"

    def make(self) -> Runtime:
        return AsyncRuntime()


class TestAsyncOnAGivenLoop(RuntimeConformance, LiveConformance, KillableConformance):
    """The loop runs in a thread of the test's, as a server's would."""

    isolation = "async"

    @contextmanager
    def running(self) -> Iterator[tuple[Runtime, Recorder]]:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        runtime = AsyncRuntime(loop)
        try:
            yield runtime, Recorder()
        finally:
            runtime.close()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


class TestProcesses(RuntimeConformance, LiveConformance, KillableConformance):
    isolation = "process"

    def make(self) -> Runtime:
        return ProcessRuntime()


class TestCoroutinesInProcesses(RuntimeConformance, LiveConformance):
    isolation = "async"

    def make(self) -> Runtime:
        return ProcessRuntime()


class TestExecutorOfThreads(RuntimeConformance, LiveConformance):
    @pytest.fixture(autouse=True)
    def _executor(self) -> Iterator[None]:
        with ThreadPoolExecutor(3) as self.executor:
            yield

    def make(self) -> Runtime:
        return ExecutorRuntime(self.executor)


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Executor]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("forkserver")) as executor:
        yield executor


class TestExecutorElsewhere(RuntimeConformance):
    @pytest.fixture(autouse=True)
    def _given(self, elsewhere: Executor) -> None:
        self.executor = elsewhere

    def make(self) -> Runtime:
        return ExecutorRuntime(self.executor)


class TestCoroutinesOnAnExecutorElsewhere(TestExecutorElsewhere):
    isolation = "async"


def test_every_runtime_of_the_package_is_in_here() -> None:
    suites = [
        value for value in globals().values() if isinstance(value, type) and issubclass(value, RuntimeConformance)
    ]
    assert {suite.isolation for suite in suites} == {"inline", "thread", "async", "process"}
    assert Call.__slots__
