"""Where a PostgreSQL database is, and whether it is still the one that a process knows.

Theory: as store/history.py has it. A server's place is its identity, its timeline (each promotion and each restoring
to a point in time begins another) and the numbers of the database and of a table in it (a dump that is read in makes
others). It is looked at whenever a connection is made, for nobody's connection outlives a fail-over, and each second,
for a pooler's may seem to. What a server does not tell, or tells only its owner, is left out. A snapshot of its disk
has the same place as what it was taken of; but it lacks commits that were acknowledged, and each session knows the
number of its last one (store/pg_session.py).

Who comes while the schema is changed waits until that is done, and is refused if it can't work with what came of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import psycopg

from holdfast.errors import SchemaNewer
from holdfast.store import history, migrations, pg_faults
from holdfast.store.pg_creation import SCHEMA_LOCK, prepare

_UNKNOWN: Final = "-"
_PARTS: Final = (
    "(SELECT system_identifier FROM pg_control_system())",
    "left(pg_walfile_name(pg_current_wal_lsn()), 8)",
    "(SELECT oid FROM pg_database WHERE datname = current_database())",
    "to_regclass('store_info')::oid",
)
_FOUND: Final = (
    "SELECT version_num, works_with, generation, place, (SELECT number FROM writers WHERE id = $1),"
    " CASE WHEN pg_is_in_recovery() THEN NULL ELSE concat_ws('/', {parts}) END FROM store_info, alembic_version"
)
_NOW: Final = "extract(epoch FROM clock_timestamp())"


class _Found(NamedTuple):
    revision: str
    works_with: str | None
    generation: str
    place: str | None  # where it was when the generation was drawn
    number: int | None
    here: str


class PgHistory:
    """Of one store, for all its connections. `heard`: called when there is another generation. `fault`: why this
    process may not go on with the database at all."""

    def __init__(self, heard: Callable[[], None], *, lock_s: float) -> None:
        self.generation = ""
        self.fault: SchemaNewer | None = None
        self._heard = heard
        self._lock_ms = int(max(lock_s, 0.001) * 1000)
        self._parts: tuple[str, ...] = ()  # those that the server tells

    def open(self, cursor: Any, shown: str, *, create: bool) -> None:
        """As the first of a process, with its first connection. Raises: what `prepare` does."""
        cursor.run(f"BEGIN; {self._lock()}")
        self.generation = prepare(cursor, shown, create=create)
        cursor.run("COMMIT")
        self.look(cursor)

    def look(self, cursor: Any, writer: str = "", acked: int = 0) -> bool:
        """Whether there is another generation since the last look. `acked`: the number of the last commit of that
        writer, if it must be there. Raises: SchemaNewer; psycopg.Error, be it that this is a standby."""
        if not self._parts:
            self._parts = tuple(part if _is_told(cursor, part) else f"'{_UNKNOWN}'" for part in _PARTS)
        if writer:  # somebody may be changing the schema just now
            cursor.run(f"BEGIN; {self._lock('_shared')}")
        try:
            found = self._read(cursor, writer)
        finally:
            if writer and not cursor.connection.closed:
                cursor.run("ROLLBACK")
        generation = found.generation
        if found.place is None or _moved(found.place, found.here) or _is_older(found, acked):
            generation = self._settle(cursor, writer, acked)
        if generation == self.generation:
            return False
        self.generation = generation
        self._heard()
        return True

    def _settle(self, cursor: Any, writer: str, acked: int) -> str:
        """The generation at this place, which begins here if nobody has begun it."""
        cursor.run(f"BEGIN; {self._lock()}")
        try:
            found = self._read(cursor, writer)
            generation = found.generation
            if _moved(found.place, found.here) or (generation == self.generation and _is_older(found, acked)):
                generation = _begin_anew(cursor, found.here)
            elif found.place is None:
                cursor.execute("UPDATE store_info SET place = $1", (found.here,))
            cursor.run("COMMIT")
        except BaseException:
            if not cursor.connection.closed:
                cursor.run("ROLLBACK")
            raise
        return generation

    def _read(self, cursor: Any, writer: str) -> _Found:
        cursor.execute(_FOUND.format(parts=", ".join(self._parts)), (writer,))
        rows = cursor.fetchall()
        if not rows:
            raise psycopg.OperationalError("its tables are empty: somebody is restoring it")
        found = _Found._make(rows[0])
        if found.here is None:
            raise psycopg.errors.ReadOnlySqlTransaction("it is a standby that nobody has promoted")
        try:
            migrations.judge(found.revision, found.works_with)
        except SchemaNewer as error:
            self.fault = error
            raise
        return found

    def _lock(self, how: str = "") -> str:
        return f"SET LOCAL lock_timeout = '{self._lock_ms}ms'; SELECT pg_advisory_xact_lock{how}({SCHEMA_LOCK})"


def begin_anew(cursor: Any) -> str:
    """In a transaction that the caller has begun; the new generation. Its place is what it was."""
    cursor.execute("SELECT coalesce(place, '') FROM store_info")
    ((place,),) = cursor.fetchall()
    return _begin_anew(cursor, place)


def _begin_anew(cursor: Any, place: str) -> str:
    generation = history.draw()
    for statement in history.anew("postgresql", generation=generation, place=place, now=_NOW):
        cursor.execute(statement)
    return generation


def _is_older(found: _Found, acked: int) -> bool:
    return acked > 0 and (found.number is None or found.number < acked)


def _is_told(cursor: Any, part: str) -> bool:
    """Whether this server tells that to this user, as far as it tells it at all: a standby does not yet."""
    try:
        cursor.execute(f"SELECT CASE WHEN NOT pg_is_in_recovery() THEN {part}::text END")
        return True
    except psycopg.Error as error:
        if pg_faults.is_lost(error):
            raise
        return False


def _moved(known: str | None, place: str) -> bool:
    """Whether these are two places, as far as both are known."""
    if not known:
        return False
    return any(a != b and _UNKNOWN not in (a, b) for a, b in zip(known.split("/"), place.split("/"), strict=True))
