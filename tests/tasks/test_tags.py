"""What a repeated request is answered with: the table "Tag semantics" of the contract, a test or more a row."""

from __future__ import annotations

import json
from typing import Any

import pytest

from holdfast.errors import QuotaExceeded, StateError, TagInvalid, TagReused, TaskGone
from holdfast.store.sqlite import SqliteStore
from holdfast.tasks import control, query, retention, tags
from holdfast.tasks.listing import Filter
from holdfast.tasks.quota import Limits
from holdfast.tasks.submit import Submitted
from tests.tasks.desk import DAY_S, Desk

URL = "POST /v3/servers/s1/action"


@pytest.fixture
def desk(store: SqliteStore) -> Desk:
    return Desk(store)


def ask(desk: Desk, body: Any, *, request: str = URL, tag: str | None = "t", **fields: Any) -> Submitted:
    """As a service asks: the fingerprint is of method, path and body."""
    return desk.ask(tag=tag, fingerprint=tags.hashed([request, body]), request=request, **fields)


def count(desk: Desk) -> int:
    return sum(desk.store.read(lambda tx: query.counts(tx)).values())


@pytest.mark.requirement("TAG-1")
@pytest.mark.parametrize("tag", ["x", "49fe58f1-a658-4232-b723-8f0b3efc1014", "a/b?c=d,e;f", "~" * 255])
def test_row_1_an_unseen_tag_is_kept_as_given(desk: Desk, tag: str) -> None:
    found = ask(desk, {}, tag=tag)
    assert (found.task.tag, found.replayed) == (tag, False)
    assert desk.store.read(lambda tx: query.find_by_tag(tx, "default", tag)) == found.task


@pytest.mark.requirement("TAG-1")
@pytest.mark.parametrize("tag", ["", " ", "a b", "a\n", "ä", "x" * 256, "\x7f"])
def test_row_1_what_is_no_tag_makes_no_task(desk: Desk, tag: str) -> None:
    with pytest.raises(TagInvalid):
        ask(desk, {}, tag=tag)
    assert count(desk) == 0


@pytest.mark.requirement("TAG-9")
def test_without_a_tag_two_requests_are_two_tasks(desk: Desk) -> None:
    one, two = ask(desk, {}, tag=None), ask(desk, {}, tag=None)
    assert one.task.tag is two.task.tag is None
    assert (one.task.id != two.task.id, two.replayed) == (True, False)


@pytest.mark.requirement("TAG-11")
@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED", "ABORTED"])
def test_row_2_the_same_request_is_the_same_task_in_any_state(desk: Desk, state: str) -> None:
    first = ask(desk, {"reboot": {}}, request_id="req-1").task
    if state == "RUNNING":
        desk.begin(first.id)
    elif state != "PENDING":
        desk.end(first.id, state)
    again = ask(desk, {"reboot": {}}, request_id="req-2")
    assert (again.replayed, again.task.uuid, again.task.state) == (True, first.uuid, state)
    assert again.task.request_id == "req-1"
    assert count(desk) == 1


@pytest.mark.requirement("TAG-12")
def test_row_3_the_same_url_with_other_parameters(desk: Desk) -> None:
    first = ask(desk, {"reboot": {"type": "SOFT"}}).task
    with pytest.raises(TagReused, match=f"Task-tag t already names {URL} with different parameters") as refusal:
        ask(desk, {"reboot": {"type": "HARD"}})
    error = refusal.value
    assert (error.status, error.code) == (422, "tag.reused")
    assert error.details == {"task": first.uuid, "first_seen": first.created_at, "request": URL, "tag": "t"}
    assert (count(desk), desk.row(first.id)) == (1, first)


@pytest.mark.requirement("TAG-12")
def test_row_4_another_url(desk: Desk) -> None:
    ask(desk, {"reboot": {}})
    with pytest.raises(TagReused, match=f"already names another request, {URL}") as refusal:
        ask(desk, {"reboot": {}}, request="POST /v3/servers/s2/action")
    assert refusal.value.details["request"] == URL
    assert count(desk) == 1


def test_row_6_a_refused_request_has_not_taken_its_tag(desk: Desk) -> None:
    ended = desk.submit()
    desk.end(ended)
    with pytest.raises(StateError):
        ask(desk, {}, parent=ended)
    desk.submit()
    with pytest.raises(QuotaExceeded):
        ask(desk, {}, limits=Limits(live_max=1, queue_max=None))
    assert not ask(desk, {"corrected": True}).replayed


def test_row_7_a_purged_task_is_gone_until_its_tag_is_free(desk: Desk) -> None:
    first = ask(desk, {}).task
    desk.end(first.id)
    desk.now += 2 * DAY_S
    ended = desk.now
    assert desk.store.write(lambda tx: retention.purge(tx, ended, tombstone_s=DAY_S)).tasks == 1
    for body in ({}, {"other": 1}):
        with pytest.raises(TaskGone) as refusal:
            ask(desk, body)
        assert (refusal.value.status, refusal.value.code) == (410, "gone")
        assert refusal.value.details == {"tag": "t", "first_seen": first.created_at, "request": URL}
    with pytest.raises(TaskGone):
        desk.store.read(lambda tx: query.find_by_tag(tx, "default", "t", now=ended))
    assert desk.store.read(lambda tx: query.find_by_tag(tx, "default", "t", now=ended + DAY_S)) is None
    desk.now = ended + DAY_S
    assert not ask(desk, {"other": 1}).replayed


def test_row_7_an_expired_task_that_is_not_purged_yet_still_answers(desk: Desk) -> None:
    first = ask(desk, {}).task
    desk.end(first.id)
    desk.now += 2 * DAY_S
    assert ask(desk, {}).task.id == first.id


@pytest.mark.requirement("TAG-10")
def test_rows_8_and_9_a_tag_is_the_project_s(desk: Desk) -> None:
    mine = ask(desk, {}, project_id="a", user_id="ann").task
    other = ask(desk, {"different": 1}, project_id="b", user_id="ann")
    assert not other.replayed
    assert ask(desk, {}, project_id="a", user_id="bob").task.id == mine.id
    with pytest.raises(TagReused):
        ask(desk, {"different": 1}, project_id="a", user_id="bob")
    for project, task in (("a", mine), ("b", other.task)):
        found = desk.store.read(lambda tx, at=project: query.page(tx, Filter(tag="t", project_id=at)))  # type: ignore[misc]
        assert [at.id for at in found.tasks] == [task.id]


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ('{"a":1,"b":[1,2]}', '{ "b" : [1, 2],\n"a": 1.0 }', True),
        ('{"a":"\\u00e9"}', '{"a":"é"}', True),
        ('{"a":1e2}', '{"a":100}', True),
        ('{"a":-0.0}', '{"a":0}', True),
        ('{"a":1}', '{"a":"1"}', False),
        ('{"a":null}', "{}", False),
        ('{"a":[1,2]}', '{"a":[2,1]}', False),
        ('{"a":true}', '{"a":1}', False),
        ('{"a":""}', '{"a":null}', False),
        ('{"a":{}}', '{"a":[]}', False),
    ],
)
def test_row_10_what_makes_a_difference(desk: Desk, first: str, second: str, same: bool) -> None:
    task = ask(desk, json.loads(first)).task
    if same:
        assert ask(desk, json.loads(second)).task.id == task.id
        assert desk.ask(tag="u", inputs=first).task.id == desk.ask(tag="u", inputs=second).task.id
    else:
        with pytest.raises(TagReused):
            ask(desk, json.loads(second))
        desk.ask(tag="u", inputs=first)
        with pytest.raises(TagReused):
            desk.ask(tag="u", inputs=second)


def test_row_13_the_tag_stays_with_the_first(desk: Desk) -> None:
    first = ask(desk, {}, operation="reboot", resource_type="server", resource_id="s1").task
    child = desk.submit(parent=first.id)
    desk.end(child)
    desk.end(first.id, "FAILED", left=("partial", "none"))
    made = [
        desk.store.write(lambda tx: control.retry(tx, first.id, desk.tick(), actor="ann", uuid="retry")).task,
        desk.store.write(lambda tx: control.rollback(tx, first.id, desk.tick(), actor="ann", uuid="back")).task,
    ]
    assert [at.tag for at in (*made, desk.row(child))] == [None, None, None]
    assert [(at.operation, at.resource_type, at.resource_id) for at in made] == [("reboot", "server", "s1")] * 2
    assert ask(desk, {}, operation="reboot").task.id == first.id
    found = desk.store.read(lambda tx: query.page(tx, Filter(tag="t", project_id="default", roots=True)))
    assert [at.id for at in found.tasks] == [first.id]
    whole = desk.store.read(lambda tx: query.page(tx, Filter(tag="t", project_id="default", trees=True)))
    assert [at.id for at in whole.tasks] == [child, first.id]
