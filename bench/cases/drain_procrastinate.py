"""Procrastinate: a backlog of jobs that do nothing, drained by one worker."""

from __future__ import annotations

import argparse
import asyncio

import procrastinate

from bench.cases.report import Stopwatch, report

WARM = 20


async def main(url: str, tasks: int, concurrency: int) -> Stopwatch:
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))

    @app.task(name="noop")  # type: ignore[untyped-decorator]
    async def noop() -> None:
        return None

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        await noop.batch_defer_async(*({} for _ in range(WARM)))
        await app.run_worker_async(wait=False, concurrency=concurrency, install_signal_handlers=False)
        await noop.batch_defer_async(*({} for _ in range(tasks)))
        with Stopwatch() as watch:
            await app.run_worker_async(wait=False, concurrency=concurrency, install_signal_handlers=False)
        done = list(await app.job_manager.list_jobs_async(status="succeeded"))
        assert len(done) == WARM + tasks, len(done)
    return watch


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--url", required=True)
    options = parser.parse_args()
    watch = asyncio.run(main(options.url, options.tasks, options.concurrency))
    report(steps=options.tasks, wall_s=watch.wall_s, cpu_s=watch.cpu_s)
