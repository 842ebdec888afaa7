"""The driver `process`: a server is a process on this machine, in a session of its own, that outlives whoever made it.

Theory: a server has a directory with slots; a slot is one image: a program, its `config`, its disk, and at most one
guest. Who holds the slot's lock is its guest, and the kernel lets go of the lock when the guest ends, so there are
never two. A start first writes a token into `wanted`; a guest that finds another there ends before it begins. To end a
slot, its token is taken away and then whoever holds the lock is killed: a starter that was left behind by a crash
starts nothing any more. Every function may be called again after a crash at any moment, with the same arguments.

    DIRECTORY/current          {"slot": 2}
    DIRECTORY/slots/2/         config  wanted  lock  process  heartbeat  console  disk  program

The guest: guest.py. How a process is told from another: pid.py. The steps that call this: steps.py.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from holdfast.resources.server import pid
from holdfast.resources.server.pid import Process

#: What a guest does that is not asked of it, by image. A real driver would have disks here.
IMAGES: Final[dict[str, dict[str, float]]] = {
    "guest-1": {},
    "guest-2": {},
    "panics": {"panics": 1},
    "hangs": {"hangs": 1},
}
LIMITS: Final = {"memory_mib": resource.RLIMIT_AS, "cpu_s": resource.RLIMIT_CPU, "files": resource.RLIMIT_NOFILE}
END_S: Final = 10.0  # SIGKILL is not refused; only a process that waits for a broken disk takes so long
STEP_S: Final = 0.02

RUNNING: Final = "RUNNING"
SUSPENDED: Final = "SUSPENDED"
SHUTDOWN: Final = "SHUTDOWN"

Pause = Callable[[float], object]


class NoSuchServer(Exception):
    """The server has no directory here."""


class NotStarted(Exception):
    """The guest did not start."""


class NotEnded(Exception):
    """The guest does not end."""


class NotPossible(Exception):
    """The guest can't be made as asked."""


class Heartbeat(NamedTuple):
    """What a guest says of itself. `beat` counts up while it lives, `boot` from one life to the next."""

    pid: int
    boot: int
    beat: int
    state: str  # booting | up | going down
    at: float
    image: str | None


class Slot:
    """One image and its guest."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = int(path.name)

    def make(self, config: dict[str, Any]) -> None:
        """Write the image and its configuration. A guest that is there already takes the configuration over."""
        self.path.mkdir(parents=True, exist_ok=True)
        if not (self.path / "program").exists():
            put(self.path / "program", Path(__file__).with_name("guest.py").read_text(encoding="utf-8"))
        self.configure(config)

    def configure(self, config: dict[str, Any]) -> None:
        if config != self.config():
            put(self.path / "config", json.dumps(config))

    def config(self) -> dict[str, Any]:
        return _read(self.path / "config")

    def heartbeat(self) -> Heartbeat | None:
        """The latest beat of the guest that runs now."""
        process, seen = self.process(), _read(self.path / "heartbeat")
        if process is None or seen.get("pid") != process.pid:
            return None
        return Heartbeat(**seen)

    def console(self) -> list[dict[str, Any]]:
        """What has happened to the slot's guests, one line each."""
        try:
            lines = (self.path / "console").read_text(encoding="utf-8").splitlines(keepends=True)
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines if line.endswith("\n") and line.startswith("{")]

    def process(self) -> Process | None:
        """The guest's process, if it lives."""
        process = pid.of(_read(self.path / "process"))
        return None if process is None or process.letter() is None else process

    def power(self) -> str:
        """RUNNING, SUSPENDED or SHUTDOWN."""
        process = self.process()
        letter = process.letter() if process else None
        return SHUTDOWN if letter is None else SUSPENDED if letter in "Tt" else RUNNING

    def start(self, token: str) -> Process:
        """Start the guest, unless it runs. `token` is remembered as who started it. Takes some 50 ms; a starter that is
        left behind by a crash ends by itself, and what it started is found here.

        Raises: NotStarted.
        """
        process = self.process()
        if process is not None:
            return process
        put(self.path / "wanted", json.dumps({"token": token}))
        words = [sys.executable, "-I", "-S", str(self.path / "program"), str(self.path), token]
        with open(self.path / "console", "ab") as console, suppress(subprocess.TimeoutExpired):
            subprocess.run(
                words, stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True, env={},
                timeout=END_S, check=False,
            )  # fmt: skip
        process = pid.of(_read(self.path / "process"))
        if process is None or (process.token != token and process.letter() is None):
            raise NotStarted(f"the guest did not start: {self._last_words()}")
        return process

    def was_started_by(self, token: str) -> bool:
        """Whether the guest that runs, or the one that is about to, was started with this token."""
        process = self.process()
        return token == (process.token if process else _read(self.path / "wanted").get("token"))

    def end(self, pause: Pause) -> None:
        """End the guest at once, and let nobody start who was about to. It is gone when this returns.

        Raises: NotEnded.
        """
        if not self.path.exists():
            return
        (self.path / "wanted").unlink(missing_ok=True)
        for _ in range(int(END_S / STEP_S)):
            process = self.process()
            if process is not None:
                process.send(signal.SIGKILL)
            elif self._is_free():
                return
            pause(STEP_S)
        raise NotEnded(f"the guest does not end after SIGKILL: {self.process()}")

    def _is_free(self) -> bool:
        """Whether nobody holds the lock: no guest, and none that is about to say who it is."""
        with open(self.path / "lock", "a", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    def press_button(self) -> bool:
        """Ask the guest to shut down (SIGTERM). False: there is none."""
        process = self.process()
        return process is not None and process.send(signal.SIGTERM)

    def hold(self) -> bool:
        """Stop the guest where it is (SIGSTOP)."""
        process = self.process()
        return process is not None and process.send(signal.SIGSTOP)

    def let_go(self) -> bool:
        """Let it go on (SIGCONT)."""
        process = self.process()
        return process is not None and process.send(signal.SIGCONT)

    def is_going_down(self) -> bool:
        """Whether the guest has heard its button."""
        seen = self.heartbeat()
        return seen is not None and seen.state == "going down"

    def is_up(self) -> bool:
        """Whether the guest has booted. Raises: NotStarted: it has ended while it booted."""
        if self.process() is None:
            raise NotStarted(f"the guest ended while it booted: {self._last_words()}")
        seen = self.heartbeat()
        return seen is not None and seen.state == "up"

    def limits(self) -> dict[str, int | None]:
        """What the kernel limits the guest to now; None: no limit."""
        process = self.process()
        if process is None:
            return {}
        found: dict[str, int | None] = {}
        for name, kind in LIMITS.items():
            soft = resource.prlimit(process.pid, kind)[0]
            found[name] = None if soft == resource.RLIM_INFINITY else soft >> 20 if name == "memory_mib" else soft
        return found

    def limit(self, limits: dict[str, int | None]) -> None:
        """Set the limits, of the guest that runs and of those that will. The hard limits stay: what a server may grow
        to again is no business of the kernel's.

        Raises: NotPossible: the guest needs more than that now.
        """
        process = self.process()
        memory = limits.get("memory_mib")
        if process is not None and memory is not None and pid.memory_mib(process.pid) > memory:
            raise NotPossible(f"the guest uses {pid.memory_mib(process.pid)} MiB now, which is more than {memory}")
        self.configure({**self.config(), "limits": limits})
        if process is None:
            return
        with suppress(ProcessLookupError):  # it has just ended; the next one reads them
            for name, kind in LIMITS.items():
                hard = resource.prlimit(process.pid, kind)[1]
                value = limits.get(name)
                soft = hard if value is None else value << 20 if name == "memory_mib" else value
                if hard != resource.RLIM_INFINITY and (soft == resource.RLIM_INFINITY or soft > hard):
                    soft = hard
                resource.prlimit(process.pid, kind, (soft, hard))

    def _last_words(self) -> str:
        try:
            lines = (self.path / "console").read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            lines = []
        return lines[-1][:300] if lines else "it said nothing"


class Server:
    """What there is of one server on this machine."""

    def __init__(self, directory: str, server: str) -> None:
        if not server or "/" in server or server.startswith("."):
            raise NoSuchServer(f"{server!r} can't be the id of a server")
        self.path = Path(directory) / server

    @property
    def exists(self) -> bool:
        return (self.path / "current").exists()

    @property
    def slot(self) -> Slot:
        """The image that is in use. Raises: NoSuchServer."""
        number = _read(self.path / "current").get("slot")
        if number is None:
            raise NoSuchServer(f"there is no server {self.path.name} on this machine")
        return self.slot_of(int(number))

    def slot_of(self, number: int) -> Slot:
        return Slot(self.path / "slots" / str(number))

    def slots(self) -> list[Slot]:
        return [Slot(path) for path in sorted((self.path / "slots").glob("[0-9]*"), key=lambda path: int(path.name))]

    def drop(self, slot: Slot, pause: Pause) -> None:
        """End an image's guest and remove the image. Raises: NotEnded."""
        slot.end(pause)
        shutil.rmtree(slot.path, ignore_errors=True)

    def use(self, slot: Slot) -> None:
        """Make it the image in use."""
        put(self.path / "current", json.dumps({"slot": slot.number}))

    def remove(self, pause: Pause) -> None:
        """End every guest and leave nothing behind. Raises: NotEnded."""
        for slot in self.slots():
            slot.end(pause)
        with suppress(FileNotFoundError):
            shutil.rmtree(self.path)


def put(path: Path, text: str) -> None:
    """Write a small file whole and durably: who reads it sees the old text or the new one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with open(draft, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
    except FileNotFoundError:
        return {}
