"""A database out of reach: a worker stops its own steps before its lease is over, and goes on when it can."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest

import holdfast as hf
from holdfast.errors import StoreAway
from holdfast.runtime.base import Call
from holdfast.runtime.drive import Drive
from holdfast.tasks import lease as leases
from peers.postgres import Postgres
from tests.core.scripted import step
from tests.postgresql import only_sqlite
from tests.worker import flows, pool_flows
from tests.worker.house import House, is_there, until
from tests.worker.scripted import Bench


@pytest.mark.requirement("G2", "G1", "P10")
@pytest.mark.parametrize(("meanwhile", "waits_s"), [("nobody", 0.1), ("another", 0.1), ("nobody", 30.0)])
@only_sqlite
def test_steps_are_stopped_before_the_lease_is_over_and_the_task_goes_on(
    house: House, meanwhile: str, waits_s: float
) -> None:
    """Also where a heartbeat waits for its answer for longer than the lease."""
    task = house.open().submit(flows.stopping, {"at": house.at})
    worker = house.worker(lease_s=2.0, busy_timeout_s=waits_s, poll_s=0.02)
    house.until_said("naps")
    with closing(sqlite3.connect(house.directory / "tasks.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # nobody can write, so no heartbeat either
        house.until_said("stopped: lease_lost")
        lease = other.execute("SELECT heartbeat_at + lease_s FROM workers WHERE dead = 0").fetchone()[0]
        stopped_at = (house.directory / "witness").stat().st_mtime
        assert stopped_at < lease, "somebody else could have begun it already"
        assert task.state == "RUNNING"
        other.execute("ROLLBACK")
    if meanwhile == "another":
        house.worker(lease_s=2.0)
    house.turn("go")
    assert task.wait(60).state == "SUCCEEDED"
    assert house.said()[:3] == ["first", "naps", "stopped: lease_lost"]
    assert house.said()[-1] == "last"
    assert house.said().count("last") == house.said().count("first") == 1
    assert worker.leave() == 0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Postgres]:
    with Postgres(tmp_path / "pg") as running:
        yield running


@pytest.mark.requirement("G2", "G1", "P10")
@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_steps_are_stopped_before_the_lease_is_over_where_postgresql_is_frozen(
    server: Postgres, house: House, isolation: str
) -> None:
    house.url = server.make("tasks")
    flow, says = (flows.stopping, "naps") if isolation == "thread" else (pool_flows.beating, "beat")
    task = house.open().submit(flow, {"at": house.at})
    worker = house.worker(lease_s=2.0)
    pid = house.until_said(says).pid
    (over_at,) = server.execute("SELECT heartbeat_at + lease_s FROM workers WHERE NOT dead", "tasks")[0]
    server.pause()
    try:
        if isolation == "thread":
            house.until_said("stopped: lease_lost")
        else:
            until(lambda: not is_there(pid), lambda: "the end of its process")
        assert (house.directory / "witness").stat().st_mtime < over_at, "somebody else could have begun it already"
    finally:
        server.resume()
    house.turn("go")
    assert task.wait(60).state == "SUCCEEDED"
    assert house.said()[-1] == ("last" if isolation == "thread" else "beat")
    assert worker.leave() == 0


@pytest.mark.requirement("G1", "G10")
@only_sqlite
def test_a_database_that_is_locked_for_a_while_costs_nothing_but_time(house: House) -> None:
    hold = house.open()
    tasks = [hold.submit(flows.short, {"at": house.at}) for _ in range(20)]
    worker = house.worker(lease_s=600, busy_timeout_s=0.05)
    house.until_said("first")
    with closing(sqlite3.connect(house.directory / "tasks.db", isolation_level=None)) as other:
        for _ in range(3):
            other.execute("BEGIN IMMEDIATE")
            seen = hold.store.changes()
            hold.store.wait(seen, 0.3)
            other.execute("ROLLBACK")
            hold.store.wait(seen, 0.1)
    until(lambda: all(task.state == "SUCCEEDED" for task in tasks))
    assert house.said().count("first") == house.said().count("last") == 20
    assert worker.leave() == 0


def test_whose_lease_is_over_takes_nothing_before_it_is_renewed(tmp_path: Path) -> None:
    """The database was away for longer than the lease: a process of a step that is begun now would end at once."""
    bench = Bench(tmp_path, hf.linear("one", step("only")))
    bench.worker.lease.threaded = True  # its heart's thread has not been told yet that the database is back
    until: list[float] = []
    bench.worker.lease.extends = until.append
    bench.submit()
    bench.settle()
    bench.end("only")
    bench.worker.lease._beat_at -= bench.hold.settings.lease_s * 2
    bench.submit()
    bench.settle()
    assert bench.running() == ["only"]
    assert len(until) == 2


@pytest.mark.requirement("G2", "P10")
@pytest.mark.parametrize("meanwhile", ["nobody", "another"])
def test_an_answer_that_came_after_the_lease_was_over_begins_no_step(tmp_path: Path, meanwhile: str) -> None:
    """The commit was in time, its answer was not: a cable was down, say. A heartbeat doesn't get through either."""
    bench = Bench(tmp_path, hf.linear("two", step("one"), step("two")))
    task = bench.submit()
    bench.settle()
    store, lease = bench.hold.store, bench.worker.lease
    append, write, start = store.append, store.write, bench.runtime.start
    began: list[tuple[str, int]] = []

    def cut_off(fn: Any) -> Any:
        store.write = write  # type: ignore[method-assign]
        raise StoreAway("no answer")

    def late(batch: Any, _: Any) -> Any:
        answers = append(batch)
        store.append = append  # type: ignore[method-assign]
        lease._beat_at -= bench.hold.settings.lease_s * 2
        if meanwhile == "another":
            write(lambda tx: leases.mark_dead(tx, lease.id, bench.clock.time()))
        else:
            store.write = cut_off  # type: ignore[method-assign,assignment]
        return answers

    def noted(call: Call) -> None:
        began.append((call.step_id, cast(Drive, call.host).fence))
        start(call)

    bench.runtime.end(bench.call("one"), "returned", 1)
    store.append, bench.runtime.start = late, noted  # type: ignore[method-assign,assignment]
    bench.worker.turn(bench.clock.time())
    assert began == []
    bench.settle()
    assert began == [("two/two", 1 if meanwhile == "nobody" else 3)]
    assert bench.words(task).count("withdrawn") == (meanwhile == "nobody")
