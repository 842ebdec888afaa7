"""Statements by libpq's own calls: prepared, and with the driver's errors."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from holdfast.store.base import Appended
from holdfast.store.pg_direct import NAMES_MAX, Direct
from holdfast.store.pg_driver import Cursor, Server
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
    for number in (3, 0, 1):
        assert direct.run(SQL, (number,)) == number
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
    assert _prepared(connection) == 1


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


def test_of_statements_together_none_behind_one_that_fails_is_run(connection: Connection) -> None:
    direct = Direct(connection)
    direct.script("CREATE TEMP TABLE said (n int8)")
    insert, divide = "INSERT INTO said VALUES ($1::int8)", "SELECT 1 / $1::int8"
    for number in (1, 3, 5):  # prepared with it, prepared
        with pytest.raises(psycopg.errors.DivisionByZero):
            direct.ask([("BEGIN", ()), (insert, (number,)), (divide, (0,)), ("COMMIT", ())])
        direct.script("ROLLBACK")
        told = direct.ask([("BEGIN", ()), (insert, (number + 1,)), (divide, (1,)), ("COMMIT", ())])
        assert [direct.rows(each) for each in told] == [[], [], [(1,)], []]
    (rows,) = direct.ask([("SELECT n FROM said ORDER BY n", ())])
    assert direct.rows(rows) == [(2,), (4,), (6,)]


def test_what_somebody_else_has_dropped_is_prepared_again(connection: Connection) -> None:
    direct = Direct(connection)
    for _ in range(3):
        direct.ask([(SQL, (2,)), ("SELECT 1", ())])
    connection.execute("DEALLOCATE ALL")
    with pytest.raises(psycopg.errors.InvalidSqlStatementName):
        direct.ask([(SQL, (2,)), ("SELECT 1", ())])
    for _ in range(3):
        direct.ask([(SQL, (2,)), ("SELECT 1", ())])
    assert _prepared(connection) == 2


def test_who_comes_later_to_a_connection_goes_by_what_is_prepared_there(connection: Connection) -> None:
    """The bell has a cursor of its own for each look, and looks once a second for months."""
    for _ in range(3):
        Cursor(connection).execute(SQL, (2,))
    assert _prepared(connection) == 1


def test_a_text_whose_answer_has_another_form_by_now_is_prepared_again(connection: Connection) -> None:
    direct = Direct(connection)
    text = "SELECT n FROM said"
    direct.script("CREATE TEMP TABLE said (n int8)")
    direct.ask([(text, ())])
    direct.script("ALTER TABLE said ALTER n TYPE text")
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        direct.ask([(text, ())])
    direct.ask([(text, ())])
    direct.script("ALTER TABLE said ALTER n TYPE int8 USING n::int8")
    assert direct.run(text, ()) == 0


def test_what_is_prepared_outlives_what_is_rolled_back(connection: Connection) -> None:
    direct = Direct(connection)
    for _ in range(3):
        direct.ask([("BEGIN", ()), (SQL, (2,))])
        direct.script("ROLLBACK")
    assert _prepared(connection) == 2
    with pytest.raises(psycopg.errors.UndefinedTable):
        direct.script("SELECT 1; SELECT * FROM nothing; SELECT 2")
    assert direct.run(SQL, (2,)) == 2


def test_an_answer_is_waited_for(connection: Connection) -> None:
    direct = Direct(connection)
    assert direct.run("SELECT pg_sleep($1::float8)", (0.25,)) == 1, "longer than a tick"
    long = "x" * 10_000_000  # more than is sent at once
    assert direct.run("SELECT 1 WHERE length($1::text) > 9999999", (long,)) == 1
    echoes = direct.ask([("SELECT $1::text", (long,))] * 3)
    assert [direct.rows(each) for each in echoes] == [[(long,)]] * 3


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
        with pytest.raises(KeyboardInterrupt):
            store.write(add_task, interrupt)
        assert store.write(add_task) > task


def test_what_was_given_first_does_not_say_of_what_kind_all_are(connection: Connection) -> None:
    direct = Direct(connection)
    for given in (1, 1, 1, 1.5, None, True, "2", 1, 2.5):
        (answer,) = direct.ask([("SELECT $1::float8 AS was", (float(given) if given is True else given,))])
        assert direct.rows(answer) == [(None if given is None else float(given),)]


def test_what_fails_at_its_commit_has_failed(connection: Connection) -> None:
    direct = Direct(connection)
    direct.script("CREATE TEMP TABLE said (n int8 UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    twice = "INSERT INTO said SELECT $1::int8 FROM generate_series(1, 2)"
    for _ in range(3):  # prepared with it, prepared
        with pytest.raises(psycopg.errors.UniqueViolation):
            direct.ask([(twice, (1,))])
        with pytest.raises(psycopg.errors.UniqueViolation):
            direct.run(twice, (1,))
        (answer,) = direct.ask([("SELECT count(*) FROM said", ())])
        assert direct.rows(answer) == [(0,)]


def test_what_cannot_be_sent_leaves_the_transaction_to_begin(connection: Connection) -> None:
    cursor = Cursor(connection)
    cursor.execute("CREATE TEMP TABLE said (n text)")
    cursor.opening = ("BEGIN",)
    for wrong, error in (("a\0b", psycopg.DataError), ("\ud800", UnicodeError)):
        with pytest.raises(error):
            cursor.execute("INSERT INTO said VALUES ($1)", (wrong,))
    cursor.execute("INSERT INTO said VALUES ($1)", ("right",))
    cursor.run("ROLLBACK")
    cursor.execute("SELECT n FROM said")
    assert cursor.fetchall() == []


def test_who_is_interrupted_while_it_sends_leaves_no_connection_behind(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(Direct, "_send", interrupt)
    with pytest.raises(KeyboardInterrupt):
        Direct(connection).ask([("SELECT 1", ())])
    assert connection.closed


def test_behind_a_pooler_nothing_is_prepared_and_nothing_forgotten(connection: Connection) -> None:
    connection.prepare_threshold = None
    connection.execute("PREPARE anothers AS SELECT 1")
    direct = Direct(connection)
    for number in range(NAMES_MAX + 2):
        direct.ask([(SQL.format(number), (1,))])
    assert direct.run(SQL, (2,)) == direct.run(SQL, (2,)) == 2
    assert _prepared(connection) == 0
    connection.execute("EXECUTE anothers")


def test_a_url_may_not_say_how_text_is_sent(postgresql: Databases) -> None:
    with Server(f"{postgresql.fresh()}?client_encoding=latin1").connect("test") as connection:
        direct = Direct(connection)
        assert direct.run("SELECT 1 WHERE length($1::text) = 1", ("\u00e9",)) == 1
