"""Values through a real restart: exactly as they were, or refused with a sentence before anything is lost."""

from __future__ import annotations

import threading

import pytest

import holdfast as hf
from holdfast.errors import ValueRefused
from tests.worker import value_flows as flows
from tests.worker.house import House


@pytest.mark.requirement("G1")
@pytest.mark.parametrize("flow", [flows.values, flows.values_apart], ids=["thread", "process"])
def test_inputs_and_results_come_back_exactly_after_a_kill(house: House, flow: hf.Flow) -> None:
    task = house.open().submit(flow, {"at": house.at, "value": flows.VALUES})
    worker = house.worker(lease_s=3600)
    house.until_said("compare")
    worker.kill()
    house.turn("go")
    house.open(lease_s=3600).work(until_idle=True)
    assert task.state == "SUCCEEDED"
    assert task.results["same"] == {name: [True, True, True] for name in flows.VALUES}
    assert house.said() == ["make", "compare", "compare"]
    back = house.open().task(task.id).results["passed"]
    assert back == flows.VALUES
    assert str(back["float"]) == "-0.0"
    assert back["aware"].utcoffset() == flows.VALUES["aware"].utcoffset()
    assert str(back["decimal"]) == "1.10"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (threading.Lock(), "value is a _thread.lock, which can't be stored"),
        ({"deep": [1, {"down": object()}]}, r"value\.deep\[1\]\.down is an? object, which can't be stored"),
        (b"x" * 2_000_000, "value takes .* bytes, more than value_bytes_max = 1,048,576 allows"),
    ],
    ids=["lock", "object", "large"],
)
def test_an_input_that_can_not_be_stored_is_refused_at_submit(house: House, value: object, says: str) -> None:
    hold = house.open()
    with pytest.raises(ValueRefused, match=says) as refusal:
        hold.submit(flows.values, {"at": house.at, "value": value}, tag="t")
    assert "\n" not in str(refusal.value)
    assert hold.tasks() == []
    # The tag is not used up by it.
    assert not hold.submit(flows.values, {"at": house.at, "value": 1}, tag="t").replayed


@pytest.mark.requirement("TF-8")
@pytest.mark.parametrize("flow", [flows.unstorable, flows.unstorable_apart], ids=["thread", "process"])
def test_a_result_that_can_not_be_stored_fails_its_step_and_is_undone(house: House, flow: hf.Flow) -> None:
    hold = house.open()
    task = hold.submit(flow, {"at": house.at})
    hold.work(until_idle=True)
    assert task.state == "FAILED"
    assert task.failure is not None
    assert task.failure.type == "ValueRefused"
    assert f"{flow.name}/make_lock" in task.failure.message
    assert "can't be stored" in task.failure.message
    assert house.said() == ["make_lock", "drop_lock"]
    assert house.lines()[-1].extra == [None, "none"]
    assert task.view()["revert"] == "done"


def test_a_checkpoint_that_can_not_be_stored_is_raised_in_the_step(house: House) -> None:
    hold = house.open()
    task = hold.submit(flows.unstorable_checkpoint, {"at": house.at})
    hold.work(until_idle=True)
    assert task.state == "FAILED"
    assert task.failure is not None
    assert "the checkpoint of unstorable_checkpoint/keep_lock" in task.failure.message
