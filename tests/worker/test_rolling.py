"""Workers are exchanged one by one while two versions of a flow are live: each task is done by who was given its
version, in whatever order they come and go, and nothing is lost."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.flow.registry import load_flows
from holdfast.local import Holdfast, Task
from tests.worker.house import PATIENCE_S, REPOSITORY, House, until

pytestmark = pytest.mark.requirement("G9", "TF-5")

DEPLOYED = """
import holdfast as hf
from tests.worker.house import tell

def flow(version):
    @hf.step
    def begin(ctx: hf.Context, at: str, name: str) -> None:
        tell(at, ctx, f"{name} begun by {version} of {DEPLOYED}")

    @hf.step
    def check(ctx: hf.Context, at: str, name: str) -> None:
        tell(at, ctx, f"{name} checked")

    @hf.step
    def end(ctx: hf.Context, at: str, name: str) -> hf.WaitFor | None:
        if name.startswith("waits") and not ctx.event:
            return hf.WaitFor("go")
        tell(at, ctx, f"{name} ended by {version} of {DEPLOYED}")

    return hf.linear("publish", begin, *([check] if version == "2" else []), end, version=version)

def make_flows():
    return [flow(version) for version in DEPLOYED]
"""


class Site:
    """A database, and deployments on it: each has the flows of some versions."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.hold = house.open(flows=load_flows(f"{self.file('12')}:make_flows"))
        self.workers: list[subprocess.Popen[str]] = []

    def file(self, versions: str) -> Path:
        path = self.house.directory / f"deployed_{versions}.py"
        path.write_text(DEPLOYED.replace("DEPLOYED", repr(versions)), encoding="utf-8")
        return path

    def worker(self, versions: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "holdfast", "worker", "--database", self.house.url]
        command += ["--flows", f"{self.file(versions)}:make_flows"]
        started = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
        self.workers.append(started)
        assert started.stderr is not None
        assert started.stderr.readline().startswith("worker ")
        until(lambda: len(workers_of(self.hold)) >= len([each for each in self.workers if each.poll() is None]))
        return started

    def submit(self, version: str, name: str) -> Task:
        flow = next(each for each in self.hold.flows if each.version == version)
        return self.hold.submit(flow, {"at": self.house.at, "name": name})

    def drain(self, worker: subprocess.Popen[str]) -> None:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE_S) == 0

    def close(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait()
            if worker.stderr is not None:
                worker.stderr.close()


def workers_of(hold: Holdfast) -> list[Any]:
    from holdfast.tasks import lease

    return hold.store.read(lease.alive)


@pytest.fixture
def site(house: House) -> Iterator[Site]:
    made = Site(house)
    yield made
    made.close()


def test_each_task_is_done_by_who_was_given_its_version(site: Site) -> None:
    old, new = site.worker("1"), site.worker("2")
    made = {
        f"{version}-{number}": site.submit(version, f"{version}-{number}") for number in range(12) for version in "12"
    }
    for task in made.values():
        assert task.wait(PATIENCE_S).state == "SUCCEEDED"
    said = site.house.said()
    wanted = [f"{name} {what} by {name[0]} of {name[0]}" for name in made for what in ("begun", "ended")]
    assert Counter(said) == Counter(wanted + [f"{name} checked" for name in made if name[0] == "2"])
    site.drain(old)
    assert site.submit("2", "2-last").wait(PATIENCE_S).state == "SUCCEEDED"
    site.drain(new)


def test_from_the_old_version_to_the_new_with_tasks_in_flight(site: Site) -> None:
    """The old worker, then both, then one that knows both versions, then the new one alone."""
    old = site.worker("1")
    waits = [site.submit("1", f"waits-{number}") for number in range(3)]
    for number in range(3):
        site.house.until_said(f"waits-{number} begun by 1 of 1")
    new = site.worker("2")
    early = site.submit("2", "2-early")
    site.drain(old)
    assert early.wait(PATIENCE_S).state == "SUCCEEDED"
    both = site.worker("12")
    for task in waits:
        task.deliver("go", True)
    late = [site.submit("1", "1-late"), site.submit("2", "2-late")]
    for task in [*waits, *late]:
        assert task.wait(PATIENCE_S).state == "SUCCEEDED"
    said = site.house.said()
    assert [f"waits-{number} ended by 1 of 12" in said for number in range(3)] == [True] * 3
    assert said.count("2-early ended by 2 of 2") == 1
    assert all(said.count(each) == 1 for each in said)
    site.drain(new)
    site.drain(both)
    assert not workers_of(site.hold)


def test_of_a_version_that_nobody_knows_a_person_is_told(site: Site) -> None:
    """The worker that knew it is gone: the task does not wait for ever."""
    site.worker("1")
    task = site.submit("2", "2-lost")
    task.wait(PATIENCE_S)
    assert (task.state, task.reason) == ("SUSPENDED", "definition_changed")
    site.worker("2")
    task.resume()
    assert task.wait(PATIENCE_S).state == "SUCCEEDED"
    assert site.house.said() == ["2-lost begun by 2 of 2", "2-lost checked", "2-lost ended by 2 of 2"]
