"""Housekeeping: what a worker does beside its tasks. Queues are evaluated again, as a net, and what has expired goes.

Theory: whoever writes meanwhile waits for one short transaction at most, and seldom. So a purge is a row of them, each
of some dozen rows, and between two of them the worker rests for several times as long as the last one took; what may go
is looked for in a read, which nobody waits for. Where rows were deleted all over the file, much of it is to be written
anew: that is done before the rest (Store.fold), or a commit would have to. A million tasks take twenty minutes so, and
nobody notices.

What is purged: tasks/retention.py.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final

from holdfast.store.base import Store, Tx
from holdfast.tasks import agents, claims, retention

if TYPE_CHECKING:
    from holdfast.clock import Clock
    from holdfast.settings import Settings

HOUSE_S: Final = 10.0  # between rounds
FOUND_MAX: Final = 1000  # expired tasks that are looked for at once
TASKS_MAX: Final = 20  # that are purged in one transaction,
ROWS_MAX: Final = 100  # and about how many rows of theirs,
LEASES_MAX: Final = 1000  # that are purged in a round
EVENTS_MAX: Final = 50  # or how many events
REST: Final = 3.0  # times what the last transaction took


class House:
    """For the thread of its worker."""

    def __init__(self, store: Store, settings: Settings, clock: Clock) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._round_at = clock.time() + HOUSE_S
        self._swept: str | None = None
        self._expired: deque[int] = deque()
        self._again = False  # some have gone since it was last looked for more
        self._more = False  # the last transaction has left some of what it was given
        #: When there is something to do.
        self.due_at = self._round_at

    def turn(self, now: float) -> None:
        """Do a little, if it is time."""
        if now < self.due_at:
            return
        began = self._clock.monotonic()
        begins = now >= self._round_at
        if begins:
            self._round_at = now + HOUSE_S
            self._swept = self._store.write(lambda tx: _sweep(tx, now, self._swept or ""))
        if self._purge(now, begins):
            self._store.fold()
            self.due_at = self._clock.time() + REST * (self._clock.monotonic() - began)
        else:
            self.due_at = self._round_at

    def _purge(self, now: float, begins: bool) -> bool:
        """One transaction; whether there is more to do."""
        if not self._expired and (begins or self._again):
            self._again = False
            self._expired.extend(self._store.read(lambda tx: retention.expired(tx, now, limit=FOUND_MAX)))
        some = list(islice(self._expired, TASKS_MAX))
        if some or begins or self._more:
            keep_s = self._settings.retention_s
            gone = self._store.write(
                lambda tx: retention.purge(tx, now, tombstone_s=keep_s, rows_max=ROWS_MAX, among=some)
            )
            self._again = self._again or gone.tasks > 0
            self._more = gone.more
            if not gone.more:
                for _ in some:
                    self._expired.popleft()
            if gone.more or self._expired or self._again:
                return True
        return retention.purge_feed(self._store, now, self._settings.feed_retention_s, events_max=EVENTS_MAX)


def _sweep(tx: Tx, now: float, after: str) -> str | None:
    purged = agents.purge(tx, now, limit=LEASES_MAX)
    granted, then = claims.sweep(tx, now, after=after)
    if not purged and not granted:
        tx.keep_quiet()
    return then
