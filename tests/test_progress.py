"""Progress: exact by weight, never back within an attempt, and said by the step that runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import holdfast as hf
from holdfast.clock import Clock
from holdfast.core.progress import progress
from holdfast.core.state import State
from holdfast.core.states import FINAL
from holdfast.flow.compile import compile
from holdfast.local import Holdfast, Task
from holdfast.local import open as open_database
from holdfast.runtime.choice import Runtimes
from holdfast.runtime.drive import Drive
from tests.doing import Told
from tests.postgresql import database_at

pytestmark = pytest.mark.requirement("IRONIC-17")


class Gate:
    """The steps stop at their gate until the test has looked."""

    def __init__(self) -> None:
        self._here = threading.Semaphore(0)
        self._pass = threading.Semaphore(0)

    def stop(self) -> None:
        self._here.release()
        assert self._pass.acquire(timeout=60)

    def look(self) -> None:
        """Wait until a step stands at the gate."""
        assert self._here.acquire(timeout=60)

    def open(self) -> None:
        self._pass.release()


@pytest.fixture
def gate() -> Gate:
    return Gate()


@contextmanager
def working(tmp_path: Path, flow: hf.Flow, **settings: Any) -> Iterator[Holdfast]:
    with open_database(database_at(tmp_path / "tasks.db"), flows=[flow], **settings) as hold, hold.working():
        yield hold


def percent(task: Task) -> int:
    return int(task.view()["progress"]["percent"])


def weighted(gate: Gate, name: str, weight: int) -> hf.Step:
    return hf.step(gate.stop, name=name, weight=weight)


def test_it_is_the_weight_that_is_done(tmp_path: Path, gate: Gate) -> None:
    flow = hf.linear("flow", *(weighted(gate, name, weight) for name, weight in (("a", 1), ("b", 5), ("c", 4))))
    seen = []
    with working(tmp_path, flow) as hold:
        task = hold.submit(flow)
        assert percent(task) == 0
        for _ in range(3):
            gate.look()
            view = task.view()["progress"]
            seen.append((view["percent"], view["completed"], view["total"], view["step"]))
            gate.open()
        task.wait(60)
        assert percent(task) == 100
    assert seen == [(0, 0, 3, "flow/a"), (10, 1, 3, "flow/b"), (60, 2, 3, "flow/c")]


def fractions(flow: hf.Flow, inputs: dict[str, object] | None = None) -> list[Fraction]:
    """The exact fraction after each move of a run."""
    runtimes = Runtimes("inline")
    drive = Drive(State(compile(flow), dict(inputs or {})), task_id="t", runtimes=runtimes, clock=Clock(), slots=1)
    found = []
    while drive.state.phase not in FINAL:
        _, decisions = drive.advance(0.0)
        found.append(progress(drive.state).fraction)
        drive.accepted(decisions)
        found.append(progress(drive.state).fraction)
    runtimes.close()
    return found


@pytest.mark.parametrize("parts", [3, 7, 11, 97])
def test_shares_that_no_float_can_write_add_up_to_one_exactly(parts: int) -> None:
    def visit(item: int) -> None:
        del item

    flow = hf.linear("flow", hf.map("each", visit, over="items", item="item"), hf.step(lambda: None, name="after"))
    seen = fractions(flow, {"items": list(range(parts))})
    steps = sorted(set(seen))
    assert seen == sorted(seen), "never back"
    assert steps == [Fraction(done, 2 * parts) for done in range(parts + 1)] + [Fraction(1)]


def test_a_map_in_a_map_shares_its_share() -> None:
    def visit(item: int) -> None:
        del item

    inner = hf.map("inner", visit, over="row", item="item")
    flow = hf.linear("flow", hf.map("outer", inner, over="rows", item="row"))
    seen = fractions(flow, {"rows": [[1], [1, 2], [1, 2, 3]]})
    assert seen == sorted(seen)
    assert seen[-1] == 1
    assert {Fraction(1, 3), Fraction(2, 3)} <= set(seen)
    assert Fraction(2, 3) + Fraction(1, 9) in seen


def test_skipped_steps_count_as_done() -> None:
    flow = hf.graph("flow", *(hf.step(lambda: None, name=name) for name in "abc"))
    flow.link("a", "b", when=lambda: False).link("a", "c")
    assert fractions(flow)[-1] == 1


def test_what_a_step_says_counts_by_its_weight_and_never_goes_back(tmp_path: Path, gate: Gate) -> None:
    @hf.step(weight=4)
    def long(ctx: hf.Context) -> None:
        for fraction, message in ((0.25, "a quarter"), (0.75, "nearly"), (0.5, "wrong way")):
            ctx.progress(fraction, message)
            gate.stop()

    flow = hf.linear("flow", hf.step(lambda: None, name="before"), long)
    seen = []
    with working(tmp_path, flow, progress_interval_s=0.0) as hold:
        task = hold.submit(flow)
        for message in ("a quarter", "nearly", "wrong way"):
            gate.look()
            while (view := task.view()["progress"])["message"] != message:
                hold.store.wait(hold.store.changes(), 0.05)
            seen.append((view["percent"], view["step"]))
            assert view["updated_at"] is not None
            gate.open()
        assert task.wait(60).state == "SUCCEEDED"
        assert percent(task) == 100
    assert seen == [(40, "flow/long"), (80, "flow/long"), (80, "flow/long")]


def test_seen_from_outside_it_only_grows(tmp_path: Path, told: Told) -> None:
    """Many steps side by side that say how far they are, watched at every commit."""

    def work(ctx: hf.Context) -> None:
        for part in range(5):
            ctx.progress(part / 5, f"part {part}")
            ctx.sleep(0.001)

    flow = hf.unordered("flow", *(hf.step(work, name=f"s{number}", weight=number + 1) for number in range(12)))
    with working(tmp_path, flow, progress_interval_s=0.0) as hold:
        task = hold.submit(flow)
        seen = [0]
        while task.state not in ("SUCCEEDED", "FAILED"):
            at = hold.store.changes()
            seen.append(percent(task))
            hold.store.wait(at, 0.05)
        seen.append(percent(task))
    assert seen == sorted(seen)
    assert seen[-1] == 100


@pytest.mark.requirement("TF-7")
def test_who_listens_hears_every_event_once_and_in_order(tmp_path: Path) -> None:
    """Two listeners on other connections, one of which goes away and comes back: both have the whole story."""
    flow = hf.linear("flow", *(hf.step(lambda: None, name=f"s{number}") for number in range(40)))
    url = database_at(tmp_path / "tasks.db")
    heard: dict[str, list[int]] = {"steady": [], "fickle": []}
    ended: dict[str, str] = {}

    def listen(name: str, task: str) -> None:
        after, state = 0, ""
        while state != "SUCCEEDED":
            with open_database(url) as hold:
                found = hold.task(task)
                while state != "SUCCEEDED":
                    seen = hold.store.changes()
                    state = found.state  # asked first: the journal that is read next has its end
                    rows = hold.store.journal(found._id, after)
                    heard[name].extend(row.seq for row in rows)
                    after = heard[name][-1] if heard[name] else 0
                    if name == "fickle" and rows:
                        break  # and back again
                    hold.store.wait(seen, 0.05)
        ended[name] = state

    with open_database(url, flows=[flow]) as hold:
        task = hold.submit(flow)
        listeners = [threading.Thread(target=listen, args=(name, task.id)) for name in heard]
        for listener in listeners:
            listener.start()
        hold.work(until_idle=True)
        for listener in listeners:
            listener.join(60)
        story = [row.seq for row in hold.store.journal(task._id)]
    assert ended == {"steady": "SUCCEEDED", "fickle": "SUCCEEDED"}
    assert heard == {"steady": story, "fickle": story}
    assert story == list(range(1, len(story) + 1))
