"""The guests as the demo sees them from outside: the files that they write themselves, and /proc.

Nothing here asks the service or uses Holdfast, so it can testify against both.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Guest(NamedTuple):
    """What a guest says in its heartbeat, and whether its process lives."""

    pid: int
    boot: int
    beat: int
    state: str
    image: str | None
    lives: bool


class Witness:
    """The directory of all servers."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def guest(self, server: str) -> Guest:
        """Raises: FileNotFoundError: it never was."""
        slot = self._slot(server)
        seen = _read(slot / "heartbeat")
        return Guest(seen["pid"], seen["boot"], seen["beat"], seen["state"], seen["image"], lives(seen["pid"]))

    def console(self, server: str) -> list[dict[str, Any]]:
        """What has happened to the guests of the image in use, a line each."""
        lines = (self._slot(server) / "console").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def boots(self, server: str) -> int:
        return sum(line["what"] == "boot" for line in self.console(server))

    def servers(self) -> list[str]:
        return sorted(path.name for path in self.directory.glob("*") if path.is_dir())

    def processes(self) -> list[int]:
        """Every process whose command names this directory."""
        return [pid for pid, words in commands() if str(self.directory) in words]

    def _slot(self, server: str) -> Path:
        return self.directory / server / "slots" / str(_read(self.directory / server / "current")["slot"])


def lives(pid: int) -> bool:
    """A zombie does not: only whoever inherited it can make it vanish."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


def commands() -> list[tuple[int, str]]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:  # it has just ended
            continue
        if words:  # a zombie has none
            found.append((int(path.parent.name), words))
    return found


def below(pid: int) -> list[int]:
    """The grandchildren of a process: of a service, the processes of its steps."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] not in "ZX":
            parents[int(path.parent.name)] = int(fields[1])
    children = {child for child, parent in parents.items() if parent == pid}
    return sorted(child for child, parent in parents.items() if parent in children)


def any_lives(pids: Sequence[int]) -> bool:
    return any(lives(pid) for pid in pids)


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
