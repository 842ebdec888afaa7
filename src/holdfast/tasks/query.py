"""Questions about tasks: find one, list those that match, count them, read one's steps and journal.

Theory: reading never folds a journal; everything asked here is a column or an index away, but for the last of the
steps (tasks/steps.py).

How lists are made: tasks/listing.py. How a task is shown: tasks/show.py.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import bindparam, select

from holdfast.errors import TaskGone, TaskNotFound, UsageError
from holdfast.store.base import JournalRow, StepRow, Tx
from holdfast.store.schema import journal, plans, tags, tasks
from holdfast.tasks import row, steps
from holdfast.tasks.listing import LIMIT, LIMIT_MAX, NEWEST_FIRST, SORTS, Filter, Page, Sort, counts, page, states_of
from holdfast.tasks.row import TaskRow

__all__ = [
    "LIMIT",
    "LIMIT_MAX",
    "NEWEST_FIRST",
    "SORTS",
    "Filter",
    "Page",
    "Sort",
    "attempt",
    "counts",
    "find",
    "find_by_tag",
    "get",
    "journal_page",
    "latest_steps",
    "outline_of",
    "page",
    "states_of",
    "steps_of",
    "steps_page",
    "uuids",
]

PREFIX_CHARS_MIN: Final = 4
ATTEMPTS_MAX: Final = 100  # that are counted

_BY_UUID: Final = select(tasks).where(tasks.c.uuid == bindparam("_uuid"))
_BY_PREFIX: Final = (
    select(tasks).where(tasks.c.uuid >= bindparam("_from"), tasks.c.uuid < bindparam("_to")).order_by(tasks.c.uuid)
).limit(2)
_BY_TAG: Final = select(tasks).where(
    tasks.c.project_id == bindparam("_project"), tasks.c.tag == bindparam("_tag"), tasks.c.tag.is_not(None)
)
_TOMB: Final = select(tags.c.expires_at).where(
    tags.c.project_id == bindparam("_project"), tags.c.tag == bindparam("_tag"), tags.c.task.is_(None)
)
_UUIDS: Final = select(tasks.c.id, tasks.c.uuid, tasks.c.project_id).where(
    tasks.c.id.in_(bindparam("_ids", expanding=True))
)
_RETRY_OF: Final = select(tasks.c.retry_of).where(tasks.c.id == bindparam("_id"))
_OUTLINE: Final = select(plans.c.outline).where(plans.c.digest == bindparam("_digest"))

_JOURNAL: Final = (
    select(journal.c.seq, journal.c.kind, journal.c.node, journal.c.data, journal.c.at)
    .where(journal.c.task == bindparam("_task"), journal.c.seq > bindparam("_after"))
    .order_by(journal.c.seq)
    .limit(bindparam("_limit"))
)


# --- one task ----------------------------------------------------------------------------------------------------


def get(tx: Tx, uuid: str) -> TaskRow:
    """Raises: TaskNotFound."""
    found = tx.execute(_BY_UUID, {"_uuid": uuid}).first()
    if found is None:
        raise TaskNotFound(f"there is no task {uuid}", task=uuid)
    return row.of(found)


def find_by_tag(tx: Tx, project_id: str, tag: str, *, now: float | None = None) -> TaskRow | None:
    """The task that the project tagged so. Raises: TaskGone: there was one (and its tag is not free again by `now`)."""
    found = tx.execute(_BY_TAG, {"_project": project_id, "_tag": tag}).first()
    if found is not None:
        return row.of(found)
    tomb = tx.execute(_TOMB, {"_project": project_id, "_tag": tag}).first()
    if tomb is not None and (now is None or tomb.expires_at is None or tomb.expires_at > now):
        raise TaskGone(f"the task tagged {tag} has been purged", tag=tag)
    return None


def find(tx: Tx, name: str, *, project_id: str = "default") -> TaskRow:
    """The task of that uuid, or that tag, or whose uuid alone begins so (four letters at least).

    Raises: TaskNotFound, TaskGone, UsageError: several begin so.
    """
    found = tx.execute(_BY_UUID, {"_uuid": name}).first()
    if found is not None:
        return row.of(found)
    tagged = find_by_tag(tx, project_id, name)
    if tagged is not None:
        return tagged
    prefix = name.lower()
    if len(prefix) >= PREFIX_CHARS_MIN and not set(prefix) - set("0123456789abcdef-"):
        # "g" is behind every letter of a uuid.
        some = tx.execute(_BY_PREFIX, {"_from": prefix, "_to": f"{prefix}g"}).all()
        if len(some) > 1:
            raise UsageError(f"several tasks begin with {name}: {some[0].uuid}, {some[1].uuid} …")
        if some:
            return row.of(some[0])
    raise TaskNotFound(f"there is no task {name}", task=name)


def uuids(tx: Tx, ids: list[int], *, project_id: str | None = None) -> dict[int, str]:
    """The uuids of these ids; purged ones are left out, and those of any project but `project_id`, if it is given."""
    found = tx.execute(_UUIDS, {"_ids": ids}).all() if ids else []
    return {each.id: each.uuid for each in found if project_id in (None, each.project_id)}


def attempt(tx: Tx, task: TaskRow) -> int:
    """Which attempt at its request the task is: one more than the task that it retries."""
    number, before = 1, task.retry_of
    while before is not None and number < ATTEMPTS_MAX:
        number, before = number + 1, tx.execute(_RETRY_OF, {"_id": before}).scalar()
    return number


def steps_of(tx: Tx, task: int) -> list[StepRow]:
    """The steps that ever began, in the order in which they first did."""
    return steps.of(tx, task)


def steps_page(tx: Tx, task: int, behind: int, limit: int) -> list[StepRow]:
    """The first `limit` of them, behind the one of that `ord`; -1: from the first on."""
    return steps.page(tx, task, behind, limit)


def latest_steps(tx: Tx, task: int, limit: int) -> list[StepRow]:
    """The steps that began last, the latest first."""
    return steps.latest(tx, task, limit)


def journal_page(tx: Tx, task: int, after: int, limit: int) -> list[JournalRow]:
    """The first `limit` events of the journal behind `after`."""
    found = tx.execute(_JOURNAL, {"_task": task, "_after": after, "_limit": limit}).all()
    return [JournalRow._make(each) for each in found]


def outline_of(tx: Tx, task: TaskRow) -> str | None:
    """The description of the plan that the task began with."""
    found: str | None = tx.execute(_OUTLINE, {"_digest": task.digest}).scalar()
    return found
