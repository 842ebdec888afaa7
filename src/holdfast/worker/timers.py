"""When tasks are to be looked at though nothing of them has ended."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast.worker.taken import Taken


class Timers:
    """Of one worker. `taken`: the tasks that it has."""

    def __init__(self, taken: dict[int, Taken]) -> None:
        self._taken = taken
        self._moments: list[tuple[float, int]] = []

    @property
    def first(self) -> float | None:
        return self._moments[0][0] if self._moments else None

    def watch(self, taken: Taken, now: float) -> None:
        """Remember its next moment."""
        at = taken.drive.next_at(now)
        if at is not None and at != taken.timer_at:
            taken.timer_at = at
            heappush(self._moments, (at, taken.task.id))
            if len(self._moments) > 64 + 4 * len(self._taken):  # those of tasks long gone, for deadlines far away
                self._moments = [each for each in self._moments if each[1] in self._taken]
                heapify(self._moments)

    def due(self, now: float) -> list[int]:
        """Tasks whose moment has come."""
        found = []
        while self._moments and self._moments[0][0] <= now:
            found.append(heappop(self._moments)[1])
        return found
