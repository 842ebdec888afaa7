"""PostgreSQL for tests: one server of each version in each process of pytest, a database for each test.

@pytest.fixture
def url(postgresql): return postgresql.fresh()
"""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import psycopg
import pytest

from holdfast.store import open_store
from holdfast.store.migrations import HEAD
from peers.postgres import Postgres


class Databases:
    """Databases of one server, which are used again: to empty one takes a tenth of the time that a new one takes."""

    def __init__(self, server: Postgres) -> None:
        self.server = server
        self._numbers = itertools.count(1)
        self._clean: list[str] = []
        self._lent: list[str] = []
        self._empty: list[str] = []

    def fresh(self) -> str:
        """The URL of one that has Holdfast's tables, and nothing in them."""
        if not self._clean:
            url = self.server.make(f"test{next(self._numbers)}")
            open_store(url).close()
            self.server.execute(_SWEEPER, _name(url))
            self._clean.append(url)
        self._lent.append(self._clean.pop())
        return self._lent[-1]

    def empty(self) -> str:
        """The URL of a new one that has no tables."""
        self._empty.append(self.server.make(f"test{next(self._numbers)}"))
        return self._empty[-1]

    def take_back(self, *urls: str) -> None:
        """These, or all that were lent."""
        for url in urls or tuple(self._lent):
            self._lent.remove(url)
            try:
                self.server.execute("CALL sweep()", _name(url))
                self._clean.append(url)
            except psycopg.Error:  # a test has made another thing of it
                self.server.drop(_name(url))
        while self._empty:
            self.server.drop(_name(self._empty.pop()))


#: Deletes what there is, where there is something, and has ids begin at 1 again. It waits for the sessions that it
#: ends: a pooler would lend one once more.
_SWEEPER: Final = """
CREATE PROCEDURE sweep() LANGUAGE plpgsql AS $$
DECLARE name text; found bool;
BEGIN
    PERFORM pg_terminate_backend(pid, 10000) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid();
    IF (SELECT version_num FROM alembic_version) <> '{HEAD}' THEN RAISE 'migrated'; END IF;
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version' LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %I)', name) INTO found;
        IF found THEN EXECUTE format('TRUNCATE %I', name); END IF;
    END LOOP;
    PERFORM setval(sequencename::regclass, 1, false) FROM pg_sequences WHERE last_value IS NOT NULL;
END $$
""".replace("{HEAD}", HEAD)


def _name(url: str) -> str:
    return url.rpartition("/")[2]


@contextmanager
def running(version: int | None = None) -> Iterator[Databases]:
    """In a directory with a short name, because a socket's may not be long."""
    directory = Path(tempfile.mkdtemp(prefix="hf-pg-"))
    try:
        # A language's order on purpose: where bytes count, the store has to ask for them.
        with Postgres(directory / "pg", version=version, language="en-US") as server:
            yield Databases(server)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


# --- the suite on PostgreSQL -------------------------------------------------------------------------------------

#: `TEST_DATABASE=postgresql` has every test that asks `database_at` for its place run there.
ON_POSTGRESQL: Final = os.environ.get("TEST_DATABASE", "sqlite") == "postgresql"
#: For a test of what only a file has: its locks, its log, its disk.
only_sqlite = pytest.mark.only_sqlite
_named: dict[str, str] = {}  # path -> URL


def database_at(path: Path | str) -> str:
    """The URL of the database that a test calls by that path: a file, or one of PostgreSQL's."""
    if not ON_POSTGRESQL:
        return f"sqlite:///{path}"
    if str(path) not in _named:
        _named[str(path)] = _shared().fresh()
    return _named[str(path)]


def size_of(url: str) -> int:
    """The bytes on disk of a database."""
    if url.startswith("sqlite"):
        return os.stat(url.removeprefix("sqlite:///")).st_size
    return int(_shared().server.execute("SELECT pg_database_size(current_database())", _name(url))[0][0])


def stored_at(path: Path) -> bytes:
    """Everything that is in the database which a test calls by that path."""
    if not ON_POSTGRESQL:
        return b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))
    name, server = _name(_named[str(path)]), _shared().server
    tables = server.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", name)
    rows = [row for (table,) in tables for row in server.execute(f'SELECT one::text FROM "{table}" AS one', name)]
    return "\n".join(text for (text,) in rows).encode()


def drop_beneath(directory: Path) -> None:
    """The databases that were called by a path in there."""
    for path in [path for path in _named if Path(path).is_relative_to(directory)]:
        _shared().take_back(_named.pop(path))


@functools.cache
def _shared() -> Databases:
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(running())
