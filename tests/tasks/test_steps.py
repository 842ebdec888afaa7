"""The steps and the journal of a task, a page at a time: the whole of it in pieces, and no page reads the whole."""

from __future__ import annotations

import json
from typing import Any

import pytest

from holdfast.store.base import Append, Row, StepRow, Tx
from holdfast.store.sqlite import SqliteStore
from holdfast.tasks import query
from tests.tasks.desk import Desk

STEPS = 300  # that have rows


@pytest.fixture
def desk(store: SqliteStore) -> Desk:
    return Desk(store)


class Counting:
    """A transaction that counts the rows that it gave."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx
        self.rows = 0

    def execute(self, statement: Any, parameters: Any = None) -> Any:
        found = self._tx.execute(statement, parameters)
        self.rows += len(found.all())
        return found


def run(desk: Desk) -> int:
    """A task of which the rows tell of 300 steps, and the journal alone that the last of these has succeeded since, and
    that two more began, of which one has succeeded."""
    task = desk.submit()
    desk.set(task, token="t")
    rows = [StepRow(ord, f"build/s{ord}", "SUCCEEDED", 1, 5.0, 6.0) for ord in range(STEPS - 1)]
    rows.append(StepRow(STEPS - 1, f"build/s{STEPS - 1}", "RUNNING", 1, 7.0))
    began = [Row("began", None, None, 1.0)] * STEPS
    desk.store.append([Append(task, "t", 0, (), began, steps_all=rows)])
    behind = [
        Row("succeeded", f"build/s{STEPS - 1}", "1", 8.0),
        Row("started", "build/a", None, 8.0),
        Row("started", "build/b", json.dumps({"attempt": 2}), 8.0),
        Row("succeeded", "build/a", None, 9.0),
    ]
    desk.store.append([Append(task, "t", STEPS, (), behind)])
    return task


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100, 299, 300, 301, 302, 1000])
def test_the_pages_of_steps_are_the_whole(desk: Desk, limit: int) -> None:
    task = run(desk)

    def read(tx: Tx) -> list[StepRow]:
        found: list[StepRow] = []
        while page := query.steps_page(tx, task, found[-1].ord if found else -1, limit):
            assert len(page) <= limit
            found += page
        return found

    whole = desk.store.read(lambda tx: query.steps_of(tx, task))
    assert [(row.ord, row.node, row.state) for row in whole[-3:]] == [
        (299, "build/s299", "SUCCEEDED"), (300, "build/a", "SUCCEEDED"), (301, "build/b", "RUNNING"),
    ]  # fmt: skip
    assert desk.store.read(read) == whole


def test_a_page_reads_no_more_than_itself(desk: Desk) -> None:
    task = run(desk)

    def read(tx: Tx) -> list[int]:
        given = []
        for ask in (
            lambda counted: query.steps_page(counted, task, 10, 5),
            lambda counted: query.journal_page(counted, task, 10, 5),
        ):
            counted: Any = Counting(tx)
            assert len(ask(counted)) == 5
            given.append(counted.rows)
        return given

    assert desk.store.read(read) == [5 + 4, 5], "5 rows, and for steps what the journal alone tells"


def test_the_pages_of_a_journal_are_the_whole(desk: Desk) -> None:
    task = run(desk)
    first, rest = desk.store.read(
        lambda tx: (query.journal_page(tx, task, 0, 302), query.journal_page(tx, task, 302, 302))
    )
    assert [*first, *rest] == desk.store.journal(task)
    assert [row.kind for row in rest] == ["started", "succeeded"]
