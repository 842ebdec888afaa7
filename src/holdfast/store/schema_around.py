"""The tables around the tasks: what names them, tells of them, makes them and is changed by them. Those of the engine,
and what holds for all: schema.py."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Float,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from holdfast.store.columns import Big, metadata, some

tags = Table(
    "tags",
    metadata,
    Column("project_id", Text, nullable=False),
    Column("tag", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("task", Big),  # NULL: the task was purged; the row still answers "gone"
    Column("expires_at", Float),
    Column("request", Text, nullable=False, server_default=text("''")),  # for people: POST /v3/servers
    Column("first_seen_at", Float, nullable=False, server_default=text("0")),
    PrimaryKeyConstraint("project_id", "tag", name="pk_tags"),
    sqlite_with_rowid=False,
)
some("ix_tags_expires", tags.c.expires_at, where="expires_at IS NOT NULL")
some("ix_tags_task", tags.c.task, where="task IS NOT NULL")

# What has happened, for who listens: written with what it tells of, read by feed/, purged by age. No row of another
# table is needed to show one.
feed = Table(
    "feed",
    metadata,
    Column("id", Big, primary_key=True),  # in order of commit: SQLite has one writer at a time
    Column("at", Float, nullable=False),
    Column("type", Text, nullable=False),  # task.state …
    Column("project_id", Text, nullable=False),
    Column("task", Big),
    Column("subject", Text, nullable=False),  # tasks/<uuid>, <kind>/<id>
    Column("resource", Text),  # the id of the resource that it is about
    Column("data", Text, nullable=False),
    sqlite_autoincrement=True,  # an id is never used twice, even after a purge
)
Index("ix_feed_project", feed.c.project_id, feed.c.id)
some("ix_feed_task", feed.c.task, feed.c.id, where="task IS NOT NULL")
some("ix_feed_resource", feed.c.resource, feed.c.id, where="resource IS NOT NULL")

# Events of transactions that are not ours to end: an id of `feed` is drawn once they have committed (tasks/tell.py).
untold = Table(
    "untold",
    metadata,
    Column("id", Big, primary_key=True),
    Column("at", Float, nullable=False),
    Column("type", Text, nullable=False),
    Column("project_id", Text, nullable=False),
    Column("task", Big),
    Column("subject", Text, nullable=False),
    Column("resource", Text),
    Column("data", Text, nullable=False),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project_id", Text, nullable=False),  # whose events it gets
    Column("user_id", Text, nullable=False, server_default=text("''")),
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False),  # sealed
    Column("wants", Text, nullable=False, server_default=text("'{}'")),  # JSON: what of the feed it is for
    Column("delivered", Big, nullable=False, server_default=text("0")),  # feed.id up to which it has had all
    Column("created_at", Float, nullable=False),
    Column("failing_since", Float),
    Column("failures", Integer, nullable=False, server_default=text("0")),  # in a row
    Column("next_at", Float, nullable=False, server_default=text("0")),  # not before
    Column("disabled", Text),  # why nothing is sent any more
    Column("sender", Text),  # which process sends, and until when it alone may
    Column("sender_until", Float, nullable=False, server_default=text("0")),
    sqlite_with_rowid=False,
)
Index("ix_webhooks_project", webhooks.c.project_id, webhooks.c.id)

# What is to be asked for again and again: tasks/schedules.py.
schedules = Table(
    "schedules",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project_id", Text, nullable=False),
    Column("user_id", Text, nullable=False, server_default=text("''")),
    Column("name", Text, nullable=False),
    Column("cron", Text, nullable=False),
    Column("timezone", Text, nullable=False),
    Column("catch_up", Text, nullable=False),  # what becomes of moments that passed while nobody looked
    Column("overlap", Text, nullable=False),  # what becomes of one at which the task before has not ended
    Column("what", Text, nullable=False),  # JSON: the flow or the operation that is asked for
    Column("inputs", Text, nullable=False, server_default=text("'{}'")),
    Column("next_at", Float),  # NULL: never
    Column("paused_at", Float),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    UniqueConstraint("project_id", "name", name="uq_schedules_name"),
    CheckConstraint("catch_up IN ('all', 'one', 'none')", name="ck_schedules_catch_up"),
    CheckConstraint("overlap IN ('skip', 'queue')", name="ck_schedules_overlap"),
    sqlite_with_rowid=False,
)
some("ix_schedules_next", schedules.c.next_at, where="next_at IS NOT NULL AND paused_at IS NULL")

# The moments of schedules that have come, the latest of each: the key is what makes of one moment one task.
firings = Table(
    "firings",
    metadata,
    Column("schedule", Text, nullable=False),
    Column("moment", Float, nullable=False),
    Column("at", Float, nullable=False),  # when somebody looked
    Column("outcome", Text, nullable=False),  # FIRED, SKIPPED, MISSED, REFUSED
    Column("task", Text),  # the uuid of the task that was made: it outlives the task
    Column("why", Text),  # JSON of the failure: why there is none
    PrimaryKeyConstraint("schedule", "moment", name="pk_firings"),
    sqlite_with_rowid=False,
)

# Of each process that writes to a PostgreSQL: how far its commits came (store/pg_session.py). SQLite needs none.
writers = Table(
    "writers",
    metadata,
    Column("id", Text, primary_key=True),  # random: one store of one process
    Column("number", Big, nullable=False),  # of its last commit
    Column("fence", Big, nullable=False),  # no commit up to this number may come any more
    Column("at", Float, nullable=False),
    sqlite_with_rowid=False,
)

# What tasks act on. A row is written by tasks only (resources/state.py), and stays when the resource is deleted.
resources = Table(
    "resources",
    metadata,
    Column("kind", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("project_id", Text, nullable=False),
    Column("name", Text, nullable=False, server_default=text("''")),
    Column("lifecycle", Text, nullable=False),  # where it stands
    Column("planned", Text, nullable=False),  # where the last task in its queue will leave it
    Column("status", Text, nullable=False),  # is it up
    Column("sync_status", Text, nullable=False),  # is it as desired: IN_SYNC, SYNCING, OUT_OF_SYNC, UNKNOWN
    Column("doubt", Text),  # drift: found not to be as applied; unknown: nobody knows
    Column("desired", Text, nullable=False),  # JSON
    Column("revision", Big, nullable=False),  # of `desired`; 1 is the first
    Column("applied", Text),
    Column("applied_revision", Big, nullable=False, server_default=text("0")),
    Column("observed", Text, nullable=False, server_default=text("'{}'")),  # what drivers and probes saw
    Column("waiting", Integer, nullable=False, server_default=text("0")),  # operations that have not ended
    Column("applying", Integer, nullable=False, server_default=text("0")),  # of those, the ones that apply `desired`
    Column("turns", Big, nullable=False, server_default=text("0")),  # operations that have ended
    Column("last_task", Text),  # the uuid of the last task that was asked for: it outlives the task
    Column("last_failed", Text),  # JSON: uuid, task, step, error code, and what covers it
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("deleted_at", Float),
    PrimaryKeyConstraint("kind", "id", name="pk_resources"),
    CheckConstraint("applied_revision <= revision", name="ck_resources_applied"),
    CheckConstraint("applying >= 0 AND applying <= waiting", name="ck_resources_waiting"),
)
some("ix_resources_list", resources.c.kind, resources.c.project_id, resources.c.id, where="deleted_at IS NULL")
some("ix_resources_name", resources.c.kind, resources.c.name, resources.c.id, where="deleted_at IS NULL")

revisions = Table(
    "revisions",
    metadata,
    Column("kind", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("revision", Big, nullable=False),
    Column("desired", Text, nullable=False),
    Column("task", Text, nullable=False),  # the uuid of the task that brought it
    Column("at", Float, nullable=False),
    PrimaryKeyConstraint("kind", "id", "revision", name="pk_revisions"),
    sqlite_with_rowid=False,
)

# What the end of a task means for its resource, as data: whoever ends it need not know the kind.
operations = Table(
    "operations",
    metadata,
    Column("task", Big, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("revision", Big, nullable=False),  # the one that it is to work with
    Column("applies", Boolean, nullable=False),  # its success makes that the applied one
    Column("ends", Text),  # where its success leaves the resource; NULL: where it was
    Column("rules", Text, nullable=False),  # JSON: resources/state.py, Rules
    Column("live", Boolean, nullable=False),  # the task has not ended
    sqlite_with_rowid=False,
)
some("ix_operations_live", operations.c.kind, operations.c.id, operations.c.task, where="live")
#: In the index's own words: for `live = 1` SQLite does not use it.
is_live = text("operations.live")
