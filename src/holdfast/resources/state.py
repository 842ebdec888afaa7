"""The rows of resources: how they are read, shown and, by tasks only, written.

Theory: `desired` is what was asked for, `applied` what a task has made true last; each has a revision, and a revision
is never changed. `status` says whether the resource is up, `sync_status` whether it is as desired. The second is never
set by hand: it follows from the revisions, from what is on its way and from what is in doubt (`sync_of`).

Who writes what when: operate.py (admission) and project.py (the end of a task).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from sqlalchemy import bindparam, func, null, select, update

from holdfast.core import compact
from holdfast.errors import NoTask, ResourceNotFound
from holdfast.store.base import LOCKS, Into, Tx
from holdfast.store.schema import is_live, operations, resources, revisions, tasks
from holdfast.tasks import show as eye
from holdfast.tasks import tell
from holdfast.tasks.row import TaskRow

IN_SYNC: Final = "IN_SYNC"
SYNCING: Final = "SYNCING"
OUT_OF_SYNC: Final = "OUT_OF_SYNC"
UNKNOWN: Final = "UNKNOWN"
SYNC_STATES: Final = (IN_SYNC, SYNCING, OUT_OF_SYNC, UNKNOWN)

DRIFT: Final = "drift"
IN_DOUBT: Final = "unknown"
LIMIT: Final = 50
LIMIT_MAX: Final = 1000


class ResourceRow(NamedTuple):
    """The columns of schema.resources, in its order (a test holds the two together)."""

    kind: str
    id: str
    project_id: str
    name: str
    lifecycle: str
    planned: str
    status: str
    sync_status: str
    doubt: str | None
    desired: str
    revision: int
    applied: str | None
    applied_revision: int
    observed: str
    waiting: int
    applying: int
    turns: int
    last_task: str | None
    last_failed: str | None
    created_at: float
    updated_at: float
    deleted_at: float | None

    @property
    def key(self) -> str:
        """What claims call it: `port/0198…`."""
        return f"{self.kind}/{self.id}"

    @property
    def document(self) -> dict[str, Any]:
        """The desired document, as it is shown. With its secrets: sealing.py."""
        found: dict[str, Any] = eye.value(self.desired)
        return found


def sync_of(row: ResourceRow) -> str:
    """The sync status that follows from the rest of the row."""
    if row.deleted_at is not None:
        return IN_SYNC
    if row.doubt == IN_DOUBT:
        return UNKNOWN
    if row.applying:
        return SYNCING
    if row.applied_revision < row.revision or row.doubt == DRIFT:
        return OUT_OF_SYNC
    return IN_SYNC


#: Plain JSON as the tables keep it. Documents are text of the codec (core/values.py).
text: Final = compact.writer()


# --- reading -----------------------------------------------------------------------------------------------------

_c = resources.c
_KEY: Final = (_c.kind == bindparam("_kind")) & (_c.id == bindparam("_id"))
_READ: Final = select(resources).where(_KEY)
# An UPDATE, as tasks/row.py: on READ COMMITTED only it sees what the writer before it has committed.
_LOCK: Final = (
    update(resources).where(_KEY).values(turns=_c.turns).returning(resources).execution_options(**{LOCKS: True})
)
_REVISIONS: Final = (
    select(revisions)
    .where(
        revisions.c.kind == bindparam("_kind"),
        revisions.c.id == bindparam("_id"),
        revisions.c.revision < bindparam("_before"),
    )
    .order_by(revisions.c.revision.desc())
    .limit(bindparam("_limit"))
)
_REVISION: Final = select(revisions.c.desired).where(
    revisions.c.kind == bindparam("_kind"),
    revisions.c.id == bindparam("_id"),
    revisions.c.revision == bindparam("_revision"),
)
_QUEUE: Final = (
    select(tasks.c.uuid, operations.c.name, tasks.c.state)
    .select_from(operations.join(tasks, tasks.c.id == operations.c.task))
    .where(operations.c.kind == bindparam("_kind"), operations.c.id == bindparam("_id"), is_live)
    .order_by(operations.c.task)
    .limit(bindparam("_limit"))
)
QUEUE_SHOWN: Final = 50
_LAST: Final = 1 << 62


def read(tx: Tx, kind: str, id: str, *, project_id: str | None = None, deleted: bool = False) -> ResourceRow:
    """The resource. `project_id`: that of another project is not there. `deleted`: one that is no more, too.

    Raises: ResourceNotFound.
    """
    return _found(tx.execute(_READ, {"_kind": kind, "_id": id}).first(), kind, id, project_id, deleted)


def find(tx: Tx, kind: str, id: str) -> ResourceRow | None:
    """The row whatever became of the resource; None: there never was one."""
    found = tx.execute(_READ, {"_kind": kind, "_id": id}).first()
    return None if found is None else ResourceRow._make(found)


def lock(tx: Tx, kind: str, id: str) -> ResourceRow | None:
    """The row as it is once every other writer of it has ended, and until this transaction ends; None: none."""
    found = tx.execute(_LOCK, {"_kind": kind, "_id": id}).first()
    return None if found is None else ResourceRow._make(found)


def _found(row: Any, kind: str, id: str, project_id: str | None, deleted: bool) -> ResourceRow:
    if row is not None:
        found = ResourceRow._make(row)
        if (deleted or found.deleted_at is None) and project_id in (None, found.project_id):
            return found
    raise missing(kind, id)


def missing(kind: str, id: str) -> ResourceNotFound:
    """What is said of a resource that is not there, and of one that the asker may not know of."""
    return ResourceNotFound(f"there is no {kind} {id[:80]}", kind=kind, id=id[:80])


def page(
    tx: Tx,
    kind: str | None,
    *,
    project_id: str | None = None,
    name: str | None = None,
    status: str | None = None,
    sync_status: str | None = None,
    limit: int = LIMIT,
    marker: str | None = None,
) -> list[ResourceRow]:
    """Resources that are there, by id, behind `marker` (an id). `kind` None: of all kinds; then the marker is an id of
    whatever kind."""
    statement = select(resources).where(_c.deleted_at.is_(null()))
    wanted: Mapping[Any, str | None] = {
        _c.kind: kind, _c.project_id: project_id, _c.name: name, _c.status: status, _c.sync_status: sync_status
    }  # fmt: skip
    for column, value in wanted.items():
        if value is not None:
            statement = statement.where(column == value)
    if marker is not None:
        statement = statement.where(_c.id > marker)
    statement = statement.order_by(_c.id, _c.kind).limit(min(limit, LIMIT_MAX))
    return [ResourceRow._make(row) for row in tx.execute(statement).all()]


def revisions_of(tx: Tx, row: ResourceRow, *, limit: int = LIMIT, before: int | None = None) -> list[dict[str, Any]]:
    """What was desired, the newest first, each with the task that brought it."""
    where = {"_kind": row.kind, "_id": row.id, "_before": before or _LAST, "_limit": min(limit, LIMIT_MAX)}
    return [
        {
            "revision": found.revision,
            "desired": eye.value(found.desired),
            "task_id": found.task,
            "created_at": found.at,
            "applied": found.revision == row.applied_revision,
        }
        for found in tx.execute(_REVISIONS, where).all()
    ]


def revision(tx: Tx, kind: str, id: str, number: int) -> str | None:
    """The document of a revision, as text; None: it has been purged."""
    found: str | None = tx.execute(_REVISION, {"_kind": kind, "_id": id, "_revision": number}).scalar()
    return found


def show(tx: Tx, row: ResourceRow) -> dict[str, Any]:
    """The resource document of the REST contract, section 6; times in seconds since the epoch."""
    where = {"_kind": row.kind, "_id": row.id, "_limit": QUEUE_SHOWN}
    queue = tx.execute(_QUEUE, where).all() if row.waiting else []
    return {
        "id": row.id,
        "type": row.kind,
        "project_id": row.project_id,
        "name": row.name,
        "status": row.status,
        "sync_status": row.sync_status,
        "lifecycle": row.lifecycle,
        "revision": row.revision,
        "applied_revision": row.applied_revision,
        "desired": eye.value(row.desired),
        "applied": eye.value(row.applied),
        "observed": json.loads(row.observed),
        "last_task": row.last_task,
        "last_failed_task": failed_of(row),
        "queue": [{"uuid": task.uuid, "task": task.name, "state": task.state} for task in queue],
        "queue_length": row.waiting,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "deleted_at": row.deleted_at,
    }


def failed_of(row: ResourceRow) -> dict[str, Any] | None:
    """The task whose failure nothing has made good yet: uuid, task, step, error."""
    if row.last_failed is None:
        return None
    found = json.loads(row.last_failed)
    return {key: found[key] for key in ("uuid", "task", "step", "error")}


# --- writing -----------------------------------------------------------------------------------------------------

_INTO: Final = Into(resources, *ResourceRow._fields)
_CHANGE: Final = update(resources).where(_KEY)
_REVISIONS_INTO: Final = Into(revisions, "kind", "id", "revision", "desired", "task", "at")


def new(task: TaskRow | None, kind: str, id: str, *, project_id: str, lifecycle: str, now: float) -> ResourceRow:
    """A resource that a task is going to make. It is not written yet, and nothing is desired: `change` does both.

    Raises: NoTask.
    """
    if task is None:
        raise NoTask
    return ResourceRow(
        kind, id, project_id, "", lifecycle, lifecycle, lifecycle, IN_SYNC, None, "{}", 0, None, 0, "{}", 0, 0, 0,
        task.uuid, None, now, now, None,
    )  # fmt: skip


def change(
    tx: Tx, task: TaskRow | None, row: ResourceRow, now: float, *, is_new: bool = False, **columns: Any
) -> ResourceRow:
    """Write what a task makes of a resource, given the row as it is; the row after it. Its sync status follows. A new
    `desired` is a new revision, which names the task; its name, as `name` where that is at hand, is the resource's.
    `is_new`: the row is of `new`.

    Raises: NoTask.
    """
    if task is None:
        raise NoTask
    if "desired" in columns:
        columns["revision"] = row.revision + 1
        if "name" not in columns:
            name = eye.value(columns["desired"]).get("name")
            columns["name"] = name if isinstance(name, str) else row.name
    after = row._replace(**columns)
    if (synced := sync_of(after)) != after.sync_status:
        after = after._replace(sync_status=synced)
    if is_new:
        tx.add(_INTO, after)
    elif after == row:
        return row
    else:
        before = zip(row._fields, row, after, strict=True)
        changed = {name: value for name, was, value in before if value != was}
        after = after._replace(updated_at=now)
        tx.execute(_CHANGE, {"_kind": row.kind, "_id": row.id, **changed, "updated_at": now})
    if after.sync_status != row.sync_status:
        _tell(tx, tell.SYNC, task, after, row.sync_status, after.sync_status, now)
    if after.status != row.status:
        _tell(tx, tell.STATUS, task, after, row.status, after.status, now)
    if after.revision != row.revision:
        tx.add(_REVISIONS_INTO, (row.kind, row.id, after.revision, after.desired, task.uuid, now))
    return after


def _tell(tx: Tx, type: str, task: TaskRow, row: ResourceRow, before: str, to: str, now: float) -> None:
    data = {"from": before, "to": to, "resource_type": row.kind, "resource_id": row.id, "revision": row.revision,
            "applied_revision": row.applied_revision, "task": task.uuid}  # fmt: skip
    subject = f"resources/{row.key}"
    tell.tell(tx, type, task=task, data=data, now=now, project_id=row.project_id, subject=subject, resource=row.id)


def count(tx: Tx, kind: str, project_id: str) -> int:
    """How many of a kind a project has."""
    statement = select(func.count()).where(
        _c.kind == bindparam("_kind"), _c.project_id == bindparam("_project"), _c.deleted_at.is_(null())
    )
    return int(tx.execute(statement, {"_kind": kind, "_project": project_id}).scalar())
