"""A database that was migrated and one that was made are the same; another schema is refused by name."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from holdfast.errors import DatabaseUrlInvalid, SchemaNewer, SchemaOlder, StoreCorrupt, StoreUnwritable
from holdfast.store import migrations, open_store
from holdfast.store.schema import metadata


def described(path: Path) -> dict[str, str]:
    """Name -> DDL of everything in a database, however it is laid out."""
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    connection.close()
    return {name: "".join(sql.split()) for name, sql in rows}


def stamped(path: Path, revision: str, works_with: str | None = None) -> str:
    """A database of that revision, and the mark that it has; its URL."""
    open_store(f"sqlite:///{path}").close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    connection.execute("UPDATE store_info SET works_with = ?", (works_with,))
    connection.commit()
    connection.close()
    return f"sqlite:///{path}"


def test_migrating_an_empty_database_makes_the_schema(tmp_path: Path) -> None:
    made, migrated = tmp_path / "made.db", tmp_path / "migrated.db"
    open_store(f"sqlite:///{made}").close()
    assert migrations.upgrade(f"sqlite:///{migrated}") == (None, migrations.HEAD)
    assert described(migrated) == described(made)


def test_alembic_sees_no_difference(tmp_path: Path) -> None:
    open_store(f"sqlite:///{tmp_path}/made.db").close()
    engine = create_engine(f"sqlite:///{tmp_path}/made.db", poolclass=NullPool)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_the_list_of_revisions_is_that_of_the_files() -> None:
    script = ScriptDirectory.from_config(migrations.config())
    assert tuple(revision.revision for revision in script.walk_revisions())[::-1] == migrations.REVISIONS


def test_each_revision_says_what_it_works_with() -> None:
    script = ScriptDirectory.from_config(migrations.config())
    marks = [made.module.works_with for made in script.walk_revisions()][::-1]
    assert marks[-1] == migrations.WORKS_WITH
    assert marks == sorted(marks), "code that was cut off never comes back"
    assert all(mark <= revision for revision, mark in zip(migrations.REVISIONS, marks, strict=True))


def test_a_migrated_database_opens_and_keeps_its_generation(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    migrations.upgrade(url)
    with open_store(url) as store:
        generation = store.generation
    assert migrations.upgrade(url) == (migrations.HEAD, migrations.HEAD)
    with open_store(url) as store:
        assert store.generation == generation
    migrations.check(url)


@pytest.mark.parametrize("works_with", [None, "9998", "9999"])
def test_a_newer_schema_is_refused(tmp_path: Path, works_with: str | None) -> None:
    url = stamped(tmp_path / "a.db", "9999", works_with)
    for call in (migrations.check, migrations.upgrade, open_store):
        with pytest.raises(SchemaNewer, match=f"works with {works_with or 9999} and later.*upgrade this one"):
            call(url)


@pytest.mark.parametrize("works_with", migrations.REVISIONS)
def test_a_newer_schema_that_works_with_this_code_is_used_and_left_as_it_is(tmp_path: Path, works_with: str) -> None:
    url = stamped(tmp_path / "a.db", "9999", works_with)
    migrations.check(url)
    assert migrations.upgrade(url) == ("9999", "9999")
    open_store(url).close()
    connection = sqlite3.connect(tmp_path / "a.db")
    assert connection.execute("SELECT works_with FROM store_info").fetchall() == [(works_with,)]
    connection.close()


def test_an_older_schema_asks_for_the_upgrade(tmp_path: Path) -> None:
    url = stamped(tmp_path / "a.db", migrations.REVISIONS[0])
    for call in (migrations.check, open_store):
        with pytest.raises(SchemaOlder, match="holdfast db upgrade"):
            call(url)


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE songs (title TEXT)")
    connection.close()
    for call in (migrations.check, migrations.upgrade, open_store):
        with pytest.raises(DatabaseUrlInvalid, match="another program's"):
            call(f"sqlite:///{path}")
    assert list(described(path)) == ["songs"]


def test_looking_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUrlInvalid, match="no Holdfast database"):
        migrations.check(f"sqlite:///{tmp_path}/none.db")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_database_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"this is a letter and no database, however long it may be" * 100)
    for call in (migrations.check, migrations.upgrade):
        with pytest.raises(StoreCorrupt, match="restore it"):
            call(f"sqlite:///{path}")
    with pytest.raises(StoreUnwritable, match="directory"):
        migrations.upgrade(f"sqlite:///{tmp_path}/missing/a.db")
