"""What becomes of a task whose BMC lies: a clear failure in time, or the right end; and no command twice unseen."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import holdfast as hf
from holdfast.resources.node.words import INJECT_NMI, POWER_OFF, POWER_ON, SOFT_POWER_OFF
from holdfast.seal import new_key
from peers.lying_redfish import ACTION, SYSTEM, LyingRedfish
from peers.redfish_bmc import RedfishBmc, redfish_bmc
from tests.resources.node.conftest import Node, Yard

REPOSITORY = Path(__file__).parents[3]
#: What an operation may take, and how much more its task.
TIMEOUT_S = 1.2
LATE_S = 3.0
CALL_S = 1.0
RACES = 20


class Racks(Yard):
    """A yard whose machines are behind Redfish."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.key = new_key()
        super().__init__(directory, secret_key=self.key, **{"node_call_s": CALL_S, **settings})

    def add(self, info: dict[str, Any], name: str = "rack-1") -> Node:
        task = self.ask_to_add(info, name)
        assert self.until_ended(task).state == "SUCCEEDED", task.failure
        return self.hold.resource("node", str(task.view()["resource_id"]))

    def ask_to_add(self, info: dict[str, Any], name: str = "rack-1") -> hf.Task:
        return self.hold.operate("node", "create", desired={"name": name, "driver": "redfish", "driver_info": info})


@pytest.fixture
def racks(tmp_path: Path) -> Iterator[Racks]:
    made = Racks(tmp_path)
    with made.hold, made.hold.working():
        yield made


def told(task: hf.Task) -> tuple[str, str, str]:
    error = task.view()["error"] or {"code": "", "detail": ""}
    return task.state, error["code"], error["detail"]


def looked_before_each(liar: LyingRedfish) -> bool:
    """Whether the BMC was asked for the power between any two commands, by its own log."""
    heard = [line for line in liar.heard() if "method" in line]
    kinds = ["!" if line["path"] == ACTION else "?" if line["path"] == SYSTEM else "" for line in heard]
    # A command itself asks for the system once, to know what is offered: a look is another one.
    return not re.search(r"!\??!", "".join(kinds))


# --- faults


@pytest.mark.requirement("P11")
@pytest.mark.parametrize(
    ("lies", "code", "said", "sent"),
    [
        ({"password": "refuse"}, "bmc.auth", "refused the user name or the password", 0),
        ({"system": "html"}, "bmc.failed", "text/html that is no JSON object", 0),
        ({"system": "truncated"}, "bmc.failed", "no JSON object", 0),
        ({"system": "no_power"}, "bmc.failed", "PowerState is None", 0),
        ({"system": "half"}, "bmc.unreachable", "broke off|closed the connection", 0),
        ({"offers": ["On"]}, "bmc.refused", "does not offer ForceOff", 0),
        ({"reset": "say_no"}, "bmc.refused", r"won't do it \(409\): The lid is open", 1),
        ({"reset": "broken"}, "bmc.failed", r"\(500\): The power supply is on fire", 1),
        ({"reset": "html"}, "bmc.failed", "text/html that is no JSON object", 1),
        ({"reset": "drop"}, "power.timeout", "closed the connection before it had answered", 3),
        ({"reset": "busy"}, "power.timeout", r"won't do it \(503\): busy", 3),
        ({"reset": "hang"}, "power.timeout", "gave no answer within 1 s", 2),
        ({"task": "critical"}, "bmc.failed", "ended Completed with status Critical: The power supply is on fire", 1),
        ({"task": "exception"}, "bmc.failed", "ended Exception .*: The power supply is on fire", 1),
        ({"task": "error"}, "bmc.failed", r"failed at it \(500\): The power supply is on fire", 1),
        ({"task": "forever"}, "power.timeout", "still is power on; the BMC said: its task is Running", 1),
        ({"task": "nothing_done"}, "power.timeout", r"the BMC said: .* has forgotten its task \(404\)", 1),
    ],
)
def test_a_fault_is_a_clear_failure_in_time(
    racks: Racks, liar: LyingRedfish, lies: dict[str, Any], code: str, said: str, sent: int
) -> None:
    node = racks.add(liar.driver_info)
    liar.lie(retry_after="0", **lies)
    began = time.monotonic()
    task = racks.do(node, "power_off", {"timeout": TIMEOUT_S})
    took = time.monotonic() - began

    assert told(task)[:2] == ("FAILED", code)
    assert re.search(said, told(task)[2]), told(task)
    assert liar.driver_info["password"] not in str(task.view())
    assert took < TIMEOUT_S + LATE_S
    assert len(liar.log()) <= max(sent, 1)
    assert (len(liar.log()) > 0) == (sent > 0)
    assert looked_before_each(liar)
    power, target = racks.shown(node)
    assert target is None
    assert power == ("error" if sent and code != "bmc.refused" else "power on")


def test_a_bmc_that_hangs_is_a_clear_failure_in_time(racks: Racks, liar: LyingRedfish) -> None:
    node = racks.add(liar.driver_info)
    liar.hang()
    began = time.monotonic()
    task = racks.do(node, "power_off", {"timeout": TIMEOUT_S})
    took = time.monotonic() - began
    liar.wake()

    assert told(task)[:2] == ("FAILED", "bmc.unreachable")
    assert "gave no answer within" in told(task)[2]
    assert took < 3 * CALL_S + LATE_S
    assert liar.log() == []


@pytest.mark.requirement("P11")
@pytest.mark.parametrize(
    "lies",
    [
        {"reset": "lose_reply"},
        {"reset": "half"},
        {"reset": "mute"},
        {"task": "good"},
        {"task": "as_task", "looks": 2},
        {"task": "forget"},
        {"task": "forget_410"},
        {"task": "no_location"},
        {"task": "good", "retry_after": "date"},
    ],
)
def test_what_has_been_done_is_seen_and_not_done_again(racks: Racks, liar: LyingRedfish, lies: dict[str, Any]) -> None:
    node = racks.add(liar.driver_info)
    liar.lie(**{"retry_after": "0", **lies})
    task = racks.do(node, "power_off", {"timeout": 10.0})

    assert told(task) == ("SUCCEEDED", "", "")
    assert (liar.log(), liar.power, racks.shown(node)) == ([POWER_OFF], POWER_OFF, (POWER_OFF, None))


def test_when_the_bmc_wants_to_be_asked_again_is_kept(racks: Racks, liar: LyingRedfish) -> None:
    node = racks.add(liar.driver_info)
    liar.lie(task="forever", retry_after="1")
    racks.do(node, "power_off", {"timeout": 1.5})

    assert 1 <= liar.looks() <= 2


def test_the_time_in_which_the_bmc_wants_to_be_left_alone_counts(tmp_path: Path, liar: LyingRedfish) -> None:
    racks = Racks(tmp_path, node_call_s=0.2)
    with racks.hold, racks.hold.working():
        node = racks.add(liar.driver_info)
        liar.lie(task="forever", retry_after="1")
        began = time.monotonic()
        task = racks.do(node, "power_off", {"timeout": 3.0})
        took = time.monotonic() - began
        assert told(task)[:2] == ("FAILED", "power.timeout")
    assert 2.9 < took < 3.0 + LATE_S


@pytest.mark.parametrize(("kind", "effect"), [("lose_reply", "reset"), ("forget", "task")])
def test_an_nmi_of_which_nobody_knows_is_told_as_that(racks: Racks, liar: LyingRedfish, kind: str, effect: str) -> None:
    node = racks.add(liar.driver_info)
    liar.lie(retry_after="0", **{effect: kind})
    task = racks.do(node, "inject_nmi", {"timeout": TIMEOUT_S})

    assert told(task)[:2] == ("FAILED", "power.unknown")
    assert liar.log() == [INJECT_NMI]
    assert racks.shown(node) == ("error", None)


@pytest.mark.requirement("P11")
@pytest.mark.parametrize("done", [True, False])
def test_a_bmc_that_restarts_in_the_middle_loses_its_task_and_not_ours(
    racks: Racks, liar: LyingRedfish, done: bool
) -> None:
    node = racks.add(liar.driver_info)
    liar.lie(task="forever", retry_after="0")
    task = node.operate("soft_power_off", {"timeout": 4.0})
    racks.until(lambda: liar.looks() > 1, "the task to be followed")
    liar.stop()
    if done:
        liar.power = POWER_OFF
    liar.start()
    racks.until_ended(task)

    assert liar.log() == [SOFT_POWER_OFF]
    if done:
        assert told(task) == ("SUCCEEDED", "", "")
    else:
        assert told(task)[:2] == ("FAILED", "power.timeout")
        assert "has forgotten its task (404): it has ended, or was lost" in told(task)[2]


def test_a_password_that_is_refused_in_the_middle_is_not_tried_again_and_again(
    racks: Racks, liar: LyingRedfish
) -> None:
    node = racks.add(liar.driver_info)
    liar.lie(task="forever", retry_after="0")
    task = node.operate("power_off")
    racks.until(lambda: liar.looks() > 1, "the task to be followed")
    liar.lie(password="refuse")
    racks.until_ended(task)

    assert told(task)[:2] == ("FAILED", "bmc.auth")
    assert sum("login" in line and line["login"] is None for line in liar.heard()) <= 2
    assert racks.shown(node) == ("error", None)


def test_a_password_that_is_wrong_leaves_the_node_enrolled_and_says_why(racks: Racks, liar: LyingRedfish) -> None:
    task = racks.until_ended(racks.ask_to_add({**liar.driver_info, "password": "hunter22"}))
    node = racks.hold.resource("node", str(task.view()["resource_id"]))

    assert told(task)[:2] == ("FAILED", "bmc.auth")
    assert "hunter22" not in str(task.view()) + str(node.view())
    assert node.lifecycle == "enroll"


# --- deaths

WORKER = """
import sys
import holdfast as hf
from holdfast.resources.node.kind import make_node
url, key = sys.argv[1:]
with hf.open(url, kinds=[make_node()], secret_key=key, node_poll_s=0.02, node_call_s=1.0, lease_s=1.0) as hold:
    hold.work(until_idle=False)
"""


def die(racks: Racks, when: Callable[[], object]) -> None:
    """kill -9 of a worker in a process of its own."""
    with subprocess.Popen([sys.executable, "-c", WORKER, racks.url, racks.key], cwd=REPOSITORY) as worker:
        try:
            racks.until(when, "the worker to come so far")
        finally:
            worker.kill()


@pytest.mark.requirement("P11", "TF-16")
def test_a_worker_that_dies_while_it_follows_is_followed_by_another(tmp_path: Path, liar: LyingRedfish) -> None:
    """The monitor is in the database; the BMC hears one command, and looks from both workers."""
    racks = Racks(tmp_path)
    with racks.hold:
        with racks.hold.working():
            node = racks.add(liar.driver_info)
        liar.lie(task="good", looks=1_000_000, retry_after="0")
        task = node.operate("power_off")
        die(racks, lambda: liar.looks() > 2)
        seen = liar.looks()
        assert (liar.log(), task.view()["finish_time"]) == ([POWER_OFF], None)
        liar.lie(task="good", looks=seen + 5, retry_after="0")
        with racks.hold.working():
            racks.until_ended(task)
        assert told(task) == ("SUCCEEDED", "", "")
    assert liar.log() == [POWER_OFF]
    monitors = {line["path"] for line in liar.heard() if "TaskMonitors" in str(line.get("path"))}
    assert len(monitors) == 1
    assert liar.looks() > seen


@pytest.mark.requirement("P11")
@pytest.mark.parametrize(
    ("operation", "lie", "end", "heard"),
    [
        ("power_off", "mute", ("SUCCEEDED", ""), [POWER_OFF]),
        ("power_off", "hang", ("SUCCEEDED", ""), [POWER_OFF, POWER_OFF]),
        ("inject_nmi", "mute", ("FAILED", "power.unknown"), [INJECT_NMI]),
    ],
)
def test_a_worker_that_dies_while_it_commands(
    tmp_path: Path, liar: LyingRedfish, operation: str, lie: str, end: tuple[str, str], heard: list[str]
) -> None:
    """What was done is seen; what was not done is done, after a look; what can't be seen is not done again."""
    racks = Racks(tmp_path)
    with racks.hold:
        with racks.hold.working():
            node = racks.add(liar.driver_info)
        liar.lie(reset=lie)
        task = node.operate(operation, {"timeout": 20.0})
        die(racks, liar.log)
        liar.lie()
        with racks.hold.working():
            racks.until_ended(task)
        assert told(task)[:2] == end
    assert liar.log() == heard
    assert looked_before_each(liar)


# --- aborts


@pytest.mark.requirement("IRONIC-3", "IRONIC-7")
@pytest.mark.parametrize(
    ("operation", "lies"),
    [
        ("soft_power_off", {"reset": "hang"}),
        ("soft_power_off", {"task": "forever"}),
        ("soft_reboot", {"deaf": True}),
        ("inject_nmi", {"reset": "hang"}),
        ("inject_nmi", {"task": "forever"}),
    ],
)
def test_an_abort_frees_the_node_within_a_second(
    tmp_path: Path, liar: LyingRedfish, operation: str, lies: dict[str, Any]
) -> None:
    racks = Racks(tmp_path, node_call_s=20.0)
    with racks.hold, racks.hold.working():
        node = racks.add(liar.driver_info)
        liar.lie(**lies)
        task = node.operate(operation)
        racks.until(liar.log, "the command to be sent")
        liar.lie(deaf=True)
        began = time.monotonic()
        abort = racks.until_ended(node.operate(f"abort_{operation}"))
        off = racks.do(node, "power_off")
        took = time.monotonic() - began

        assert (abort.view()["result"]["answer"]["state"], told(task)[0]) == ("ABORTED", "ABORTED")
        assert told(off) == ("SUCCEEDED", "", "")
        assert (took < 1.0, liar.log()[1:]) == (True, [POWER_OFF])


@pytest.mark.parametrize(("lie", "given_up"), [({}, 1), ({"give_up": "refuse"}, 0), ({"give_up": "hang"}, 0)])
def test_a_bmc_is_asked_to_give_up_its_task_with_ours_and_holds_nobody_up(
    racks: Racks, liar: LyingRedfish, lie: dict[str, Any], given_up: int
) -> None:
    node = racks.add(liar.driver_info)
    liar.lie(task="forever", retry_after="0", **lie)
    node.operate("soft_power_off")
    racks.until(lambda: liar.looks() > 1, "the task to be followed")
    began = time.monotonic()
    abort = node.operate("abort_soft_power_off")
    if lie.get("give_up") == "hang":
        racks.until(lambda: deletes(liar) == 1, "the BMC to be asked")
    else:
        racks.until_ended(abort)
    liar.lie(**{name: lie[name] for name in lie if name == "give_up"})
    off = racks.do(node, "power_off")
    assert time.monotonic() - began < 1.0
    assert told(off) == ("SUCCEEDED", "", "")
    assert racks.until_ended(abort).view()["result"]["answer"]["state"] == "ABORTED"
    assert (liar.log(), deletes(liar), liar.given_up()) == ([SOFT_POWER_OFF, POWER_OFF], 1, given_up)


def deletes(liar: LyingRedfish) -> int:
    return sum(line.get("method") == "DELETE" for line in liar.heard())


# --- a BMC by other people


@pytest.mark.requirement("IRONIC-11")
def test_a_soft_reboot_of_a_real_bmc(tmp_path: Path) -> None:
    racks = Racks(tmp_path)
    with redfish_bmc(tmp_path / "bmc") as peer, racks.hold, racks.hold.working():
        peer.power = POWER_ON
        peer.turn("acpi_delay", 0.1)
        node = racks.add(peer.driver_info)

        assert told(racks.do(node, "soft_reboot")) == ("SUCCEEDED", "", "")
        assert (peer.log(), peer.power, racks.shown(node)) == ([SOFT_POWER_OFF, POWER_ON], POWER_ON, (POWER_ON, None))


def pressed(peer: RedfishBmc, times: int) -> bool:
    return peer.log().count(SOFT_POWER_OFF) == times


@pytest.mark.requirement("IRONIC-18")
def test_abort_against_completion_has_one_winner_on_a_real_bmc(tmp_path: Path) -> None:
    wins = {"ABORTED": 0, "SUCCEEDED": 0}
    racks = Racks(tmp_path)
    with redfish_bmc(tmp_path / "bmc") as peer, racks.hold, racks.hold.working():
        node = racks.add(peer.driver_info)
        for number in range(RACES):
            peer.power = POWER_ON
            peer.turn("acpi_delay", 0.05 if number else 5)
            task = node.operate("soft_power_off")
            racks.until(partial(pressed, peer, number + 1), "the button to be pressed")
            if number == RACES - 1:
                racks.until_ended(task)  # that one is lost for sure, as the first one is won
            threading.Event().wait(0.008 * number)
            abort = racks.until_ended(node.operate("abort_soft_power_off"))
            racks.until_ended(task)
            said = abort.view()["result"]["answer"]
            assert abort.state == "SUCCEEDED"
            if task.state == "ABORTED":
                assert said == {"task": task.view()["uuid"], "state": "ABORTED"}
                assert racks.shown(node) == ("error", None)
            else:
                assert told(task) == ("SUCCEEDED", "", "")
                assert said["state"] is None
                assert racks.shown(node) == (POWER_OFF, None)
            wins[task.state] += 1
            assert racks.do(node, "power_off").state == "SUCCEEDED"  # it takes its next command

    assert sum(wins.values()) == RACES
    assert all(wins.values()), wins
