"""Many machines: pools that hold over all their workers, and what a worker says of itself.

Additive: the code of the revision before goes on with it, so hosts are upgraded one by one.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def some(*conditions: str) -> dict[str, Any]:
    where = sa.text(" AND ".join(conditions))
    return {"sqlite_where": where, "postgresql_where": where}


def upgrade() -> None:
    _pools()
    _workers()
    _taking()


def _pools() -> None:
    op.create_table(
        "pools",
        sa.Column("name", BYTEWISE, nullable=False),
        sa.Column("running_max", sa.Integer(), nullable=True),
        sa.Column("queued_max", sa.Integer(), nullable=True),
        sa.Column("paused_at", sa.Float(), nullable=True),
        sa.Column("draining_at", sa.Float(), nullable=True),
        sa.CheckConstraint("running_max >= 1", name="ck_pools_running"),
        sa.CheckConstraint("queued_max >= 1", name="ck_pools_queued"),
        sa.PrimaryKeyConstraint("name"),
        sqlite_with_rowid=False,
    )


def _workers() -> None:
    op.add_column("workers", sa.Column("version", sa.Text(), nullable=True))
    op.add_column("workers", sa.Column("figures", sa.Text(), nullable=True))


def _taking() -> None:
    """What a worker takes next: by pool, priority and project in turn, and in a project by the time since when it is
    due. The index of before is in an order that nobody asks for any more."""
    op.create_index(
        "ix_tasks_turn",
        "tasks",
        ["pool", "ready", sa.text("priority DESC"), "project_id", "due_at", "id"],
        unique=False,
        **some("worker_id IS NULL", "due_at IS NOT NULL"),
    )
    op.create_index("ix_tasks_held", "tasks", ["pool", "project_id"], unique=False, **some("worker_id IS NOT NULL"))
    op.create_index(
        "ix_tasks_queued", "tasks", ["pool"], unique=False, **some("executed_at IS NULL", "finished_at IS NULL")
    )
