"""The schema's revisions: whether a database has the newest, and how it gets it.

Alembic is imported only to migrate: judging a revision is a look into a tuple. The revisions are in versions/; a test
holds `REVISIONS` to them, and them to store/schema.py.
"""

from __future__ import annotations

import os
import sqlite3
from typing import Any, Final

from holdfast.errors import DatabaseUrlInvalid, SchemaNewer, SchemaOlder

REVISIONS: Final = ("0001", "0002")  # oldest first
HEAD: Final = REVISIONS[-1]


def judge(revision: str) -> None:
    """Raises SchemaOlder or SchemaNewer where `revision` is not the newest."""
    if revision == HEAD:
        return
    if revision in REVISIONS:
        raise SchemaOlder(revision=revision, head=HEAD)
    raise SchemaNewer(revision=revision, head=HEAD)


def check(url: str) -> None:
    """Look without changing anything.

    Raises SchemaOlder, SchemaNewer, DatabaseUrlInvalid (there is no Holdfast database) and a WorldError.
    """
    from holdfast.store import faults, is_postgresql, sqlite_path
    from holdfast.store.creation import revision

    if is_postgresql(url):
        from holdfast.store import pg_migrations

        pg_migrations.check(url)
        return
    path = sqlite_path(url)
    if path == ":memory:":
        return
    if not os.path.isfile(path):
        raise DatabaseUrlInvalid(f"there is no Holdfast database at {path}: check the URL")
    connection = sqlite3.connect(path)  # not mode=ro: a log left by a crash has to be read first
    try:
        found = revision(connection, path)
    except sqlite3.Error as error:
        raise faults.translate(error, path) from error
    finally:
        connection.close()
    if found is None:
        raise DatabaseUrlInvalid(f"{path} is empty: there is no Holdfast database in it")
    judge(found)


def upgrade(url: str, *, busy_timeout_s: float = 5.0) -> tuple[str | None, str]:
    """Bring the database to the newest revision, in one transaction; the revisions before and after.

    A database that has no tables gets them. Raises SchemaNewer, DatabaseUrlInvalid and a WorldError.
    """
    from holdfast.store import faults, is_postgresql, sqlite_path
    from holdfast.store.gate import FileGate
    from holdfast.store.sqlite import connect_file

    if is_postgresql(url):
        from holdfast.store import pg_migrations

        return pg_migrations.upgrade(url, busy_timeout_s=busy_timeout_s), HEAD
    path = sqlite_path(url)
    if path == ":memory:":
        return HEAD, HEAD
    gate = FileGate(f"{path}-gate", busy_timeout_s)
    try:
        connection = connect_file(path)
        try:
            connection.execute(f"PRAGMA busy_timeout={int(busy_timeout_s * 1000)}")
            connection.execute("PRAGMA synchronous=full")
            gate.enter()
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                return _migrate(connection, path), HEAD
            finally:
                gate.leave()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise faults.translate(error, path) from error
    finally:
        gate.close()


def _migrate(connection: sqlite3.Connection, path: str) -> str | None:
    from holdfast.store.creation import generation, revision

    connection.execute("BEGIN IMMEDIATE")
    try:
        before = revision(connection, path)
        if before is not None and before not in REVISIONS:
            raise SchemaNewer(revision=before, head=HEAD)
        if before != HEAD:
            run_alembic("sqlite://", _Held(connection))
        generation(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return before


class _Held:
    """A driver's connection whose transaction is somebody else's: SQLAlchemy and Alembic would end it."""

    isolation_level: str | None = None

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def commit(self) -> None: ...
    def rollback(self) -> None: ...
    def close(self) -> None: ...


def run_alembic(dialect: str, connection: Any) -> None:
    """Up to the newest, on a connection that does nothing when it is told to commit, roll back or close."""
    from alembic import command
    from sqlalchemy import create_engine
    from sqlalchemy.pool import StaticPool

    engine = create_engine(dialect, creator=lambda: connection, poolclass=StaticPool)
    settings = config()
    with engine.connect() as wrapped:
        settings.attributes["connection"] = wrapped
        command.upgrade(settings, "head")
    engine.dispose()


def config() -> Any:
    """Alembic's, for this folder."""
    from alembic.config import Config

    settings = Config()
    settings.set_main_option("script_location", os.path.dirname(__file__).replace("%", "%%"))
    settings.set_main_option("path_separator", "os")
    return settings
