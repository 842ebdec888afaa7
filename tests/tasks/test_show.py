"""How a task is shown: whole, in a list, to an administrator."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from holdfast.store.sqlite import SqliteStore
from holdfast.tasks import control, query, show
from holdfast.tasks.listing import Filter
from tests.tasks.desk import Desk, take_as

#: The contract's section 3. The links are the service's.
KEYS = [
    "uuid",
    "task",
    "state",
    "tag",
    "resource",
    "resource_id",
    "resource_type",
    "claims",
    "request_id",
    "global_request_id",
    "user_id",
    "project_id",
    "origin",
    "parent_id",
    "root_id",
    "retry_of",
    "rollback_of",
    "created_at",
    "start_time",
    "executed_at",
    "last_updated",
    "finish_time",
    "expires_at",
    "attempt",
    "priority",
    "queue_position",
    "blocked_by",
    "progress",
    "effect",
    "revert",
    "reason",
    "params",
    "result",
    "error",
    "supported_verbs",
    "hostId",
    "direction",
    "goal",
]


@pytest.fixture
def desk(store: SqliteStore) -> Desk:
    return Desk(store)


def shown(desk: Desk, task: int, **how: Any) -> dict[str, Any]:
    found = desk.store.read(lambda tx: show.task(tx, desk.row(task), now=desk.now, **how))
    json.dumps(found)
    return found


def listed(desk: Desk, **how: Any) -> list[dict[str, Any]]:
    return desk.store.read(lambda tx: show.tasks(tx, query.page(tx, Filter()).tasks, now=desk.now, **how))


def seed_schema_accepts(task: dict[str, Any]) -> bool:
    """The schema of the request that all this began with (TAG-16)."""
    texts = ("uuid", "task", "state", "request_id", "user_id", "project_id", "start_time", "last_updated")
    times = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
    return (
        all(isinstance(task[name], str) for name in texts)
        and all(times.fullmatch(task[name]) for name in ("start_time", "last_updated"))
        and isinstance(task["resource"], dict)
        and all(isinstance(id, str) for id in task["resource"].values())
    )


def test_a_task_has_every_key_of_the_contract(desk: Desk) -> None:
    bare = desk.submit()
    full = desk.submit(
        "server/s1", ("network/public/a", "shared"), operation="reboot", resource_type="server", resource_id="s1",
        request_id="req-1", global_request_id="req-g", user_id="ann", origin="api", inputs='{"type":"SOFT"}',
    )  # fmt: skip
    for task in (bare, full):
        found = shown(desk, task)
        assert not set(KEYS) - set(found)
        assert seed_schema_accepts(found)
    assert (found["task"], found["flow"], found["resource"]) == ("reboot", "build", {"server": "s1"})
    assert (found["resource_type"], found["resource_id"], found["params"]) == ("server", "s1", {"type": "SOFT"})
    assert (found["request_id"], found["global_request_id"], found["origin"]) == ("req-1", "req-g", "api")
    assert found["claims"] == [
        {"type": "network", "id": "public/a", "mode": "shared", "resource": "network/public/a"},
        {"type": "server", "id": "s1", "mode": "exclusive", "resource": "server/s1"},
    ]
    assert (found["attempt"], found["tag"], found["start_time"]) == (1, None, found["created_at"])


def test_a_list_leaves_out_what_costs_more_than_a_row(desk: Desk) -> None:
    one = desk.submit("r", inputs='{"a":1}')
    two = desk.submit("r", request_id="req-2")
    desk.end(one, result='{"b":2}')
    three = desk.submit("r", parent=None)
    plain = listed(desk)
    assert [each["uuid"] for each in plain] == [desk.row(task).uuid for task in (three, two, one)]
    for task, each in zip((three, two, one), plain, strict=True):
        whole = shown(desk, task)
        assert each == {name: whole[name] for name in whole if name not in show.COSTLY}
        assert seed_schema_accepts(each)
    for task, each in zip((three, two, one), listed(desk, fields=show.COSTLY), strict=True):
        assert each == shown(desk, task)
    some = listed(desk, fields=("params", "uuid"))
    assert [each["params"] for each in some] == [{}, {}, {"a": 1}]
    assert "result" not in some[0]
    (last,) = [each for each in listed(desk, fields=("result",)) if each["state"] == "SUCCEEDED"]
    assert last["result"] == {"b": 2}


def test_an_attempt_is_one_more_than_what_it_retries(desk: Desk) -> None:
    task = desk.submit()
    for number in (2, 3):
        desk.end(task, "FAILED")
        uuid = f"retry-{number}"
        before = desk.row(task)
        task = desk.store.write(
            lambda tx, of=task, uuid=uuid: control.retry(tx, of, desk.tick(), actor="ann", uuid=uuid)  # type: ignore[misc]
        ).task.id
        assert shown(desk, task)["attempt"] == number
        assert shown(desk, task)["retry_of"] == before.uuid


def test_the_host_is_an_administrators_to_see(desk: Desk) -> None:
    mine, other = desk.submit(), desk.submit(project_id="other")
    desk.store.write(lambda tx: take_as(tx, "w", generation="g", nonce="n", now=desk.now, limit=9, pool="default"))
    found = shown(desk, mine)
    assert "here" not in json.dumps(found)
    assert re.fullmatch("[0-9a-f]{56}", found["hostId"])
    assert found["hostId"] != shown(desk, other)["hostId"]
    assert shown(desk, mine, host=True)["host"] == "here"
    desk.end(mine)
    ended = shown(desk, mine, host=True)
    assert (ended["host"], ended["hostId"], ended["worker"]) == ("here", found["hostId"], None)
    waits = shown(desk, desk.submit(), host=True)
    assert (waits["host"], waits["hostId"]) == (None, "")
