"""TaskFlow: resume of a half-done linear task from its SQLite persistence, to its first step.

`--prepare` runs the flow and suspends it at the middle, which takes a while and is done once; without it a fresh
process builds the flow, opens the database, loads, compiles, prepares and runs it, and the clock stops at the entry
of the first step. What TaskFlow and SQLAlchemy import late is loaded beforehand, on another database.
"""

from __future__ import annotations

import argparse
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from taskflow import engines, task
from taskflow.patterns import linear_flow
from taskflow.persistence import backends, models

from bench.cases.report import report

at_entry: list[float] = []
engine: Any = None
stop_at: str | None = None  # the step that suspends the engine, or "first": whichever comes first


class Step(task.Task):  # type: ignore[misc]
    def execute(self) -> None:
        at_entry.append(time.perf_counter())
        if stop_at in ("first", self.name):
            engine.suspend()


def make(steps: int) -> Any:
    flow = linear_flow.Flow("linear")
    for number in range(steps):
        flow.add(Step(name=f"step{number}"))
    return flow


def open_backend(path: Path) -> Any:
    backend = backends.fetch({"connection": f"sqlite:///{path}"})
    with closing(backend.get_connection()) as connection:
        connection.upgrade()
    return backend


def begin(path: Path, steps: int, stop: int) -> None:
    """Run a new task to its suspension inside step `stop`."""
    global engine, stop_at
    stop_at = f"step{stop}"
    backend = open_backend(path)
    book = models.LogBook("book")
    detail = models.FlowDetail("detail", uuid="0" * 31 + "1")
    book.add(detail)
    with closing(backend.get_connection()) as connection:
        connection.save_logbook(book)
    engine = engines.load(make(steps), flow_detail=detail, book=book, backend=backend, engine="serial")
    engine.run()


def go_on(path: Path, steps: int) -> float:
    """Seconds from nothing to the entry of the first step."""
    global engine, stop_at
    stop_at = "first"
    at_entry.clear()
    began = time.perf_counter()
    backend = backends.fetch({"connection": f"sqlite:///{path}"})
    with closing(backend.get_connection()) as connection:
        book = next(iter(connection.get_logbooks()))
    detail = next(iter(book))
    engine = engines.load(make(steps), flow_detail=detail, book=book, backend=backend, engine="serial")
    engine.run()
    return at_entry[0] - began


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--prepare", action="store_true")
    options = parser.parse_args()
    database = options.directory / "taskflow.db"
    if options.prepare:
        begin(database, options.steps, options.steps // 2)
        report(steps=options.steps)
    else:
        warm = options.directory / "warm.db"
        begin(warm, 4, 2)
        go_on(warm, 4)
        report(steps=options.steps, to_first_step_s=go_on(database, options.steps))
