"""Housekeeping: what has expired goes bit by bit, and nobody waits long for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from holdfast.settings import Settings
from holdfast.store.base import Row, Tx
from holdfast.store.schema import feed, tags, tasks
from holdfast.store.sqlite import SqliteStore
from holdfast.tasks import query
from holdfast.testing.clock import FakeClock
from holdfast.worker.house import EVENTS_MAX, HOUSE_S, REST, ROWS_MAX, TASKS_MAX, House
from tests.tasks.desk import Desk

WRITE_S = 0.25  # that each transaction takes here


class Slow:
    """A store whose writes take time, and are counted."""

    def __init__(self, store: SqliteStore, clock: FakeClock) -> None:
        self._store = store
        self._clock = clock
        self.at: list[float] = []
        self.results: list[Any] = []
        self.folds = 0

    def write(self, fn: Callable[[Tx], Any], meanwhile: Any = None) -> Any:
        self.at.append(self._clock.time())
        self._clock.advance(WRITE_S)
        self.results.append(self._store.write(fn))
        return self.results[-1]

    def fold(self) -> None:
        self.folds += 1
        self._store.fold()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Home:
    def __init__(self, store: SqliteStore) -> None:
        self.clock = FakeClock(threads=None)
        self.desk = Desk(store, self.clock.time())
        self.store = Slow(store, self.clock)
        settings = Settings.load(retention_s=86_400.0, feed_retention_s=86_400.0)
        self.house = House(self.store, settings, self.clock)

    def keep(self, *, until: float) -> None:
        """Turn whenever it is due, as a worker does."""
        while self.house.due_at <= until:
            self.clock.advance(self.house.due_at - self.clock.time())
            self.house.turn(self.clock.time())

    def left(self, column: Any) -> int:
        return int(self.desk.store.read(lambda tx: tx.execute(select(func.count(column))).scalar()))


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with SqliteStore(str(tmp_path / "tasks.db"), synchronous="normal") as opened:
        yield Home(opened)


@pytest.mark.requirement("P12")
def test_what_has_expired_goes_in_short_transactions_and_others_write_in_between(home: Home) -> None:
    desk, count = home.desk, TASKS_MAX * 3 + 5
    for number in range(count):
        desk.end(desk.submit(tag=f"t{number}"))
    parent = desk.submit()
    child = desk.submit(parent=parent)
    desk.end(child)
    desk.end(parent)
    kept = desk.submit()
    home.clock.advance(2 * 86_400.0)
    began = home.clock.time()
    home.keep(until=began + 60.0)
    assert home.left(tasks.c.id) == 1
    assert desk.row(kept).state == "PENDING"
    assert home.left(tags.c.tag) == count  # and say that their tasks are gone
    purges = [result for result in home.store.results if hasattr(result, "tasks") and result.tasks]
    assert sum(purge.tasks for purge in purges) == count + 2
    assert max(purge.tasks for purge in purges) <= TASKS_MAX
    pauses = [later - sooner for sooner, later in zip(home.store.at, home.store.at[1:], strict=False)]
    rested = [pause for pause in pauses if pause > WRITE_S * 1.01]
    assert len(rested) >= len(purges) - 1
    assert min(rested) >= WRITE_S * (1 + REST) * 0.99
    assert home.store.folds >= len(purges) - 1  # so that no commit of theirs has to
    assert home.left(feed.c.id) > 0


def test_a_long_journal_goes_bit_by_bit(home: Home) -> None:
    long, short = home.desk.submit(), home.desk.submit()
    events = [Row("delivered", None, None, 1.0)] * (ROWS_MAX * 3)
    home.desk.store.write(lambda tx: tx.record(long, events))
    for task in (long, short):
        home.desk.end(task)
    home.clock.advance(2 * 86_400.0)
    home.keep(until=home.clock.time() + 60.0)
    assert home.left(tasks.c.id) == 0
    purges = [result.rows for result in home.store.results if hasattr(result, "tasks") and result.rows]
    assert len(purges) > 3
    assert max(purges) <= ROWS_MAX + 5  # what there is of a task beside its journal goes with the end of that


def test_tombs_and_events_go_bit_by_bit(home: Home) -> None:
    desk, count = home.desk, ROWS_MAX + 10
    for number in range(count):
        desk.end(desk.submit(tag=f"t{number}"))
    home.clock.advance(2 * 86_400.0)
    home.keep(until=home.clock.time() + 100.0)
    assert (home.left(tags.c.tag), home.left(feed.c.id)) == (count, 1)
    assert len(home.store.at) > 2 * count / EVENTS_MAX
    home.clock.advance(2 * 86_400.0)
    home.keep(until=home.clock.time() + 60.0)
    assert home.left(tags.c.tag) == 0


def test_where_nothing_has_expired_it_is_looked_for_once_a_round(home: Home) -> None:
    home.desk.submit("r")
    home.keep(until=home.clock.time() + 3.5 * HOUSE_S)
    assert len(home.store.at) == 6  # three rounds: the queues, and what has expired
    assert home.desk.store.read(lambda tx: query.counts(tx))
