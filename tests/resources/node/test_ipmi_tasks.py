"""What becomes of a task whose BMC speaks IPMI and is not well: a clear failure in time, or the right end; no command
twice unseen, by the BMC's own log; and who wins where an abort meets the end."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

import holdfast as hf
from holdfast.resources.node.words import INJECT_NMI, POWER_OFF, POWER_ON, SOFT_POWER_OFF
from holdfast.seal import new_key
from holdfast.testing.outside import family, until
from peers.chassis import READ, Peer
from peers.ipmi_sim import ipmi_sim
from peers.pyghmi_bmc import pyghmi_bmc
from tests.resources.node.conftest import Node, Yard

#: What an operation may take, how much more its task, and one call.
TIMEOUT_S = 2.0
LATE_S = 3.0
CALL_S = 1.0
RACES = 20
#: After an abort, until the node takes its next command.
FREE_S = 1.0
#: A look is a process.
POLL_S = 0.1

Make = Callable[[Path], AbstractContextManager[Peer]]


@pytest.fixture
def racks(tmp_path: Path) -> Iterator[Yard]:
    made = Yard(tmp_path, secret_key=new_key(), node_call_s=CALL_S, node_poll_s=POLL_S)
    with made.hold, made.hold.working():
        yield made


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[Peer]:
    with ipmi_sim(tmp_path / "sim") as peer:
        peer.power = POWER_ON
        yield peer


@pytest.fixture
def bmc(tmp_path: Path) -> Iterator[Peer]:
    with pyghmi_bmc(tmp_path / "bmc") as peer:
        peer.power = POWER_ON
        yield peer


def add(yard: Yard, peer: Peer, driver: str = "ipmi") -> Node:
    task = yard.until_ended(ask_to_add(yard, peer, driver))
    assert task.state == "SUCCEEDED", task.failure
    return yard.hold.resource("node", str(task.view()["resource_id"]))


def ask_to_add(yard: Yard, peer: Peer, driver: str = "ipmi") -> hf.Task:
    desired = {"name": f"rack-{peer.pid}", "driver": driver, "driver_info": peer.driver_info}
    return yard.hold.operate("node", "create", desired=desired)


def told(task: hf.Task) -> tuple[str, str, str]:
    error = task.view()["error"] or {"code": "", "detail": ""}
    return task.state, error["code"], error["detail"]


def looked_between_commands(peer: Peer) -> bool:
    return all(READ in pair for pair in itertools.pairwise(peer.calls()))


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("P11")
@pytest.mark.parametrize(
    ("switch", "value", "code", "said", "sent"),
    [
        ("fail", "0xff", "bmc.failed", "completion code 0xff, Unspecified error", 1),
        ("fail", "0xd5", "bmc.refused", "completion code 0xd5, Command not supported in present state", 1),
        ("garbage", "short", "bmc.failed", "answered no chassis status, but no bytes", 0),
        ("garbage", "noise", "bmc.unreachable", r"gave no answer within [\d.]+ s and had been sent the request", 0),
    ],
)
def test_a_fault_is_a_clear_failure_in_time(
    racks: Yard, bmc: Peer, switch: str, value: str, code: str, said: str, sent: int
) -> None:
    node = add(racks, bmc)
    bmc.turn(switch, value)
    began = time.monotonic()
    task = racks.do(node, "power_off", {"timeout": TIMEOUT_S})
    assert time.monotonic() - began < TIMEOUT_S + LATE_S
    assert told(task)[:2] == ("FAILED", code)
    assert re.search(said, told(task)[2]), told(task)
    assert bmc.log() == [POWER_OFF] * sent
    did_nothing = code == "bmc.refused" or not sent
    assert (task.view()["effect"] == "none") == did_nothing
    assert racks.shown(node) == (POWER_ON if did_nothing else "error", None)
    assert racks.states(node)["last_error"] == told(task)[2]


@pytest.mark.requirement("P11")
def test_a_bmc_that_hangs_before_it_is_told_anything_has_done_nothing(racks: Yard, sim: Peer) -> None:
    node = add(racks, sim)
    sim.hang()
    began = time.monotonic()
    task = racks.do(node, "power_off", {"timeout": TIMEOUT_S})
    assert time.monotonic() - began < 3 * CALL_S + LATE_S  # it is asked three times
    assert told(task)[:2] == ("FAILED", "bmc.unreachable")
    assert re.search(r"the BMC at 127\.0\.0\.1 port \d+ gave no answer within 1\.0 s", told(task)[2])
    assert (task.view()["effect"], sim.log()) == ("none", [])
    sim.wake()
    assert racks.do(node, "power_off").state == "SUCCEEDED"
    assert sim.log() == [POWER_OFF]


@pytest.mark.requirement("P11")
def test_a_bmc_that_hangs_in_the_middle_leaves_the_node_in_error(racks: Yard, sim: Peer) -> None:
    node = add(racks, sim)
    sim.turn("mute")
    began = time.monotonic()
    task = racks.do(node, "power_off", {"timeout": TIMEOUT_S})
    assert time.monotonic() - began < TIMEOUT_S + LATE_S
    assert told(task)[:2] == ("FAILED", "bmc.unreachable")
    assert "power off: after 2 s nobody knows where the machine is; the BMC said: the BMC at " in told(task)[2]
    assert task.view()["effect"] != "none"
    assert (racks.shown(node), sim.log()) == (("error", None), [POWER_OFF])


@pytest.mark.requirement("P11", "TF-16")
def test_an_answer_that_was_lost_is_found_out_by_looking(racks: Yard, bmc: Peer) -> None:
    node = add(racks, bmc)
    bmc.turn("mute")
    task = racks.do(node, "power_off")
    assert task.state == "SUCCEEDED", told(task)
    assert (racks.shown(node), bmc.log()) == ((POWER_OFF, None), [POWER_OFF])


def test_a_bmc_that_resets_in_the_middle_is_looked_at_before_it_is_told_again(racks: Yard, bmc: Peer) -> None:
    """It has forgotten the command."""
    node = add(racks, bmc)
    bmc.turn("reset", 0.5)
    task = racks.do(node, "power_off")
    assert task.state == "SUCCEEDED", told(task)
    assert (bmc.power, bmc.log()) == (POWER_OFF, [POWER_OFF, POWER_OFF])
    assert looked_between_commands(bmc)


def test_packets_that_get_lost_cost_time_and_no_command(racks: Yard, bmc: Peer) -> None:
    node = add(racks, bmc)
    bmc.turn("drop", "3 1")
    task = racks.do(node, "power_off")
    assert task.state == "SUCCEEDED", told(task)
    assert bmc.log() == [POWER_OFF]


@pytest.mark.requirement("P11")
def test_a_wrong_password_lets_no_node_in_and_is_shown_nowhere(racks: Yard, sim: Peer) -> None:
    sim.driver_info["password"] = "not-the-password"
    task = racks.until_ended(ask_to_add(racks, sim))
    assert told(task)[:2] == ("FAILED", "bmc.auth")
    assert "refused the user name, the password or the privilege: RAKP 2 HMAC is invalid" in told(task)[2]
    node = racks.hold.resource("node", str(task.view()["resource_id"]))
    assert node.lifecycle == "enroll"
    events = [str(event) for event in racks.hold.events()]
    shown = json.dumps([task.view(), node.view(), racks.states(node), events], default=str)
    assert "not-the-password" not in shown
    assert sim.calls() == []


@pytest.mark.requirement("P11")
def test_a_password_that_is_no_longer_right_stops_the_next_operation_before_it_does_anything(
    racks: Yard, sim: Peer
) -> None:
    node = add(racks, sim)
    wrong = {"name": "rack-1", "driver": "ipmi", "driver_info": sim.driver_info | {"password": "not-this-one"}}
    changed = racks.until_ended(racks.hold.operate("node", "update", node.id, desired=wrong))
    assert told(changed)[:2] == ("FAILED", "bmc.auth")
    task = racks.do(node, "power_off")
    assert told(task)[:2] == ("FAILED", "bmc.auth")
    assert (task.view()["effect"], racks.shown(node), sim.log()) == ("none", (POWER_ON, None), [])


# --- a worker that dies -----------------------------------------------------------------------------------------------

WORKER = """
import sys
import holdfast as hf
from holdfast.resources.node.kind import make_node

url, key = sys.argv[1:]
with hf.open(url, kinds=[make_node()], secret_key=key, node_poll_s=0.05, lease_s=1.0) as hold:
    hold.work()
"""


def die(racks: Yard, key: str, when: Callable[[], object]) -> None:
    """kill -9 of a worker in a process of its own."""
    with subprocess.Popen([sys.executable, "-c", WORKER, racks.url, key]) as worker:
        try:
            racks.until(when, "the worker to come so far")
        finally:
            worker.kill()


@pytest.mark.requirement("P11", "TF-16")
@pytest.mark.parametrize(
    ("operation", "switch", "end", "heard"),
    [
        ("soft_reboot", "ignore_acpi", ("SUCCEEDED", ""), [SOFT_POWER_OFF, POWER_ON]),
        ("power_off", "mute", ("SUCCEEDED", ""), [POWER_OFF]),
        ("inject_nmi", "mute", ("FAILED", "power.unknown"), [INJECT_NMI]),
    ],
)
def test_a_worker_that_dies_after_the_command_leaves_another_to_look(
    tmp_path: Path, bmc: Peer, operation: str, switch: str, end: tuple[str, str], heard: list[str]
) -> None:
    key = new_key()
    racks = Yard(tmp_path, secret_key=key, node_poll_s=POLL_S)
    with racks.hold:
        with racks.hold.working():
            node = add(racks, bmc)
        bmc.turn(switch)
        task = node.operate(operation)
        die(racks, key, lambda: bmc.log() == heard[:1])
        assert task.view()["finish_time"] is None
        bmc.release(switch)
        if operation == "soft_reboot":
            bmc.power = POWER_OFF  # the guest has heard after all
        with racks.hold.working():
            racks.until_ended(task)
        assert told(task)[:2] == end, told(task)
        assert bmc.log() == heard
        assert looked_between_commands(bmc)


@pytest.mark.requirement("P11", "TF-16")
def test_ipmitool_dies_with_its_worker(tmp_path: Path, sim: Peer) -> None:
    """What was on its way to a BMC that hung does not arrive when it wakes."""
    key = new_key()
    racks = Yard(tmp_path, secret_key=key, node_poll_s=POLL_S)
    with racks.hold:
        with racks.hold.working():
            node = add(racks, sim)
        task = node.operate("power_off")
        sim.hang()
        before = family()
        die(racks, key, lambda: any(is_ipmitool(process) for process in family() - before))
        assert until(lambda: not any(map(is_ipmitool, family() - before)))
        sim.wake()
        assert sim.log() == []
        with racks.hold.working():
            racks.until_ended(task)
        assert (told(task)[0], sim.log()) == ("SUCCEEDED", [POWER_OFF])


def is_ipmitool(process: int) -> bool:
    try:
        return Path("/proc", str(process), "comm").read_text(encoding="utf-8") == "ipmitool\n"
    except OSError:
        return False


# --- guests -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", ["sim", "bmc"])
def test_a_guest_that_ignores_its_button_runs_out_of_time(racks: Yard, of: str, request: pytest.FixtureRequest) -> None:
    peer: Peer = request.getfixturevalue(of)
    node = add(racks, peer)
    peer.turn("ignore_acpi")
    task = racks.do(node, "soft_power_off", {"timeout": 1.0})
    assert told(task) == ("FAILED", "power.timeout", "soft power off: after 1 s the machine still is power on")
    assert (racks.shown(node), peer.log()) == (("error", None), [SOFT_POWER_OFF])


@pytest.mark.parametrize("of", ["sim", "bmc"])
def test_a_slow_guest_is_waited_for_and_then_switched_on(racks: Yard, of: str, request: pytest.FixtureRequest) -> None:
    peer: Peer = request.getfixturevalue(of)
    node = add(racks, peer)
    peer.turn("acpi_delay", 0.5)
    task = racks.do(node, "soft_reboot")
    assert task.state == "SUCCEEDED", told(task)
    assert (peer.power, peer.log()) == (POWER_ON, [SOFT_POWER_OFF, POWER_ON])
    assert looked_between_commands(peer)


# --- NMI --------------------------------------------------------------------------------------------------------------


def test_an_nmi_is_sent_once(racks: Yard, bmc: Peer) -> None:
    node = add(racks, bmc)
    task = racks.do(node, "inject_nmi")
    assert task.state == "SUCCEEDED", told(task)
    assert (racks.shown(node), bmc.log()) == ((POWER_ON, None), [INJECT_NMI])


def test_an_nmi_that_a_bmc_does_not_know_is_refused_by_it(racks: Yard, sim: Peer) -> None:
    task = racks.do(add(racks, sim), "inject_nmi")
    assert told(task)[:2] == ("FAILED", "bmc.refused")
    assert told(task)[2].endswith("completion code 0xcc, Invalid data field in request")
    assert task.view()["effect"] == "none"


def test_an_nmi_whose_answer_was_lost_is_unknown_and_not_repeated(racks: Yard, bmc: Peer) -> None:
    node = add(racks, bmc)
    bmc.turn("mute")
    task = racks.do(node, "inject_nmi")
    assert told(task)[:2] == ("FAILED", "power.unknown")
    assert "inject nmi: nobody knows whether it has come: the BMC at 127.0.0.1" in told(task)[2]
    assert bmc.log() == [INJECT_NMI]


@pytest.mark.requirement("IRONIC-3", "IRONIC-7")
def test_irmc_aborts_an_nmi_that_hangs_and_its_ipmitool_ends_with_it(tmp_path: Path, bmc: Peer) -> None:
    racks = Yard(tmp_path, secret_key=new_key(), node_poll_s=POLL_S)  # a call has 20 s
    with racks.hold, racks.hold.working():
        node = add(racks, bmc, "irmc")
        bmc.turn("mute")
        before = family()
        task = node.operate("inject_nmi")
        racks.until(lambda: bmc.log() == [INJECT_NMI])
        asked = time.monotonic()
        stopped = racks.until_ended(node.operate("abort_inject_nmi"))
        assert time.monotonic() - asked < FREE_S
        assert (stopped.state, stopped.view()["result"]["answer"]["state"]) == ("SUCCEEDED", "ABORTED")
        assert (told(task)[0], racks.shown(node)) == ("ABORTED", ("error", None))
        bmc.release("mute")
        assert racks.do(node, "power_off").state == "SUCCEEDED"
        assert not any(map(is_ipmitool, family() - before))
        assert bmc.log() == [INJECT_NMI, POWER_OFF]


@pytest.mark.requirement("IRONIC-2", "IRONIC-3")
def test_an_abort_frees_the_node_of_a_bmc_that_hangs(tmp_path: Path, sim: Peer) -> None:
    racks = Yard(tmp_path, secret_key=new_key(), node_poll_s=POLL_S)  # a call has 20 s
    with racks.hold, racks.hold.working():
        node = add(racks, sim)
        before = family()
        sim.hang()
        task = node.operate("soft_power_off")
        racks.until(lambda: any(is_ipmitool(process) for process in family() - before))
        hanging = family() - before
        asked = time.monotonic()
        abort, following = node.operate("abort_soft_power_off"), node.operate("power_off")
        racks.until(lambda: following.state == "RUNNING" and any(map(is_ipmitool, family() - before - hanging)))
        assert time.monotonic() - asked < FREE_S
        assert (racks.until_ended(abort).state, task.state) == ("SUCCEEDED", "ABORTED")
        assert not hanging & family()
        sim.wake()
        assert racks.until_ended(following).state == "SUCCEEDED"
        assert sim.log() == [POWER_OFF]


# --- a race -----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("IRONIC-18")
@pytest.mark.parametrize("make", [ipmi_sim, pyghmi_bmc])
def test_abort_against_completion_has_one_winner(tmp_path: Path, make: Make) -> None:
    """The abort comes a little later where it has won, and a little sooner where it has lost: it finds the edge."""
    racks = Yard(tmp_path, secret_key=new_key(), node_poll_s=POLL_S)
    after_s, wins = 0.2, []
    with racks.hold, racks.hold.working(), make(tmp_path / "bmc") as peer:
        node = add(racks, peer)
        for _ in range(RACES):
            wins.append(race(racks, node, peer, after_s))
            after_s *= 1.3 if wins[-1] == "abort" else 1 / 1.3
        assert peer.log() == [SOFT_POWER_OFF] * peer.log().count(SOFT_POWER_OFF)
    assert len(wins) == RACES
    assert set(wins) == {"abort", "end"}, wins


def race(racks: Yard, node: Node, peer: Peer, after_s: float) -> str:
    peer.power = POWER_ON
    heard = len(peer.log())
    soft = node.operate("soft_power_off")
    threading.Event().wait(after_s)
    abort = racks.until_ended(node.operate("abort_soft_power_off"))
    racks.until_ended(soft)
    answer, power = abort.view()["result"]["answer"], racks.shown(node)[0]
    assert len(peer.log()) - heard <= 1
    if soft.state == "ABORTED":
        assert answer == {"task": soft.view()["uuid"], "state": "ABORTED"}
        assert (abort.view()["effect"], power) == ("applied", "error")
        return "abort"
    assert (soft.state, answer["state"]) == ("SUCCEEDED", None)
    assert (abort.view()["effect"], power, peer.power) == ("none", POWER_OFF, POWER_OFF)
    return "end"
