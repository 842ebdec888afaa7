"""After `kill -9` in the middle of a step: what its author said is done, and it finds what it left."""

from __future__ import annotations

import pytest

import holdfast as hf
from holdfast.local import Task
from tests.worker import flows
from tests.worker.house import House


def interrupted(house: House, flow: hf.Flow, said: str, times: int = 1) -> Task:
    """A task whose worker was killed when the step had said that."""
    task = house.open().submit(flow, {"at": house.at})
    worker = house.worker(lease_s=3600)
    house.until_said(said, times)
    worker.kill()
    return task


def go_on(house: House, task: Task) -> Task:
    """Another worker does what is left, without waiting for a lease of an hour."""
    house.open(lease_s=3600).work(until_idle=True)
    return task


@pytest.mark.requirement("TF-3", "G3")
class TestOnInterrupt:
    def test_rerun_enters_it_again(self, house: House) -> None:
        task = interrupted(house, flows.rerun, "make")
        house.turn("go")
        assert go_on(house, task).state == "SUCCEEDED"
        assert house.said() == ["first", "make", "make", "made", "use"]

    def test_undo_undoes_it_and_all_before_it(self, house: House) -> None:
        task = interrupted(house, flows.undone, "make")
        assert go_on(house, task).state == "FAILED"
        assert house.said() == ["first", "make", "unmake", "unmade", "unfirst"]
        assert task.failure is not None
        assert task.failure.types == ("Interrupted",)
        assert task.view()["revert"] == "done"

    @pytest.mark.requirement("NOVA-15")
    def test_suspend_never_repeats_it_silently(self, house: House) -> None:
        task = interrupted(house, flows.once, "make")
        go_on(house, task)
        assert (task.state, task.reason) == ("SUSPENDED", "outcome_unknown")
        assert go_on(house, task).state == "SUSPENDED"
        assert house.said() == ["first", "make"]

    def test_a_probe_that_found_it_done_gives_its_result(self, house: House) -> None:
        task = interrupted(house, flows.asking, "make")
        house.turn("happened")
        assert go_on(house, task).state == "SUCCEEDED"
        assert house.said() == ["first", "make", "probe", "use"]
        assert task.results["made"] == "found"
        assert house.lines()[-1].extra == "found"

    @pytest.mark.parametrize("flow", [flows.asking, flows.asking_once], ids=["rerun", "suspend"])
    def test_a_probe_that_found_nothing_lets_it_be_entered(self, house: House, flow: hf.Flow) -> None:
        task = interrupted(house, flow, "make")
        house.turn("nothing_happened", "go")
        assert go_on(house, task).state == "SUCCEEDED"
        assert house.said() == ["first", "make", "probe", "make", "made", "use"]

    @pytest.mark.parametrize("flow", [flows.asking, flows.asking_once], ids=["rerun", "suspend"])
    def test_a_probe_that_does_not_know_asks_a_person(self, house: House, flow: hf.Flow) -> None:
        task = interrupted(house, flow, "make")
        go_on(house, task)
        assert (task.state, task.reason) == ("SUSPENDED", "outcome_unknown")
        assert house.said() == ["first", "make", "probe"]
        task.resume({f"{flow.name}/make": ("done", "by hand")})
        assert go_on(house, task).state == "SUCCEEDED"
        assert house.lines()[-1].extra == "by hand"


@pytest.mark.requirement("NOVA-15", "G3")
@pytest.mark.parametrize("flow", [flows.counted, flows.counted_apart], ids=["thread", "process"])
def test_a_checkpoint_is_handed_back(house: House, flow: hf.Flow) -> None:
    task = interrupted(house, flow, "part", 3)
    house.turn("go")
    assert go_on(house, task).state == "SUCCEEDED"
    parts = [line.extra for line in house.lines() if line.what == "part"]
    assert parts == [0, 1, 2, 2]
    assert len({line.pid for line in house.lines() if line.what == "part"}) == 2


@pytest.mark.requirement("G3")
def test_the_key_is_the_same_until_it_is_undone_and_then_new(house: House) -> None:
    """Two attempts, a crash in the second, then its flow is undone and tried again."""
    task = interrupted(house, flows.keyed, "twice", 2)
    house.turn("go")
    assert go_on(house, task).state == "SUCCEEDED"
    entries = [line for line in house.lines() if line.what == "twice"]
    (undo,) = [line for line in house.lines() if line.what == "untwice"]
    assert len({line.key for line in entries[:3]}) == 1
    assert undo.extra == entries[0].key
    assert undo.key != undo.extra
    assert entries[-1].key not in (entries[0].key, undo.key)
    assert [line.extra for line in entries[:3]] == [None, "left by the first", "left by the first"]
    assert entries[3].extra is None, "a new incarnation has no checkpoints"


@pytest.mark.requirement("TF-2")
def test_a_kill_in_a_revert_continues_the_undo(house: House) -> None:
    house.turn("go", "last_fails", "undo_waits")
    task = interrupted(house, flows.failing, "unmake")
    assert task.state == "REVERTING"
    house.turn_off("undo_waits")
    assert go_on(house, task).state == "FAILED"
    assert house.said() == ["first", "make", "made", "last", "unmake", "unmake", "unmade", "unfirst"]
    keys = {line.key for line in house.lines() if line.what == "unmake"}
    assert len(keys) == 1, "an interrupted revert keeps its key"
    assert task.view()["revert"] == "done"


@pytest.mark.requirement("TF-4", "NOVA-14")
def test_what_was_queued_and_never_begun_is_done_by_another(house: House) -> None:
    hold = house.open()
    running = hold.submit(flows.rerun, {"at": house.at}, claims=["node/1"])
    queued = hold.submit(flows.rerun, {"at": house.at}, claims=["node/1"])
    worker = house.worker(lease_s=3600)
    house.until_said("make")
    worker.kill()
    house.turn("go")
    go_on(house, queued)
    assert (running.state, queued.state) == ("SUCCEEDED", "SUCCEEDED")
    assert house.said() == ["first", "make", "make", "made", "use", "first", "make", "made", "use"]


@pytest.mark.requirement("NOVA-13")
def test_suspended_then_everything_dies_then_resumed(house: House) -> None:
    hold = house.open()
    task = hold.submit(flows.rerun, {"at": house.at})
    worker = house.worker(lease_s=3600)
    house.until_said("make")
    task.suspend().wait(60)
    worker.kill()
    hold.close()
    again = house.open(lease_s=3600).task(task.id)
    assert (again.state, again.reason) == ("SUSPENDED", "asked")
    house.turn("go")
    again.resume()
    assert go_on(house, again).state == "SUCCEEDED"
    assert house.said() == ["first", "make", "make", "made", "use"]
    assert len({line.key for line in house.lines() if line.what == "make"}) == 1
    assert [step.attempt for step in again.steps] == [1, 1, 1], "a held attempt is not counted"
