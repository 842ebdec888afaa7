"""Lists: which tasks, in which order, a page at a time, and through which index."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects.sqlite import dialect

from holdfast.core.states import API_STATES
from holdfast.errors import UsageError
from holdfast.store.base import Tx
from holdfast.store.sqlite import SqliteStore
from holdfast.tasks import listing, query, row
from holdfast.tasks.listing import Filter, Sort
from holdfast.tasks.row import TaskRow
from tests.postgresql import only_sqlite
from tests.tasks.desk import Desk


@pytest.fixture
def desk(store: SqliteStore) -> Desk:
    return Desk(store)


def listed(desk: Desk, **wanted: Any) -> list[int]:
    how = {name: wanted.pop(name) for name in ("sort", "limit", "marker") if name in wanted}
    return [at.id for at in desk.store.read(lambda tx: query.page(tx, Filter(**wanted), **how)).tasks]


def walked(desk: Desk, wanted: Filter, sort: Sort, limit: int) -> list[int]:
    """All pages, one behind the other."""
    seen: list[int] = []
    marker = None
    while True:
        found = desk.store.read(lambda tx, at=marker: query.page(tx, wanted, sort=sort, limit=limit, marker=at))  # type: ignore[misc]
        assert len(found.tasks) <= limit
        seen += [at.id for at in found.tasks]
        marker = found.marker
        if marker is None:
            return seen


# --- which -------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("NEUTRON-14")
def test_what_has_failed_on_a_resource(desk: Desk) -> None:
    on = {"resource_type": "server", "resource_id": "s1"}
    one, two, three = desk.submit(**on), desk.submit(**on), desk.submit(resource_type="server", resource_id="s2")
    other = desk.submit(project_id="other", **on)
    for task in (one, three, other):
        desk.end(task, "FAILED")
    assert listed(desk, resource_id="s1", state="FAILED", project_id="default") == [one]
    assert listed(desk, resource_id="", state="failed", project_id="default") == [three, one]
    assert listed(desk, resource_id="s1") == [other, two, one]
    assert listed(desk, resource_type="server", resource_id="s2") == [three]
    assert listed(desk, resource_type="port", resource_id="s2") == []


def test_a_task_is_called_what_it_is_shown_as(desk: Desk) -> None:
    plain, named = desk.submit(), desk.submit(operation="reboot")
    assert listed(desk, task="build") == [plain]
    assert listed(desk, task="reboot") == [named]
    assert listed(desk, flow="build") == [named, plain]


@pytest.mark.requirement("NOVA-8")
def test_children_are_listed_where_they_are_asked_for(desk: Desk) -> None:
    root = desk.ask(tag="t").task
    child = desk.ask(parent=root.id).task
    grandchild = desk.submit(parent=child.id)
    other = desk.submit()
    assert listed(desk, roots=True) == [other, root.id]
    assert listed(desk) == [other, grandchild, child.id, root.id]
    assert listed(desk, parent=root.uuid) == [child.id]
    assert listed(desk, parent=child.uuid, root=root.uuid) == [grandchild]
    assert listed(desk, root=root.uuid) == [grandchild, child.id]
    assert listed(desk, parent="nobody") == listed(desk, parent=root.uuid, project_id="other") == []


def test_a_tag_leads_to_the_root_and_with_depth_to_all_below(desk: Desk) -> None:
    root = desk.submit(tag="t")
    child = desk.submit(parent=root)
    grandchild = desk.submit(parent=child)
    desk.end(grandchild, "FAILED")
    elsewhere = desk.submit(tag="t", project_id="other")
    assert listed(desk, tag="t", project_id="default", roots=True) == [root]
    assert listed(desk, tag="t", project_id="default", trees=True) == [grandchild, child, root]
    assert listed(desk, tag="t", project_id="default", trees=True, state="failed") == [grandchild]
    assert listed(desk, tag="t", trees=True) == [elsewhere, grandchild, child, root]
    assert listed(desk, tag="none", trees=True) == []


def test_an_empty_request_id_is_none(desk: Desk) -> None:
    without, with_one = desk.submit(), desk.submit(request_id="req-1")
    assert listed(desk, request_id="req-1", project_id="default") == [with_one]
    assert listed(desk, request_id="") == [with_one, without]


def test_changed_lately_is_ended_or_not(desk: Desk) -> None:
    early, late, live = desk.submit(), desk.submit(), desk.submit()
    desk.end(early)
    since = desk.now + 0.5
    desk.end(late)
    desk.set(live, updated_at=since + 5)
    for sort in (Sort(), Sort("uuid")):
        assert listed(desk, project_id="default", updated_from=since, sort=sort) == [live, late]
    assert listed(desk, project_id="default", updated_from=since, sort=Sort("last_updated")) == [live, late]
    assert listed(desk, project_id="default", updated_from=since, state="succeeded") == [late]
    assert listed(desk, project_id="default", updated_to=since) == [early]
    assert listed(desk, project_id="other", updated_from=since) == []


def test_a_clock_that_is_behind_hides_no_task(desk: Desk) -> None:
    desk.now = 1_000_000.0
    task = desk.submit()
    desk.set(task, updated_at=desk.now - 60)
    assert listed(desk, project_id="default", created_from=desk.now) == [task]


def test_what_cant_be_meant_is_refused(desk: Desk) -> None:
    mine, other = desk.ask().task, desk.ask(project_id="other").task
    assert listed(desk, project_id="default", marker=mine.uuid) == []
    for wrong in (
        {"state": "sleeping"},
        {"marker": "nobody"},
        {"marker": other.uuid, "project_id": "default"},  # nobody learns that it exists
        {"sort": Sort("user_id")},
        {"limit": -1},
    ):
        with pytest.raises(UsageError):
            listed(desk, **wrong)


def test_a_list_brings_no_results(desk: Desk) -> None:
    task = desk.submit()
    desk.end(task, result='"long"')
    (found,) = desk.store.read(lambda tx: query.page(tx, Filter())).tasks
    assert found == desk.row(task)._replace(result=None)


# --- in which order ----------------------------------------------------------------------------------------------

_ORDERS = [Sort(key, first, second) for key in listing.SORTS for first in (True, False) for second in (True, False)]
_FILTERS = [
    {},
    {"project_id": "p"},
    {"project_id": "p", "roots": True},
    {"project_id": "p", "state": "PENDING"},
    {"project_id": "p", "state": "in:succeeded,PENDING,failed"},
    {"state": "FAILED,SUCCEEDED"},
    {"project_id": "p", "resource_id": "r1"},
    {"project_id": "p", "resource_id": "r1", "state": "failed,pending"},
    {"resource_id": "r1"},
    {"project_id": "p", "updated_from": 1020.0, "updated_to": 1080.0},
    {"project_id": "p", "created_from": 1020.0, "roots": True, "state": "pending,failed"},
    {"created_to": 1030.0},
    {"user_id": "ann", "origin": "api"},
    {"root": "root"},
    {"tag": "t1", "trees": True},
]


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Some forty tasks of all kinds, several of which changed at the same moment."""
    with SqliteStore(str(tmp_path_factory.mktemp("crowd") / "tasks.db"), synchronous="normal") as store:
        desk, chance = Desk(store), random.Random(7)
        roots: list[TaskRow] = []
        for number in range(40):
            parent = chance.choice(roots).id if roots and chance.random() < 0.4 else None
            fields = {
                "project_id": chance.choice("pq"),
                "resource_id": chance.choice(("r1", "r2", None)),
                "user_id": chance.choice(("ann", "bob")),
                "origin": chance.choice(("api", "system")),
                "tag": f"t{number % 3}" if number < 3 else None,
            }
            made = desk.ask(parent=parent, **fields).task
            roots += [made] if parent is None else []
        for at in everything(desk):
            if chance.random() < 0.6 and at.root_id is None:
                desk.now = 1050.0 + chance.randrange(4)
                desk.end(at.id, chance.choice(("FAILED", "SUCCEEDED", "CANCELLED")))
        yield desk


def everything(desk: Desk) -> list[TaskRow]:
    return [row.of(each) for each in desk.store.read(_every)]


def _every(tx: Tx) -> list[Any]:
    from sqlalchemy import select

    from holdfast.store.schema import tasks

    return tx.execute(select(tasks)).all()


def matches(at: TaskRow, wanted: dict[str, Any], tagged: set[int], root: int) -> bool:
    states = [word.strip().upper() for word in wanted.get("state", "").removeprefix("in:").split(",") if word]
    return all(
        (
            wanted.get("project_id") in (None, at.project_id),
            not states or at.state in states,
            wanted.get("resource_id") in (None, at.resource_id),
            wanted.get("user_id") in (None, at.user_id),
            wanted.get("origin") in (None, at.origin),
            not wanted.get("roots") or at.parent_id is None,
            wanted.get("created_from", 0) <= at.created_at < wanted.get("created_to", 9e9),
            wanted.get("updated_from", 0) <= at.updated_at < wanted.get("updated_to", 9e9),
            "root" not in wanted or at.root_id == root,
            "tag" not in wanted or at.root in tagged or at.id in tagged,
        )
    )


@given(st.sampled_from(_FILTERS), st.sampled_from(_ORDERS), st.integers(1, 12))
def test_pages_give_what_matches_in_order_and_once(crowd: Desk, wanted: dict[str, Any], sort: Sort, limit: int) -> None:
    every = everything(crowd)
    root = next(at for at in every if at.root_id is not None).root
    tagged = {at.id for at in every if at.tag == "t1"}
    expected = [at for at in every if matches(at, wanted, tagged, root)]
    expected.sort(key=lambda at: at.id, reverse=sort.descending_ties)
    keys = {"created_at": lambda at: at.id, "uuid": lambda at: at.uuid, "last_updated": lambda at: at.updated_at}
    expected.sort(key=keys[sort.key], reverse=sort.descending)
    if "root" in wanted:
        wanted = wanted | {"root": next(at.uuid for at in every if at.id == root)}
    assert walked(crowd, Filter(**wanted), sort, limit) == [at.id for at in expected]


def test_what_comes_or_moves_between_two_pages_shifts_nothing(desk: Desk) -> None:
    ids = [desk.submit() for _ in range(9)]
    wanted = Filter(project_id="default", state="pending,running")
    seen: list[int] = []
    marker = None
    while True:
        found = desk.store.read(lambda tx, at=marker: query.page(tx, wanted, limit=2, marker=at))  # type: ignore[misc]
        seen += [at.id for at in found.tasks]
        marker = found.marker
        if marker is None:
            break
        desk.submit()
        desk.begin(seen[-1])
    assert seen == ids[::-1]


def test_counts_are_of_what_matches(crowd: Desk) -> None:
    wanted = Filter(project_id="p", state="failed,succeeded", roots=True)
    found = crowd.store.read(lambda tx: query.counts(tx, wanted))
    every = [at.state for at in everything(crowd) if at.project_id == "p" and at.parent_id is None]
    assert found == {state: every.count(state) for state in ("SUCCEEDED", "FAILED")}
    assert list(found) == [state for state in API_STATES if state in found]
    assert crowd.store.read(lambda tx: query.counts(tx, Filter(root="nobody"))) == {}


# --- through which index -----------------------------------------------------------------------------------------


def plan_of(desk: Desk, path: Path, wanted: dict[str, Any], sort: Sort, marker: TaskRow | None) -> list[str]:
    def read(tx: Tx) -> tuple[Any, dict[str, Any]]:
        values = listing._values(tx, Filter(**wanted))
        assert values is not None
        return listing._listing(values, sort, marker, 51, listing._since(tx, values, sort))

    statement, parameters = desk.store.read(read)
    compiled = statement.compile(dialect=dialect(paramstyle="named"), compile_kwargs={"render_postcompile": True})
    with sqlite3.connect(path) as connection:
        values = {name: parameters.get(name, 1) for name in compiled.params}
        return [each[3] for each in connection.execute(f"EXPLAIN QUERY PLAN {compiled}", values).fetchall()]


_SEEKS = [
    ({"project_id": "p"}, "ix_tasks_project (project_id=?"),
    ({"project_id": "p", "roots": True, "user_id": "u"}, "ix_tasks_project (project_id=?"),
    ({"project_id": "p", "resource_id": "r"}, "ix_tasks_resource (resource_id=? AND project_id=?"),
    ({"project_id": "p", "resource_id": "r", "state": "failed,running"}, "ix_tasks_resource (resource_id=? AND proj"),
    ({"project_id": "p", "state": "failed"}, "ix_tasks_project_state (project_id=? AND state=?"),
    ({"project_id": "p", "state": "failed", "roots": True}, "ix_tasks_project_state (project_id=? AND state=?"),
    ({"project_id": "p", "state": "failed,aborted,running"}, "ix_tasks_project_state (project_id=? AND state=?"),
    ({"state": "failed,aborted"}, "ix_tasks_state (state=?"),
    ({"project_id": "p", "tag": "t"}, "uq_tasks_tag (tag=? AND project_id=?"),
    ({"project_id": "p", "request_id": "r"}, "ix_tasks_request (request_id=?"),
    ({"project_id": "p", "parent_id": 1}, "ix_tasks_parent (parent_id=?"),
    ({"project_id": "p", "root_id": 1}, "ix_tasks_root (root_id=?"),
    ({"project_id": "p", "root_id": 1, "parent_id": 1, "state": "failed"}, "ix_tasks_parent (parent_id=?"),
]


@only_sqlite
@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize(("wanted", "index"), _SEEKS)
def test_a_list_seeks_and_sorts_nothing(
    desk: Desk, tmp_path: Path, wanted: dict[str, Any], index: str, behind: bool
) -> None:
    marker = desk.ask().task if behind else None
    for sort in (Sort(), Sort("created_at", False, False)):
        told = plan_of(desk, tmp_path / "tasks.db", wanted, sort, marker)
        seeks = [line for line in told if line.startswith("SEARCH")]
        assert seeks
        assert all(index in line for line in seeks)
        assert not [line for line in told if "SCAN" in line or "TEMP B-TREE" in line]


@only_sqlite
def test_all_tasks_are_read_in_their_own_order(desk: Desk, tmp_path: Path) -> None:
    assert plan_of(desk, tmp_path / "tasks.db", {}, Sort(), None) == ["SCAN tasks"]
    told = plan_of(desk, tmp_path / "tasks.db", {}, Sort(), desk.ask().task)
    assert told == ["SEARCH tasks USING INTEGER PRIMARY KEY (rowid<?)"]


@only_sqlite
@pytest.mark.parametrize("sort", [Sort(), Sort("last_updated")])
def test_what_changed_lately_is_sought(desk: Desk, tmp_path: Path, sort: Sort) -> None:
    told = " / ".join(plan_of(desk, tmp_path / "tasks.db", {"project_id": "p", "updated_from": 1.0}, sort, None))
    assert "ix_tasks_finished (project_id=? AND finished_at>?)" in told
    assert "ix_tasks_project_state (project_id=? AND state=?)" in told
    assert "SCAN" not in told


def test_statements_are_made_once_a_shape(desk: Desk) -> None:
    listed(desk, project_id="a", state="failed")
    known = dict(listing._shapes)
    listed(desk, project_id="b", state="running")
    assert listing._shapes == known
