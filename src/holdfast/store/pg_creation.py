"""How a PostgreSQL database comes to have its tables, and how one that has others is refused.

As store/creation.py does it for SQLite. All of it happens under one lock of the database's, so any number of
processes may open a new one at once.
"""

from __future__ import annotations

import functools
import re
from typing import Any, Final

from holdfast.clock import SYSTEM
from holdfast.errors import DatabaseUrlInvalid
from holdfast.store import creation
from holdfast.store.creation import Stamp
from holdfast.store.migrations import WORKS_WITH, judge
from holdfast.store.schema import FINISHED, HOLD


def _of_new(condition: str) -> str:
    return re.sub(r"\b(state|hold|finished_at)\b", r"NEW.\1", condition)


VERSION_MIN: Final = 140_000
#: Of pg_advisory_xact_lock: whoever looks at the schema, or changes it, holds it.
SCHEMA_LOCK: Final = 0x686F6C6466617374


#: What a row of `tasks` must fulfil, as a trigger: PostgreSQL reads the text of a CHECK anew in every statement, and
#: most statements here change nothing of it. AFTER: before a trigger that comes BEFORE, it locks each row apart, and
#: logs that.
_CHECKED: Final = (
    "CREATE TRIGGER tg_tasks_checked AFTER INSERT OR UPDATE OF state, hold, finished_at ON tasks FOR EACH ROW"
    f" WHEN (NOT ({_of_new(FINISHED)} AND {_of_new(HOLD)})) EXECUTE FUNCTION refuse_task()"
)
_REFUSE: Final = (
    "CREATE FUNCTION refuse_task() RETURNS trigger LANGUAGE plpgsql AS"
    " $$BEGIN RAISE check_violation USING MESSAGE = 'the state of a task and what goes with it differ'; END$$"
)


@functools.cache
def statements() -> tuple[str, ...]:
    """The whole schema as PostgreSQL's DDL, Alembic's stamp included."""
    from sqlalchemy.dialects.postgresql.psycopg import dialect

    return (*creation.ddl(dialect()), _REFUSE, _CHECKED)  # type: ignore[no-untyped-call]


def prepare(cursor: Any, shown: str, *, create: bool) -> str:
    """Make the tables where there are none; the store's generation. In a transaction that the caller has begun, behind
    SCHEMA_LOCK.

    Raises SchemaOlder, SchemaNewer, DatabaseUrlInvalid (another program's database, or none and `create` is False).
    """
    check_server(cursor, shown)
    found = revision(cursor, shown)
    if found is not None:
        judge(*found)
    elif not create:
        raise DatabaseUrlInvalid(f"{shown} is empty: there is no Holdfast database in it")
    else:
        for statement in statements():
            cursor.execute(statement)
    return generation(cursor)


def check_server(cursor: Any, shown: str) -> None:
    cursor.execute("SELECT current_setting('server_version_num')::int, current_setting('server_encoding')")
    ((version, encoding),) = cursor.fetchall()
    if version < VERSION_MIN:
        raise DatabaseUrlInvalid(f"{shown} is PostgreSQL {version // 10_000}: {VERSION_MIN // 10_000} is the oldest")
    if encoding != "UTF8":
        raise DatabaseUrlInvalid(f"{shown} is encoded in {encoding}: make the database with ENCODING 'UTF8'")


def revision(cursor: Any, shown: str) -> Stamp | None:
    """What the database is stamped with; None: it has no tables. Raises DatabaseUrlInvalid: it is another program's."""
    cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
    names = {row[0] for row in cursor.fetchall()}
    if not names:
        return None
    stamp = None
    if {"alembic_version", "store_info"} <= names:
        cursor.execute("SELECT version_num FROM alembic_version")
        stamp = next(iter(cursor.fetchall()), None)
    if stamp is None:
        raise DatabaseUrlInvalid(f"{shown} is another program's database: give Holdfast one of its own")
    return Stamp(str(stamp[0]), _works_with(cursor))


def _works_with(cursor: Any) -> str | None:
    cursor.execute("SELECT to_jsonb(store_info) ->> 'works_with' FROM store_info")  # a column that may not be there
    found: str | None = next((row[0] for row in cursor.fetchall()), None)
    return found


def generation(cursor: Any) -> str:
    """The store's generation, drawn here where it has none yet."""
    cursor.execute(
        "INSERT INTO store_info (id, generation, works_with, created_at) VALUES (1, $1, $2, extract(epoch FROM now()))"
        " ON CONFLICT DO NOTHING",
        (SYSTEM.token_hex(8), WORKS_WITH),
    )
    cursor.execute("SELECT generation FROM store_info")
    ((found,),) = cursor.fetchall()
    return str(found)
