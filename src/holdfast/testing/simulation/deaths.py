"""The checker of G10: who rests as poison, and who begins beside others though it may kill its worker. It counts by the
journal's words alone, and asks no fold how many deaths there were."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from holdfast.core import events as e
from holdfast.store.base import JournalRow
from holdfast.testing.simulation.checks import Checker
from holdfast.testing.simulation.shadow import Shadow, Violation

if TYPE_CHECKING:
    from holdfast.testing.simulation.world import World

_OUTCOMES = (e.Succeeded, e.Failed, e.Parked, e.Reverted, e.RevertFailed)


class Deaths(Checker):
    """G10: a task rests as poison for those that were in flight at `deaths_max` deaths since their last outcome, and
    none of those begins again unasked. A step that was in flight at one begins when nothing else runs."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._of: dict[int, Counter[str]] = {}  # task -> step -> how many

    def event(self, shadow: Shadow, row: JournalRow, event: e.Event) -> None:
        deaths = self._of.setdefault(shadow.id, Counter())
        ids, running = shadow.state.ids, shadow.state.running
        if type(event) is e.TakenOver:
            deaths.update(ids[each] for each in running if each not in (event.away or ()))
        elif type(event) is e.Died:
            deaths[ids[event.row]] += not event.ours
        elif isinstance(event, _OUTCOMES) or (type(event) is e.Probed and event.verdict == "done"):
            deaths.pop(ids[event.row], None)
        elif type(event) is e.ResumeAsked:
            for step in (*event.answers, *(ids[each] for each in shadow.state.resting)):
                deaths.pop(step, None)
        elif type(event) is e.Rested and event.reason == "poison":
            for each in event.rows:
                if deaths[ids[each]] < self.world.settings.deaths_max:
                    raise Violation(
                        f"task {shadow.id} rests for {ids[each]}, with {deaths[ids[each]]} deaths, as poison"
                    )
        elif isinstance(event, e.Started | e.RevertStarted):
            self._begins(shadow, ids[event.row], deaths[ids[event.row]], beside=type(event) is e.Started and running)

    def _begins(self, shadow: Shadow, step: str, deaths: int, *, beside: object) -> None:
        if deaths >= self.world.settings.deaths_max:
            raise Violation(f"task {shadow.id}: {step} was in flight at {deaths} deaths, and begins again")
        if deaths and beside:
            raise Violation(f"task {shadow.id}: {step} was in flight at a death, and begins while something else runs")
