"""The pool of threads: how it grows, and what it does about a thread that never comes back."""

from __future__ import annotations

import resource
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from holdfast.errors import HoldfastClosed
from holdfast.runtime.base import Call
from holdfast.runtime.threads import ThreadRuntime
from holdfast.testing.conformance.runtime import PATIENCE_S, Recorder


@pytest.fixture
def host() -> Recorder:
    return Recorder()


@pytest.fixture
def pool() -> Iterator[ThreadRuntime]:
    pool = ThreadRuntime(max_workers=2)
    yield pool
    pool.close()


def call_of(host: Recorder, function: Callable[..., Any]) -> Call:
    return Call(host, 0, "test/step", None, "execute", function, {}, "thread")


def run(pool: ThreadRuntime, host: Recorder, function: Callable[..., Any]) -> Any:
    call = call_of(host, function)
    pool.start(call)
    assert host.until(lambda: call in host.ends)
    assert call.outcome is not None
    return call.outcome[1]


class Stuck:
    """A step that ends when the test says so."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.free = threading.Event()

    def __call__(self) -> str:
        self.entered.set()
        assert self.free.wait(PATIENCE_S)
        return "late"


def test_an_idle_thread_is_used_again(pool: ThreadRuntime, host: Recorder) -> None:
    first = run(pool, host, threading.get_ident)
    # A thread counts itself idle before it says the end, so the next start finds it.
    assert [run(pool, host, threading.get_ident) for _ in range(10)] == [first] * 10


def test_there_are_never_more_threads_than_allowed(host: Recorder) -> None:
    pool = ThreadRuntime(max_workers=2, name="counted-step")
    stuck = [Stuck() for _ in range(5)]
    calls = [call_of(host, step) for step in stuck]
    for call in calls:
        pool.start(call)
    assert all(step.entered.wait(PATIENCE_S) for step in stuck[:2])
    assert not any(step.entered.is_set() for step in stuck[2:])
    for step in stuck:
        step.free.set()
    assert host.until(lambda: len(host.ends) == 5)
    assert len([thread for thread in threading.enumerate() if thread.name.startswith("counted-step")]) == 2
    pool.close()


@pytest.mark.requirement("G10")
@pytest.mark.parametrize("waiting", [False, True], ids=["then it is needed", "somebody waits for it"])
def test_an_abandoned_threads_place_is_filled(host: Recorder, waiting: bool) -> None:
    pool = ThreadRuntime(max_workers=1)
    stuck = Stuck()
    lost, next_call = call_of(host, stuck), call_of(host, lambda: "next")
    pool.start(lost)
    assert stuck.entered.wait(PATIENCE_S)
    if waiting:
        pool.start(next_call)
    assert pool.abandon(lost)
    if not waiting:
        pool.start(next_call)
    assert host.until(lambda: next_call in host.ends)
    pool.close()
    assert lost.outcome is None
    stuck.free.set()
    assert host.until(lambda: lost in host.ends)
    assert lost.outcome == ("returned", "late")


def test_an_abandoned_thread_takes_no_further_call(host: Recorder) -> None:
    pool = ThreadRuntime(name="abandoned-step")
    stuck = Stuck()
    lost = call_of(host, stuck)
    pool.start(lost)
    assert stuck.entered.wait(PATIENCE_S)
    (thread,) = [thread for thread in threading.enumerate() if thread.name.startswith("abandoned-step")]
    assert pool.abandon(lost)
    stuck.free.set()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert run(pool, host, lambda: "still works") == "still works"
    pool.close()


def test_what_has_ended_can_not_be_abandoned(pool: ThreadRuntime, host: Recorder) -> None:
    call = call_of(host, lambda: None)
    pool.start(call)
    assert host.until(lambda: call in host.ends)
    assert not pool.abandon(call)


def test_close_does_not_wait_for_what_ignores_it(host: Recorder) -> None:
    pool = ThreadRuntime()
    stuck = Stuck()
    pool.start(call_of(host, stuck))
    assert stuck.entered.wait(PATIENCE_S)
    pool.close(grace_s=0.0)
    assert host.ends == []
    stuck.free.set()
    assert host.until(lambda: host.ends)


def test_its_threads_can_not_keep_the_interpreter(pool: ThreadRuntime, host: Recorder) -> None:
    assert run(pool, host, lambda: threading.current_thread().daemon) is True


def test_a_closed_pool_says_so(host: Recorder) -> None:
    pool = ThreadRuntime()
    pool.close()
    with pytest.raises(HoldfastClosed):
        pool.start(call_of(host, lambda: None))


def test_nothing_can_kill_a_thread(pool: ThreadRuntime, host: Recorder) -> None:
    call = call_of(host, lambda: None)
    assert pool.kill(call) is False
    assert call.stop_reason == "abort"


def test_a_pool_of_no_threads_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one thread"):
        ThreadRuntime(max_workers=0)


def test_without_threads_a_start_is_a_failure_of_the_step(host: Recorder) -> None:
    # A stack that no address space holds: the system refuses the thread, as it does where too many run.
    pool = ThreadRuntime()
    call = call_of(host, lambda: None)
    before = resource.getrlimit(resource.RLIMIT_AS)
    threading.stack_size(1 << 40)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 40, before[1]))
    try:
        pool.start(call)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        threading.stack_size(0)
    assert call.outcome is not None
    assert isinstance(call.outcome[1], OSError)
    assert run(pool, host, lambda: "now there is one") == "now there is one"
    pool.close()
