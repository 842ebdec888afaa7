"""A server that goes away and comes back: what was asked of the store meanwhile says so, and goes on by itself."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from holdfast.errors import StoreAway
from holdfast.store.base import Append, Appended, Row, Tx
from holdfast.store.pg_session import PostgresSession
from holdfast.store.postgres import PostgresStore
from holdfast.testing.conformance.store import add_task
from peers.postgres import Postgres
from tests.worker.house import until


@pytest.fixture
def server() -> Iterator[Postgres]:
    """One that may be killed. A socket's path may not be long."""
    directory = Path(tempfile.mkdtemp(prefix="hf-pg-"))
    with Postgres(directory / "pg") as running:
        yield running
    shutil.rmtree(directory, ignore_errors=True)


def one(tx: Tx) -> object:
    return tx.execute(text("SELECT 1")).scalar()


@pytest.mark.requirement("P1")
def test_reads_and_writes_say_that_it_is_away_and_go_on_when_it_is_back(server: Postgres) -> None:
    store = PostgresStore(server.url(), away_s=0.2)
    assert (store.read(one), store.write(one)) == (1, 1)
    server.kill()
    for ask in (store.read, store.write):
        with pytest.raises(StoreAway, match="try again when it is back"):
            ask(one)
    server.start()
    assert (store.read(one), store.write(one)) == (1, 1)
    store.close()


@pytest.mark.requirement("P2")
def test_an_append_that_was_never_sent_is_not_in_doubt(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is in doubt begins anew."""
    monkeypatch.setattr(PostgresSession, "_find_out", lambda _, error: pytest.fail(f"in doubt: {error}"))
    with PostgresStore(server.make("unsent"), away_s=0.2) as store:
        task = store.write(add_task)
        server.kill()
        with pytest.raises(StoreAway):
            store.append([Append(task, "mine", 0, [Row("started", "a", None, 2.0)])])
        with pytest.raises(StoreAway):
            store.append([Append(task, "mine", 0, [Row("started", "a", None, 2.0)])])
        server.start()
        assert store.append([Append(task, "mine", 0, [Row("started", "a", None, 2.0)])]) == [Appended(1, True)]
        server.kill()
        server.start()
        assert store.append([Append(task, "mine", 1, [Row("succeeded", "a", None, 3.0)])]) == [Appended(2, True)]


@pytest.mark.requirement("P1")
def test_who_asked_while_it_was_away_is_answered_when_it_is_back_in_time(server: Postgres) -> None:
    store = PostgresStore(server.url(), away_s=30.0)
    assert store.write(one) == 1
    server.kill()
    answers: list[object] = []
    asking = [threading.Thread(target=lambda ask=ask: answers.append(ask(one))) for ask in (store.read, store.write)]
    for each in asking:
        each.start()
    server.start()
    for each in asking:
        each.join(30)
    assert answers == [1, 1]
    store.close()


def test_those_who_come_together_after_a_connection_was_cut_are_answered(server: Postgres) -> None:
    """It was cut between two transactions, and the next of several functions begins with a savepoint."""
    store = PostgresStore(server.url(), away_s=30.0)
    session: Any = store._session
    writer, commit, answers = store._writer, session.commit, []

    def cut() -> None:
        commit()
        session.commit = commit
        with psycopg.connect(server.url(), autocommit=True) as other:
            pid = session._connection.info.backend_pid
            other.execute("SELECT pg_terminate_backend(%s, 20000)", (pid,))

    def first(tx: Tx) -> object:
        until(lambda: len(writer._queue) == 2)
        session.commit = cut
        return one(tx)

    asking = [threading.Thread(target=lambda ask=ask: answers.append(store.write(ask))) for ask in (first, one, one)]
    asking[0].start()
    until(lambda: writer._leader is not None)
    for each in asking[1:]:
        each.start()
    for each in asking:
        each.join(30)
    assert answers == [1, 1, 1]
    store.close()
