"""Enrolling nodes, changing what is known of them, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

import holdfast as hf
from holdfast.errors import DriverInvalid, PowerUnsupported, ResourceImmutable
from holdfast.resources.node import drivers, words
from holdfast.resources.node.power import Bmc
from holdfast.resources.registry import Kinds
from tests.postgresql import stored_at
from tests.resources.node.conftest import Yard

AWAY = [{"what": "unreachable"}]


def enrol(yard: Yard, **desired: Any) -> hf.Task:
    document = {"name": "rack-1", "driver": "fake", "driver_info": {"path": yard.machines}, **desired}
    return yard.until_ended(yard.hold.operate("node", "create", desired=document))


def test_the_kind_is_there_without_being_asked_for() -> None:
    assert "node" in Kinds.load()


def test_a_node_whose_bmc_does_not_answer_stays_enrolled_and_is_managed_later(yard: Yard) -> None:
    task = enrol(yard, driver_info={"path": yard.machines, "fake": {"faults": AWAY}})
    node = yard.hold.resource("node", task.view()["resource_id"])
    assert (task.state, task.view()["error"]["code"]) == ("FAILED", "bmc.unreachable")
    assert (node.lifecycle, node.sync_status) == ("enroll", "OUT_OF_SYNC")
    failed = node.last_failed_task
    assert failed is not None
    assert failed["error"]["detail"] == "the BMC does not answer"
    with pytest.raises(ResourceImmutable):
        node.operate("power_on")
    assert yard.states(node)["provision_state"] == "enroll"

    yard.machine(node).behave(faults=[])
    assert yard.do(node, "manage").state == "SUCCEEDED"
    assert (node.lifecycle, node.sync_status, node.last_failed_task) == ("manageable", "IN_SYNC", None)
    assert yard.shown(node) == ("power on", None)
    states = yard.states(node)
    assert states["provision_state"] == "manageable"
    assert states["provision_updated_at"] > 0


def test_another_way_to_the_bmc_is_checked_and_nothing_else(yard: Yard) -> None:
    node = yard.enrol()
    looks = yard.machine(node).count("get")
    yard.until_ended(node.update({**node.desired, "maintenance": True, "extra": {"rack": 7}}))
    assert yard.machine(node).count("get") == looks
    assert (node.desired["maintenance"], node.sync_status) == (True, "IN_SYNC")
    yard.until_ended(node.update({**node.desired, "driver_info": {**node.desired["driver_info"], "port": 1}}))
    assert yard.machine(node).count("get") == looks + 1

    away = {**node.desired["driver_info"], "fake": {"faults": AWAY}}
    task = yard.until_ended(node.update({**node.desired, "driver_info": away}))
    assert (task.state, node.lifecycle, node.sync_status) == ("FAILED", "manageable", "OUT_OF_SYNC")


def test_a_node_that_is_deleted_is_forgotten_and_its_machine_left_alone(yard: Yard) -> None:
    node = yard.enrol()
    assert yard.do(node, "delete").state == "SUCCEEDED"
    assert node.is_deleted
    assert yard.sent(node) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"driver": "abacus"}, "there is no driver 'abacus': there is fake, ipmi, irmc, redfish"),
        ({"driver_info": {"fake": {"color": "red"}}}, "driver_info: fake: there is no 'color'"),
        ({"driver_info": {"fake": {"faults": [{"what": "nothing"}]}}}, "driver_info: fake: the `what` of a fault"),
    ],
)
def test_what_no_driver_could_use_is_refused_at_once(yard: Yard, changes: dict[str, Any], said: str) -> None:
    before = len(yard.hold.tasks(limit=100))
    with pytest.raises(DriverInvalid) as refused:
        enrol(yard, **changes)
    assert str(refused.value).startswith(said)
    assert len(yard.hold.tasks(limit=100)) == before


@pytest.mark.requirement("IRONIC-5")
def test_a_driver_that_says_nothing_itself_supports_the_five_of_the_proposal(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Plain:
        def get_power_state(self, bmc: Bmc) -> str:
            return words.POWER_ON

    class Silent(Plain):
        def get_supported_power_states(self, bmc: Bmc) -> tuple[str, ...]:
            return ()

    monkeypatch.setitem(drivers._made, "plain", Plain())
    monkeypatch.setitem(drivers._made, "silent", Silent())
    five = ("power on", "power off", "rebooting", "abort soft rebooting", "abort soft power off")
    assert drivers.supported("plain") == drivers.supported("silent") == five
    node = yard.hold.resource("node", enrol(yard, driver="plain").view()["resource_id"])
    assert yard.states(node)["supported_power_states"] == list(five)
    with pytest.raises(PowerUnsupported, match="driver plain does not support the power state, abort inject nmi"):
        node.operate("abort_inject_nmi")


@pytest.mark.requirement("IRONIC-6")
def test_what_the_drivers_of_this_house_support() -> None:
    assert drivers.supported("irmc") == drivers.supported("fake") == words.TARGETS
    assert drivers.supported("ipmi") == words.TARGETS[:-1]
    assert len(drivers.supported("irmc")) == 9


def test_a_password_reaches_the_driver_and_nobody_else(tmp_path: Path) -> None:
    yard = Yard(tmp_path, secret_key=Fernet.generate_key().decode())
    heard: list[Any] = []

    class Listening:
        def get_power_state(self, bmc: Bmc) -> str:
            heard.append((bmc.info["password"], repr(bmc)))
            return words.POWER_ON

    with yard.hold, yard.hold.working(), pytest.MonkeyPatch.context() as patch:
        patch.setitem(drivers._made, "listening", Listening())
        task = enrol(yard, driver="listening", driver_info={"address": "10.0.0.1", "password": "calvin-1"})
        assert task.state == "SUCCEEDED", task.failure
        node = yard.hold.resource("node", task.view()["resource_id"])
        assert yard.do(node, "power_on").state == "SUCCEEDED"
        assert [each for each, _ in heard] == ["calvin-1"] * len(heard)
        assert len(heard) >= 3
        assert "calvin" not in repr(heard[0][1])
        assert "calvin" not in repr((task.view(), node.view(), yard.states(node)))
    assert b"calvin-1" not in stored_at(tmp_path / "tasks.db")


def test_packages_are_looked_through_once(monkeypatch: pytest.MonkeyPatch) -> None:
    known = drivers.names()

    def again(**_: Any) -> Any:
        raise AssertionError("that reads a file of each package")

    monkeypatch.setattr("importlib.metadata.entry_points", again)
    assert drivers.names() == known
    with pytest.raises(DriverInvalid, match="there is no driver"):
        drivers.get("abacus")
