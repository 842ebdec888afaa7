"""A directory with a database, a backend and its witness; and ways to get things done in it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import holdfast as hf
from holdfast.resources.handle import Resource
from holdfast.resources.kind import Kind
from tests.postgresql import database_at
from tests.resources.ports import Backend, make_kind

PATIENCE_S = 60.0
LOOK_S = 0.005


class Shop:
    """An open database with the kind `port`, and what the tests do with it again and again."""

    def __init__(self, directory: Path, *kinds: Kind, **settings: Any) -> None:
        self.url = database_at(directory / "tasks.db")
        self.backend = Backend(directory)
        self.hold = hf.open(self.url, kinds=kinds or [make_kind(directory)], **settings)

    def ask(
        self, operation: str, id: str | None = None, params: dict[str, Any] | None = None, **options: Any
    ) -> hf.Task:
        return self.hold.operate("port", operation, id, params, **options)

    def do(
        self, operation: str, id: str | None = None, params: dict[str, Any] | None = None, **options: Any
    ) -> hf.Task:
        """Ask for it, and do all there is to do."""
        task = self.ask(operation, id, params, **options)
        self.work()
        return task

    def work(self) -> None:
        self.hold.work(until_idle=True)

    def port(self, **desired: Any) -> Resource[hf.Task]:
        """A port that is there."""
        task = self.do("create", desired=desired)
        assert task.state == "SUCCEEDED", task.failure
        return self.of(task)

    def of(self, task: hf.Task) -> Resource[hf.Task]:
        return self.hold.resource("port", task.view()["resource_id"])

    def of_kind(self, kind: str, task: hf.Task) -> Resource[hf.Task]:
        return self.hold.resource(kind, task.view()["resource_id"])

    def until(self, fact: Callable[[], object]) -> None:
        pause = threading.Event()
        for _ in range(int(PATIENCE_S / LOOK_S)):
            if fact():
                return
            pause.wait(LOOK_S)
        raise AssertionError("it has not happened")

    def until_said(self, *beginning: Any) -> None:
        self.until(lambda: self.backend.said(*beginning))


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    try:
        yield made
    finally:
        made.backend.turn("go")
        made.hold.close()
