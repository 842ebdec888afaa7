"""How a SQLite file comes to have its tables, and how one that has others is refused.

A new database is made from store/schema.py in one transaction and stamped with the newest revision, so that opening
one never waits for Alembic's import. An old one is brought up by `holdfast db upgrade` (store/migrations/).
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from sqlalchemy import Dialect
from sqlalchemy.dialects.sqlite import dialect
from sqlalchemy.schema import CreateIndex, CreateTable

from holdfast.errors import DatabaseUrlInvalid, StoreUnwritable
from holdfast.store import history
from holdfast.store.gate import FileGate
from holdfast.store.migrations import HEAD, WORKS_WITH, judge
from holdfast.store.schema import metadata


@functools.cache
def statements() -> tuple[str, ...]:
    """The whole schema as SQLite's DDL, Alembic's stamp included."""
    return ddl(dialect())


def ddl(spoken: Dialect) -> tuple[str, ...]:
    made = []
    for table in metadata.sorted_tables:
        made.append(str(CreateTable(table).compile(dialect=spoken)))
        made += [str(CreateIndex(index).compile(dialect=spoken)) for index in sorted(table.indexes, key=_name)]
    made.append(
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
        "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
    )
    made.append(f"INSERT INTO alembic_version (version_num) VALUES ('{HEAD}')")
    return tuple(made)


def _name(index: Any) -> str:
    return str(index.name)


def prepare(connection: Any, path: str, gate: FileGate | None, *, create: bool) -> str:
    """Make the tables where there are none; the store's generation.

    Raises SchemaOlder, SchemaNewer, DatabaseUrlInvalid (another program's database, or none and `create` is False).
    """
    cursor = connection.cursor()
    if gate is not None:
        gate.enter()
    try:
        if gate is not None:
            _log_ahead(cursor, path)
        cursor.execute("BEGIN IMMEDIATE")
        try:
            _make(cursor, path, create=create)
            generation_now = history.settle(cursor, path, generation(cursor))
            cursor.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                cursor.execute("ROLLBACK")
            raise
    finally:
        if gate is not None:
            gate.leave()
        cursor.close()
    return generation_now


def _log_ahead(cursor: Any, path: str) -> None:
    (mode,) = cursor.execute("PRAGMA journal_mode=WAL").fetchone()
    if mode != "wal":
        raise StoreUnwritable(f"{path} can't have a write-ahead log ({mode}): put it on a disk of this machine")


def _make(cursor: Any, path: str, *, create: bool) -> None:
    found = revision(cursor, path)
    if found is not None:
        judge(*found)
        return
    if not create:
        raise DatabaseUrlInvalid(f"{path} is empty: there is no Holdfast database in it")
    for statement in statements():
        cursor.execute(statement)


class Stamp(NamedTuple):
    """The revision of a database, and the oldest whose code may run on it, where that code would not know otherwise."""

    revision: str
    works_with: str | None


def revision(cursor: Any, path: str) -> Stamp | None:
    """What the database is stamped with; None: it has no tables. Raises DatabaseUrlInvalid: it is another program's."""
    names = {row[0] for row in cursor.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()}
    if not names:
        return None
    stamp = cursor.execute("SELECT version_num FROM alembic_version").fetchone() if "alembic_version" in names else None
    if stamp is None or "store_info" not in names:
        raise DatabaseUrlInvalid(f"{path} is another program's database: name a file of its own")
    return Stamp(str(stamp[0]), _works_with(cursor))


def _works_with(cursor: Any) -> str | None:
    if "works_with" not in {row[1] for row in cursor.execute("PRAGMA table_info(store_info)").fetchall()}:
        return None  # it is older than the mark
    row = cursor.execute("SELECT works_with FROM store_info").fetchone()
    return None if row is None else row[0]


def generation(cursor: Any) -> str:
    """The store's generation, drawn here where it has none yet."""
    row = cursor.execute("SELECT generation FROM store_info").fetchone()
    if row is None:
        cursor.execute(
            "INSERT INTO store_info (id, generation, works_with, created_at) "
            f"VALUES (1, lower(hex(randomblob(8))), '{WORKS_WITH}', (julianday('now') - 2440587.5) * 86400.0)"
        )
        row = cursor.execute("SELECT generation FROM store_info").fetchone()
    return str(row[0])
