"""Who takes what, who is rung for, and what becomes of a dead worker's tasks."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.errors import LeaseLost
from holdfast.store.base import Append, Row, Tx
from holdfast.store.sqlite import SqliteStore
from holdfast.tasks import agents, control, lease, rest, retention, submit, take
from holdfast.tasks.lease import WorkerRow
from holdfast.tasks.row import TaskRow
from tests.tasks.desk import Before, Desk, take_as


@pytest.fixture
def desk(store: SqliteStore) -> Desk:
    return Desk(store)


def taken(desk: Desk, worker: str = "w", limit: int = 100, pool: str = "default") -> list[TaskRow]:
    now = desk.tick()
    return desk.store.write(lambda tx: take_as(tx, worker, generation="g", nonce="n", now=now, limit=limit, pool=pool))


def register(desk: Desk, worker: str = "w") -> None:
    entry = WorkerRow(worker, "host", "boot", 1, None, "default", desk.now, desk.now, 10.0)
    desk.store.write(lambda tx: lease.register(tx, entry))


def test_the_most_urgent_then_the_oldest(desk: Desk) -> None:
    low, urgent, old = desk.submit(priority=-1), desk.submit(priority=5), desk.submit()
    later, elsewhere, blocked = desk.submit(start_after=9e9), desk.submit(pool="hv"), desk.submit("r")
    behind = desk.submit("r")
    assert [at.id for at in taken(desk, limit=2)] == [urgent, old]
    assert [at.id for at in taken(desk)] == [blocked, low]
    assert [at.id for at in taken(desk, pool="hv")] == [elsewhere]
    assert taken(desk) == []
    assert (desk.row(later).worker_id, desk.row(behind).worker_id) == (None, None)


def test_each_taking_has_a_token_of_its_own(desk: Desk) -> None:
    task = desk.submit()
    (first,) = taken(desk)
    assert (first.token, first.epoch, first.worker_id, first.due_at) == ("g.1.n", 1, "w", None)
    assert desk.store.write(lambda tx: take.release(tx, task, "g.1.n", due_at=2.0, now=2.0))
    (second,) = taken(desk, "v")
    assert (second.token, second.epoch, second.worker_id) == ("g.2.n", 2, "v")
    assert not desk.store.write(lambda tx: take.release(tx, task, "g.1.n", due_at=2.0, now=2.0))


def test_a_task_that_starts_later_is_taken_then_and_once(desk: Desk) -> None:
    task, free = desk.submit("r", start_after=5000.0), desk.submit(start_after=4000.0)
    assert taken(desk) == []
    assert desk.store.read(lambda tx: take.next_due(tx, desk.now, pool="default")) == 4000.0
    desk.now = 4998.0
    assert [at.id for at in taken(desk)] == [free]
    assert desk.store.read(lambda tx: take.peek(tx, now=5000.0, pool="default")) == (True, False)
    assert [at.id for at in taken(desk, "a") + taken(desk, "b") + taken(desk, "c")] == [task]


def start_at_once(desk: Desk, patch: pytest.MonkeyPatch, resources: str) -> None:
    """A task for each letter; two may enter their queues in one taking."""
    patch.setattr(submit, "DRAWN_MAX", 2)
    for resource in resources:
        desk.submit(resource, start_after=5000.0)
    register(desk)
    desk.now = 6000.0


def test_a_taking_says_that_more_start_than_it_let_into_their_queues(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_at_once(desk, monkeypatch, "abc")
    found = [
        desk.store.write(
            lambda tx: take.take(tx, "w", generation="g", nonce="n", now=desk.now, limit=9, pool="default")
        )
        for _ in range(2)
    ]
    assert [(len(each.tasks), each.start_more) for each in found] == [(2, True), (1, False)]


def test_who_finds_that_others_were_faster_with_all_that_start_does_not_look_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_at_once(desk, monkeypatch, "ab")

    def late(tx: Tx) -> Any:
        """Others draw what was read just now."""
        return Before(tx, submit._DRAWN, lambda values: tx.execute(submit._DRAWN, values))

    found = desk.store.write(
        lambda tx: take.take(late(tx), "w", generation="g", nonce="n", now=desk.now, limit=9, pool="default")
    )
    assert not found.start_more


def test_a_verb_rings_for_the_worker_that_has_the_task(desk: Desk) -> None:
    task, other = desk.submit(), desk.submit()
    (row, _) = taken(desk)
    desk.begin(task)
    assert desk.store.read(lambda tx: take.called(tx, "w")) == []
    desk.store.write(lambda tx: control.suspend(tx, task, 5.0, actor="me"))
    assert desk.store.read(lambda tx: take.called(tx, "w")) == [(task, 1)]
    desk.store.write(lambda tx: take.heard(tx, task, row.token or "", 0))
    assert desk.store.read(lambda tx: take.called(tx, "w")) == [(task, 1)]
    desk.store.write(lambda tx: take.heard(tx, task, row.token or "", 1))
    assert desk.store.read(lambda tx: take.called(tx, "w")) == []
    assert desk.row(other).worker_id == "w"


def test_a_task_given_back_is_due_at_once_if_somebody_called_meanwhile(desk: Desk) -> None:
    task = desk.submit()
    (at,) = taken(desk)
    desk.begin(task)
    desk.store.write(lambda tx: control.cancel(tx, task, 5.0, actor="me"))
    desk.store.write(lambda tx: take.release(tx, task, at.token or "", due_at=None, now=7.0, seen=0))
    assert desk.row(task).due_at == 7.0
    assert [row.id for row in taken(desk, "v")] == [task]


def test_a_bell_that_the_worker_has_not_heard_outlasts_its_taking(desk: Desk) -> None:
    task = desk.submit()
    (at,) = taken(desk)
    desk.begin(task)
    desk.store.write(lambda tx: agents.ring(tx, task, 5.0))
    changes = desk.store.changes()
    desk.store.write(lambda tx: take.release(tx, task, at.token or "", due_at=None, now=7.0, seen=9))
    assert desk.row(task).due_at == 7.0
    assert desk.store.changes() != changes
    (at,) = taken(desk, "v")
    desk.store.write(lambda tx: take.release(tx, task, at.token or "", due_at=None, now=8.0, seen=9))
    assert desk.row(task).due_at is None


def test_when_the_next_is_due(desk: Desk) -> None:
    assert desk.store.read(lambda tx: take.next_due(tx, 0.0, pool="default")) is None
    task = desk.submit()
    (at,) = taken(desk)
    desk.store.write(lambda tx: take.release(tx, task, at.token or "", due_at=7000.0, now=desk.now))
    assert desk.store.read(lambda tx: take.next_due(tx, desk.now, pool="default")) == 7000.0
    assert taken(desk) == []
    assert desk.store.read(lambda tx: take.next_due(tx, 7000.0, pool="default")) is None


def test_a_heartbeat_says_which_tasks_are_gone(desk: Desk) -> None:
    register(desk)
    one, two = desk.submit(), desk.submit()
    taken(desk)
    desk.end(two, "FAILED")
    assert desk.store.write(lambda tx: lease.heartbeat(tx, "w", 1500.0, held=[one, two])) == [two]
    assert desk.store.read(lease.alive)[0].heartbeat_at == 1500.0


@pytest.mark.requirement("NOVA-14")
def test_a_dead_workers_tasks_are_anybodys_and_it_writes_no_more(desk: Desk) -> None:
    register(desk)
    task = desk.submit()
    (mine,) = taken(desk)
    desk.now += 20.0
    (dead,) = desk.store.read(lambda tx: lease.expired(tx, desk.now))
    assert desk.store.write(lambda tx: lease.mark_dead(tx, "w", desk.now, seen=dead.heartbeat_at)) == [task]
    assert desk.store.write(lambda tx: lease.mark_dead(tx, "w", desk.now)) == []
    with pytest.raises(LeaseLost):
        desk.store.write(lambda tx: lease.heartbeat(tx, "w", desk.now, held=[task]))
    (theirs,) = taken(desk, "v")
    assert (theirs.id, theirs.epoch) == (task, mine.epoch + 2)
    late = Append(task, mine.token or "", 0, (), [Row("began", None, None, 1.0)])
    assert isinstance(desk.store.append([late])[0], LeaseLost)


@pytest.mark.requirement("NOVA-14", "NOVA-17")
def test_what_was_begun_is_gone_on_with_before_what_is_new_whatever_clock_found_the_worker_dead(desk: Desk) -> None:
    register(desk)
    begun = [desk.submit() for _ in range(2)]
    assert len(taken(desk)) == 2
    new = [desk.submit() for _ in range(2)]
    ahead = desk.now + 5.0  # the database's clock, as who sweeps has read it just now
    assert desk.store.write(lambda tx: lease.mark_dead(tx, "w", ahead)) == begun
    (first,) = taken(desk, "v", limit=1)
    rest = taken(desk, "v")
    assert [first.id, *(each.id for each in rest)] == [begun[0], begun[1], *new]


def test_who_speaks_in_time_is_not_dead(desk: Desk) -> None:
    register(desk)
    task = desk.submit()
    taken(desk)
    seen = desk.now - 5
    desk.store.write(lambda tx: lease.heartbeat(tx, "w", desk.now, held=[task]))
    assert desk.store.write(lambda tx: lease.mark_dead(tx, "w", desk.now, seen=seen)) == []
    assert desk.row(task).worker_id == "w"
    assert desk.store.read(lambda tx: lease.expired(tx, desk.now + 9.0)) == []


def test_rows_of_the_dead_are_forgotten(desk: Desk) -> None:
    register(desk, "w")
    register(desk, "v")
    desk.store.write(lambda tx: lease.mark_dead(tx, "w", desk.now))
    assert desk.store.write(lambda tx: lease.forget(tx, before=desk.now + 1)) == 1
    assert [worker.id for worker in desk.store.read(lease.alive)] == ["v"]


def test_a_task_that_comes_to_rest_is_given_back_with_what_it_was_told_to_release(desk: Desk) -> None:
    task, waiter = desk.submit("r"), desk.submit("r")
    (at,) = taken(desk)
    desk.begin(task)
    desk.store.write(lambda tx: control.suspend(tx, task, 5.0, actor="me", release_claims=True))
    assert desk.row(task).state == "SUSPENDING"
    append = Append(
        task,
        at.token or "",
        1,
        (),
        [Row("rested", None, None, 6.0)],
        projection={"state": "SUSPENDED", "hold": "forward", "reason": "asked"},
        then=lambda tx: rest.rested(tx, task, at.token or "", 6.0),
    )
    assert desk.store.append([append])[0].accepted  # type: ignore[union-attr]
    after = desk.row(task)
    assert (after.worker_id, after.token, after.ready, after.due_at) == (None, None, False, None)
    assert desk.ready(waiter) == [True]


def test_a_long_journal_is_purged_in_bounded_steps(desk: Desk) -> None:
    task = desk.submit(tag="t")
    for _ in range(25):
        desk.store.write(lambda tx: tx.record(task, [Row("delivered", None, None, 1.0)] * 4))
    desk.end(task)
    late = desk.now + 9e6
    assert desk.store.write(lambda tx: retention.purge(tx, desk.now, rows_max=40)) == (0, 0, False)
    rounds = [desk.store.write(lambda tx: retention.purge(tx, late, rows_max=40)) for _ in range(3)]
    assert [each.rows for each in rounds[:2]] == [40, 40]
    assert [(each.tasks, each.more) for each in rounds] == [(0, True), (0, True), (1, False)]
    assert desk.store.journal(task) == []


def test_a_worker_that_was_taken_for_dead_takes_nothing(desk: Desk) -> None:
    """Simulator, seed 1114: the tasks of a dead worker are set free once, when it is found dead."""
    task = desk.submit()
    desk.store.write(lambda tx: take_as(tx, "w", generation="g", nonce="n", now=0.0, limit=1, pool="default"))
    desk.store.write(lambda tx: lease.mark_dead(tx, "w", desk.now))
    with pytest.raises(LeaseLost):
        desk.store.write(lambda tx: take_as(tx, "w", generation="g", nonce="n", now=desk.now, limit=1, pool="default"))
    assert desk.row(task).worker_id is None
