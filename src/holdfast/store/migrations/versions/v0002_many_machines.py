"""Many machines: pools that hold over all their workers, and what a worker says of itself.

Columns and tables are only added. Code of the revision before knows no mark that says so, and refuses it.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None
works_with = "0002"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def some(*conditions: str) -> dict[str, Any]:
    where = sa.text(" AND ".join(conditions))
    return {"sqlite_where": where, "postgresql_where": where}


def upgrade() -> None:
    _pools()
    _workers()
    _taking()
    _leases()
    _schedules()
    _writers()
    _untold()
    _finished()
    _checked()
    _history()


def _pools() -> None:
    op.create_table(
        "pools",
        sa.Column("name", BYTEWISE, nullable=False),
        sa.Column("running_max", sa.Integer(), nullable=True),
        sa.Column("queued_max", sa.Integer(), nullable=True),
        sa.Column("paused_at", sa.Float(), nullable=True),
        sa.Column("draining_at", sa.Float(), nullable=True),
        sa.Column("figures", sa.Text(), nullable=True),
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
    due. The index of before is in an order that nobody asks for any more; who is late is asked for of a pool."""
    op.add_column("tasks", sa.Column("begun", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_index(
        "ix_tasks_turn",
        "tasks",
        ["pool", "ready", sa.text("priority DESC"), "project_id", "begun", "due_at", "id"],
        unique=False,
        **some("worker_id IS NULL", "due_at IS NOT NULL"),
    )
    op.create_index("ix_tasks_held", "tasks", ["pool", "project_id"], unique=False, **some("worker_id IS NOT NULL"))
    op.create_index(
        "ix_tasks_queued", "tasks", ["pool"], unique=False, **some("executed_at IS NULL", "finished_at IS NULL")
    )
    op.drop_index("ix_tasks_take", table_name="tasks")
    op.drop_index("ix_tasks_deadline", table_name="tasks")
    op.create_index(
        "ix_tasks_deadline",
        "tasks",
        ["pool", "deadline_at"],
        unique=False,
        **some("deadline_at IS NOT NULL", "executed_at IS NULL", "finished_at IS NULL"),
    )


def _schedules() -> None:
    op.create_table(
        "schedules",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("cron", sa.Text(), nullable=False),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.Column("catch_up", sa.Text(), nullable=False),
        sa.Column("overlap", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("inputs", sa.Text(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("next_at", sa.Float(), nullable=True),
        sa.Column("paused_at", sa.Float(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.UniqueConstraint("project_id", "name", name="uq_schedules_name"),
        sa.CheckConstraint("catch_up IN ('all', 'one', 'none')", name="ck_schedules_catch_up"),
        sa.CheckConstraint("overlap IN ('skip', 'queue')", name="ck_schedules_overlap"),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_schedules_next", "schedules", ["next_at"], unique=False, **some("next_at IS NOT NULL", "paused_at IS NULL")
    )
    op.create_table(
        "firings",
        sa.Column("schedule", sa.Text(), nullable=False),
        sa.Column("moment", sa.Float(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=True),
        sa.Column("why", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("schedule", "moment", name="pk_firings"),
        sqlite_with_rowid=False,
    )


def _leases() -> None:
    op.create_table(
        "leases",
        sa.Column("id", BIG, nullable=False),
        sa.Column("task", BIG, nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("entry", BIG, nullable=False),
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("work", sa.Text(), nullable=False),
        sa.Column("timeout_s", sa.Float(), nullable=True),
        sa.Column("offered_at", sa.Float(), nullable=False),
        sa.Column("token", sa.Text(), nullable=True),
        sa.Column("holder", sa.Text(), nullable=True),
        sa.Column("agent", sa.Text(), nullable=True),
        sa.Column("leased_at", sa.Float(), nullable=True),
        sa.Column("expires_at", sa.Float(), nullable=True),
        sa.Column("stop", sa.Text(), nullable=True),
        sa.Column("killed", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("revision", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("progress", sa.Float(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("told_at", sa.Float(), nullable=True),
        sa.Column("checkpoint", sa.Text(), nullable=True),
        sa.Column("checkpoints", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("said", sa.Text(), nullable=True),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("closed_at", sa.Float(), nullable=True),
        sa.CheckConstraint("what IN ('execute', 'revert', 'probe')", name="ck_leases_what"),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_leases_task", "leases", ["task"], unique=False, **some("closed_at IS NULL"))
    op.create_index("uq_leases_entry", "leases", ["task", "entry"], unique=True, **some("entry > 0"))
    op.create_index(
        "ix_leases_open", "leases", ["pool", sa.text("priority DESC"), "id"], unique=False,
        **some("token IS NULL", "closed_at IS NULL"),
    )  # fmt: skip
    op.create_index("ix_leases_expires", "leases", ["expires_at"], unique=False, **some("expires_at IS NOT NULL"))
    op.create_index(
        "ix_leases_agent", "leases", ["agent"], unique=False,
        **some("agent IS NOT NULL", "ended_at IS NULL", "closed_at IS NULL"),
    )  # fmt: skip
    op.create_index("ix_leases_closed", "leases", ["closed_at"], unique=False, **some("closed_at IS NOT NULL"))


def _writers() -> None:
    op.create_table(
        "writers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("number", BIG, nullable=False),
        sa.Column("fence", BIG, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )


def _untold() -> None:
    op.create_table(
        "untold",
        sa.Column("id", BIG, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("task", BIG, nullable=True),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("resource", sa.Text(), nullable=True),
        sa.Column("data", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )


def _finished() -> None:
    """No index has a column that changes with every step. Of a task that has ended the two moments are the same."""
    op.drop_index("ix_tasks_finished", table_name="tasks")
    op.create_index(
        "ix_tasks_finished",
        "tasks",
        ["project_id", "finished_at", "id"],
        unique=False,
        **some("finished_at IS NOT NULL"),
    )


def _checked() -> None:
    """A trigger that looks where something of it changes; each step paid for the checks on PostgreSQL."""
    if op.get_context().dialect.name != "postgresql":
        return
    op.drop_constraint("ck_tasks_finished", "tasks")
    op.drop_constraint("ck_tasks_hold", "tasks")
    op.execute(
        "CREATE FUNCTION refuse_task() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN RAISE check_violation USING MESSAGE = 'the state of a task and what goes with it differ'; END$$"
    )
    op.execute(
        "CREATE TRIGGER tg_tasks_checked AFTER INSERT OR UPDATE OF state, hold, finished_at ON tasks FOR EACH ROW"
        " WHEN (NOT ((NEW.finished_at IS NOT NULL) = (NEW.state IN"
        " ('SUCCEEDED', 'FAILED', 'CANCELLED', 'ABORTED', 'REVERTED'))"
        " AND (NEW.hold IS NOT NULL) = (NEW.state IN ('SUSPENDING', 'SUSPENDED')))) EXECUTE FUNCTION refuse_task()"
    )


def _history() -> None:
    op.add_column("store_info", sa.Column("works_with", sa.Text(), nullable=True))
    op.add_column("store_info", sa.Column("place", sa.Text(), nullable=True))
    op.add_column("workers", sa.Column("flows", sa.Text(), nullable=True))
