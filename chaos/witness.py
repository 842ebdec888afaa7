"""What happened, as those say who were there: steps, clients, and whoever made the faults. Holdfast has no part in it.

Theory: one file, one line for each event, each in one write to a file opened with O_APPEND. So the order of the lines
is the order in which they were said, whoever said them, and no clock has to be believed. What is said before a thing
is done stands before it (`asked`, `begin`, `killed`), what is said after it behind it (`accepted`, `end`, `frozen`).

`Guard` is a device that checks fencing tokens: of two writes of a task the one with the older token is refused. What
the lines prove: history.py.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

#: Where the witness is, and who speaks: the environment of whatever a cluster starts.
PLACE: Final = "CHAOS_WITNESS"
MEMBER: Final = "CHAOS_MEMBER"
POOL: Final = "CHAOS_POOL"  # of an agent
RUNNER: Final = "CHAOS_RUNNER"  # the id of the process that starts them
#: Writes of up to this many bytes are whole or not at all, on every file system that matters.
_LINE_BYTES_MAX: Final = 4096


class Line(NamedTuple):
    """`place`: the line's number. `at`: seconds since the machine's start, for durations only. `who`: which process,
    by its name in the cluster; its next incarnation has another."""

    place: int
    at: float
    who: str
    what: str
    more: Mapping[str, Any]

    def __str__(self) -> str:
        told = " ".join(f"{name}={json.dumps(value)}" for name, value in self.more.items())
        return f"{self.place}: {self.at:.3f} {self.who} {self.what} {told}"


class Witness:
    """For any number of threads and processes."""

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._file = self.directory / "lines"

    def say(self, who: str, what: str, **more: Any) -> None:
        at = round(time.clock_gettime(time.CLOCK_BOOTTIME), 6)
        line = json.dumps([at, who, what, more], separators=(",", ":")).encode() + b"\n"
        if len(line) > _LINE_BYTES_MAX:
            raise ValueError(f"a line of {len(line)} bytes may be torn: {line[:80]!r}")
        fd = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(fd, line)
        finally:
            os.close(fd)

    def lines(self) -> list[Line]:
        """All of them."""
        return self._since(0)

    def lately(self, size: int) -> list[Line]:
        """The last of them, that many bytes; their places are not those of `lines`."""
        return self._since(-size)

    def _since(self, place: int) -> list[Line]:
        if not self._file.exists():
            return []
        with open(self._file, "rb") as file:
            if place < 0 and file.seek(0, os.SEEK_END) > -place:
                file.seek(place, os.SEEK_END)
                file.readline()  # a part of one
            else:
                file.seek(0)
            said, _, _ = file.read().rpartition(b"\n")  # what is behind it is being written
        return [Line(number, *json.loads(each)) for number, each in enumerate(said.splitlines(), 1)]


class Guard:
    """Devices that remember the newest fencing token of each task, and refuse what comes with an older one."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness
        self._devices = witness.directory.absolute() / "devices"

    def is_entered_by(self, pid: int) -> bool:
        """Whether the process writes to a device just now: while it does, no other can."""
        try:
            return any(os.readlink(fd).startswith(str(self._devices)) for fd in Path(f"/proc/{pid}/fd").iterdir())
        except (FileNotFoundError, ProcessLookupError):  # it has ended, or has just left
            return False

    @contextmanager
    def _alone(self, resource: str, task: str) -> Iterator[int]:
        directory = self._devices / resource.replace("/", ".")
        directory.mkdir(parents=True, exist_ok=True)
        fd = os.open(directory / task, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield fd
        finally:
            os.close(fd)

    def write(self, who: str, resource: str, task: str, token: int, **more: Any) -> bool:
        """Whether the device took it; the witness is told while nobody else can write."""
        with self._alone(resource, task) as fd:
            newest = int(os.pread(fd, 32, 0) or b"0")
            taken = token >= newest
            if token > newest:
                os.pwrite(fd, b"%020d" % token, 0)
            what = "write" if taken else "refused"
            self._witness.say(who, what, resource=resource, token=token, newest=newest, **more)
            return taken


def here() -> tuple[Witness, str] | None:
    """The witness of this process' cluster and this process' name; None: it belongs to none."""
    place = os.environ.get(PLACE)
    return (Witness(place), os.environ.get(MEMBER, "?")) if place else None
