"""A worker that doesn't know what became of a commit, or of all of them as where another database was promoted, takes
nothing for its own, as if it had died, and goes on."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import holdfast as hf
from holdfast.errors import StoreBusy, StoreCorrupt, StoreUnknown
from holdfast.store.base import Append
from tests.worker.house import House, knob, running, tell, until
from tests.worker.unknown import Unknown


@hf.step
def first(ctx: hf.Context) -> None: ...


@hf.step
def second(ctx: hf.Context) -> None: ...


@hf.step
def told(ctx: hf.Context, at: str) -> None:
    until(lambda: knob(at, "go"))


@hf.step
def slow(ctx: hf.Context, at: str, heeds: bool) -> None:
    """The first to enter takes its time to stop, or doesn't hear of it at all."""
    tell(at, ctx, "begin")
    if ctx.fence == 1:
        until(lambda: knob(at, "free") if not heeds else ctx.stopping)
        threading.Event().wait(1.5)
        tell(at, ctx, "end")
        ctx.raise_if_stopping()


FLOW = hf.linear("two", first, second)
TOLD = hf.linear("told", told, second)
SLOW = hf.linear("slow", slow)


@hf.step
def slow_once(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "begin")
    until(lambda: knob(at, "go") or ctx.stopping)
    ctx.raise_if_stopping()


ONCE = hf.linear("once", slow_once)


def test_a_commit_of_which_nobody_knows_ends_the_incarnation_and_not_the_task(house: House) -> None:
    hold = house.open(flows=[FLOW])
    task = hold.submit(FLOW)
    worker = hold.worker()
    before, unknown = worker.lease.id, Unknown(hold)
    try:
        worker.run(worker.is_idle)
    finally:
        worker.close()
    assert unknown.happened.is_set()
    assert task.state == "SUCCEEDED"
    assert [step.state for step in task.steps] == ["SUCCEEDED"] * 2
    assert worker.lease.id != before


def test_what_no_time_mends_ends_a_worker_that_is_in_doubt_too(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    hold = house.open(flows=[FLOW])
    hold.submit(FLOW)
    worker = hold.worker()

    def unknown(batch: object, *_: object) -> object:
        monkeypatch.setattr(hold.store, "write", corrupt)
        raise StoreUnknown

    def corrupt(*_: object) -> object:
        raise StoreCorrupt("its pages are of two minds")

    with monkeypatch.context() as patched:
        patched.setattr(hold.store, "append", unknown)
        with pytest.raises(StoreCorrupt):
            worker.run(worker.is_idle)
    monkeypatch.undo()
    worker.close()


@pytest.mark.requirement("G5")
@pytest.mark.parametrize(("heeds", "order"), [(True, ["begin", "end", "begin"]), (False, ["begin", "begin"])])
def test_its_steps_have_the_time_to_stop_that_they_always_have_before_others_begin(
    house: House, heeds: bool, order: list[str]
) -> None:
    settings = {"lease_s": 20.0, "heartbeat_s": 8.0} if heeds else {"lease_s": 1.5, "heartbeat_s": 0.5}
    hold = house.open(flows=[SLOW, TOLD], **settings)
    worker = hold.worker()
    with running(worker):
        task = hold.submit(SLOW, {"at": house.at, "heeds": heeds})
        hold.submit(TOLD, {"at": house.at})
        until(lambda: len(worker.taken) == 2 and house.said())
        unknown = Unknown(hold)
        other = house.open(flows=[SLOW, TOLD], **settings)
        with running(other.worker()):
            house.turn("go")
            assert unknown.happened.wait(20)
            until(lambda: task.state == "SUCCEEDED")
            said = house.said()
            house.turn("free")
    assert said == order


@pytest.mark.parametrize("where", ["before it leaves", "as it leaves"])
def test_who_is_told_to_leave_while_in_doubt_stores_nothing_twice(house: House, where: str) -> None:
    hold = house.open(flows=[SLOW, TOLD], lease_s=20.0, heartbeat_s=8.0)
    worker = hold.worker()
    with running(worker):
        slow_one = hold.submit(SLOW, {"at": house.at, "heeds": True})
        told_one = hold.submit(TOLD, {"at": house.at})
        until(lambda: len(worker.taken) == 2 and house.said())
        if where == "before it leaves":
            unknown = Unknown(hold)
            house.turn("go")
            assert unknown.happened.wait(20)
        else:
            worker.stop()
            unknown = Unknown(hold)
            house.turn("go")
    assert unknown.happened.is_set()
    worker = house.open(flows=[SLOW, TOLD]).worker()
    worker.run(worker.is_idle)
    worker.close()
    assert [task.state for task in (slow_one, told_one)] == ["SUCCEEDED", "SUCCEEDED"]


def test_behind_a_promotion_too_its_steps_stop_before_others_begin(house: House) -> None:
    settings = {"lease_s": 20.0, "heartbeat_s": 8.0}
    hold = house.open(flows=[SLOW], **settings)
    with running(hold.worker()):
        task = hold.submit(SLOW, {"at": house.at, "heeds": True})
        until(house.said)
        hold.store.begin_anew()
        with running(house.open(flows=[SLOW], **settings).worker()):
            until(lambda: task.state == "SUCCEEDED")
            said = house.said()
    assert said == ["begin", "end", "begin"]


def test_nor_is_a_worker_idle_before_it_has_done_what_was_its_own(house: House) -> None:
    hold = house.open(flows=[ONCE])
    task = hold.submit(ONCE, {"at": house.at})

    def promote() -> None:
        until(house.said)
        hold.store.begin_anew()
        house.turn("go")

    thread = threading.Thread(target=promote)
    thread.start()
    hold.work(until_idle=True)
    thread.join()
    assert task.state == "SUCCEEDED"


def test_a_doubt_about_one_hides_behind_no_other_error(house: House) -> None:
    hold = house.open(flows=[TOLD])
    tasks = [hold.submit(TOLD, {"at": house.at}) for _ in range(2)]
    worker, append = hold.worker(), hold.store.append
    before = worker.lease.id
    happened = threading.Event()

    def divided(batch: list[Append], *more: Any) -> Any:
        if len(batch) < 2 or not all(one.facts for one in batch):
            return append(batch, *more)
        hold.store.append = append  # type: ignore[method-assign]
        append(batch[1:])
        happened.set()
        return [StoreBusy(), StoreUnknown()]

    with running(worker):
        until(lambda: sum(bool(taken.drive.calls) for taken in list(worker.taken.values())) == 2)
        advance = worker._advance

        def both(now: float) -> Any:
            until(lambda: happened.is_set() or not knob(house.at, "go") or len(worker._ended) == 2)
            return advance(now)

        worker._advance = both  # type: ignore[method-assign]
        hold.store.append = divided  # type: ignore[assignment,method-assign]
        house.turn("go")
        until(lambda: all(task.state != "RUNNING" for task in tasks))
    assert happened.is_set()
    assert [task.state for task in tasks] == ["SUCCEEDED", "SUCCEEDED"]
    assert worker.lease.id != before
