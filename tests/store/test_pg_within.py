"""A task in a transaction of the caller's own: it is there exactly if he commits, and is begun then."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy
from psycopg.rows import dict_row
from sqlalchemy.orm import Session

import holdfast as hf
from holdfast.errors import TagReused, TaskNotFound, UsageError
from holdfast.local import Holdfast
from tests.postgresql import Databases
from tests.worker.house import until

DONE: list[int] = []


@hf.step(provides="sum")
def ship(order: int) -> int:
    DONE.append(order)
    return order


@pytest.fixture
def url(postgresql: Databases) -> str:
    DONE.clear()
    found = postgresql.fresh()
    with psycopg.connect(found) as own:
        own.execute("DROP TABLE IF EXISTS orders")
        own.execute("CREATE TABLE orders (id int PRIMARY KEY)")
    return found


@pytest.fixture
def hold(url: str) -> Iterator[Holdfast]:
    with hf.open(url) as opened:
        yield opened
    with psycopg.connect(url) as own:
        own.execute("DROP TABLE orders")


@pytest.fixture
def mine(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url, row_factory=dict_row) as connection:  # rows of its own form
        yield connection


def orders(url: str) -> list[int]:
    with psycopg.connect(url) as own:
        return [row[0] for row in own.execute("SELECT id FROM orders ORDER BY id").fetchall()]


def test_it_is_there_once_the_caller_has_committed_and_begins_then(
    hold: Holdfast, url: str, mine: psycopg.Connection[Any]
) -> None:
    with hold.working():
        mine.execute("INSERT INTO orders VALUES (1)")
        task = hold.submit(ship, {"order": 1}, tag="order-1", claims=["order/1"], connection=mine)
        assert hold.tasks() == []
        with pytest.raises(TaskNotFound):
            hold.task(task.id)
        other = hold.submit(ship, {"order": 2}).wait(timeout_s=30)  # nobody waits for the caller
        assert (other.state, DONE) == ("SUCCEEDED", [2])
        mine.commit()
        until(lambda: task.id in {each.id for each in hold.tasks()})
        assert task.wait(timeout_s=30).state == "SUCCEEDED"
    assert (orders(url), DONE) == ([1], [2, 1])
    assert [event.data["to"] for event in hold.events(task=task) if event.type == "task.state"] == [
        "PENDING", "RUNNING", "SUCCEEDED",
    ]  # fmt: skip


def test_it_was_never_there_if_he_rolls_back(hold: Holdfast, url: str, mine: psycopg.Connection[Any]) -> None:
    mine.execute("INSERT INTO orders VALUES (1)")
    task = hold.submit(ship, {"order": 1}, tag="order-1", claims=["order/1"], connection=mine)
    mine.rollback()
    with pytest.raises(TaskNotFound):
        hold.task(task.id)
    again = hold.submit(ship, {"order": 7}, tag="order-1", claims=["order/1"])  # tag and queue are free
    hold.work(until_idle=True)
    assert (again.state, orders(url), DONE) == ("SUCCEEDED", [], [7])
    assert [event.subject for event in hold.events() if task.id in event.subject] == []


def test_what_is_refused_leaves_the_callers_own_work(hold: Holdfast, url: str, mine: psycopg.Connection[Any]) -> None:
    hold.submit(ship, {"order": 1}, tag="t")
    mine.execute("INSERT INTO orders VALUES (1)")
    with pytest.raises(TagReused):
        hold.submit(ship, {"order": 2}, tag="t", connection=mine)
    same = hold.submit(ship, {"order": 1}, tag="t", connection=mine)
    assert same.replayed
    mine.commit()
    assert (orders(url), len(hold.tasks())) == ([1], 1)


def test_a_nested_transaction_of_psycopgs_counts(hold: Holdfast, url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        with pytest.raises(UsageError, match="commits by itself"):
            hold.submit(ship, {"order": 1}, connection=connection)
        with connection.transaction():
            hold.submit(ship, {"order": 1}, connection=connection)
            with connection.transaction():
                hold.submit(ship, {"order": 2}, connection=connection)
                raise psycopg.Rollback
    hold.work(until_idle=True)
    assert DONE == [1]


def test_sqlalchemys_connection_and_session(hold: Holdfast, url: str) -> None:
    engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        hold.submit(ship, {"order": 1}, connection=connection)
        connection.commit()
        hold.submit(ship, {"order": 2}, connection=connection)
        connection.rollback()
    with Session(engine) as session:
        session.execute(sqlalchemy.text("INSERT INTO orders VALUES (3)"))
        hold.submit(ship, {"order": 3}, connection=session)
        session.commit()
    engine.dispose()
    hold.work(until_idle=True)
    assert (sorted(DONE), orders(url)) == ([1, 3], [3])


def test_one_of_another_database_is_refused(hold: Holdfast, postgresql: Databases) -> None:
    for other in (postgresql.empty(), postgresql.fresh()):
        with psycopg.connect(other) as connection:
            with pytest.raises(UsageError, match="another database"):
                hold.submit(ship, {"order": 1}, connection=connection)
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_what_is_no_such_connection_is_refused(hold: Holdfast) -> None:
    with pytest.raises(UsageError, match="takes a psycopg"):
        hold.submit(ship, {"order": 1}, connection="postgresql://here")
    with hf.open("sqlite:///:memory:") as small, pytest.raises(UsageError, match="is for PostgreSQL"):
        small.submit(ship, {"order": 1}, connection=object())
