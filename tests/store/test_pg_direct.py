"""Statements by libpq's own calls: prepared, and with the driver's errors."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from holdfast.store.base import Appended
from holdfast.store.pg_direct import NAMES_MAX, Direct
from holdfast.store.pg_driver import Server
from holdfast.store.pg_silence import Connection
from holdfast.store.postgres import PostgresStore
from holdfast.testing.conformance.store import add_task, kinds
from tests.postgresql import Databases
from tests.store.test_pg_append import append_to
from tests.worker.house import until

SQL = "SELECT generate_series(1, $1::int8) /* {} */"


@pytest.fixture
def connection(postgresql: Databases) -> Iterator[Connection]:
    made = Server(postgresql.fresh()).connect("test")
    yield made
    made.close()


def _prepared(connection: Connection) -> int:
    found = connection.execute("SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'holdfast%'").fetchone()
    assert found is not None
    return int(found[0])


def test_what_is_sent_is_prepared(connection: Connection) -> None:
    direct = Direct(connection)
    assert [direct.run(SQL, (number,)) for number in (3, 0, 1)] == [3, 0, 1]
    assert _prepared(connection) == 1


def test_what_the_driver_drops_after_a_rollback_is_prepared_again(connection: Connection) -> None:
    direct = Direct(connection)
    texts = [SQL.format(number) for number in range(3)]
    for text in texts * 4:
        assert direct.run(text, (2,)) == 2
    for _ in range(4):  # the driver has some of its own to drop
        connection.execute("SELECT 1")
    connection.execute("BEGIN")
    connection.execute("ROLLBACK")
    connection.execute("SELECT 1")
    assert _prepared(connection) == 0
    for text in texts[2:] + texts + texts:
        assert direct.run(text, (2,)) == 2
    assert _prepared(connection) == 3


def test_no_more_than_so_many_are_kept(connection: Connection) -> None:
    direct = Direct(connection)
    for number in range(NAMES_MAX + 2):
        for _ in range(2):
            assert direct.run(SQL.format(number), (1,)) == 1
    assert _prepared(connection) == 2


def test_errors_are_the_drivers_and_leave_it_usable(connection: Connection) -> None:
    direct = Direct(connection)
    for _ in range(5):
        with pytest.raises(psycopg.errors.DivisionByZero, match="division by zero"):
            direct.run("SELECT 1 / $1::int8", (0,))
        with pytest.raises(psycopg.DataError, match="NUL"):
            direct.run("SELECT $1::text", ("a\0b",))
        with pytest.raises(UnicodeEncodeError):
            direct.run("SELECT $1::text", ("\ud800",))
        assert direct.run("SELECT 1 / $1::int8", (1,)) == 1


def test_an_answer_is_waited_for(connection: Connection) -> None:
    direct = Direct(connection)
    assert direct.run("SELECT pg_sleep($1::float8)", (0.25,)) == 1, "longer than a tick"
    long = "x" * 10_000_000  # more than is sent at once
    assert direct.run("SELECT 1 WHERE length($1::text) > 9999999", (long,)) == 1


def test_who_is_interrupted_can_go_on(postgresql: Databases) -> None:
    def interrupt() -> bool:
        raise KeyboardInterrupt

    with PostgresStore(postgresql.fresh()) as store:
        task = store.write(add_task)
        assert store.append([append_to(task, 0)]) == [Appended(2, True)]  # it is prepared
        with pytest.raises(KeyboardInterrupt):
            store.append([append_to(task, 2)], interrupt)
        until(lambda: len(kinds(store, task)) == 4)  # it had been sent
        assert store.append([append_to(task, 4)]) == [Appended(6, True)]
