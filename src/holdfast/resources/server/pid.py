"""A process of this machine, found again after everything that knew it is gone: by its number, the moment it began and
the machine's boot. Numbers are used again; the three together are not.

What is run in one: guest.py. What is done with them: process.py.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any, NamedTuple


class Process(NamedTuple):
    """`start` is in clock ticks since the machine's boot (proc_pid_stat(5), field 22)."""

    pid: int
    start: int
    boot_id: str
    token: str

    def letter(self) -> str | None:
        """How it is: R, S, D (it runs), T (it is stopped); None where it has ended. A zombie has ended: only its number
        is left, and whoever inherited it will reap it."""
        if self.boot_id != boot_id():
            return None
        seen = _stat(self.pid)
        return None if seen is None or seen[1] != self.start or seen[0] in "ZXx" else seen[0]

    def send(self, number: signal.Signals) -> bool:
        """Signal it, and never another that has its number now. False: it has ended."""
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if self.letter() is None:  # asked after the descriptor was opened: it holds who has the number now
                return False
            signal.pidfd_send_signal(fd, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(fd)
        return True


def of(record: dict[str, Any]) -> Process | None:
    """The process that a record speaks of, or None where it isn't whole."""
    try:
        return Process(int(record["pid"]), int(record["start"]), str(record["boot_id"]), str(record["token"]))
    except (KeyError, TypeError, ValueError):
        return None


def boot_id() -> str:
    """The machine's boot: another after each."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _stat(pid: int) -> tuple[str, int] | None:
    """The letter of its state, and when it began."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0], int(fields[19])


def memory_mib(pid: int) -> int:
    """The address space that it uses now, rounded up; 0 where it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[0])
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0
    return -(-pages * os.sysconf("SC_PAGE_SIZE") // (1 << 20))
