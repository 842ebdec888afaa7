"""What the simulator has found, each as small as it can be told. The seed that found it is in its docstring; but what a
seed draws changes with the simulator, so here is the story itself."""

from __future__ import annotations

import gc
import sqlite3
from typing import Any

import pytest

import holdfast as hf
from holdfast.core import commands as c
from holdfast.core import events as e
from holdfast.core.decide import decide
from holdfast.core.failure import Failure
from holdfast.core.machine import apply
from holdfast.core.state import State
from holdfast.core.states import S_ABORTED
from holdfast.errors import LeaseLost, StoreBusy, TaskGone, VerbRefused
from holdfast.flow.compile import compile
from holdfast.settings import Settings
from holdfast.store.base import Appended, StepRow
from holdfast.store.schema import tasks
from holdfast.tasks import control, finish, lease, retention, row, submit, take
from holdfast.testing.clock import FakeClock
from holdfast.testing.simulation.disk import Disk, Line, Store
from holdfast.worker.lease import Lease
from holdfast.worker.load import load
from holdfast.worker.loop import Worker
from holdfast.worker.record import Recorder

DAY_S = 86_400.0


def ok() -> None: ...


def steps(*names: str, **options: Any) -> list[Any]:
    made = [hf.step(ok, name=name, **options) for name in names]
    for step in made:
        step.revert(ok)
    return made


def state_of(flow: hf.Flow, *events: e.Event) -> State:
    state = State(compile(flow), {})
    for event in events:
        apply(state, event)
    return state


# --- the core ----------------------------------------------------------------------------------------------------


def test_reverts_are_in_order_after_an_answer() -> None:
    """Seed 1191: the row that was answered for was taken out of the heap, and what was left was none."""
    state = state_of(hf.unordered("all", *steps("a", "b", "c")), e.Began(0.0))
    a, b, c_ = (state.row_of(f"all/{name}") for name in "abc")
    before: list[e.Event] = [e.Started(at, 1, None, 0.0) for at in (a, b, c_)]
    before += [e.Succeeded(at, None, 0.0) for at in (a, b, c_)]
    before += [e.CancelAsked(True, "", 0.0), e.Turned("CANCELLED", 0.0), e.RevertStarted(c_, 1, None, 0.0)]
    before += [e.TakenOver(2, 0.0, True), e.Rested("poison", (c_,), 0.0)]
    for event in (*before, e.ResumeAsked({"all/c": ("skip", None)}, "", 0.0)):
        apply(state, event)
    assert decide(state, 0.0, 4) == [c.Revert(b, False), c.Revert(a, False)]


def test_a_scope_that_fails_takes_over_the_undo_in_it_before_that_goes_on() -> None:
    """Seed 1122: the inner scope's revert and the outer scope's failure were decided at once, and contradicted each
    other in the journal."""
    again = hf.Retry(attempts=2)
    inner = hf.linear("inner", *steps("a", "b"), retry=again)
    state = state_of(hf.unordered("outer", inner, *steps("c"), retry=again), e.Began(0.0))
    a, b, c_, open_ = (state.row_of(f"outer/{name}") for name in ("inner/a", "inner/b", "c", "inner/(open)"))
    failed = Failure.of(ConnectionError("no"))
    for event in (
        e.Started(a, 1, None, 0.0),
        e.Started(c_, 1, None, 0.0),
        e.Succeeded(a, None, 0.0),
        e.Started(b, 1, None, 0.0),
        e.Failed(b, failed, 0.0),
        e.ScopeFailing(open_, 0.0),
        e.ScopeTurned(open_, 0.0),
        e.Failed(c_, failed, 0.0),
    ):
        apply(state, event)
    assert decide(state, 0.0, 4) == [c.FailScope(state.row_of("outer/(open)"))]


def test_a_deadline_behind_a_pivot_is_no_dead_end() -> None:
    """Seed 313: it rested as past_pivot for no step at all, again after every resume."""
    (pivot,) = steps("a", pivot=True)
    (last,) = steps("b")
    state = state_of(hf.linear("line", pivot, last), e.Began(0.0))
    at = state.row_of("line/a")
    for event in (e.Started(at, 1, None, 0.0), e.Succeeded(at, None, 0.0), e.DeadlineReached(9.0)):
        apply(state, event)
    assert decide(state, 9.0, 4) == [c.Start(state.row_of("line/b"), False)]


def test_what_runs_in_a_task_failed_by_force_was_aborted() -> None:
    """Seed 5: its rows said so, and its journal did not."""
    state = state_of(hf.linear("line", *steps("a", "b")), e.Began(0.0))
    at = state.row_of("line/a")
    apply(state, e.Started(at, 1, None, 0.0))
    apply(state, e.ForceFailed("", "", 1.0))
    assert state.st[at] == S_ABORTED


# --- what is shown of a journal ----------------------------------------------------------------------------------


def test_a_refused_start_takes_no_place_among_the_steps() -> None:
    """Seed 9: a step that never began had a row, and those that did had the numbers of others."""
    flow = hf.unordered("all", *steps("a", "b"))
    state = state_of(flow, e.Began(0.0))
    first, second = (state.row_of(f"all/{name}") for name in "ab")
    recorder = Recorder(state, 1)
    refused = [e.Started(first, 1, None, 0.0)]
    recorder.append("t", 1, [], refused, 0.0, None)
    recorder.appended(Appended(2, False), [], refused)
    append = recorder.append("t", 2, [], [e.Started(second, 1, None, 0.0)], 0.0, None)
    assert [(shown.ord, shown.node) for shown in append.steps_all] == [(0, "all/b")]


def polled(*seen: e.Event) -> list[int]:
    """What the next poll of the first step supersedes, of a journal with these events."""
    state = state_of(hf.linear("line", *steps("a", "b")))
    recorder = Recorder(state, 1)
    for seq, event in enumerate(seen, 1):
        apply(state, event)
        recorder.saw(seq, event)
    recorder.caught_up()
    at = state.row_of("line/a")
    return sorted(recorder.append("t", len(seen), [e.Parked(at, 2.0, None, None, 2, 1.0)], [], 1.0, None).folded)


def test_polls_fold_with_the_wait_between_them() -> None:
    """Seed 823: who read the journal of a dead worker folded `woke` and left `waited`, so the task waited again."""
    at = compile(hf.linear("line", *steps("a", "b"))).ids.index("line/a")
    began = (e.Began(0.0), e.Started(at, 1, None, 0.0), e.Parked(at, 1.0, None, None, 1, 0.0))
    assert polled(*began, e.Waited(0.0), e.Woke(1.0), e.Reentered(at, 1.0)) == [3, 4, 5, 6]
    assert polled(*began, e.Woke(1.0), e.Reentered(at, 1.0)) == [3, 5]


def test_an_entry_that_was_withdrawn_folds_with_its_poll() -> None:
    """Seed 193: it stayed behind without the entry that it withdrew, and the journal could not be read any more."""
    at = compile(hf.linear("line", *steps("a", "b"))).ids.index("line/a")
    began = (e.Began(0.0), e.Started(at, 1, None, 0.0), e.Parked(at, 1.0, None, None, 1, 0.0))
    entered = e.Reentered(at, 1.0)
    assert polled(*began, entered, e.Withdrawn(at, 1.0), entered) == [3, 4, 5, 6]


# --- tasks -------------------------------------------------------------------------------------------------------


class Desk:
    """A store on the simulator's disk, and tasks of one flow."""

    def __init__(self) -> None:
        self.disk = Disk()
        self.clock = FakeClock(threads=None)
        self.flow = hf.linear("line", *steps("a", "b"))
        self.line = Line(self.disk, "client")
        self.store = self.disk.store(self.line)

    def submit(self, **fields: Any) -> int:
        request = submit.Request(flow="line", reference="line@1", **fields)
        made = self.store.write(lambda tx: submit.submit(tx, request, self.clock.time(), self.clock.uuid7()))
        return made.task.id

    def row(self, task: int) -> row.TaskRow:
        return self.store.read(lambda tx: row.read(tx, task))

    def end(self, task: int, state: str) -> None:
        now, left = self.clock.time(), ("applied", "none")
        self.store.write(lambda tx: finish.ended(tx, task, state, now, retention_s=DAY_S, left=left))

    def rollback(self, task: int) -> int:
        now, uuid = self.clock.time(), self.clock.uuid7()
        answer = self.store.write(lambda tx: control.rollback(tx, task, now, actor="", uuid=uuid))
        return answer.task.id

    def purge(self) -> int:
        now = self.clock.time()
        return self.store.write(lambda tx: retention.purge(tx, now)).tasks

    def worker(self, line: Line) -> Worker:
        store: Store = self.disk.store(line)
        settings = Settings(lease_s=9.0, heartbeat_s=3.0)
        from holdfast.runtime.choice import Runtimes

        return Worker(
            store,
            Runtimes("inline"),
            clock=self.clock,
            settings=settings,
            flows=[self.flow],
            lease=Lease(store, self.clock, settings, "default", threaded=False),
        )


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_task_is_kept_while_its_rollback_needs_its_journal(desk: Desk) -> None:
    """Seed 150: it was purged under a rollback that rested, which could then never go on."""
    first = desk.submit()
    desk.end(first, "SUCCEEDED")
    undoing = desk.rollback(first)
    desk.clock.advance(2 * DAY_S)
    assert desk.purge() == 0
    desk.end(undoing, "SUCCEEDED")
    assert desk.purge() == 1


def test_a_rollback_is_kept_while_the_next_needs_its_journal(desk: Desk) -> None:
    first = desk.submit()
    desk.end(first, "SUCCEEDED")
    tried = desk.rollback(first)
    desk.end(tried, "FAILED")
    desk.rollback(first)
    desk.clock.advance(2 * DAY_S)
    assert desk.purge() == 0


def test_a_rollback_is_not_tried_again_without_what_it_undoes(desk: Desk) -> None:
    """Seed 63."""
    first = desk.submit()
    desk.end(first, "SUCCEEDED")
    undoing = desk.rollback(first)
    desk.clock.advance(DAY_S / 2)
    desk.end(undoing, "FAILED")
    desk.clock.advance(DAY_S * 3 / 4)
    assert desk.purge() == 1
    now, uuid = desk.clock.time(), desk.clock.uuid7()
    with pytest.raises(TaskGone):
        desk.store.write(lambda tx: control.retry(tx, undoing, now, actor="", uuid=uuid))


def test_a_rollback_that_runs_is_not_rolled_back(desk: Desk) -> None:
    """Seed 276: it was REVERTING then, a state in which it could not end."""
    first = desk.submit()
    desk.end(first, "SUCCEEDED")
    undoing = desk.rollback(first)
    changes = {"state": "RUNNING", "executed_at": desk.clock.time()}
    desk.store.write(lambda tx: tx.execute(tasks.update().where(tasks.c.id == undoing).values(**changes)))
    with pytest.raises(VerbRefused, match="it is a rollback itself"):
        desk.rollback(undoing)
    assert "rollback" not in control.supported_verbs(desk.row(undoing))


def test_what_has_ended_rests_for_nothing(desk: Desk) -> None:
    """Seed 0."""
    task, now = desk.submit(), desk.clock.time()
    desk.store.write(lambda tx: control.suspend(tx, task, now, actor=""))
    assert desk.row(task).reason == "asked"
    desk.store.write(lambda tx: control.force_fail(tx, task, now, actor="", reason=""))
    assert (desk.row(task).state, desk.row(task).reason) == ("FAILED", None)


def test_what_a_rollback_leaves_is_told_by_all_steps_of_what_it_undoes(desk: Desk) -> None:
    """Seed 128 (cluster): a step of the other had been cut off, so nobody knows what it has left; when the rollback was
    ended by force before it came to that step, its effect was shown as partial."""
    first = desk.submit()
    shown = [StepRow(0, "line/a", "SUCCEEDED", 1, 1.0, 2.0), StepRow(1, "line/b", "ABORTED", 1, 2.0, 3.0)]
    desk.store.write(lambda tx: tx.write_steps(first, shown))
    desk.end(first, "FAILED")
    undoing, now = desk.rollback(first), desk.clock.time()
    columns = {"state": "RUNNING", "executed_at": now}
    desk.store.write(lambda tx: tx.execute(tasks.update().where(tasks.c.id == undoing).values(**columns)))
    tried = StepRow(0, "line/a", "REVERT_FAILED", 1, 4.0, 5.0)
    desk.store.write(lambda tx: tx.write_steps(undoing, [tried]))
    desk.store.write(lambda tx: control.force_fail(tx, undoing, now, actor="", reason=""))
    row = desk.row(undoing)
    assert (row.state, row.effect, row.revert) == ("FAILED", "unknown", "failed")


def test_a_rollback_that_has_undone_nothing_has_not_failed_at_it(desk: Desk) -> None:
    """Seed 78 (cluster): what could not be undone before was shown as its own failure when it was ended by force."""
    first = desk.submit()
    desk.store.write(lambda tx: tx.write_steps(first, [StepRow(0, "line/a", "REVERT_FAILED", 1, 1.0, 2.0)]))
    desk.end(first, "FAILED")
    undoing, now = desk.rollback(first), desk.clock.time()
    columns = {"state": "RUNNING", "executed_at": now}
    desk.store.write(lambda tx: tx.execute(tasks.update().where(tasks.c.id == undoing).values(**columns)))
    desk.store.write(lambda tx: control.force_fail(tx, undoing, now, actor="", reason=""))
    row = desk.row(undoing)
    assert (row.state, row.effect, row.revert) == ("FAILED", "partial", "none")


# --- workers -----------------------------------------------------------------------------------------------------


def test_a_task_that_was_taken_and_could_not_be_read_is_begun_the_next_time(desk: Desk) -> None:
    """Seed 28: the database was busy between the two, and the task was the worker's for ever and never done."""
    task = desk.submit()
    line = Line(desk.disk, "worker")
    worker = desk.worker(line)

    def taken(_: Line) -> None:
        if desk.disk.real.execute("SELECT token FROM tasks").fetchone()[0] is not None:
            line.fuse, line.fault = 1, "busy"
            desk.disk.watch = None

    desk.disk.watch = taken
    with pytest.raises(StoreBusy):
        worker.turn(desk.clock.time())
    assert desk.row(task).worker_id == worker.lease.id
    while worker.turn(desk.clock.time()):
        pass
    assert desk.row(task).state == "SUCCEEDED"


def test_a_worker_that_lost_a_task_hears_nothing_of_its_successors(desk: Desk) -> None:
    """Seed 120: what the next worker had written was folded as if it were verbs, and took the worker down."""
    task = desk.submit()
    slow = desk.worker(Line(desk.disk, "slow"))
    slow.lease.register(desk.clock.time())
    now = desk.clock.time()
    (found,) = desk.store.write(
        lambda tx: take.take(tx, slow.lease.id, generation="g", nonce="n", now=now, limit=1, pool="default").tasks
    )
    slow._intake.waiting.append(found)
    slow._loader.load(now, 1)
    (held,) = slow.taken.values()
    desk.store.write(lambda tx: lease.mark_dead(tx, slow.lease.id, now))
    other = desk.worker(Line(desk.disk, "other"))
    while other.turn(desk.clock.time()):
        pass
    assert desk.row(task).state == "SUCCEEDED"
    with pytest.raises(LeaseLost):
        held.hear()
    assert held.drive.state.phase == "PENDING"


def test_a_rollback_has_the_keys_of_what_it_undoes(desk: Desk) -> None:
    """Seed 21."""
    first = desk.submit()
    desk.end(first, "SUCCEEDED")
    undoing = desk.row(desk.rollback(first))
    loaded = load(desk.store, undoing, flows=[desk.flow], deaths_max=3, unseal=None)
    assert loaded.keys_of == desk.row(first).uuid != undoing.uuid


# --- the simulator itself ----------------------------------------------------------------------------------------


def test_what_the_dead_have_used_is_not_collected_while_others_use_it() -> None:
    """Seed 221, once in some hundred thousand histories, and 213 with a thread that collects garbage all the time: the
    cursor of a dead worker reset the statement that another was executing, and a task was set aside for it."""
    disk = Disk()
    before = {id(cursor) for cursor in _cursors_of(disk)}
    disk.store(Line(disk, "dead"))
    gc.collect()
    assert {id(cursor) for cursor in _cursors_of(disk)} > before
    disk.wipe()
    gc.collect()
    assert not _cursors_of(disk)


def _cursors_of(disk: Disk) -> list[sqlite3.Cursor]:
    return [each for each in gc.get_referrers(disk.real) if isinstance(each, sqlite3.Cursor)]
