"""Retention: ended tasks are forgotten when their time has come, a bounded number of rows at once.

Theory: one call is one short transaction, so writers wait for no purge; a journal longer than the bound takes several
calls. What has expired may be looked for beforehand, in a read (`expired`): then the transaction looks at these alone.
The tag of a purged task stays as a tombstone (tasks/tags.py).

When it is done: worker/house.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import bindparam, delete, exists, null, select, update

from holdfast.store.base import Store, Tx
from holdfast.store.schema import (
    feed,
    inputs,
    journal,
    operations,
    resources,
    revisions,
    steps,
    tags,
    tasks,
    tickets,
)

DAY_S: Final = 86_400.0


class Purged(NamedTuple):
    """`more`: there was more to do than one call does; of what it was to look among, if that was said."""

    tasks: int
    rows: int
    more: bool


_rollback = tasks.alias("rollback")
_parent = tasks.alias("parent")
#: A rollback that has not ended reads what it undoes from the journals of the other, and of its rollbacks before.
_MAY_GO: Final = (
    tasks.c.expires_at <= bindparam("_now"),
    tasks.c.finished_at.is_not(null()),
    ~exists().where(_parent.c.id == tasks.c.parent_id),  # its undo would need the child's journal
    ~exists().where(_rollback.c.rollback_of == tasks.c.id, _rollback.c.finished_at.is_(null())),
    ~exists().where(_rollback.c.rollback_of == tasks.c.rollback_of, _rollback.c.finished_at.is_(null())),
)
_EXPIRED: Final = (
    select(tasks.c.id, tasks.c.seq).where(*_MAY_GO).order_by(tasks.c.expires_at).limit(bindparam("_limit"))
)
_AMONG: Final = (
    select(tasks.c.id, tasks.c.seq)
    .where(tasks.c.id.in_(bindparam("_tasks", expanding=True)), *_MAY_GO)
    .order_by(tasks.c.id)
)
_CHILD: Final = select(tasks.c.id).where(tasks.c.parent_id.in_(bindparam("_tasks", expanding=True))).limit(1)
_EVENTS: Final = (
    select(journal.c.seq)
    .where(journal.c.task == bindparam("_task"))
    .order_by(journal.c.seq)
    .limit(1)
    .offset(bindparam("_count"))
)
_STEPS: Final = (
    select(steps.c.ord)
    .where(steps.c.task == bindparam("_task"))
    .order_by(steps.c.ord)
    .limit(1)
    .offset(bindparam("_count"))
)
_DROP_EVENTS: Final = delete(journal).where(journal.c.task == bindparam("_task"), journal.c.seq < bindparam("_end"))
_DROP_STEPS: Final = delete(steps).where(steps.c.task == bindparam("_task"), steps.c.ord < bindparam("_end"))
_BURY_TAG: Final = (
    update(tags).where(tags.c.task == bindparam("_task")).values(task=null(), expires_at=bindparam("_until"))
)
_DROP: Final = (
    delete(journal).where(journal.c.task == bindparam("_task")),
    delete(steps).where(steps.c.task == bindparam("_task")),
    delete(inputs).where(inputs.c.task == bindparam("_task")),
    delete(tickets).where(tickets.c.task == bindparam("_task")),
    delete(operations).where(operations.c.task == bindparam("_task")),
    delete(tasks).where(tasks.c.id == bindparam("_task")),
)
_ON: Final = (
    select(operations.c.kind, operations.c.id, operations.c.revision, tasks.c.uuid)
    .join(tasks, tasks.c.id == operations.c.task)
    .where(operations.c.task.in_(bindparam("_tasks", expanding=True)))
)
_THERE: Final = select(resources.c.applied_revision, resources.c.last_task, resources.c.deleted_at).where(
    resources.c.kind == bindparam("_kind"), resources.c.id == bindparam("_id")
)
_of_it = (revisions.c.kind == bindparam("_kind")) & (revisions.c.id == bindparam("_id"))
_DROP_REVISION: Final = delete(revisions).where(
    _of_it, revisions.c.revision == bindparam("_revision"), revisions.c.task == bindparam("_uuid")
)
_DROP_REVISIONS: Final = delete(revisions).where(_of_it)
_DROP_RESOURCE: Final = delete(resources).where(
    resources.c.kind == bindparam("_kind"), resources.c.id == bindparam("_id")
)
_TOMBS: Final = (
    select(tags.c.project_id, tags.c.tag).where(tags.c.expires_at <= bindparam("_now")).limit(bindparam("_limit"))
)
_DROP_TOMB: Final = delete(tags).where(tags.c.project_id == bindparam("_project"), tags.c.tag == bindparam("_tag"))
_END: Final = 1 << 62
ROWS_MAX: Final = 500
FEED_MAX: Final = 500  # events of one transaction
_ROWS_BESIDE: Final = 4  # that a task has at least, beside its journal and its steps
_FIRST: Final = select(feed.c.id, feed.c.at).order_by(feed.c.id).limit(bindparam("_limit"))
_DROP_TOLD: Final = delete(feed).where(feed.c.id <= bindparam("_id"))


def expired(tx: Tx, now: float, *, limit: int) -> list[int]:
    """Tasks that may be purged, those that expired first before the others."""
    return tx.execute(_EXPIRED, {"_now": now, "_limit": limit}).scalars()


def purge(
    tx: Tx, now: float, *, tombstone_s: float = 30 * DAY_S, rows_max: int = ROWS_MAX,
    among: Sequence[int] | None = None,
) -> Purged:  # fmt: skip
    """Delete what has expired, at most about `rows_max` rows. Tags of what goes answer "gone" for `tombstone_s`.
    among: of these tasks only, if they may go still."""
    rows = 0
    for project_id, tag in tx.execute(_TOMBS, {"_now": now, "_limit": rows_max}).all():
        rows += tx.execute(_DROP_TOMB, {"_project": project_id, "_tag": tag}).rowcount
    limit = max(1, rows_max // _ROWS_BESIDE)
    if among is None:
        found = tx.execute(_EXPIRED, {"_now": now, "_limit": limit}).all()
    else:
        found = tx.execute(_AMONG, {"_now": now, "_tasks": list(among)}).all() if among else []
    going: list[int] = []
    room = rows_max - rows
    for at in found:
        if room <= 0:
            break
        size = _ROWS_BESIDE + 2 * at.seq  # no step without an event
        if size > room:
            if going:
                break
            dropped, whole = _drop_some(tx, at.id, room)
            rows += dropped
            room -= dropped
            if not whole:
                break
            size = _ROWS_BESIDE
        room -= size
        going.append(at.id)
    if going:
        rows += _drop(tx, going, now + tombstone_s)
    if not rows:
        tx.keep_quiet()
    more = len(going) < len(found) or rows >= rows_max
    if among is None and going and not more:
        more = len(found) == limit or tx.execute(_CHILD, {"_tasks": going}).first() is not None
    return Purged(len(going), rows, more)


def _drop(tx: Tx, going: list[int], tombs_until: float) -> int:
    rows = sum(_drop_of_resource(tx, on) for on in tx.execute(_ON, {"_tasks": going}).all())
    tx.executemany(_BURY_TAG, [{"_task": task, "_until": tombs_until} for task in going])
    each = [{"_task": task} for task in going]
    rows += sum(tx.executemany(statement, each) for statement in _DROP)
    for task in going:
        tx.touched(task)
    return rows


def _drop_of_resource(tx: Tx, on: Any) -> int:
    """Forget what a task is remembered by: the revision it brought, once a later one is applied; and a deleted
    resource with the last task that was asked of it. How many rows."""
    where = {"_kind": on.kind, "_id": on.id}
    there = tx.execute(_THERE, where).first()
    if there is None:
        return 0
    if there.deleted_at is not None and there.last_task == on.uuid:
        return int(tx.execute(_DROP_REVISIONS, where).rowcount + tx.execute(_DROP_RESOURCE, where).rowcount)
    if on.revision < there.applied_revision:
        return int(tx.execute(_DROP_REVISION, {**where, "_revision": on.revision, "_uuid": on.uuid}).rowcount)
    return 0


def purge_feed(store: Store, now: float, keep_s: float, *, events_max: int = FEED_MAX) -> bool:
    """Delete events that are older than `keep_s`, at most so many, in one short transaction; whether there may be
    more."""
    return store.read(lambda tx: feed_is_old(tx, now, keep_s)) and store.write(
        lambda tx: purge_events(tx, now, keep_s, events_max)
    )


def feed_is_old(tx: Tx, now: float, keep_s: float) -> bool:
    first = tx.execute(_FIRST, {"_limit": 2}).all()
    return len(first) == 2 and first[0].at <= now - keep_s


def purge_events(tx: Tx, now: float, keep_s: float, events_max: int = FEED_MAX) -> bool:
    """Delete the oldest events, at most so many; whether there may be more. The newest of all stays, because the
    oldest that is there tells where the log begins (feed/log.py)."""
    old = tx.execute(_FIRST, {"_limit": events_max + 1}).all()
    last = None
    for found in old[:-1]:
        if found.at > now - keep_s:
            break
        last = found.id
    if last is not None:
        tx.execute(_DROP_TOLD, {"_id": last})
    return len(old) > events_max and last == old[-2].id


def _drop_some(tx: Tx, task: int, rows_max: int) -> tuple[int, bool]:
    """Delete rows of a task's journal and steps: how many, and whether those were all."""
    rows = 0
    for find, drop in ((_EVENTS, _DROP_EVENTS), (_STEPS, _DROP_STEPS)):
        end = tx.execute(find, {"_task": task, "_count": max(rows_max - rows, 0)}).scalar()
        rows += tx.execute(drop, {"_task": task, "_end": _END if end is None else end}).rowcount
        if end is not None:
            return rows, False
    return rows, True
