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
import struct
import threading
from typing import Final

from holdfast.errors import StoreBusy, StoreUnwritable

# struct flock of fcntl(2): type, whence, start, length, pid. Open file description locks, because those of a process
# (lockf) are dropped when any other descriptor of the file is closed in it.
_FLOCK: Final = "hhqqi0q"
_NEXT, _HOLD = (  # (lock, unlock) of the first and of the second byte
    tuple(struct.pack(_FLOCK, kind, os.SEEK_SET, byte, 1, 0) for kind in (fcntl.F_WRLCK, fcntl.F_UNLCK))
    for byte in (0, 1)
)

PAUSE_MIN_S: Final = 0.00005
PAUSE_MAX_S: Final = 0.002


class FileGate:
    """Entered and left by one thread at a time."""

    __slots__ = ("_file", "_path", "_pause", "_timeout_s")

    def __init__(self, path: str, timeout_s: float) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._pause = threading.Event()
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            told = f"{path} can't be made: check that its directory exists and may be written"
            raise StoreUnwritable(told) from error

    def enter(self) -> None:
        """Raises StoreBusy, with nothing held."""
        left_s = self._acquire(_NEXT[0], self._timeout_s)
        try:
            self._acquire(_HOLD[0], left_s)
        finally:
            fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, _NEXT[1])

    def leave(self) -> None:
        fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, _HOLD[1])

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _acquire(self, lock: bytes, left_s: float) -> float:
        """What is left of the time. Polls, because a blocking lock can't be told to give up."""
        pause_s = PAUSE_MIN_S
        while True:
            try:
                fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, lock)
                return left_s
            except BlockingIOError:
                if left_s <= 0:
                    told = f"{self._path} is held by another process: try again, or see `holdfast doctor`"
                    raise StoreBusy(told) from None
            self._pause.wait(pause_s)
            left_s -= pause_s
            pause_s = min(PAUSE_MAX_S, pause_s * 2)
