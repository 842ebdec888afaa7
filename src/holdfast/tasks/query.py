"""Questions about tasks: find one, list those that match, count them, read one's steps and journal.

Theory: reading never folds a journal; everything asked here is a column or an index away. Lists are paged by the id of
the last task seen, newest first, so that new tasks between two pages neither shift nor repeat what follows.

How a task is shown: tasks/show.py.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sqlalchemy import bindparam, exists, func, select

from holdfast.core import states
from holdfast.errors import TaskGone, TaskNotFound, UsageError
from holdfast.store.base import StepRow, Tx
from holdfast.store.schema import inputs, plans, steps, tags, tasks
from holdfast.tasks import row
from holdfast.tasks.row import TaskRow

LIMIT: Final = 50
LIMIT_MAX: Final = 1000
PREFIX_CHARS_MIN: Final = 4

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
_UUIDS: Final = select(tasks.c.id, tasks.c.uuid).where(tasks.c.id.in_(bindparam("_ids", expanding=True)))
_STEPS: Final = select(*steps.c[1:]).where(steps.c.task == bindparam("_task")).order_by(steps.c.ord)
_LATEST: Final = (
    select(*steps.c[1:])
    .where(steps.c.task == bindparam("_task"))
    .order_by(steps.c.ord.desc())
    .limit(bindparam("_limit"))
)
_OUTLINE: Final = select(plans.c.outline).where(plans.c.digest == bindparam("_digest"))


class Filter(NamedTuple):
    """Which tasks. What is None or empty is not asked for. `state`: one or more, with commas, in any case. `resource`
    as a claim names it. Times are seconds since the epoch: from (inclusive) and to (exclusive). `project_id` None:
    of all projects. `roots`: no children."""

    state: str = ""
    flow: str = ""
    tag: str = ""
    resource: str = ""
    project_id: str | None = None
    user_id: str = ""
    request_id: str = ""
    origin: str = ""
    parent_id: int | None = None
    root_id: int | None = None
    created_from: float | None = None
    created_to: float | None = None
    updated_from: float | None = None
    updated_to: float | None = None
    roots: bool = False


class Page(NamedTuple):
    """`marker`: the uuid to go on behind; None: there are no more."""

    tasks: list[TaskRow]
    marker: str | None


# --- one task ----------------------------------------------------------------------------------------------------


def get(tx: Tx, uuid: str) -> TaskRow:
    """Raises: TaskNotFound."""
    found = tx.execute(_BY_UUID, {"_uuid": uuid}).first()
    if found is None:
        raise TaskNotFound(f"there is no task {uuid}", task=uuid)
    return row.of(found)


def find_by_tag(tx: Tx, project_id: str, tag: str) -> TaskRow | None:
    """The task that the project tagged so. Raises: TaskGone: there was one."""
    found = tx.execute(_BY_TAG, {"_project": project_id, "_tag": tag}).first()
    if found is not None:
        return row.of(found)
    if tx.execute(_TOMB, {"_project": project_id, "_tag": tag}).first() is not None:
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


def uuids(tx: Tx, ids: list[int]) -> dict[int, str]:
    """The uuids of these ids; purged ones are left out."""
    return {found.id: found.uuid for found in tx.execute(_UUIDS, {"_ids": ids}).all()} if ids else {}


def steps_of(tx: Tx, task: int) -> list[StepRow]:
    """The steps that ever began, in the order in which they first did."""
    return [StepRow._make(found) for found in tx.execute(_STEPS, {"_task": task}).all()]


def latest_steps(tx: Tx, task: int, limit: int) -> list[StepRow]:
    """The steps that began last, the latest first."""
    return [StepRow._make(found) for found in tx.execute(_LATEST, {"_task": task, "_limit": limit}).all()]


def outline_of(tx: Tx, task: TaskRow) -> str | None:
    """The description of the plan that the task began with."""
    found: str | None = tx.execute(_OUTLINE, {"_digest": task.digest}).scalar()
    return found


# --- many --------------------------------------------------------------------------------------------------------


def states_of(text: str) -> list[str]:
    """The states that a filter names: `running,WAITING` or `in:running,waiting`. Raises: UsageError."""
    names = [name.strip().upper() for name in text.removeprefix("in:").split(",") if name.strip()]
    for name in names:
        if name not in states.API_STATES:
            raise UsageError(f"{name} is no state: choose of {', '.join(states.API_STATES)}")
    return names


def page(tx: Tx, wanted: Filter, *, limit: int = LIMIT, marker: str | None = None) -> Page:
    """The newest tasks that match, behind `marker`. More than `LIMIT_MAX` are never given at once.

    Raises: UsageError: an unknown state or marker, a negative limit.
    """
    if limit < 0:
        raise UsageError(f"a limit is 0 or more, not {limit}")
    limit = min(limit, LIMIT_MAX)
    statement = select(tasks).where(*_conditions(wanted)).order_by(tasks.c.id.desc()).limit(limit + 1)
    if marker is not None:
        behind = tx.execute(_BY_UUID, {"_uuid": marker}).first()
        if behind is None:
            raise UsageError(f"the marker {marker} is no task")
        statement = statement.where(tasks.c.id < behind.id)
    found = [row.of(each) for each in tx.execute(statement).all()]
    more = len(found) > limit > 0
    return Page(found[:limit], found[limit - 1].uuid if more else None)


def counts(tx: Tx, wanted: Filter | None = None) -> dict[str, int]:
    """How many tasks are in each state that any is in."""
    statement = select(tasks.c.state, func.count()).where(*_conditions(wanted or Filter())).group_by(tasks.c.state)
    found = dict(tuple(each) for each in tx.execute(statement).all())
    return {state: found[state] for state in states.API_STATES if state in found}


def _conditions(wanted: Filter) -> list[Any]:
    equal = (
        (tasks.c.flow, wanted.flow or None),
        (tasks.c.tag, wanted.tag or None),
        (tasks.c.project_id, wanted.project_id),
        (tasks.c.user_id, wanted.user_id or None),
        (tasks.c.request_id, wanted.request_id or None),
        (tasks.c.origin, wanted.origin or None),
        (tasks.c.parent_id, wanted.parent_id),
        (tasks.c.root_id, wanted.root_id),
    )
    conditions: list[Any] = [column == value for column, value in equal if value is not None]
    if wanted.state:
        conditions.append(tasks.c.state.in_(states_of(wanted.state)))
    for column, start, end in (
        (tasks.c.created_at, wanted.created_from, wanted.created_to),
        (tasks.c.updated_at, wanted.updated_from, wanted.updated_to),
    ):
        if start is not None:
            conditions.append(column >= start)
        if end is not None:
            conditions.append(column < end)
    if wanted.roots:
        conditions.append(tasks.c.parent_id.is_(None))
    if wanted.resource:
        conditions.append(_claims(wanted.resource))
    return conditions


def _claims(resource: str) -> Any:
    import json

    text = f"[{json.dumps(resource, ensure_ascii=False)},"
    return exists().where(inputs.c.task == tasks.c.id, inputs.c.claims.contains(text, autoescape=True))
