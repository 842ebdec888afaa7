"""Workers that leave while a step heeds nothing: that is no death of its doing, and nobody meets what still runs."""

from __future__ import annotations

from contextlib import suppress

import pytest

import holdfast as hf
from holdfast.local import Holdfast, Task
from holdfast.tasks import row
from holdfast.tasks.row import TaskRow
from tests.worker import flows
from tests.worker.house import House, knob, tell, until
from tests.worker.unknown import Unknown


@hf.step
def unhearing_at_last(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "begin")
    if ctx.fence == 1:
        until(lambda: ctx.stopping)
        with suppress(BaseException):
            ctx.checkpoint("so far")
        until(lambda: knob(at, "go"))
    tell(at, ctx, "end")


LAST = hf.linear("last", unhearing_at_last)


def read(hold: Holdfast, task: Task) -> TaskRow:
    return hold.store.read(lambda tx: row.read(tx, task._id))


@pytest.mark.requirement("P12", "G10")
@pytest.mark.parametrize(("flow", "said"), [(flows.unhearing, "deaf"), (flows.in_c, "hung")], ids=["thread", "process"])
def test_three_restarts_in_order_set_no_task_aside(house: House, flow: hf.Flow, said: str) -> None:
    hold = house.open()
    task = hold.submit(flow, {"at": house.at})
    for times in (1, 2, 3):
        worker = house.worker(deaths_max=2, grace_s=0.2, lease_s=3600)
        house.until_said(said, times)
        assert worker.leave() == 0
    at = read(hold, task)
    assert (at.state, at.deaths) == ("RUNNING", 0)
    kinds = [event.kind for event in hold.store.journal(task._id)]
    assert "taken_over" not in kinds
    task.abort()
    hold.work(until_idle=True)
    assert task.state == "ABORTED"


@pytest.mark.requirement("G5", "G2")
def test_what_a_worker_leaves_running_is_nobody_s_before_its_lease_is_over(house: House) -> None:
    """In a program that goes on: no process ends here, so no lock is let go of."""
    hold = house.open(lease_s=3.0, grace_s=0.1)
    task, other = hold.submit(flows.unhearing, {"at": house.at}), hold.submit(flows.in_thread, {"at": house.at})
    worker = hold.worker()
    try:
        worker.run(lambda: {"deaf", "nap"} <= set(house.said()))
    finally:
        worker.close()
    left, free = read(hold, task), read(hold, other)
    assert (left.worker_id, left.state) == (worker.lease.id, "RUNNING")
    assert (free.worker_id, free.due_at is None) == (None, False)
    other.abort()
    with house.open(deaths_max=1).working():
        assert other.wait(60).state == "ABORTED"
        assert house.said().count("deaf") == 1
        until(lambda: house.said().count("deaf") == 2)
        house.turn("go")
        assert task.wait(60).state == "SUCCEEDED"
    assert house.said().count("deaf") == 2


@pytest.mark.requirement("G5")
def test_nor_is_it_where_nobody_knows_what_became_of_its_last_word(house: House) -> None:
    hold = house.open(flows=[LAST], lease_s=3600.0, heartbeat_s=60.0, grace_s=1.0)
    task = hold.submit(LAST, {"at": house.at})
    worker = hold.worker()
    try:
        worker.run(lambda: "begin" in house.said())
        unknown = Unknown(hold)
    finally:
        worker.close()
    left = read(hold, task)
    house.turn("go")
    assert unknown.happened.is_set()
    assert (left.worker_id, left.state) == (worker.lease.id, "RUNNING")
    until(lambda: house.said() == ["begin", "end"])
