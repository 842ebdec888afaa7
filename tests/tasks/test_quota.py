"""Quotas: exact at the limit, cheap below it."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.errors import QuotaExceeded
from holdfast.store.base import Result, Tx
from holdfast.store.sqlite import SqliteStore
from holdfast.tasks import control, quota
from holdfast.tasks.claims import Claim, Place
from holdfast.tasks.quota import Limits
from tests.tasks.desk import Desk


@pytest.fixture
def desk(store: SqliteStore) -> Desk:
    return Desk(store)


def test_a_project_has_so_many_tasks_that_have_not_ended(desk: Desk) -> None:
    limits = Limits(live_max=3, queue_max=None)
    ids = [desk.submit(limits=limits) for _ in range(3)]
    with pytest.raises(QuotaExceeded, match="3 tasks that have not ended") as refusal:
        desk.submit(limits=limits, tag="t")
    error = refusal.value
    assert (error.status, error.code, error.retryable) == (429, "quota", True)
    assert error.details == {"quota": "live_tasks", "limit": 3, "retry_after_s": 5}
    desk.submit(limits=limits, project_id="other")
    desk.submit()  # the library's own has no limits
    desk.end(ids[0])
    with pytest.raises(QuotaExceeded):
        desk.submit(limits=limits)
    desk.end(ids[1])
    assert not desk.ask(limits=limits, tag="t").replayed  # the refused one has not taken it
    with pytest.raises(QuotaExceeded):
        desk.submit(limits=limits)


def test_a_repeated_request_is_answered_in_a_full_house(desk: Desk) -> None:
    limits = Limits(live_max=1, queue_max=1)
    first = desk.ask(limits=limits, tag="t")
    assert desk.ask(limits=limits, tag="t").task.id == first.task.id


def test_the_first_in_a_queue_are_let_in_without_a_look(desk: Desk) -> None:
    limits = Limits(live_max=None, queue_max=3)

    def check(tx: Tx, *numbers: int) -> list[Any]:
        counting = Counting(tx)
        places = [Place("r", number, "exclusive", False) for number in numbers]
        quota.check_queues(counting, limits, [Claim("r")], places)  # type: ignore[arg-type]
        return counting.asked

    assert desk.store.read(lambda tx: check(tx, 1, 3)) == []
    assert len(desk.store.read(lambda tx: check(tx, 4))) == 1


def test_who_starts_later_is_refused_where_a_queue_is_full(desk: Desk) -> None:
    limits = Limits(live_max=None, queue_max=1)
    for _ in range(2):
        desk.submit("r", limits=limits)
    with pytest.raises(QuotaExceeded):
        desk.submit("r", limits=limits, start_after=desk.now + 1000)


def test_a_resource_has_so_many_that_wait(desk: Desk) -> None:
    limits = Limits(live_max=None, queue_max=2)
    holder, first, second = (desk.submit("r", limits=limits) for _ in range(3))
    with pytest.raises(QuotaExceeded, match="2 tasks wait for r") as refusal:
        desk.submit("a", "r", limits=limits)
    assert refusal.value.details["resource"] == "r"
    desk.submit("a", limits=limits)
    desk.end(holder)
    third = desk.submit("r", limits=limits)
    for task in (second, third):  # from the middle and the end of the queue
        desk.store.write(lambda tx, task=task: control.cancel(tx, task, desk.now, actor="me"))  # type: ignore[misc]
    assert desk.granted()["r"] == [(first, "exclusive")]
    for _ in range(2):
        desk.submit("r", limits=limits)
    with pytest.raises(QuotaExceeded):
        desk.submit("r", limits=limits)


class Counting:
    """A transaction that notes what is asked."""

    def __init__(self, tx: Tx) -> None:
        self.tx = tx
        self.asked: list[Any] = []
        self.beside = tx.beside

    def execute(self, statement: Any, parameters: Any = None) -> Result:
        self.asked.append(statement)
        return self.tx.execute(statement, parameters)


def test_rows_are_counted_only_near_the_limit(desk: Desk) -> None:
    limits = Limits(live_max=100, queue_max=100)
    counted = 0
    for _ in range(99):
        task = desk.submit("r")

        def check(tx: Tx, task: int = task) -> list[Any]:
            counting = Counting(tx)
            quota.check_project(counting, limits, "default", task)  # type: ignore[arg-type]
            return counting.asked

        counted += quota._LIVE in desk.store.read(check)
    assert counted <= 8  # each time half of what was left
    assert desk.store.read(lambda tx: quota.queue_length(tx, "r", 100)) == 99
    assert desk.store.read(lambda tx: quota.queue_length(tx, "r", 5)) == 5
    assert desk.store.read(lambda tx: quota.queue_length(tx, "nothing", 5)) == 0
