"""Finding, listing, showing."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.dialects.sqlite import dialect

from holdfast.core.failure import Failure
from holdfast.errors import StepTimeout, TaskNotFound, UsageError
from holdfast.store.base import Append, Row, StepRow
from holdfast.store.sqlite import SqliteStore
from holdfast.tasks import claims, control, pools, query, show, submit, take, turn
from holdfast.tasks.query import Filter
from tests.postgresql import only_sqlite
from tests.tasks.desk import Desk


@pytest.fixture
def desk(store: SqliteStore) -> Desk:
    return Desk(store)


def listed(desk: Desk, **wanted: Any) -> list[int]:
    return [at.id for at in desk.store.read(lambda tx: query.page(tx, Filter(**wanted))).tasks]


def shown(desk: Desk, task: int, **how: Any) -> dict[str, Any]:
    found = desk.store.read(lambda tx: show.task(tx, desk_row(tx, task), now=desk.now, **how))
    json.dumps(found)
    return found


def desk_row(tx: Any, task: int) -> Any:
    from holdfast.tasks import row

    return row.read(tx, task)


def test_a_task_is_found_by_uuid_tag_or_the_beginning_of_its_uuid(desk: Desk) -> None:
    one = desk.ask(tag="order-17").task
    other = desk.store.write(lambda tx: submit.submit(tx, submit.Request("f", "f"), 1.0, "abcdef00-0000-7000-8000-1"))
    for name in (one.uuid, "order-17"):
        assert desk.store.read(lambda tx, name=name: query.find(tx, name)) == one  # type: ignore[misc]
    assert desk.store.read(lambda tx: query.find(tx, "ABCDef")) == other.task
    for name in ("nothing", "abc", "abcdef01", ""):
        with pytest.raises(TaskNotFound):
            desk.store.read(lambda tx, name=name: query.find(tx, name))  # type: ignore[misc]
    desk.submit()
    with pytest.raises(UsageError):
        desk.store.read(lambda tx: query.find(tx, "0000"))


def test_lists_are_newest_first_and_filtered(desk: Desk) -> None:
    one, two = desk.submit("r", user_id="ann"), desk.submit(("r", "shared"), "s", project_id="p", tag="t")
    three = desk.submit(parent=one)
    desk.end(two)
    assert listed(desk) == [three, two, one]
    assert listed(desk, state="pending") == [three, one]
    assert listed(desk, state="in:Succeeded, pending") == [three, two, one]
    assert listed(desk, resource="r") == [two, one]
    assert listed(desk, resource="s") == [two]
    assert listed(desk, resource="%") == []
    assert listed(desk, project_id="p") == [two]
    assert listed(desk, tag="t") == [two]
    assert listed(desk, user_id="ann") == [one]
    assert listed(desk, flow="build", roots=True) == [two, one]
    assert listed(desk, root_id=one) == listed(desk, parent_id=one) == [three]
    assert listed(desk, created_from=1002.0, created_to=1003.0) == [two]
    assert listed(desk, updated_from=1004.0) == [two]
    with pytest.raises(UsageError, match="SLEEPING is no state"):
        listed(desk, state="sleeping")
    assert desk.store.read(lambda tx: query.counts(tx)) == {"PENDING": 2, "SUCCEEDED": 1}


def test_pages_neither_skip_nor_repeat_while_tasks_come(desk: Desk) -> None:
    ids = [desk.submit() for _ in range(5)]
    seen: list[int] = []
    marker = None
    while True:
        page = desk.store.read(lambda tx, marker=marker: query.page(tx, Filter(), limit=2, marker=marker))  # type: ignore[misc]
        seen += [at.id for at in page.tasks]
        marker = page.marker
        if marker is None:
            break
        desk.submit()
    assert seen == ids[::-1]
    assert desk.store.read(lambda tx: query.page(tx, Filter(), limit=0)) == ([], None)
    for wrong in ({"limit": -1}, {"marker": "nobody"}):
        with pytest.raises(UsageError):
            desk.store.read(lambda tx, wrong=wrong: query.page(tx, Filter(), **wrong))  # type: ignore[misc]


BOTH = (claims.EXCLUSIVE, claims.SHARED)


def plan_of(path: Path, statement: Any, **parameters: Any) -> str:
    compiled = statement.compile(dialect=dialect(paramstyle="named"))
    with sqlite3.connect(path) as connection:
        values = {name: parameters.get(name, 1) for name in compiled.params}
        rows = connection.execute(f"EXPLAIN QUERY PLAN {compiled}", values).fetchall()
    return " / ".join(row[3] for row in rows)


@only_sqlite
@pytest.mark.requirement("TAG-17")
def test_a_tag_is_found_through_an_index(desk: Desk, tmp_path: Path) -> None:
    told = plan_of(tmp_path / "tasks.db", query._BY_TAG)
    assert "USING INDEX uq_tasks_tag (tag=? AND project_id=?)" in told


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (
            turn._NEW,
            "ix_tasks_turn (pool=? AND ready=? AND priority=? AND project_id=? AND begun=? AND due_at>? AND due_at<?)",
        ),
        (turn._LESS_URGENT, "ix_tasks_turn (pool=? AND ready=? AND priority<?)"),
        (turn._HELD, "ix_tasks_held (pool=?)"),
        (pools._HELD, "ix_tasks_held (pool=?)"),
        (pools._QUEUED, "ix_tasks_queued (pool=?)"),
        (take._DUE, "ix_tasks_"),
        (take._CALLED, "ix_tasks_worker (worker_id=? AND due_at>?)"),
        (submit.UNDRAWN, "ix_tasks_start_after (start_after>? AND start_after<?)"),
        (claims._BLOCKED[BOTH, False], "ix_tickets_queue (resource=? AND granted=? AND mode=?)"),
        (
            claims._BLOCKED[BOTH, False],
            "ix_tickets_queue (resource=? AND granted=? AND mode=? AND yielding=? AND ticket<?)",
        ),
        (claims._BLOCKED[BOTH, True], "ix_tickets_queue (resource=? AND granted=? AND mode=?)"),
        (claims._FIRST_EXCLUSIVE, "ix_tickets_queue (resource=? AND granted=? AND mode=?)"),
        (claims._OF_TASK, "ix_tickets_task (task=?)"),
        (query._BY_PREFIX, "_tasks_1 (uuid>? AND uuid<?)"),
    ],
)
@only_sqlite
def test_hot_questions_seek(desk: Desk, tmp_path: Path, statement: Any, index: str) -> None:
    told = plan_of(tmp_path / "tasks.db", statement)
    assert index in told
    assert "SCAN" not in told.replace("SCAN CONSTANT ROW", "").replace("SCAN anon_1", "")  # what was found so far
    assert "TEMP B-TREE" not in told or "ix_tickets_task" in told


def test_what_a_waiting_task_shows(desk: Desk) -> None:
    holder = desk.ask("r")
    task = desk.submit("r", tag="t", inputs='{"a":{"$":"tuple","v":[1,{"$":"secret","v":"sealed"}]},"$b":2}')
    found = shown(desk, task)
    assert found["claims"] == [{"type": "", "id": "r", "mode": "exclusive", "resource": "r"}]
    assert (found["queue_position"], found["blocked_by"]) == (1, [holder.task.uuid])
    assert found["params"] == {"a": [1, "******"], "$b": 2}
    assert (found["state"], found["direction"], found["supported_verbs"]) == (
        "PENDING",
        "forward",
        ["cancel", "abort", "suspend"],
    )
    assert found["created_at"] == "1970-01-01T00:16:42.000000Z"
    assert found["progress"]["percent"] == 0


def test_what_a_resting_task_shows(desk: Desk) -> None:
    task = desk.submit()
    desk.set(task, state="SUSPENDED", hold="reverting", goal="FAILED", reason="revert_failed", resting='["a/b"]')
    found = shown(desk, task)
    assert found["resting"] == [{"step": "a/b", "answers": ["done", "rerun", "skip"]}]
    assert (found["direction"], found["goal"]) == ("back", "FAILED")
    assert found["supported_verbs"] == ["abort", "resume"]


def test_what_a_failed_task_shows(desk: Desk) -> None:
    try:
        raise StepTimeout("too slow") from ConnectionError("refused")
    except StepTimeout as raised:
        failure = Failure.of(raised).to_json() | {"step": "build/boot"}
    task, child = desk.submit(), None
    desk.begin(task)
    child = desk.submit(parent=task)
    desk.set(task, progress_done=1.0, progress_total=3.0, token="t")
    failed = StepRow(0, "build/boot", "FAILED", 2, 5.0, 6.0, None, None, json.dumps(failure))
    desk.store.append([Append(task, "t", 0, (), [Row("began", None, None, 1.0)], steps_all=[failed])])
    desk.end(task, "FAILED", error=json.dumps(failure), result=None)
    found = shown(desk, task)
    assert found["error"] == {
        "code": "step.timeout",
        "title": "StepTimeout",
        "detail": "too slow",
        "step": "build/boot",
        "retryable": True,
        "cause": ["ConnectionError: refused"],
    }
    assert "traceback" not in json.dumps(found)
    assert "too slow" in shown(desk, task, traceback=True)["error"]["traceback"]
    assert (found["progress"]["percent"], found["effect"]) == (33, "partial")
    assert shown(desk, child)["parent_id"] == found["uuid"]
    (step,) = desk.store.read(lambda tx: query.steps_of(tx, task))
    assert show.step(step)["error"]["code"] == "step.timeout"
    assert (show.step(step)["attempt"], show.step(step)["ended_at"]) == (2, "1970-01-01T00:00:06.000000Z")


def test_what_an_aborted_and_a_forced_task_show(desk: Desk) -> None:
    aborted, forced = desk.submit(), desk.submit()
    desk.store.write(lambda tx: control.abort(tx, aborted, 5.0, actor="me"))
    desk.store.write(lambda tx: control.force_fail(tx, forced, 5.0, actor="me", reason="gone"))
    assert shown(desk, aborted)["error"]["code"] == "task.aborted"
    assert shown(desk, forced)["error"] | {"cause": []} == {
        "code": "task.force_failed",
        "title": "ForceFailed",
        "detail": "gone",
        "step": None,
        "retryable": False,
        "cause": [],
    }


def test_success_is_a_hundred_percent_and_nothing_else_is(desk: Desk) -> None:
    task = desk.submit()
    desk.set(task, progress_done=3.0, progress_total=3.0)
    assert shown(desk, task)["progress"]["percent"] == 99
    desk.end(task)
    assert shown(desk, task)["progress"]["percent"] == 100
