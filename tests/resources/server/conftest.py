"""What the tests of servers share: a directory of servers whose processes all end with the test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from holdfast.resources.server.process import Server


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
