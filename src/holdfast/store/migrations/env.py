"""What Alembic runs around the revisions. The connection and its transaction are the caller's: see __init__.py."""

from __future__ import annotations

from alembic import context

from holdfast.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=False,  # the caller's transaction is around all of it
    render_as_batch=True,  # SQLite alters a table by making it anew
)
context.run_migrations()
