"""Holdfast: resume of a half-done linear task from its SQLite file, to its first step.

`--prepare` submits the task and works on it; the step at the middle suspends it, as in TaskFlow's case. Without it a
fresh process builds the flow, opens the database, resumes the task, takes it, compiles the flow, reads the journal
and goes on, and the clock stops at the entry of the first step. What is imported late is loaded beforehand, on another
database.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import holdfast as hf
from bench.cases.report import report

at_entry: list[float] = []
suspend_at: int | None = None
task: hf.Task


@hf.step
def step(number: int) -> None:
    if not at_entry:
        at_entry.append(time.perf_counter())
    if number == suspend_at:
        task.suspend()


def make(name: str, steps: int) -> Any:
    return hf.linear(
        name, *(step.with_options(name=f"step{number}", inject={"number": number}) for number in range(steps))
    )


def begin(path: Path, steps: int) -> None:
    """Work on a new task until the step at its middle has suspended it."""
    global suspend_at, task
    suspend_at = steps // 2
    flow = make("linear", steps)
    with hf.open(f"sqlite:///{path}", flows=[flow]) as hold:
        task = hold.submit(flow)
        hold.work(until_idle=True, runtime="inline")
        assert task.state == "SUSPENDED", task.state


def go_on(path: Path, steps: int) -> float:
    """Seconds from nothing to the entry of the first step."""
    global suspend_at
    suspend_at = None
    at_entry.clear()
    began = time.perf_counter()
    with hf.open(f"sqlite:///{path}", flows=[make("linear", steps)]) as hold:
        (resumed,) = hold.tasks()
        resumed.resume()
        hold.work(until_idle=True, runtime="inline")
        assert resumed.state == "SUCCEEDED", resumed.state
        assert len(resumed.steps) == steps, len(resumed.steps)
    return at_entry[0] - began


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--prepare", action="store_true")
    options = parser.parse_args()
    database = options.directory / "holdfast.db"
    if options.prepare:
        begin(database, options.steps)
        report(steps=options.steps)
    else:
        begin(options.directory / "warm.db", 10)
        go_on(options.directory / "warm.db", 10)
        report(steps=options.steps, to_first_step_s=go_on(database, options.steps))
