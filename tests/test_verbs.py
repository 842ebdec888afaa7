"""Verbs on running tasks, through the library's front door, on a real file."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import holdfast as hf
from holdfast.errors import PastPivot, VerbRefused
from holdfast.local import Holdfast
from holdfast.local import open as open_database
from tests.postgresql import database_at

began = threading.Event()
go_on = threading.Event()
count: Counter[str] = Counter()
guard = threading.Lock()


def mark(what: str) -> None:
    with guard:
        count[what] += 1


@hf.step(provides="first")
def first(ctx: hf.Context) -> int:
    mark("first")
    return 1


@first.revert
def undo_first(first: int | None = None) -> None:
    mark("undo first")


@hf.step
def long(ctx: hf.Context) -> None:
    mark("long")
    began.set()
    ctx.sleep(3600)


@long.revert
def undo_long() -> None:
    mark("undo long")


@hf.step
async def long_async(ctx: hf.AsyncContext) -> None:
    mark("long")
    began.set()
    await ctx.sleep(3600)


@long_async.revert
def undo_long_async() -> None:
    mark("undo long")


@hf.step
def gated() -> None:
    mark("gated")
    began.set()
    go_on.wait()


@hf.step
def last() -> None:
    mark("last")


@hf.step(pivot=True)
def commit() -> None:
    mark("commit")


def backlog(index: int) -> hf.Step:
    def work() -> None:
        mark(f"work{index}")
        if index < 2:
            began.set()
            go_on.wait()

    return hf.step(work, name=f"work{index}")


napping = hf.linear("napping", first, long, last)
napping_async = hf.linear("napping_async", first, long_async, last)
gate = hf.linear("gate", first, gated, last)
committed = hf.linear("committed", first, commit, long)
quick = hf.linear("quick", first, last)
pooled = hf.linear("pooled", last.with_options(pool="slow"))
torn = hf.linear("torn", last.with_options(pool="slow"), first.with_options(pool="other"))
wide = hf.unordered("wide", *(backlog(index) for index in range(8)))


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    began.clear()
    go_on.clear()
    count.clear()
    yield
    go_on.set()


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Holdfast]:
    with open_database(database_at(tmp_path / "tasks.db")) as opened, opened.working():
        yield opened


def started(hold: Holdfast, flow: hf.Flow) -> object:
    task = hold.submit(flow)
    assert began.wait(30)
    return task


@pytest.mark.requirement("IRONIC-1")
@pytest.mark.parametrize("flow", [napping, napping_async], ids=["thread", "async"])
class TestReachingRunningCode:
    """The stop arrives though nobody ends the sleep of an hour."""

    def test_cancel(self, hold: Holdfast, flow: hf.Flow) -> None:
        task = hold.submit(flow)
        assert began.wait(30)
        task.cancel().wait(30)
        assert task.state == "CANCELLED"
        assert count == {"first": 1, "long": 1, "undo long": 1, "undo first": 1}
        assert task.view()["revert"] == "done"
        assert task.cancel().state == "CANCELLED"

    def test_cancel_without_undo(self, hold: Holdfast, flow: hf.Flow) -> None:
        task = hold.submit(flow)
        assert began.wait(30)
        task.cancel(revert=False).wait(30)
        assert task.state == "CANCELLED"
        assert count == {"first": 1, "long": 1}
        assert task.view()["effect"] == "partial"

    def test_abort(self, hold: Holdfast, flow: hf.Flow) -> None:
        task = hold.submit(flow)
        assert began.wait(30)
        task.abort().wait(30)
        assert task.state == "ABORTED"
        assert count == {"first": 1, "long": 1}
        assert task.view()["effect"] == "unknown"

    def test_suspend_and_resume(self, hold: Holdfast, flow: hf.Flow) -> None:
        task = hold.submit(flow)
        assert began.wait(30)
        task.suspend().wait(30)
        assert (task.state, task.reason) == ("SUSPENDED", "asked")
        began.clear()
        task.resume()
        assert began.wait(30)
        assert count == {"first": 1, "long": 2}  # only what was in flight is entered again
        task.rollback().wait(30)
        assert task.state == "REVERTED"
        assert count["undo long"] == count["undo first"] == 1

    def test_rollback(self, hold: Holdfast, flow: hf.Flow) -> None:
        task = hold.submit(flow)
        assert began.wait(30)
        task.rollback().wait(30)
        assert task.state == "REVERTED"
        assert count == {"first": 1, "long": 1, "undo long": 1, "undo first": 1}


def test_cancelled_is_not_said_while_the_code_runs(hold: Holdfast) -> None:
    task = hold.submit(gate)
    assert began.wait(30)
    task.cancel()
    assert task.state == "CANCELLING"
    go_on.set()
    task.wait(30)
    assert task.state == "CANCELLED"
    assert count == {"first": 1, "gated": 1, "undo first": 1}


@pytest.mark.requirement("NOVA-13")
def test_a_suspended_task_survives_everything_and_goes_on_where_it_was(tmp_path: Path) -> None:
    url = database_at(tmp_path / "tasks.db")
    with open_database(url) as hold, hold.working():
        task = hold.submit(gate)
        assert began.wait(30)
        task.suspend()
        go_on.set()
        assert task.wait(30).state == "SUSPENDED"
    with open_database(url) as hold:
        again = hold.task(task.id)
        assert again.state == "SUSPENDED"
        again.resume()
        hold.work(until_idle=True)
        assert again.state == "SUCCEEDED"
    assert count == {"first": 1, "gated": 1, "last": 1}


def test_suspend_with_a_backlog_keeps_finished_steps_finished(tmp_path: Path) -> None:
    """TaskFlow runs them again (anchors/TASKFLOW.md §4.1)."""
    with open_database(database_at(tmp_path / "tasks.db"), workers_max=2) as hold, hold.working():
        task = hold.submit(wide)
        assert began.wait(30)
        task.suspend()
        go_on.set()
        assert task.wait(30).state == "SUSPENDED"
        done = {step.node: step.state for step in task.steps}
        assert "SUCCEEDED" in done.values()
        task.resume().wait(30)
        assert task.state == "SUCCEEDED"
    assert count == {f"work{index}": 1 for index in range(8)}


def test_past_the_pivot_only_a_cancel_without_undo_is_left(hold: Holdfast) -> None:
    task = hold.submit(committed)
    assert began.wait(30)
    for verb in (task.cancel, task.rollback):
        with pytest.raises(PastPivot):
            verb()
    task.cancel(revert=False).wait(30)
    assert task.state == "CANCELLED"
    assert count == {"first": 1, "commit": 1, "long": 1}


def test_a_final_state_never_changes_and_says_what_is_allowed(hold: Holdfast) -> None:
    task = hold.submit(quick).wait(30)
    for verb in (task.cancel, task.abort, task.suspend, task.resume, task.retry):
        with pytest.raises(VerbRefused) as refusal:
            verb()
        assert refusal.value.details["allowed"] == ["rollback"]
    assert task.state == "SUCCEEDED"


def test_a_finished_task_is_rolled_back_by_a_new_one(hold: Holdfast) -> None:
    task = hold.submit(quick).wait(30)
    undoing = task.rollback().wait(30)
    assert undoing.id != task.id
    assert (task.state, undoing.state) == ("SUCCEEDED", "SUCCEEDED")
    assert count == {"first": 1, "last": 1, "undo first": 1}
    assert task.rollback().id == undoing.id  # one rollback, however often it is asked for


@pytest.mark.requirement("IRONIC-18")
@pytest.mark.timeout(300)
def test_abort_racing_the_end_has_one_winner_a_thousand_times(tmp_path: Path) -> None:
    won: Counter[str] = Counter()
    with open_database("sqlite:///:memory:") as hold, hold.working():
        for round_ in range(1000):
            task = hold.submit(quick)
            if round_ % 2:
                hold.store.wait(hold.store.changes(), 0.005)
            try:
                task.abort()
                said = "ABORTED"
            except VerbRefused:
                said = "SUCCEEDED"
            assert task.wait(30).state == said
            ends = [row for row in hold.store.journal(task._id) if row.kind in ("ended", "abort_asked")]
            assert len(ends) <= 2
            won[said] += 1
    assert sum(won.values()) == 1000


def test_a_tasks_pool_is_what_its_steps_ask_for(hold: Holdfast) -> None:
    task = hold.submit(pooled)
    assert task.state == "PENDING"  # the worker here serves the default pool
    with pytest.raises(hf.HoldfastError, match="whole in one pool"):
        hold.submit(torn)
    with pytest.raises(hf.HoldfastError, match="whole in one pool"):
        hold.submit(pooled, pool="other")


def test_closing_waits_for_what_steps_have_said(tmp_path: Path) -> None:
    url = database_at(tmp_path / "tasks.db")
    hold = open_database(url)
    with hold.working():
        task = hold.submit(gate)
        assert began.wait(30)
        go_on.set()
        hold.close()
    with open_database(url) as again:
        states = {step.node: step.state for step in again.task(task.id).steps}
        assert states["gate/gated"] == "SUCCEEDED"
