"""The schedules, as a worker sees to them: it looks when the next moment comes, or when something was committed, and
asks for what is due.

Every worker looks; who comes second finds nothing left to do. Why a moment makes one task: tasks/schedules.py.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from holdfast.errors import KindUnknown, ScheduleInvalid, WorldError
from holdfast.store.base import Store, Tx
from holdfast.tasks import schedules
from holdfast.tasks.schedules import Admit, Coming

if TYPE_CHECKING:
    from holdfast.clock import Clock

LOOK_S: Final = 1.0  # between two looks at what others have made
AWAY_S: Final = 60.0  # until one is tried again that only others can ask for
log: Final = logging.getLogger("holdfast.schedules")


class Rota:
    """For the thread of its worker. `admit`: None: it sees to no schedules."""

    def __init__(self, store: Store, clock: Clock, admit: Admit | None) -> None:
        self._store = store
        self._clock = clock
        self._admit = admit
        self._away: dict[str, float] = {}
        self._looked_at = 0.0
        self._changes = -1
        #: When there is something to do, as far as is known: others make schedules too.
        self.due_at = 0.0 if admit is not None else float("inf")

    def turn(self, now: float) -> bool:
        """Ask for what is due, if it is time; whether anything was asked for."""
        if self._admit is None or not (self.due_at <= now or self._may_differ(now)):
            return False
        self._looked_at, self._changes = now, self._store.changes(went_on=False)
        self._away = {id: until for id, until in self._away.items() if now < until <= now + AWAY_S}
        look = partial(schedules.coming, limit=schedules.LOOK_MAX + len(self._away))  # those are due, and stay so
        coming = [each for each in self._store.read(look) if each.id not in self._away]
        due = [each for each in coming if each.at <= now]
        if not due:
            self.due_at = min([float("inf"), *self._away.values(), *(each.at for each in coming[:1])])
            return False
        self.due_at = now
        return self._fire(due, now, self._admit)

    def _may_differ(self, now: float) -> bool:
        """Whether something was committed since the last look, and that is a while ago."""
        if self._looked_at <= now < self._looked_at + LOOK_S:  # else somebody has set the clock back
            return False
        if self._store.changes(went_on=False) != self._changes:
            return True
        self._looked_at = now
        return False

    def _fire(self, due: Sequence[Coming], now: float, admit: Admit) -> bool:
        fns = [
            partial(schedules.fire, id=each.id, now=now, uuid=self._clock.uuid7(), admit=admit) for each in due
        ]  # fmt: skip
        did = False
        for each, answer in zip(due, self._store.write_all(fns), strict=True):
            if isinstance(answer, WorldError):
                raise answer
            if isinstance(answer, (KindUnknown, ScheduleInvalid)):
                self._away[each.id] = now + AWAY_S
                log.warning("schedule %s is left to other workers: %s", each.id, answer)
            elif isinstance(answer, Exception):
                self._store.write(partial(_refuse, each.id, now, answer))
                log.warning("schedule %s made no task: %s", each.id, answer)
            did = did or answer is not None
        return did


def _refuse(id: str, now: float, error: Exception, tx: Tx) -> None:
    schedules.refuse(tx, id, now, error)
