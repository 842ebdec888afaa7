"""A start is recorded only when a thread is free for it: what merely queues is not in flight when the worker dies."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

import holdfast as hf
from holdfast.core.states import FINAL
from holdfast.local import Holdfast, Task
from holdfast.local import open as open_database
from holdfast.store import schema
from holdfast.tasks import row
from holdfast.testing.conformance.store import kinds
from holdfast.worker.pace import CAREFUL_S, STARVED_S, Pace
from tests.postgresql import database_at
from tests.worker.house import until

entered = threading.Semaphore(0)
go_on = threading.Event()


@hf.step
def hold_a_thread() -> None:
    entered.release()
    assert go_on.wait(60)


@hf.step
def short() -> None: ...


@hf.step
def look_again() -> Any:
    return hf.Again(0.1)


one = hf.linear("one", short)
polls = hf.linear("polls", look_again)
long = hf.linear("long", hold_a_thread)
wide = hf.unordered("wide", *(hold_a_thread.with_options(name=f"s{number}") for number in range(5)))


@pytest.mark.parametrize(("runtime", "workers_max"), [("threads", 3), (ThreadPoolExecutor(3), 30)])
def test_no_more_is_recorded_as_started_than_there_are_threads(
    tmp_path: Path, runtime: str | Executor, workers_max: int
) -> None:
    go_on.clear()
    while entered.acquire(blocking=False):
        pass
    with (
        open_database(database_at(tmp_path / "tasks.db"), workers_max=workers_max) as hold,
        hold.working(runtime),
    ):
        tasks = [hold.submit(wide) for _ in range(2)]
        for _ in range(3):
            assert entered.acquire(timeout=60)
        others = [hold.submit(wide) for _ in range(2)]
        started = [step for task in tasks for step in task.steps]
        assert len(started) == 3
        assert {task.state for task in others} == {"PENDING"}
        go_on.set()
        tasks += others
        for task in tasks:
            assert task.wait(60).state == "SUCCEEDED"


def test_no_more_is_taken_than_there_are_threads(tmp_path: Path) -> None:
    """Or what another worker could begin stands still behind what is long."""
    go_on.clear()
    while entered.acquire(blocking=False):
        pass
    with (
        open_database(database_at(tmp_path / "tasks.db")) as hold,
        open_database(database_at(tmp_path / "tasks.db"), flows=[long]) as other,
        ThreadPoolExecutor(2) as few,
        hold.working(few),
    ):
        first = [hold.submit(long) for _ in range(6)]
        for _ in range(2):
            assert entered.acquire(timeout=60)
        with other.working():
            for _ in range(4):
                assert entered.acquire(timeout=60)
            go_on.set()
            assert {task.wait(60).state for task in first} == {"SUCCEEDED"}


class Turned:
    """A worker with two threads, turn by turn, that has just ended many short tasks: so it takes more than it can
    begin."""

    def __init__(self, hold: Holdfast) -> None:
        self.hold = hold
        self.worker = hold.worker("threads")
        self.now = hold.clock.time() + 10.0  # for as long as a slow machine takes: nothing is due later
        self.submit(one, 60).settle()

    def submit(self, flow: Any, number: int) -> Turned:
        self.tasks = [self.hold.submit(flow) for _ in range(number)]
        return self

    def fill(self) -> Turned:
        """Both threads have something to do."""
        self.submit(long, 2)
        self.go_on_until(lambda: len(self.started(self.tasks)) == 2)
        return self

    def go_on_until(self, fact: Callable[[], bool]) -> None:
        def turned() -> bool:
            self.worker.turn(self.now)
            return fact()

        until(turned)

    def turn(self) -> None:
        self.worker.poke()
        while self.worker.turn(self.now):
            pass

    def take(self) -> None:
        """And load none of them."""
        self.worker._intake.take(self.worker.taken.values(), self.now, lambda: False)

    def settle(self) -> None:
        go_on.set()
        self.go_on_until(lambda: all(task.state in FINAL for task in self.tasks))

    def started(self, tasks: list[Task]) -> list[Task]:
        return [task for task in tasks if "started" in kinds(self.hold.store, task._id)]

    def held(self, tasks: list[Task]) -> list[bool]:
        ids = [task._id for task in tasks]
        found = self.hold.store.read(lambda tx: row.read_all(tx, ids))
        return [found[task].worker_id is not None for task in ids]


@pytest.fixture
def turned(tmp_path: Path) -> Iterator[Turned]:
    with open_database(database_at(tmp_path / "tasks.db"), flows=[one, long, polls], workers_max=2) as hold:
        made = Turned(hold)
        go_on.clear()
        yield made
        go_on.set()
        made.worker.close()


def test_a_task_begins_when_its_first_step_can(turned: Turned) -> None:
    turned.fill().submit(one, 5).turn()
    assert turned.held(turned.tasks) == [True] * 5
    assert [kinds(turned.hold.store, task._id) for task in turned.tasks] == [[]] * 5
    assert {task.state for task in turned.tasks} == {"PENDING"}
    turned.settle()
    assert [kinds(turned.hold.store, task._id) for task in turned.tasks] == [
        ["began", "started", "succeeded", "ended"]
    ] * 5


def test_what_lacks_a_thread_for_long_is_given_back(turned: Turned) -> None:
    """The worker thought that it would be done with all of them in a moment, and others may have a free thread."""
    turned.fill()
    begun = turned.tasks
    turned.submit(one, 5).turn()
    assert turned.held(turned.tasks) == [True] * 5
    turned.now += STARVED_S / 2
    turned.turn()
    assert turned.held(turned.tasks) == [True] * 5
    turned.now += 1.5 * STARVED_S
    for _ in range(3):
        turned.turn()
        assert turned.held(turned.tasks) == [False] * 5
    assert turned.held(begun) == [True] * 2
    assert turned.started(turned.tasks) == []
    turned.settle()
    assert {task.state for task in (*begun, *turned.tasks)} == {"SUCCEEDED"}


def test_what_has_begun_is_kept_however_long_it_lacks_a_thread(turned: Turned) -> None:
    """Who has it looks again when a thread is free; given back, it would be begun behind all that is new."""
    turned.submit(polls, 3)
    begun = turned.tasks
    turned.go_on_until(lambda: all(kinds(turned.hold.store, task._id).count("parked") == 1 for task in begun))
    turned.fill()
    for _ in range(4):
        turned.now += STARVED_S
        turned.turn()
    assert turned.held(begun) == [True] * 3
    for task in begun:
        task.cancel()
    turned.settle()


def test_what_waits_for_a_thread_is_cancelled_before_it_began(turned: Turned) -> None:
    turned.fill().submit(one, 5).turn()
    first = turned.tasks.pop(0)
    first.cancel()
    turned.turn()
    assert (first.state, turned.started([first])) == ("CANCELLED", [])
    turned.settle()
    assert {task.state for task in turned.tasks} == {"SUCCEEDED"}


def test_what_is_loaded_while_the_database_is_busy_asks_it_nothing(
    turned: Turned, monkeypatch: pytest.MonkeyPatch
) -> None:
    turned.fill().submit(one, 5)
    bad = turned.tasks[2]
    broken = update(schema.inputs).where(schema.inputs.c.task == bad._id).values(inputs="{broken")
    turned.hold.store.write(lambda tx: tx.execute(broken))
    turned.take()
    loader, store = turned.worker._loader, turned.hold.store
    with monkeypatch.context() as patched:
        for name in ("read", "write", "append"):
            patched.setattr(store, name, None)
        before = len(turned.worker.taken)
        while loader.load_meanwhile():
            pass
        assert len(turned.worker.taken) == before + 2, "it stopped before the one that can't be loaded"
    turned.tasks.remove(bad)
    turned.settle()
    assert bad.state == "SUSPENDED"
    assert {task.state for task in turned.tasks} == {"SUCCEEDED"}


@pytest.mark.parametrize("how", ["closed", "draining"])
def test_what_is_not_loaded_is_given_back(turned: Turned, how: str) -> None:
    turned.fill().submit(one, 5).take()
    assert turned.held(turned.tasks) == [True] * 5
    if how == "closed":
        go_on.set()
        turned.worker.close()
    else:
        turned.worker.lease.draining = True
        turned.turn()
    assert turned.held(turned.tasks) == [False] * 5
    assert turned.started(turned.tasks) == []


def test_a_verb_on_what_is_not_loaded_is_heard(turned: Turned) -> None:
    turned.fill().submit(one, 5).take()
    first = turned.tasks.pop(0)
    first.cancel()
    turned.turn()
    assert (first.state, turned.started([first])) == ("CANCELLED", [])


def test_what_was_lost_before_it_was_loaded_and_is_taken_again_is_had_once(turned: Turned) -> None:
    turned.fill().submit(one, 3).take()
    before = {row.id: row.token for row in turned.worker._intake.waiting}
    assert len(before) == 3
    ids = list(before)[1:]
    lost = update(schema.tasks).where(schema.tasks.c.id.in_(ids)).values(worker_id=None, token=None, due_at=1.0)
    turned.hold.store.write(lambda tx: tx.execute(lost))
    turned.tasks[2].deliver("go", 1)
    turned.take()
    assert sorted(turned.worker._intake.asked) == sorted(before)[:2], "the third has a journal by now"
    after = {row.id: row.token for row in turned.worker._intake.waiting}
    assert len(turned.worker._intake.waiting) == len(after) == 3
    assert [after[task] != before[task] for task in sorted(after)] == [False, True, True]
    turned.settle()
    assert {task.state for task in turned.tasks} == {"SUCCEEDED"}


class Held:
    wants_place = True


def test_of_short_tasks_many_are_taken_or_none() -> None:
    pace = Pace(4, 256)
    assert [pace.room([Held()] * held, 7.0) for held in (0, 4, 5)] == [4, 0, 0]  # type: ignore[list-item]
    for _ in range(80):
        pace.ended(7.1)
    rooms = {held: pace.room([Held()] * held, 7.1) for held in (4, 7, 20, 21, 68)}  # type: ignore[list-item]
    assert rooms == {4: 64, 7: 61, 20: 48, 21: 0, 68: 0}
    assert pace.room([Held()] * 2, 7.1, 2) == 64, "what is not loaded counts"  # type: ignore[list-item]


def test_who_was_mistaken_about_his_pace_goes_by_his_places_for_a_while() -> None:
    pace = Pace(4, 256)
    for _ in range(80):
        pace.ended(7.1)

    def too_many(held: int, now: float) -> int:
        return len(pace.too_many(range(100), [Held()] * held, now))  # type: ignore[list-item]

    assert [too_many(held, 7.15) for held in (4, 68)] == [0, 0]
    assert pace.room([], 7.15) == 4 + 64
    assert too_many(70, 7.15) == 2
    assert pace.room([], 7.15) == 4
    pace.ended(7.3)
    assert pace.room([Held()] * 3, 7.2 + CAREFUL_S / 2) == 1  # type: ignore[list-item]
    for _ in range(80):
        pace.ended(7.2 + CAREFUL_S)
    assert pace.room([], 7.2 + CAREFUL_S) == 4 + 64
    assert too_many(70, 7.2 + 2 * CAREFUL_S) == 66, "what comes now is longer"
    assert len(Pace(None, 256).too_many(range(9), [Held()] * 9, 7.0)) == 0, "inline, one comes after the other"  # type: ignore[list-item]


def test_who_stands_still_for_a_moment_keeps_his_pace() -> None:
    pace = Pace(32, 256)
    pace.room([], 7.0)
    for _ in range(50):
        pace.ended(7.05)
    assert pace.room([], 7.25) == 32 + 40, "200 a second: 10, or, because they are few, what it ends in a fifth"
    assert pace.room([], 9.0) == 32


@pytest.mark.parametrize("before", [False, True])
def test_a_worker_looks_through_no_memory_but_its_own(tmp_path: Path, before: bool) -> None:
    frozen = []

    def look() -> None:
        frozen.append(gc.get_freeze_count())

    looks = hf.linear("looks", hf.step(look))
    if before:
        gc.freeze()
    try:
        with open_database(database_at(tmp_path / "tasks.db"), flows=[looks]) as hold:
            hold.submit(looks)
            hold.work(until_idle=True)
        assert frozen[0] > 1000
        assert (gc.get_freeze_count() > 0) is before, "who has frozen it sees to it"
    finally:
        gc.unfreeze()
