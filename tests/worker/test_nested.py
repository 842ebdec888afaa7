"""Kills inside maps, nested flows and flows that are tried again: what was declared holds there too."""

from __future__ import annotations

from collections import Counter

import pytest

import holdfast as hf
from tests.worker import nested_flows as flows
from tests.worker.house import House
from tests.worker.test_interrupted import go_on, interrupted


@pytest.mark.requirement("NOVA-14", "TF-10")
def test_a_map_goes_on_with_the_elements_that_are_left(house: House) -> None:
    """Elements 0 and 1 are done, 2 hangs; after the kill 2 is entered again and 3 for the first time."""
    task = interrupted(house, flows.mapped, "hang")
    house.turn("go")
    assert go_on(house, task).state == "SUCCEEDED"
    assert task.results["seen"] == [0, 10, 20, 30]
    done = Counter(line.step for line in house.lines() if line.what == "done")
    assert done == {f"mapped/each[{index}]/element": 1 for index in range(4)}
    assert [line.step for line in house.lines() if line.what == "hang"] == ["mapped/each[2]/element"]


@pytest.mark.requirement("TF-3", "NOVA-15")
def test_one_element_asks_a_person_and_the_others_are_done(house: House) -> None:
    task = interrupted(house, flows.mapped_once, "hang")
    go_on(house, task)
    assert (task.state, task.reason) == ("SUSPENDED", "outcome_unknown")
    house.turn("go")
    task.resume({"mapped_once/each[2]/element": ("done", 20)})
    assert go_on(house, task).state == "SUCCEEDED"
    assert task.results["seen"] == [0, 10, 20, 30]
    assert house.said().count("hang") == 1


@pytest.mark.requirement("TF-3")
def test_undo_within_a_flow_that_is_tried_again_undoes_that_flow_only(house: House) -> None:
    task = interrupted(house, flows.tried, "make")
    house.turn("go")
    assert go_on(house, task).state == "SUCCEEDED"
    assert house.said() == ["first", "make", "unmake", "unmade", "make", "made", "use"]
    before, after = (line.key for line in house.lines() if line.what == "make")
    assert before != after, "it was undone, so this is another"


@pytest.mark.requirement("TF-2", "TF-9")
def test_a_kill_in_the_undo_of_a_map_undoes_each_element_once(house: House) -> None:
    house.turn("go", "last_fails", "undo_waits")
    task = interrupted(house, flows.back, "unhang")
    house.turn_off("undo_waits")
    assert go_on(house, task).state == "FAILED"
    order = [line.step for line in house.lines() if line.what == "undone"]
    assert order == [f"back/each[{index}]/element" for index in (3, 2, 1, 0)]
    assert house.said()[-1] == "unfirst"
    assert task.view()["revert"] == "done"


@pytest.mark.requirement("NOVA-14")
def test_what_a_link_said_is_not_asked_again(house: House) -> None:
    task = interrupted(house, flows.chosen, "make")
    house.turn("go", "other_way")
    assert go_on(house, task).state == "SUCCEEDED"
    assert house.said() == ["first", "make", "make", "made", "use"]


@pytest.mark.requirement("G3")
def test_tries_before_a_kill_count(house: House) -> None:
    """Three tries: two fail, the third hangs and its worker is killed: it is entered again, and that is the last."""
    task = interrupted(house, flows.tried_out, "hangs")
    house.turn("fails")
    assert go_on(house, task).state == "FAILED"
    assert house.said() == ["try 1", "try 2", "try 3", "hangs", "try 3"]


@pytest.mark.requirement("TF-3")
def test_two_steps_that_were_interrupted_are_two_questions(house: House) -> None:
    task = interrupted(house, flows.two, "make", 2)
    go_on(house, task)
    assert (task.state, task.reason) == ("SUSPENDED", "outcome_unknown")
    steps = ["two/both/make", "two/both/make2"]
    assert sorted(step["step"] for step in task.view()["resting"]) == steps
    with pytest.raises(hf.HoldfastError, match="two/both/make2"):
        task.resume({steps[0]: "done"})
    house.turn("go")
    task.resume({steps[0]: ("done", "by hand"), steps[1]: "rerun"})
    assert go_on(house, task).state == "SUCCEEDED"
    assert house.said() == ["make", "make", "make", "made", "use"]
    assert house.lines()[-1].extra == "by hand"
