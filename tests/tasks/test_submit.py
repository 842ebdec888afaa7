"""Admission, and tags: the same request twice makes one task."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select

from holdfast.core.canonical import canonical
from holdfast.errors import StateError, TagInvalid, TagReused, TaskGone
from holdfast.store.schema import metadata, plans, tasks
from holdfast.store.sqlite import SqliteStore
from holdfast.tasks import query, retention, row, tags
from holdfast.tasks.claims import claims_of
from holdfast.tasks.row import TaskRow
from holdfast.tasks.submit import Request, submit
from tests.tasks.desk import DAY_S, Desk


@pytest.fixture
def desk(store: SqliteStore) -> Desk:
    return Desk(store)


def count(desk: Desk) -> int:
    return int(desk.store.read(lambda tx: tx.execute(select(func.count()).select_from(tasks)).scalar()))


def test_a_row_has_the_columns_of_the_schema() -> None:
    assert TaskRow._fields == tuple(metadata.tables["tasks"].columns.keys())


def test_what_was_asked_for_is_kept(desk: Desk) -> None:
    done = desk.ask("r", inputs='{"a":1}', version="2", priority=7, pool="hv", user_id="ann", steps=3, weight=4.0)
    at = done.task
    assert not done.replayed
    assert (at.state, at.flow, at.version, at.reference) == ("PENDING", "build", "2", "flows:build")
    assert (at.priority, at.pool, at.user_id, at.total, at.progress_total) == (7, "hv", "ann", 3, 4.0)
    assert (at.created_at, at.due_at, at.seq, at.executed_at) == (1001.0, 1001.0, 0, None)
    assert desk.store.read(lambda tx: row.asked_for(tx, at.id)) == ('{"a":1}', '[["r","exclusive"]]')


def test_a_plan_is_kept_once(desk: Desk) -> None:
    for _ in range(2):
        assert desk.ask(digest="d", outline="o").task.digest == "d"
    assert desk.store.read(lambda tx: tx.execute(select(plans)).all()) == [("d", "o")]


@pytest.mark.requirement("TAG-11")
def test_the_same_request_again_is_the_same_task(desk: Desk) -> None:
    first = desk.ask("r", tag="order-17", inputs='{"a": 1, "b": [2.0]}')
    desk.end(first.task.id)
    again = desk.ask("r", tag="order-17", inputs='{"b":[2],"a":1.0}')
    assert (again.task.id, again.replayed, again.task.state) == (first.task.id, True, "SUCCEEDED")
    assert count(desk) == 1


@pytest.mark.requirement("TAG-12")
@pytest.mark.parametrize(
    "other", [{"inputs": '{"a":"1"}'}, {"inputs": '{"a":1,"b":null}'}, {"inputs": "{}"}, {"inputs": '{"a":[2,1]}'}]
)
def test_another_request_under_the_same_tag_is_refused(desk: Desk, other: dict[str, Any]) -> None:
    first = desk.ask(tag="t", inputs='{"a":1}')
    with pytest.raises(TagReused) as refusal:
        desk.ask(tag="t", **other)
    details = {"tag": "t", "task": first.task.uuid, "first_seen": first.task.created_at, "request": ""}
    assert refusal.value.details == details
    with pytest.raises(TagReused):
        desk.ask("r", tag="t", inputs='{"a":1}')
    assert count(desk) == 1


@pytest.mark.requirement("TAG-10")
def test_each_project_has_its_own_tags(desk: Desk) -> None:
    one = desk.ask(tag="t", project_id="a")
    two = desk.ask(tag="t", project_id="b", inputs='{"x":1}')
    assert (one.replayed, two.replayed) == (False, False)
    assert desk.ask(tag="t", project_id="a", user_id="somebody else").task.id == one.task.id


def test_a_refused_request_leaves_its_tag_free(desk: Desk) -> None:
    root = desk.submit()
    desk.end(root)
    with pytest.raises(StateError):
        desk.ask(tag="t", parent=root)
    assert not desk.ask(tag="t").replayed


def test_secrets_are_compared_by_what_the_caller_says(desk: Desk) -> None:
    one = desk.ask(tag="t", inputs='{"p":{"$":"secret","v":"sealed1"}}', canonical='{"p":"hash"}')
    two = desk.ask(tag="t", inputs='{"p":{"$":"secret","v":"sealed2"}}', canonical='{"p":"hash"}')
    assert two.task.id == one.task.id


def test_the_tag_of_a_purged_task_says_gone_and_is_free_later(desk: Desk) -> None:
    task = desk.submit(tag="t")
    desk.end(task)
    desk.now += 2 * DAY_S
    purged = desk.store.write(lambda tx: retention.purge(tx, desk.now, tombstone_s=DAY_S))
    assert (purged.tasks, purged.more) == (1, False)
    with pytest.raises(TaskGone):
        desk.ask(tag="t")
    with pytest.raises(TaskGone):
        desk.store.read(lambda tx: query.find_by_tag(tx, "default", "t"))
    desk.now += 2 * DAY_S
    assert not desk.ask(tag="t").replayed


def test_a_tombstone_is_swept(desk: Desk) -> None:
    desk.end(desk.submit(tag="t"))
    desk.store.write(lambda tx: retention.purge(tx, desk.now + 2 * DAY_S, tombstone_s=DAY_S))
    assert desk.store.write(lambda tx: retention.purge(tx, desk.now + 4 * DAY_S)).rows == 1
    assert desk.store.read(lambda tx: query.find_by_tag(tx, "default", "t")) is None


@pytest.mark.requirement("TAG-1")
@pytest.mark.parametrize("wrong", ["", "a" * 256, "a b", "a\n", "é", "\x7f"])
def test_what_is_no_tag_is_refused(desk: Desk, wrong: str) -> None:
    with pytest.raises(TagInvalid):
        desk.ask(tag=wrong)
    assert count(desk) == 0


def test_any_visible_word_is_a_tag(desk: Desk) -> None:
    assert desk.ask(tag="~!/" + "x" * 252).task.tag == "~!/" + "x" * 252


def test_two_first_requests_at_once_make_one_task(desk: Desk) -> None:
    from concurrent.futures import ThreadPoolExecutor

    request = Request(flow="build", reference="flows:build", tag="t", claims=claims_of(["r"]))

    def ask(number: int) -> tuple[int, bool]:
        done = desk.store.write(lambda tx: submit(tx, request, 1.0, f"00000000-0000-7000-8000-{number:012}"))
        return done.task.id, done.replayed

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(32)))
    assert len({task for task, _ in answers}) == 1
    assert sum(not replayed for _, replayed in answers) == 1


def test_an_ended_task_gets_no_children(desk: Desk) -> None:
    root = desk.submit()
    desk.end(root)
    with pytest.raises(StateError):
        desk.submit(parent=root)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def _shuffled(data: Any, turn: Callable[[list[Any]], list[Any]]) -> Any:
    if isinstance(data, dict):
        return {key: _shuffled(data[key], turn) for key in turn(list(data))}
    return [_shuffled(item, turn) for item in data] if isinstance(data, list) else data


@given(_json)
def test_the_order_of_keys_and_blanks_make_no_difference(data: Any) -> None:
    other = _shuffled(data, lambda keys: keys[::-1])
    assert tags.fingerprint("f", json.dumps(data), ()) == tags.fingerprint("f", json.dumps(other, indent=2), ())


@given(_json)
def test_what_was_written_canonically_is_the_same_request(data: Any) -> None:
    asked = tags.fingerprint("f", json.dumps(data), ())
    assert tags.fingerprint("f", canonical(data), ()) == asked == tags.hashed(["f", data, []])


def test_the_row_that_submit_tells_is_the_one_it_wrote(desk: Desk) -> None:
    for claimed in ((), ("r",), ("r", "s")):  # nothing to wait for, free, behind another
        made = desk.ask(*claimed, tag=f"t{len(claimed)}", steps=3, weight=1.5).task
        assert made == desk.row(made.id)
        assert made.ready == (len(claimed) < 2)
