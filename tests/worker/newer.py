"""Holdfast as its next revision will be, for tests of upgrades: its schema has a column and a table more.

python -m tests.worker.newer DIRECTORY WORKS_WITH upgrade|worker URL SETTINGS
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Table, Text

from holdfast.store import creation, migrations
from holdfast.store.schema import metadata

NEXT = "9990"
_REVISION = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "{next}", "{head}", None, None
works_with = "{works_with}"


def upgrade() -> None:
    op.add_column("tasks", sa.Column("shelf", sa.Text(), server_default=sa.text("'top'"), nullable=False))
    op.create_table("shelves", sa.Column("name", sa.Text(), primary_key=True))
"""


def become_newer(directory: Path, works_with: str) -> None:
    """This process is of the next revision from here on."""
    head = migrations.HEAD
    said = _REVISION.format(next=NEXT, head=head, works_with=works_with)
    directory.mkdir(exist_ok=True)
    (directory / "v9990.py").write_text(said, encoding="utf-8")
    before = migrations.config

    def config() -> Any:
        settings = before()
        versions = Path(migrations.__file__).with_name("versions")
        settings.set_main_option("version_locations", f"{versions}:{directory}")
        return settings

    Table("shelves", metadata, Column("name", Text, primary_key=True))
    for module in (migrations, creation):
        module.HEAD = NEXT  # type: ignore[attr-defined]
        module.WORKS_WITH = works_with  # type: ignore[attr-defined]
    migrations.REVISIONS = (*migrations.REVISIONS, NEXT)  # type: ignore[misc,assignment]
    migrations.MARK = f"UPDATE store_info SET works_with = '{works_with}'"  # type: ignore[misc]
    migrations.config = config


def main(directory: str, works_with: str, what: str, url: str, settings: str = "{}") -> None:
    become_newer(Path(directory), works_with)
    if what == "upgrade":
        print(migrations.upgrade(url))
    else:
        from tests.worker import process

        process.main(url, settings)


if __name__ == "__main__":
    main(*sys.argv[1:])
