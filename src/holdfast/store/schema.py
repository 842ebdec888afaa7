"""The tables, in SQLAlchemy Core: the one description of the database.

Theory: an append of a running task must dirty few pages. So what changes with every step is in narrow rows (`tasks`
without its inputs, the last leaf of `journal`), `steps` lags behind the journal (tasks/steps.py), and no index covers
a column that changes with every step (`seq`, `updated_at`, the progress). All times are seconds since the epoch (UTC),
all values JSON texts of the codec (core/values.py). Columns have no defaults that Python would have to fill in: hot
statements bypass SQLAlchemy.

How an old database becomes this one: store/migrations/. A test holds the two together.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UnaryExpression,
    UniqueConstraint,
    false,
    text,
)

from holdfast.core.states import API_STATES, FINAL, TASK

metadata: Final = MetaData()

_Big = BigInteger().with_variant(Integer(), "sqlite")  # SQLite's INTEGER has 64 bits, and only it can be a row id
_Bytewise = Text().with_variant(Text(collation="C"), "postgresql")  # locked in this order: never a language's


def _final_words() -> str:
    return ", ".join(f"'{state}'" for state in API_STATES if state in FINAL)


def _holding_words() -> str:
    return ", ".join(f"'{state}'" for state in API_STATES if state not in TASK.rows)


store_info = Table(
    "store_info",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # always 1
    Column("generation", Text, nullable=False),  # new after a restore or a promotion: makes every older token stale
    Column("created_at", Float, nullable=False),
    Column("pepper", Text),  # sealed: what fingerprints of secrets are made with (tasks/tags.py)
    CheckConstraint("id = 1", name="ck_store_info_one_row"),
)

tasks = Table(
    "tasks",
    metadata,
    Column("id", _Big, primary_key=True),  # in order of admission; never shown outside
    Column("uuid", Text, nullable=False),  # UUIDv7: the id that the world sees
    Column("seq", _Big, nullable=False, server_default=text("0")),  # of the last journal row
    Column("steps_seq", _Big, nullable=False, server_default=text("0")),  # of the last that the rows of `steps` tell
    Column("token", Text),  # who may append: generation.epoch.nonce; NULL: nobody
    Column("epoch", Integer, nullable=False, server_default=text("0")),
    Column("worker_id", Text),  # workers.id of who has taken it
    Column("host", Text),  # of who took it last
    Column("state", Text, nullable=False),
    Column("hold", Text),  # what SUSPENDING and SUSPENDED hold: pending, forward, reverting, cancelling
    Column("goal", Text),  # heading back: FAILED, CANCELLED, REVERTED
    Column("reason", Text),  # why it rests
    Column("past_pivot", Boolean, nullable=False, server_default=false()),
    Column("effect", Text, nullable=False, server_default=text("'none'")),
    Column("revert", Text, nullable=False, server_default=text("'none'")),
    Column("ready", Boolean, nullable=False, server_default=false()),  # all tickets granted
    Column("due_at", Float),  # when a worker has something to do; NULL: nothing until an event comes
    Column("start_after", Float),
    Column("deadline_at", Float),  # of a task that has not begun: when its flow's deadline is over
    Column("priority", Integer, nullable=False, server_default=text("0")),
    Column("pool", Text, nullable=False, server_default=text("'default'")),
    Column(
        "deaths", Integer, nullable=False, server_default=text("0")
    ),  # in a row, of workers while steps were in flight
    Column("progress_done", Float, nullable=False, server_default=text("0")),  # in weights
    Column("progress_total", Float, nullable=False, server_default=text("0")),
    Column("completed", Integer, nullable=False, server_default=text("0")),  # steps
    Column("total", Integer, nullable=False, server_default=text("0")),
    Column("progress_step", Text),
    Column("progress_message", Text),
    Column("progress_at", Float),
    Column("created_at", Float, nullable=False),
    Column("executed_at", Float),  # first execution
    Column("updated_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("expires_at", Float),  # when it may be purged
    Column("flow", Text, nullable=False),  # the flow's name
    Column("version", Text, nullable=False, server_default=text("'1'")),
    Column("reference", Text, nullable=False),  # how the flow is found again
    Column("digest", Text),  # of the plan it began with: plans.digest
    Column("operation", Text, nullable=False, server_default=text("''")),  # what it is called; '': as the flow
    Column("resource_type", Text),  # the kind of the resource that it is for: server
    Column("resource_id", Text),
    Column("tag", Text),
    Column("project_id", Text, nullable=False, server_default=text("''")),
    Column("user_id", Text, nullable=False, server_default=text("''")),
    Column("request_id", Text, nullable=False, server_default=text("''")),
    Column("global_request_id", Text, nullable=False, server_default=text("''")),  # the caller's own
    Column("origin", Text, nullable=False, server_default=text("''")),
    Column("parent_id", _Big),
    Column("root_id", _Big),
    Column("child_key", _Bytewise),  # of a child: which entry of which step of its parent made it
    Column("retry_of", _Big),
    Column("rollback_of", _Big),
    Column("resting", Text),  # JSON list of the ids of the steps that need an answer
    Column("result", Text),
    Column("error", Text),  # JSON of the failure
    Column("begun", Boolean, nullable=False, server_default=false()),  # a worker has had it before: it goes first
    UniqueConstraint("uuid", name="uq_tasks_uuid"),
    CheckConstraint(f"(finished_at IS NOT NULL) = (state IN ({_final_words()}))", name="ck_tasks_finished"),
    CheckConstraint(f"(hold IS NOT NULL) = (state IN ({_holding_words()}))", name="ck_tasks_hold"),
    sqlite_autoincrement=True,  # an id is never used twice, even after a purge
)


def _some(name: str, *columns: Column[Any] | UnaryExpression[Any], unique: bool = False, where: str) -> Index:
    """An index over the rows that have a value: the others cost nothing."""
    return Index(name, *columns, unique=unique, sqlite_where=text(where), postgresql_where=text(where))


_some("uq_tasks_tag", tasks.c.tag, tasks.c.project_id, unique=True, where="tag IS NOT NULL")
_some("ix_tasks_due", tasks.c.pool, tasks.c.due_at, where="due_at IS NOT NULL")
# Whose tickets are still to be drawn.
_some(
    "ix_tasks_start_after",
    tasks.c.start_after,
    where="start_after IS NOT NULL AND executed_at IS NULL AND finished_at IS NULL",
)
# Who is late before it has begun.
_some(
    "ix_tasks_deadline",
    tasks.c.deadline_at,
    where="deadline_at IS NOT NULL AND executed_at IS NULL AND finished_at IS NULL",
)
# What a worker takes next, by project in turn: a seek to each, however long the backlog (tasks/turn.py).
_some(
    "ix_tasks_turn",
    tasks.c.pool,
    tasks.c.ready,
    tasks.c.priority.desc(),
    tasks.c.project_id,
    tasks.c.begun,
    tasks.c.due_at,
    tasks.c.id,
    where="worker_id IS NULL AND due_at IS NOT NULL",
)
# What of a pool is taken, and what of it has not begun: for its limits (tasks/pools.py).
_some("ix_tasks_held", tasks.c.pool, tasks.c.project_id, where="worker_id IS NOT NULL")
_some("ix_tasks_queued", tasks.c.pool, where="executed_at IS NULL AND finished_at IS NULL")
_some("ix_tasks_worker", tasks.c.worker_id, tasks.c.due_at, where="worker_id IS NOT NULL")
_some("ix_tasks_expires", tasks.c.expires_at, where="expires_at IS NOT NULL")
_some("ix_tasks_retry_of", tasks.c.retry_of, where="retry_of IS NOT NULL")
_some("ix_tasks_rollback_of", tasks.c.rollback_of, where="rollback_of IS NOT NULL")
# Lists, each in order of admission: a page costs as much behind a million tasks as behind a hundred.
Index("ix_tasks_project", tasks.c.project_id, tasks.c.id)
Index("ix_tasks_project_state", tasks.c.project_id, tasks.c.state, tasks.c.id)
Index("ix_tasks_state", tasks.c.state, tasks.c.id)
# What has changed lately: a task that has ended changes no more, so this is written once, when it ends.
_some("ix_tasks_finished", tasks.c.project_id, tasks.c.updated_at, tasks.c.id, where="finished_at IS NOT NULL")
_some("ix_tasks_parent", tasks.c.parent_id, tasks.c.id, where="parent_id IS NOT NULL")
_some("ix_tasks_request", tasks.c.request_id, tasks.c.id, where="request_id <> ''")
_some("ix_tasks_resource", tasks.c.resource_id, tasks.c.project_id, tasks.c.id, where="resource_id IS NOT NULL")
_some("uq_tasks_child_key", tasks.c.child_key, unique=True, where="child_key IS NOT NULL")
_some("ix_tasks_root", tasks.c.root_id, tasks.c.id, where="root_id IS NOT NULL")

# Apart from `tasks`, because a row that grows with its inputs would be written whole with every step.
inputs = Table(
    "inputs",
    metadata,
    Column("task", _Big, primary_key=True, autoincrement=False),
    Column("inputs", Text, nullable=False),
    Column("claims", Text, nullable=False, server_default=text("'[]'")),  # JSON list of [resource, mode], bytewise
)

journal = Table(
    "journal",
    metadata,
    Column("task", _Big, nullable=False),
    Column("seq", _Big, nullable=False),
    Column("kind", Text, nullable=False),
    Column("node", Text),
    Column("data", Text),
    Column("at", Float, nullable=False),
    PrimaryKeyConstraint("task", "seq", name="pk_journal"),
    sqlite_with_rowid=False,
)

steps = Table(
    "steps",
    metadata,
    Column("task", _Big, nullable=False),
    Column("ord", Integer, nullable=False),  # in order of first start
    Column("node", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("ended_at", Float),
    Column("progress", Float),
    Column("message", Text),
    Column("error", Text),
    PrimaryKeyConstraint("task", "ord", name="pk_steps"),
    sqlite_with_rowid=False,
)

plans = Table(
    "plans",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("outline", Text, nullable=False),
)

# Of each resource that was ever claimed: where its queue (`tickets`) goes on.
queues = Table(
    "queues",
    metadata,
    Column("resource", _Bytewise, primary_key=True),
    Column("next_ticket", _Big, nullable=False, server_default=text("1")),
    sqlite_with_rowid=False,
)

tickets = Table(
    "tickets",
    metadata,
    Column("resource", _Bytewise, nullable=False),
    Column("ticket", _Big, nullable=False),
    Column("task", _Big, nullable=False),
    Column("mode", Text, nullable=False),  # exclusive, shared
    Column("granted", Boolean, nullable=False, server_default=false()),
    Column("yielding", Boolean, nullable=False, server_default=false()),
    PrimaryKeyConstraint("resource", "ticket", name="pk_tickets"),
    CheckConstraint("mode IN ('exclusive', 'shared')", name="ck_tickets_mode"),
    sqlite_with_rowid=False,
)
Index("ix_tickets_task", tickets.c.task)
# Who holds a resource, and the head of its queue, by a seek each: however many wait.
Index(
    "ix_tickets_queue",
    tickets.c.resource,
    tickets.c.granted,
    tickets.c.mode,
    tickets.c.yielding,
    tickets.c.ticket,
    tickets.c.task,
)

workers = Table(
    "workers",
    metadata,
    Column("id", Text, primary_key=True),  # random: one incarnation of one process, never used again
    Column("host", Text, nullable=False),
    Column("boot", Text, nullable=False),  # the host's boot id
    Column("pid", Integer, nullable=False),
    Column("lock_path", Text),  # held by the worker and its children while any of them lives
    Column("pool", Text, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("heartbeat_at", Float, nullable=False),
    Column("lease_s", Float, nullable=False),
    Column("dead", Boolean, nullable=False, server_default=false()),
    Column("draining_at", Float),  # somebody asked it then to take no more and to hand over what it has
    Column("version", Text),  # of its Holdfast
    Column("figures", Text),  # JSON: what it has counted since it began, as of its last heartbeat
    sqlite_with_rowid=False,
)

# What holds for all workers of a pool together. Who takes, or changes a limit, locks the row first.
pools = Table(
    "pools",
    metadata,
    Column("name", _Bytewise, primary_key=True),
    Column("running_max", Integer),  # tasks that may be taken at once; NULL: as many as the workers can
    Column("queued_max", Integer),  # tasks that may wait to be begun; NULL: any number
    Column("paused_at", Float),  # since when nothing of it is taken
    Column("draining_at", Float),  # since when its workers hand over what they have, too
    Column("figures", Text),  # JSON: what workers counted whose rows are forgotten
    CheckConstraint("running_max >= 1", name="ck_pools_running"),
    CheckConstraint("queued_max >= 1", name="ck_pools_queued"),
    sqlite_with_rowid=False,
)

# Steps that agents run: offered, leased, heard of, ended (tasks/agents.py). A row is one entry of one step.
leases = Table(
    "leases",
    metadata,
    Column("id", _Big, primary_key=True),  # in order of offer: grows with every new entry of a step
    Column("task", _Big, nullable=False),
    Column("node", Text, nullable=False),
    Column("what", Text, nullable=False),  # execute, revert, probe
    Column("entry", _Big, nullable=False),  # seq of the journal's row that begins it; 0: a probe begins nothing
    Column("pool", Text, nullable=False),
    Column("priority", Integer, nullable=False, server_default=text("0")),
    Column("work", Text, nullable=False),  # JSON: what the agent is told, with sealed secrets
    Column("timeout_s", Float),  # that the step has from when it is leased
    Column("offered_at", Float, nullable=False),
    Column("token", Text),  # who may speak for it: generation.id.nonce; NULL: nobody has leased it
    Column("holder", Text),  # the user that the token is good for
    Column("agent", Text),  # what the agent that leased it calls itself: one incarnation of one process
    Column("leased_at", Float),
    Column("expires_at", Float),  # when the agent counts as dead; NULL: it has not begun, or has ended
    Column("stop", Text),  # why it is asked to stop
    Column("killed", Boolean, nullable=False, server_default=false()),  # and to end it at once
    Column("revision", Integer, nullable=False, server_default=text("0")),  # grows with all that its worker must hear
    Column("progress", Float),
    Column("message", Text),
    Column("told_at", Float),  # when its worker was last told of progress
    Column("checkpoint", Text),
    Column("checkpoints", Integer, nullable=False, server_default=text("0")),  # number of the last
    Column("outcome", Text),  # JSON: how it ended
    Column("said", Text),  # sha256 of what the agent said of its end, to know it when it is said again
    Column("ended_at", Float),
    Column("closed_at", Float),  # when its end was recorded, or it was taken back: nobody speaks for it any more
    CheckConstraint("what IN ('execute', 'revert', 'probe')", name="ck_leases_what"),
    sqlite_autoincrement=True,  # a number is never used twice
)
Index("ix_leases_task", leases.c.task)
_some("uq_leases_entry", leases.c.task, leases.c.entry, unique=True, where="entry > 0")  # an entry is leased once
_some(
    "ix_leases_open", leases.c.pool, leases.c.priority.desc(), leases.c.id, where="token IS NULL AND closed_at IS NULL"
)
_some("ix_leases_expires", leases.c.expires_at, where="expires_at IS NOT NULL")
_some("ix_leases_agent", leases.c.agent, where="agent IS NOT NULL AND ended_at IS NULL AND closed_at IS NULL")
_some("ix_leases_closed", leases.c.closed_at, where="closed_at IS NOT NULL")

tags = Table(
    "tags",
    metadata,
    Column("project_id", Text, nullable=False),
    Column("tag", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("task", _Big),  # NULL: the task was purged; the row still answers "gone"
    Column("expires_at", Float),
    Column("request", Text, nullable=False, server_default=text("''")),  # for people: POST /v3/servers
    Column("first_seen_at", Float, nullable=False, server_default=text("0")),
    PrimaryKeyConstraint("project_id", "tag", name="pk_tags"),
    sqlite_with_rowid=False,
)
_some("ix_tags_expires", tags.c.expires_at, where="expires_at IS NOT NULL")
_some("ix_tags_task", tags.c.task, where="task IS NOT NULL")

# What has happened, for who listens: written with what it tells of, read by feed/, purged by age. No row of another
# table is needed to show one.
feed = Table(
    "feed",
    metadata,
    Column("id", _Big, primary_key=True),  # in order of commit: SQLite has one writer at a time
    Column("at", Float, nullable=False),
    Column("type", Text, nullable=False),  # task.state …
    Column("project_id", Text, nullable=False),
    Column("task", _Big),
    Column("subject", Text, nullable=False),  # tasks/<uuid>, <kind>/<id>
    Column("resource", Text),  # the id of the resource that it is about
    Column("data", Text, nullable=False),
    sqlite_autoincrement=True,  # an id is never used twice, even after a purge
)
Index("ix_feed_project", feed.c.project_id, feed.c.id)
_some("ix_feed_task", feed.c.task, feed.c.id, where="task IS NOT NULL")
_some("ix_feed_resource", feed.c.resource, feed.c.id, where="resource IS NOT NULL")

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project_id", Text, nullable=False),  # whose events it gets
    Column("user_id", Text, nullable=False, server_default=text("''")),
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False),  # sealed
    Column("wants", Text, nullable=False, server_default=text("'{}'")),  # JSON: what of the feed it is for
    Column("delivered", _Big, nullable=False, server_default=text("0")),  # feed.id up to which it has had all
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
_some("ix_schedules_next", schedules.c.next_at, where="next_at IS NOT NULL AND paused_at IS NULL")

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
    Column("number", _Big, nullable=False),  # of its last commit
    Column("fence", _Big, nullable=False),  # no commit up to this number may come any more
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
    Column("revision", _Big, nullable=False),  # of `desired`; 1 is the first
    Column("applied", Text),
    Column("applied_revision", _Big, nullable=False, server_default=text("0")),
    Column("observed", Text, nullable=False, server_default=text("'{}'")),  # what drivers and probes saw
    Column("waiting", Integer, nullable=False, server_default=text("0")),  # operations that have not ended
    Column("applying", Integer, nullable=False, server_default=text("0")),  # of those, the ones that apply `desired`
    Column("turns", _Big, nullable=False, server_default=text("0")),  # operations that have ended
    Column("last_task", Text),  # the uuid of the last task that was asked for: it outlives the task
    Column("last_failed", Text),  # JSON: uuid, task, step, error code, and what covers it
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("deleted_at", Float),
    PrimaryKeyConstraint("kind", "id", name="pk_resources"),
    CheckConstraint("applied_revision <= revision", name="ck_resources_applied"),
    CheckConstraint("applying >= 0 AND applying <= waiting", name="ck_resources_waiting"),
)
_some("ix_resources_list", resources.c.kind, resources.c.project_id, resources.c.id, where="deleted_at IS NULL")
_some("ix_resources_name", resources.c.kind, resources.c.name, resources.c.id, where="deleted_at IS NULL")

revisions = Table(
    "revisions",
    metadata,
    Column("kind", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("revision", _Big, nullable=False),
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
    Column("task", _Big, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("revision", _Big, nullable=False),  # the one that it is to work with
    Column("applies", Boolean, nullable=False),  # its success makes that the applied one
    Column("ends", Text),  # where its success leaves the resource; NULL: where it was
    Column("rules", Text, nullable=False),  # JSON: resources/state.py, Rules
    Column("live", Boolean, nullable=False),  # the task has not ended
    sqlite_with_rowid=False,
)
_some("ix_operations_live", operations.c.kind, operations.c.id, operations.c.task, where="live")
