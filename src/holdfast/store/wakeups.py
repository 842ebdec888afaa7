"""Who is told of a commit: callbacks and waiting threads of this process at once, others by looking.

A commit of this process is known the moment it is made. One of another process is told by the database (PostgreSQL:
store/pg_bell.py), or shows only there (SQLite: `PRAGMA data_version`; what `changes` reads), so a wait looks there
every `look_s` too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count


class Wakeups:
    """Threads may share it."""

    def __init__(self, changes: Callable[[], int], *, look_s: float = 0.05) -> None:
        self._changes = changes
        self._look_s = look_s
        self._condition = threading.Condition(threading.Lock())
        self._callbacks: tuple[Callable[[frozenset[int]], None], ...] = ()
        self._others: tuple[Callable[[bool], None], ...] = ()
        self._numbers = count(1)  # one is drawn at once, whichever thread asks
        self._commits = 0
        self._waiting = 0
        self._closed = False

    def subscribe(self, callback: Callable[[frozenset[int]], None]) -> Callable[[], None]:
        """What ends the subscription."""
        with self._condition:
            self._callbacks = (*self._callbacks, callback)

        def end() -> None:
            with self._condition:
                self._callbacks = tuple(kept for kept in self._callbacks if kept is not callback)

        return end

    def committed(self, tasks: set[int]) -> None:
        """Tell everybody, on this thread."""
        self._commits = next(self._numbers)
        if self._waiting:  # who begins to wait counts itself first and looks at `_commits` after
            with self._condition:
                self._condition.notify_all()
        if self._callbacks:
            touched = frozenset(tasks)
            for callback in self._callbacks:
                callback(touched)

    def hear_others(self, callback: Callable[[bool], None]) -> Callable[[], None]:
        """What ends it."""
        with self._condition:
            self._others = (*self._others, callback)

        def end() -> None:
            with self._condition:
                self._others = tuple(kept for kept in self._others if kept is not callback)

        return end

    def others_committed(self, went_on: bool = False) -> None:
        """The database says so. `went_on`: tasks did, and that is all."""
        self._commits = next(self._numbers)
        if self._waiting:
            with self._condition:
                self._condition.notify_all()
        for callback in self._others:
            callback(went_on)

    @property
    def commits(self) -> int:
        """Of this process, and what it was told of others'."""
        return self._commits

    def wait(self, seen: int, timeout_s: float) -> int:
        """`changes()` as soon as it differs from `seen` or the time is up."""
        left_s = timeout_s
        while True:
            commits = self._commits
            now = self._changes()
            if now != seen or left_s <= 0:
                return now
            pause_s = min(left_s, self._look_s)
            with self._condition:
                self._waiting += 1
                try:
                    if not self._closed and self._commits == commits and not self._condition.wait(pause_s):
                        left_s -= pause_s
                finally:
                    self._waiting -= 1

    def close(self) -> None:
        """Wake who waits; `changes` tells them."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
