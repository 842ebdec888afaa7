"""One bad task hurts no other: it kills its worker, returns what nobody can keep, floods, or never ends."""

from __future__ import annotations

import os
import signal

import pytest

import holdfast as hf
from holdfast.local import Holdfast, Task
from tests.postgresql import ON_POSTGRESQL, size_of
from tests.worker import flows
from tests.worker.house import House, is_there, until

pytestmark = pytest.mark.requirement("G10")
DEATHS_MAX = 3


def innocents(hold: Holdfast, house: House, count: int = 5) -> list[Task]:
    return [hold.submit(flows.innocent, {"at": house.at}) for _ in range(count)]


def until_it_rests(house: House, task: Task) -> int:
    """Start workers, one after another as they die, until the task rests. How many died."""
    for died in range(DEATHS_MAX + 1):
        worker = house.worker(deaths_max=DEATHS_MAX)
        until(lambda: worker.process.poll() is not None or task.state == "SUSPENDED")  # noqa: B023 it is asked here
        if task.state == "SUSPENDED":
            assert worker.leave() == 0
            return died
        assert worker.end() == -signal.SIGKILL
    raise AssertionError(f"{task} took {DEATHS_MAX + 1} workers with it")


@pytest.mark.requirement("P12")
class TestOneThatKillsItsWorker:
    def test_it_rests_as_poison_and_all_others_are_done(self, house: House) -> None:
        hold = house.open()
        task = hold.submit(flows.killing, {"at": house.at})
        others = innocents(hold, house)
        died = until_it_rests(house, task)
        assert (task.state, task.reason) == ("SUSPENDED", "poison")
        assert [other.wait(60).state for other in others] == ["SUCCEEDED"] * len(others)
        assert died == 1, "after the first death it runs in a process of its own, and dies alone"
        assert house.said().count("deadly") == DEATHS_MAX
        assert house.said().count("first") == 1
        # The mended step is all that is left.
        house.turn("mended")
        task.resume({"killing/deadly": "rerun"})
        hold.work(until_idle=True)
        assert task.state == "SUCCEEDED"
        assert house.said()[-2:] == ["deadly", "last"]

    def test_in_a_revert(self, house: House) -> None:
        hold = house.open()
        house.turn("last_fails")
        task = hold.submit(flows.killing_back, {"at": house.at}, claims=["node/1"])
        others = innocents(hold, house)
        until_it_rests(house, task)
        assert (task.state, task.reason, task.view()["direction"]) == ("SUSPENDED", "poison", "back")
        assert [other.wait(60).state for other in others] == ["SUCCEEDED"] * len(others)
        assert house.said().count("deadly_undo") == DEATHS_MAX
        waiting = hold.submit(flows.innocent, {"at": house.at}, claims=["node/1"])
        assert waiting.view()["blocked_by"] == [task.id], "it rests with its claims"
        house.turn("mended")
        task.resume({"killing_back/deadly_undo_of": "rerun"})
        hold.work(until_idle=True)
        assert (task.state, waiting.state) == ("FAILED", "SUCCEEDED")
        assert task.view()["revert"] == "done"

    @pytest.mark.parametrize("word", ["done", "rerun", "undo", "skip"])
    def test_a_process_step_that_leaves(self, house: House, word: str) -> None:
        hold = house.open(deaths_max=2)
        task = hold.submit(flows.leaving_flow, {"at": house.at})
        others = innocents(hold, house)
        hold.work(until_idle=True)
        assert (task.state, task.reason) == ("SUSPENDED", "poison")
        assert [other.state for other in others] == ["SUCCEEDED"] * len(others)
        assert house.said().count("leaving") == 2
        house.turn("mended")
        task.resume({"leaving_flow/leaving": word})
        hold.work(until_idle=True)
        left = house.said()[house.said().index("leaving") :]
        told = [what for what in left if what not in ("leaving", "quick")]
        assert told == (["unleaving", "unfirst"] if word == "undo" else ["last"])
        assert left.count("leaving") == (3 if word == "rerun" else 2)
        assert task.state == ("FAILED" if word == "undo" else "SUCCEEDED")


@pytest.mark.parametrize("flow", [flows.vast, flows.vast_apart], ids=["thread", "process"])
def test_200_mb_are_refused_and_their_step_undone(house: House, flow: hf.Flow) -> None:
    hold = house.open()
    task = hold.submit(flow, {"at": house.at})
    others = innocents(hold, house)
    hold.work(until_idle=True)
    assert task.state == "FAILED"
    assert task.failure is not None
    assert task.failure.types[0].endswith("ValueTooLarge")
    assert f"{flow.name}/much" in task.failure.summary
    assert [what for what in house.said() if what != "quick"] == ["first", "much", "unmuch", "unfirst"]
    assert [other.state for other in others] == ["SUCCEEDED"] * len(others)
    assert size_of(hold.url) < (15_000_000 if ON_POSTGRESQL else 10_000_000)  # PostgreSQL's first 8 are its own


def test_a_flood_of_progress_is_a_few_writes(house: House) -> None:
    hold = house.open(progress_interval_s=3600.0)
    task = hold.submit(flows.flooding, {"at": house.at})
    with hold.working():
        house.until_said("first")
        commits: list[frozenset[int]] = []
        hold.store.subscribe(commits.append)
        house.until_said("flooded")
        others = innocents(hold, house)
        assert [other.wait(60).state for other in others] == ["SUCCEEDED"] * len(others)
        assert task.state == "RUNNING"
        house.turn("go")
        assert task.wait(60).state == "SUCCEEDED"
    assert len([touched for touched in commits if not touched or task._id in touched]) < 60
    assert len(hold.store.journal(task._id)) < 12, "progress is no journal row"


def test_one_that_never_ends(house: House) -> None:
    hold = house.open()
    endless = hold.submit(flows.unhearing, {"at": house.at})
    with hold.working():
        house.until_said("deaf")
        others = innocents(hold, house)
        assert [other.wait(60).state for other in others] == ["SUCCEEDED"] * len(others)
        assert endless.state == "RUNNING"
        house.turn("go")
        assert endless.wait(60).state == "SUCCEEDED"


def test_one_that_outlives_its_time_and_every_request_rests_with_what_it_did(house: House) -> None:
    hold = house.open()
    endless = hold.submit(flows.unhearing_timed, {"at": house.at})
    with hold.working():
        house.until_said("deaf")
        others = innocents(hold, house)
        assert [other.wait(60).state for other in others] == ["SUCCEEDED"] * len(others)
        endless.wait(60)
        assert (endless.state, endless.reason) == ("SUSPENDED", "step_unresponsive")
        assert "unfirst" not in house.said(), "nothing is undone beside what may still run"
        house.turn("go")
        house.until_said("deaf ends")
        endless.resume({"unhearing_timed/deaf": "undo"})
        assert endless.wait(60).state == "FAILED"
    assert [what for what in house.said() if what != "quick"] == ["first", "deaf", "deaf ends", "undeaf", "unfirst"]


def test_a_step_in_a_process_takes_no_other_down(house: House) -> None:
    """Two tasks in processes side by side: one is killed from outside, the other does not notice."""
    hold = house.open()
    both = [hold.submit(flows.in_process, {"at": house.at}) for _ in range(2)]
    with hold.working():
        one, other = house.until_said("napping", 1), house.until_said("napping", 2)
        os.kill(one.pid, signal.SIGKILL)
        again = house.until_said("napping", 3)
        assert is_there(other.pid)
        assert again.pid not in (one.pid, other.pid)
        for task in both:
            assert task.abort().wait(60).state == "ABORTED"
