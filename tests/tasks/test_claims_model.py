"""Claims against a model: whatever is admitted, ended, suspended and resumed, the same tasks hold.

The model looks at everything after every move; the store looks only at the queues that changed. If they agree, no
wake is lost, nobody is overtaken, and nobody holds beside who conflicts. At the end whoever holds ends, again and
again: if anybody is left, there was a deadlock.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from holdfast.store.sqlite import SqliteStore
from holdfast.tasks import claims, control
from tests.tasks.desk import Desk

Claims = tuple[tuple[str, str], ...]
_claims = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(("exclusive", "shared")), max_size=3)


class Known(NamedTuple):
    """A task of the model. `place`: its place in every queue it is in."""

    claims: Claims
    yielding: bool
    place: int
    begun: bool = False
    suspended: bool = False
    granted: bool = False


def conflict(one: Claims, other: Claims) -> bool:
    return any(a == b and "exclusive" in (how, too) for a, how in one for b, too in other)


class ClaimsModel(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.store = SqliteStore(":memory:")
        self.desk = Desk(self.store)
        self.tasks: dict[int, Known] = {}
        self.places = 0

    def teardown(self) -> None:
        if not hasattr(self, "store"):
            return
        for task in [task for task, known in self.tasks.items() if known.suspended]:
            self.resume(task)
        while self.tasks:
            holding = [task for task, known in self.tasks.items() if known.granted]
            assert holding, f"nobody can go on: {self.tasks}"
            self.end(holding[0])
            self.agree()
        self.store.close()

    # --- moves ---------------------------------------------------------------------------------------------------

    @rule(wanted=_claims, yielding=st.booleans() | st.just(False))
    def submit(self, wanted: dict[str, str], yielding: bool) -> None:
        task = self.desk.submit(*wanted.items(), yielding=yielding)
        self.tasks[task] = Known(tuple(sorted(wanted.items())), yielding, self._place())
        self._settle()

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def some_end(self, data: st.DataObject) -> None:
        self.end(data.draw(st.sampled_from(sorted(self.tasks))))

    @precondition(lambda self: any(not known.suspended for known in self.tasks.values()))
    @rule(data=st.data(), release=st.booleans())
    def some_suspend(self, data: st.DataObject, release: bool) -> None:
        moving = [task for task, known in self.tasks.items() if not known.suspended]
        self.suspend(data.draw(st.sampled_from(moving)), release)

    @precondition(lambda self: any(known.suspended for known in self.tasks.values()))
    @rule(data=st.data())
    def some_resume(self, data: st.DataObject) -> None:
        self.resume(data.draw(st.sampled_from([task for task, known in self.tasks.items() if known.suspended])))

    @precondition(lambda self: any(known.granted and not known.begun for known in self.tasks.values()))
    @rule(data=st.data())
    def some_begin(self, data: st.DataObject) -> None:
        fresh = [task for task, known in self.tasks.items() if known.granted and not known.begun]
        task = data.draw(st.sampled_from(fresh))
        if not self.tasks[task].suspended:
            self.desk.set(task, state="WAITING", executed_at=1.0)
            self.tasks[task] = self.tasks[task]._replace(begun=True)

    # --- what a move means ----------------------------------------------------------------------------------------

    def end(self, task: int) -> None:
        self.desk.end(task, "CANCELLED")
        del self.tasks[task]
        self._settle()

    def suspend(self, task: int, release: bool) -> None:
        known = self.tasks[task]
        now = self.desk.tick()
        self.store.write(lambda tx: control.suspend(tx, task, now, actor="me", release_claims=release))
        known = known._replace(suspended=True)
        if release and known.claims:
            known = known._replace(place=-1)
        if known.claims and (release or not known.begun or not known.granted):
            known = known._replace(granted=False)
        self.tasks[task] = known
        self._settle()

    def resume(self, task: int) -> None:
        known = self.tasks[task]
        now = self.desk.tick()
        self.store.write(lambda tx: control.resume(tx, task, now, actor="me"))
        if known.begun:
            self.desk.set(task, state="WAITING")
        place = self._place() if known.place < 0 else known.place
        self.tasks[task] = known._replace(suspended=False, place=place)
        self._settle()

    def _place(self) -> int:
        self.places += 1
        return self.places

    def _settle(self) -> None:
        """Grant, in the order of the queues, whoever nothing stands before."""
        order = sorted(self.tasks, key=lambda task: (self.tasks[task].yielding, self.tasks[task].place))
        for index, task in enumerate(order):
            known = self.tasks[task]
            if known.granted or known.suspended:
                continue
            before = [self.tasks[other] for other in order[:index]]
            waiting = [other.claims for other in before if not other.suspended and not other.granted]
            holding = [other.claims for other in self.tasks.values() if other.granted]
            if not any(conflict(known.claims, other) for other in waiting + holding):
                self.tasks[task] = known._replace(granted=True)

    # --- what must hold -------------------------------------------------------------------------------------------

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "store"):
            return
        held = {task for holders in self.desk.granted().values() for task, _ in holders}
        assert held == {task for task, known in self.tasks.items() if known.granted and known.claims}
        for task, known in self.tasks.items():
            if not known.suspended:
                assert self.desk.row(task).ready == known.granted, (task, known)

    @invariant()
    def nobody_holds_beside_who_conflicts(self) -> None:
        if not hasattr(self, "store"):
            return
        for holders in self.desk.granted().values():
            assert len(holders) == 1 or {mode for _, mode in holders} == {"shared"}

    @invariant()
    def the_sweep_finds_nothing(self) -> None:
        if hasattr(self, "store"):
            assert self.store.write(lambda tx: claims.sweep(tx, 1.0)) == (0, None)


TestClaims = pytest.mark.requirement("G5", "NEUTRON-8", "NEUTRON-9")(ClaimsModel.TestCase)
TestClaims.settings = settings(max_examples=60, stateful_step_count=30)
