"""A fair gate for the processes that write to one SQLite file.

Theory: SQLite's own waiting is a race of sleepers, in which a fourth writer starves. Here the way to `hold` (one byte
of the gate's file) leads through `next` (another byte): who holds the database's turn and wants it again must queue at
`next` behind the one that already waits there. So two writers alternate, and more share. The kernel frees both when a
process dies. Nothing waits without end: after `timeout_s` it is StoreBusy.

Threads of one process are ordered before they come here, by store/writer.py.
"""

from __future__ import annotations

import fcntl
import os
import threading
from typing import Final

from holdfast.errors import StoreBusy, StoreUnwritable

PAUSE_MIN_S: Final = 0.00005
PAUSE_MAX_S: Final = 0.002


class FileGate:
    """Entered and left by one thread at a time."""

    __slots__ = ("_hold", "_next", "_path", "_pause", "_timeout_s")

    def __init__(self, path: str, timeout_s: float) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._pause = threading.Event()
        self._hold = -1
        self._next = -1
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            # Two descriptions of one file: flock belongs to the description, so one file carries only one lock.
            self._hold = os.open(path, flags, 0o666)
            self._next = os.open(path + "-next", flags, 0o666)
        except OSError as error:
            self.close()
            raise StoreUnwritable(
                f"{path} can't be made: check that its directory exists and may be written"
            ) from error

    def enter(self) -> None:
        """Raises StoreBusy, with nothing held."""
        left_s = self._acquire(self._next, self._timeout_s)
        try:
            self._acquire(self._hold, left_s)
        finally:
            fcntl.flock(self._next, fcntl.LOCK_UN)

    def leave(self) -> None:
        fcntl.flock(self._hold, fcntl.LOCK_UN)

    def close(self) -> None:
        for descriptor in (self._hold, self._next):
            if descriptor >= 0:
                os.close(descriptor)
        self._hold = self._next = -1

    def _acquire(self, descriptor: int, left_s: float) -> float:
        """What is left of the time. Polls, because flock can't be told to give up."""
        pause_s = PAUSE_MIN_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return left_s
            except BlockingIOError:
                if left_s <= 0:
                    raise StoreBusy(
                        f"{self._path} is held by another process: try again, or see `holdfast doctor`"
                    ) from None
            self._pause.wait(pause_s)
            left_s -= pause_s
            pause_s = min(PAUSE_MAX_S, pause_s * 2)
