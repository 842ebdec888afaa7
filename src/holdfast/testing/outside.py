"""What a test sees of a driver from outside: whom it reaches, what it leaves running, what it shows of what it knows.

The suite that looks: power.py.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

#: How long a test waits for what must happen. Long, for slow machines: only a test that fails waits for it.
PATIENCE_S: Final = 30.0


class Hooks:
    """`Bmc.on_stop`, as who runs the calls keeps it."""

    def __init__(self, is_stopped: bool) -> None:
        self._lock = threading.Lock()
        self._hows: list[Callable[[], object]] = []
        self._is_stopped = is_stopped

    def add(self, how: Callable[[], object]) -> None:
        with self._lock:
            self._hows.append(how)
            is_stopped = self._is_stopped
        if is_stopped:
            how()

    def stop(self) -> None:
        with self._lock:
            self._is_stopped = True
            hows = list(self._hows)
        for how in hows:
            how()


_OUTWARD: Final = frozenset(
    ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname",
     "subprocess.Popen", "os.posix_spawn", "os.fork", "os.exec")
)  # fmt: skip
_listeners: Final[dict[int, list[str]]] = {}


def _hear(event: str, _: object) -> None:
    if _listeners and event in _OUTWARD and threading.get_ident() in _listeners:
        _listeners[threading.get_ident()].append(event)


@contextmanager
def listening() -> Iterator[list[str]]:
    """What this thread does meanwhile to reach somebody, as the interpreter itself tells it."""
    if not hasattr(_hear, "is_added"):
        sys.addaudithook(_hear)
        _hear.is_added = True  # type: ignore[attr-defined]
    heard = _listeners[threading.get_ident()] = []
    try:
        yield heard
    finally:
        del _listeners[threading.get_ident()]


def family() -> set[int]:
    """The processes that descend from this one."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path("/proc", entry, "stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue  # it has just ended
            state, parent = stat.rpartition(")")[2].split()[:2]  # a name may have spaces
            if state != "Z":
                parents[int(entry)] = int(parent)
    found: set[int] = set()
    ahead = [os.getpid()]
    while ahead:
        above = ahead.pop()
        below = [process for process, parent in parents.items() if parent == above]
        found.update(below)
        ahead += below
    return found


def left_behind() -> tuple[int, int, int]:
    """How many processes, threads and open files this process has."""
    return len(family()), threading.active_count(), len(os.listdir("/proc/self/fd"))


def shown(process: int) -> bytes:
    """What everybody of this user sees of it."""
    shown = b""
    for name in ("cmdline", "environ"):
        try:
            shown += Path("/proc", str(process), name).read_bytes()
        except OSError:
            pass  # it has ended
    return shown


def everything(error: BaseException) -> str:
    """All that could be shown or stored of an error, and of those it came from."""
    told, ahead = [], [error]
    while ahead:
        one = ahead.pop()
        told += [str(one), repr(one), repr(one.args), repr(getattr(one, "details", "")), *getattr(one, "__notes__", ())]
        ahead += [other for other in (one.__cause__, one.__context__) if other is not None]
    return "\n".join(told)


def until(fact: Callable[[], object], patience_s: float = PATIENCE_S) -> bool:
    """Look until it is so. False: patience is over."""
    limit = time.monotonic() + patience_s
    pause = threading.Event()
    while not fact():
        if time.monotonic() > limit:
            return False
        pause.wait(0.02)
    return True
