"""POSTs at a steady pace while 1,000,000 ended tasks are purged, and while there is nothing to purge.

`--prepare` makes the database of service_read.py with every copy ended. `--expired` says whether their time is over:
then the worker of `holdfast serve` purges them while requests come, and the case ends before it has purged all of them.
It has a pool of its own, so that it does nothing else: what the database was made of waits there still.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import time
from pathlib import Path

from bench import load, service
from bench.cases import service_read
from bench.cases.report import report

PACE_S = 0.01  # from one request to the next
LATER = "2100-01-01T00:00:00Z"  # so that nothing of what is asked for is begun


async def pace(port: int, count: int) -> list[float]:
    """Latencies, counted from when each request was due."""
    found: list[float] = []

    async def one(number: int, due: float) -> None:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        reader, writer = await asyncio.open_connection(service.HOST, port)
        asked = {"task": "create", "resource": {"server": None}, "params": {"name": f"p{number}"}, "start_after": LATER}
        writer.write(load.request("POST", "/v3/tasks", asked))
        assert await load.answer(reader) == 202
        found.append(time.perf_counter() - due)
        writer.close()

    began = time.perf_counter() + 0.5
    await asyncio.gather(*(one(number, began + number * PACE_S) for number in range(count)))
    return found


def wait_for_the_purge(database: Path) -> None:
    """Until it has begun."""
    with sqlite3.connect(database) as connection:
        (first,) = connection.execute("SELECT min(id) FROM tasks WHERE expires_at IS NOT NULL").fetchone()
        while connection.execute("SELECT 1 FROM tasks WHERE id = ?", (first,)).fetchone() is not None:
            time.sleep(0.1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--requests", type=int, default=1500)
    parser.add_argument("--expired", action="store_true")
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--prepare", action="store_true")
    options = parser.parse_args()
    database = options.directory / "holdfast.db"
    if options.prepare:
        service_read.make(options.directory, options.tasks, ended_at=1.0, expires_at=4e9)
        report(tasks=options.tasks)
    else:
        if options.expired:
            with sqlite3.connect(database) as connection:
                connection.execute("UPDATE tasks SET expires_at = 2 WHERE expires_at IS NOT NULL")
        with service.holdfast(database, "--pool", "nothing-to-do") as port:
            asyncio.run(pace(port, 100))
            if options.expired:
                wait_for_the_purge(database)
            done = sorted(asyncio.run(pace(port, options.requests)))
            with sqlite3.connect(database) as connection:
                (left,) = connection.execute("SELECT count(*) FROM tasks WHERE finished_at IS NOT NULL").fetchone()
        report(p50_s=done[len(done) // 2], p99_s=done[len(done) * 99 // 100], left=left)
