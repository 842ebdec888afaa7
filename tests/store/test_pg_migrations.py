"""A PostgreSQL database that was migrated and one that was made are the same; another schema is refused by name."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from holdfast.errors import DatabaseUrlInvalid, SchemaNewer, SchemaOlder, StoreAway
from holdfast.store import migrations, open_store, redacted
from holdfast.store.schema import metadata
from tests.postgresql import Databases

_DESCRIBED = """
    SELECT table_name || '.' || column_name, concat_ws(' ', data_type, is_nullable, column_default, collation_name)
    FROM information_schema.columns WHERE table_schema = current_schema()
    UNION SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema()
    UNION SELECT conrelid::regclass || '.' || conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = current_schema()::regnamespace
    UNION SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
    UNION SELECT proname, pg_get_functiondef(oid) FROM pg_proc WHERE proname = 'refuse_task'
"""


def run(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description is not None else []


def described(url: str) -> dict[str, str]:
    """Name -> what it is, of every column, index, constraint, trigger and function."""
    return dict(run(url, _DESCRIBED))


def stamped(url: str, revision: str, works_with: str) -> str:
    open_store(url).close()
    run(url, f"UPDATE alembic_version SET version_num = '{revision}'")
    run(url, f"UPDATE store_info SET works_with = '{works_with}'")
    return url


def test_migrating_an_empty_database_makes_the_schema(postgresql: Databases) -> None:
    migrated = postgresql.empty()
    assert migrations.upgrade(migrated) == (None, migrations.HEAD)
    assert described(migrated) == described(postgresql.fresh())
    assert migrations.upgrade(migrated) == (migrations.HEAD, migrations.HEAD)
    migrations.check(migrated)
    with open_store(migrated) as store, open_store(migrated) as again:
        assert store.generation == again.generation


def test_alembic_sees_no_difference(postgresql: Databases) -> None:
    url = postgresql.fresh()
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=NullPool)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_every_revision_is_brought_up_to_the_same(postgresql: Databases) -> None:
    """Step by step, as a house does that upgrades each time."""
    from alembic import command

    url = postgresql.empty()
    settings = migrations.config()
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=NullPool)
    for revision in migrations.REVISIONS:
        with engine.begin() as connection:
            settings.attributes["connection"] = connection
            command.upgrade(settings, revision)
    assert described(url) == described(postgresql.fresh())


def test_another_schema_is_refused(postgresql: Databases) -> None:
    url = stamped(postgresql.fresh(), "9999", "9998")
    for call in (migrations.check, migrations.upgrade, open_store):
        with pytest.raises(SchemaNewer, match=r"works with 9998 and later.*upgrade this one"):
            call(url)


def test_a_newer_schema_that_works_with_this_code_is_used_and_left_as_it_is(postgresql: Databases) -> None:
    url = stamped(postgresql.fresh(), "9999", migrations.HEAD)
    migrations.check(url)
    assert migrations.upgrade(url) == ("9999", "9999")
    open_store(url).close()
    assert run(url, "SELECT works_with FROM store_info") == [(migrations.HEAD,)]


def test_an_older_schema_asks_for_the_upgrade(postgresql: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    url = postgresql.fresh()
    monkeypatch.setattr(migrations, "REVISIONS", (*migrations.REVISIONS, "9999"))
    monkeypatch.setattr(migrations, "HEAD", "9999")
    for call in (migrations.check, open_store):
        with pytest.raises(SchemaOlder, match="holdfast db upgrade"):
            call(url)


def test_another_programs_database_is_left_alone(postgresql: Databases) -> None:
    url = postgresql.empty()
    run(url, "CREATE TABLE songs (title TEXT)")
    for call in (migrations.check, migrations.upgrade, open_store):
        with pytest.raises(DatabaseUrlInvalid, match="another program's"):
            call(url)
    assert {name.partition(".")[0] for name in described(url)} == {"songs"}


def test_looking_makes_no_tables(postgresql: Databases) -> None:
    url = postgresql.empty()
    with pytest.raises(DatabaseUrlInvalid, match="no Holdfast database"):
        migrations.check(url)
    with pytest.raises(DatabaseUrlInvalid, match="no Holdfast database"):
        open_store(url, create=False)
    assert described(url) == {}


def test_a_database_that_is_not_there(postgresql: Databases) -> None:
    url = postgresql.server.url("nowhere").replace("postgres@", "postgres:s3cret@")
    for call in (migrations.check, migrations.upgrade, open_store):
        with pytest.raises(DatabaseUrlInvalid, match="does not exist") as caught:
            call(url)
        assert "s3cret" not in str(caught.value)
    with pytest.raises(StoreAway) as away:
        open_store("postgresql://user:s3cret@127.0.0.1:1/tasks?connect_timeout=2")
    assert "s3cret" not in str(away.value)


def test_many_open_a_new_one_at_once(postgresql: Databases) -> None:
    from holdfast.testing.conformance.store_threads import together

    url, found = postgresql.empty(), []

    def work(number: int) -> None:
        with open_store(url) as store:
            found.append(store.generation)

    together(4, work)
    assert len(set(found)) == 1


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///tasks.db", "sqlite:///tasks.db"),
        ("postgresql://db/tasks", "postgresql://db/tasks"),
        ("postgresql://me@db/tasks", "postgresql://me@db/tasks"),
        ("postgresql://me:s3cret@db:5432/tasks?sslmode=require", "postgresql://me:***@db:5432/tasks?sslmode=require"),
        ("postgresql://me:s3@cret@db/tasks", "postgresql://me:***@db/tasks"),
        ("postgresql:///tasks?host=/run&password=s3cret&user=me", "postgresql:///tasks?host=/run&password=***&user=me"),
    ],
)
def test_a_password_is_never_shown(url: str, shown: str) -> None:
    assert redacted(url) == shown
