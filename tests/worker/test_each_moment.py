"""A worker that gets a signal at every boundary of six steps, and inside every one: the task ends, what was recorded is
not done again, and what it claimed is free. Leases of an hour show that nobody waited for one."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Collection

import pytest

from holdfast.handle import Task
from tests.forked import Forked
from tests.worker.house import PATIENCE_S, REPOSITORY, House
from tests.worker.six_flows import STEPS, six

HOUR_S = 3600.0
APPENDS = len(STEPS) + 1  # the first begins `a`, each of the others ends a step and begins the next, or ends the task
KILL, TERM = signal.SIGKILL, signal.SIGTERM

pytestmark = pytest.mark.requirement("P1", "NOVA-14", "TF-12")


def doomed(house: House, number: int, side: str = "", nth: int = 0) -> int:
    """The exit code of a worker that works until nothing is left, or the signal comes."""
    process = Forked(
        "tests.worker.doomed", house.url, str(number), side, str(nth),
        cwd=REPOSITORY, env={**os.environ, "HOLDFAST_LEASE_S": str(HOUR_S)}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        return process.wait(PATIENCE_S)
    finally:
        process.kill()


def submit(house: House, step: str = "", number: int = 0) -> Task:
    """A task that claims a node; its `step`, if one is named, gets its worker that signal."""
    return house.open().submit(six, {"at": house.at, "doomed": step, "number": int(number)}, claims=["node/1"])


def check_that_it_goes_on(house: House, task: Task, recorded: Collection[int], *, again: int) -> None:
    """Of a task that stands still. `recorded`: how many steps may be known as done. `again`: how many have begun twice
    in the end."""
    done = [step.node for step in task.steps if step.state == "SUCCEEDED"]
    assert done == list(STEPS[: len(done)])
    assert len(done) in recorded
    assert (task.state == "PENDING") == (not task.trace), "who looks sees whether anything of it was begun"
    assert task.trace or not house.lines(), "nothing is entered before that is known"
    behind = submit(house)
    before = len(house.lines())
    house.open(lease_s=HOUR_S).work(until_idle=True)
    assert task.state == behind.state == "SUCCEEDED", "what it had claimed is free"
    lines = [line for line in house.lines() if line.key.startswith(task.id)]
    assert not {line.step for line in lines[before:]}.intersection(done), "what is known as done is not done again"
    ended = [line.step for line in lines if line.what == "end"]
    assert ended == sorted(ended)
    assert tuple(sorted(set(ended))) == STEPS
    assert len({line.key for line in lines}) == len(STEPS), "who enters a step again does so under the same key"
    assert sum(line.what == "begin" for line in lines) == len(STEPS) + again


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("number", [KILL, TERM], ids=["kill", "term"])
def test_inside_a_step(house: House, number: signal.Signals, step: str) -> None:
    task = submit(house, step, number)
    assert doomed(house, number) == (-KILL if number == KILL else 0)
    check_that_it_goes_on(house, task, [STEPS.index(step)], again=1)


@pytest.mark.parametrize("nth", range(1, APPENDS + 1))
@pytest.mark.parametrize("side", ["before", "after"])
def test_killed_at_a_boundary(house: House, side: str, nth: int) -> None:
    task = submit(house)
    assert doomed(house, KILL, side, nth) == -KILL
    lost = side == "before" and nth > 1  # what the last step did is nowhere but in the world
    check_that_it_goes_on(house, task, [nth - 1 - lost], again=lost)


@pytest.mark.parametrize("nth", range(1, APPENDS + 1))
@pytest.mark.parametrize("side", ["before", "after"])
def test_asked_to_leave_at_a_boundary(house: House, side: str, nth: int) -> None:
    task = submit(house)
    assert doomed(house, TERM, side, nth) == 0
    check_that_it_goes_on(house, task, (nth - 1, nth), again=0)  # a step that has just begun may end


def test_these_are_all_boundaries(house: House) -> None:
    task = submit(house)
    assert doomed(house, KILL, "before", APPENDS + 1) == 0
    assert task.state == "SUCCEEDED"
