"""Which webhooks are served at once, so that slow receivers hold up nobody but each other.

Theory: who waits for a receiver holds a thread, of which there are some. So one project, and one host, may have only so
many at once; and those that are slow, or fail, or have not been tried yet, may have so many together that some are
always left for those that were quick the last time. Whoever has waited longest is served first, and a turn is short
(TURN_S, and what the last request of it takes), so that all of a kind get theirs.

What is done in a turn: feed/sinks.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from threading import Condition
from typing import Final
from urllib.parse import urlsplit

from holdfast.feed.hooks import Hook

AT_ONCE: Final = 32
OF_PROJECT: Final = 8
TO_HOST: Final = 8
SLOW: Final = 12  # slow or failing ones
NEW: Final = 12  # untried ones
TURN_S: Final = 2.0
SLOW_S: Final = 1.0  # a request that takes longer was slow

_MOST: Final = {"project": OF_PROJECT, "host": TO_HOST, "slow": SLOW, "new": NEW}


class Turns:
    """One thread offers webhooks, others take them, each for a turn."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._waiting: list[Hook] = []  # who has waited longest comes first
        self._served: dict[str, list[tuple[str, str]]] = {}  # webhook -> the groups of which it takes a place
        self._taken: Counter[tuple[str, str]] = Counter()
        self._quick: dict[str, bool] = {}  # whether the last request was
        self._last: dict[str, int] = {}  # the number of each one's last turn
        self._number = 0
        self._closed = False

    def mark(self) -> int:
        """Drawn before the webhooks are read that are then offered."""
        return self._number

    def offer(self, hooks: Iterable[Hook], mark: int) -> int:
        """These wait for their turn now, and no others; of one that has had a turn since the mark, it isn't known any
        more. How many threads would have something to do."""
        with self._changed:
            last = self._last
            waiting = [each for each in hooks if each.id not in self._served and last.get(each.id, 0) <= mark]
            self._waiting = sorted(waiting, key=lambda each: (last.get(each.id, 0), each.id))
            self._changed.notify(len(self._waiting))
            return min(AT_ONCE, len(self._served) + len(self._waiting))

    def take(self) -> Hook | None:
        """The next whose turn it is, as soon as there is one; None: there will be no more."""
        with self._changed:
            while not self._closed:
                if (hook := self._next()) is not None:
                    return hook
                self._changed.wait()
            return None

    def end(self, id: str, took_s: float | None) -> None:
        """Its turn is over. `took_s`: the slowest request of it; None: there was none."""
        with self._changed:
            if took_s is not None:
                self._quick[id] = took_s <= SLOW_S
            self._taken -= Counter(self._served.pop(id))
            self._number += 1
            self._last[id] = self._number
            self._changed.notify()  # who ends a turn takes another; and this may have made room for two

    def forget(self, but: set[str]) -> None:
        """All that is known of others than these."""
        with self._changed:
            self._last = {id: number for id, number in self._last.items() if id in but}
            self._quick = {id: quick for id, quick in self._quick.items() if id in but}

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _next(self) -> Hook | None:
        """The next, if there is room for one."""
        for place, hook in enumerate(self._waiting):
            groups = self._groups(hook)
            if all(self._taken[group] < _MOST[group[0]] for group in groups):
                del self._waiting[place]
                self._served[hook.id] = groups
                self._taken.update(groups)
                return hook
        return None

    def _groups(self, hook: Hook) -> list[tuple[str, str]]:
        groups = [("project", hook.project_id), ("host", urlsplit(hook.url).netloc.lower())]
        quick = self._quick.get(hook.id)
        if hook.failures or quick is False:
            groups.append(("slow", ""))
        elif quick is None:
            groups.append(("new", ""))
        return groups
