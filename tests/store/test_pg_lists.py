"""A list in a statement for PostgreSQL is one parameter."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import bindparam, select

from holdfast.store.base import Tx
from holdfast.store.pg_driver import reading, writing
from holdfast.store.postgres import PostgresStore
from holdfast.store.schema import tasks
from holdfast.testing.conformance.store import add_task
from tests.postgresql import Databases

IN = select(tasks.c.id).where(tasks.c.pool.in_(bindparam("names", expanding=True))).order_by(tasks.c.id)
NOT_IN = select(tasks.c.id).where(tasks.c.pool.not_in(bindparam("names", expanding=True))).order_by(tasks.c.id)


@pytest.fixture
def store(postgresql: Databases) -> Iterator[PostgresStore]:
    with PostgresStore(postgresql.fresh()) as made:
        yield made


def test_the_text_is_one_however_long_it_is() -> None:
    for hot in (reading(), writing()):
        texts = {hot.statements.prepare(IN).bind({"names": ["a"] * number})[0] for number in range(5)}
        assert len(texts) == 1
        assert texts.pop().count("$") == 1


@pytest.mark.parametrize("names", [[], ["default"], ["a", "b"], ['a"b\\', "{}", "", "NULL"], ("default", "a"), {"a"}])
def test_what_is_in_it_is_found(store: PostgresStore, names: list[str]) -> None:
    task = store.write(add_task)

    def found(tx: Tx) -> list[list[int]]:
        return [tx.execute(each, {"names": names}).scalars() for each in (IN, NOT_IN)]

    expected = [[task], []] if "default" in names else [[], [task]]
    assert store.read(found) == store.write(found) == expected


def test_a_list_stands_beside_one_that_is_spelled_out(store: PostgresStore) -> None:
    task = store.write(add_task)
    both = IN.where(tasks.c.state.in_(["PENDING", "RUNNING"]), tasks.c.id.in_(bindparam("ids", expanding=True)))
    for names, ids, expected in ((["default"], [task, 1 << 40], [task]), (["default"], [], []), (["a"], [task], [])):
        assert store.read(lambda tx: tx.execute(both, {"names": names, "ids": ids}).scalars()) == expected  # noqa: B023


def test_who_seeks_what_no_text_can_be_finds_nothing(store: PostgresStore) -> None:
    store.write(add_task)
    seeks = {"names": ["default\0"]}
    assert (
        store.read(lambda tx: tx.execute(IN, seeks).all()) == store.write(lambda tx: tx.execute(IN, seeks).all()) == []
    )
