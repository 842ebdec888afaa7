"""Real workers in real processes on one file, a witness that only the steps write, and knobs that steps look at."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from holdfast.errors import StoreBusy
from holdfast.local import Holdfast
from holdfast.local import open as open_database
from holdfast.store.gate import FileGate
from holdfast.worker.loop import Worker
from tests.forked import Forked
from tests.postgresql import database_at

REPOSITORY = Path(__file__).parents[2]
PATIENCE_S = 60.0  # for what must happen; only a test that fails waits for it
LOOK_S = 0.01


class Line(NamedTuple):
    """What one step said: `what`, and what its context said of the entry."""

    what: str
    step: str
    attempt: int
    key: str
    pid: int
    extra: Any


def tell(at: str, ctx: Any, what: str, extra: Any = None) -> None:
    """Append a line in one write, so a kill leaves it out or whole."""
    words = [what, ctx.step_id, ctx.attempt, ctx.idempotency_key, os.getpid(), extra]
    fd = os.open(Path(at, "witness"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, (json.dumps(words) + "\n").encode())
    finally:
        os.close(fd)


def knob(at: str, name: str) -> bool:
    return Path(at, name).exists()


def until(fact: Callable[[], object], what: Callable[[], object] = lambda: "it") -> None:
    """Look until the fact holds. `what` says what was looked for, if it doesn't."""
    pause = threading.Event()
    for _ in range(int(PATIENCE_S / LOOK_S)):
        if fact():
            return
        pause.wait(LOOK_S)
    raise AssertionError(f"{what()} has not happened")


class WorkerProcess:
    """See process.py."""

    def __init__(self, url: str, settings: dict[str, Any]) -> None:
        self._url = url
        self.process = Forked(
            "tests.worker.process", url, json.dumps(settings),
            cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self.pid = self.process.pid
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def freeze(self) -> None:
        """As a virtual machine that is suspended; but not amid a write to a file of SQLite, which nobody else could
        write until it thaws."""
        until(self._is_frozen, lambda: "a moment without a write")

    def _is_frozen(self) -> bool:
        self.process.send_signal(signal.SIGSTOP)
        until(lambda: state_of(self.pid) == "T", lambda: "its stop")
        if self._url.startswith("sqlite") and not is_free(self._url.removeprefix("sqlite:///")):
            self.thaw()
            return False
        return True

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """As the kernel does when memory is short, or a person with kill -9."""
        self.process.kill()
        self.end()

    def leave(self) -> int:
        """Ask it to go once it has nothing to do; its exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.end()

    def end(self) -> int:
        code = self.process.wait(PATIENCE_S)
        self.process.close()
        return code


class House:
    """One directory: a database, a witness, knobs, and everything opened on them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.at = str(directory)
        self.url = database_at(directory / "tasks.db")
        self._opened: list[Holdfast] = []
        self._workers: list[WorkerProcess] = []

    def open(self, **settings: Any) -> Holdfast:
        opened = open_database(self.url, **settings)
        self._opened.append(opened)
        return opened

    def worker(self, **settings: Any) -> WorkerProcess:
        started = WorkerProcess(self.url, settings)
        self._workers.append(started)
        return started

    def turn(self, *names: str) -> None:
        for name in names:
            (self.directory / name).touch()

    def turn_off(self, *names: str) -> None:
        for name in names:
            (self.directory / name).unlink(missing_ok=True)

    # --- the witness ----------------------------------------------------------------------------------------------

    def lines(self) -> list[Line]:
        witness = self.directory / "witness"
        return [Line(*json.loads(line)) for line in witness.read_text().splitlines()] if witness.exists() else []

    def said(self) -> list[str]:
        return [line.what for line in self.lines()]

    def until_said(self, what: str, times: int = 1) -> Line:
        """The line with which it was said for the nth time."""
        until(
            lambda: self.said().count(what) >= times,
            lambda: f"{what!r}, {times} times, after {self.said()}",
        )
        return [line for line in self.lines() if line.what == what][times - 1]

    def close(self) -> None:
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.process.send_signal(signal.SIGCONT)
                worker.process.kill()
            worker.end()
        self.turn("go")
        for opened in self._opened:
            opened.close()


def is_there(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    return state_of(pid) not in (None, "Z")


def state_of(pid: int) -> str | None:
    """As proc(5) has it: T is stopped, Z a zombie. None: there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def is_free(database: str) -> bool:
    """Whether the file of SQLite can be written, within a moment."""
    gate = FileGate(f"{database}-gate", 0.5)
    try:
        gate.enter()
        gate.leave()
        return True
    except StoreBusy:
        return False
    finally:
        gate.close()


@contextmanager
def running(worker: Worker) -> Iterator[None]:
    """In a thread of its own, for as long as the `with` lasts."""
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join()
        worker.close()
