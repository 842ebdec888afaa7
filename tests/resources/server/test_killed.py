"""kill -9 in the middle of each operation, and a driver that hangs: another goes on, and the guest testifies that
nothing was done twice and nothing was left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import holdfast as hf
from holdfast.resources.handle import Resource
from holdfast.resources.server.process import RUNNING, SHUTDOWN, SUSPENDED, Server, Slot
from tests.resources.server.conftest import Cloud, until

At = Resource[hf.Task]
SLOW = 1000  # seconds that a guest takes, until the test lets it go on


@contextmanager
def at_work(cloud: Cloud) -> Iterator[subprocess.Popen[str]]:
    """A worker in a process of its own, ready to be killed."""
    command = [sys.executable, "-m", "tests.resources.server.working", cloud.url, cloud.where]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as worker:
        try:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
            yield worker
        finally:
            worker.kill()


def hasten(slot: Slot) -> None:
    """The guest takes no more time."""
    slot.configure({**slot.config(), "guest": {}})


class Case(NamedTuple):
    """An operation, the moment to kill at, and what must be true at its end."""

    operation: str
    params: dict[str, Any] | None
    before: tuple[str, ...]  # operations that lead to where it starts
    guest: dict[str, Any]
    moment: Callable[[Server], bool]
    lifecycle: str
    power: str
    boots: int


def runs(number: int) -> Callable[[Server], bool]:
    """Whether the guest of that slot runs."""
    return lambda server: server.slot_of(number).power() == RUNNING


def is_going_down(server: Server) -> bool:
    return server.exists and server.slot.is_going_down()


def limit_is_set(server: Server) -> bool:
    return server.slot.limits().get("memory_mib") == 512


CASES = [
    Case("start", None, ("stop",), {"boot_s": SLOW}, runs(1), "ACTIVE", RUNNING, 2),
    Case("stop", None, (), {"shutdown_s": SLOW}, is_going_down, "SHUTOFF", SHUTDOWN, 1),
    Case("reboot", {"type": "SOFT"}, (), {"shutdown_s": SLOW}, is_going_down, "ACTIVE", RUNNING, 2),
    Case("reboot", {"type": "HARD"}, (), {"boot_s": SLOW}, lambda s: _boots(s) == 2, "ACTIVE", RUNNING, 2),
    Case("suspend", None, (), {}, lambda s: s.slot.power() == SUSPENDED, "SUSPENDED", SUSPENDED, 1),
    Case("resume", None, ("suspend",), {}, lambda s: s.slot.power() == RUNNING, "ACTIVE", RUNNING, 1),
    Case("rebuild", {"image": "guest-2"}, (), {"boot_s": SLOW}, runs(2), "ACTIVE", RUNNING, 1),
    Case("resize", {"memory_mib": 512}, (), {}, limit_is_set, "ACTIVE", RUNNING, 1),
]


def _boots(server: Server) -> int:
    return sum(line["what"] == "boot" for line in server.slot.console())


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.operation} {(case.params or {}).get('type', '')}")
@pytest.mark.requirement("NOVA-14")
def test_kill_9_in_the_middle_and_another_goes_on(cloud: Cloud, case: Case) -> None:
    at = cloud.create()
    for operation in case.before:
        cloud.do(at, operation)
    if case.guest:
        at.update({**at.desired, "guest": case.guest})
        cloud.work()
    server = Server(cloud.where, at.id)
    if case.guest:
        until(lambda: server.slot.config()["guest"] != {}, "the guest's new ways")
    task = at.operate(case.operation, case.params)

    with at_work(cloud) as worker:
        until(lambda: case.moment(server), f"the middle of {case.operation}")
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
    for slot in server.slots():
        hasten(slot)
    alive = [slot.process() for slot in server.slots()]
    cloud.work()

    assert task.state == "SUCCEEDED", task.failure
    assert (at.lifecycle, at.sync_status, cloud.slot(at).power()) == (case.lifecycle, "IN_SYNC", case.power)
    assert _boots(server) == case.boots
    assert sum(slot.process() is not None for slot in server.slots()) == (case.power != SHUTDOWN)
    if case.operation in ("start", "suspend", "resume", "resize", "rebuild"):  # it found the process that was there
        assert cloud.slot(at).process() in alive


@pytest.mark.requirement("NOVA-14")
def test_kill_9_in_the_middle_of_a_create_finds_the_process_it_made(cloud: Cloud) -> None:
    desired = {"name": "s", "guest": {"boot_s": SLOW}}
    task = cloud.hold.operate("server", "create", desired=desired)
    server = Server(cloud.where, str(task.view()["resource_id"]))
    with at_work(cloud) as worker:
        until(lambda: server.exists and server.slot.process() is not None, "the guest to be started")
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
    process = server.slot.process()
    assert process is not None
    hasten(server.slot)
    cloud.work()

    assert task.state == "SUCCEEDED", task.failure
    assert server.slot.process() == process
    assert _boots(server) == 1


@pytest.mark.requirement("NOVA-14")
def test_kill_9_in_the_middle_of_a_delete_leaves_nothing_in_the_end(cloud: Cloud) -> None:
    at = cloud.create()
    process = cloud.slot(at).process()
    assert process is not None
    task = at.operate("delete")
    with at_work(cloud) as worker:
        until(lambda: process.letter() is None, "the guest to be ended")
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
    cloud.work()
    assert task.state == "SUCCEEDED", task.failure
    assert at.lifecycle == "DELETED"
    assert not Server(cloud.where, at.id).path.exists()


def test_kill_9_in_the_undo_of_a_rebuild_and_another_undoes_it(cloud: Cloud) -> None:
    at = cloud.create()
    first = cloud.slot(at).process()
    server = Server(cloud.where, at.id)
    at.update({**at.desired, "guest": {"boot_s": SLOW}})
    cloud.work()
    task = at.operate("rebuild", {"image": "guest-2"})
    with at_work(cloud) as worker:
        until(lambda: runs(2)(server), "the new guest")
        task.cancel()
        until(lambda: server.slot_of(2).process() is None, "the undo to have begun")
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
    cloud.work()
    assert task.state == "CANCELLED", task.failure
    assert [slot.number for slot in server.slots()] == [1]
    assert (server.slot.process(), server.slot.power()) == (first, RUNNING)
    assert (at.lifecycle, _boots(server)) == ("ACTIVE", 1)


def children_of(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        return [int(word) for word in path.read_text().split()]
    except FileNotFoundError:
        return []


def grandchildren(pid: int) -> list[int]:
    """Of a worker: the processes of its steps."""
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [step for path in threads for child in path.read_text().split() for step in children_of(int(child))]


@pytest.mark.requirement("IRONIC-2", "IRONIC-3", "P3")
def test_a_driver_that_hangs_in_c_hears_no_cancel_and_is_ended_by_abort(cloud: Cloud) -> None:
    at = cloud.create(metadata={"faults": "suspend=block"})
    before = cloud.slot(at).heartbeat()
    task = at.operate("suspend")
    with at_work(cloud) as worker:
        until(lambda: len(grandchildren(worker.pid)) == 1, "the driver to hang")
        (hung,) = grandchildren(worker.pid)
        # Else it may be asked to stop before it has begun, and then it ends at once.
        until(lambda: "nanosleep" in Path(f"/proc/{hung}/wchan").read_text(), "it to sleep in C")

        task.cancel()
        assert task.state == "CANCELLING"
        seen = _beat(cloud, at)
        until(lambda: _beat(cloud, at) > seen, "a beat of the guest")
        assert task.state == "CANCELLING"  # never CANCELLED while its code runs
        assert grandchildren(worker.pid) == [hung]

        asked = time.monotonic()
        task.abort()
        assert task.wait(timeout_s=30).state == "ABORTED"
        assert time.monotonic() - asked < 10
        until(lambda: hung not in grandchildren(worker.pid), "the process to be gone")
        assert task.view()["effect"] == "unknown"

        # A look that takes no claim says what is true, and the next operation goes through.
        until(lambda: at.sync_status == "IN_SYNC", "the look at the server")
        assert at.lifecycle == "ACTIVE"
        after = cloud.slot(at).heartbeat()
        assert before is not None
        assert after is not None
        assert (after.pid, after.boot) == (before.pid, before.boot)
        stopped = at.operate("stop")
        assert stopped.wait(timeout_s=30).state == "SUCCEEDED"


def _beat(cloud: Cloud, at: At) -> int:
    seen = cloud.slot(at).heartbeat()
    return seen.beat if seen else 0
