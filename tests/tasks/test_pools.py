"""Pools: their limits hold over all their workers; paused and drained; what their workers counted."""

from __future__ import annotations

import threading

import pytest

from holdfast.errors import NotFound, QuotaExceeded, UsageError
from holdfast.store.base import Tx
from holdfast.store.sqlite import SqliteStore
from holdfast.tasks import figures, lease, pools, take
from holdfast.tasks.lease import WorkerRow
from holdfast.tasks.quota import Limits
from holdfast.tasks.row import TaskRow
from holdfast.tasks.submit import Request, submit
from tests.tasks.desk import Desk, take_as


@pytest.fixture
def desk(store: SqliteStore) -> Desk:
    return Desk(store)


def taken(desk: Desk, worker: str = "w", pool: str = "hv", limit: int = 100, **how: object) -> list[TaskRow]:
    now = desk.tick()
    return desk.store.write(
        lambda tx: take_as(tx, worker, generation="g", nonce="n", now=now, limit=limit, pool=pool, **how)
    )


def put(desk: Desk, name: str = "hv", **values: object) -> pools.Pool:
    return desk.store.write(lambda tx: pools.change(tx, name, values))


def use(desk: Desk, name: str = "hv") -> pools.Usage:
    return desk.store.read(lambda tx: pools.usage(tx, pools.find(tx, name), desk.now))


def test_no_more_are_taken_than_the_limit_whoever_takes(desk: Desk) -> None:
    put(desk, running_max=3)
    for _ in range(8):
        desk.submit(pool="hv")
    elsewhere = desk.submit()
    first = taken(desk, "a", limit=2)
    assert len(first) == 2
    assert len(taken(desk, "b")) == 1
    assert taken(desk, "c") == []
    assert [at.id for at in taken(desk, "c", pool="default")] == [elsewhere]
    assert desk.store.read(lambda tx: take.peek(tx, now=desk.now, pool="hv")) == (False, True)
    desk.end(first[0].id)
    desk.store.write(lambda tx: take.release(tx, first[1].id, first[1].token or "", due_at=None, now=desk.now))
    assert len(taken(desk, "c")) == 2
    assert use(desk)[1:4] == (3, 7, 3), "taken, not begun, due"


def test_a_dead_workers_tasks_count_until_it_is_known_that_it_is_dead(desk: Desk) -> None:
    put(desk, running_max=1)
    one, two = desk.submit(pool="hv"), desk.submit(pool="hv")
    assert [at.id for at in taken(desk, "a")] == [one]
    assert taken(desk, "b") == []
    desk.store.write(lambda tx: lease.mark_dead(tx, "a", desk.now))
    assert [at.id for at in taken(desk, "b")] == [one], "which was begun"
    desk.end(one)
    assert [at.id for at in taken(desk, "b")] == [two]


def test_a_lower_limit_takes_nothing_away(desk: Desk) -> None:
    for _ in range(6):
        desk.submit(pool="hv")
    mine = taken(desk, limit=4)
    put(desk, running_max=2)
    assert taken(desk) == []
    for at in mine[:3]:
        desk.end(at.id)
    assert len(taken(desk)) == 1
    put(desk, running_max=None)
    assert len(taken(desk)) == 1


def test_it_holds_for_who_works_for_one_task(desk: Desk) -> None:
    put(desk, running_max=1)
    one, two = desk.submit(pool="hv"), desk.submit(pool="hv")
    free = desk.submit()
    assert [at.id for at in taken(desk, only=(two,))] == [two]
    assert [at.id for at in taken(desk, "v", only=(one, free))] == [free]
    assert desk.store.read(lambda tx: take.peek(tx, now=desk.now, pool="hv", only=(one,))) == (False, True)
    desk.end(two)
    assert [at.id for at in taken(desk, "v", only=(one,))] == [one]


def test_of_a_paused_pool_nothing_is_taken(desk: Desk) -> None:
    task = desk.submit(pool="hv")
    put(desk, paused_at=desk.now)
    assert taken(desk) == []
    assert desk.store.read(lambda tx: take.peek(tx, now=desk.now, pool="hv")) == (False, False)
    other = desk.submit(pool="hv")
    assert [at.id for at in taken(desk, only=(other,))] == [other], "who asks for one task has it done"
    put(desk, paused_at=None)
    assert [at.id for at in taken(desk)] == [task]


def test_workers_of_a_drained_pool_hear_of_it(desk: Desk) -> None:
    desk.store.write(lambda tx: lease.register(tx, WorkerRow("w", "h", "b", 1, None, "hv", 0.0, 0.0, 9.0)))
    assert not desk.store.read(lambda tx: lease.is_draining(tx, "w"))
    put(desk, draining_at=5.0)
    assert desk.store.read(lambda tx: lease.is_draining(tx, "w"))
    put(desk, draining_at=None)
    assert not desk.store.read(lambda tx: lease.is_draining(tx, "w"))


def test_as_many_wait_as_may(desk: Desk) -> None:
    put(desk, queued_max=3)
    limits = Limits()
    mine = [desk.submit(pool="hv", limits=limits) for _ in range(3)]
    with pytest.raises(QuotaExceeded, match="3 tasks of the pool hv wait") as caught:
        desk.submit(pool="hv", limits=limits)
    assert caught.value.status == 429
    assert caught.value.details == {"quota": "pool_queued", "limit": 3, "pool": "hv", "retry_after_s": 5}
    with pytest.raises(QuotaExceeded):
        desk.submit(pool="hv", tag="t")
    elsewhere = desk.submit()
    child = desk.submit(pool="hv", parent=elsewhere)
    assert desk.row(child).pool == "hv", "what has begun is not held up"
    desk.end(child)
    desk.begin(mine[0])
    desk.submit(pool="hv", tag="t", limits=limits)
    assert use(desk).queued == 3


def test_a_limit_that_is_set_beside_admissions_holds_for_those_behind_it(desk: Desk) -> None:
    def admit(tx: Tx) -> int:
        desk.number += 1
        asked = Request("build", "flows:build", pool="hv")
        return submit(tx, asked, desk.tick(), f"00000000-0000-7000-8000-{desk.number:012}").task.id

    def limit(tx: Tx) -> int | None:
        return pools.change(tx, "hv", {"queued_max": 2}).queued_max

    first, queued_max, second, refused = desk.store.write_all([admit, limit, admit, admit])
    assert [type(first), queued_max, type(second)] == [int, 2, int]
    assert isinstance(refused, QuotaExceeded)
    with pytest.raises(QuotaExceeded):
        desk.store.write(admit)
    put(desk, queued_max=3)
    assert type(desk.store.write(admit)) is int
    assert use(desk).queued == 3


def test_limits_and_names(desk: Desk) -> None:
    assert put(desk, running_max=4, queued_max=9) == ("hv", 4, 9, None, None, None)
    assert put(desk, queued_max=None).running_max == 4
    for limit, number in (("running_max", 0), ("queued_max", 10_000_000)):
        with pytest.raises(UsageError, match="has to be 1 to"):
            put(desk, **{limit: number})  # type: ignore[arg-type]
    for name in ("", "a/b", "a b", "x" * 256, "\n"):
        with pytest.raises(UsageError, match="a pool has a name"):
            put(desk, name, running_max=1)
    with pytest.raises(NotFound, match="there is no pool hvv"):
        put(desk, "hvv", paused_at=1.0)
    desk.submit(pool="cell")
    assert [each.name for each in desk.store.read(pools.each)] == ["cell", "hv"]


def test_many_takers_at_once(desk: Desk) -> None:
    """Eight threads, and at no commit more than the limit."""
    put(desk, running_max=5)
    for _ in range(60):
        desk.submit(pool="hv")
    most, done = 0, 0
    mutex = threading.Lock()

    def work(name: str) -> None:
        nonlocal most, done
        while done < 60:
            mine = taken(desk, name, limit=3)
            with mutex:
                most = max(most, use(desk).running)
                done += len(mine)
            for at in mine:
                desk.end(at.id)

    threads = [threading.Thread(target=work, args=(f"w{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == 60
    assert 1 < most <= 5


def test_what_workers_counted_is_kept_when_they_are_forgotten(desk: Desk) -> None:
    counted = figures.Figures()
    counted.lease_losses = 2
    counted.waits.note(0.2)
    counted.batches.note(7)
    for name in ("w", "v"):
        row = WorkerRow(name, "h", "b", 1, None, "hv", 0.0, 0.0, 9.0)
        desk.store.write(lambda tx, row=row: lease.register(tx, row))  # type: ignore[misc]
        desk.store.write(
            lambda tx, name=name: lease.heartbeat(tx, name, 1.0, held=(), figures=counted.to_text())  # type: ignore[misc]
        )
        desk.store.write(lambda tx, name=name: lease.heartbeat(tx, name, 2.0, held=()))  # type: ignore[misc]
        desk.store.write(lambda tx, name=name: lease.mark_dead(tx, name, 3.0))  # type: ignore[misc]
        assert desk.store.write(lambda tx: lease.forget(tx, before=9.0)) == 1
    kept = figures.summed([desk.store.read(lambda tx: pools.find(tx, "hv")).figures])
    assert (kept.lease_losses, sum(kept.waits.counts), kept.batches.total) == (4, 2, 14.0)
    assert kept.waits.counts[kept.waits.bounds.index(0.25)] == 2
