"""Corners of the worker where one task could hurt another, or an outcome could be lost or told twice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import select

import holdfast as hf
from holdfast.errors import LeaseLost
from holdfast.runtime.base import Call
from holdfast.runtime.context import Context
from holdfast.store.base import Append
from holdfast.store.schema import tickets
from holdfast.tasks import agents, overdue, pools, row, submit, take
from holdfast.tasks import lease as leases
from holdfast.worker.agents import Agents
from holdfast.worker.loop import Worker
from tests.core.scripted import step
from tests.postgresql import database_at
from tests.tasks.desk import Desk
from tests.worker.scripted import Bench

PATIENCE_S = 30.0
SMALL = hf.linear("small", step("b"))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, hf.unordered("f", step("a"), step("b")))
    with made.hold:
        yield made


def context(bench: Bench, call: Call) -> Context:
    return Context(call, "key", "key", 1, "task", None, bench.clock)


# --- outcomes that are not lost, and not told twice --------------------------------------------------------------


@pytest.mark.parametrize("on_interrupt", ["rerun", "suspend", "undo"])
def test_a_step_that_polls_goes_on_after_a_take_over(tmp_path: Path, on_interrupt: str) -> None:
    bench = Bench(tmp_path, hf.unordered("f", step("a", on_interrupt=on_interrupt), step("b")))
    with bench.hold:
        task = bench.submit()
        bench.settle()
        bench.end("a", what=hf.Again(1))
        bench.crash()  # b was in flight, a only waited
        bench.end("b")
        bench.later(2)
        bench.end("a", what=hf.Again(1))  # the row of the first poll may go only if the journal still reads the same
        bench.crash()
        bench.later(2)
        assert bench.running() == ["a"]
        bench.end("a")
        assert task.state == "SUCCEEDED"


def test_what_was_stored_when_a_ctrl_c_came_is_not_stored_again(bench: Bench) -> None:
    task = bench.submit()
    bench.settle()
    store: Any = bench.hold.store
    append: Callable[[Any], Any] = store.append

    def interrupted(batch: list[Append], _: Any) -> None:
        append(batch)
        raise KeyboardInterrupt

    bench.runtime.end(bench.call("a"), "returned", 1)
    store.append = interrupted
    with pytest.raises(KeyboardInterrupt):
        bench.worker.turn(bench.clock.time())
    store.append = append
    bench.worker.close()
    assert bench.words(task).count("succeeded") == 1
    bench.boot()
    bench.settle()
    bench.end("b")
    assert task.state == "SUCCEEDED"


def test_a_worker_that_leaves_saves_every_task_it_still_has(bench: Bench) -> None:
    lost, kept = bench.submit(), bench.submit()
    bench.settle()
    for call in list(bench.runtime.calls):
        bench.runtime.end(call, "returned", 1)
    lost.force_fail("gone")
    bench.worker.close()
    assert lost.state == "FAILED"
    assert bench.words(kept).count("succeeded") == 2
    assert bench.hold.store.read(leases.alive) == []


def test_a_worker_that_leaves_stores_the_checkpoints_of_steps_that_stop(tmp_path: Path) -> None:
    begun, ran_on = threading.Event(), list[threading.Thread]()

    @hf.step
    def count(ctx: hf.Context) -> None:
        ran_on.append(threading.current_thread())
        begun.set()
        for number in range(10**9):
            ctx.checkpoint(number)

    flow = hf.linear("f", count)
    with hf.open(database_at(tmp_path / "tasks.db"), flows=[flow], grace_s=PATIENCE_S) as hold:
        task = hold.submit(flow)
        with hold.working():
            assert begun.wait(PATIENCE_S)
        assert task.trace[-1] == "f/count STOPPED"
        assert [thread.is_alive() for thread in ran_on] == [False]


def test_a_step_whose_task_another_worker_has_does_not_wait_for_its_checkpoint(bench: Bench) -> None:
    bench.submit()
    bench.settle()
    call = bench.call("a")
    told: list[BaseException | None] = []
    call.host.checkpoint(call, 1, told.append)  # on its way
    (taken,) = bench.worker.taken.values()
    taken.drive.drop()
    call.host.checkpoint(call, 2, told.append)  # and one that comes too late
    assert [type(error) for error in told] == [LeaseLost, LeaseLost]


# --- one bad task hurts no other ---------------------------------------------------------------------------------


@pytest.mark.requirement("G10")
@pytest.mark.parametrize("message", [Path("/var/lib"), "a name that is not UTF-8: \udcff", "nul \0", "x" * 10**6])
def test_whatever_a_step_says_of_its_progress_the_worker_goes_on(bench: Bench, message: Any) -> None:
    task = bench.submit()
    bench.settle()
    context(bench, bench.call("a")).progress(0.5, message)
    bench.settle()
    said = task.steps[0].message
    assert said is not None
    assert 0 < len(said) < 5_000


def test_a_step_that_can_not_be_started_is_its_own_task_s_failure(bench: Bench) -> None:
    bad, good = bench.submit(), bench.submit()
    start = bench.runtime.start
    refused: list[str] = []

    def refuse(call: Call) -> None:
        if call.step_id == "f/a" and not refused:
            refused.append(call.step_id)
            raise OSError("no thread left")
        start(call)

    bench.runtime.start = refuse  # type: ignore[method-assign]
    bench.settle()
    while bench.runtime.calls:
        bench.runtime.end(bench.runtime.calls[0], "returned", 1)
        bench.settle()
    assert good.state == "SUCCEEDED"
    assert bad.state == "FAILED"
    assert bad.failure is not None
    assert bad.failure.summary == "OSError: no thread left"


def test_what_breaks_while_a_decision_is_acted_on_is_one_task_s_poison(bench: Bench) -> None:
    bad, good = bench.submit(), bench.submit()
    start = bench.runtime.start
    refused: list[str] = []

    def refuse(call: Call) -> None:
        if not refused:
            refused.append(call.step_id)
            raise LookupError("a defect")
        start(call)

    bench.runtime.start = refuse  # type: ignore[method-assign]
    bench.settle()
    assert sorted([bad.state, good.state]) == ["RUNNING", "SUSPENDED"]
    rested = bad if bad.state == "SUSPENDED" else good
    assert rested.reason == "poison"


def test_a_task_that_was_failed_by_force_is_let_go_of(bench: Bench) -> None:
    task = bench.submit()
    bench.settle()
    calls = list(bench.runtime.calls)
    task.force_fail("enough")
    bench.worker.lease.start(bench.worker._lost_lease)
    bench.worker.lease.beat()  # tells that it is ours no more
    bench.settle()
    assert bench.worker.taken == {}
    assert all(call.stop_reason is not None for call in calls)


# --- waiting is not working --------------------------------------------------------------------------------------


def test_a_poll_that_is_due_while_another_step_is_stopping_keeps_the_worker_asleep(bench: Bench) -> None:
    task = bench.submit()
    bench.settle()
    bench.end("a", what=hf.Again(1))
    task.suspend()
    bench.later(2)  # a's time has come, and b has not stopped yet
    assert bench.worker._left_s() >= bench.hold.settings.poll_s
    bench.end("b", "stopped", "suspend")
    assert task.state == "SUSPENDED"


# --- what is shown of it -----------------------------------------------------------------------------------------


def test_reverts_add_nothing_to_the_progress_of_the_way_forward(tmp_path: Path) -> None:
    bench = Bench(tmp_path, hf.linear("f", step("a"), step("b")))
    with bench.hold:
        task = bench.submit()
        bench.settle()
        bench.end("a")
        task.cancel()
        bench.settle()
        bench.end("b", "stopped", "cancel")
        shown = []
        for name in ("b", "a"):
            call = bench.call(name)
            call.host.progress(call, 0.9, "almost")
            bench.later(10)
            shown.append(task.view()["progress"]["percent"])
            bench.end(name)
        assert task.state == "CANCELLED"
        assert shown == [50, 50]


def test_a_rollback_begins_at_nothing_and_is_as_far_as_its_reverts(tmp_path: Path) -> None:
    bench = Bench(tmp_path, hf.linear("f", step("a"), step("b")))
    with bench.hold:
        task = bench.submit()
        bench.settle()
        bench.end("a")
        bench.end("b")
        back = task.rollback()
        bench.settle()
        shown = [back.view()["progress"]["percent"]]
        for name in ("b", "a"):
            bench.end(name)
            shown.append(back.view()["progress"]["percent"])
        assert shown == [0, 50, 100]


def test_all_that_starts_at_one_moment_queues_then_whoever_has_to_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "DRAWN_MAX", 2)
    bench = Bench(tmp_path, hf.linear("f", step("a")))
    with bench.hold:
        bench.hold.submit(bench.flow, claims=["r"])
        bench.settle()
        at = bench.clock.time() + 10
        for _ in range(5):
            bench.hold.submit(bench.flow, claims=["r"], start_after=at)
        free = bench.hold.submit(bench.flow, claims=["free"], start_after=at)
        bench.later(10)
        assert free.state == "RUNNING"
        assert bench.hold.store.read(lambda tx: len(tx.execute(select(tickets)).all())) == 7


def test_an_agent_that_is_lost_while_its_task_is_loaded_is_late_for_all_that_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, hf.linear("f", step("a", agent="hv1")))
    store, attach = bench.hold.store, Agents.attach

    def attaching(self: Agents, *given: Any) -> Any:
        assert store.write(lambda tx: overdue.end(tx, task._id, 1e12))
        return attach(self, *given)

    with bench.hold:
        task = bench.submit()
        bench.settle()
        leased(bench, "hv1")
        monkeypatch.setattr(Agents, "attach", attaching)
        bench.crash()
        (held,) = bench.worker.taken.values()
        assert held.drive.fence == store.read(lambda tx: row.read(tx, task._id)).epoch == row.epoch_of(held.token) + 1


@pytest.mark.requirement("G3", "G10")
def test_a_step_that_was_started_and_offered_to_no_agent_is_not_in_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker died between the two. Nobody ran it: there is nothing to ask a person about."""
    bench = Bench(tmp_path, hf.linear("f", step("a", agent="hv1", on_interrupt="suspend")))
    with bench.hold:
        task = bench.submit()
        with monkeypatch.context() as dies:
            dies.setattr(Agents, "flush", lambda self, now: None)
            bench.settle()
        assert bench.words(task)[-1] == "started"
        bench.crash()
        assert bench.words(task)[-3:] == ["started", "withdrawn", "started"]
        (lease,) = bench.hold.store.read(lambda tx: agents.of_task(tx, task._id))
        assert (lease.node, task.state) == ("f/a", "RUNNING")


def given(bench: Bench, pool: str, agent: str = "a") -> agents.Speaker:
    """An agent of the pool was given the one lease that is offered there, and nothing was heard of it yet."""
    store, task = bench.hold.store, str(bench.hold.tasks()[0].id)
    who = {"holder": "u", "agent": agent, "generation": store.generation, "nonce": agent, "lease_s": 15.0}
    (lease,) = store.write(lambda tx: agents.take(tx, pool, 1, now=bench.clock.now, **who))  # type: ignore[arg-type]
    return agents.Speaker(str(lease.token), "u", task)


def leased(bench: Bench, pool: str) -> agents.Speaker:
    """An agent of the pool has the one lease that is offered there, and has begun."""
    store, said = bench.hold.store, given(bench, pool)
    store.write(lambda tx: agents.beat(tx, said, store.generation, bench.clock.now, 15.0))
    return said


@pytest.mark.requirement("G3", "G9")
def test_a_step_that_an_agent_runs_is_in_doubt_though_it_is_no_agents_by_now(tmp_path: Path) -> None:
    made = step("a", on_interrupt="suspend")
    bench = Bench(tmp_path, hf.linear("f", made.with_options(agent="hv1")))
    with bench.hold:
        task = bench.submit()
        bench.settle()
        leased(bench, "hv1")
        bench.hold.flows = (hf.linear("f", made),)
        bench.crash()
        assert (task.state, task.reason) == ("SUSPENDED", "outcome_unknown")


def silent(bench: Bench, for_s: float = 16.0) -> None:
    """Nothing is heard of any agent, by default for longer than a lease lasts."""
    store = bench.hold.store
    late = store.read(lambda tx: tx.now(bench.clock.now)) + for_s
    for task in store.read(lambda tx: overdue.tasks_with(tx, late)):
        store.write(lambda tx, task=task: overdue.end(tx, task, late))  # type: ignore[misc]
    bench.settle()


@pytest.mark.requirement("G3", "G10")
def test_what_an_agent_was_given_and_never_spoke_of_is_offered_anew_and_not_in_doubt(tmp_path: Path) -> None:
    bench = Bench(tmp_path, hf.linear("f", step("a", agent="hv1", on_interrupt="suspend")), deaths_max=1)
    with bench.hold:
        store, task = bench.hold.store, bench.submit()
        bench.settle()
        frozen = []
        for agent in ("a", "b", "c"):
            frozen.append(given(bench, "hv1", agent))
            silent(bench)
        assert store.read(agents.waiting) == {"hv1"}
        for each in frozen:
            with pytest.raises(LeaseLost):
                store.write(lambda tx, each=each: agents.beat(tx, each, store.generation, bench.clock.now, 15.0))  # type: ignore[misc]
        said = leased(bench, "hv1")
        end = agents.outcome_text("returned", "1")
        store.write(lambda tx: agents.end(tx, said, store.generation, end, "said", bench.clock.now))
        bench.settle()
        assert task.state == "SUCCEEDED"
        assert "died" not in bench.words(task)


@pytest.mark.requirement("G3", "G6")
def test_who_was_given_it_and_never_spoke_of_it_stands_in_no_cancels_way(tmp_path: Path) -> None:
    bench = Bench(tmp_path, hf.linear("f", step("a", agent="hv1", on_interrupt="suspend")))
    with bench.hold:
        task = bench.submit()
        bench.settle()
        given(bench, "hv1")
        task.cancel()
        bench.settle()
        assert task.state == "CANCELLING"
        silent(bench)
        assert task.state == "CANCELLED"


@pytest.mark.requirement("G3")
@pytest.mark.parametrize("how", ["it never said its name", "the database was put back"])
def test_who_may_have_begun_unheard_leaves_it_in_doubt(tmp_path: Path, how: str) -> None:
    bench = Bench(tmp_path, hf.linear("f", step("a", agent="hv1", on_interrupt="suspend")))
    with bench.hold:
        task = bench.submit()
        bench.settle()
        if how == "it never said its name":
            given(bench, "hv1", "u, req-1")
        else:
            given(bench, "hv1")
            bench.hold.store.begin_anew()
            bench.crash()
        silent(bench, 1e10)  # the database's new history goes by the true time
        assert (task.state, task.reason) == ("SUSPENDED", "outcome_unknown")


def test_a_suspect_that_waits_for_an_agent_holds_up_nobody(tmp_path: Path) -> None:
    """Its host has no power. All the others of the map go on."""
    each = hf.step(lambda unit: unit, name="each", agent="hv-{unit}")
    bench = Bench(tmp_path, hf.linear("f", hf.map("m", each, over="units", item="unit", at_once=2)))
    with bench.hold:
        store = bench.hold.store
        bench.hold.submit(bench.flow, {"units": ["1", "2", "3"]})
        bench.settle()
        leased(bench, "hv-1")
        other = leased(bench, "hv-2")
        silent(bench)
        assert store.read(agents.waiting) == {"hv-1", "hv-2"}
        end = agents.outcome_text("returned", "1")
        again = leased(bench, "hv-2")
        assert again.token != other.token
        store.write(lambda tx: agents.end(tx, again, store.generation, end, "said", bench.clock.now))
        bench.settle()
        assert store.read(agents.waiting) == {"hv-1", "hv-3"}


@pytest.mark.requirement("G3", "G9")
@pytest.mark.parametrize("cancels", [False, True])
def test_a_step_that_ran_here_is_in_doubt_though_it_is_an_agents_by_now(tmp_path: Path, cancels: bool) -> None:
    """The journal says who was to run it, and not the code of today."""
    made = step("a", on_interrupt="suspend")
    bench = Bench(tmp_path, hf.linear("f", made))
    with bench.hold:
        task = bench.submit()
        bench.settle()
        bench.hold.flows = (hf.linear("f", made.with_options(agent="hv1")),)
        if cancels:
            task.cancel()
        bench.crash()
        assert "taken_over" in bench.words(task)
        expected = ("CANCELLING", None) if cancels else ("SUSPENDED", "outcome_unknown")
        assert (task.state, task.reason) == expected
        assert "withdrawn" not in bench.words(task)
        assert bench.words(task)[-1] == ("revert_started" if cancels else "rested")


def test_who_is_drained_is_so_under_its_next_name_too(tmp_path: Path) -> None:
    """It was taken for dead meanwhile. The operator who drained that process waits for it, whatever it is called."""
    bench = Bench(tmp_path, hf.linear("f", step("a")))
    with bench.hold:
        store, lease = bench.hold.store, bench.worker.lease
        bench.settle()
        lease.register(bench.clock.now)
        before = lease.id
        assert store.write(lambda tx: leases.drain(tx, before, bench.clock.now))
        store.write(lambda tx: leases.mark_dead(tx, before, bench.clock.now))
        task = bench.submit()
        lease.beat()
        lease.unsure = True  # it follows itself twice before it is known again
        for _ in range(3):
            bench.settle()
        assert lease.id != before
        assert (task.state, bench.worker.draining) == ("PENDING", True)
        assert store.write(lambda tx: leases.drain(tx, lease.id, None))
        lease.beat()
        bench.settle()
        assert task.state == "RUNNING"


def test_a_child_that_comes_to_rest_as_its_parent_is_given_back_is_heard_of(tmp_path: Path) -> None:
    bench = Bench(tmp_path, hf.linear("f", step("a"), hf.child("kid", SMALL), on_failure="suspend"))
    with bench.hold:
        task = bench.submit()
        bench.settle()
        child = Desk(bench.hold.store).submit(parent=task._id, pool="another")  # type: ignore[arg-type]
        bench.end("a", "raised", RuntimeError("no"))  # the child, which nobody has, comes to rest as it is told to
        at = bench.hold.store.read(lambda tx: row.read(tx, child))
        assert (at.state, at.reason) == ("SUSPENDED", "asked")
        assert (task.state, task.view()["reason"]) == ("SUSPENDED", "on_failure")


def test_the_failure_of_an_earlier_try_is_not_why_a_task_was_cancelled(tmp_path: Path) -> None:
    bench = Bench(tmp_path, hf.linear("f", step("a", retry=hf.Retry(attempts=2)), step("b")))
    with bench.hold:
        task = bench.submit()
        bench.settle()
        bench.end("a", "raised", ConnectionError("once"))
        bench.end("a")
        task.cancel()
        bench.settle()
        bench.end("b", "stopped", "cancel")
        bench.end("b")
        bench.end("a")
        assert task.state == "CANCELLED"
        assert task.failure is None
        assert task.steps[0].error is None


def test_a_link_that_exits_is_its_own_task_s_failure(tmp_path: Path) -> None:
    def leave() -> bool:
        raise SystemExit(3)

    first, last = step("first"), step("last")
    bench = Bench(tmp_path, hf.graph("f", first, last).link(first, last, when=leave))
    with bench.hold:
        task = bench.submit()
        bench.settle()
        bench.end("first")
        bench.end("first")
        assert task.state == "FAILED"
        assert task.failure is not None
        assert task.failure.type == "SystemExit"


@pytest.mark.requirement("G2")
def test_a_worker_that_was_taken_for_dead_takes_nothing_before_it_is_known_again(bench: Bench) -> None:
    bench.submit()
    worker = bench.worker
    worker.lease.register(bench.clock.time())
    bench.hold.store.write(lambda tx: leases.mark_dead(tx, worker.lease.id, bench.clock.time()))
    bench.settle()
    assert worker.taken == {}
    worker.lease.beat()  # hears of it
    bench.settle()
    assert len(worker.taken) == 1
    (task,) = bench.hold.tasks()
    assert task._row().worker_id in [row.id for row in bench.hold.store.read(leases.alive)]


def test_who_took_what_it_was_told_of_does_not_look_before_it_takes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, hf.linear("one", step("a")))
    looks: list[bool] = []
    peek = take.peek

    def look(*given: Any, **named: Any) -> take.Due:
        found = peek(*given, **named)
        looks.append(found.any)
        return found

    def looks_of(*submitted: Any) -> list[bool]:
        del looks[:]
        bench.settle()
        assert len(bench.running()) == len(submitted)
        while bench.runtime.calls:
            bench.runtime.end(bench.runtime.calls[0], "returned", 1)
            while bench.worker.turn(bench.clock.time()):  # the end of its own tasks is no news
                pass
        return looks

    monkeypatch.setattr(take, "peek", look)
    with bench.hold:
        assert looks_of(bench.submit())[0]
        assert True not in looks_of(bench.submit())
        assert True not in looks_of(bench.submit(), bench.submit())
        assert looks_of() == [False], "it was told of nothing"
        assert looks_of(bench.submit())[0]


def test_a_worker_whose_taking_the_pools_limit_cut_short_wants_to_hear_of_a_free_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, hf.linear("one", step("a")))

    def taken(worker: Worker, room: int) -> int:
        monkeypatch.setattr(worker._intake, "pace", SimpleNamespace(room=lambda *_: room))
        worker._intake.waiting.clear()
        worker._intake.take([], bench.clock.time(), lambda: False)
        return len(worker._intake.waiting)

    with bench.hold:
        bench.hold.store.write(lambda tx: pools.change(tx, "default", {"running_max": 5}))
        for _ in range(10):
            bench.submit()
        one = bench.worker
        bench.boot()
        assert [taken(one, 2), taken(bench.worker, 2), taken(one, 2)] == [2, 2, 1]
        assert one._intake.more
        assert taken(one, 1) == 0
        assert one._intake.crowded


@pytest.mark.parametrize("told", [True, False])
def test_who_had_room_for_more_than_the_pools_limit_let_it_take_looks_again(tmp_path: Path, told: bool) -> None:
    bench = Bench(tmp_path, hf.linear("one", step("a")))
    with bench.hold:
        intake = bench.worker._intake

        def take() -> int:
            intake.waiting.clear()
            intake.told = told
            intake.take([], bench.clock.time(), lambda: False)
            return len(intake.waiting)

        bench.submit()
        assert (take(), intake.more) == (1, False)
        bench.hold.store.write(lambda tx: pools.change(tx, "default", {"running_max": 5}))
        for _ in range(10):
            bench.submit()
        assert (take(), intake.more) == (4, True)
        intake.told = False
        assert (take(), intake.crowded) == (0, True)


def test_of_a_taking_that_finds_nothing_nobody_is_told(bench: Bench) -> None:
    bench.submit()
    bench.settle()
    changes = bench.hold.store.changes()
    commits: list[float] = []
    bench.hold.store.time_commits(commits.append)
    bench.settle()
    assert len(commits) == 1
    assert bench.hold.store.changes() == changes
