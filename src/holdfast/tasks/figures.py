"""What workers count, and how it is added up.

Theory: a worker listens on no socket, so nobody can ask it. It keeps its figures in its row, as of its last heartbeat;
those of a worker that is gone are added to its pool's before its row is forgotten. So their sum over pools and workers
only ever grows.

Who shows it: service/metrics.py. Who writes it: worker/lease.py, tasks/lease.py.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable
from typing import Final

from holdfast.tasks.row import TaskRow

WAIT_BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
BATCH_BOUNDS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Tally:
    """How often a number was within which bound: a histogram. The last count is of those beyond all."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def note(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Figures:
    """`waits`: seconds from when a task could first be taken until a worker had it. `batches`: tasks that one append
    wrote for. `lease_losses`: how often a worker found that it was taken for dead."""

    __slots__ = ("batches", "lease_losses", "waits")

    def __init__(self) -> None:
        self.waits = Tally(WAIT_BOUNDS_S)
        self.batches = Tally(BATCH_BOUNDS)
        self.lease_losses = 0

    def taken(self, rows: Iterable[TaskRow], now: float) -> None:
        """A worker has taken these. Those it has for the first time count: how long they could have been taken."""
        for row in rows:
            if row.epoch == 1:
                self.waits.note(max(0.0, now - max(row.updated_at, row.start_after or 0.0)))

    def to_text(self) -> str:
        return json.dumps(
            {
                "lease_losses": self.lease_losses,
                "waits": [round(self.waits.total, 6), *self.waits.counts],
                "batches": [self.batches.total, *self.batches.counts],
            }
        )

    def add(self, text: str) -> None:
        """What `to_text` made. Counts of other bounds, from another version, are left out."""
        data = json.loads(text)
        self.lease_losses += data["lease_losses"]
        for tally, (total, *counts) in ((self.waits, data["waits"]), (self.batches, data["batches"])):
            if len(counts) == len(tally.counts):
                tally.total += total
                tally.counts = [has + more for has, more in zip(tally.counts, counts, strict=True)]


def summed(texts: Iterable[str | None]) -> Figures:
    """The sum of what is there."""
    found = Figures()
    for text in texts:
        if text is not None:
            found.add(text)
    return found
