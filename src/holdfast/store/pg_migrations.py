"""A PostgreSQL database's revision: looking at it, and bringing it up.

As store/migrations/__init__.py does for SQLite.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg

from holdfast.errors import DatabaseUrlInvalid
from holdfast.store import migrations, pg_faults
from holdfast.store.pg_creation import SCHEMA_LOCK, check_server, generation, revision
from holdfast.store.pg_driver import Cursor, Server
from holdfast.store.pg_silence import Connection
from holdfast.store.place import redacted

#: A user may end his own, and nobody else's.
_END_OTHERS: Final = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
    " AND usename = current_user AND application_name LIKE 'holdfast %' AND pid <> pg_backend_pid()"
)


def check(url: str) -> None:
    """See migrations.check."""
    shown = redacted(url)
    try:
        with _connected(url, shown) as connection:
            found = revision(Cursor(connection), shown)
    except psycopg.Error as error:
        raise pg_faults.translate(error, shown) from error
    if found is None:
        raise DatabaseUrlInvalid(f"{shown} is empty: there is no Holdfast database in it")
    migrations.judge(*found)


def upgrade(url: str, *, busy_timeout_s: float) -> tuple[str | None, str]:
    """See migrations.upgrade. Where code that may be running can't go on, its connections are ended in this
    transaction: whoever makes a new one waits, and is refused."""
    shown = redacted(url)
    try:
        with _connected(url, shown) as connection:
            cursor = Cursor(connection)
            check_server(cursor, shown)
            cursor.run(f"BEGIN; SET LOCAL lock_timeout = '{int(busy_timeout_s * 1000)}ms'")
            cursor.execute(f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK})")
            before = revision(cursor, shown)
            if before is None or not migrations.is_newer(*before):
                if before is None or before.revision != migrations.HEAD:
                    migrations.run_alembic("postgresql+psycopg://", connection)
                generation(cursor)
                cursor.run(migrations.MARK)
                if migrations.cuts_off(before):
                    cursor.run(_END_OTHERS)
            cursor.run("COMMIT")
            return migrations.before_and_after(before)
    except psycopg.Error as error:
        raise pg_faults.translate(error, shown) from error


class _Held(Connection):
    """A connection whose transaction is somebody else's: SQLAlchemy and Alembic would end it."""

    def set_autocommit(self, value: bool) -> None: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...
    def close(self) -> None: ...


@contextmanager
def _connected(url: str, shown: str) -> Iterator[_Held]:
    try:
        connection: _Held = Server(url).connect("holdfast upgrade", kind=_Held)
    except psycopg.Error as error:
        raise pg_faults.translate_connecting(error, shown) from error
    try:
        yield connection
    finally:
        psycopg.Connection.close(connection)
