"""Admission: what is accepted, what is refused with which error, and that a refusal leaves no trace."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.errors import (
    DocumentInvalid,
    KindUnknown,
    NoTask,
    OperationUnknown,
    PolicyForbidden,
    PreconditionFailed,
    ResourceBusy,
    ResourceImmutable,
    ResourceNotFound,
    TagReused,
)
from holdfast.resources import state
from holdfast.resources.operate import Asked, operate
from holdfast.tasks import claims
from tests.resources.conftest import Shop


def test_a_resource_is_made_changed_and_deleted(shop: Shop) -> None:
    port = shop.port(name="uplink", mtu=1400)
    assert (port.lifecycle, port.sync_status, port.revision, port.applied_revision) == ("ACTIVE", "IN_SYNC", 1, 1)
    assert shop.backend.there(port.id) == {"name": "uplink", "address": None, "mtu": 1400}
    shop.do("update", port.id, desired={"name": "uplink", "mtu": 9000})
    assert shop.backend.there(port.id) == {"name": "uplink", "address": None, "mtu": 9000}
    assert (port.sync_status, port.applied_revision, port.view()["observed"]) == ("IN_SYNC", 2, {"mtu": 9000})
    assert [each.id for each in shop.hold.resources("port")] == [port.id]
    shop.do("delete", port.id)
    assert (port.lifecycle, port.is_deleted, shop.backend.there(port.id)) == ("DELETED", True, None)
    assert shop.hold.resources("port") == []
    with pytest.raises(ResourceNotFound):
        shop.ask("update", port.id, desired={})


def test_the_queue_of_what_is_made_goes_on_where_it_began(shop: Shop) -> None:
    port = shop.port()
    named = shop.ask("create", "own", desired={})
    shop.work()
    for resource in (f"port/{port.id}", "port/own"):
        assert shop.hold.store.write(lambda tx, resource=resource: claims.take_number(tx, resource)) == 2  # type: ignore[misc]
    assert named.state == "SUCCEEDED"


@pytest.mark.requirement("NEUTRON-1", "NEUTRON-2")
def test_what_is_desired_is_to_be_read_before_it_is_done(shop: Shop) -> None:
    port = shop.port()
    task = shop.ask("update", port.id, desired={"mtu": 1400})
    assert (port.desired["mtu"], port.sync_status, port.revision, port.applied_revision) == (1400, "SYNCING", 2, 1)
    assert shop.backend.there(port.id) == {"name": "port", "address": None, "mtu": 1500}
    assert [each["uuid"] for each in port.view()["queue"]] == [task.id]
    shop.work()
    assert (port.sync_status, port.applied_revision, port.view()["queue"]) == ("IN_SYNC", 2, [])


@pytest.mark.requirement("NOVA-11")
def test_each_revision_names_its_task_and_nothing_else_may_write(shop: Shop) -> None:
    port = shop.port()
    tasks = [shop.do("update", port.id, desired={"mtu": mtu}) for mtu in (1000, 2000)]
    told = [(each["revision"], each["desired"]["mtu"], each["task_id"]) for each in port.revisions()]
    assert told[:2] == [(3, 2000, tasks[1].id), (2, 1000, tasks[0].id)]
    assert all(each["task_id"] for each in port.revisions())

    def write(tx: Any) -> None:
        state.change(tx, None, state.read(tx, "port", port.id), 0.0, status="FINE")

    def make(tx: Any) -> None:
        state.new(None, "port", "x", project_id="default", lifecycle="BUILD", now=0.0)

    for wrong in (write, make):
        with pytest.raises(NoTask):
            shop.hold.store.write(wrong)
    assert port.status == "ACTIVE"


@pytest.mark.requirement("NEUTRON-3")
def test_requests_queue_and_are_judged_by_what_the_last_will_leave(shop: Shop) -> None:
    port = shop.port()
    shop.ask("down", port.id)
    with pytest.raises(ResourceImmutable) as refused:
        shop.ask("down", port.id)
    assert refused.value.status == 409
    assert refused.value.details["allowed"] == ["update", "up", "delete", "ping", "reconcile"]
    assert (refused.value.details["lifecycle"], refused.value.details["planned"]) == ("ACTIVE", "DOWN")
    second = shop.ask("up", port.id)
    assert second.view()["queue_position"] == 1
    shop.ask("down", port.id)
    assert port.view()["queue_length"] == 3
    shop.work()
    assert port.lifecycle == "DOWN"


def test_when_its_turn_comes_a_task_looks_again(shop: Shop) -> None:
    port = shop.port(faults=["down-before"])
    shop.ask("down", port.id)
    up = shop.ask("up", port.id)
    update = shop.ask("update", port.id, desired={"mtu": 1300})
    shop.work()
    assert (port.lifecycle, update.state) == ("ACTIVE", "SUCCEEDED")
    view = up.view()
    assert (view["state"], view["effect"], view["error"]["code"]) == ("FAILED", "none", "lifecycle")
    assert shop.backend.said("on", port.id) == [["on", port.id]]  # the undo of `down`, and nothing else
    assert port.view()["queue_length"] == 0
    shop.ask("down", port.id)  # planned is what is true again


def test_the_plan_is_made_anew_when_the_last_in_the_queue_goes(shop: Shop) -> None:
    port = shop.port()
    first, second = shop.ask("down", port.id), shop.ask("up", port.id)
    second.cancel()
    with pytest.raises(ResourceImmutable, match="will be DOWN"):
        shop.ask("down", port.id)
    first.cancel()
    shop.do("down", port.id)
    assert port.lifecycle == "DOWN"


def test_whoever_does_not_want_to_wait_is_told_for_whom_it_would_be(shop: Shop) -> None:
    port = shop.port()
    shop.do("ping", port.id, fail_if_busy=True)
    first = shop.ask("ping", port.id)
    with pytest.raises(ResourceBusy) as refused:
        shop.ask("ping", port.id, fail_if_busy=True)
    assert (refused.value.status, refused.value.code, refused.value.details["task"]) == (409, "resource.busy", first.id)


def test_if_match_is_the_revision_that_was_seen(shop: Shop) -> None:
    port = shop.port()
    shop.ask("update", port.id, desired={"mtu": 1}, if_match=1)
    with pytest.raises(PreconditionFailed) as refused:
        shop.ask("update", port.id, desired={"mtu": 2}, if_match=1)
    assert (refused.value.status, refused.value.details["revision"], port.revision) == (412, 2, 2)


def test_a_tag_answers_before_anything_else_is_looked_at(shop: Shop) -> None:
    first = shop.ask("create", desired={"name": "a"}, tag="order-1")
    again = shop.ask("create", desired={"name": "a"}, tag="order-1")
    assert (again.id, again.replayed, len(shop.hold.resources("port"))) == (first.id, True, 1)
    with pytest.raises(TagReused):
        shop.ask("create", desired={"name": "b"}, tag="order-1")
    shop.work()
    port = shop.of(first)
    down = shop.do("down", port.id, tag="order-2")
    assert shop.ask("down", port.id, tag="order-2").id == down.id  # though it is down by now
    with pytest.raises(ResourceImmutable):
        shop.ask("down", port.id, tag="order-3")
    shop.do("up", port.id)
    assert shop.do("down", port.id, tag="order-3").state == "SUCCEEDED"  # a refusal does not use up the tag


@pytest.mark.parametrize(
    ("operation", "given", "error", "said"),
    [
        ("frobnicate", {}, OperationUnknown, "it has create, delete, down"),
        ("ping", {"params": {"times": "two"}}, DocumentInvalid, "ping: times: Expected `int`, got `str`"),
        ("ping", {"params": {"tmies": 2}}, DocumentInvalid, "unknown field `tmies`"),
        ("down", {"params": {"now": True}}, DocumentInvalid, "down takes no parameters"),
        ("down", {"desired": {}}, DocumentInvalid, "takes no desired document"),
        ("update", {}, DocumentInvalid, "needs the whole desired document of a port"),
        ("update", {"desired": {"mtu": None}}, DocumentInvalid, "port: mtu: Expected `int`, got `null`"),
        ("update", {"desired": {"mtu": 9001}}, DocumentInvalid, "at most 9000"),
    ],
)
def test_what_is_wrong_is_said_and_leaves_no_trace(
    shop: Shop, operation: str, given: dict[str, Any], error: type[Exception], said: str
) -> None:
    port = shop.port()
    before, tasks = port.view(), len(shop.hold.tasks())
    with pytest.raises(error, match=said):
        shop.ask(operation, port.id, **given)
    assert (port.view(), len(shop.hold.tasks())) == (before, tasks)


def test_what_is_not_there_is_not_there(shop: Shop) -> None:
    port = shop.port()
    for kind, id, project in (("prot", port.id, "default"), ("port", "x", "default"), ("port", port.id, "other")):
        with pytest.raises((ResourceNotFound, KindUnknown)) as refused:
            shop.hold.operate(kind, "ping", id, project_id=project)
        assert (refused.value.status, refused.value.code) == (404, "not_found")
    with pytest.raises(ResourceImmutable, match="choose another id"):
        shop.ask("create", port.id, desired={})


def test_an_operation_can_change_some_fields_by_its_parameters(shop: Shop) -> None:
    port = shop.port(address="10.0.0.1", mtu=1400)
    shop.do("readdress", port.id, {"address": "10.0.0.2"})
    assert shop.backend.there(port.id) == {"name": "port", "address": "10.0.0.2", "mtu": 1400}
    shop.do("readdress", port.id, {"address": None})
    assert shop.backend.there(port.id) == {"name": "port", "address": None, "mtu": 1400}
    assert (port.revision, port.applied_revision, port.sync_status) == (3, 3, "IN_SYNC")
    with pytest.raises(DocumentInvalid):
        shop.ask("readdress", port.id, {"address": 5})


def test_a_later_start_never_takes_the_resource_back(shop: Shop) -> None:
    port = shop.port()
    late = shop.ask("update", port.id, desired={"mtu": 1}, start_after=shop.hold.clock.time() + 0.3)
    shop.ask("update", port.id, desired={"mtu": 2})
    shop.work()
    assert late.state == "SUCCEEDED"
    assert (port.applied_revision, port.desired["mtu"], shop.backend.there(port.id)["mtu"]) == (3, 2, 2)
    assert [line[2] for line in shop.backend.said("written")] == [1, 3, 3]


@pytest.mark.requirement("NEUTRON-16", "NEUTRON-6")
def test_a_blocking_function_is_a_task_of_one_step(shop: Shop) -> None:
    port = shop.port(name="old")
    task = shop.do("ping", port.id, {"times": 3})
    assert (task.state, task.results["answer"]) == ("SUCCEEDED", "old answered 3")
    assert [step.node for step in task.steps] == ["port.ping/ping"]
    assert task.view()["progress"]["total"] == 1
    assert shop.backend.said("ping") == [["ping", port.id, 3, None]]


@pytest.mark.requirement("NEUTRON-11")
def test_an_agent_asks_for_what_agents_may_and_queues_as_all(shop: Shop) -> None:
    port = shop.port()
    kinds = shop.hold.kinds
    kinds.check_agent("port", "update", ["host1", "default"])
    with pytest.raises(PolicyForbidden, match=r"agents may not ask for port\.delete"):
        kinds.check_agent("port", "delete", ["default"])
    with pytest.raises(PolicyForbidden, match="the pool default, which this agent does not serve"):
        kinds.check_agent("port", "update", ["host1"])
    asked = Asked("port", "update", port.id, desired={"mtu": 1}, origin="agent:host1", tag="wire-1")
    shop.ask("ping", port.id)
    uuid = shop.hold.clock.uuid7()
    made = shop.hold.write(lambda tx, now: operate(tx, kinds, asked, now, uuid))
    again = shop.hold.write(lambda tx, now: operate(tx, kinds, asked, now, shop.hold.clock.uuid7()))
    view = shop.hold.task(uuid).view()
    assert (view["origin"], view["queue_position"], again.replayed, again.task.id) == (
        "agent:host1", 1, True, made.task.id
    )  # fmt: skip
    shop.work()
    assert shop.hold.task(uuid).state == "SUCCEEDED"
