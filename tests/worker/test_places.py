"""A start is recorded only when a thread is free for it: what merely queues is not in flight when the worker dies."""

from __future__ import annotations

import threading
from pathlib import Path

import holdfast as hf
from holdfast.local import open as open_database
from tests.postgresql import database_at

entered = threading.Semaphore(0)
go_on = threading.Event()


@hf.step
def hold_a_thread() -> None:
    entered.release()
    assert go_on.wait(60)


wide = hf.unordered("wide", *(hold_a_thread.with_options(name=f"s{number}") for number in range(5)))


def test_no_more_is_recorded_as_started_than_there_are_threads(tmp_path: Path) -> None:
    with open_database(database_at(tmp_path / "tasks.db"), workers_max=3) as hold, hold.working():
        tasks = [hold.submit(wide) for _ in range(2)]
        for _ in range(3):
            assert entered.acquire(timeout=60)
        started = [step for task in tasks for step in task.steps]
        assert len(started) == 3
        go_on.set()
        for task in tasks:
            assert task.wait(60).state == "SUCCEEDED"
