"""A worker with nothing to do: it looks whether anything was committed and reads nothing, and is there at once when
there is something, whoever made it. Real files, a clock that the test moves."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import holdfast as hf
from holdfast.clock import SYSTEM
from holdfast.local import Holdfast
from holdfast.local import open as open_database
from holdfast.scheduling import admitting
from holdfast.store.sqlite import SqliteStore, connect_file
from holdfast.tasks import lease as rows
from holdfast.tasks import pools, take
from holdfast.worker.lease import FLEET, SWEEP_S, Lease
from holdfast.worker.loop import Worker
from holdfast.worker.rest import rest
from tests.worker import schedule_flows
from tests.worker.scripted import MovedClock, Runtimes

LOOK = "PRAGMA data_version"
DAY_S = 86_400.0
PATIENCE_S = 30.0


waits = hf.linear("waits", hf.step(lambda: None, name="wait"))


class Idle:
    """A worker in one process; `hold` is another. `said`: the statements of the worker's."""

    def __init__(self, directory: Path) -> None:
        self.clock = MovedClock()
        path = directory / "tasks.db"
        self.hold: Holdfast = open_database(f"sqlite:///{path}", clock=self.clock, lease_s=DAY_S)
        self.said: list[str] = []
        self.store = SqliteStore(str(path), connect=self._connect)
        self.lease = Lease(self.store, self.clock, self.hold.settings, "default", threaded=False, host="here")
        runtimes: Any = Runtimes()
        self.worker = Worker(
            self.store, runtimes, clock=self.clock, settings=self.hold.settings, flows=self.hold.flows,
            lease=self.lease, admit=admitting(self.hold),
        )  # fmt: skip

    def _connect(self, path: str) -> Any:
        connection = connect_file(path)
        connection.set_trace_callback(self.said.append)
        return connection

    def turn(self, seconds: float, each_s: float = 0.05) -> None:
        """As the loop does while the time passes."""
        for _ in range(round(seconds / each_s)):
            while self.worker.turn(self.clock.now):
                pass
            self.clock.now += each_s

    def others(self, count: int) -> None:
        now = self.clock.now
        for number in range(count):
            row = rows.WorkerRow(f"w{number}", f"h{number}", "", 1, None, "default", now, now, DAY_S)
            self.hold.store.write(lambda tx, row=row: rows.register(tx, row))  # type: ignore[misc]

    def close(self) -> None:
        self.store.close()
        self.hold.close()


@pytest.fixture
def idle(tmp_path: Path) -> Iterator[Idle]:
    made = Idle(tmp_path)
    made.turn(2.0)
    made.said.clear()
    yield made
    made.close()


def test_nothing_is_read_while_nothing_changes(idle: Idle) -> None:
    idle.turn(5.0)
    assert set(idle.said) == {LOOK}
    assert len(idle.said) <= 5.0 / 0.05 + 5.0 / SWEEP_S + 5.0 + 1
    idle.others(1)
    idle.said.clear()
    idle.turn(5.0)
    assert sum("FROM schedules" in each for each in idle.said) == 1
    assert 1 <= sum("FROM workers" in each for each in idle.said) <= 3, "what was committed is read once"


@pytest.mark.requirement("TF-15")
def test_a_schedule_that_another_process_makes_is_heard_of_and_fired_in_time(idle: Idle, tmp_path: Path) -> None:
    start = idle.clock.now - idle.clock.now % 60 + 60
    idle.turn(start + 57.0 - idle.clock.now, each_s=0.5)
    idle.hold.schedule("often", schedule_flows.mark, {"at": str(tmp_path)}, cron="* * * * *")
    idle.turn(1.1)
    assert idle.hold.tasks() == []
    assert 0 < idle.worker._left_s() <= start + 60.0 - idle.clock.now, "it sleeps no longer than to that moment"
    idle.turn(start + 60.0 - idle.clock.now + 0.1)
    (task,) = idle.hold.tasks()
    assert task.view()["created_at"] is not None
    fired = idle.hold.schedules()[0].view()["firings"]
    assert [each["outcome"] for each in fired] == ["FIRED"]


def test_a_worker_whose_time_is_over_is_found_without_a_commit(idle: Idle) -> None:
    now, idle.lease._steady_at = idle.clock.now, float("-inf")  # it has been there for long
    row = rows.WorkerRow("w", "elsewhere", "", 1, None, "default", now, now, 4.0)
    idle.hold.store.write(lambda tx: rows.register(tx, row))
    idle.turn(3.5)
    assert idle.hold.store.read(lambda tx: rows.find(tx, "w")) == row
    idle.turn(0.5 + SWEEP_S + 0.1)
    found = idle.hold.store.read(lambda tx: rows.find(tx, "w"))
    assert found is not None
    assert found.dead


def test_in_a_fleet_each_reads_about_the_others_less_often(idle: Idle) -> None:
    idle.others(20 * FLEET)
    idle.turn(1.0)
    idle.said.clear()
    for _ in range(200):  # somebody commits all the time
        idle.hold.store.write(lambda tx: rows.heartbeat(tx, "w1", idle.clock.now, held=[]))
        idle.turn(0.1)
    reads = sum("FROM workers" in each and "host" in each for each in idle.said)
    assert 1 <= reads <= 20.0 / (20 * SWEEP_S) + 1


def test_that_tasks_of_others_went_on_is_of_interest_to_who_waits_for_room(idle: Idle) -> None:
    idle.worker.poke(went_on=True)
    idle.turn(0.05)
    assert set(idle.said) == {LOOK}
    idle.others(1)
    idle.hold.write(lambda tx, now: pools.change(tx, "default", {"running_max": 1}))
    for _ in range(2):
        idle.hold.submit(waits)
    take_first = partial(take.take, generation="g", nonce="n", now=idle.clock.now, limit=1, pool="default")
    (theirs,) = idle.hold.store.write(lambda tx: take_first(tx, "w0").tasks)
    idle.turn(0.5)
    assert idle.worker.taken == {}, "the pool is full"
    idle.said.clear()
    idle.turn(0.05)
    assert set(idle.said) == {LOOK}
    idle.worker.poke(went_on=True)
    idle.turn(0.05)
    assert set(idle.said) > {LOOK}
    assert theirs.worker_id == "w0"


def test_who_rests_hears_of_what_others_commit(idle: Idle) -> None:
    seen, woken = idle.store.changes(), threading.Event()
    began = SYSTEM.monotonic()
    resting = threading.Thread(
        target=rest, args=(SYSTEM, woken, idle.store, seen, PATIENCE_S, 0.01, lambda: PATIENCE_S)
    )  # fmt: skip
    resting.start()
    idle.others(1)
    resting.join(PATIENCE_S)
    assert SYSTEM.monotonic() - began < PATIENCE_S
    assert not woken.is_set()
    rest(SYSTEM, woken, idle.store, idle.store.changes(), PATIENCE_S, 0.01, lambda: 0.0)  # something is due
    woken.set()
    rest(SYSTEM, woken, idle.store, idle.store.changes(), PATIENCE_S, 0.01, lambda: PATIENCE_S)
    assert SYSTEM.monotonic() - began < PATIENCE_S
