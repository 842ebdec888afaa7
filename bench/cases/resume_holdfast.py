"""Holdfast: resume of a half-done linear task from its SQLite file, to its first step.

`--prepare` submits and works on the task until the step at the middle kills the process. Without it a fresh process
builds the flow, opens the database, takes the task over, compiles the flow, reads the journal and goes on, and the
clock stops at the entry of the first step. What is imported late is loaded beforehand, on another database.
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from pathlib import Path
from typing import Any

import holdfast as hf
from bench.cases.report import report

at_entry: list[float] = []
die_at: int | None = None


@hf.step
def step(number: int) -> None:
    if not at_entry:
        at_entry.append(time.perf_counter())
    if number == die_at:
        os.kill(os.getpid(), signal.SIGKILL)


def make(name: str, steps: int) -> Any:
    return hf.linear(
        name, *(step.with_options(name=f"step{number}", inject={"number": number}) for number in range(steps))
    )


def begin(path: Path, steps: int) -> None:
    """Work on a new task to the end, or to the death of this process."""
    flow = make("linear", steps)
    with hf.open(f"sqlite:///{path}", flows=[flow]) as hold:
        hold.submit(flow)
        hold.work(until_idle=True)


def go_on(path: Path, steps: int) -> float:
    """Seconds from nothing to the entry of the first step."""
    at_entry.clear()
    began = time.perf_counter()
    with hf.open(f"sqlite:///{path}", flows=[make("linear", steps)]) as hold:
        hold.work(until_idle=True)
        left_over = [task.state for task in hold.tasks() if task.state != "SUCCEEDED"]
    assert not left_over, left_over
    return at_entry[0] - began


def prepare(path: Path, steps: int) -> None:
    """Leave a half-done task behind, by a child that kills itself."""
    global die_at
    child = os.fork()
    if child == 0:
        die_at = steps // 2
        begin(path, steps)
        os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--prepare", action="store_true")
    options = parser.parse_args()
    database = options.directory / "holdfast.db"
    if options.prepare:
        prepare(database, options.steps)
        report(steps=options.steps)
    else:
        prepare(options.directory / "warm.db", 10)
        go_on(options.directory / "warm.db", 10)
        report(steps=options.steps, to_first_step_s=go_on(database, options.steps))
