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
    none of those begins again unasked; a step that is to be undone may begin with that. A step that was in flight at a
    death begins when nothing else runs, and nothing begins beside it."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._of: dict[int, Counter[str]] = {}  # task -> step -> how many
        self._undone: set[tuple[int, str]] = set()  # what has begun with its revert

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
            unsaid = shadow.state.resting if shadow.state.reason == "on_failure" else ()  # those are to be tried again
            for step in (*event.answers, *(ids[each] for each in unsaid)):
                deaths.pop(step, None)
        elif type(event) is e.Rested and event.reason == "poison":
            for each in event.rows:
                if deaths[ids[each]] < self.world.settings.deaths_max:
                    raise Violation(
                        f"task {shadow.id} rests for {ids[each]}, with {deaths[ids[each]]} deaths, as poison"
                    )
        elif isinstance(event, e.Started | e.Reentered | e.RevertStarted):
            self._begins(shadow, ids[event.row], deaths, event, [ids[each] for each in running])

    def _begins(self, shadow: Shadow, step: str, deaths: Counter[str], event: e.Event, beside: list[str]) -> None:
        place, is_new = (shadow.id, step), False
        if type(event) is e.Started:
            self._undone.discard(place)
        elif type(event) is e.RevertStarted:
            is_new = place not in self._undone
            self._undone.add(place)
        if deaths[step] >= self.world.settings.deaths_max and not is_new:
            raise Violation(f"task {shadow.id}: {step} was in flight at {deaths[step]} deaths, and begins again")
        if beside and any(deaths[each] for each in (step, *beside)):
            raise Violation(f"task {shadow.id}: {step} begins beside {beside}, and one was in flight at a death")
