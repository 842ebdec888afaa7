"""TaskFlow: a linear flow of no-op tasks in memory, serial engine; built, compiled and run."""

from __future__ import annotations

import argparse

from taskflow import engines, task
from taskflow.patterns import linear_flow

from bench.cases.report import Stopwatch, peak_bytes, report


class Noop(task.Task):  # type: ignore[misc]
    def execute(self) -> None:
        return None


def once(steps: int) -> None:
    flow = linear_flow.Flow("linear")
    for number in range(steps):
        flow.add(Noop(name=f"step{number}"))
    engine = engines.load(flow, engine="serial")
    engine.run()
    assert engine.storage.get_flow_state() == "SUCCESS"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, required=True)
    steps = parser.parse_args().steps
    once(10)  # loads what is loaded late
    with Stopwatch() as watch:
        once(steps)
    report(steps=steps, wall_s=watch.wall_s, cpu_s=watch.cpu_s, peak_bytes=peak_bytes())
