"""Holdfast: from `submit` to the entry of the first step, with a worker of the same process that has nothing to do."""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import holdfast as hf
from bench.cases.report import report

entered = 0.0


@hf.step
def step() -> None:
    global entered
    entered = time.perf_counter()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    options = parser.parse_args()
    flow = hf.linear("one", step)
    waited = []
    with hf.open(f"sqlite:///{options.directory / 'holdfast.db'}", flows=[flow]) as hold, hold.working():
        for _ in range(20):  # loads what is loaded late
            hold.submit(flow).wait(timeout_s=10)
        for _ in range(options.tasks):
            began = time.perf_counter()
            task = hold.submit(flow)
            task.wait(timeout_s=10)
            waited.append(entered - began)
    cuts = statistics.quantiles(waited, n=100)
    report(p50_s=cuts[49], p99_s=cuts[98], worst_s=max(waited))
