"""Statements are compiled once, and bound as SQLAlchemy would bind them."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.dialects.sqlite import dialect
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from holdfast.store.pg_driver import writing
from holdfast.store.schema import tasks
from holdfast.store.statements import KEPT_MAX, Statements


@pytest.fixture
def statements() -> Statements:
    return Statements(dialect(), sqlite_insert)


def test_one_text_for_each_statement(statements: Statements) -> None:
    statement = select(tasks.c.id).where(tasks.c.state == bindparam("_state"))
    first = statements.prepare(statement)
    assert statements.prepare(statement) is first
    assert first.bind({"_state": "RUNNING"}) == (first.sql, ("RUNNING",))
    assert "?" in first.sql


def test_the_columns_written_are_those_given(statements: Statements) -> None:
    statement = update(tasks).where(tasks.c.id == bindparam("_id"))
    one = statements.prepare(statement, {"_id": 1, "reason": "a"})
    two = statements.prepare(statement, {"_id": 1, "reason": "a", "goal": None})
    assert "goal" not in one.sql
    assert two.bind({"_id": 7, "goal": None, "reason": "b"})[1] == (None, "b", 7)


def test_values_written_in_the_statement_are_bound_too(statements: Statements) -> None:
    prepared = statements.prepare(select(tasks.c.id).where(tasks.c.state == "RUNNING", tasks.c.pool.in_(["a", "b"])))
    sql, values = prepared.bind(None)
    assert list(values) == ["RUNNING", "a", "b"]
    assert sql.count("?") == 3


def test_lists_are_spelled_out_for_few_lengths(statements: Statements) -> None:
    wanted = tasks.c.id.in_(bindparam("_ids", expanding=True)), tasks.c.pool == bindparam("_pool")
    prepared = statements.prepare(select(tasks.c.id).where(*wanted, tasks.c.state.in_(["a", "b"])))
    for ids, spelled in (
        ([1, 2], [1, 2]),
        ([3], [3]),
        ([], []),
        ([4, 5, 6], [4, 5, 6, 6]),
        (list(range(100)), [*range(100), *[99] * 28]),
    ):
        sql, values = prepared.bind({"_ids": ids, "_pool": "p"})
        assert list(values) == [*spelled, "p", "a", "b"]
        assert sql.count("?") == len(spelled) + 3
    for count in range(1, 1025):
        prepared.bind({"_ids": [1] * count, "_pool": "p"})
    assert len(prepared._expansions) == 1 + 11, "none, and powers of two"
    with pytest.raises(KeyError, match="_ids"):
        prepared.bind({"_pool": "p"})


def test_a_value_that_is_missing_is_named(statements: Statements) -> None:
    prepared = statements.prepare(select(tasks.c.id).where(tasks.c.id == bindparam("_id"), tasks.c.pool == "a"))
    with pytest.raises(KeyError, match="_id"):
        prepared.bind({"other": 1})
    with pytest.raises(KeyError, match="_id"):
        prepared.bind(None)


def test_statements_made_for_one_call_are_not_kept_for_ever(statements: Statements) -> None:
    for number in range(KEPT_MAX + 10):
        _, values = statements.prepare(select(tasks.c.id).where(tasks.c.id == number)).bind(None)
        assert list(values) == [number], "a statement took the text of one that is gone"
    assert len(statements._kept) <= KEPT_MAX


def test_an_insert_has_no_hidden_columns(statements: Statements) -> None:
    prepared = statements.prepare(insert(tasks), {"uuid": "u", "state": "s"})
    assert prepared.names == ("uuid", "state")
    assert prepared.make is None


@pytest.mark.parametrize("columns", [("state", "past_pivot", "executed_at"), ("progress_done", "completed")])
def test_the_guards_of_many_tasks_are_one_statement_of_postgresqls(columns: tuple[str, ...]) -> None:
    text: Any = writing().guard(columns, tells_steps=False)[0]
    assert "unnest(" in text.many
