"""The order of work on one resource, whoever asks for it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from holdfast.core.states import SUCCEEDED
from holdfast.resources import again, project, state
from tests.forked import Forked
from tests.postgresql import only_sqlite
from tests.resources.conftest import PATIENCE_S, Shop
from tests.resources.ports import plain
from tests.tasks.test_query import plan_of

REPOSITORY = Path(__file__).parents[2]
PROCESSES, TIMES = 4, 100


@pytest.mark.requirement("NEUTRON-7", "NEUTRON-8", "G8", "P8")
def test_four_processes_change_one_resource_in_one_order(shop: Shop) -> None:
    port = shop.port()
    processes = [
        Forked(
            "tests.resources.process", shop.url, str(shop.backend.directory), port.id, str(who), str(TIMES),
            cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for who in range(PROCESSES)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        assert process.wait(PATIENCE_S) == 0
        process.close()
    last = PROCESSES * TIMES + 1
    revisions = {each["revision"]: each for each in port.revisions(limit=last)}
    written = [(line[2], line[3]) for line in shop.backend.said("written", port.id)]
    assert [revision for revision, _ in written] == list(range(1, last + 1))
    assert written == [(number, plain(revisions[number]["desired"])) for number in range(1, last + 1)]
    assert shop.backend.there(port.id) == plain(port.desired)
    assert (port.revision, port.applied_revision, port.sync_status) == (last, last, "IN_SYNC")
    assert shop.backend.said("collision") == []
    assert len({each["task_id"] for each in revisions.values()}) == last
    # Nobody's change of the one field was lost to another's of the other.
    assert port.desired["address"] in [f"10.0.{who}.{TIMES - 1}" for who in (1, 3)]
    assert port.desired["mtu"] in [1000 * who + TIMES - 1 for who in (0, 2)]


@pytest.mark.requirement("NEUTRON-8")
def test_different_resources_are_worked_on_at_the_same_time(shop: Shop) -> None:
    tasks = [shop.ask("create", desired={"faults": ["hang"]}) for _ in range(3)]
    behind = [shop.ask("update", shop.of(task).id, desired={}) for task in tasks]
    with shop.hold.working():
        for task in tasks:
            shop.until_said("write", shop.of(task).id)
        assert {task.state for task in behind} == {"PENDING"}
        shop.backend.turn("go")
        for task in behind:
            task.wait(30)
    assert {task.state for task in (*tasks, *behind)} == {SUCCEEDED}
    assert shop.backend.said("collision") == []


def test_a_long_queue_is_cancelled_from_any_end(shop: Shop) -> None:
    port = shop.port()
    tasks = [shop.ask("update", port.id, desired={"mtu": mtu}) for mtu in range(6)]
    for at in (5, 0, 3):
        tasks[at].cancel()
    assert (port.view()["queue_length"], port.sync_status) == (3, "SYNCING")
    shop.work()
    assert [line[2] for line in shop.backend.said("written", port.id)] == [1, 3, 4, 6]
    assert (port.applied_revision, port.revision, port.sync_status) == (6, 7, "OUT_OF_SYNC")


@only_sqlite
@pytest.mark.parametrize("statement", [state._QUEUE, again._LATER, project._LEAVES], ids=["shown", "later", "leaves"])
def test_what_waits_on_one_resource_is_found_without_reading_what_waits_on_others(shop: Shop, statement: Any) -> None:
    assert "USING INDEX ix_operations_live (kind=? AND id=?" in plan_of(Path(shop.url.partition("///")[2]), statement)
