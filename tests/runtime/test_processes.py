"""Processes of steps: how they die, and with whom. What they share with other runtimes is in tests/conformance."""

from __future__ import annotations

import fcntl
import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.clock import SYSTEM, Clock
from holdfast.core.failure import Failure
from holdfast.core.values import Secret
from holdfast.errors import FlowNotFound, HoldfastClosed, ValueRefused
from holdfast.flow import step as answers
from holdfast.runtime.base import Call, RemoteError
from holdfast.runtime.context import Context
from holdfast.runtime.processes import ProcessRuntime
from holdfast.testing.conformance.runtime import PATIENCE_S, Done, Recorder
from tests.runtime import process_steps

REFERENCE = f"{process_steps.__name__}:flow"


@pytest.fixture
def host() -> Recorder:
    return Recorder()


@pytest.fixture
def runtime() -> Iterator[ProcessRuntime]:
    runtime = ProcessRuntime()
    yield runtime
    runtime.close()


def call_of(
    host: Recorder, name: str, /, *, reference: str | None = REFERENCE, what: str = "execute", **arguments: Any
) -> Call:
    call = Call(host, 0, f"steps/{name}", None, what, lambda: None, arguments, "process", reference)
    call.context = Context(call, "key", "key", 1, "task", None, Clock())
    if getattr(process_steps, name).wants_ctx:
        arguments["ctx"] = call.context
    return call


def outcome(runtime: ProcessRuntime, host: Recorder, name: str, /, **rest: Any) -> Any:
    call = call_of(host, name, **rest)
    runtime.start(call)
    assert host.until(lambda: call in host.ends)
    assert host.ends.count(call) == 1
    return call.outcome


def raised(end: Any) -> Failure:
    assert end[0] == "raised"
    assert isinstance(end[1], RemoteError)
    return end[1].failure


def pid_told(host: Recorder) -> int:
    """What a step that hangs says of itself first."""
    assert host.until(lambda: host.told)
    return int(host.told[0][1][1])


def is_gone(pidfd: int) -> bool:
    return bool(select.select([pidfd], [], [], PATIENCE_S)[0])


# --- deaths ------------------------------------------------------------------------------------------------------


def test_a_process_that_leaves_has_died_with_its_code(runtime: ProcessRuntime, host: Recorder) -> None:
    assert outcome(runtime, host, "leaves", code=3) == ("died", "exit 3")
    assert outcome(runtime, host, "leaves", code=0) == ("died", "exit 0")


def test_a_process_that_crashes_has_died_of_its_signal(runtime: ProcessRuntime, host: Recorder) -> None:
    assert outcome(runtime, host, "crashes") == ("died", f"signal {int(signal.SIGSEGV)}")


@pytest.mark.requirement("G10")
def test_one_that_others_killed_has_died_and_not_been_killed(runtime: ProcessRuntime, host: Recorder) -> None:
    call = call_of(host, "hangs_in_c")
    runtime.start(call)
    os.kill(pid_told(host), signal.SIGKILL)
    assert host.until(lambda: host.ends)
    assert call.outcome == ("died", "signal 9")


def test_killed_means_reaped_with_its_whole_group(runtime: ProcessRuntime, host: Recorder) -> None:
    call = call_of(host, "hangs_with_a_child")
    runtime.start(call)
    assert host.until(lambda: host.told)
    own, its_child = (int(pid) for pid in host.told[0][1][1].split())
    pidfd = os.pidfd_open(its_child)
    assert runtime.kill(call)
    assert host.until(lambda: host.ends)
    assert call.outcome == ("killed", None)
    with pytest.raises(ProcessLookupError):
        os.kill(own, 0)
    assert is_gone(pidfd)
    os.close(pidfd)


def test_who_ends_itself_with_the_worker_s_lease_was_killed_and_has_not_died(
    runtime: ProcessRuntime, host: Recorder
) -> None:
    call = call_of(host, "hangs_with_a_child")
    runtime.start(call)
    assert host.until(lambda: host.told)
    runtime.extend(SYSTEM.monotonic() + 0.1)
    assert host.until(lambda: host.ends)
    assert call.outcome == ("killed", None)


def test_an_outcome_that_was_sent_beats_a_kill_that_came_too_late(runtime: ProcessRuntime, host: Recorder) -> None:
    # The step has said its checkpoint and waits for the answer; the answer and the kill are then sent together, so
    # either may win; what may not happen is an outcome lost or doubled.
    call = call_of(host, "stores")

    def answer_and_kill(call: Call, value: Any, done: Done) -> None:
        done(None)
        runtime.kill(call)

    host.on_checkpoint = answer_and_kill
    runtime.start(call)
    assert host.until(lambda: host.ends)
    assert call.outcome in [("killed", None), ("returned", "stored"), ("stopped", "abort")]
    assert len(host.ends) == 1


@pytest.mark.requirement("G10")
def test_one_that_writes_to_a_socket_that_is_not_its_own_is_ended(runtime: ProcessRuntime, host: Recorder) -> None:
    other = call_of(host, "hangs_in_c")
    runtime.start(other)
    pid_told(host)
    assert outcome(runtime, host, "writes_to_every_socket")[0] == "died"
    assert outcome(runtime, host, "same", value=1) == ("returned", 1)
    assert other.outcome is None


def test_without_descriptors_a_start_is_a_failure_of_the_step(runtime: ProcessRuntime, host: Recorder) -> None:
    assert outcome(runtime, host, "same", value=1) == ("returned", 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        call = call_of(host, "same", value=2)
        runtime.start(call)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert call.outcome is not None
    assert isinstance(call.outcome[1], OSError)
    assert outcome(runtime, host, "same", value=3) == ("returned", 3)


def test_a_step_leads_a_session_of_its_own(runtime: ProcessRuntime, host: Recorder) -> None:
    word, (pid, session, group) = outcome(runtime, host, "session")
    assert word == "returned"
    assert pid == session == group
    assert session != os.getsid(0)


def test_when_the_server_is_killed_its_steps_die_and_the_next_start_makes_another(
    runtime: ProcessRuntime, host: Recorder
) -> None:
    call = call_of(host, "hangs_in_c")
    runtime.start(call)
    pidfd = os.pidfd_open(pid_told(host))
    assert runtime._server is not None
    os.kill(runtime._server.process.pid, signal.SIGKILL)
    assert host.until(lambda: host.ends)
    assert call.outcome == ("died", "signal 9")
    assert is_gone(pidfd)
    os.close(pidfd)
    assert outcome(runtime, host, "leaves", code=4) == ("died", "exit 4")


WORKER = """
import sys
from holdfast.runtime.processes import ProcessRuntime
from tests.runtime.test_processes import Recorder, call_of, pid_told
import os
lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
import fcntl
fcntl.flock(lock, fcntl.LOCK_EX)
host, runtime = Recorder(), ProcessRuntime(inherit=[lock])
runtime.start(call_of(host, "hangs_in_c"))
print(pid_told(host), runtime._server.process.pid, flush=True)
{more}
sys.stdin.read()
"""


@pytest.mark.requirement("NOVA-14")
@pytest.mark.parametrize(
    "more", ["", "if os.fork() == 0: sys.stdin.read(); os._exit(0)"], ids=["alone", "a fork of the worker lives on"]
)
def test_a_step_that_hangs_in_c_dies_with_its_worker(tmp_path: Path, more: str) -> None:
    lock = tmp_path / "lock"
    worker = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", WORKER.format(more=more), str(lock)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert worker.stdout is not None
    assert worker.stdin is not None
    pidfds = [os.pidfd_open(int(pid)) for pid in worker.stdout.readline().split()]
    assert len(pidfds) == 2
    with lock.open() as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        worker.kill()
        worker.wait()
        for pidfd in pidfds:
            assert is_gone(pidfd)
            os.close(pidfd)
        worker.stdin.close()
        worker.stdout.read()  # until a fork of the worker has ended too: it held the lock as well
        worker.stdout.close()
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_lock_is_held_by_the_step_and_by_nothing_it_executes(tmp_path: Path, host: Recorder) -> None:
    fd = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    runtime = ProcessRuntime(inherit=[fd])
    try:
        word, (own, executed) = outcome(runtime, host, "looks_for_file", path=str(tmp_path / "lock"))
        assert (word, own, executed) == ("returned", True, False)
    finally:
        runtime.close()
        os.close(fd)


def test_close_leaves_no_process(host: Recorder) -> None:
    runtime = ProcessRuntime()
    call = call_of(host, "hangs_in_c")
    runtime.start(call)
    pidfd = os.pidfd_open(pid_told(host))
    assert runtime._server is not None
    server = runtime._server.process
    runtime.close(grace_s=0.0)
    assert call.outcome == ("killed", None)
    assert is_gone(pidfd)
    os.close(pidfd)
    assert server.returncode == 0
    with pytest.raises(HoldfastClosed):
        runtime.start(call_of(host, "leaves", code=0))


SCRIPT = """
import holdfast as hf

@hf.step(isolation="process")
def here(witness: str) -> None:
    with open(witness, "a") as file:
        file.write("here\\n")

flow = hf.linear("script", here)
outcome = hf.run(flow, {{"witness": {witness!r}}})
print(outcome.state, outcome.failure.message if outcome.failure else "")
"""


def test_a_script_that_runs_flows_when_it_is_loaded_is_told_so(tmp_path: Path) -> None:
    # Each process of a step would load the script, run the flow, and start a process of the step …
    script, witness = tmp_path / "script.py", tmp_path / "witness"
    script.write_text(SCRIPT.format(witness=str(witness)))
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=True, timeout=PATIENCE_S,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert done.stdout.startswith("FAILED ")
    assert 'put that below `if __name__ == "__main__":`' in done.stdout
    assert not witness.exists()


# --- what crosses ------------------------------------------------------------------------------------------------


def test_a_flow_that_can_not_be_found_is_a_sentence(runtime: ProcessRuntime, host: Recorder) -> None:
    end = outcome(runtime, host, "leaves", code=0, reference=None)
    assert end[0] == "raised"
    assert isinstance(end[1], FlowNotFound)
    assert "put the flow in a variable of a module" in str(end[1])
    assert raised(outcome(runtime, host, "leaves", code=0, reference="tests.runtime.process_steps:nothing")).message
    call = call_of(host, "leaves", code=0)
    call.step_id = "steps/nowhere"
    runtime.start(call)
    assert host.until(lambda: call in host.ends)
    assert "no execute of a step steps/nowhere" in raised(call.outcome).message
    assert not call.began


@pytest.mark.parametrize("reference", [None, "steps@1"], ids=["nowhere", "registered with the worker only"])
def test_without_its_flow_a_modules_own_function_is_found(
    runtime: ProcessRuntime, host: Recorder, reference: str | None
) -> None:
    for what, function, said in (
        ("execute", process_steps.make.execute, "made a"),
        ("revert", process_steps.drop, "dropped a"),
    ):
        call = call_of(host, "make", reference=reference, what=what, name="a")
        call.function = function
        host.ends.clear()
        runtime.start(call)
        assert host.until(lambda: host.ends)
        assert call.outcome == ("returned", said)


def test_a_step_in_a_map_and_its_revert_are_found(runtime: ProcessRuntime, host: Recorder) -> None:
    for what, said in (("execute", "made a"), ("revert", "dropped a")):
        call = call_of(host, "make", what=what, name="a")
        call.step_id = "steps/volumes[3]/body/make"
        host.ends.clear()
        runtime.start(call)
        assert host.until(lambda: host.ends)
        assert call.outcome == ("returned", said)


def test_values_cross_by_the_codec(runtime: ProcessRuntime, host: Recorder) -> None:
    value = {"colour": process_steps.Colour.RED, "set": {1, 2}, "failure": Failure(("E",), "m")}
    assert outcome(runtime, host, "same", value=value) == ("returned", value)


ANSWERS = [
    answers.Again(1.5, (1, 2)),
    answers.WaitFor("go", 3.0),
    answers.Done({"a": 1}),
    answers.NotDone(),
    answers.Unknown("?"),
]


@pytest.mark.parametrize("answer", ANSWERS)
def test_what_a_step_may_answer_crosses(runtime: ProcessRuntime, host: Recorder, answer: Any) -> None:
    end = outcome(runtime, host, "same", value=answer)
    assert end == ("returned", answer)
    assert type(end[1]) is type(answer)


def test_a_secret_crosses_without_a_key(runtime: ProcessRuntime, host: Recorder) -> None:
    word, secret = outcome(runtime, host, "same", value=Secret("hunter2"))
    assert word == "returned"
    assert isinstance(secret, Secret)
    assert secret.reveal() == "hunter2"


def test_an_argument_that_can_not_cross_is_a_failure_of_the_step(runtime: ProcessRuntime, host: Recorder) -> None:
    word, error = outcome(runtime, host, "same", value=object())
    assert word == "raised"
    assert isinstance(error, ValueRefused)
    assert "steps/same's argument value" in str(error)


def test_a_result_that_can_not_cross_is_a_failure_of_the_step(runtime: ProcessRuntime, host: Recorder) -> None:
    failure = raised(outcome(runtime, host, "returns_an_object"))
    assert failure.types[0] == "holdfast.errors.ValueRefused"
    assert "steps/returns_an_object's result" in failure.message


@pytest.mark.requirement("G10")
def test_a_result_that_is_too_large_fails_where_it_was_made(host: Recorder) -> None:
    runtime = ProcessRuntime(value_bytes_max=1000)
    try:
        failure = raised(outcome(runtime, host, "returns_much", size_bytes=2_000_000))
        assert failure.types[0] == "holdfast.errors.ValueTooLarge"
    finally:
        runtime.close()


def test_large_values_cross_both_ways(runtime: ProcessRuntime, host: Recorder) -> None:
    value = "x" * 5_000_000  # more than any socket holds
    assert outcome(runtime, host, "same", value=value) == ("returned", value)


def test_an_event_and_a_checkpoint_of_before_are_seen(runtime: ProcessRuntime, host: Recorder) -> None:
    call = call_of(host, "sees")
    assert call.context is not None
    call.context.event = (1, 2)
    call.context.last_checkpoint = b"before"
    runtime.start(call)
    assert host.until(lambda: host.ends)
    assert call.outcome == ("returned", [(1, 2), b"before"])


def test_a_checkpoint_that_can_not_cross_is_raised_in_the_step(runtime: ProcessRuntime, host: Recorder) -> None:
    failure = raised(outcome(runtime, host, "stores_an_object"))
    assert failure.types[0] == "holdfast.errors.ValueRefused"
    assert host.told == []


@pytest.mark.requirement("G10")
def test_a_flood_of_progress_comes_as_a_trickle_that_ends_with_the_last(
    runtime: ProcessRuntime, host: Recorder
) -> None:
    assert outcome(runtime, host, "floods", times=20_000) == ("returned", None)
    assert host.told[-1] == ("progress", (1.0, "20000"))
    assert len(host.told) < 1000
