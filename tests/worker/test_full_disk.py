"""A disk on which there is room for some and not for others: what can't be stored now is stored later, and no task is
forgotten by a worker that lives, nor set aside for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

import holdfast as hf
from holdfast.errors import StoreFull
from holdfast.local import Holdfast
from holdfast.store.base import Append
from tests.worker.house import House


@hf.step
def first() -> None: ...


@hf.step
def second() -> None: ...


@hf.step
def doze(ctx: hf.Context) -> Any:
    return hf.Again(2.5, checkpoint=True) if ctx.last_checkpoint is None else None


TWO = hf.linear("two", first, second)
DOZING = hf.linear("dozing", first, doze, second)


def no_room(whole: Callable[..., Sequence[Any]], times: int, told: list[str]) -> Callable[..., Sequence[Any]]:
    """As `whole`, which stores a batch; but so often there is no room for the last one."""

    def stored(batch: Sequence[Any], *more: Any) -> Sequence[Any]:
        if len(told) >= times or not batch:
            return whole(batch, *more)
        told.append("full")
        if len(batch) == 1:
            raise StoreFull("no room")
        return [*whole(batch[:-1], *more), StoreFull("no room for this one")]

    return stored


def work(hold: Holdfast) -> None:
    worker = hold.worker()
    try:
        worker.run(worker.is_idle)
    finally:
        worker.close()


@pytest.mark.requirement("G10", "TF-12")
@pytest.mark.parametrize("times", [1, 7])
def test_a_batch_of_which_one_finds_no_room_is_stored_whole_in_the_end(house: House, times: int) -> None:
    hold, told = house.open(flows=[TWO]), list[str]()
    tasks = [hold.submit(TWO) for _ in range(3)]
    hold.store.append = no_room(hold.store.append, times, told)  # type: ignore[assignment,method-assign]
    work(hold)
    assert [task.state for task in tasks] == ["SUCCEEDED"] * 3
    assert len(told) == times


def test_a_task_that_can_t_be_given_back_now_is_given_back_later(house: House) -> None:
    hold, told = house.open(flows=[DOZING]), list[str]()
    tasks = [hold.submit(DOZING) for _ in range(2)]
    hold.store.write_all = no_room(hold.store.write_all, 3, told)  # type: ignore[assignment,method-assign]
    work(hold)
    assert [task.state for task in tasks] == ["SUCCEEDED"] * 2
    assert len(told) == 3


def test_a_task_that_can_t_rest_now_rests_later(house: House) -> None:
    hold = house.open(flows=[TWO])
    bad, good = hold.submit(TWO), hold.submit(TWO)
    append, told = hold.store.append, list[str]()

    def broken(batch: Sequence[Append], _: Any = None) -> Sequence[Any]:
        """The first batch is one task's poison; and for what is to be said of that there is no room, twice."""
        answers = append([one for one in batch if one.task != 1 or len(told) > 2])
        if len(answers) == len(batch):
            return answers
        told.append("full")
        if len(told) > 1:
            raise StoreFull("no room")
        found = iter(answers)
        return [RuntimeError("what no worker can do") if one.task == 1 else next(found) for one in batch]

    hold.store.append = broken  # type: ignore[assignment,method-assign]
    work(hold)
    assert len(told) == 3
    assert (bad.state, bad.reason, good.state) == ("SUSPENDED", "poison", "SUCCEEDED")
