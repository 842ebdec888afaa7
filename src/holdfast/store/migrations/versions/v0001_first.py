"""The first schema."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None
works_with = "0001"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
FINAL = "'SUCCEEDED', 'FAILED', 'CANCELLED', 'ABORTED', 'REVERTED'"


def some(*conditions: str) -> dict[str, Any]:
    where = sa.text(" AND ".join(conditions))
    return {"sqlite_where": where, "postgresql_where": where}


def upgrade() -> None:
    _feed()
    _inputs()
    _journal()
    _operations()
    _plans()
    _queues()
    _resources()
    _revisions()
    _steps()
    _store_info()
    _tags()
    _tasks()
    _task_indexes()
    _tickets()
    _webhooks()
    _workers()


def _feed() -> None:
    op.create_table(
        "feed",
        sa.Column("id", BIG, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("task", BIG, nullable=True),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("resource", sa.Text(), nullable=True),
        sa.Column("data", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_feed_project", "feed", ["project_id", "id"], unique=False)
    op.create_index("ix_feed_resource", "feed", ["resource", "id"], unique=False, **some("resource IS NOT NULL"))
    op.create_index("ix_feed_task", "feed", ["task", "id"], unique=False, **some("task IS NOT NULL"))


def _inputs() -> None:
    op.create_table(
        "inputs",
        sa.Column("task", BIG, autoincrement=False, nullable=False),
        sa.Column("inputs", sa.Text(), nullable=False),
        sa.Column("claims", sa.Text(), server_default=sa.text("'[]'"), nullable=False),
        sa.PrimaryKeyConstraint("task"),
    )


def _journal() -> None:
    op.create_table(
        "journal",
        sa.Column("task", BIG, nullable=False),
        sa.Column("seq", BIG, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=True),
        sa.Column("data", sa.Text(), nullable=True),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("task", "seq", name="pk_journal"),
        sqlite_with_rowid=False,
    )


def _operations() -> None:
    op.create_table(
        "operations",
        sa.Column("task", BIG, autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("revision", BIG, nullable=False),
        sa.Column("applies", sa.Boolean(), nullable=False),
        sa.Column("ends", sa.Text(), nullable=True),
        sa.Column("rules", sa.Text(), nullable=False),
        sa.Column("live", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("task"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_operations_live", "operations", ["kind", "id", "task"], unique=False, **some("live"))


def _plans() -> None:
    op.create_table(
        "plans",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("outline", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )


def _queues() -> None:
    op.create_table(
        "queues",
        sa.Column("resource", BYTEWISE, nullable=False),
        sa.Column("next_ticket", BIG, server_default=sa.text("1"), nullable=False),
        sa.PrimaryKeyConstraint("resource"),
        sqlite_with_rowid=False,
    )


def _resources() -> None:
    op.create_table(
        "resources",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("lifecycle", sa.Text(), nullable=False),
        sa.Column("planned", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("sync_status", sa.Text(), nullable=False),
        sa.Column("doubt", sa.Text(), nullable=True),
        sa.Column("desired", sa.Text(), nullable=False),
        sa.Column("revision", BIG, nullable=False),
        sa.Column("applied", sa.Text(), nullable=True),
        sa.Column("applied_revision", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("observed", sa.Text(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("waiting", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("applying", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("turns", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("last_task", sa.Text(), nullable=True),
        sa.Column("last_failed", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.Column("deleted_at", sa.Float(), nullable=True),
        sa.CheckConstraint("applied_revision <= revision", name="ck_resources_applied"),
        sa.CheckConstraint("applying >= 0 AND applying <= waiting", name="ck_resources_waiting"),
        sa.PrimaryKeyConstraint("kind", "id", name="pk_resources"),
    )
    op.create_index(
        "ix_resources_list", "resources", ["kind", "project_id", "id"], unique=False, **some("deleted_at IS NULL")
    )
    op.create_index(
        "ix_resources_name", "resources", ["kind", "name", "id"], unique=False, **some("deleted_at IS NULL")
    )


def _revisions() -> None:
    op.create_table(
        "revisions",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("revision", BIG, nullable=False),
        sa.Column("desired", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "id", "revision", name="pk_revisions"),
        sqlite_with_rowid=False,
    )


def _steps() -> None:
    op.create_table(
        "steps",
        sa.Column("task", BIG, nullable=False),
        sa.Column("ord", sa.Integer(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("progress", sa.Float(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("task", "ord", name="pk_steps"),
        sqlite_with_rowid=False,
    )


def _store_info() -> None:
    op.create_table(
        "store_info",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("generation", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("pepper", sa.Text(), nullable=True),
        sa.CheckConstraint("id = 1", name="ck_store_info_one_row"),
        sa.PrimaryKeyConstraint("id"),
    )


def _tags() -> None:
    op.create_table(
        "tags",
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("task", BIG, nullable=True),
        sa.Column("expires_at", sa.Float(), nullable=True),
        sa.Column("request", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("first_seen_at", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "tag", name="pk_tags"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_tags_expires", "tags", ["expires_at"], unique=False, **some("expires_at IS NOT NULL"))
    op.create_index("ix_tags_task", "tags", ["task"], unique=False, **some("task IS NOT NULL"))


def _tasks() -> None:
    op.create_table(
        "tasks",
        sa.Column("id", BIG, nullable=False),
        sa.Column("uuid", sa.Text(), nullable=False),
        sa.Column("seq", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("steps_seq", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("token", sa.Text(), nullable=True),
        sa.Column("epoch", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=True),
        sa.Column("host", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("hold", sa.Text(), nullable=True),
        sa.Column("goal", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("past_pivot", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("effect", sa.Text(), server_default=sa.text("'none'"), nullable=False),
        sa.Column("revert", sa.Text(), server_default=sa.text("'none'"), nullable=False),
        sa.Column("ready", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("due_at", sa.Float(), nullable=True),
        sa.Column("start_after", sa.Float(), nullable=True),
        sa.Column("deadline_at", sa.Float(), nullable=True),
        sa.Column("priority", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("pool", sa.Text(), server_default=sa.text("'default'"), nullable=False),
        sa.Column("deaths", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("progress_done", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("progress_total", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("completed", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("total", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("progress_step", sa.Text(), nullable=True),
        sa.Column("progress_message", sa.Text(), nullable=True),
        sa.Column("progress_at", sa.Float(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("executed_at", sa.Float(), nullable=True),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.Column("expires_at", sa.Float(), nullable=True),
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), server_default=sa.text("'1'"), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=True),
        sa.Column("operation", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("resource_type", sa.Text(), nullable=True),
        sa.Column("resource_id", sa.Text(), nullable=True),
        sa.Column("tag", sa.Text(), nullable=True),
        sa.Column("project_id", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("user_id", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("request_id", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("global_request_id", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("origin", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("parent_id", BIG, nullable=True),
        sa.Column("root_id", BIG, nullable=True),
        sa.Column("child_key", BYTEWISE, nullable=True),
        sa.Column("retry_of", BIG, nullable=True),
        sa.Column("rollback_of", BIG, nullable=True),
        sa.Column("resting", sa.Text(), nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("uuid", name="uq_tasks_uuid"),
        sa.CheckConstraint(f"(finished_at IS NOT NULL) = (state IN ({FINAL}))", name="ck_tasks_finished"),
        sa.CheckConstraint("(hold IS NOT NULL) = (state IN ('SUSPENDING', 'SUSPENDED'))", name="ck_tasks_hold"),
        sqlite_autoincrement=True,
    )


def _task_indexes() -> None:
    op.create_index(
        "ix_tasks_deadline",
        "tasks",
        ["deadline_at"],
        unique=False,
        **some("deadline_at IS NOT NULL", "executed_at IS NULL", "finished_at IS NULL"),
    )
    op.create_index("ix_tasks_due", "tasks", ["pool", "due_at"], unique=False, **some("due_at IS NOT NULL"))
    op.create_index("ix_tasks_expires", "tasks", ["expires_at"], unique=False, **some("expires_at IS NOT NULL"))
    op.create_index(
        "ix_tasks_finished",
        "tasks",
        ["project_id", "updated_at", "id"],
        unique=False,
        **some("finished_at IS NOT NULL"),
    )
    op.create_index("ix_tasks_parent", "tasks", ["parent_id", "id"], unique=False, **some("parent_id IS NOT NULL"))
    op.create_index("ix_tasks_project", "tasks", ["project_id", "id"], unique=False)
    op.create_index("ix_tasks_project_state", "tasks", ["project_id", "state", "id"], unique=False)
    op.create_index("ix_tasks_request", "tasks", ["request_id", "id"], unique=False, **some("request_id <> ''"))
    op.create_index(
        "ix_tasks_resource",
        "tasks",
        ["resource_id", "project_id", "id"],
        unique=False,
        **some("resource_id IS NOT NULL"),
    )
    op.create_index("ix_tasks_retry_of", "tasks", ["retry_of"], unique=False, **some("retry_of IS NOT NULL"))
    op.create_index("ix_tasks_rollback_of", "tasks", ["rollback_of"], unique=False, **some("rollback_of IS NOT NULL"))
    op.create_index("ix_tasks_root", "tasks", ["root_id", "id"], unique=False, **some("root_id IS NOT NULL"))
    op.create_index(
        "ix_tasks_start_after",
        "tasks",
        ["start_after"],
        unique=False,
        **some("start_after IS NOT NULL", "executed_at IS NULL", "finished_at IS NULL"),
    )
    op.create_index("ix_tasks_state", "tasks", ["state", "id"], unique=False)
    op.create_index(
        "ix_tasks_take",
        "tasks",
        ["pool", "ready", sa.text("priority DESC"), "id", "due_at"],
        unique=False,
        **some("worker_id IS NULL", "due_at IS NOT NULL"),
    )
    op.create_index("ix_tasks_worker", "tasks", ["worker_id", "due_at"], unique=False, **some("worker_id IS NOT NULL"))
    op.create_index("uq_tasks_child_key", "tasks", ["child_key"], unique=True, **some("child_key IS NOT NULL"))
    op.create_index("uq_tasks_tag", "tasks", ["tag", "project_id"], unique=True, **some("tag IS NOT NULL"))


def _tickets() -> None:
    op.create_table(
        "tickets",
        sa.Column("resource", BYTEWISE, nullable=False),
        sa.Column("ticket", BIG, nullable=False),
        sa.Column("task", BIG, nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("granted", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("yielding", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.CheckConstraint("mode IN ('exclusive', 'shared')", name="ck_tickets_mode"),
        sa.PrimaryKeyConstraint("resource", "ticket", name="pk_tickets"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_tickets_queue", "tickets", ["resource", "granted", "mode", "yielding", "ticket", "task"], unique=False
    )
    op.create_index("ix_tickets_task", "tickets", ["task"], unique=False)


def _webhooks() -> None:
    op.create_table(
        "webhooks",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("wants", sa.Text(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("delivered", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("failing_since", sa.Float(), nullable=True),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_at", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("disabled", sa.Text(), nullable=True),
        sa.Column("sender", sa.Text(), nullable=True),
        sa.Column("sender_until", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_webhooks_project", "webhooks", ["project_id", "id"], unique=False)


def _workers() -> None:
    op.create_table(
        "workers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("boot", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("lock_path", sa.Text(), nullable=True),
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("heartbeat_at", sa.Float(), nullable=False),
        sa.Column("lease_s", sa.Float(), nullable=False),
        sa.Column("dead", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("draining_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
