"""The rows of `steps` lag behind the journal, and nobody who reads them can tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import bindparam, func, select

import holdfast as hf
from holdfast.errors import HoldfastError, StoreBusy
from holdfast.local import Task
from holdfast.store.base import StepRow
from holdfast.store.schema import steps, tasks
from holdfast.tasks import query
from holdfast.worker import showing
from tests.core.scripted import step
from tests.worker.scripted import Bench

SEEDS = 40
ACTIONS = 25
COUNT = select(func.count()).select_from(steps).where(steps.c.task == bindparam("_task"))
BEHIND = select(tasks.c.seq - tasks.c.steps_seq).where(tasks.c.id == bindparam("_task"))


class Twins:
    """Two workers under one script, each with a database of its own: one writes the rows with every append, the other
    as late as it may."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch, make: Callable[[], Any]) -> None:
        self._patch = patch
        self.benches: list[Bench] = []
        for name in ("eager", "late"):
            (directory / name).mkdir()
            self.benches.append(Bench(directory / name, make()))
        self.tasks: list[Task] = []
        self.tasks = self.each(Bench.submit)
        self.each(Bench.settle)

    def each(self, act: Callable[[Bench], Any]) -> list[Any]:
        found = []
        for bench, pending_max in zip(self.benches, (0, 64), strict=True):
            self._patch.setattr(showing, "PENDING_MAX", pending_max)
            found.append(act(bench))
        if self.tasks:
            self.compare()
        return found

    def compare(self) -> None:
        eager, late = (self._seen(bench, task) for bench, task in zip(self.benches, self.tasks, strict=True))
        assert late == eager

    def _seen(self, bench: Bench, task: Task) -> tuple[Any, ...]:
        view = task.view()
        latest = bench.hold.store.read(lambda tx: query.latest_steps(tx, task._id, 2))
        assert latest == task.steps[::-1][:2]
        return task.steps, bench.words(task), task.state, view["effect"], view["revert"], view["progress"]["percent"]

    def verb(self, name: str, *arguments: Any) -> None:
        for task in self.tasks:
            try:
                getattr(task, name)(*arguments)
            except HoldfastError:
                pass  # both refuse it, or what is compared differs
        self.compare()

    @property
    def late(self) -> list[StepRow]:
        return self.tasks[1].steps

    def number(self, statement: Any) -> int:
        """Of the one that writes late."""
        task = self.tasks[1]._id
        return int(self.benches[1].hold.store.read(lambda tx: tx.execute(statement, {"_task": task}).scalar()))

    def close(self) -> None:
        for bench in self.benches:
            bench.hold.close()


@pytest.fixture
def twins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Twins]:
    made = Twins(tmp_path, monkeypatch, lambda: hf.linear("f", *(step(name) for name in "abcde")))
    yield made
    made.close()


def states(rows: list[StepRow]) -> dict[str, str]:
    return {row.node.rpartition("/")[2]: row.state for row in rows}


def test_steps_that_only_succeed_and_begin_are_shown_without_rows(twins: Twins) -> None:
    before = twins.number(COUNT)
    for name in "abc":
        twins.each(lambda bench, name=name: bench.end(name))  # type: ignore[misc]
    assert twins.number(COUNT) == before  # nothing was written
    assert twins.number(BEHIND) > 0
    assert states(twins.late) == {"a": "SUCCEEDED", "b": "SUCCEEDED", "c": "SUCCEEDED", "d": "RUNNING"}
    assert [row.ord for row in twins.late] == [0, 1, 2, 3]
    done = twins.late[2]
    assert (done.attempt, done.ended_at, done.progress) == (1, twins.benches[1].clock.now, 1.0)
    for name in "de":
        twins.each(lambda bench, name=name: bench.end(name))  # type: ignore[misc]
    assert (twins.number(COUNT), twins.number(BEHIND)) == (5, 0)  # the end brings them all


def test_the_rows_are_written_when_enough_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"s{number}" for number in range(2 * showing.PENDING_MAX + 8)]
    twins = Twins(tmp_path, monkeypatch, lambda: hf.linear("f", *map(step, names)))
    most = 0
    for name in names[:-1]:
        twins.each(lambda bench, name=name: bench.end(name))  # type: ignore[misc]
        most = max(most, twins.number(BEHIND))
    assert twins.number(COUNT) > 2 * showing.PENDING_MAX - 2
    assert showing.PENDING_MAX < most <= 2 * (showing.PENDING_MAX + 1)
    twins.close()


def test_who_takes_over_goes_on_with_what_waited(twins: Twins) -> None:
    for name in "ab":
        twins.each(lambda bench, name=name: bench.end(name))  # type: ignore[misc]
    assert twins.number(BEHIND) > 0
    twins.each(Bench.crash)
    assert twins.number(BEHIND) == 0  # that a worker has died is more than a success
    twins.each(lambda bench: bench.end("c"))
    assert states(twins.late) == {"a": "SUCCEEDED", "b": "SUCCEEDED", "c": "SUCCEEDED", "d": "RUNNING"}


def test_who_takes_a_task_that_only_waited_has_its_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows are rebuilt from the journal where nothing but time has passed."""
    twins = Twins(tmp_path, monkeypatch, lambda: hf.linear("f", step("a"), step("b"), step("c")))
    twins.each(lambda bench: bench.end("a"))
    twins.each(lambda bench: bench.end("b", what=hf.Again(60)))
    twins.each(Bench.crash)
    twins.each(lambda bench: bench.later(61))
    twins.each(lambda bench: bench.end("b"))
    assert states(twins.late) == {"a": "SUCCEEDED", "b": "SUCCEEDED", "c": "RUNNING"}
    twins.close()


@pytest.mark.parametrize("verb", ["force_fail", "abort", "cancel"])
def test_a_verb_over_the_workers_head_finds_the_steps(twins: Twins, verb: str) -> None:
    for name in "ab":
        twins.each(lambda bench, name=name: bench.end(name))  # type: ignore[misc]
    assert twins.number(BEHIND) > 0
    twins.verb(verb, *(("the rack is gone",) if verb == "force_fail" else ()))
    if verb == "force_fail":
        assert states(twins.late) == {"a": "SUCCEEDED", "b": "SUCCEEDED", "c": "ABORTED"}
        assert twins.tasks[1].view()["effect"] == "unknown"
    twins.each(Bench.settle)


def test_progress_of_a_step_without_a_row(twins: Twins) -> None:
    twins.each(lambda bench: bench.end("a"))
    assert twins.number(COUNT) == 0

    def say(bench: Bench) -> None:
        call = bench.call("b")
        call.host.progress(call, 0.5, "half of it")
        bench.later(1)

    twins.each(say)
    assert (twins.late[1].progress, twins.late[1].message) == (0.5, "half of it")
    twins.each(lambda bench: bench.end("b"))
    assert (twins.late[1].progress, twins.late[1].message) == (1.0, None)
    assert states(twins.late)["c"] == "RUNNING"


def test_a_refused_append_leaves_no_step_that_never_began(twins: Twins) -> None:
    """A verb lies between: the success is kept, the next start is not."""
    twins.each(lambda bench: bench.end("a"))
    twins.verb("suspend")
    twins.each(lambda bench: quietly(bench, "b", "returned", 1))
    assert states(twins.late) == {"a": "SUCCEEDED", "b": "SUCCEEDED"}
    twins.each(Bench.settle)
    twins.verb("resume")
    twins.each(Bench.settle)
    assert states(twins.late) == {"a": "SUCCEEDED", "b": "SUCCEEDED", "c": "RUNNING"}
    assert all(row.ended_at for row in twins.late[:2])


def test_a_lost_append_is_shown_when_it_is_said_again(twins: Twins) -> None:
    for name in "ab":
        twins.each(lambda bench, name=name: bench.end(name))  # type: ignore[misc]
    assert twins.number(BEHIND) > 0
    stores: list[Any] = [bench.hold.store for bench in twins.benches]
    for store in stores:
        store.append = refuse
    for bench in twins.benches:
        with pytest.raises(StoreBusy):
            bench.end("c", what=hf.Again(60))
    for store in stores:
        del store.append
    twins.each(Bench.settle)
    assert states(twins.late) == {"a": "SUCCEEDED", "b": "SUCCEEDED", "c": "WAITING"}
    assert all(row.ended_at for row in twins.late[:2])


def refuse(batch: Any, _: Any) -> Any:
    raise StoreBusy("another process writes")


def test_a_step_that_was_stopped_begins_again_in_its_own_row(twins: Twins) -> None:
    twins.each(lambda bench: bench.end("a"))
    twins.verb("suspend")
    twins.each(Bench.settle)
    twins.each(lambda bench: bench.end("b", "stopped", "suspend"))
    twins.verb("resume")
    twins.each(Bench.settle)
    twins.each(lambda bench: bench.end("b"))
    assert [(row.ord, row.state) for row in twins.late] == [(0, "SUCCEEDED"), (1, "SUCCEEDED"), (2, "RUNNING")]


def quietly(bench: Bench, name: str, how: str, what: Any) -> None:
    """End a step while the worker has not heard of what was asked meanwhile."""
    bench.runtime.end(bench.call(name), how, what)
    bench.worker.turn(bench.clock.time())


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_walk_shows_the_same_with_every_append(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = Random(seed)
    shape = chance.choice([nested, patient])
    twins = Twins(tmp_path, monkeypatch, shape)
    for _ in range(ACTIONS):
        walk(twins, chance)
    assert [row.ord for row in twins.late] == list(range(len(twins.late)))
    twins.close()


def nested() -> Any:
    return hf.linear("f", step("a"), hf.unordered("g", step("b"), step("c"), step("d")), step("e"), step("h"))


def patient() -> Any:
    again = hf.Retry(attempts=3, backoff_s=1.0)
    inner = hf.linear("g", step("b"), step("c", retry=again), retry=hf.Retry(attempts=2, backoff_s=1.0))
    return hf.linear("f", step("a", retry=again), inner, step("d"), step("e"), step("h"))


def walk(twins: Twins, chance: Random) -> None:
    """One action, the same for both."""
    running = twins.benches[0].running()
    assert running == twins.benches[1].running()
    action = chance.choice(["end"] * 12 + ["quiet", "say", "verb", "crash", "later"])
    if action in ("end", "quiet", "say") and running:
        name = chance.choice(running)
        how, what = chance.choice([("returned", 1)] * 6 + [("raised", OSError("no")), ("returned", hf.Again(1.0))])
        asked = twins.benches[0].call(name).stop_reason
        if asked is not None and chance.random() < 0.5:
            how, what = "stopped", asked
        if action == "say":
            fraction = chance.random()
            twins.each(lambda bench: say_then_later(bench, name, fraction))
        elif action == "quiet":
            twins.verb(chance.choice(["suspend", "resume", "cancel"]))
            twins.each(lambda bench: quietly(bench, name, how, what))
        else:
            twins.each(lambda bench: bench.end(name, how, what))
    elif action == "verb":
        name = chance.choice(["suspend", "suspend", "resume", "resume", "resume", "cancel", "rollback", "abort"])
        twins.verb(name)
        twins.each(Bench.settle)
    elif action == "crash":
        twins.each(Bench.crash)
    else:
        twins.each(lambda bench: bench.later(2))


def say_then_later(bench: Bench, name: str, fraction: float) -> None:
    call = bench.call(name)
    call.host.progress(call, fraction, "on its way")
    bench.later(1)
