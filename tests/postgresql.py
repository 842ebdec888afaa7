"""PostgreSQL for tests: one server of each version in each process of pytest, one database a test.

@pytest.fixture
def url(postgresql): return postgresql.fresh()
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from holdfast.store import open_store
from peers.postgres import Postgres

TEMPLATE = "clean"


class Databases:
    """Databases of one server. Each is a copy of one with Holdfast's tables, which takes a tenth of the time."""

    def __init__(self, server: Postgres) -> None:
        self.server = server
        self._numbers = itertools.count(1)
        self._made: list[str] = []
        self._has_template = False

    def fresh(self) -> str:
        """The URL of a new one that has Holdfast's tables."""
        if not self._has_template:
            open_store(self.server.make(TEMPLATE)).close()
            self._has_template = True
        return self._make(TEMPLATE)

    def empty(self) -> str:
        """The URL of a new one that has nothing."""
        return self._make("template1")

    def drop(self) -> None:
        """Those that were made since."""
        while self._made:
            self.server.drop(self._made.pop())

    def _make(self, template: str) -> str:
        name = f"test{next(self._numbers)}"
        self._made.append(name)
        return self.server.make(name, template=template)


@contextmanager
def running(version: int | None = None) -> Iterator[Databases]:
    """In a directory with a short name, because a socket's may not be long."""
    directory = Path(tempfile.mkdtemp(prefix="hf-pg-"))
    try:
        with Postgres(directory / "pg", version=version) as server:
            yield Databases(server)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
