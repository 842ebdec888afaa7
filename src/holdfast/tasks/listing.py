"""Lists of tasks: those that match, in an order, a page at a time; and how many there are in each state.

Theory: lists are paged by the last task seen, newest first if nothing else is asked for, so that new tasks between two
pages neither shift nor repeat what follows. A list is driven by one condition, the narrowest, whose index is in the
list's order; the others are written so that no database is led to walk their indexes instead. What has changed lately
is found in two parts: the ended tasks, which have an index for it because they change no more, and the others, which
are few.

One task: tasks/query.py, which has these names too. Filters as a service's clients write them: tasks/params.py.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sqlalchemy import and_, bindparam, case, exists, func, literal_column, null, or_, select, union_all
from sqlalchemy.sql.visitors import replacement_traverse

from holdfast.core import states
from holdfast.errors import UsageError
from holdfast.store.base import Tx
from holdfast.store.schema import inputs, tasks
from holdfast.tasks import row
from holdfast.tasks.row import TaskRow

LIMIT: Final = 50
LIMIT_MAX: Final = 1000
CHANGED_MAX: Final = 1000  # more are not lately: the list is walked in its own order
SKEW_S: Final = 3_600.0  # by how much the clocks of two machines may differ and no task be missed

_BY_UUID: Final = select(tasks).where(tasks.c.uuid == bindparam("_uuid"))
_TAGGED: Final = select(tasks.c.id).where(tasks.c.tag == bindparam("_tag"))


class Filter(NamedTuple):
    """Which tasks. What is None or empty is not asked for.

    `state`: one or more, with commas, in any case. `task`: as it is shown, the operation or else the flow. `resource`:
    as a claim names it; `resource_type` and `resource_id`: what the task is for. `parent` and `root`: uuids. Times are
    seconds since the epoch: from (inclusive) and to (exclusive). `project_id` None: of all projects. `roots`: no
    children. `trees`: with those that have the `tag`, all that is below them.
    """

    state: str = ""
    task: str = ""
    flow: str = ""
    tag: str = ""
    resource: str = ""
    resource_type: str = ""
    resource_id: str = ""
    project_id: str | None = None
    user_id: str = ""
    request_id: str = ""
    origin: str = ""
    parent: str = ""
    root: str = ""
    parent_id: int | None = None
    root_id: int | None = None
    created_from: float | None = None
    created_to: float | None = None
    updated_from: float | None = None
    updated_to: float | None = None
    roots: bool = False
    trees: bool = False


class Sort(NamedTuple):
    """The order of a list. `created_at` is the order of admission, whatever the clocks of several machines said.
    `descending_ties`: that of tasks that were last updated at the same moment."""

    key: str = "created_at"
    descending: bool = True
    descending_ties: bool = True


NEWEST_FIRST: Final = Sort()
SORTS: Final = ("created_at", "last_updated", "uuid")


class Page(NamedTuple):
    """`marker`: the uuid to go on behind; None: there are no more. The rows come without their `result`, which may be
    large."""

    tasks: list[TaskRow]
    marker: str | None


def states_of(text: str) -> list[str]:
    """The states that a filter names: `running,WAITING` or `in:running,waiting`. Raises: UsageError."""
    names = [name.strip().upper() for name in text.removeprefix("in:").split(",") if name.strip()]
    for name in names:
        if name not in states.API_STATES:
            raise UsageError(f"{name} is no state: choose of {', '.join(states.API_STATES)}")
    return names


def page(tx: Tx, wanted: Filter, *, sort: Sort = NEWEST_FIRST, limit: int = LIMIT, marker: str | None = None) -> Page:
    """The first tasks that match, in the order of `sort`, behind `marker`. More than `LIMIT_MAX` are never given at
    once.

    Raises: UsageError: an unknown state, sort key or marker, a negative limit.
    """
    if limit < 0:
        raise UsageError(f"a limit is 0 or more, not {limit}")
    limit = min(limit, LIMIT_MAX)
    values = _values(tx, wanted)
    behind = None if marker is None else _marked(tx, wanted, marker)
    if values is None:
        return Page([], None)
    since = _since(tx, values, sort)
    found = tx.execute(*_listing(values, sort, behind, limit + 1, since)).all()
    rows = [row.of(each) for each in found]
    more = len(rows) > limit > 0
    return Page(rows[:limit], rows[limit - 1].uuid if more else None)


def counts(tx: Tx, wanted: Filter | None = None) -> dict[str, int]:
    """How many tasks are in each state that any is in."""
    values = _values(tx, wanted or Filter())
    if values is None:
        return {}
    at = values.pop("states", None)
    conditions = [_CONDITIONS[name] for name in values]
    if at is not None:
        conditions.append(tasks.c.state.in_(at))
    statement = select(tasks.c.state, func.count()).where(*conditions).group_by(tasks.c.state)
    found = dict(tuple(each) for each in tx.execute(statement, values).all())
    return {state: found[state] for state in states.API_STATES if state in found}


_shown_as = case((tasks.c.operation == literal_column("''"), tasks.c.flow), else_=tasks.c.operation)
#: name -> the condition, whose parameter is called so too.
_CONDITIONS: Final[dict[str, Any]] = {
    "tag": tasks.c.tag == bindparam("tag"),
    "parent_id": tasks.c.parent_id == bindparam("parent_id"),
    "root_id": tasks.c.root_id == bindparam("root_id"),
    # The index has no rows without one, so it has to be told that none of those is asked for.
    "request_id": and_(tasks.c.request_id == bindparam("request_id"), tasks.c.request_id != literal_column("''")),
    "resource_id": tasks.c.resource_id == bindparam("resource_id"),
    "state": tasks.c.state == bindparam("state"),
    "project_id": tasks.c.project_id == bindparam("project_id"),
    "task": _shown_as == bindparam("task"),
    "flow": tasks.c.flow == bindparam("flow"),
    "resource_type": tasks.c.resource_type == bindparam("resource_type"),
    "user_id": tasks.c.user_id == bindparam("user_id"),
    "origin": tasks.c.origin == bindparam("origin"),
    "created_from": tasks.c.created_at >= bindparam("created_from"),
    "created_to": tasks.c.created_at < bindparam("created_to"),
    "updated_from": tasks.c.updated_at >= bindparam("updated_from"),
    "updated_to": tasks.c.updated_at < bindparam("updated_to"),
    "roots": tasks.c.parent_id.is_(null()),
    "claim": exists().where(inputs.c.task == tasks.c.id, inputs.c.claims.like(bindparam("claim"), escape="\\")),
    "tree": or_(
        tasks.c.id.in_(bindparam("tree", expanding=True)), tasks.c.root_id.in_(bindparam("tree", expanding=True))
    ),
}
_INDEXED: Final = ("tag", "parent_id", "root_id", "request_id", "resource_id", "state", "project_id")
#: The conditions that lead through an index, the narrowest first -> which other one that index has too.
_DRIVERS: Final = {
    "tree": "",
    "tag": "project_id",
    "parent_id": "",
    "root_id": "",
    "request_id": "",
    "resource_id": "project_id",
    "state": "project_id",
    "project_id": "",
}
_NARROW: Final = ("tree", "tag", "parent_id", "root_id", "request_id", "resource_id")
_BESIDE: Final = {
    name: func.coalesce(tasks.c[name], tasks.c[name]) == bindparam(name) for name in _INDEXED
}  # the same conditions, of no use to an index
_COLUMNS: Final = tuple(null().label(column.name) if column is tasks.c.result else column for column in tasks.c)
_SORTED_BY: Final = {"created_at": tasks.c.id, "uuid": tasks.c.uuid, "last_updated": tasks.c.updated_at}


def _is_unended(state: Any) -> Any:
    return or_(*(state == literal_column(f"'{word}'") for word in states.API_STATES if word not in states.FINAL))


_same = tasks.alias("same")
_in_project = _same.c.project_id == bindparam("project_id")
_ended_lately = select(_same.c.id).where(
    _in_project, _same.c.finished_at >= bindparam("_since"), _same.c.finished_at.is_not(null())
)
_CHANGED: Final = select(func.count()).select_from(_ended_lately.limit(CHANGED_MAX).subquery())
_CHANGED_IDS: Final = union_all(_ended_lately, select(_same.c.id).where(_in_project, _is_unended(_same.c.state)))
#: What has ended changes no more, and is in an index by its end.
_ENDED_COLUMNS: Final = tuple(
    tasks.c.finished_at.label("updated_at") if column is tasks.c.updated_at else column for column in _COLUMNS
)
_SHAPES_MAX: Final = 500
_shapes: dict[Any, Any] = {}  # shape of a list -> its statement, because making one takes longer than running it


def _values(tx: Tx, wanted: Filter) -> dict[str, Any] | None:
    """What is asked for, by the names of the conditions, and `states`. None: there can't be any such task."""
    values: dict[str, Any] = {
        name: value
        for name, value in wanted._asdict().items()
        if name in _CONDITIONS and name != "state" and value not in (None, "", False)
    }
    if wanted.project_id is not None:
        values["project_id"] = wanted.project_id
    for name, uuid in (("parent_id", wanted.parent), ("root_id", wanted.root)):
        if uuid:
            above = tx.execute(_BY_UUID, {"_uuid": uuid}).first()
            if above is None or values.get(name, above.id) != above.id:
                return None
            values[name] = above.id
    if wanted.state:
        values["states"] = tuple(dict.fromkeys(states_of(wanted.state)))
    if wanted.resource:
        values["claim"] = _claim_pattern(wanted.resource)
    if wanted.trees and wanted.tag:
        values["tree"] = tx.execute(_TAGGED, {"_tag": values.pop("tag")}).scalars()
        values.pop("roots", None)
    return values


def _marked(tx: Tx, wanted: Filter, marker: str) -> TaskRow:
    found = tx.execute(_BY_UUID, {"_uuid": marker}).first()
    if found is None or wanted.project_id not in (None, found.project_id):
        raise UsageError(f"the marker {marker} is no task", parameter="marker")
    return row.of(found)


def _since(tx: Tx, values: dict[str, Any], sort: Sort) -> float | None:
    """Since when everything in the list has changed, where it is best made of what has changed lately."""
    if "project_id" not in values or any(name in values for name in _NARROW):
        return None
    if _key(sort) == "last_updated":
        return float(values.get("updated_from", 0.0))
    since = float(values.get("updated_from", values.get("created_from", SKEW_S) - SKEW_S))
    if not since:
        return None
    changed = tx.execute(_CHANGED, {"project_id": values["project_id"], "_since": since}).scalar()
    return since if changed < CHANGED_MAX else None


def _listing(
    values: dict[str, Any], sort: Sort, behind: TaskRow | None, limit: int, since: float | None
) -> tuple[Any, dict[str, Any]]:
    """The statement of a list and its parameters."""
    at = values.pop("states", ())
    parameters = {**values, "_limit": limit, "_since": since}
    for place, state in enumerate(at):
        parameters[f"state{place}"] = state
    if behind is not None:
        parameters |= {"_behind": getattr(behind, _SORTED_BY[_key(sort)].name), "_behind_id": behind.id}
    shape = (frozenset(values), len(at), sort, behind is None, since is None)
    statement = _shapes.get(shape)
    if statement is None:
        if len(_shapes) >= _SHAPES_MAX:
            _shapes.clear()
        statement = _shapes[shape] = _statement(set(values), len(at), sort, behind is not None, since is not None)
    return statement, parameters


def _key(sort: Sort) -> str:
    if sort.key not in SORTS:
        raise UsageError(f"tasks are not sorted by {sort.key}: choose of {', '.join(SORTS)}", parameter="sort")
    return sort.key


def _statement(names: set[str], at: int, sort: Sort, goes_on: bool, lately: bool) -> Any:
    by = _SORTED_BY[_key(sort)]
    driver = next((name for name in _DRIVERS if name in names or (name == "state" and at)), "")
    if lately:
        driver = "project_id" if by is tasks.c.updated_at else "changed"
    led = {driver, _DRIVERS.get(driver, "")}
    conditions = [
        _BESIDE[name] if name in _INDEXED and name not in led else _CONDITIONS[name] for name in sorted(names)
    ]
    if goes_on:
        conditions.append(_behind(by, sort))
    ways: list[Any] = [()]
    if driver == "changed":
        conditions.append(tasks.c.id.in_(_CHANGED_IDS))
    column = tasks.c.state if driver == "state" else func.coalesce(tasks.c.state, tasks.c.state)
    if driver == "state" and by is tasks.c.id:
        ways = [(column == bindparam(f"state{place}"),) for place in range(at)]  # each is in order: they are merged
    elif at:
        conditions.append(or_(*(column == bindparam(f"state{place}") for place in range(at))))
    found = [select(*_COLUMNS).where(*conditions, *way) for way in ways]
    if lately and driver != "changed":
        ended = (replacement_traverse(each, {}, _as_ended) for each in conditions)
        found = [
            select(*_ENDED_COLUMNS).where(*ended, tasks.c.finished_at.is_not(null())),
            select(*_COLUMNS).where(*conditions, _is_unended(tasks.c.state)),
        ]
    order = [(by.name, sort.descending)] + ([] if by is tasks.c.id else [("id", sort.descending_ties)])
    if len(found) > 1:
        whole: Any = union_all(*found)
        columns = whole.selected_columns
    else:
        whole, columns = found[0], tasks.c
    whole = whole.order_by(*(columns[name].desc() if down else columns[name].asc() for name, down in order))
    return whole.limit(bindparam("_limit"))


def _as_ended(element: Any, **_: Any) -> Any:
    return tasks.c.finished_at if element is tasks.c.updated_at else None


def _behind(by: Any, sort: Sort) -> Any:
    beyond = by < bindparam("_behind") if sort.descending else by > bindparam("_behind")
    if by is not tasks.c.updated_at:
        return beyond
    reached = by <= bindparam("_behind") if sort.descending else by >= bindparam("_behind")  # what an index can use
    ties = tasks.c.id < bindparam("_behind_id") if sort.descending_ties else tasks.c.id > bindparam("_behind_id")
    return and_(reached, or_(beyond, and_(by == bindparam("_behind"), ties)))


def _claim_pattern(resource: str) -> str:
    """What the text of claims is like that has one on the resource."""
    import json

    text = f"[{json.dumps(resource, ensure_ascii=False)},"
    for special in "\\%_":
        text = text.replace(special, f"\\{special}")
    return f"%{text}%"
