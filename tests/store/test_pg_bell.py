"""Processes on one PostgreSQL hear of each other's commits; a look now and then is the net below."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import pairwise

import psycopg
import pytest

from holdfast.clock import SYSTEM
from holdfast.store import pg_bell
from holdfast.store.base import Appended, Tx
from holdfast.store.pg_bell import HEARD_MAX, PAUSE_S, PAUSE_WENT_ON_S
from holdfast.store.postgres import PostgresStore
from holdfast.testing.conformance.store import add_task
from tests.postgresql import Databases
from tests.store.test_pg_append import append_to
from tests.worker.house import until

PATIENCE_S = 30.0
NEVER_S = 3600.0
ENDED = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'holdfast bell'"
    " AND datname = current_database()"
)


@pytest.fixture
def url(postgresql: Databases) -> str:
    return postgresql.fresh()


@pytest.fixture
def two(url: str) -> Iterator[tuple[PostgresStore, PostgresStore]]:
    """They look at no time by themselves: what is heard is told."""
    with PostgresStore(url, look_s=NEVER_S) as one, PostgresStore(url, look_s=NEVER_S) as other:
        yield one, other


def hear_all(store: PostgresStore) -> None:
    store.hear_all()
    until(lambda: store._bell._hears_all)


def touch(tx: Tx) -> None:
    tx.touched(add_task(tx))


def test_a_commit_is_heard_by_another_process(two: tuple[PostgresStore, PostgresStore]) -> None:
    one, other = two
    heard = threading.Event()
    end = other.hear_others(lambda _: heard.set())
    seen = other.changes()
    one.write(touch)
    assert heard.wait(PATIENCE_S)
    assert other.wait(seen, PATIENCE_S) != seen
    end()
    heard.clear()
    seen = other.changes()
    one.write(touch)
    assert other.wait(seen, PATIENCE_S) != seen
    assert not heard.is_set()


def test_nobody_is_told_of_his_own(two: tuple[PostgresStore, PostgresStore]) -> None:
    one, other = two
    mine, theirs = threading.Event(), threading.Event()
    one.hear_others(lambda _: mine.set())
    other.hear_others(lambda _: theirs.set())
    one.write(touch)
    assert theirs.wait(PATIENCE_S)
    assert not mine.is_set()


def test_whether_tasks_only_went_on_is_told(two: tuple[PostgresStore, PostgresStore]) -> None:
    one, other = two
    heard: list[bool] = []
    task = one.write(add_task)
    one.changes()
    other.hear_others(heard.append)
    hear_all(other)
    assert one.append([append_to(task, 0)]) == [Appended(2, True)]
    until(lambda: heard == [True])
    one.write(touch)
    one.append([append_to(task, 2)])
    until(lambda: heard[1:2] == [False])
    SYSTEM.wait(threading.Event(), 5 * PAUSE_S)
    del heard[:]
    one.append([append_to(task, 4)._replace(then=lambda tx: None)])
    until(lambda: heard == [False])


def test_who_does_not_want_to_hear_that_tasks_went_on_is_not_told(two: tuple[PostgresStore, PostgresStore]) -> None:
    one, other = two
    heard: list[bool] = []
    task = one.write(add_task)
    one.changes()
    other.hear_others(heard.append)
    one.append([append_to(task, 0)])
    SYSTEM.wait(threading.Event(), 5 * PAUSE_S)
    one.write(touch)  # it is told after that
    until(lambda: bool(heard))
    assert heard == [False]


def test_who_waits_hears_that_tasks_went_on(two: tuple[PostgresStore, PostgresStore]) -> None:
    one, other = two
    task = one.write(add_task)
    one.changes()
    seen = other.changes()
    one.append([append_to(task, 0)])  # untold, and found as it begins to wait
    assert (before := seen) != (seen := other.wait(seen, PATIENCE_S))
    assert other.wait(seen, 0.1) == seen > before
    one.append([append_to(task, 2)])
    assert other.wait(seen, PATIENCE_S) != seen


def test_who_got_another_ear_hears_as_much_as_before(postgresql: Databases, url: str) -> None:
    with PostgresStore(url, look_s=NEVER_S) as one, PostgresStore(url, look_s=0.05) as other:
        heard: list[bool] = []
        task = one.write(add_task)
        one.changes()
        other.hear_others(heard.append)
        hear_all(other)
        lost = other._bell._connection
        assert lost is not None
        postgresql.server.execute(f"SELECT pg_terminate_backend({lost.info.backend_pid})")
        until(lambda: other._bell._connection not in (None, lost))
        other._bell._look_s = NEVER_S
        SYSTEM.wait(threading.Event(), 0.2)  # nobody knew what was missed
        del heard[:]
        one.append([append_to(task, 0)])
        until(lambda: heard == [True])


def test_that_tasks_go_on_and_on_is_told_less_often(two: tuple[PostgresStore, PostgresStore]) -> None:
    one, other = two
    times: list[float] = []
    task = one.write(add_task)
    one.changes()
    hear_all(other)
    other.hear_others(lambda _: times.append(SYSTEM.monotonic()))
    pause, began, seen = threading.Event(), SYSTEM.monotonic(), 0
    while SYSTEM.monotonic() - began < 1.0:
        one.append([append_to(task, seen)])
        seen += 2
        pause.wait(0.005)
    lasted_s = SYSTEM.monotonic() - began
    until(lambda: len(times) > 3)
    assert len(times) <= lasted_s / PAUSE_WENT_ON_S + 5


def test_many_commits_are_told_in_few_words(two: tuple[PostgresStore, PostgresStore]) -> None:
    one, other = two
    times: list[float] = []
    other.hear_others(lambda _: times.append(SYSTEM.monotonic()))
    one.changes()
    began = SYSTEM.monotonic()
    seen = other.changes()
    for _ in range(200):
        one.write(touch)
    assert other.wait(seen, PATIENCE_S) != seen
    assert len(times) <= (SYSTEM.monotonic() - began) / PAUSE_S + 2


def test_what_was_not_told_is_found_by_looking(url: str) -> None:
    with PostgresStore(url, look_s=NEVER_S) as one, PostgresStore(url, look_s=1.0) as other:
        seen = other.changes()
        one.write(lambda tx: add_task(tx) and None)  # it touches no task, so nobody is told
        assert other.wait(seen, PATIENCE_S) != seen


def test_who_lost_his_ear_gets_another(postgresql: Databases, url: str) -> None:
    with PostgresStore(url, look_s=0.05) as one, PostgresStore(url, look_s=0.05) as other:
        seen = other.changes()
        assert postgresql.server.execute(ENDED, url.rpartition("/")[2])[0][0] == 1
        seen = other.wait(seen, PATIENCE_S)  # nobody knows what was missed
        one.write(touch)
        assert other.wait(seen, PATIENCE_S) != seen


def test_who_has_just_rung_hears_another_at_once(
    two: tuple[PostgresStore, PostgresStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pg_bell, "PAUSE_S", 5.0)
    one, other = two
    one.changes()
    other.changes()
    other.write(touch)
    SYSTEM.wait(threading.Event(), 0.2)  # others are told of that
    seen, began = other.changes(), SYSTEM.monotonic()
    one.write(touch)
    assert other.wait(seen, PATIENCE_S) != seen
    assert SYSTEM.monotonic() - began < 2.5


def test_a_server_that_is_away_is_asked_for_now_and_then(
    postgresql: Databases, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PostgresStore(url, look_s=0.1) as store:
        store.changes()
        tries: list[None] = []

        def away(*_: object, **__: object) -> None:
            tries.append(None)
            raise psycopg.OperationalError("connection refused")

        monkeypatch.setattr(store._server, "connect", away)
        began = SYSTEM.monotonic()
        postgresql.server.execute(ENDED, url.rpartition("/")[2])
        SYSTEM.wait(threading.Event(), 1.0)
        assert 0 < len(tries) <= (SYSTEM.monotonic() - began) / 0.1 + 1


def test_of_a_quiet_commit_nobody_is_told_and_nobody_finds_it_by_looking(url: str) -> None:
    with PostgresStore(url, look_s=NEVER_S) as one, PostgresStore(url, look_s=0.05) as other:
        seen, own = other.changes(), one.changes()
        for _ in range(3):
            one.write(lambda tx: tx.keep_quiet())
        assert one.changes() == own
        assert other.wait(seen, 0.5) == seen
        one.write(lambda tx: add_task(tx) and None)
        assert other.wait(seen, PATIENCE_S) != seen
        seen = other.changes()

        def touching(tx: Tx) -> None:
            tx.keep_quiet()
            touch(tx)

        one.write(touching)  # it says so, and is wrong
        assert other.wait(seen, PATIENCE_S) != seen


def test_of_many_processes_each_hears_less_often_but_the_first_at_once(url: str) -> None:
    with PostgresStore(url, look_s=NEVER_S) as one, PostgresStore(url, look_s=NEVER_S) as other:
        times: list[float] = []
        one.changes()
        seen = other.changes()
        hear_all(other)
        bell = other._bell
        bell._others = HEARD_MAX // 2  # half a second
        other.hear_others(lambda _: times.append(SYSTEM.monotonic()))
        pause, began = threading.Event(), SYSTEM.monotonic()
        one.write(touch)
        assert other.wait(seen, PATIENCE_S) != seen
        while SYSTEM.monotonic() - began < 1.8:
            one.write(touch)
            pause.wait(0.01)
        seen = other.changes()
        assert len(times) <= (SYSTEM.monotonic() - began) / 0.5 + 2
        assert other.wait(seen, PATIENCE_S) != seen, "the last of them is heard of as well"
        assert all(later - sooner >= 0.49 for sooner, later in pairwise(times))
