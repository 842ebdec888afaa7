"""Kinds that a package of somebody else brings: found, admitted, run, failed and undone like those of the house."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

import holdfast as hf
from holdfast.errors import DocumentInvalid, PolicyForbidden, ResourceImmutable
from holdfast.resources.operate import Asked, operate
from holdfast.resources.registry import Kinds
from tests.plugins.conftest import Net


def until(fact: Callable[[], object]) -> None:
    pause = threading.Event()
    for _ in range(6000):
        if fact():
            return
        pause.wait(0.01)
    raise AssertionError("it has not happened")


@pytest.mark.requirement("NOVA-12")
def test_the_kinds_of_a_package_are_found_by_its_entry_point(net: Net) -> None:
    assert {"server", "port", "router"} <= {kind.name for kind in net.hold.kinds}
    assert net.hold.kinds.operation("server", "frobnicate").summary == "Frobnicate the server."
    server = net.made("server", name="web")
    task = net.do("server", "frobnicate", server.id, {"times": 2})
    assert task.state == "SUCCEEDED"
    assert len(net.fabric.said("end", "knob", server.id)) == 2
    view = task.view()
    assert (view["task"], view["resource_id"], server.lifecycle) == ("frobnicate", server.id, "ACTIVE")
    with pytest.raises(DocumentInvalid, match="frobnicate"):
        net.hold.operate("server", "frobnicate", server.id, {"how": "often"})
    net.do("server", "delete", server.id).raise_for_state()


# --- mechanisms --------------------------------------------------------------------------------------------------


@pytest.mark.requirement("NEUTRON-4")
def test_what_one_mechanism_refuses_beforehand_nobody_applies(net: Net) -> None:
    port = net.made("port", name="p", mtu=1500)
    begun = len(net.fabric.said("begin"))
    with pytest.raises(DocumentInvalid, match="at most 9000"):
        port.update({"name": "p", "mtu": 9999})
    net.work()
    assert len(net.fabric.said("begin")) == begun
    assert (port.revision, port.desired["mtu"], port.sync_status) == (1, 1500, "IN_SYNC")


@pytest.mark.requirement("NEUTRON-4")
def test_independent_mechanisms_work_side_by_side_and_others_wait(net: Net) -> None:
    net.fabric.turn("hang.switch")
    net.fabric.turn("hang.dhcp")
    with net.hold.working():
        task = net.hold.operate("port", "create", desired={"name": "p"})
        until(lambda: len(net.fabric.said("begin")) == 2)
        assert {line[1] for line in net.fabric.said("begin")} == {"switch", "dhcp"}
        net.fabric.turn_off("hang.switch")
        net.fabric.turn_off("hang.dhcp")
        task.wait(60).raise_for_state()
    order = [(line[0], line[1]) for line in net.fabric.said() if line[0] in ("begin", "end")]
    assert order.index(("begin", "flows")) > order.index(("end", "switch"))


@pytest.mark.requirement("NEUTRON-4", "NEUTRON-12", "NEUTRON-13")
def test_one_mechanism_fails_and_the_others_do_their_part(net: Net) -> None:
    port = net.made("port", name="p")
    net.fabric.turn("fail.dhcp")
    desired = {"name": "p", "mtu": 1400, "groups": ["web"]}
    task = port.update(desired)
    net.work()
    assert task.state == "FAILED"
    assert (port.status, port.sync_status) == ("ACTIVE", "OUT_OF_SYNC")
    assert [net.fabric.there(name, port.id)["mtu"] for name in ("switch", "dhcp", "flows")] == [1400, 1500, 1400]
    failed = port.last_failed_task
    assert failed is not None
    assert (failed["uuid"], failed["task"]) == (task.id, "update")
    assert failed["step"].endswith("/dhcp")
    assert port.desired == desired
    net.fabric.turn_off("fail.dhcp")
    mend = port.reconcile()
    net.work()
    assert mend.state == "SUCCEEDED"
    assert (port.sync_status, port.last_failed_task, port.applied_revision) == ("IN_SYNC", None, 2)


@pytest.mark.requirement("NEUTRON-12", "P7")
def test_a_link_that_is_down_and_a_switch_that_drifted_are_two_things(net: Net) -> None:
    port = net.made("port", name="p")
    net.fabric.turn("link-down")
    net.hold.watch_drift(rounds=1)
    net.work()
    assert (port.status, port.sync_status) == ("DOWN", "IN_SYNC")
    net.fabric.turn_off("link-down")
    net.fabric.drift("flows", port.id, mtu=68)
    net.hold.watch_drift(rounds=1)
    net.work()
    assert (port.status, port.sync_status) == ("ACTIVE", "OUT_OF_SYNC")


# --- one operation, two resources --------------------------------------------------------------------------------


@pytest.mark.requirement("NEUTRON-5", "NOVA-8")
def test_an_interface_has_a_child_on_the_port_and_one_on_the_router(net: Net) -> None:
    port, router = net.made("port", name="p"), net.made("router", name="r")
    task = net.do("router", "add_interface", router.id, {"port_id": port.id, "subnet": "10.0.0.0/24"}, tag="if-1")
    assert task.state == "SUCCEEDED"
    l2, l3 = [child.view() for child in net.children(task)]
    assert (l2["resource_type"], l2["resource_id"], l2["task"]) == ("port", port.id, "attach")
    assert (l3["resource_type"], l3["resource_id"], l3["task"]) == ("router", router.id, "route")
    assert {child["root_id"] for child in (l2, l3)} == {task.id}
    assert {child["tag"] for child in (l2, l3)} == {None}
    assert (port.lifecycle, router.lifecycle) == ("ATTACHED", "ACTIVE")
    assert net.fabric.there("l3", router.id) == {"name": "10.0.0.0/24"}
    assert [each.id for each in net.hold.tasks(task="attach", roots=True)] == []
    assert (port.sync_status, router.sync_status) == ("IN_SYNC", "IN_SYNC")


@pytest.mark.requirement("NEUTRON-5")
@pytest.mark.parametrize("fault", ["fail.l3", "half.l3"])
def test_where_the_l3_part_fails_the_l2_part_is_undone(net: Net, fault: str) -> None:
    port, router = net.made("port", name="p"), net.made("router", name="r")
    net.fabric.turn(fault)
    task = net.do("router", "add_interface", router.id, {"port_id": port.id, "subnet": "10.0.0.0/24"})
    assert task.state == "FAILED"
    l2, l3, undo = net.children(task)
    assert (l2.state, l3.state, undo.state) == ("SUCCEEDED", "FAILED", "SUCCEEDED")
    assert undo.view()["rollback_of"] == l2.id
    assert (net.fabric.there("l2", port.id), net.fabric.there("l3", router.id)) == (None, None)
    assert (port.lifecycle, router.lifecycle) == ("ACTIVE", "ACTIVE")
    failure = task.failure
    assert failure is not None
    assert l3.id in failure.message
    net.fabric.turn_off(fault)
    again = task.retry()
    net.work()
    assert again.state == "SUCCEEDED"
    assert port.lifecycle == "ATTACHED"


@pytest.mark.requirement("NEUTRON-5")
def test_where_the_policy_is_to_keep_it_the_l2_part_stays_and_is_reported(net: Net) -> None:
    port, router = net.made("port", name="p"), net.made("router", name="r")
    net.fabric.turn("fail.l3")
    task = net.do("router", "try_interface", router.id, {"port_id": port.id, "subnet": "10.0.0.0/24"})
    assert task.state == "FAILED"
    assert [child.state for child in net.children(task)] == ["SUCCEEDED", "FAILED"]
    assert port.lifecycle == "ATTACHED"
    assert task.view()["effect"] == "partial"
    failed = router.last_failed_task
    assert failed is not None
    assert failed["step"].endswith("/l3")


@pytest.mark.requirement("NEUTRON-5")
def test_an_interface_that_was_added_is_rolled_back_on_both(net: Net) -> None:
    port, router = net.made("port", name="p"), net.made("router", name="r")
    task = net.do("router", "add_interface", router.id, {"port_id": port.id, "subnet": "10.0.0.0/24"})
    undo = task.rollback()
    net.work()
    assert undo.state == "SUCCEEDED"
    assert (net.fabric.there("l2", port.id), net.fabric.there("l3", router.id)) == (None, None)
    assert port.lifecycle == "ACTIVE"
    assert [line[1] for line in net.fabric.said("drop")] == ["l3", "l2"]


@pytest.mark.requirement("NEUTRON-5", "NEUTRON-3")
def test_the_port_of_an_interface_is_claimed_by_the_whole(net: Net) -> None:
    port, router = net.made("port", name="p"), net.made("router", name="r")
    net.fabric.turn("hang.l2")
    with net.hold.working():
        task = net.hold.operate("router", "add_interface", router.id, {"port_id": port.id, "subnet": "10.0.0.0/24"})
        until(lambda: net.fabric.said("begin", "l2"))
        behind = net.hold.operate("port", "update", port.id, desired={"name": "q"})
        assert behind.view()["blocked_by"] == [task.id]
        with pytest.raises(ResourceImmutable, match="attach"):
            net.hold.operate("port", "attach", port.id, {"router": "another"})
        net.fabric.turn_off("hang.l2")
        assert behind.wait(60).state == "SUCCEEDED"
    assert task.state == "SUCCEEDED"


@pytest.mark.requirement("NEUTRON-5")
def test_a_cancelled_interface_leaves_neither_part(net: Net) -> None:
    port, router = net.made("port", name="p"), net.made("router", name="r")
    net.fabric.turn("hang.l3")
    with net.hold.working():
        task = net.hold.operate("router", "add_interface", router.id, {"port_id": port.id, "subnet": "10.0.0.0/24"})
        until(lambda: net.fabric.said("begin", "l3"))
        task.cancel().wait(60)
    assert task.state == "CANCELLED"
    assert (net.fabric.there("l2", port.id), net.fabric.there("l3", router.id)) == (None, None)
    assert (port.lifecycle, router.lifecycle, port.sync_status) == ("ACTIVE", "ACTIVE", "IN_SYNC")


# --- agents ------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("NEUTRON-11")
def test_an_agent_starts_the_wiring_of_its_own_pool(net: Net) -> None:
    port = net.made("port", name="p")
    kinds = net.hold.kinds
    kinds.check_agent("port", "wire", ["agents"])
    with pytest.raises(PolicyForbidden, match="does not serve"):
        kinds.check_agent("port", "wire", ["elsewhere"])
    with pytest.raises(PolicyForbidden, match="agents may not ask"):
        kinds.check_agent("port", "delete", ["agents", "default"])
    asked = Asked("port", "wire", port.id, {"cable": "c7"}, origin="agent:host1", tag="wire-p")
    uuid = net.hold.clock.uuid7()
    made = net.hold.write(lambda tx, now: operate(tx, kinds, asked, now, uuid))
    other = net.hold.clock.uuid7()
    again = net.hold.write(lambda tx, now: operate(tx, kinds, asked, now, other))
    assert (again.replayed, again.task.id) == (True, made.task.id)
    net.work()
    task = net.hold.task(uuid)
    assert (task.state, task.view()["origin"]) == ("PENDING", "agent:host1"), "no worker of that pool was there"
    with hf.open(net.url, kinds=Kinds.load(), pool="agents") as agents:
        agents.work(until_idle=True)
    assert task.state == "SUCCEEDED"
    assert net.fabric.there("cable", port.id) == {"name": "c7"}
