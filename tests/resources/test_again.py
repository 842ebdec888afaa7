"""Retries and rollbacks of a resource's tasks."""

from __future__ import annotations

import pytest

from holdfast.errors import ResourceImmutable, RollbackSuperseded
from tests.resources.conftest import Shop
from tests.resources.test_project import facts


def test_a_retry_does_what_is_desired_now(shop: Shop) -> None:
    port = shop.port()
    shop.do("down", port.id)
    first = shop.do("update", port.id, desired={"mtu": 2, "faults": ["before"]})
    shop.do("update", port.id, desired={"mtu": 3})
    again = first.retry()
    assert port.sync_status == "SYNCING"
    shop.work()
    assert (again.state, facts(port)) == ("SUCCEEDED", ("DOWN", "IN_SYNC", 3, 3))
    assert shop.backend.said("written")[-1][2] == 3


def test_a_retry_that_may_not_be_is_refused_and_leaves_no_task(shop: Shop) -> None:
    port = shop.port(faults=["down-before"])
    failed = shop.do("down", port.id)
    shop.do("delete", port.id)
    before = len(shop.hold.tasks())
    with pytest.raises(ResourceImmutable, match="it is DELETED"):
        failed.retry()
    assert len(shop.hold.tasks()) == before


def test_a_create_that_came_to_nothing_can_be_retried(shop: Shop) -> None:
    task = shop.ask("create", desired={"name": "late"})
    task.cancel()
    port = shop.of(task)
    assert port.is_deleted
    again = task.retry()
    assert (port.is_deleted, port.lifecycle) == (False, "BUILD")
    shop.work()
    assert (again.state, facts(port)) == ("SUCCEEDED", ("ACTIVE", "IN_SYNC", 1, 1))


def test_a_rollback_brings_back_what_was_applied_before_as_a_new_revision(shop: Shop) -> None:
    port = shop.port(mtu=1)
    task = shop.do("update", port.id, desired={"mtu": 2})
    undo = task.rollback()
    assert (port.desired["mtu"], port.sync_status, port.revision) == (1, "SYNCING", 3)
    shop.work()
    assert (undo.state, facts(port)) == ("SUCCEEDED", ("ACTIVE", "IN_SYNC", 3, 3))
    assert shop.backend.there(port.id)["mtu"] == 1
    assert port.revisions()[0]["task_id"] == undo.id


def test_a_rollback_restores_the_lifecycle(shop: Shop) -> None:
    port = shop.port()
    shop.do("down", port.id).rollback()
    shop.work()
    assert facts(port) == ("ACTIVE", "IN_SYNC", 1, 1)
    assert shop.backend.said("on", port.id)


def test_the_rollback_of_a_create_is_the_end_of_it(shop: Shop) -> None:
    task = shop.do("create", desired={})
    port = shop.of(task)
    task.rollback()
    shop.work()
    assert (port.lifecycle, port.is_deleted, shop.backend.there(port.id)) == ("DELETED", True, None)


def test_the_rollback_of_a_delete_brings_it_back(shop: Shop) -> None:
    port = shop.port(mtu=7)
    shop.do("delete", port.id).rollback()
    shop.work()
    assert facts(port) == ("ACTIVE", "IN_SYNC", 1, 1)
    assert shop.backend.there(port.id)["mtu"] == 7


def test_a_rollback_beneath_others_is_refused_unless_forced(shop: Shop) -> None:
    port = shop.port(mtu=1)
    first = shop.do("update", port.id, desired={"mtu": 2})
    queued = shop.ask("down", port.id)
    with pytest.raises(RollbackSuperseded, match=f"task {queued.id} is going to change it"):
        first.rollback()
    queued.cancel()
    later = shop.ask("update", port.id, desired={"mtu": 3})
    later.cancel()  # nothing was done; but something else is desired now
    with pytest.raises(RollbackSuperseded) as refused:
        first.rollback()
    assert (refused.value.status, refused.value.code) == (409, "rollback.superseded")
    assert port.desired["mtu"] == 3
    forced = first.rollback(force=True)
    shop.work()
    assert forced.state == "SUCCEEDED"
    assert shop.backend.there(port.id)["mtu"] == 1
    assert (port.desired["mtu"], port.sync_status) == (3, "OUT_OF_SYNC")
    assert shop.hold.tasks(task="verify")[0].state == "SUCCEEDED"


def test_a_rollback_that_failed_can_be_tried_again(shop: Shop) -> None:
    port = shop.port(mtu=1)
    shop.do("readdress", port.id, {"mtu": 2})
    shop.do("update", port.id, desired={**port.desired, "faults": ["undo"]})
    update = shop.hold.tasks(task="update")[0]
    undo = update.rollback()
    shop.work()
    assert (undo.state, port.sync_status) == ("SUSPENDED", "UNKNOWN")
    shop.backend.turn("mended")
    undo.resume({"port.update/update/write": "rerun"})
    shop.work()
    assert (undo.state, facts(port)) == ("SUCCEEDED", ("ACTIVE", "IN_SYNC", 4, 4))
