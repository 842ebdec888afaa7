"""A store against the simplest thing that could be one: dictionaries and lists, no batches, no savepoints."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy import bindparam, select, update

from holdfast.errors import LeaseLost
from holdfast.store import open_store
from holdfast.store.base import Append, Appended, Conflict, Row, StepRow, Tx
from holdfast.store.schema import steps, tasks
from holdfast.testing.conformance.store import add_task

TASKS = 3
TAKE = update(tasks).where(tasks.c.id == bindparam("_task")).values(token=bindparam("token"))
STATE = select(tasks.c.seq, tasks.c.reason, tasks.c.token).where(tasks.c.id == bindparam("_task"))
STEPS = select(steps.c.ord, steps.c.state).where(steps.c.task == bindparam("_task")).order_by(steps.c.ord)


@dataclass
class Model:
    """One task."""

    token: str = "0"
    seq: int = 0
    reason: str | None = None
    journal: list[tuple[int, str]] = field(default_factory=list)
    steps: dict[int, str] = field(default_factory=dict)

    def store(self, words: list[str]) -> None:
        for word in words:
            self.seq += 1
            self.journal.append((self.seq, word))


@dataclass
class Wish:
    """One append, as a test draws it: `behind` is how many events its drive has not seen."""

    task: int
    stale: bool
    behind: int
    facts: list[str]
    decisions: list[str]
    reason: str | None
    fails: str  # "", "then" or "constraint"


WORDS = st.sampled_from(["succeeded", "started", "failed"])
WISHES = st.builds(
    Wish,
    st.integers(0, TASKS - 1),
    st.sampled_from([False, False, False, True]),
    st.sampled_from([0, 0, 0, 1, 2]),
    st.lists(WORDS, max_size=2),
    st.lists(WORDS, max_size=2),
    st.sampled_from([None, "a", "b"]),
    st.sampled_from(["", "", "", "then", "constraint"]),
)


class Broken(Exception):
    pass


def fail(tx: Tx) -> None:
    raise Broken


class StoreAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.real = open_store("sqlite:///:memory:")
        self.ids = [self.real.write(lambda tx: add_task(tx, token="0")) for _ in range(TASKS)]
        self.models = [Model() for _ in range(TASKS)]

    def teardown(self) -> None:
        self.real.close()

    @rule(wishes=st.lists(WISHES, max_size=5, unique_by=lambda wish: wish.task))
    def append(self, wishes: list[Wish]) -> None:
        batch = [self._append(wish) for wish in wishes]
        expected = [self._expect(wish) for wish in wishes]
        told = [
            (answer.seq, answer.accepted, [row.seq for row in answer.unseen]) if isinstance(answer, Appended)
            else type(answer)
            for answer in self.real.append(batch)
        ]  # fmt: skip
        assert told == expected

    def _append(self, wish: Wish) -> Append:
        model = self.models[wish.task]
        columns: dict[str, Any] = {"reason": wish.reason} if wish.reason else {}
        if wish.fails == "constraint":
            columns["state"] = "SUCCEEDED"
        step = StepRow(len(wish.facts), "a", "".join(wish.facts), 1, 1.0)
        return Append(
            self.ids[wish.task],
            "stale" if wish.stale else model.token,
            max(0, model.seq - wish.behind),
            [Row(word, None, None, 1.0) for word in wish.facts],
            [Row(word, None, None, 1.0) for word in wish.decisions],
            [step],
            [step, StepRow(9, "b", "".join(wish.decisions), 1, 1.0)],
            columns or None,
            [],
            then=fail if wish.fails == "then" else None,
        )

    def _expect(self, wish: Wish) -> Any:
        model = self.models[wish.task]
        if wish.stale:
            return LeaseLost
        seen = max(0, model.seq - wish.behind)
        if seen == model.seq:
            if wish.fails:
                return Conflict if wish.fails == "constraint" else Broken
            model.store(wish.facts + wish.decisions)
            model.reason = wish.reason or model.reason
            model.steps[len(wish.facts)] = "".join(wish.facts)
            model.steps[9] = "".join(wish.decisions)
            return model.seq, True, []
        unseen = [seq for seq, _ in model.journal if seq > seen]
        model.store(wish.facts)
        model.steps[len(wish.facts)] = "".join(wish.facts)
        return model.seq, False, unseen

    @rule(task=st.integers(0, TASKS - 1), words=st.lists(WORDS, min_size=1, max_size=2))
    def verb(self, task: int, words: list[str]) -> None:
        rows = [Row(word, None, None, 1.0) for word in words]
        seq = self.real.write(lambda tx: tx.record(self.ids[task], rows))
        self.models[task].store(words)
        assert seq == self.models[task].seq

    @rule(task=st.integers(0, TASKS - 1), undone=st.booleans())
    def take_over(self, task: int, undone: bool) -> None:
        token = str(int(self.models[task].token) + 1)

        def take(tx: Tx) -> None:
            tx.execute(TAKE, {"_task": self.ids[task], "token": token})
            if undone:
                raise Broken

        if undone:
            with pytest.raises(Broken):
                self.real.write(take)
        else:
            self.real.write(take)
            self.models[task].token = token

    @invariant()
    def they_agree(self) -> None:
        for number, model in zip(self.ids, self.models, strict=True):
            where = {"_task": number}
            row = self.real.read(lambda tx, where=where: tx.execute(STATE, where).one())  # type: ignore[misc]
            assert tuple(row) == (model.seq, model.reason, model.token)
            assert [(row.seq, row.kind) for row in self.real.journal(number)] == model.journal
            found = self.real.read(lambda tx, where=where: tx.execute(STEPS, where).all())  # type: ignore[misc]
            assert dict(map(tuple, found)) == model.steps


TestStoreAgainstModel = pytest.mark.requirement("G2")(StoreAgainstModel.TestCase)
TestStoreAgainstModel.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
