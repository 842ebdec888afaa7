"""How many tasks a worker takes, and which of them has the next free thread.

Theory: a worker takes what it can begin, so that nothing waits in the memory of one while another has a free thread,
and a project's one task does not stand behind those that were taken before it came. Of short tasks it takes more: as
many as it ends in a twentieth of a second, because they will have begun before another is over (in a fifth, while they
are few), and a taking for each few would cost more than they do: so it takes many, or none while enough of them wait.
How many it ends is seen over a fifth of a second: of many workers on few processors each ends some, and then stands
still for longer than it takes ahead. What it was mistaken about, because what came is longer, it gives back.

Who may be taken at all: tasks/take.py. Threads and processes, counted: runtime/places.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from holdfast.worker.taken import Taken

T = TypeVar("T")

AHEAD_S: Final = 0.05
FEW: Final = 64  # tasks
SPAN_S: Final = 0.2  # over which the pace is seen
STARVED_S: Final = 1.0  # after which a task that lacks a thread may be given back
CAREFUL_S: Final = 10.0  # after one was
WAITING_FACTOR: Final = 8  # as many times what a worker may have at once may only wait, for a moment each


class Pace:
    """`places`: how many threads there are; None: steps run inline, one after the other. `tasks_max`: how many tasks a
    worker may have at once, those that only wait not counted."""

    __slots__ = ("_careful_until", "_ended", "_places", "_rate", "_since", "tasks_max")

    def __init__(self, places: int | None, tasks_max: int) -> None:
        self._places = places
        self.tasks_max = tasks_max
        self._since = 0.0
        self._ended = 0  # tasks since then
        self._rate = 0.0  # tasks a second, before
        self._careful_until = 0.0

    def ended(self, now: float) -> None:
        """A task is off the worker's hands."""
        self._move(now)
        self._ended += 1

    def _move(self, now: float) -> None:
        lasted = now - self._since
        if not 0.0 <= lasted < SPAN_S:
            self._rate = self._ended / lasted if lasted > 0 else 0.0
            self._ended, self._since = 0, now

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
        paced, ahead = self._paced(taken, now, unloaded)
        return min(room, paced) if paced >= ahead * 3 / 4 else 0

    def too_many(self, waiting: Sequence[T], taken: Collection[Taken], now: float) -> Sequence[T]:
        """The first of those that wait, as many as it has more than it would take now. It was mistaken about its pace,
        and goes by its places alone for a while: else it would take them again with the next few short ones."""
        if self._places is None:
            return ()
        found = waiting[: max(0, -self._paced(taken, now, 0)[0])]
        if found:
            self._careful_until = now + CAREFUL_S
        return found

    def _paced(self, taken: Collection[Taken], now: float, unloaded: int) -> tuple[int, int]:
        """How many more tasks it may have for its places and its pace, and how many of all are ahead of its places."""
        assert self._places is not None
        self._move(now)
        busy = unloaded + sum(each.wants_place for each in taken)
        soon = round(AHEAD_S * max(self._rate, self._ended / SPAN_S))
        is_careful = self._careful_until - CAREFUL_S <= now < self._careful_until
        ahead = 0 if is_careful else max(soon, min(4 * soon, FEW))
        return self._places - busy + ahead, ahead


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
