"""Undoing what has ended: a task of its own, with the arguments, results and keys of the first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import holdfast as hf
from holdfast.errors import RollbackSuperseded
from holdfast.local import Holdfast, Task
from tests.core.scripted import step
from tests.worker import flows, nested_flows, resting_flows
from tests.worker.house import House
from tests.worker.scripted import Bench
from tests.worker.test_interrupted import go_on

pytestmark = pytest.mark.requirement("TF-9", "IRONIC-1")


def ended(house: House, flow: hf.Flow, state: str, **options: object) -> tuple[Holdfast, Task]:
    hold = house.open(lease_s=3600)
    task = hold.submit(flow, {"at": house.at}, **options)  # type: ignore[arg-type]
    hold.work(until_idle=True)
    assert task.state == state
    return hold, task


def undo(hold: Holdfast, task: Task) -> Task:
    """The rollback, done."""
    made = task.rollback()
    hold.work(until_idle=True)
    return made


def test_a_success_is_undone_in_reverse_with_what_it_gave(house: House) -> None:
    house.turn("go")
    hold, task = ended(house, flows.failing, "SUCCEEDED", claims=["node/1"])
    undoing = undo(hold, task)
    assert (task.state, undoing.state) == ("SUCCEEDED", "SUCCEEDED")
    assert house.said() == ["first", "make", "made", "last", "unmake", "unmade", "unfirst"]
    (unmake,) = [line for line in house.lines() if line.what == "unmake"]
    assert unmake.extra == "made"
    view = undoing.view()
    assert (view["rollback_of"], view["effect"], view["revert"]) == (task.id, "none", "done")
    assert view["progress"]["percent"] == 100


def test_its_reverts_have_the_keys_of_the_first(house: House) -> None:
    house.turn("go")
    hold, task = ended(house, flows.keyed, "SUCCEEDED")
    keys = [line.key for line in house.lines() if line.what == "twice"]
    undo(hold, task)
    undos = [line for line in house.lines() if line.what == "untwice"]
    assert undos[-1].extra == keys[-1]


def test_a_map_is_undone_element_by_element(house: House) -> None:
    house.turn("go")
    hold, task = ended(house, nested_flows.mapped, "SUCCEEDED")
    assert undo(hold, task).state == "SUCCEEDED"
    undone = [line.step for line in house.lines() if line.what == "undone"]
    assert sorted(undone) == [f"mapped/each[{index}]/element" for index in range(4)]


def test_an_aborted_task_is_undone_with_the_step_that_was_stopped(house: House) -> None:
    hold = house.open()
    task = hold.submit(flows.rerun, {"at": house.at})
    with hold.working():
        house.until_said("make")
        assert task.abort().wait(60).state == "ABORTED"
    undoing = undo(hold, task)
    assert undoing.state == "SUCCEEDED"
    assert house.said() == ["first", "make", "unmake", "unmade", "unfirst"]


def test_what_a_cancel_left_is_undone(house: House) -> None:
    hold = house.open()
    task = hold.submit(flows.rerun, {"at": house.at})
    with hold.working():
        house.until_said("make")
        assert task.cancel(revert=False).wait(60).state == "CANCELLED"
    undo(hold, task)
    assert house.said() == ["first", "make", "unmake", "unmade", "unfirst"]


def test_what_is_undone_has_nothing_to_undo(house: House) -> None:
    house.turn("go", "last_fails")
    hold, task = ended(house, flows.failing, "FAILED")
    said = house.said()
    assert undo(hold, task).id == task.id
    assert house.said() == said


@pytest.mark.requirement("TF-2")
def test_a_kill_in_a_rollback_goes_on_with_it(house: House) -> None:
    house.turn("go", "undo_waits")
    _, task = ended(house, flows.failing, "SUCCEEDED")
    undoing = task.rollback()
    worker = house.worker(lease_s=3600)
    house.until_said("unmake")
    worker.kill()
    house.turn_off("undo_waits")
    assert go_on(house, undoing).state == "SUCCEEDED"
    assert house.said() == ["first", "make", "made", "last", "unmake", "unmake", "unmade", "unfirst"]


@pytest.mark.parametrize("stop", [Task.cancel, Task.abort], ids=["cancel", "abort"])
def test_a_rollback_that_was_stopped_is_asked_for_again_and_repeats_no_finished_revert(
    house: House, stop: Callable[[Task], Task]
) -> None:
    house.turn("last_fails")
    hold, task = ended(house, resting_flows.kept, "FAILED")
    house.turn("undo_fails")
    first = undo(hold, task)
    assert (first.state, first.reason) == ("SUSPENDED", "revert_failed")
    assert house.said() == ["first", "it", "see it", "last", "unsee", "unit"]
    stop(first)
    hold.work(until_idle=True)
    assert first.state in ("CANCELLED", "ABORTED")
    house.turn("mended")
    second = undo(hold, task)
    assert (second.state, second.id != first.id) == ("SUCCEEDED", True)
    assert house.said()[6:] == ["unit", "unfirst"], "what the first has undone is undone"


def test_what_somebody_has_built_on_is_not_undone_beneath_him_unless_forced(house: House) -> None:
    hold, task = ended(house, flows.short, "SUCCEEDED", claims=["node/1"])
    later = hold.submit(flows.short, {"at": house.at}, claims=["node/1"])
    hold.work(until_idle=True)
    with pytest.raises(RollbackSuperseded) as refusal:
        task.rollback()
    assert refusal.value.details == {"task": later.id, "resource": "node/1"}
    task.rollback(force=True)
    hold.work(until_idle=True)
    assert house.said() == ["first", "last", "first", "last", "unfirst"]


def test_a_retry_is_the_same_request_as_a_new_task(house: House) -> None:
    house.turn("last_fails")
    hold, task = ended(house, flows.short, "FAILED", claims=["node/1"], tag="t")
    house.turn_off("last_fails")
    again = task.retry()
    assert task.retry().id == again.id
    hold.work(until_idle=True)
    view = again.view()
    assert (view["state"], view["retry_of"], view["tag"]) == ("SUCCEEDED", task.id, None)
    assert view["claims"] == task.view()["claims"]
    assert house.said() == ["first", "last", "unfirst", "first", "last"]
    keys = [line.key for line in house.lines() if line.what == "first"]
    assert keys[0] != keys[1]


@pytest.mark.parametrize(("verb", "effect"), [("abort", "unknown"), ("force_fail", "partial")])
def test_one_that_is_ended_at_rest_says_that_not_all_is_undone(tmp_path: Path, verb: str, effect: str) -> None:
    bench = Bench(tmp_path, hf.linear("pair", step("first"), step("second")))
    task = bench.submit()
    bench.settle()
    bench.end("first")
    bench.end("second")
    undoing = task.rollback()
    bench.settle()
    undoing.suspend()
    bench.end("second")
    assert (undoing.state, bench.running()) == ("SUSPENDED", [])
    view = (undoing.abort() if verb == "abort" else undoing.force_fail("enough")).view()
    assert (task.state, view["effect"], view["revert"]) == ("SUCCEEDED", effect, "partial")
