"""Holdfast on SQLite (`synchronous=FULL`) or PostgreSQL: no-op steps in one task, or in many tasks at once.

`--how inline` runs the steps of the worker on its own thread, `threads` each on one of a pool, `async` as coroutines
of one loop. The flow is built before the clock starts, as the peers' functions are defined before; submitting,
compiling and every commit are inside.
"""

from __future__ import annotations

import argparse
from typing import Any

import holdfast as hf
from bench.cases.report import Stopwatch, report
from bench.cases.where import add_place, url_of


@hf.step
def noop() -> None:
    return None


@hf.step
async def noop_async() -> None:
    return None


def make(name: str, how: str, steps: int) -> Any:
    step = noop_async if how == "async" else noop
    return hf.linear(name, *(step.with_options(name=f"step{number}") for number in range(steps)))


def work(hold: hf.Holdfast, flow: Any, flows: int, how: str) -> None:
    tasks = [hold.submit(flow) for _ in range(flows)]
    hold.work(until_idle=True, runtime="inline" if how == "inline" else "threads")
    assert all(task.state == "SUCCEEDED" for task in tasks), [task.state for task in tasks]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--how", choices=["inline", "threads", "async"], required=True)
    parser.add_argument("--flows", type=int, default=1)
    parser.add_argument("--steps", type=int, required=True)
    add_place(parser)
    options = parser.parse_args()
    flow = make("measured", options.how, options.steps)
    warm = make("warm", options.how, 10)
    with hf.open(url_of(options, "holdfast.db"), flows=[flow, warm]) as hold:
        work(hold, warm, 1, options.how)  # loads what is loaded late
        with Stopwatch() as watch:
            work(hold, flow, options.flows, options.how)
    report(steps=options.flows * options.steps, wall_s=watch.wall_s, cpu_s=watch.cpu_s)
