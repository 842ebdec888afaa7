"""Take-over: at once when nobody holds the dead worker's lock, by the lease when the lock says nothing; and whoever
was taken for dead writes nothing more. Leases of an hour show that nobody waited for one."""

from __future__ import annotations

import os

import pytest

from holdfast.cli.main import main
from holdfast.clock import Clock
from holdfast.settings import Settings
from holdfast.tasks import lease as rows
from holdfast.tasks import row
from holdfast.worker.lease import SWEEP_S, Lease
from tests.postgresql import only_sqlite
from tests.worker import flows
from tests.worker.house import House, running, until

HOUR_S = 3600.0


@pytest.mark.requirement("NOVA-14")
def test_the_lock_of_a_dead_worker_is_free_so_another_goes_on_at_once(house: House) -> None:
    task = house.open().submit(flows.rerun, {"at": house.at})
    dead = house.worker(lease_s=HOUR_S)
    house.until_said("make")
    other = house.worker(lease_s=HOUR_S)
    dead.kill()
    house.turn("go")
    assert task.wait(60).state == "SUCCEEDED"
    assert house.said() == ["first", "make", "make", "made", "use"]
    pids = [line.pid for line in house.lines()]
    assert pids[:2] == [dead.pid] * 2
    assert pids[2] not in (dead.pid, other.pid), "who was there when a worker died runs in a process of its own"
    assert pids[4] == other.pid
    assert other.leave() == 0


def test_who_finds_no_lock_of_a_worker_leaves_it_to_its_lease(house: House) -> None:
    """Somebody may have tidied up where the locks are."""
    hold = house.open(lease_s=HOUR_S)
    task = hold.submit(flows.in_thread, {"at": house.at})
    workers = [house.open(lease_s=HOUR_S).worker() for _ in range(2)]
    ids = [worker.lease.id for worker in workers]
    with running(workers[0]), running(workers[1]):
        until(lambda: "nap" in house.said() and len(hold.store.read(rows.alive)) == 2)
        for worker in workers:
            os.unlink(str(worker.lease.lock_path))
        swept = [worker.lease._swept_at for worker in workers]
        until(lambda: all(worker.lease._swept_at > at + SWEEP_S for worker, at in zip(workers, swept, strict=True)))
        assert {worker.id for worker in hold.store.read(rows.alive)} == set(ids)
        assert house.said() == ["first", "nap"]
    assert task.state == "RUNNING"


@pytest.mark.requirement("G2")
def test_not_while_a_child_of_it_lives(house: House) -> None:
    """A process that a step left behind still holds the lock: what it does could meet what a second entry does."""
    hold = house.open(lease_s=HOUR_S)
    task = hold.submit(flows.orphans, {"at": house.at})
    dead = house.worker(lease_s=HOUR_S)
    house.until_said("orphaning")
    dead.kill()
    house.turn("go")
    other = hold.worker()
    assert not other.lease.sweep(Clock().time())
    assert other.lease.expects, "it will be free soon: nobody may think that there is nothing to do"
    assert hold.store.read(lambda tx: row.read(tx, task._id)).worker_id is not None
    house.turn("orphan_may_go")
    until(lambda: other.lease.sweep(Clock().time()), lambda: "the sweep that frees the task")
    other.run(other.is_idle)
    other.close()
    assert task.state == "SUCCEEDED"
    assert house.said() == ["first", "orphaning", "last"]


@only_sqlite  # there a lease goes by the database's clock, which cannot be told to pass
@pytest.mark.requirement("G2")
def test_by_the_lease_where_the_lock_says_nothing(house: House) -> None:
    """The same dead worker as seen from another host, whose kernel knows nothing of the lock."""
    hold = house.open()
    task = hold.submit(flows.rerun, {"at": house.at})
    dead = house.worker(lease_s=HOUR_S)
    house.until_said("make")
    dead.kill()
    far = Lease(hold.store, Clock(), Settings(), "default", threaded=False, host="elsewhere")
    now = Clock().time()
    far.register(now)
    far._steady_at = float("-inf")  # it has been there for long
    assert not far.sweep(now)
    assert not far.sweep(now + HOUR_S - 120)
    assert far.sweep(now + HOUR_S)
    assert hold.store.read(lambda tx: row.read(tx, task._id)).worker_id is None


@pytest.mark.requirement("G2", "P10")
def test_a_worker_that_was_frozen_past_its_lease_writes_nothing_more(house: House) -> None:
    hold = house.open()
    task = hold.submit(flows.freezing, {"at": house.at})
    frozen = house.worker(lease_s=1.0)
    house.until_said("frozen")
    frozen.freeze()
    with hold.working():
        assert task.wait(60).state == "SUCCEEDED"
    story, view = hold.store.journal(task._id), task.view()
    house.turn("thaw")
    frozen.thaw()
    told = house.until_said("refused")
    assert told.extra in ("LeaseLost", "Stopping")
    assert house.said().count("last") == 1
    # It is a worker again, under another name, and does what is asked of it now.
    after = hold.submit(flows.short, {"at": house.at}).wait(60)
    assert after.state == "SUCCEEDED"
    assert house.lines()[-1].pid == frozen.pid
    assert frozen.leave() == 0
    assert hold.store.journal(task._id) == story
    assert task.view() == view
    assert [event.kind for event in story].count("ended") == 1


@pytest.mark.requirement("IRONIC-17")
def test_who_looks_sees_that_nothing_is_heard_of_the_worker(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    hold = house.open()
    task = hold.submit(flows.rerun, {"at": house.at})
    assert task.view()["worker"] is None
    worker = house.worker(lease_s=0.5)
    house.until_said("make")
    until(lambda: not task.view()["worker"]["stale"])
    worker.freeze()
    until(lambda: task.view()["worker"]["stale"])
    assert task.state == "RUNNING", "a state says what is meant to happen, not who does it"
    assert main(["task", "show", task.id, "--database", house.url]) == 0
    assert "not heard of since" in capsys.readouterr().out
    worker.thaw()
    until(lambda: not task.view()["worker"]["stale"])
    house.turn("go")
    assert task.wait(60).state == "SUCCEEDED"
    assert task.view()["worker"] is None
