"""Clusters for tests: the same processes as in a soak, on a file and on PostgreSQL, without faults but the test's."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from chaos import load, postgresql, sqlite
from chaos.cluster import Cluster
from chaos.disk import Disk
from chaos.history import FINAL, History
from chaos.rules import judge
from chaos.witness import Line

LEASE_S = 2.0
PATIENCE_S = 60.0
SETTINGS = {"lease_s": str(LEASE_S), "heartbeat_s": "0.5", "busy_timeout_s": "1", "grace_s": "1"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long goes first: begun last, it would be waited for."""
    items.sort(key=lambda item: item.path.name != "test_soak.py" or item.path.parent != Path(__file__).parent)


class Site:
    """A cluster, who asks it, and its database, which can be taken away."""

    def __init__(self, cluster: Cluster, take_away: Callable[[], Callable[[], None]]) -> None:
        self.cluster = cluster
        self.take_away = take_away
        self.line = load.Line(cluster.urls)
        self._asked = 0

    def ask(self, flow: str, *resources: str, pause: float = 0.0) -> str:
        """The uuid of a new task."""
        self._asked += 1
        claims, tag = dict.fromkeys(resources, "exclusive"), f"asked-{self._asked}"
        return load.ask(self.line, self.cluster.witness, "test", tag, self._asked, flow, claims, pause)

    def task(self, uuid: str, query: str = "") -> dict[str, Any]:
        found: dict[str, Any] = self.line.insist(0, "GET", f"/v3/tasks/{uuid}{query}").body["task"]
        return found

    def ended(self, *uuids: str) -> list[str]:
        """Their states, once all of them have ended."""
        end = time.monotonic() + PATIENCE_S
        found: list[str] = []
        for uuid in uuids:
            while (task := self.task(uuid, "?wait=1"))["state"] not in FINAL:
                assert time.monotonic() < end, f"{uuid} is {task['state']} and never ended, after {len(found)} that did"
            found.append(task["state"])
        return found

    def heard(self, what: str, **more: Any) -> list[Line]:
        """What the witness has heard of that."""
        return [
            line
            for line in self.cluster.witness.lines()
            if line.what == what and all(line.more.get(name) == value for name, value in more.items())
        ]

    def until_heard(self, what: str, number: int = 1, **more: Any) -> Line:
        until(lambda: len(self.heard(what, **more)) >= number, f"{what} {more}")
        return self.heard(what, **more)[number - 1]

    def judged(self) -> History:
        """The history, if no rule is broken."""
        load.testify(self.line, self.cluster.witness)
        history = History(self.cluster.witness.lines())
        broken = [str(each) for found in judge(history).values() for each in found]
        assert broken == []
        return history


def until(fact: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not fact():
        assert time.monotonic() < end, f"never: {what}"
        threading.Event().wait(0.01)


@pytest.fixture
def place() -> Iterator[Path]:
    """A socket's path may not be long."""
    directory = Path(tempfile.mkdtemp(prefix="hf-pg-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def make_site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """`make_site(apis=1, workers=3, **settings)`."""
    with ExitStack() as closing:

        def make(*, apis: int = 1, workers: int = 2, **settings: str) -> Site:
            if request.param == "sqlite":
                disk = Disk(tmp_path / "disk", sqlite.DISK_MIB)
                closing.callback(disk.close)
                url, take_away = sqlite.url_on(disk), lambda: sqlite.lock(disk)
            else:  # a socket's path may not be long
                directory = Path(tempfile.mkdtemp(prefix="hf-chaos-"))
                closing.callback(shutil.rmtree, directory, ignore_errors=True)
                server = postgresql.Server(directory / "pg")
                closing.callback(server.close)
                url, take_away = server.url(), lambda: server.fail(server.peer.kill)
            cluster = Cluster(tmp_path, url, apis=apis, workers=workers, settings={**SETTINGS, **settings})
            site = Site(closing.enter_context(cluster), take_away)
            closing.callback(site.line.close)
            return site

        yield make
