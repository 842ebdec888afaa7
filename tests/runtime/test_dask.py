"""Heavy steps on a real Dask cluster, its scheduler and workers in processes of their own: they are stopped, tell how
far they are, keep checkpoints, and a worker's death is their death, once; so is the loss of the whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from holdfast.local import Holdfast, Task
from holdfast.runtime import dask as dask_runtime
from tests.runtime import dask_steps
from tests.runtime.dask_cluster import SLOW
from tests.worker.house import House, is_there, until

pytestmark = pytest.mark.filterwarnings("ignore")  # what others' code says of others' code


class Cluster:
    """Two workers, with a place each."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.runtime.dask_cluster"], cwd=Path(__file__).parents[2], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()

    def client(self, **more: Any) -> Any:
        import dask
        import distributed

        there: Any = distributed
        with dask.config.set(SLOW):
            return there.Client(self.address, set_as_default=False, **more)

    def kill(self) -> None:
        """Its scheduler, whose end the workers follow."""
        self._process.kill()

    def end(self) -> None:
        self._process.communicate(timeout=60)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    made = Cluster()
    yield made
    made.end()


@pytest.fixture
def executor(cluster: Cluster) -> Iterator[Executor]:
    with cluster.client() as client:
        client.wait_for_workers(2, timeout=60)
        yield client.get_executor()


@pytest.fixture
def hold(tmp_path: Any) -> Iterator[tuple[House, Holdfast]]:
    house = House(tmp_path)
    yield house, house.open()
    house.close()


@contextmanager
def working(hold: Holdfast, executor: Executor) -> Iterator[None]:
    with hold.working(executor):
        yield


def killed_worker(house: House, what: str) -> int:
    """The worker of the cluster that is in the step is killed; which that was."""
    pid = house.until_said(what).pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: not is_there(pid))
    return pid


def test_a_step_runs_there_and_its_progress_and_checkpoints_come_here(
    hold: tuple[House, Holdfast], executor: Executor
) -> None:
    house, opened = hold
    task = opened.submit(dask_steps.add_up, {"at": house.at, "numbers": [1, 2, 3]})
    with working(opened, executor):
        assert task.wait(timeout_s=60).results == {"sum": 6}
    (line,) = house.lines()
    assert line.pid != os.getpid()
    kinds = [row.kind for row in opened.store.journal(task._id)]
    assert kinds.count("checkpointed") >= 1
    assert str(task.view()["progress"]["message"]).endswith(" of 3")  # of many, the latest is kept at its time


def test_a_failure_there_is_a_failure_here(hold: tuple[House, Holdfast], executor: Executor) -> None:
    house, opened = hold
    task = opened.submit(dask_steps.fail, {"at": house.at})
    with working(opened, executor):
        assert task.wait(timeout_s=60).state == "FAILED"
    assert task.failure is not None
    assert (task.failure.type, task.failure.message) == ("LookupError", "no such luck")


def test_cancel_stops_a_step_that_runs_there_and_one_that_waits_for_a_place(
    hold: tuple[House, Holdfast], executor: Executor
) -> None:
    house, opened = hold
    tasks = [opened.submit(dask_steps.sleep_long, {"at": house.at}) for _ in range(3)]  # there are two places
    with working(opened, executor):
        house.until_said("sleep_long", 2)
        until(lambda: all(task.state == "RUNNING" for task in tasks))
        for task in tasks:
            task.cancel()
        assert [task.wait(timeout_s=60).state for task in tasks] == ["CANCELLED"] * 3
    assert house.said().count("sleep_long") == 2
    assert house.said().count("wake_up") >= 2


def test_when_a_worker_there_dies_its_step_is_entered_again_by_its_own_rules(
    hold: tuple[House, Holdfast], executor: Executor
) -> None:
    house, opened = hold
    task = opened.submit(dask_steps.sleep_long, {"at": house.at})
    with working(opened, executor):
        killed_worker(house, "sleep_long")
        house.turn("go")
        assert task.wait(timeout_s=60).state == "SUCCEEDED"
    first, second = house.lines()
    assert first.key == second.key
    assert "sleep_long DIED" in task.trace


def test_one_that_is_not_to_be_repeated_is_not_repeated_by_the_cluster_either(
    hold: tuple[House, Holdfast], executor: Executor
) -> None:
    house, opened = hold
    task = opened.submit(dask_steps.careful, {"at": house.at})
    with working(opened, executor):
        killed_worker(house, "sleep_long")
        assert task.wait(timeout_s=60).state == "SUSPENDED"
        other = opened.submit(dask_steps.add_up, {"at": house.at, "numbers": [1]})  # the cluster had time to repeat it
        assert other.wait(timeout_s=60).state == "SUCCEEDED"
    assert (task.reason, house.said().count("sleep_long")) == ("outcome_unknown", 1)


def test_suspended_it_goes_on_from_its_checkpoint_in_another_place(
    hold: tuple[House, Holdfast], executor: Executor
) -> None:
    house, opened = hold
    task: Task = opened.submit(dask_steps.sleep_long, {"at": house.at})
    with working(opened, executor):
        house.until_said("sleep_long")
        task.suspend()
        until(lambda: task.state == "SUSPENDED")
        house.turn("go")
        task.resume()
        assert task.wait(timeout_s=60).state == "SUCCEEDED"
    assert len({line.key for line in house.lines()}) == 1


def test_what_is_said_before_this_side_hears_is_said_again(
    hold: tuple[House, Holdfast], executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A subscription takes its time, and a step may begin before it is there."""
    import distributed

    subscribe = distributed.Client.subscribe_topic

    def late(client: Any, topic: str, handler: Any) -> None:
        threading.Timer(1.5, subscribe, (client, topic, handler)).start()

    monkeypatch.setattr(distributed.Client, "subscribe_topic", late)
    house, opened = hold
    task = opened.submit(dask_steps.add_up, {"at": house.at, "numbers": [1]})
    with working(opened, executor):
        assert task.wait(timeout_s=20).state == "SUCCEEDED"


def test_a_cluster_that_dies_is_the_death_of_the_steps_it_had_and_begins_no_others(
    hold: tuple[House, Holdfast], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the rules of each; and what can't be begun any more fails, and says why."""
    monkeypatch.setattr(dask_runtime, "LOST_S", 1.0)
    house, opened = hold
    dying = Cluster()
    entered = [opened.submit(step, {"at": house.at}) for step in (dask_steps.careful, dask_steps.sleep_long)]
    with dying.client(timeout="2s") as client, working(opened, client.get_executor()):
        house.until_said("sleep_long", 2)
        waiting = opened.submit(dask_steps.add_up, {"at": house.at, "numbers": [1]})
        until(lambda: waiting.state == "RUNNING")
        dying.kill()
        assert [task.wait(timeout_s=60).state for task in (*entered, waiting)] == ["SUSPENDED", "SUSPENDED", "FAILED"]
    dying.end()
    careful, again = entered
    assert (careful.reason, again.reason) == ("outcome_unknown", "revert_failed")
    assert again.trace[:4] == ["task RUNNING", "sleep_long RUNNING", "sleep_long DIED", "sleep_long RUNNING"]
    assert waiting.failure is not None
    assert waiting.failure.type == "ConnectionError"
    assert house.said().count("sleep_long") == 2


def test_a_connection_that_is_lost_enters_a_step_again_only_when_it_has_stopped(
    hold: tuple[House, Holdfast], executor: Executor
) -> None:
    """The cluster lives, and goes on with what it has; the runtime hears of nothing until it is connected again."""
    import distributed

    house, opened = hold
    task = opened.submit(dask_steps.heed, {"at": house.at})
    with working(opened, executor):
        house.until_said("heed")
        clients: list[Any] = [each for each in distributed.Client._instances if each.status == "running"]
        for client in clients:
            client.loop.add_callback(client.scheduler_comm.comm.abort)
        house.until_said("heeded lease_lost")
        house.turn("go")
        assert task.wait(timeout_s=100).state == "SUCCEEDED"
    assert house.said() == ["heed", "heeded lease_lost", "heed"]
    assert "heed DIED" in task.trace
