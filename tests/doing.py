"""One flow, done in three ways that must come out the same: in memory on this thread, in memory on threads, and as a
task on a file. `Told` is the witness: what the steps say themselves, in that order."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, NamedTuple

import holdfast as hf
from holdfast.local import open as open_database
from tests.postgresql import database_at

WAYS = ("inline", "threads", "durable")


class Told(list[str]):
    """What steps said. They may say it from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __call__(self, what: str) -> None:
        with self._lock:
            self.append(what)


class Ended(NamedTuple):
    state: str
    reason: str | None
    results: dict[str, Any]
    failure: hf.Failure | None
    trace: list[str]
    revert: str
    progress: list[Any]


class Doing:
    """Does flows in one of the ways."""

    def __init__(self, way: str, directory: Path) -> None:
        self.way = way
        self._url = database_at(directory / "tasks.db")

    def __call__(self, flow: hf.Flow | hf.Step, inputs: dict[str, Any] | None = None) -> Ended:
        if self.way != "durable":
            outcome = hf.run(flow, inputs, runtime=self.way)
            return Ended(
                outcome.state, outcome.reason, outcome.results, outcome.failure, outcome.trace,
                outcome.aftermath.revert, [],
            )  # fmt: skip
        if isinstance(flow, hf.Step):
            flow = hf.linear(f"only {flow.name}", flow)
        with open_database(self._url, flows=[flow]) as hold:
            task = hold.submit(flow, inputs)
            hold.work(until_idle=True)
            view = task.view()
            return Ended(
                task.state, task.reason, task.results, task.failure, task.trace, view["revert"], [view["progress"]]
            )
