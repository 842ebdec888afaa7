"""The schema's revisions: whether a database has the newest, and how it gets it.

Theory: old and new code run on one database while it is upgraded, process by process. So a revision adds what code
before it can ignore, wherever that can be, and the database says of itself which is the oldest revision whose code may
run on it (`store_info.works_with`). Code of that revision or a later one opens it, though its schema is newer than what
it knows; older code is refused. Where an upgrade moves that mark, nobody may be left who has the database open: of a
file, nobody may have it open; a server's connections are ended in the same transaction, and who comes back is refused.

Alembic is imported only to migrate: judging a revision is a look into a tuple. The revisions are in versions/; a test
holds `REVISIONS` and `WORKS_WITH` to them, and them to store/schema.py.
"""

from __future__ import annotations

import os
import sqlite3
from typing import Any, Final

from holdfast.errors import DatabaseUrlInvalid, SchemaNewer, SchemaOlder, StoreBusy

REVISIONS: Final = ("0001", "0002")  # oldest first
HEAD: Final = REVISIONS[-1]
WORKS_WITH: Final = "0002"  # the oldest whose code may run on a database of the newest


def judge(revision: str, works_with: str | None) -> None:
    """Whether this code may run on a database of that revision, which says that it works with code from `works_with`
    on. Raises: SchemaOlder, SchemaNewer."""
    if revision == HEAD or is_newer(revision, works_with):
        return
    raise SchemaOlder(
        f"the database has schema {revision}, and this Holdfast needs {HEAD}: run `holdfast db upgrade`",
        revision=revision, head=HEAD,
    )  # fmt: skip


def is_newer(revision: str, works_with: str | None) -> bool:
    """Whether the database was made by a newer Holdfast, and works with this one. Raises: SchemaNewer: it does not."""
    if revision in REVISIONS:
        return False
    if works_with in REVISIONS:
        return True
    raise SchemaNewer(
        f"the database has schema {revision}, made by a newer Holdfast, which works with {works_with or revision} and"
        f" later; this one knows {HEAD}: upgrade this one",
        revision=revision, works_with=works_with, head=HEAD,
    )  # fmt: skip


def cuts_off(before: Any) -> bool:
    """Whether code that may run on the database as it is stamped may not run on it once it has the newest revision."""
    if before is None or before.revision == HEAD:
        return False
    worked_with = before.works_with or before.revision
    return REVISIONS.index(worked_with) < REVISIONS.index(WORKS_WITH)


MARK: Final = f"UPDATE store_info SET works_with = '{WORKS_WITH}'"


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
    judge(*found)


def upgrade(url: str, *, busy_timeout_s: float = 5.0) -> tuple[str | None, str]:
    """Bring the database to the newest revision, in one transaction; the revisions before and after. One that is newer
    and works with this code stays as it is.

    A database that has no tables gets them. Raises SchemaNewer, DatabaseUrlInvalid and a WorldError.
    """
    from holdfast.store import faults, is_postgresql, sqlite_path
    from holdfast.store.gate import FileGate
    from holdfast.store.sqlite import connect_file

    if is_postgresql(url):
        from holdfast.store import pg_migrations

        return pg_migrations.upgrade(url, busy_timeout_s=busy_timeout_s)
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
                _be_alone(connection, path)
                connection.execute("PRAGMA journal_mode=WAL")
                return _migrate(connection, path)
            finally:
                gate.leave()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise faults.translate(error, path) from error
    finally:
        gate.close()


def _be_alone(connection: sqlite3.Connection, path: str) -> None:
    """Make sure that nobody has the file open who might not work with what it becomes. Raises: StoreBusy."""
    from holdfast.store.creation import revision

    before = revision(connection, path)
    if before is None or before.revision not in REVISIONS or not cuts_off(before):
        return
    try:
        connection.execute("PRAGMA journal_mode=DELETE")  # which SQLite does only for who is alone
    except sqlite3.OperationalError as error:
        raise StoreBusy(
            f"{path} is in use, and a Holdfast older than this one doesn't work with its new schema: stop the services"
            " and workers first, then upgrade it, and start the new ones"
        ) from error


def _migrate(connection: sqlite3.Connection, path: str) -> tuple[str | None, str]:
    from holdfast.store.creation import generation, revision

    connection.execute("BEGIN IMMEDIATE")
    try:
        before = revision(connection, path)
        if before is None or not is_newer(*before):
            if before is None or before.revision != HEAD:
                run_alembic("sqlite://", _Held(connection))
            generation(connection)
            connection.execute(MARK)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return before_and_after(before)


def before_and_after(before: Any) -> tuple[str | None, str]:
    """What `upgrade` returns."""
    if before is None:
        return None, HEAD
    return before.revision, HEAD if before.revision in REVISIONS else before.revision


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
