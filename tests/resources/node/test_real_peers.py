"""The proposal's table, row by row, on BMCs that others have written: IPMI by OpenIPMI and pyghmi, Redfish by
sushy-tools.

The same on the driver `fake`, with all its corners: test_abort.py, test_power.py, test_sync.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

import holdfast as hf
from holdfast.resources.node.words import ERROR, INJECT_NMI, POWER_OFF, POWER_ON, SOFT_POWER_OFF, TARGETS
from holdfast.seal import new_key
from peers.chassis import Peer
from peers.ipmi_sim import ipmi_sim
from peers.pyghmi_bmc import pyghmi_bmc
from peers.redfish_bmc import redfish_bmc
from tests.resources.node.conftest import Node, Yard
from tests.resources.node.test_sync import changes, look

MAKES: dict[str, Any] = {"ipmi": ipmi_sim, "irmc": pyghmi_bmc, "redfish": redfish_bmc}


class Rack:
    """A node, and the machine behind its BMC, which is on."""

    def __init__(self, yard: Yard, peer: Any, driver: str) -> None:
        self.yard, self.peer, self.driver = yard, peer, driver
        peer.power = POWER_ON
        desired = {"name": "rack-1", "driver": driver, "driver_info": peer.driver_info}
        task = yard.until_ended(yard.hold.operate("node", "create", desired=desired))
        assert task.state == "SUCCEEDED", task.failure
        self.node: Node = yard.hold.resource("node", str(task.view()["resource_id"]))

    @property
    def shown(self) -> tuple[str | None, str | None]:
        return self.yard.shown(self.node)

    def hang(self, operation: str) -> hf.Task:
        """The operation, once its guest has not heard its button."""
        heard = len(self.peer.log())
        task = self.node.operate(operation)
        self.yard.until(lambda: self.peer.log()[heard:] == [SOFT_POWER_OFF])
        self.yard.until(lambda: self.shown == (POWER_ON, SOFT_POWER_OFF))
        return task

    def abort(self, operation: str) -> tuple[Any, str]:
        """Whom it has stopped, and its effect."""
        task = self.yard.do(self.node, operation)
        assert task.state == "SUCCEEDED", task.failure
        return task.view()["result"]["answer"]["task"], task.view()["effect"]


@pytest.fixture(params=MAKES)
def rack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rack]:
    yard = Yard(tmp_path, secret_key=new_key(), node_poll_s=0.1)
    making: AbstractContextManager[Peer] = MAKES[request.param](tmp_path / "bmc")
    with making as peer, yard.hold, yard.hold.working():
        yield Rack(yard, peer, request.param)


@pytest.mark.requirement("IRONIC-6", "IRONIC-8", "IRONIC-12")
def test_rows_2_4_6_with_nothing_in_flight_nothing_changes(rack: Rack) -> None:
    before = rack.yard.states(rack.node)
    assert before["supported_power_states"] == list(TARGETS[:-1] if rack.driver == "ipmi" else TARGETS)
    aborts = ["abort_soft_power_off", "abort_soft_reboot", *([] if rack.driver == "ipmi" else ["abort_inject_nmi"])]
    assert [rack.abort(name) for name in aborts] == [(None, "none")] * len(aborts)
    assert (rack.yard.states(rack.node), rack.peer.log()) == (before, [])


@pytest.mark.requirement("IRONIC-7", "IRONIC-9", "IRONIC-10", "IRONIC-11", "IRONIC-17")
def test_rows_1_3_and_what_follows_until_the_machine_was_seen_again(rack: Rack) -> None:
    rack.peer.turn("ignore_acpi")
    task = rack.hang("soft_reboot")
    rack.yard.until(lambda: task.view()["progress"]["message"] == "waits until it is power off")
    rack.yard.until(lambda: 0 < task.view()["progress"]["percent"] < 100)
    assert task.view()["progress"]["message"] == "waits until it is power off"
    uuid = task.view()["uuid"]
    assert rack.abort("abort_soft_power_off") == (uuid, "applied")  # either abort stops what aims at soft power off
    states = rack.yard.states(rack.node)
    assert (task.state, task.view()["effect"], rack.shown) == ("ABORTED", "unknown", (ERROR, None))
    assert "soft_reboot was aborted by library" in states["last_error"]

    assert rack.abort("abort_soft_reboot") == (None, "none")  # in error there is nothing to stop
    assert rack.shown == (ERROR, None)
    assert look(rack.yard)["seen"] == 1
    assert (rack.shown, changes(rack.yard, rack.node)[-1][:2]) == ((POWER_ON, None), (ERROR, POWER_ON))

    again = rack.hang("soft_power_off")
    assert rack.abort("abort_soft_reboot") == (again.view()["uuid"], "applied")
    assert (again.state, rack.shown) == ("ABORTED", (ERROR, None))
    assert rack.yard.do(rack.node, "power_off").state == "SUCCEEDED"
    assert (rack.shown, rack.yard.states(rack.node)["last_error"]) == ((POWER_OFF, None), None)
    assert rack.peer.log() == [SOFT_POWER_OFF, SOFT_POWER_OFF, POWER_OFF]


@pytest.mark.requirement("IRONIC-6", "IRONIC-11")
def test_a_soft_reboot_and_an_interrupt(rack: Rack) -> None:
    rack.peer.turn("acpi_delay", 0.3)
    seen: list[tuple[str | None, str | None]] = []

    def is_over() -> bool:
        seen.append(rack.shown)
        return task.view()["finish_time"] is not None

    task = rack.node.operate("soft_reboot")
    rack.yard.until(is_over)
    assert task.state == "SUCCEEDED", task.failure
    assert (POWER_ON, SOFT_POWER_OFF) in seen
    assert rack.shown == (POWER_ON, None)
    if rack.driver != "ipmi":  # OpenIPMI's has no NMI
        assert rack.yard.do(rack.node, "inject_nmi").state == "SUCCEEDED"
    sent = [SOFT_POWER_OFF, POWER_ON] + ([] if rack.driver == "ipmi" else [INJECT_NMI])
    assert rack.peer.log() == sent
