"""What others join to the end of a task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from holdfast.store.base import Tx
from holdfast.store.sqlite import SqliteStore
from holdfast.tasks import control, finish, row
from holdfast.tasks.row import TaskRow
from tests.tasks.desk import Desk


@pytest.fixture
def desk(store: SqliteStore) -> Desk:
    return Desk(store)


@pytest.fixture
def ends() -> Iterator[list[Any]]:
    """What a projection was told; it refuses an end at 13."""
    told: list[Any] = []

    def note(tx: Tx, at: TaskRow, state: str, left: tuple[str, str], result: str | None, now: float) -> None:
        told.append((at.id, at.state, state, left, result, now, row.read(tx, at.id).state))
        if now == 13.0:
            raise ValueError("not now")

    finish.join(note)
    finish.join(note)
    yield told
    finish._projections.remove(note)


def test_every_end_is_told_once_with_what_was_before(desk: Desk, ends: list[Any]) -> None:
    on = {"resource_type": "server", "resource_id": "s1"}
    done, gone, nobodys = desk.submit(**on), desk.submit(**on), desk.submit()
    for task in (done, nobodys):
        desk.begin(task)
    desk.end(nobodys, left=("applied", "none"), result="{}")
    desk.end(done, left=("applied", "none"), result="{}")
    control_at = desk.tick()
    desk.store.write(lambda tx: control.cancel(tx, gone, control_at, actor="me"))
    assert ends == [
        (done, "RUNNING", "SUCCEEDED", ("applied", "none"), "{}", control_at - 1, "SUCCEEDED"),
        (gone, "PENDING", "CANCELLED", ("none", "none"), None, control_at, "CANCELLED"),
    ]


def test_what_it_raises_undoes_the_end(desk: Desk, ends: list[Any]) -> None:
    task, waiter = desk.submit("r", resource_type="server", resource_id="s1"), desk.submit("r")
    with pytest.raises(ValueError, match="not now"):
        desk.store.write(lambda tx: control.cancel(tx, task, 13.0, actor="me"))
    assert (desk.row(task).state, desk.ready(task, waiter)) == ("PENDING", [True, False])
    assert len(ends) == 1
