"""Looking at the world: after an abort, from time to time, and what an answer is worth that comes too late."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import update

import holdfast as hf
from holdfast.errors import LeaseLost
from holdfast.resources import probing, state, sync
from holdfast.resources.kind import Seen
from holdfast.store.schema import tasks
from holdfast.tasks import lease
from tests.resources.conftest import Shop
from tests.tasks.desk import take_as


def test_after_an_abort_nobody_knows_until_somebody_has_looked(shop: Shop) -> None:
    port = shop.port(mtu=1)
    task = shop.ask("update", port.id, desired={"mtu": 2, "faults": ["hang"]})
    with shop.hold.working():
        shop.until_said("write", port.id, 2)
        task.abort().wait(30)
        assert task.state == "ABORTED"
        shop.until(lambda: port.sync_status != "UNKNOWN")
        verify = shop.hold.tasks(task="verify")[0].wait(30)  # the answer is written by the task, so before its end
    view = verify.view()
    assert (view["state"], view["origin"], view["claims"], view["resource_id"]) == ("SUCCEEDED", "system", [], port.id)
    assert shop.backend.said("look", port.id) == [["look", port.id]]
    assert (port.lifecycle, port.sync_status, port.applied_revision) == ("ACTIVE", "OUT_OF_SYNC", 1)


def test_what_was_aborted_too_late_is_found_done(shop: Shop) -> None:
    port = shop.port(mtu=1)
    task = shop.ask("update", port.id, desired={"mtu": 2, "faults": ["hang"]})
    with shop.hold.working():
        shop.until_said("write", port.id, 2)
        shop.backend.put(port.id, {"name": "port", "address": None, "mtu": 2})
        task.abort().wait(30)
        shop.until(lambda: port.sync_status != "UNKNOWN")
    assert (task.state, port.sync_status, port.applied_revision) == ("ABORTED", "IN_SYNC", 2)


@pytest.mark.requirement("P12")
def test_a_task_that_is_forced_to_fail_leaves_doubt_too(shop: Shop) -> None:
    port = shop.port(faults=["down-hang"])
    task = shop.ask("down", port.id)
    with shop.hold.working():
        shop.until_said("off", port.id)
        task.force_fail("it has been an hour")
        assert (port.lifecycle, port.sync_status) == ("ERROR", "UNKNOWN")
        shop.backend.turn("go")
        shop.until(lambda: port.sync_status == "IN_SYNC")
    assert port.lifecycle == "ACTIVE"  # as the probe has seen it
    assert port.last_failed_task is not None
    assert port.last_failed_task["error"]["code"] == "task.force_failed"


def test_a_task_that_never_began_leaves_no_doubt(shop: Shop) -> None:
    port = shop.port()
    shop.ask("down", port.id).abort()
    assert (port.lifecycle, port.sync_status, shop.hold.tasks(task="verify")) == ("ACTIVE", "IN_SYNC", [])


def test_an_answer_is_dropped_when_a_later_task_was_granted_meanwhile(shop: Shop) -> None:
    port = shop.port()
    store, kind = shop.hold.store, shop.hold.kinds.kind("port")
    look = store.read(lambda tx: probing.before(tx, "port", port.id))
    assert look is not None
    verifier = shop.ask("ping", port.id)  # any task that may sign
    by = store.read(lambda tx: probing.by_uuid(tx, verifier.id))
    first: probing.Look = look
    dropped = store.write(lambda tx: probing.found(tx, kind, first, Seen(False), by, 1.0))
    assert (dropped, port.sync_status) == (None, "IN_SYNC")  # somebody holds the port
    during = store.read(lambda tx: probing.before(tx, "port", port.id))
    assert during is not None
    assert during.row is None
    shop.work()
    dropped = store.write(lambda tx: probing.found(tx, kind, first, Seen(False), by, 1.0))
    assert (dropped, port.sync_status) == (None, "IN_SYNC")  # somebody has held it
    fresh = store.read(lambda tx: probing.before(tx, "port", port.id)) or first
    after = store.write(lambda tx: probing.found(tx, kind, fresh, Seen(False), by, 1.0))
    assert after is not None
    assert port.sync_status == "OUT_OF_SYNC"


@pytest.mark.requirement("P10", "G2")
def test_a_step_whose_task_another_worker_has_writes_nothing_of_a_resource(shop: Shop) -> None:
    port = shop.port()
    store, task = shop.hold.store, shop.ask("ping", port.id)
    now = shop.hold.clock.time()

    def take(worker: str) -> Any:
        how: dict[str, Any] = {"generation": store.generation, "nonce": worker, "now": now, "limit": 1}
        (taken,) = store.write(lambda tx: take_as(tx, worker, **how, pool="default"))
        return SimpleNamespace(task_id=taken.uuid, fence=taken.epoch)

    def note(ctx: Any, status: str) -> None:
        store.write(lambda tx: probing.noted(tx, "port", port.id, {"status": status}, probing.held(tx, ctx), now))

    late = take("w1")
    note(late, "UP")
    store.write(lambda tx: lease.mark_dead(tx, "w1", now))
    with pytest.raises(LeaseLost):
        note(late, "nobody has it")
    successor = take("w2")
    with pytest.raises(LeaseLost):
        note(late, "another has it")
    assert port.status == "UP"
    store.write(lambda tx: tx.execute(update(tasks).values(epoch=tasks.c.epoch + 1)))  # as when an agent was lost
    note(successor, "DOWN")
    assert port.status == "DOWN"
    task.force_fail("it has been an hour")
    with pytest.raises(LeaseLost):
        note(successor, "it has ended")
    assert port.status != "it has ended"


def test_what_the_watch_has_seen_is_written_in_one_order(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    for mtu in (1, 2, 3):
        shop.port(mtu=mtu)
    locked: list[str] = []
    monkeypatch.setattr(probing, "held", lambda tx, ctx: None)
    monkeypatch.setattr(probing, "found", lambda tx, kind, look, *rest: locked.append(look.row.id))
    world: Any = SimpleNamespace(hold=shop.hold)
    watching = sync.Round(shop.hold.kinds.kind("port"), world, None)  # type: ignore[arg-type]
    rows = shop.hold.store.read(lambda tx: state.page(tx, kind="port", limit=9))
    seen = [sync._Answer(None, probing.Look(row), Seen(False)) for row in rows]
    watching._batch = sorted(seen, key=lambda answer: answer.look.row.id, reverse=True)
    watching._write()
    assert locked == sorted(row.id for row in rows)


@pytest.mark.requirement("P10", "G2")
def test_a_step_of_before_a_restore_writes_nothing_of_a_resource(shop: Shop) -> None:
    port = shop.port()
    shop.ask("ping", port.id)
    store, now = shop.hold.store, shop.hold.clock.time()
    how: dict[str, Any] = {"generation": store.generation, "nonce": "n", "now": now, "limit": 1, "pool": "default"}
    (taken,) = store.write(lambda tx: take_as(tx, "w", **how))
    store.begin_anew()
    ctx: Any = SimpleNamespace(task_id=taken.uuid, fence=taken.epoch)
    with pytest.raises(LeaseLost):
        store.write(lambda tx: probing.noted(tx, "port", port.id, {"status": "UP"}, probing.held(tx, ctx), now))


def test_a_verification_waits_for_those_who_work_and_is_over_when_they_have_settled_it(shop: Shop) -> None:
    port = shop.port(mtu=1)
    task = shop.ask("update", port.id, desired={"mtu": 2, "faults": ["hang"]})
    with shop.hold.working():
        shop.until_said("write", port.id, 2)
        settling = shop.ask("update", port.id, desired={"mtu": 3})
        task.abort()
        settling.wait(30)
        verify = shop.hold.tasks(task="verify")[0].wait(30)
    assert (settling.state, verify.results["verdict"]) == ("SUCCEEDED", "IN_SYNC")
    assert (port.sync_status, port.applied_revision) == ("IN_SYNC", 3)


@pytest.mark.requirement("NEUTRON-12", "NEUTRON-13", "P7")
def test_drift_is_seen_and_mended(shop: Shop) -> None:
    port, other = shop.port(mtu=1), shop.port(mtu=1)
    shop.backend.put(port.id, {"name": "somebody was here"})
    (task,) = shop.hold.watch_drift(rounds=1)
    shop.work()
    assert task.results["looked"] == {"seen": 1, "drifted": 1, "busy": 0, "unreachable": 0}
    assert (port.lifecycle, port.status, port.sync_status) == ("ACTIVE", "ACTIVE", "OUT_OF_SYNC")
    assert other.sync_status == "IN_SYNC"
    mend = shop.do("reconcile", port.id)
    assert (mend.state, port.sync_status, port.revision, port.applied_revision) == ("SUCCEEDED", "IN_SYNC", 1, 1)
    assert shop.backend.there(port.id)["mtu"] == 1


@pytest.mark.requirement("NEUTRON-12")
def test_a_link_that_is_down_is_no_drift(shop: Shop) -> None:
    port = shop.port()
    shop.backend.turn("unplugged")
    shop.hold.watch_drift(rounds=1)
    shop.work()
    assert (port.status, port.lifecycle, port.sync_status) == ("UNPLUGGED", "ACTIVE", "IN_SYNC")


def test_what_does_not_answer_is_left_as_it_was(shop: Shop) -> None:
    port = shop.port()
    shop.backend.turn("unreachable")
    (task,) = shop.hold.watch_drift(rounds=1)
    shop.work()
    assert task.results["looked"]["unreachable"] == 1
    assert (port.sync_status, port.last_failed_task) == ("IN_SYNC", None)


def test_the_watch_is_one_task_that_goes_on_and_stands_in_nobodys_way(tmp_path: Path) -> None:
    shop = Shop(tmp_path, sync_interval_s=0.01)
    port = shop.port()
    (task,) = shop.hold.watch_drift()
    assert [again.id for again in shop.hold.watch_drift()] == [task.id]
    with shop.hold.working():
        shop.until(lambda: len(shop.backend.said("look", port.id)) > 3)
        for mtu in range(10):
            shop.ask("update", port.id, desired={"mtu": mtu}).wait(30)
        assert (port.applied_revision, port.sync_status, task.view()["claims"]) == (11, "IN_SYNC", [])
        shop.backend.put(port.id, {})
        shop.until(lambda: port.sync_status == "OUT_OF_SYNC")
        assert task.state in ("RUNNING", "WAITING")
        task.cancel().wait(30)
    shop.hold.close()


def test_a_verification_asks_again_while_the_world_does_not_answer(shop: Shop) -> None:
    port = shop.port(mtu=1)
    task = shop.ask("update", port.id, desired={"mtu": 2, "faults": ["hang"]})
    with shop.hold.working():
        shop.until_said("write", port.id, 2)
        shop.backend.turn("unreachable")
        task.abort().wait(30)
        shop.until(lambda: len(shop.backend.said("look", port.id)) > 1)
        assert port.sync_status == "UNKNOWN"
        shop.backend.turn_off("unreachable")
        shop.until(lambda: port.sync_status == "OUT_OF_SYNC")


def test_the_watch_is_begun_again_unless_somebody_has_cancelled_it(shop: Shop) -> None:
    (task,) = shop.hold.watch_drift()
    with hf.open(shop.url) as ignorant:  # a worker that does not know the kind
        ignorant.work(until_idle=True)
        assert ignorant.task(task.id).reason == "definition_changed"
    assert [again.id for again in shop.hold.watch_drift()] == [task.id]
    assert task.state in ("PENDING", "RUNNING")
    task.force_fail("an accident")
    (second,) = shop.hold.watch_drift()
    assert second.id != task.id
    second.cancel()
    assert [again.id for again in shop.hold.watch_drift()] == [second.id]


def test_a_slow_look_holds_up_nobody_and_what_it_saw_is_dropped(shop: Shop) -> None:
    port = shop.port(mtu=0)
    shop.backend.put(port.id, {"mtu": "somebody was here"})
    shop.backend.turn("slow")
    (watch,) = shop.hold.watch_drift(rounds=1)
    with shop.hold.working():
        shop.until_said("look", port.id)
        tasks = [shop.ask("update", port.id, desired={"mtu": mtu}) for mtu in range(1, 21)]
        for task in tasks:
            task.wait(30)
        assert ({task.state for task in tasks}, watch.state) == ({"SUCCEEDED"}, "RUNNING")
        shop.backend.turn_off("slow")
        watch.wait(30)
    assert watch.results["looked"]["busy"] == 1
    assert [line[2] for line in shop.backend.said("written", port.id)] == list(range(1, 22))
    assert (port.sync_status, port.applied_revision) == ("IN_SYNC", 21)


def test_who_works_until_it_is_idle_leaves_the_watch_between_two_rounds(tmp_path: Path) -> None:
    shop = Shop(tmp_path, sync_interval_s=3600)
    port = shop.port(mtu=1)
    (task,) = shop.hold.watch_drift()
    shop.work()
    assert (task.state, len(shop.backend.said("look", port.id))) == ("WAITING", 1)
    assert shop.do("update", port.id, desired={"mtu": 2}).state == "SUCCEEDED"
    assert (task.state, len(shop.backend.said("look", port.id))) == ("WAITING", 1)


def test_a_watch_of_so_many_rounds_is_worked_to_its_end(tmp_path: Path) -> None:
    shop = Shop(tmp_path, sync_interval_s=0.01)
    port = shop.port()
    (task,) = shop.hold.watch_drift(rounds=3)
    shop.work()
    assert (task.state, len(shop.backend.said("look", port.id))) == ("SUCCEEDED", 3)
