"""The checker of the event feed: whoever listens hears of every change, once, in order, and of nothing else.

The other checkers: testing/simulation/checks.py.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from holdfast.core import events as e
from holdfast.core.states import FINAL
from holdfast.store.base import JournalRow
from holdfast.tasks.tell import CONTROL, PROGRESS, STATE, STEP
from holdfast.testing.simulation.checks import Checker
from holdfast.testing.simulation.shadow import Commit, Shadow, Violation

if TYPE_CHECKING:
    from holdfast.testing.simulation.world import World


class News(Checker):
    """Each change of a task's state is told once, with the state before it; each verb once; and behind its end there
    is nothing more of its steps."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._begin()
        self.told: list[tuple[int, str, int]] = []  # all of it: id, type, task
        self._verbs: Counter[int] = Counter()

    def _begin(self) -> None:
        self._last = 0
        self._states: dict[int, str] = {}
        self._controls: Counter[int] = Counter()

    def event(self, shadow: Shadow, row: JournalRow, event: e.Event) -> None:
        self._verbs[shadow.id] += row.kind.endswith("_asked") or row.kind == "force_failed"

    def commit(self, commit: Commit) -> None:
        newest = self.world.watch.feed_newest()
        if newest < self._last:  # a power cut took some of it back
            self._begin()
            self.told.clear()
        for number, type, task, data in self.world.watch.feed(self._last):
            self._last = number
            self.told.append((number, type, task))
            self._hear(type, task, json.loads(data))
        for task in commit.changed:
            row = commit.after.get(task)
            if row is None:
                continue
            if self._states.get(task) != row.state:
                raise Violation(f"task {task} is {row.state}, and told as {self._states.get(task)}")
            if self._controls[task] != self._verbs[task] and not self.world.shadows[task].family:
                raise Violation(f"task {task} has had {self._verbs[task]} verbs, and {self._controls[task]} are told")

    def _hear(self, type: str, task: int, data: dict[str, str]) -> None:
        known = self._states.get(task)
        if type == STATE:
            if data["from"] != known or data["to"] == known:
                raise Violation(f"task {task} was told as {known}, and now as {data['from']} -> {data['to']}")
            self._states[task] = data["to"]
        elif type in (PROGRESS, STEP) and known in FINAL:
            raise Violation(f"task {task} is told as {known}, and {type} behind it")
        elif type == CONTROL and "new_task" not in data and "release_claims" not in data:
            self._controls[task] += 1
