"""The three aborts: the proposal's table row by row, a driver that hangs for ever, and who wins against the end."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import holdfast as hf
from holdfast.errors import PowerUnsupported, ResourceImmutable
from holdfast.resources.node import words
from holdfast.resources.node.fake import Device
from tests.resources.node.conftest import Node, Yard

SOFT = ["soft_power_off", "soft_reboot"]
SOFT_ABORTS = ["abort_soft_power_off", "abort_soft_reboot"]
NMI_HANGS = [{"call": "inject nmi", "what": "hang_after"}]


def answer(task: hf.Task) -> Any:
    return task.view()["result"]["answer"]


def hang(yard: Yard, operation: str) -> tuple[Node, hf.Task]:
    """A node whose operation is in the middle of what an abort can stop."""
    node = yard.enrol(soft_off="ignored", faults=NMI_HANGS)
    task = node.operate(operation)
    command = "inject nmi" if operation == "inject_nmi" else "soft power off"
    yard.until_sent(node, command)
    yard.until(lambda: yard.shown(node) == ("power on", command))
    return node, task


# --- the table ---------------------------------------------------------------------------------------------------


@pytest.mark.requirement("IRONIC-7", "IRONIC-9")
@pytest.mark.parametrize("operation", SOFT)
@pytest.mark.parametrize("abort", SOFT_ABORTS)
def test_rows_1_and_3_either_abort_stops_whatever_aims_at_soft_power_off(
    yard: Yard, operation: str, abort: str
) -> None:
    node, task = hang(yard, operation)
    asked = time.monotonic()
    stopped = yard.until_ended(node.operate(abort))
    assert (stopped.state, answer(stopped)) == ("SUCCEEDED", {"task": task.view()["uuid"], "state": "ABORTED"})
    assert task.state == "ABORTED"
    assert task.view()["error"]["code"] == "task.aborted"
    assert task.view()["effect"] == "unknown"
    states = yard.states(node)
    assert (states["power_state"], states["target_power_state"]) == ("error", None)
    assert f"{operation} was aborted by library" in states["last_error"]
    assert node.sync_status == "UNKNOWN"

    following = node.operate("power_off")
    yard.until_sent(node, "power off")
    assert time.monotonic() - asked < 1, "it takes its next command"
    assert yard.until_ended(following).state == "SUCCEEDED"
    assert yard.shown(node) == ("power off", None)
    assert yard.states(node)["last_error"] is None


@pytest.mark.requirement("IRONIC-7")
def test_row_5_an_interrupt_that_hangs_is_aborted(yard: Yard) -> None:
    node, task = hang(yard, "inject_nmi")
    stopped = yard.until_ended(node.operate("abort_inject_nmi"))
    assert (stopped.state, answer(stopped)["state"], task.state) == ("SUCCEEDED", "ABORTED", "ABORTED")
    assert yard.shown(node) == ("error", None)


@pytest.mark.requirement("IRONIC-8")
@pytest.mark.parametrize("abort", [*SOFT_ABORTS, "abort_inject_nmi"])
def test_rows_2_4_6_with_nothing_in_flight_nothing_changes(yard: Yard, abort: str) -> None:
    node = yard.enrol()
    before = (yard.states(node), node.view()["sync_status"])
    task = yard.until_ended(node.operate(abort))
    assert (task.state, task.view()["effect"], answer(task)["task"]) == ("SUCCEEDED", "none", None)
    assert (yard.states(node), node.view()["sync_status"]) == before
    assert yard.sent(node) == []


@pytest.mark.requirement("IRONIC-8")
@pytest.mark.parametrize("abort", [*SOFT_ABORTS, "abort_inject_nmi"])
def test_rows_2_4_6_what_aims_at_something_else_goes_on(yard: Yard, abort: str) -> None:
    node = yard.enrol(power="power off", on_s=0.3)
    task = node.operate("power_on")
    yard.until(lambda: yard.shown(node) == ("power off", "power on"))
    yard.until_sent(node, "power on")
    stopped = yard.until_ended(node.operate(abort))
    assert (stopped.state, stopped.view()["effect"]) == ("SUCCEEDED", "none")
    assert yard.until_ended(task).state == "SUCCEEDED"
    assert yard.shown(node) == ("power on", None)


@pytest.mark.requirement("IRONIC-8", "IRONIC-11")
@pytest.mark.parametrize("abort", SOFT_ABORTS)
def test_rows_2_4_a_soft_reboot_that_switches_on_already_goes_on(yard: Yard, abort: str) -> None:
    node = yard.enrol(on_s=0.3)
    task = node.operate("soft_reboot")
    yard.until(lambda: yard.shown(node) == ("power off", "power on"))
    stopped = yard.until_ended(node.operate(abort))
    assert (stopped.state, stopped.view()["effect"]) == ("SUCCEEDED", "none")
    assert yard.until_ended(task).state == "SUCCEEDED"
    assert yard.shown(node) == ("power on", None)


@pytest.mark.requirement("IRONIC-9")
def test_in_error_an_abort_changes_nothing(yard: Yard) -> None:
    node, task = hang(yard, "soft_power_off")
    yard.until_ended(node.operate("abort_soft_power_off"))
    assert task.state == "ABORTED"
    again = yard.until_ended(node.operate("abort_soft_power_off"))
    assert (again.state, again.view()["effect"]) == ("SUCCEEDED", "none")
    assert yard.shown(node) == ("error", None)


@pytest.mark.requirement("IRONIC-9")
def test_out_of_error_the_next_soft_operation_can_be_aborted_too(yard: Yard) -> None:
    """What an operation sees of the machine when it begins is what is known of it: `error` is over then."""
    node, _task = hang(yard, "soft_power_off")
    yard.until_ended(node.operate("abort_soft_power_off"))
    task = node.operate("soft_power_off")
    yard.until_sent(node, "soft power off", 2)
    assert yard.shown(node) == ("power on", "soft power off")
    stopped = yard.until_ended(node.operate("abort_soft_power_off"))
    assert (answer(stopped)["state"], task.state) == ("ABORTED", "ABORTED")


@pytest.mark.requirement("IRONIC-9")
@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("ABORT_POWER_OFF", words.ABORT_SOFT_POWER_OFF),
        ("abort soft power off", words.ABORT_SOFT_POWER_OFF),
        ("POWER_OFF_SOFT", words.SOFT_POWER_OFF),
        ("soft power off", words.SOFT_POWER_OFF),
        ("abort", None),
    ],
)
def test_the_names_of_the_table_are_those_of_the_constants(said: str, meant: str | None) -> None:
    assert words.target(said) == meant


def test_what_has_sent_nothing_yet_is_aborted_all_the_same(yard: Yard) -> None:
    """It only looks at the machine yet, or waits for a worker; but it is the next, and who aborts it means it."""
    node = yard.enrol(soft_off="ignored", delay_s=0.2)
    task = node.operate("soft_power_off")
    stopped = yard.until_ended(node.operate("abort_soft_power_off"))
    assert (stopped.state, answer(stopped)["state"], task.state) == ("SUCCEEDED", "ABORTED", "ABORTED")
    assert yard.shown(node) == ("error", None)


def test_an_abort_does_not_ask_where_the_queue_leads(yard: Yard) -> None:
    node, task = hang(yard, "soft_power_off")
    gone = node.operate("delete")
    with pytest.raises(ResourceImmutable):
        node.operate("power_on")
    yard.until_ended(node.operate("abort_soft_power_off"))
    assert task.state == "ABORTED"
    assert yard.until_ended(gone).state == "SUCCEEDED"
    assert node.is_deleted


# --- a driver that hangs -----------------------------------------------------------------------------------------


@pytest.mark.requirement("IRONIC-2", "IRONIC-3")
@pytest.mark.parametrize("what", ["hang", "hang_after", "stall"])
def test_a_driver_that_hangs_for_ever_does_not_hold_the_node(yard: Yard, what: str) -> None:
    node = yard.enrol(soft_off="ignored", faults=[{"call": "soft power off", "what": what}])
    task = node.operate("soft_power_off")
    yard.until_sent(node, "soft power off")
    asked = time.monotonic()
    node.operate("abort_soft_power_off")
    following = node.operate("power_off")
    assert yard.until_ended(following).state == "SUCCEEDED"
    assert time.monotonic() - asked < 1
    assert task.state == "ABORTED"
    assert yard.shown(node) == ("power off", None)


@pytest.mark.requirement("IRONIC-3")
def test_a_call_that_hangs_and_is_not_aborted_ends_by_its_time(tmp_path: Any) -> None:
    yard = Yard(tmp_path, node_call_s=0.3, node_timeout_s=1.0)
    with yard.hold, yard.hold.working():
        node = yard.enrol(faults=[{"call": "power off", "what": "hang"}])
        task = yard.do(node, "power_off")
        assert (task.state, task.view()["error"]["code"]) == ("FAILED", "power.timeout")
        assert "no answer within" in task.view()["error"]["detail"]
        assert yard.shown(node) == ("error", None)


# --- a race ------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
@pytest.mark.requirement("IRONIC-18")
def test_abort_against_completion_has_one_winner_and_says_which(tmp_path: Any) -> None:
    """A thousand times: the abort is asked for at about the moment at which the machine goes off."""
    yard = Yard(tmp_path, node_poll_s=0.01)
    wins = {"abort": 0, "end": 0}
    with yard.hold, yard.hold.working(), ThreadPoolExecutor(20) as people:
        for of_node in people.map(lambda each: race(yard, each), range(20)):
            for winner in of_node:
                wins[winner] += 1
    assert sum(wins.values()) == 1000
    assert min(wins.values()) > 10, wins


def race(yard: Yard, number: int) -> list[str]:
    task = yard.hold.operate(
        "node", "create", desired={"name": f"rack-{number}", "driver": "fake", "driver_info": {"fake": {"off_s": 0.01}}}
    )
    node = yard.hold.resource("node", str(yard.until_ended(task).view()["resource_id"]))
    return [one_race(yard, node, (number * 50 + at) % 60 / 1000) for at in range(50)]


def one_race(yard: Yard, node: Node, after_s: float) -> str:
    machine = Device(None, node.id)
    machine.turn("power on")
    off = node.operate("soft_power_off")
    threading.Event().wait(after_s)
    stopped = yard.until_ended(node.operate("abort_soft_power_off"))
    yard.until_ended(off)
    said, power = answer(stopped), yard.shown(node)[0]
    if off.state == "ABORTED":
        assert said == {"task": off.view()["uuid"], "state": "ABORTED"}
        assert (stopped.view()["effect"], power) == ("applied", "error")
        return "abort"
    assert off.state == "SUCCEEDED"
    assert said["state"] is None
    assert (stopped.view()["effect"], power, machine.power) == ("none", "power off", "power off")
    return "end"


# --- refused -----------------------------------------------------------------------------------------------------


@pytest.mark.requirement("IRONIC-6")
def test_what_the_driver_does_not_support_is_refused_and_makes_no_task(yard: Yard) -> None:
    node = yard.enrol(supported=["power on", "power off"])
    before = len(yard.hold.tasks(limit=100))
    said = "^The driver fake does not support the power state, abort inject nmi$"
    with pytest.raises(PowerUnsupported, match=said):
        node.operate("abort_inject_nmi")
    assert len(yard.hold.tasks(limit=100)) == before
    assert yard.states(node)["supported_power_states"] == ["power on", "power off"]
