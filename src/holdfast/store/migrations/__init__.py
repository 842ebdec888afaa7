"""The schema's revisions, and whether a database has the newest.

Alembic is imported only to migrate (`upgrade`): judging a database's revision is a look into a tuple. The revisions
themselves are in versions/; a test holds `REVISIONS` to them, and them to store/schema.py.
"""

from __future__ import annotations

from typing import Final

from holdfast.errors import SchemaNewer, SchemaOlder

REVISIONS: Final = ("0001",)  # oldest first
HEAD: Final = REVISIONS[-1]


def judge(revision: str | None) -> None:
    """Raises SchemaOlder or SchemaNewer where `revision` is not the newest."""
    if revision == HEAD:
        return
    if revision is None or revision in REVISIONS:
        raise SchemaOlder(revision=revision, head=HEAD)
    raise SchemaNewer(revision=revision, head=HEAD)
