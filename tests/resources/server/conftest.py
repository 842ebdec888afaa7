"""What the tests of servers share: a directory of servers whose processes all end with the test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import holdfast as hf
from holdfast.resources.handle import Resource
from holdfast.resources.registry import Kinds
from holdfast.resources.server.process import Server, Slot
from holdfast.settings import Settings
from tests.postgresql import database_at


def pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def until(condition: Callable[[], bool], what: str, limit_s: float = 30.0) -> None:
    """Wait for a fact."""
    limit = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < limit, f"waited {limit_s:g} s for {what}"
        pause(0.01)


@pytest.fixture
def where(tmp_path: Path) -> Iterator[str]:
    """Where the servers of a test are. Their guests outlive every process but not the test."""
    path = tmp_path / "servers"
    yield str(path)
    for directory in path.glob("*"):
        Server(str(path), directory.name).remove(pause)


class Cloud:
    """A database with the kind `server`, whose tasks are done in this process when a test says so."""

    def __init__(self, url: str, where: str, **settings: Any) -> None:
        self.url = url
        self.where = where
        known = Settings(**{"server_dir": where, "server_faults": 1, "server_boot_s": 5.0, **settings})
        self.hold = hf.open(url, kinds=Kinds.load(settings=known), lease_s=1.0)

    def work(self) -> None:
        self.hold.work(until_idle=True)

    def create(self, **desired: Any) -> Resource[hf.Task]:
        """A server that is up."""
        task = self.hold.operate("server", "create", desired={"name": "s", **desired})
        self.work()
        assert task.state == "SUCCEEDED", task.failure
        return self.hold.resource("server", str(task.view()["resource_id"]))

    def do(
        self, at: Resource[hf.Task], operation: str, params: dict[str, Any] | None = None, **options: Any
    ) -> hf.Task:
        """Do an operation to its end."""
        task = at.operate(operation, params, **options)
        self.work()
        return task

    def slot(self, at: Resource[hf.Task]) -> Slot:
        return Server(self.where, at.id).slot

    def console(self, at: Resource[hf.Task]) -> list[str]:
        return [str(line["what"]) for line in self.slot(at).console()]


@pytest.fixture
def cloud(tmp_path: Path, where: str) -> Iterator[Cloud]:
    made = Cloud(database_at(tmp_path / "tasks.db"), where)
    with made.hold:
        yield made
