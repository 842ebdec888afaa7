"""How many tasks a worker takes, and which of them has the next free thread.

Theory: a worker takes what it can begin, so that nothing waits in the memory of one while another has a free thread,
and a project's one task does not stand behind those that were taken before it came. Of short tasks it takes more: as
many as it has ended in the last twentieth of a second, because they will have begun before another is over,
and a taking for each few would cost more than they do: so it takes many, or none while enough of them wait.

Who may be taken at all: tasks/take.py. Threads and processes, counted: runtime/places.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from holdfast.worker.taken import Taken

AHEAD_S: Final = 0.05
WAITING_FACTOR: Final = 8  # as many times what a worker may have at once may only wait, for a moment each


class Pace:
    """`places`: how many threads there are; None: steps run inline, one after the other. `tasks_max`: how many tasks a
    worker may have at once, those that only wait not counted."""

    __slots__ = ("_before", "_now", "_places", "_since", "tasks_max")

    def __init__(self, places: int | None, tasks_max: int) -> None:
        self._places = places
        self.tasks_max = tasks_max
        self._since = 0.0
        self._now = self._before = 0  # tasks that ended since then, and in as long a time before

    def ended(self, now: float) -> None:
        """A task is off the worker's hands."""
        self._move(now)
        self._now += 1

    def _move(self, now: float) -> None:
        if not 0.0 <= now - self._since < AHEAD_S:
            self._before = self._now if 0.0 <= now - self._since < 2 * AHEAD_S else 0
            self._now, self._since = 0, now

    def room(self, taken: Collection[Taken], now: float, unloaded: int = 0) -> int:
        """How many more tasks the worker may take that has these, and so many that it has not loaded yet. One that only
        waits and soon looks again is kept, because to take it anew costs more than to have it; but it must not keep
        others from being begun."""
        held = len(taken) + unloaded
        room = self.tasks_max - held
        if room <= 0:
            waiting = sum(each.may_leave(now, 0.0) for each in taken)
            room = min(room + waiting, WAITING_FACTOR * self.tasks_max - held)
        if self._places is None:
            return room
        self._move(now)
        busy = unloaded + sum(each.wants_place for each in taken)
        ended = max(self._now, self._before)
        ahead = max(ended, min(2 * ended, self._places))
        room = min(room, self._places - busy + ahead)
        return room if busy < 2 * self._places or room >= ahead / 2 else 0


def whose_turn(starved: Collection[int], taken: Mapping[int, Taken], free: int) -> list[int]:
    """Of the tasks that lack a thread or a process, as many as are free: always one of the project for which the fewest
    steps run, and of those who has waited longest."""
    if not starved or len(starved) <= free:
        return list(starved)
    waiting: dict[str, list[int]] = {}
    for task in starved:
        if task in taken:
            waiting.setdefault(taken[task].task.project_id, []).append(task)
    if len(waiting) <= 1:
        return list(islice(starved, free))
    runs: Counter[str] = Counter()
    for each in taken.values():
        runs[each.task.project_id] += len(each.drive.calls)
    chosen: list[int] = []
    for line in waiting.values():
        line.reverse()
    while len(chosen) < free and waiting:
        project = min(waiting, key=runs.__getitem__)
        chosen.append(waiting[project].pop())
        runs[project] += 1
        if not waiting[project]:
            del waiting[project]
    return chosen
