"""What every runtime promises (runtime/base.py), as tests.

    class TestMine(RuntimeConformance):
        isolation = "thread"                   # "async": the steps are coroutines

        def make(self) -> Runtime:
            return MyRuntime()

and `LiveConformance` too where a step has its whole context, `KillableConformance` where `kill` does what it says.
The steps are in runtime_steps.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from holdfast.clock import Clock
from holdfast.core.failure import Failure
from holdfast.runtime.base import Call, RemoteError, Runtime
from holdfast.runtime.context import AsyncContext, Context
from holdfast.testing.conformance import runtime_steps

#: How long a test waits for what must happen. Long, for slow machines: only a test that fails waits for it.
PATIENCE_S = 30.0

Done = Callable[[BaseException | None], None]


class Recorder:
    """A host that keeps what it is told. `on_progress` and `on_checkpoint` let a test act at that very moment,
    which is the only one there is where the step runs on the test's own thread."""

    def __init__(self) -> None:
        self.ends: list[Call] = []
        self.told: list[tuple[str, Any]] = []
        self.on_progress: Callable[[Call], object] = lambda call: None
        self.on_checkpoint: Callable[[Call, Any, Done], object] = lambda call, value, done: done(None)
        self._changed = threading.Condition()

    def ended(self, call: Call) -> None:
        self._note(self.ends, call)

    def checkpoint(self, call: Call, value: Any, done: Done) -> None:
        self._note(self.told, ("checkpoint", value))
        self.on_checkpoint(call, value, done)

    def progress(self, call: Call, fraction: float, message: str | None) -> None:
        self._note(self.told, ("progress", (fraction, message)))
        self.on_progress(call)

    def _note(self, where: list[Any], what: Any) -> None:
        with self._changed:
            where.append(what)
            self._changed.notify_all()

    def until(self, fact: Callable[[], object]) -> bool:
        """Wait until something told here has made `fact` true. False: patience is over."""
        with self._changed:
            return bool(self._changed.wait_for(fact, PATIENCE_S))


class _Suite:
    isolation = "thread"

    def make(self) -> Runtime:
        """A new runtime."""
        raise TypeError(f"{type(self).__name__} says how to make its runtime: def make(self)")

    @contextmanager
    def running(self) -> Iterator[tuple[Runtime, Recorder]]:
        runtime = self.make()
        try:
            yield runtime, Recorder()
        finally:
            runtime.close()

    def call(self, host: Recorder, name: str, deadline_at: float | None = None, **arguments: Any) -> Call:
        """A call of one of the steps of runtime_steps.py."""
        if self.isolation == "async" and hasattr(runtime_steps, f"a_{name}"):
            name = f"a_{name}"
        function = getattr(runtime_steps, name)
        call = Call(
            host, 7, f"conformance/{name}", None, "execute", function, arguments, self.isolation,
            runtime_steps.REFERENCE, deadline_at,
        )  # fmt: skip
        kind = AsyncContext if self.isolation == "async" else Context
        call.context = kind(call, "key-1", "key-0", 2, "task-1", "left here", Clock())
        call.context.fence = 7
        if "ctx" in function.__code__.co_varnames[: function.__code__.co_argcount]:
            arguments["ctx"] = call.context
        return call

    def outcome(self, runtime: Runtime, call: Call) -> tuple[str, Any]:
        """Start the call, wait for its end and say how it ended."""
        host = call.host
        assert isinstance(host, Recorder)
        runtime.start(call)
        return self.end_of(host, call)

    def end_of(self, host: Recorder, call: Call) -> tuple[str, Any]:
        assert host.until(lambda: call in host.ends), f"{call} has not ended; told: {host.told}"
        assert host.ends.count(call) == 1
        assert call.outcome is not None
        return call.outcome


def failure_of(error: BaseException) -> Failure:
    """What is stored of an error, wherever it was raised."""
    return error.failure if isinstance(error, RemoteError) else Failure.of(error)


class RuntimeConformance(_Suite):
    """What holds for every runtime."""

    def test_a_value_is_returned(self) -> None:
        with self.running() as (runtime, host):
            value = {"ports": ["a", "b"], "pair": (1, b"2"), "none": None}
            call = self.call(host, "returns", value=value)
            assert self.outcome(runtime, call) == ("returned", value)
            assert call.began

    def test_an_exception_is_an_outcome_with_its_types_message_and_traceback(self) -> None:
        with self.running() as (runtime, host):
            word, error = self.outcome(runtime, self.call(host, "raises"))
            assert word == "raised"
            failure = failure_of(error)
            assert failure.types[:2] == ("ConnectionError", "OSError")
            assert failure.message == "no route to the switch"
            assert failure.traceback is not None
            assert "in raises" in failure.traceback

    def test_an_exceptions_cause_is_kept(self) -> None:
        with self.running() as (runtime, host):
            _, error = self.outcome(runtime, self.call(host, "raises_from"))
            failure = failure_of(error)
            assert failure.types[0] == "LookupError"
            assert [cause.types[0] for cause in failure.causes] == ["ConnectionError"]

    def test_system_exit_and_keyboard_interrupt_are_outcomes_and_the_runtime_goes_on(self) -> None:
        """But on the caller's own thread a Ctrl-C is meant for the caller, and the step was only stopped by it."""
        with self.running() as (runtime, host):
            word, error = self.outcome(runtime, self.call(host, "exits"))
            assert (word, failure_of(error).types[0]) == ("raised", "SystemExit")
            call = self.call(host, "interrupts")
            if self.isolation == "inline":
                with pytest.raises(KeyboardInterrupt):
                    runtime.start(call)
                assert call.outcome == ("stopped", "suspend")
            else:
                word, error = self.outcome(runtime, call)
                assert (word, failure_of(error).types[0]) == ("raised", "KeyboardInterrupt")
            assert self.outcome(runtime, self.call(host, "returns", value=1)) == ("returned", 1)

    def test_stopping_that_passes_is_told_with_its_reason(self) -> None:
        with self.running() as (runtime, host):
            assert self.outcome(runtime, self.call(host, "stops_itself")) == ("stopped", "suspend")

    def test_wrong_arguments_are_a_failure_of_the_step(self) -> None:
        with self.running() as (runtime, host):
            word, error = self.outcome(runtime, self.call(host, "returns", wrong=1))
            assert (word, failure_of(error).types[0]) == ("raised", "TypeError")

    def test_the_context_knows_its_entry(self) -> None:
        with self.running() as (runtime, host):
            call = self.call(host, "facts")
            facts = ["task-1", call.step_id, 2, "key-1", "key-0", 7, "left here", None]
            assert self.outcome(runtime, call) == ("returned", facts)

    def test_a_sleep_ends(self) -> None:
        with self.running() as (runtime, host):
            assert self.outcome(runtime, self.call(host, "naps")) == ("returned", "rested")

    def test_a_deadline_ends_a_sleep(self) -> None:
        with self.running() as (runtime, host):
            call = self.call(host, "sleeps", deadline_at=Clock().time() + 0.05)
            assert self.outcome(runtime, call) == ("stopped", "timeout")

    def test_context_variables_do_not_leak_from_step_to_step(self) -> None:
        with self.running() as (runtime, host):
            outcomes = [self.outcome(runtime, self.call(host, "sets_variable")) for _ in range(2)]
            assert outcomes == [("returned", "nothing")] * 2

    def test_many_at_once_all_end_once(self) -> None:
        with self.running() as (runtime, host):
            calls = [self.call(host, "returns", value=number) for number in range(20)]
            for call in calls:
                runtime.start(call)
            assert [self.end_of(host, call) for call in calls] == [("returned", number) for number in range(20)]

    def test_closing_twice_is_closing_once(self) -> None:
        with self.running() as (runtime, host):
            self.outcome(runtime, self.call(host, "returns", value=1))
            runtime.close()
            runtime.close()
            assert len(host.ends) == 1

    def test_nothing_of_it_is_left_when_it_is_closed(self) -> None:
        before = set(threading.enumerate())
        with self.running() as (runtime, host):
            self.outcome(runtime, self.call(host, "returns", value=1))
        assert [thread for thread in threading.enumerate() if thread not in before and self.is_own(thread)] == []

    def is_own(self, thread: threading.Thread) -> bool:
        """Whether the runtime made this thread; an executor's are its own."""
        return thread.name.startswith("holdfast")


class LiveConformance(_Suite):
    """What holds where a step has its whole context: all but executors elsewhere."""

    def test_a_step_that_was_asked_before_it_began_never_begins(self) -> None:
        with self.running() as (runtime, host):
            call = self.call(host, "sleeps")
            runtime.ask(call, "cancel")
            assert self.outcome(runtime, call) == ("stopped", "cancel")
            assert not call.began
            assert host.told == []

    def test_a_stop_interrupts_a_sleep(self) -> None:
        with self.running() as (runtime, host):
            host.on_progress = lambda call: runtime.ask(call, "suspend")
            assert self.outcome(runtime, self.call(host, "sleeps")) == ("stopped", "suspend")

    def test_a_step_that_catches_stopping_meets_it_at_the_next_safe_point(self) -> None:
        with self.running() as (runtime, host):
            host.on_progress = lambda call: runtime.ask(call, "rollback")
            assert self.outcome(runtime, self.call(host, "sleeps_twice")) == ("returned", "rollback rollback")

    def test_stopping_is_seen(self) -> None:
        with self.running() as (runtime, host):
            host.on_progress = lambda call: runtime.ask(call, "sibling_failed")
            assert self.outcome(runtime, self.call(host, "looks")) == ("returned", "sibling_failed")

    def test_asking_again_changes_nothing(self) -> None:
        with self.running() as (runtime, host):

            def ask_thrice(call: Call) -> None:
                for _ in range(3):
                    runtime.ask(call, "cancel")

            host.on_progress = ask_thrice
            call = self.call(host, "sleeps")
            assert self.outcome(runtime, call) == ("stopped", "cancel")
            runtime.ask(call, "cancel")
            assert call.outcome == ("stopped", "cancel")

    def test_checkpoints_come_in_order_and_are_seen_by_the_step(self) -> None:
        with self.running() as (runtime, host):
            values = ["one", {"two": (2, b"2")}, 3]
            assert self.outcome(runtime, self.call(host, "checkpoints")) == ("returned", ["left here", *values])
            assert host.told == [("checkpoint", value) for value in values]

    def test_a_checkpoint_that_can_not_be_stored_is_raised_in_the_step(self) -> None:
        with self.running() as (runtime, host):
            host.on_checkpoint = lambda call, value, done: done(OSError(28, "disk full"))
            word, error = self.outcome(runtime, self.call(host, "checkpoints"))
            assert (word, failure_of(error).types[0]) == ("raised", "OSError")
            assert len(host.told) == 1

    def test_a_stop_at_a_checkpoint_comes_after_it_is_stored(self) -> None:
        with self.running() as (runtime, host):
            host.on_progress = lambda call: runtime.ask(call, "cancel")
            assert self.outcome(runtime, self.call(host, "checkpoints_when_stopped")) == ("stopped", "cancel")
            assert host.told == [("progress", (0.0, "here")), ("checkpoint", "the last word")]

    def test_the_lease_lost_at_a_checkpoint_stops_the_step(self) -> None:
        from holdfast.errors import LeaseLost

        with self.running() as (runtime, host):
            host.on_checkpoint = lambda call, value, done: done(LeaseLost())
            assert self.outcome(runtime, self.call(host, "checkpoints")) == ("stopped", "lease_lost")

    def test_progress_is_told_and_kept_between_0_and_1(self) -> None:
        with self.running() as (runtime, host):
            assert self.outcome(runtime, self.call(host, "reports")) == ("returned", None)
            assert host.told == [("progress", (0.25, "a quarter")), ("progress", (1.0, None))]

    def test_closing_asks_what_still_runs(self) -> None:
        with self.running() as (runtime, host):
            if self.isolation == "inline":  # it runs on this thread, so only the step's own doing can stop it
                host.on_progress = lambda call: runtime.ask(call, "suspend")
            call = self.call(host, "sleeps")
            runtime.start(call)
            assert host.until(lambda: host.told)
            runtime.close()
            assert self.end_of(host, call) == ("stopped", "suspend")


class KillableConformance(_Suite):
    """What holds where `killable` is true."""

    def hanging(self, host: Recorder) -> Call:
        """A call that no request stops."""
        return self.call(host, "hangs" if self.isolation == "async" else "hangs_in_c")

    def test_it_says_so(self) -> None:
        with self.running() as (runtime, _):
            assert runtime.killable is True

    def test_a_killed_step_is_gone(self) -> None:
        with self.running() as (runtime, host):
            call = self.hanging(host)
            runtime.start(call)
            assert host.until(lambda: host.told)
            runtime.ask(call, "timeout")
            assert runtime.kill(call) is True
            assert self.end_of(host, call) == ("killed", None)

    def test_a_kill_that_comes_at_once_is_not_lost(self) -> None:
        with self.running() as (runtime, host):
            call = self.hanging(host)
            runtime.start(call)
            runtime.kill(call)
            assert self.end_of(host, call)[0] in {"killed", "stopped"}

    def test_a_kill_after_the_end_changes_nothing(self) -> None:
        with self.running() as (runtime, host):
            call = self.call(host, "returns", value=1)
            self.outcome(runtime, call)
            runtime.kill(call)
            assert self.outcome(runtime, self.call(host, "returns", value=2)) == ("returned", 2)
            assert call.outcome == ("returned", 1)
            assert host.ends.count(call) == 1

    def test_closing_ends_what_does_not_stop(self) -> None:
        with self.running() as (runtime, host):
            call = self.hanging(host)
            runtime.start(call)
            assert host.until(lambda: host.told)
            runtime.close(grace_s=0.05)
            assert self.end_of(host, call) == ("killed", None)
