"""Mechanisms: what one refuses is not applied, independent ones work side by side, the failure of one is its own."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import holdfast as hf
from holdfast.core.retry import Retry
from holdfast.errors import DocumentInvalid, KindError
from holdfast.resources.drivers import Mechanism, Mechanisms
from holdfast.resources.kind import Change, Kind
from tests.resources.conftest import Shop
from tests.resources.ports import LIFECYCLE, Backend, PortFields

pytestmark = pytest.mark.requirement("NEUTRON-4")


def refuse(change: Change) -> None:
    if "refused" in change.desired["faults"]:
        change.kind.driver.say("refuse")
        raise DocumentInvalid("the fabric does not take that")


def ports(directory: Path, *mechanisms: Mechanism) -> Kind:
    port = Kind("port", fields=PortFields, lifecycle=LIFECYCLE, driver=Backend(directory), fault="ERROR")
    together = Mechanisms(*mechanisms)
    port.precommit(together.check)

    @port.operation("create", ends="ACTIVE", fault="")
    def create(kind: Kind) -> hf.Flow:
        return together.flow()

    @port.operation("update", starts=("ACTIVE", "ERROR"), fault="")
    def update(kind: Kind) -> hf.Flow:
        return together.flow()

    @port.operation("down", starts=("ACTIVE",), ends="DOWN")
    def down(kind: Kind) -> hf.Flow:
        return hf.linear("nothing", lambda_free)

    port.operation("delete", ends="DELETED")(down)
    return port


def lambda_free() -> None: ...


def writer(directory: Path, name: str, *, meet: threading.Barrier | None = None, **options: Any) -> Mechanism:
    backend = Backend(directory)

    def postcommit(resource_id: str, desired: dict[str, Any], revision: int) -> None:
        backend.say("begin", name, revision)
        if meet is not None:
            meet.wait(30)
        if name in desired["faults"]:
            raise ConnectionError(f"{name} is down")
        backend.say("done", name, revision)

    def precommit(change: Change) -> None:
        backend.say("checked", name)

    return Mechanism(name, postcommit, options.pop("precommit", precommit), **options)


def test_one_that_refuses_before_the_commit_leaves_nothing(tmp_path: Path) -> None:
    shop = Shop(
        tmp_path,
        ports(tmp_path, writer(tmp_path, "ovs"), writer(tmp_path, "sg", precommit=refuse), writer(tmp_path, "dhcp")),
    )
    port = shop.port()
    before, tasks = port.view(), len(shop.hold.tasks())
    said = len(shop.backend.said("begin"))
    with pytest.raises(DocumentInvalid, match="the fabric does not take that"):
        shop.ask("update", port.id, desired={"faults": ["refused"]})
    shop.work()
    assert (port.view(), len(shop.hold.tasks()), len(shop.backend.said("begin"))) == (before, tasks, said)
    assert shop.backend.said("checked", "ovs")
    shop.do("down", port.id)  # nothing new is desired: there is nothing to check
    assert len(shop.backend.said("checked", "ovs")) == 2
    shop.hold.close()


def test_what_is_independent_is_applied_at_the_same_time(tmp_path: Path) -> None:
    together = threading.Barrier(2)
    kind = ports(
        tmp_path,
        writer(tmp_path, "dhcp", after=("ovs", "sg")),
        writer(tmp_path, "ovs", meet=together),
        writer(tmp_path, "sg", meet=together),
    )
    shop = Shop(tmp_path, kind)
    port = shop.port()
    words = [line[:2] for line in shop.backend.said() if line[0] != "checked"]
    assert sorted(words[:2]) == [["begin", "ovs"], ["begin", "sg"]]  # else the barrier would not have opened
    assert sorted(words[2:4]) == [["done", "ovs"], ["done", "sg"]]
    assert words[4:] == [["begin", "dhcp"], ["done", "dhcp"]]
    assert (port.lifecycle, port.sync_status) == ("ACTIVE", "IN_SYNC")
    shop.hold.close()


@pytest.mark.requirement("NEUTRON-12", "NEUTRON-13", "NEUTRON-10")
def test_an_isolated_failure_is_told_and_hurts_no_other(tmp_path: Path) -> None:
    kind = ports(tmp_path, writer(tmp_path, "sg"), writer(tmp_path, "ovs"), writer(tmp_path, "dhcp", after=("sg",)))
    shop = Shop(tmp_path, kind)
    port = shop.port()
    task = shop.do("update", port.id, desired={"mtu": 2, "faults": ["sg"]})
    assert sorted(line[1] for line in shop.backend.said("done") if line[2] == 2) == ["dhcp", "ovs"]
    assert (task.state, port.status, port.sync_status) == ("FAILED", "ACTIVE", "OUT_OF_SYNC")
    failed = port.last_failed_task
    assert failed is not None
    assert (failed["uuid"], failed["step"]) == (task.id, "port.update/mechanisms/verdict/sg")
    assert failed["error"]["code"] == "driver.failed"
    assert "sg failed: ConnectionError: sg is down" in failed["error"]["detail"]
    shop.do("update", port.id, desired={"mtu": 2})
    assert (port.sync_status, port.last_failed_task) == ("IN_SYNC", None)
    shop.hold.close()


def test_a_failure_that_is_not_isolated_stops_what_has_not_begun(tmp_path: Path) -> None:
    kind = ports(tmp_path, writer(tmp_path, "sg", policy="fail"), writer(tmp_path, "dhcp", after=("sg",)))
    shop = Shop(tmp_path, kind)
    port = shop.port()
    task = shop.do("update", port.id, desired={"faults": ["sg"]})
    assert (task.state, task.view()["error"]["step"]) == ("FAILED", "port.update/mechanisms/postcommit/sg")
    assert [line for line in shop.backend.said("begin", "dhcp") if line[2] == 2] == []
    assert port.sync_status == "OUT_OF_SYNC"
    shop.hold.close()


def test_an_isolated_mechanism_is_tried_as_often_as_it_says(tmp_path: Path) -> None:
    shop = Shop(tmp_path, ports(tmp_path, writer(tmp_path, "sg", retry=Retry(attempts=3, backoff_s=0.0))))
    task = shop.do("create", desired={"faults": ["sg"]})
    assert (task.state, len(shop.backend.said("begin", "sg"))) == ("FAILED", 3)
    shop.hold.close()


def test_a_mechanism_may_be_asynchronous_and_ask_for_its_context(tmp_path: Path) -> None:
    async def postcommit(ctx: hf.AsyncContext, desired: dict[str, Any]) -> None:
        await ctx.sleep(0)
        if desired["faults"]:
            raise ConnectionError("down")

    shop = Shop(tmp_path, ports(tmp_path, Mechanism("sg", postcommit)))
    good, bad = shop.do("create", desired={}), shop.do("create", desired={"faults": ["x"]})
    assert (good.state, bad.state, bad.view()["error"]["code"]) == ("SUCCEEDED", "FAILED", "driver.failed")
    shop.hold.close()


@pytest.mark.parametrize(
    ("mechanisms", "said"),
    [
        ([("a", {"policy": "maybe"})], "policy='maybe'"),
        ([("a", {}), ("a", {})], "two mechanisms have one name"),
        ([("a", {"after": ("b",)})], "comes after 'b', which is none of them"),
        ([("a", {"after": ("b",)}), ("b", {"after": ("a",)})], "a, b wait for each other"),
    ],
)
def test_wrong_mechanisms_are_refused(mechanisms: list[tuple[str, dict[str, Any]]], said: str) -> None:
    with pytest.raises(KindError, match=said):
        Mechanisms(*(Mechanism(name, lambda_free, **options) for name, options in mechanisms))


def test_an_isolated_failure_can_not_undo_the_others() -> None:
    together = Mechanisms(Mechanism("a", lambda_free), Mechanism("b", lambda_free, policy="fail"))
    with pytest.raises(KindError, match="a is isolated"):
        together.flow(on_failure="revert")
