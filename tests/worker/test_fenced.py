"""What a worker writes of a task carries its token: of one that another has taken it changes nothing (P10, G2). That
the same words change something when they are the other's shows that each would have."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest
from sqlalchemy import select, update

import holdfast as hf
from holdfast.clock import Clock
from holdfast.errors import LeaseLost
from holdfast.settings import Settings
from holdfast.store.base import Append, Row, Tx
from holdfast.store.schema import leases, metadata, tasks
from holdfast.tasks import agents, children, overdue, row, take, tell
from holdfast.tasks.row import TaskRow
from holdfast.worker import desk, report, taken, telling
from holdfast.worker.load import rest_aside
from tests.core.scripted import step
from tests.tasks.desk import Before, Desk, take_as
from tests.worker.house import House
from tests.worker.scripted import Bench

KEY: Final = "task:make:0"


@hf.step
def noop() -> None:
    return None


SMALL = hf.linear("small", noop)
PARENT = hf.linear("parent", step("a"), hf.child("kid", SMALL), on_failure="suspend")


class Stage:
    """A task that a worker had and another has now, with a child, and a step that is offered to agents."""

    def __init__(self, house: House) -> None:
        self.store = house.open().store
        self.tasks = Desk(self.store)  # type: ignore[arg-type]
        self.task = self.tasks.submit()
        self.child = self.tasks.submit(parent=self.task, child_key=children.key_of(KEY, 1), pool="another")
        self.tasks.begin(self.child)
        self.stale = self._taken("first")
        self.tasks.begin(self.task)
        offer = agents.Offer("make", "execute", 7, "hv1", "{}", None)
        (self.lease,) = self.store.write(
            lambda tx: agents.offer(tx, self.task, self.stale.token or "", 0, (offer,), 1.0)
        )
        self.store.write(lambda tx: take.release(tx, self.task, self.stale.token or "", due_at=1.0, now=1.0))
        self.current = self._taken("second")
        self.store.write(lambda tx: agents.ring(tx, self.task, 1.0))

    def _taken(self, worker: str) -> TaskRow:
        now = self.tasks.tick()
        (found,) = self.store.write(
            lambda tx: take_as(tx, worker, generation="g", nonce=worker, now=now, limit=9, pool="default")
        )
        return found

    def desk(self, of: TaskRow) -> desk.Desk:
        return desk.Desk(
            self.store, of, flows=[SMALL], clock=Clock(), settings=Settings(), seal=None, unseal=None,
            poke=lambda: None,
        )  # fmt: skip

    def stored(self) -> str:
        """All that is in the database, but for the numbers of its commits."""
        tables = [table for table in metadata.sorted_tables if table.name != "writers"]
        return self.store.read(
            lambda tx: "\n".join(str(row) for table in tables for row in tx.execute(select(table)).all())
        )


NOW: Final = 5_000.0
Write = Callable[[Stage, TaskRow], object]


def in_one(fn: Callable[..., object]) -> Write:
    """`fn(tx, task, token)` in a transaction of its own."""
    return lambda stage, of: stage.store.write(lambda tx: fn(tx, of.id, of.token))


def append(stage: Stage, of: TaskRow) -> None:
    (answer,) = stage.store.append([Append(of.id, of.token or "", 0, (), [Row("began", None, None, NOW)])])
    if isinstance(answer, Exception):
        raise answer


def offer(tx: Any, task: int, token: str) -> None:
    agents.offer(tx, task, token, 0, (agents.Offer("use", "execute", 8, "hv1", "{}", None),), NOW)


def give_back(stage: Stage, of: TaskRow) -> None:
    had = SimpleNamespace(task=of, token=of.token, seen=0)
    stage.store.write(partial(taken._give_back, had, None, NOW))  # type: ignore[arg-type]


def report_progress(tx: Any, task: int, token: str) -> None:
    report.write(task, token, 1.0, [report.Said(0, "make", 0.5, "half", 0.5)], NOW, tx)


def tell_apart(stage: Stage, of: TaskRow) -> None:
    news = tell.news(of, tell.PROGRESS, {"percent": 50}, NOW)
    stage.store.write(partial(telling._tell_apart, of.id, of.token or "", [news]))


WRITES: Final[dict[str, Write]] = {
    "what steps have done": append,
    "that a task can't be driven": lambda stage, of: rest_aside(stage.store, of, "poison", RuntimeError("no"), NOW),
    "that a task is given back": in_one(lambda tx, task, token: take.release(tx, task, token, due_at=NOW, now=NOW)),
    "that a verb was heard": in_one(lambda tx, task, token: take.heard(tx, task, token, 99)),
    "progress": in_one(report_progress),
    "news": tell_apart,
    "a step for an agent": in_one(offer),
    "that an agent has done": lambda stage, of: stage.store.write(
        lambda tx: agents.done(tx, stage.lease, of.token or "", of.epoch, NOW)
    ),
    "that a task is given back to wait": give_back,
    "that an agent is to stop": lambda stage, of: stage.store.write(
        lambda tx: agents.stop(tx, of.id, of.token or "", stage.lease, "cancel", NOW, kill=False)
    ),
    "a child": lambda stage, of: stage.desk(of).make(lambda at: at.order(SMALL, {}), "task:other:0", 1),
    "that a child is undone": lambda stage, of: stage.desk(of).undo(KEY, None),
    **{
        f"that children {word}": lambda stage, of, word=word: stage.store.write(  # type: ignore[misc]
            lambda tx: desk.stop(tx, of, NOW, word)
        )
        for word in ("cancel", "abort", "suspend")
    },
}


@pytest.fixture
def stage(house: House) -> Stage:
    return Stage(house)


@pytest.mark.requirement("P10", "G2")
@pytest.mark.parametrize("what", WRITES)
def test_who_has_lost_a_task_writes_nothing_of_it(stage: Stage, what: str) -> None:
    before = stage.stored()
    with suppress(LeaseLost):
        WRITES[what](stage, stage.stale)
    assert stage.stored() == before
    WRITES[what](stage, stage.current)
    assert stage.stored() != before


@pytest.mark.requirement("P10", "G2")
def test_who_has_given_a_task_back_may_still_say_that_its_agent_has_done(stage: Stage) -> None:
    at = stage.current

    def done(fence: int) -> list[agents.Lease]:
        stage.store.write(lambda tx: agents.done(tx, stage.lease, at.token or "", fence, NOW))
        return stage.store.read(lambda tx: agents.of_task(tx, at.id))

    stage.store.write(lambda tx: take.release(tx, at.id, at.token or "", due_at=None, now=NOW))
    assert [each.id for each in done(at.epoch - 1)] == [stage.lease]
    assert done(at.epoch) == []


@pytest.mark.requirement("TF-14", "P10")
def test_an_agent_that_is_heard_of_in_time_keeps_its_lease_and_the_task_its_number(stage: Stage) -> None:
    at, store = stage.current, stage.store
    who: dict[str, Any] = {"holder": "u", "agent": "u, req-1", "generation": "g", "nonce": "n", "lease_s": 9.0}
    store.write(lambda tx: agents.take(tx, "hv1", 1, now=NOW, **who))

    def heard(tx: Tx) -> Any:
        """It is heard of once the sweep has found it, before it is buried."""
        return Before(tx, overdue._END, lambda values: tx.execute(update(leases).values(expires_at=1e9)))

    assert not store.write(lambda tx: overdue.end(heard(tx), at.id, 1e8))
    assert store.read(lambda tx: row.read(tx, at.id)).epoch == at.epoch
    assert store.write(lambda tx: overdue.end(tx, at.id, 1e10))
    assert store.read(lambda tx: row.read(tx, at.id)).epoch == at.epoch + 1


@pytest.mark.requirement("P10", "G2", "NEUTRON-5")
def test_who_finds_so_as_it_tells_the_children_lets_the_task_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, PARENT)
    task = bench.submit()
    bench.settle()
    child = Desk(bench.hold.store).submit(parent=task._id, pool="another")  # type: ignore[arg-type]
    taken_by_another = update(tasks).where(tasks.c.id == task._id).values(token="g.9.n", epoch=9, worker_id="another")
    bench.hold.store.write(lambda tx: tx.execute(taken_by_another))
    before = task.trace
    told: list[str] = []

    def stop(tx: Tx, of: TaskRow, now: float, word: str) -> None:
        told.append(word)
        desk.stop(tx, of, now, word)

    monkeypatch.setattr(taken, "stop", stop)
    bench.end("a", "raised", RuntimeError("no"))
    assert told == ["suspend"]
    assert bench.worker.taken == {}
    assert (task.state, task.trace) == ("RUNNING", before)
    assert bench.hold.store.read(lambda tx: row.read(tx, child)).state == "PENDING"
