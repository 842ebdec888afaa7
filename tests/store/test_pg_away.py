"""A server that goes away and comes back: what was asked of the store meanwhile says so, and goes on by itself."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from holdfast.errors import StoreAway
from holdfast.store.base import Tx
from holdfast.store.postgres import PostgresStore
from peers.postgres import Postgres


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
