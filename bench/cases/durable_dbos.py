"""DBOS on SQLite or PostgreSQL: no-op steps in one workflow, or in many at once, each the way that DBOS is fastest at.

`--how sync` calls a workflow of synchronous steps; `--how async` gathers coroutines of asynchronous ones;
`--how threads` calls synchronous workflows from a thread each.
"""

from __future__ import annotations

import argparse
import asyncio
from concurrent.futures import ThreadPoolExecutor

from dbos import DBOS, DBOSConfig

from bench.cases.report import Stopwatch, report
from bench.cases.where import add_place, url_of


@DBOS.step()  # type: ignore[untyped-decorator]
def step() -> None:
    return None


@DBOS.workflow()  # type: ignore[untyped-decorator]
def workflow(steps: int) -> int:
    for _ in range(steps):
        step()
    return steps


@DBOS.step()  # type: ignore[untyped-decorator]
async def step_async() -> None:
    return None


@DBOS.workflow()  # type: ignore[untyped-decorator]
async def workflow_async(steps: int) -> int:
    for _ in range(steps):
        await step_async()
    return steps


async def gather(flows: int, steps: int) -> Stopwatch:
    await workflow_async(2)
    with Stopwatch() as watch:
        done = await asyncio.gather(*(workflow_async(steps) for _ in range(flows)))
    assert done == [steps] * flows
    return watch


def in_threads(flows: int, steps: int) -> Stopwatch:
    workflow(2)
    with ThreadPoolExecutor(flows) as pool, Stopwatch() as watch:
        done = list(pool.map(workflow, [steps] * flows))
    assert done == [steps] * flows
    return watch


def in_line(flows: int, steps: int) -> Stopwatch:
    workflow(2)
    with Stopwatch() as watch:
        done = [workflow(steps) for _ in range(flows)]
    assert done == [steps] * flows
    return watch


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--how", choices=["sync", "async", "threads"], required=True)
    parser.add_argument("--flows", type=int, default=1)
    parser.add_argument("--steps", type=int, required=True)
    add_place(parser)
    options = parser.parse_args()
    config: DBOSConfig = {"name": "bench", "system_database_url": url_of(options, "dbos.db"), "log_level": "ERROR"}
    DBOS(config=config)
    DBOS.launch()
    try:
        if options.how == "async":
            watch = asyncio.run(gather(options.flows, options.steps))
        else:
            watch = (in_threads if options.how == "threads" else in_line)(options.flows, options.steps)
    finally:
        DBOS.destroy()
    report(steps=options.flows * options.steps, wall_s=watch.wall_s, cpu_s=watch.cpu_s)
