"""A worker dies in the middle of an operation: the resource is as the story says, whoever goes on."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from sqlalchemy import update

import holdfast as hf
from holdfast.resources.handle import Resource
from holdfast.store.schema import journal
from tests.forked import Forked
from tests.resources.conftest import Shop

REPOSITORY = Path(__file__).parents[2]


def die_in_the_middle(shop: Shop, port: Resource[hf.Task]) -> None:
    """A worker of another process is killed while it writes revision 2."""
    words = ("tests.resources.process", shop.url, str(shop.backend.directory), port.id, "0", "0")
    worker = Forked(*words, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert worker.stdin is not None
    worker.stdin.write("go\n")
    worker.stdin.flush()
    shop.until_said("write", port.id, 2)
    worker.kill()
    worker.wait()
    worker.close()


@pytest.mark.requirement("G1", "G8")
def test_another_worker_goes_on_with_the_operation(shop: Shop) -> None:
    port = shop.port(mtu=1)
    task = shop.ask("update", port.id, desired={"mtu": 2, "faults": ["hang"]})
    behind = shop.ask("update", port.id, desired={"mtu": 3})
    die_in_the_middle(shop, port)
    assert (port.sync_status, port.applied_revision, port.view()["queue_length"]) == ("SYNCING", 1, 2)
    shop.backend.turn("go")
    shop.work()
    assert (task.state, behind.state) == ("SUCCEEDED", "SUCCEEDED")
    assert [line[2] for line in shop.backend.said("write", port.id)] == [1, 2, 2, 3]
    assert [line[2] for line in shop.backend.said("written", port.id)] == [1, 2, 3]
    assert (port.sync_status, port.applied_revision, port.view()["queue_length"]) == ("IN_SYNC", 3, 0)


def work_without_kinds(shop: Shop) -> None:
    with hf.open(shop.url) as stranger:
        stranger.work(until_idle=True)


@pytest.mark.requirement("NEUTRON-12", "G9")
def test_who_is_set_aside_in_the_middle_of_a_step_leaves_doubt_until_it_has_ended(shop: Shop) -> None:
    port = shop.port(mtu=1)
    task = shop.ask("update", port.id, desired={"mtu": 2, "faults": ["hang"]})
    die_in_the_middle(shop, port)
    work_without_kinds(shop)
    assert (task.state, task.reason, port.sync_status) == ("SUSPENDED", "definition_changed", "UNKNOWN")
    task.resume()
    shop.backend.turn("go")
    shop.work()
    assert (task.state, port.sync_status, port.applied_revision) == ("SUCCEEDED", "IN_SYNC", 2)


@pytest.mark.requirement("G10")
def test_who_can_not_be_read_leaves_doubt(shop: Shop) -> None:
    port = shop.port(mtu=1)
    task = shop.ask("update", port.id, desired={"mtu": 2, "faults": ["hang"]})
    die_in_the_middle(shop, port)
    broken = update(journal).where(journal.c.kind == "started").values(data="{")
    shop.hold.store.write(lambda tx: tx.execute(broken))
    shop.work()
    assert (task.state, task.reason, port.sync_status) == ("SUSPENDED", "poison", "UNKNOWN")


def test_who_is_set_aside_before_it_began_leaves_none_and_lets_others_pass(shop: Shop) -> None:
    port = shop.port(mtu=1)
    task = shop.ask("down", port.id)
    work_without_kinds(shop)
    assert (task.state, task.reason, port.sync_status) == ("SUSPENDED", "definition_changed", "IN_SYNC")
    assert shop.do("ping", port.id).state == "SUCCEEDED"
    task.resume()
    shop.work()
    assert (task.state, port.lifecycle) == ("SUCCEEDED", "DOWN")
