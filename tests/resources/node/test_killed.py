"""kill -9 of the worker before and after every append of an operation: another goes on, and the machine's own log says
that nothing was repeated before a look."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import holdfast as hf
from tests.resources.node.conftest import POLL_S, Node, Yard
from tests.resources.node.test_power import OFF, ON, no_repeat_without_a_look

SETTINGS = {"node_poll_s": POLL_S, "node_settle_s": 0.1, "node_call_s": 2.0, "lease_s": 1.0}


class Workers:
    """See working.py."""

    def __init__(self, url: str) -> None:
        self._made = subprocess.Popen(
            [sys.executable, "-m", "tests.resources.node.working", url, json.dumps(SETTINGS)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def work(self, when: str, number: int) -> bool:
        """Whether it was killed: else it has done all there was."""
        assert self._made.stdin is not None
        assert self._made.stdout is not None
        self._made.stdin.write(f"{when} {number}\n")
        self._made.stdin.flush()
        code = int(self._made.stdout.readline())
        assert code in (0, -signal.SIGKILL)
        return code != 0

    def close(self) -> None:
        self._made.communicate()


class Ward(Yard):
    """Its tasks are done by processes that are killed, and by the test when it says so."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, node_call_s=2.0)
        self.workers = Workers(self.url)

    def until_ended(self, task: hf.Task) -> hf.Task:
        self.hold.work(until_idle=True)
        return task


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    made = Ward(tmp_path)
    with made.hold:
        yield made
    made.workers.close()


def killed_everywhere(ward: Ward, operation: str, **knobs: object) -> Iterator[tuple[Node, hf.Task]]:
    """The operation, once for each append before and after which its worker is killed, done by another in the end."""
    for when in ("before", "after"):
        number = 1
        while True:
            node = ward.enrol(f"{when}-{number}", **knobs)
            task = node.operate(operation)
            was_killed = ward.workers.work(when, number)
            assert (task.view()["finish_time"] is None) or not was_killed or when == "after"
            ward.until_ended(task)
            yield node, task
            if not was_killed:
                break
            number += 1
        assert number > 5


@pytest.mark.requirement("IRONIC-3", "NOVA-14")
def test_a_soft_reboot_ends_in_the_state_asked_for_wherever_its_worker_dies(ward: Ward) -> None:
    for node, task in killed_everywhere(ward, "soft_reboot", off_s=0.03):
        assert task.state == "SUCCEEDED", task.failure
        assert ward.machine(node).power == ON
        assert ward.shown(node) == (ON, None)
        assert set(ward.sent(node)) == {"soft power off", ON}
        no_repeat_without_a_look(ward, node)


@pytest.mark.requirement("NOVA-15")
def test_an_interrupt_is_sent_once_at_most_wherever_its_worker_dies(ward: Ward) -> None:
    ends = set()
    for node, task in killed_everywhere(ward, "inject_nmi"):
        sent = ward.sent(node)
        assert len(sent) <= 1
        if task.state == "SUCCEEDED":
            assert (sent, ward.shown(node)) == (["inject nmi"], (ON, None))
        else:
            assert (task.state, task.view()["error"]["code"]) == ("FAILED", "power.unknown")
            assert ward.shown(node) == ("error", None)
            assert "nobody knows whether it has come" in ward.states(node)["last_error"]
        ends.add(task.state)
    assert ends == {"SUCCEEDED", "FAILED"}


@pytest.mark.requirement("IRONIC-1")
def test_a_cancelled_soft_reboot_leaves_the_node_on_wherever_its_worker_dies(ward: Ward) -> None:
    for number in range(3, 9):
        node = ward.enrol(f"cancel-{number}", soft_off="ignored")
        task = node.operate("soft_reboot")
        ward.workers.work("after", number)
        task.cancel()
        ward.workers.work("after", 2)
        if ward.sent(node) and number % 2:
            ward.machine(node).turn(OFF)  # the guest has heard it after all
        ward.until_ended(task)
        assert task.state == "CANCELLED", task.failure
        assert ward.machine(node).power == ON
        assert ward.shown(node) == (ON, None)
