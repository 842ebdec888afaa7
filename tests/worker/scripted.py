"""A worker under a script, turn by turn: the runtime of tests/core/scripted.py, a real store on a real file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from holdfast.local import Task
from holdfast.local import open as open_database
from holdfast.runtime.base import Call
from holdfast.tasks import lease as leases
from holdfast.worker.lease import Lease
from holdfast.worker.loop import Worker
from tests.core.scripted import ScriptedClock, ScriptedRuntime
from tests.postgresql import database_at


class Runtimes(ScriptedRuntime):
    def begin_batch(self) -> None: ...
    def end_batch(self) -> None: ...
    def extend(self, until: float) -> None: ...


class MovedClock(ScriptedClock):
    """The boot clock goes as the other does."""

    def monotonic(self) -> float:
        return self.now


class Bench:
    """One database, one worker at a time, a clock that stands still."""

    def __init__(self, directory: Path, *flows: Any, **settings: Any) -> None:
        self.clock = ScriptedClock()
        self.hold = open_database(database_at(directory / "tasks.db"), flows=flows, clock=self.clock, **settings)
        self.flow = flows[0]
        self.boot()

    def boot(self) -> None:
        self.runtime = Runtimes()
        runtimes: Any = self.runtime
        hold = self.hold
        lease = Lease(hold.store, self.clock, hold.settings, "default", threaded=False)
        self.worker = Worker(
            hold.store, runtimes, clock=self.clock, settings=hold.settings, flows=hold.flows, lease=lease
        )

    def submit(self) -> Task:
        return self.hold.submit(self.flow)

    def settle(self) -> None:
        self.worker.poke()
        while self.worker.turn(self.clock.time()):
            pass

    def later(self, seconds: float) -> None:
        self.clock.now += seconds
        self.settle()

    def crash(self) -> None:
        """The worker dies, and another one begins."""
        self.hold.store.write(lambda tx: leases.mark_dead(tx, self.worker.lease.id, self.clock.time()))
        self.boot()
        self.settle()

    def call(self, name: str) -> Call:
        return next(call for call in self.runtime.calls if call.step_id.rpartition("/")[2] == name)

    def end(self, name: str, how: str = "returned", what: Any = 1) -> None:
        self.runtime.end(self.call(name), how, what)
        self.settle()

    def running(self) -> list[str]:
        return sorted(call.step_id.rpartition("/")[2] for call in self.runtime.calls)

    def words(self, task: Task) -> list[str]:
        return [row.kind for row in self.hold.store.journal(task._id)]
