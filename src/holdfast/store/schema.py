"""The tables, in SQLAlchemy Core: the one description of the database.

Theory: an append of a running task must dirty few pages. So what changes with every step is in narrow rows (`tasks`
without its inputs, the last leaf of `journal`), `steps` lags behind the journal (tasks/steps.py), and no index covers
a column that changes with every step (`seq`, `updated_at`, the progress). All times are seconds since the epoch (UTC),
all values JSON texts of the codec (core/values.py). Columns have no defaults that Python would have to fill in: hot
statements bypass SQLAlchemy.

How an old database becomes this one: store/migrations/. A test holds the two together.
"""

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
    false,
    text,
)

from holdfast.core.states import API_STATES, FINAL, TASK
from holdfast.store.columns import Big, Bytewise, metadata, some
from holdfast.store.schema_around import (
    feed,
    firings,
    is_live,
    operations,
    resources,
    revisions,
    schedules,
    tags,
    untold,
    webhooks,
    writers,
)

__all__ = [
    "feed",
    "firings",
    "inputs",
    "is_live",
    "journal",
    "leases",
    "metadata",
    "operations",
    "plans",
    "pools",
    "queues",
    "resources",
    "revisions",
    "schedules",
    "steps",
    "store_info",
    "tags",
    "tasks",
    "tickets",
    "untold",
    "webhooks",
    "workers",
    "writers",
]


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
    Column("works_with", Text),  # the oldest revision whose code may still run on this database (migrations/)
    Column("place", Text),  # where the generation was drawn: another one is a copy, or was promoted (history.py)
    CheckConstraint("id = 1", name="ck_store_info_one_row"),
)

FINISHED = f"(finished_at IS NOT NULL) = (state IN ({_final_words()}))"
HOLD = f"(hold IS NOT NULL) = (state IN ({_holding_words()}))"

tasks = Table(
    "tasks",
    metadata,
    Column("id", Big, primary_key=True),  # in order of admission; never shown outside
    Column("uuid", Text, nullable=False),  # UUIDv7: the id that the world sees
    Column("seq", Big, nullable=False, server_default=text("0")),  # of the last journal row
    Column("steps_seq", Big, nullable=False, server_default=text("0")),  # of the last that the rows of `steps` tell
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
    Column("parent_id", Big),
    Column("root_id", Big),
    Column("child_key", Bytewise),  # of a child: which entry of which step of its parent made it
    Column("retry_of", Big),
    Column("rollback_of", Big),
    Column("resting", Text),  # JSON list of the ids of the steps that need an answer
    Column("result", Text),
    Column("error", Text),  # JSON of the failure
    Column("begun", Boolean, nullable=False, server_default=false()),  # a worker has had it before: it goes first
    UniqueConstraint("uuid", name="uq_tasks_uuid"),
    CheckConstraint(FINISHED, name="ck_tasks_finished").ddl_if(dialect="sqlite"),  # PostgreSQL: store/pg_creation.py
    CheckConstraint(HOLD, name="ck_tasks_hold").ddl_if(dialect="sqlite"),
    sqlite_autoincrement=True,  # an id is never used twice, even after a purge
)

some("uq_tasks_tag", tasks.c.tag, tasks.c.project_id, unique=True, where="tag IS NOT NULL")
some("ix_tasks_due", tasks.c.pool, tasks.c.due_at, where="due_at IS NOT NULL")
# Whose tickets are still to be drawn.
some(
    "ix_tasks_start_after",
    tasks.c.start_after,
    where="start_after IS NOT NULL AND executed_at IS NULL AND finished_at IS NULL",
)
# Who is late before it has begun.
some(
    "ix_tasks_deadline",
    tasks.c.pool,
    tasks.c.deadline_at,
    where="deadline_at IS NOT NULL AND executed_at IS NULL AND finished_at IS NULL",
)
# What a worker takes next, by project in turn: a seek to each, however long the backlog (tasks/turn.py).
some(
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
some("ix_tasks_held", tasks.c.pool, tasks.c.project_id, where="worker_id IS NOT NULL")
some("ix_tasks_queued", tasks.c.pool, where="executed_at IS NULL AND finished_at IS NULL")
some("ix_tasks_worker", tasks.c.worker_id, tasks.c.due_at, where="worker_id IS NOT NULL")
some("ix_tasks_expires", tasks.c.expires_at, where="expires_at IS NOT NULL")
some("ix_tasks_retry_of", tasks.c.retry_of, where="retry_of IS NOT NULL")
some("ix_tasks_rollback_of", tasks.c.rollback_of, where="rollback_of IS NOT NULL")
# Lists, each in order of admission: a page costs as much behind a million tasks as behind a hundred.
Index("ix_tasks_project", tasks.c.project_id, tasks.c.id)
Index("ix_tasks_project_state", tasks.c.project_id, tasks.c.state, tasks.c.id)
Index("ix_tasks_state", tasks.c.state, tasks.c.id)
# What has changed lately: a task that has ended changes no more, so this is written once, when it ends. `updated_at`
# would be the same moment; in an index, it would cost PostgreSQL a new entry in all of them with every step.
some("ix_tasks_finished", tasks.c.project_id, tasks.c.finished_at, tasks.c.id, where="finished_at IS NOT NULL")
some("ix_tasks_parent", tasks.c.parent_id, tasks.c.id, where="parent_id IS NOT NULL")
some("ix_tasks_request", tasks.c.request_id, tasks.c.id, where="request_id <> ''")
some("ix_tasks_resource", tasks.c.resource_id, tasks.c.project_id, tasks.c.id, where="resource_id IS NOT NULL")
some("uq_tasks_child_key", tasks.c.child_key, unique=True, where="child_key IS NOT NULL")
some("ix_tasks_root", tasks.c.root_id, tasks.c.id, where="root_id IS NOT NULL")

# Apart from `tasks`, because a row that grows with its inputs would be written whole with every step.
inputs = Table(
    "inputs",
    metadata,
    Column("task", Big, primary_key=True, autoincrement=False),
    Column("inputs", Text, nullable=False),
    Column("claims", Text, nullable=False, server_default=text("'[]'")),  # JSON list of [resource, mode], bytewise
)

journal = Table(
    "journal",
    metadata,
    Column("task", Big, nullable=False),
    Column("seq", Big, nullable=False),
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
    Column("task", Big, nullable=False),
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
    Column("resource", Bytewise, primary_key=True),
    Column("next_ticket", Big, nullable=False, server_default=text("1")),
    sqlite_with_rowid=False,
)

tickets = Table(
    "tickets",
    metadata,
    Column("resource", Bytewise, nullable=False),
    Column("ticket", Big, nullable=False),
    Column("task", Big, nullable=False),
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
    Column("flows", Text),  # JSON list: the references of the flows that were given to it
    sqlite_with_rowid=False,
)

# What holds for all workers of a pool together. Who takes, or changes a limit, locks the row first.
pools = Table(
    "pools",
    metadata,
    Column("name", Bytewise, primary_key=True),
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
    Column("id", Big, primary_key=True),  # in order of offer: grows with every new entry of a step
    Column("task", Big, nullable=False),
    Column("node", Text, nullable=False),
    Column("what", Text, nullable=False),  # execute, revert, probe
    Column("entry", Big, nullable=False),  # seq of the journal's row that begins it; 0: a probe begins nothing
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
    Column("told_at", Float),  # when its worker was told that it has begun
    Column("checkpoint", Text),
    Column("checkpoints", Integer, nullable=False, server_default=text("0")),  # number of the last
    Column("outcome", Text),  # JSON: how it ended
    Column("said", Text),  # sha256 of what the agent said of its end, to know it when it is said again
    Column("ended_at", Float),
    Column("closed_at", Float),  # when its end was recorded, or it was taken back: nobody speaks for it any more
    CheckConstraint("what IN ('execute', 'revert', 'probe')", name="ck_leases_what"),
    sqlite_autoincrement=True,  # a number is never used twice
)
some("ix_leases_task", leases.c.task, where="closed_at IS NULL")
some("uq_leases_entry", leases.c.task, leases.c.entry, unique=True, where="entry > 0")  # an entry is leased once
some(
    "ix_leases_open", leases.c.pool, leases.c.priority.desc(), leases.c.id, where="token IS NULL AND closed_at IS NULL"
)
some("ix_leases_expires", leases.c.expires_at, where="expires_at IS NOT NULL")
some("ix_leases_agent", leases.c.agent, where="agent IS NOT NULL AND ended_at IS NULL AND closed_at IS NULL")
some("ix_leases_closed", leases.c.closed_at, where="closed_at IS NOT NULL")
