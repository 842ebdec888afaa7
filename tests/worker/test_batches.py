"""What a worker has stored at once: neither more than a heartbeat can wait for, nor a commit for each task."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import holdfast as hf
from holdfast.store.base import SIZE_MAX
from tests.worker.house import House, knob, tell, until

TASKS = 24
stopping = threading.Barrier(TASKS)
SMALL = 20  # characters: those of a few checkpoints


@hf.step
def large(at: str) -> str:
    until(lambda: knob(at, "go"))
    return "x" * 1000


@hf.step
def stoppable(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "here")
    until(lambda: ctx.stopping)
    stopping.wait(60)
    ctx.checkpoint("so far")
    ctx.raise_if_stopping()


LARGE = hf.linear("large", large)
STOPPABLE = hf.linear("stoppable", stoppable)


def test_results_that_are_large_together_are_stored_a_few_at_a_time(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.worker.loop.SIZE_MAX", 3000)
    hold = house.open(flows=[LARGE], workers_max=TASKS)
    tasks = [hold.submit(LARGE, {"at": house.at}) for _ in range(TASKS)]
    append, sizes = hold.store.append, list[int]()

    def noted(batch: Any, *more: Any) -> Any:
        sizes.append(sum(each.size for each in batch))
        return append(batch, *more)

    hold.store.append = noted  # type: ignore[assignment,method-assign]
    worker = hold.worker()

    def open_when_taken() -> None:
        until(lambda: len(worker.taken) == TASKS)
        house.turn("go")

    opening = threading.Thread(target=open_when_taken)
    opening.start()
    worker.run(worker.is_idle)
    worker.close()
    opening.join()
    assert {task.state for task in tasks} == {"SUCCEEDED"}
    assert sum(sizes) > TASKS * 1000
    assert max(sizes) < 3000 + 2000


@pytest.mark.parametrize("size_max", [SIZE_MAX, SMALL])
def test_what_steps_say_that_stop_together_is_stored_together(
    house: House, monkeypatch: pytest.MonkeyPatch, size_max: int
) -> None:
    """Or a worker that has many is not ready in its time, where each commit takes long."""
    monkeypatch.setattr("holdfast.worker.leave.SIZE_MAX", size_max)
    hold = house.open(flows=[STOPPABLE], workers_max=TASKS)
    tasks = [hold.submit(STOPPABLE, {"at": house.at}) for _ in range(TASKS)]
    worker = hold.worker()
    thread = threading.Thread(target=worker.run)
    thread.start()
    until(lambda: len(house.said()) == TASKS)
    worker.stop()
    thread.join()
    commits: list[float] = []
    hold.store.time_commits(commits.append)
    worker.close()
    assert [task.trace[-1] for task in tasks] == ["stoppable/stoppable STOPPED"] * TASKS
    assert len(commits) < TASKS or size_max == SMALL, commits
