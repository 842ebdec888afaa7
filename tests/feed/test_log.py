"""Reading the log: in order, behind an id, filtered; what is too old is said to be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.errors import EventsGone, UsageError
from holdfast.feed import log
from holdfast.feed.log import Entry, Filter
from holdfast.store.sqlite import SqliteStore
from holdfast.tasks import retention, tell
from tests.tasks.desk import Desk

DAY_S = 86_400.0


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with SqliteStore(str(tmp_path / "tasks.db"), synchronous="normal") as opened:
        yield Desk(opened)


def read(desk: Desk, after: int = 0, **how: object) -> list[Entry]:
    return desk.store.read(lambda tx: log.read(tx, after, **how))  # type: ignore[arg-type]


def test_reading_goes_on_behind_the_last_one_seen(desk: Desk) -> None:
    for _ in range(7):
        desk.submit()
    whole = read(desk)
    assert [entry.id for entry in whole] == [1, 2, 3, 4, 5, 6, 7]
    paged: list[Entry] = []
    while found := read(desk, paged[-1].id if paged else 0, limit=3):
        paged += found
    assert paged == whole


def test_filters(desk: Desk) -> None:
    mine = desk.submit(project_id="p1", resource_type="server", resource_id="r1")
    desk.submit(project_id="p2")
    desk.end(mine, "CANCELLED")
    assert [entry.project_id for entry in read(desk, filter=Filter(project="p2"))] == ["p2"]
    assert [entry.data["to"] for entry in read(desk, filter=Filter(task=mine))] == ["PENDING", "CANCELLED"]
    assert [entry.task for entry in read(desk, filter=Filter(resource="r1"))] == [mine, mine]
    assert read(desk, filter=Filter(types=frozenset((tell.STEP,)))) == []
    types = frozenset((tell.STATE, tell.STEP))
    both = Filter("p1", mine, "r1", types)
    assert len(read(desk, filter=both)) == 2
    assert [both.wants(entry) for entry in read(desk)] == [True, False, True]


def test_an_event_about_a_resource_says_so(desk: Desk) -> None:
    task = desk.row(desk.submit(project_id="p1"))
    desk.store.write(
        lambda tx: tell.tell(
            tx, tell.SYNC, task=task, data={"from": "IN_SYNC", "to": "UNKNOWN"}, now=5.0, subject="servers/s1",
            resource="s1",
        )
    )  # fmt: skip
    (entry,) = read(desk, filter=Filter(resource="s1"))
    assert (entry.type, entry.subject, entry.project_id, entry.at) == ("resource.sync", "servers/s1", "p1", 5.0)


def test_types_are_checked() -> None:
    assert log.types_of("task.state, task.step") == {"task.state", "task.step"}
    assert log.types_of(None) == frozenset()
    with pytest.raises(UsageError, match=r"task\.stat: no such type"):
        log.types_of("task.stat")


def test_who_comes_too_late_is_told(desk: Desk) -> None:
    for _ in range(5):
        desk.submit()
        desk.now += DAY_S
    retention.purge_feed(desk.store, desk.now, 2.5 * DAY_S)
    assert [entry.id for entry in read(desk)] == [4, 5]
    assert [entry.id for entry in read(desk, 3)] == [4, 5]
    with pytest.raises(EventsGone, match="kept from 4 on, and 2 is older") as caught:
        read(desk, 2)
    assert (caught.value.status, caught.value.code, caught.value.details["oldest"]) == (410, "gone", 4)


def test_an_id_that_was_never_given_is_not_waited_for(desk: Desk) -> None:
    """A database restored from a copy begins its ids anew: who waits for the next would miss those between."""
    desk.submit()
    assert read(desk, 1) == []
    with pytest.raises(EventsGone, match="never told here"):
        read(desk, 2)


def test_the_newest_event_stays_so_that_the_log_knows_where_it_is(desk: Desk) -> None:
    for _ in range(3):
        desk.submit()
    retention.purge_feed(desk.store, desk.now + 100 * DAY_S, DAY_S)
    assert [entry.id for entry in read(desk)] == [3]
    with pytest.raises(EventsGone):
        read(desk, 1)
    desk.submit()
    assert [entry.id for entry in read(desk, 3)] == [4]


def test_purging_goes_on_in_short_transactions(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(9):
        desk.submit()
    monkeypatch.setattr(retention, "FEED_MAX", 2)
    before = desk.store.changes()
    retention.purge_feed(desk.store, desk.now + DAY_S, 0.0)
    assert [entry.id for entry in read(desk)] == [9]
    assert desk.store.changes() - before >= 1


def test_an_event_outlives_its_task(desk: Desk) -> None:
    task = desk.submit(tag="x")
    desk.end(task)
    before = read(desk)
    desk.store.write(lambda tx: retention.purge(tx, desk.now + 30 * DAY_S))
    assert read(desk) == before
    assert before[-1].is_end
