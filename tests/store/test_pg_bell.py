"""Processes on one PostgreSQL hear of each other's commits; a look now and then is the net below."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

import psycopg
import pytest
from sqlalchemy import bindparam, select

from holdfast.clock import SYSTEM
from holdfast.store import pg_bell
from holdfast.store.base import Appended, Tx
from holdfast.store.pg_bell import CHANNEL, CHANNEL_WENT_ON, HEARD_MAX, LOOKS_S, PAUSE_S
from holdfast.store.postgres import PostgresStore
from holdfast.store.schema import tasks
from holdfast.tasks import fleet
from holdfast.testing.conformance.store import add_task
from tests.postgresql import Databases
from tests.store.test_pg_append import append_to
from tests.worker.house import until

PATIENCE_S = 30.0
SEQ = select(tasks.c.seq).where(tasks.c.id == bindparam("_task"))
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


def test_that_a_pool_is_open_again_is_told_though_it_touches_no_task(two: tuple[PostgresStore, PostgresStore]) -> None:
    one, other = two
    heard = threading.Event()
    other.hear_others(lambda _: heard.set())
    one.write(lambda tx: fleet.limit(tx, "hv1", {"running_max": 4}, 0.0))
    one.write(lambda tx: fleet.give(tx, "hv1", "pause", 0.0))
    assert not heard.wait(10 * PAUSE_S)
    one.write(lambda tx: fleet.give(tx, "hv1", "resume", 0.0))
    assert heard.wait(PATIENCE_S)


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
    until(lambda: bool(heard))
    assert False not in heard
    one.write(touch)
    one.append([append_to(task, 2)])
    until(lambda: False in heard)
    SYSTEM.wait(threading.Event(), 5 * PAUSE_S)
    del heard[:]
    one.append([append_to(task, 4)._replace(then=lambda tx: None)])
    until(lambda: False in heard)


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
    assert (before := seen) != other.wait(seen, PATIENCE_S)
    until(lambda: other.wait(seen := other.changes(), 0.1) == seen)  # it may be told of what it has found already
    assert (seen := other.changes()) > before
    one.append([append_to(task, 2)])
    assert other.wait(seen, PATIENCE_S) != seen


def test_who_got_another_ear_hears_as_much_as_before(
    postgresql: Databases, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pg_bell, "WENT_ON_S", 0.05)  # what it hears it has not found by looking
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
        until(lambda: True in heard)


def test_that_tasks_go_on_and_on_is_heard_of_less_often(two: tuple[PostgresStore, PostgresStore]) -> None:
    one, other = two
    times: list[float] = []
    task = one.write(add_task)
    one.changes()
    hear_all(other)
    other.hear_others(lambda _: times.append(SYSTEM.monotonic()))
    began = SYSTEM.monotonic()
    go_on(one, task)
    lasted_s = SYSTEM.monotonic() - began
    until(lambda: len(times) > 3)
    assert len(times) <= lasted_s / LOOKS_S + 5


def test_who_has_heard_that_tasks_go_on_looks_and_need_not_be_told(
    url: str, two: tuple[PostgresStore, PostgresStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server wakes all who listen in the database for each NOTIFY, whether it is for them or not."""
    monkeypatch.setattr(pg_bell, "WENT_ON_S", NEVER_S)
    one, other = two
    found: list[int] = []
    task = one.write(add_task)
    one.changes()
    hear_all(other)
    other.hear_others(lambda _: found.append(other.read(lambda tx: tx.execute(SEQ, {"_task": task}).scalar())))
    with psycopg.connect(url, autocommit=True) as witness:
        witness.execute(f"LISTEN {CHANNEL_WENT_ON}")
        went = go_on(one, task)
        for seen in range(went, went + 10, 2):
            one.append([append_to(task, seen)])
            until(partial(lambda end: found[-1:] == [end], seen + 2))
        assert len(list(witness.notifies(timeout=0))) == 1


def test_that_tasks_go_on_is_told_again_after_a_pause(
    two: tuple[PostgresStore, PostgresStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pg_bell, "WENT_ON_S", 0.3)
    one, other = two
    heard: list[bool] = []
    task = one.write(add_task)
    one.changes()
    hear_all(other)
    other.hear_others(heard.append)
    seen = go_on(one, task)
    SYSTEM.wait(threading.Event(), 1.0)  # it has looked for the last time
    del heard[:]
    one.append([append_to(task, seen)])
    until(lambda: bool(heard))
    assert False not in heard


def test_what_was_not_rung_for_is_found_by_the_next_look_though_one_between_saw_it(
    url: str, two: tuple[PostgresStore, PostgresStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pg_bell, "WENT_ON_S", NEVER_S)  # for which it looks
    one, other = two
    heard: list[bool] = []
    one.changes()
    hear_all(other)
    other.hear_others(heard.append)
    with PostgresStore(url, look_s=NEVER_S) as third:
        monkeypatch.setattr(third._bell, "ring", lambda **_: True)  # it dies before it does
        third.write(touch)
        until(lambda: bool(heard))
        assert False not in heard
        other._bell._look_s = 0.05
        other._bell._wake()
        until(lambda: False in heard)


@pytest.fixture
def rings(url: str) -> Iterator[Callable[[], int]]:
    """How many were sent since this was asked the last time."""
    with psycopg.connect(url, autocommit=True) as witness:
        witness.execute(f"LISTEN {CHANNEL}")
        yield lambda: len(list(witness.notifies(timeout=0)))


def test_what_could_not_be_told_is_told_by_a_new_connection(
    url: str, rings: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: bool) -> str:
        monkeypatch.setattr(pg_bell, "ring_apart", ring_apart)
        raise psycopg.OperationalError("the connection is lost")

    ring_apart = pg_bell.ring_apart
    monkeypatch.setattr(pg_bell, "ring_apart", fail)
    with PostgresStore(url, look_s=0.05) as store:
        store.changes()
        store.write(touch)
        until(lambda: rings() == 1)
        SYSTEM.wait(threading.Event(), 5 * PAUSE_S)
        assert rings() == 0


def test_what_waits_to_be_told_is_told_as_it_is_closed(
    url: str, rings: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pg_bell, "PAUSE_S", NEVER_S)
    with PostgresStore(url) as store:
        store.changes()
        store.write(touch)
        until(lambda: rings() == 1)
        store.write(touch)
        assert rings() == 0
    until(lambda: rings() == 1)


def go_on(store: PostgresStore, task: int) -> int:
    """For a second: how far the task is then."""
    pause, began, seen = threading.Event(), SYSTEM.monotonic(), 0
    while SYSTEM.monotonic() - began < 1.0:
        store.append([append_to(task, seen)])
        seen += 2
        pause.wait(0.005)
    return seen


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
        assert other.wait(seen, PATIENCE_S) != seen, "the last of them is heard of as well"
        assert len(times) <= (SYSTEM.monotonic() - began) / 0.5 + 2
