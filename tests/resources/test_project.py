"""What each end of a task means for its resource."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from holdfast.errors import ResourceNotFound
from holdfast.store.schema import operations
from tests.resources.conftest import Shop


def facts(port: Any) -> tuple[Any, ...]:
    return (port.lifecycle, port.sync_status, port.revision, port.applied_revision)


@pytest.mark.requirement("NOVA-5")
def test_a_failure_without_an_effect_leaves_the_resource_where_it_was(shop: Shop) -> None:
    port = shop.port(faults=["down-before"])
    task = shop.do("down", port.id)
    assert (task.state, task.view()["effect"], task.view()["revert"]) == ("FAILED", "none", "done")
    assert facts(port) == ("ACTIVE", "IN_SYNC", 1, 1)
    assert port.status == "ACTIVE"


@pytest.mark.requirement("NOVA-5")
def test_a_failure_with_an_effect_leaves_it_at_fault(shop: Shop) -> None:
    port = shop.port(faults=["down-after"])
    task = shop.do("down", port.id)
    assert (task.state, task.view()["effect"]) == ("FAILED", "partial")
    assert facts(port) == ("ERROR", "OUT_OF_SYNC", 1, 1)
    assert port.status == "ERROR"
    failed = port.last_failed_task
    assert failed is not None
    assert (failed["uuid"], failed["task"], failed["step"]) == (task.id, "down", "port.down/down/switch_off")
    assert failed["error"]["code"] == "step.failed"
    shop.do("up", port.id)
    assert (port.lifecycle, port.status) == ("ACTIVE", "ACTIVE")
    shop.do("reconcile", port.id)
    assert facts(port) == ("ACTIVE", "IN_SYNC", 1, 1)
    assert port.last_failed_task is None
    assert task.state == "FAILED"  # and can still be found


@pytest.mark.requirement("NEUTRON-10", "NEUTRON-13")
def test_a_failed_update_keeps_what_is_desired_and_names_what_failed(shop: Shop) -> None:
    port = shop.port(mtu=1400)
    task = shop.do("update", port.id, desired={"mtu": 1500, "faults": ["before"]})
    assert facts(port) == ("ACTIVE", "OUT_OF_SYNC", 2, 1)
    assert port.desired["mtu"] == 1500
    assert port.view()["applied"]["mtu"] == 1400
    assert port.status == "ACTIVE"
    failed = port.last_failed_task
    assert failed is not None
    assert (failed["uuid"], failed["step"]) == (task.id, "port.update/update/write")
    shop.do("ping", port.id)  # a success of something else covers nothing
    assert port.last_failed_task == failed
    assert facts(port) == ("ACTIVE", "OUT_OF_SYNC", 2, 1)
    shop.do("update", port.id, desired={"mtu": 1500})
    assert facts(port) == ("ACTIVE", "IN_SYNC", 3, 3)
    assert port.last_failed_task is None


def test_a_success_behind_it_covers_a_failed_revision(shop: Shop) -> None:
    port = shop.port()
    first = shop.ask("update", port.id, desired={"mtu": 1, "faults": ["before"]})
    shop.ask("update", port.id, desired={"mtu": 2})
    assert port.sync_status == "SYNCING"
    shop.work()
    assert (first.state, facts(port), port.last_failed_task) == ("FAILED", ("ACTIVE", "IN_SYNC", 3, 3), None)


def test_a_failed_create_is_at_fault_even_if_nothing_is_left_of_it(shop: Shop) -> None:
    task = shop.do("create", desired={"faults": ["before"]})
    port = shop.of(task)
    assert (task.state, facts(port)) == ("FAILED", ("ERROR", "OUT_OF_SYNC", 1, 0))
    shop.do("update", port.id, desired={"mtu": 3})
    shop.do("delete", port.id)
    assert port.is_deleted


def test_a_cancelled_create_is_gone(shop: Shop) -> None:
    never = shop.ask("create", desired={})
    never.cancel()
    port = shop.of(never)
    assert (never.state, port.lifecycle, port.is_deleted) == ("CANCELLED", "DELETED", True)
    begun = shop.ask("create", desired={"faults": ["hang"]})
    with shop.hold.working():
        shop.until_said("write", shop.of(begun).id)
        begun.cancel().wait(30)
    port = shop.of(begun)
    assert (begun.state, port.lifecycle, port.is_deleted) == ("CANCELLED", "DELETED", True)
    assert shop.backend.there(port.id) is None


def test_a_cancelled_update_leaves_what_is_desired(shop: Shop) -> None:
    port = shop.port(mtu=1)
    queued = shop.ask("update", port.id, desired={"mtu": 2})
    queued.cancel()
    assert facts(port) == ("ACTIVE", "OUT_OF_SYNC", 2, 1)
    shop.do("reconcile", port.id)
    assert facts(port) == ("ACTIVE", "IN_SYNC", 2, 2)
    assert shop.backend.there(port.id)["mtu"] == 2


def test_one_that_was_rolled_back_as_it_ran_leaves_what_is_desired(shop: Shop) -> None:
    port = shop.port(mtu=1)
    task = shop.ask("update", port.id, desired={"mtu": 2, "faults": ["hang"]})
    with shop.hold.working():
        shop.until_said("write", port.id, 2)
        task.rollback().wait(30)
    assert (task.state, facts(port)) == ("REVERTED", ("ACTIVE", "OUT_OF_SYNC", 2, 1))
    assert shop.backend.there(port.id)["mtu"] == 1


@pytest.mark.requirement("TF-9")
def test_who_rests_with_a_revert_that_failed_puts_the_resource_in_doubt(shop: Shop) -> None:
    port = shop.port(mtu=1)
    task = shop.do("update", port.id, desired={"mtu": 2, "faults": ["after", "undo"]})
    assert (task.state, task.reason) == ("SUSPENDED", "revert_failed")
    assert facts(port) == ("ACTIVE", "UNKNOWN", 2, 1)
    shop.backend.turn("mended")
    task.resume({"port.update/update/write": "rerun"})
    shop.work()
    assert (task.state, facts(port)) == ("FAILED", ("ACTIVE", "OUT_OF_SYNC", 2, 1))
    assert shop.backend.there(port.id)["mtu"] == 1


def test_what_can_not_be_aborted_says_so(shop: Shop) -> None:
    from holdfast.errors import VerbUnsupported

    port = shop.port(faults=["up-hang"])
    shop.do("down", port.id)
    waits = shop.ask("up", port.id)
    waits.abort()  # it has not begun
    assert waits.state == "ABORTED"
    task = shop.ask("up", port.id)
    with shop.hold.working():
        shop.until_said("on", port.id)
        with pytest.raises(VerbUnsupported) as refused:
            task.abort()
        shop.backend.turn("go")
        task.wait(30)
    assert (refused.value.code, refused.value.details["alternatives"]) == ("task.verb_unsupported", ["cancel"])
    assert (task.state, facts(port)) == ("SUCCEEDED", ("ACTIVE", "IN_SYNC", 1, 1))


def test_the_feed_tells_of_both_words(shop: Shop) -> None:
    port = shop.port()
    shop.do("down", port.id)
    shop.do("update", port.id, desired={"mtu": 9})
    told = [
        (entry.type, entry.data["from"], entry.data["to"])
        for entry in shop.hold.events()
        if entry.type.startswith("resource.") and entry.resource == port.id
    ]
    assert told == [
        ("resource.sync", "IN_SYNC", "SYNCING"),
        ("resource.sync", "SYNCING", "IN_SYNC"),
        ("resource.status", "BUILD", "ACTIVE"),
        ("resource.status", "ACTIVE", "DOWN"),
        ("resource.sync", "IN_SYNC", "SYNCING"),
        ("resource.sync", "SYNCING", "IN_SYNC"),
    ]


def test_a_process_without_the_kind_ends_tasks_of_it_all_the_same(shop: Shop) -> None:
    import holdfast as hf

    port = shop.port()
    task = shop.ask("update", port.id, desired={"mtu": 2})
    with hf.open(shop.url) as other:
        other.task(task.id).cancel()
        assert other.resource("port", port.id).sync_status == "OUT_OF_SYNC"
    assert (port.view()["queue_length"], facts(port)) == (0, ("ACTIVE", "OUT_OF_SYNC", 2, 1))


def test_purged_tasks_take_with_them_what_only_they_are_remembered_by(tmp_path: Path) -> None:
    shop = Shop(tmp_path, retention_s=0.0)
    port, gone = shop.port(mtu=1), shop.port()
    shop.do("update", port.id, desired={"mtu": 2})
    shop.do("update", port.id, desired={"mtu": 3, "faults": ["before"]})
    shop.do("delete", gone.id)
    assert shop.hold.purge() == 5
    assert [each["revision"] for each in port.revisions()] == [3, 2]  # what is desired, and what is applied
    assert port.last_failed_task is not None
    with pytest.raises(ResourceNotFound):
        gone.view()
    left = select(func.count()).select_from(operations)
    assert shop.hold.store.read(lambda tx: tx.execute(left).scalar()) == 0
    assert shop.do("reconcile", port.id).state == "FAILED"  # it is applied as it is desired, faults and all
    assert shop.do("update", port.id, desired={"mtu": 4}).state == "SUCCEEDED"
    shop.hold.close()
