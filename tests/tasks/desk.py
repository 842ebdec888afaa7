"""What the tests of this folder say over and over: submit, begin, end, look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import select, update

from holdfast.store.base import Tx
from holdfast.store.schema import tasks, tickets, workers
from holdfast.store.sqlite import SqliteStore
from holdfast.tasks import finish, row, take
from holdfast.tasks.claims import claims_of
from holdfast.tasks.lease import WorkerRow
from holdfast.tasks.row import TaskRow
from holdfast.tasks.submit import Request, Submitted, submit

DAY_S = 86_400.0


def take_as(tx: Tx, worker: str, **how: Any) -> list[TaskRow]:
    """`take.take` by a worker that is made known first, if it isn't yet."""
    tx.insert_new(workers, WorkerRow(worker, "here", "", 1, None, "default", 0.0, 0.0, 15.0)._asdict())
    return list(take.take(tx, worker, **how).tasks)


class Desk:
    """One store, a clock that moves by a second a call, and short names for tasks."""

    def __init__(self, store: SqliteStore, now: float = 1000.0) -> None:
        self.store = store
        self.now = now
        self.number = 0

    def tick(self) -> float:
        self.now += 1.0
        return self.now

    def ask(self, *claims: str | tuple[str, str], **fields: Any) -> Submitted:
        self.number += 1
        request = Request(flow="build", reference="flows:build", claims=claims_of(claims), **fields)
        uuid = f"00000000-0000-7000-8000-{self.number:012}"
        now = self.tick()
        return self.store.write(lambda tx: submit(tx, request, now, uuid))

    def submit(self, *claims: str | tuple[str, str], **fields: Any) -> int:
        return self.ask(*claims, **fields).task.id

    def row(self, task: int) -> TaskRow:
        return self.store.read(lambda tx: row.read(tx, task))

    def ready(self, *ids: int) -> list[bool]:
        return [self.row(task).ready for task in ids]

    def set(self, task: int, **columns: Any) -> None:
        """What a worker's append would have set."""
        self.store.write(lambda tx: tx.execute(update(tasks).where(tasks.c.id == task).values(**columns)))

    def begin(self, task: int) -> None:
        self.set(task, state="RUNNING", executed_at=self.tick())

    def end(self, task: int, state: str = "SUCCEEDED", **columns: Any) -> None:
        now = self.tick()
        self.store.write(lambda tx: finish.ended(tx, task, state, now, retention_s=DAY_S, **columns))

    def granted(self) -> dict[str, list[tuple[int, str]]]:
        """Who holds each resource."""
        statement = select(tickets.c.resource, tickets.c.task, tickets.c.mode).where(tickets.c.granted)
        held: dict[str, list[tuple[int, str]]] = {}
        for resource, task, mode in self.store.read(lambda tx: tx.execute(statement).all()):
            held.setdefault(resource, []).append((task, mode))
        return held


class Before:
    """A transaction in which something happens before each time that a statement is executed; it is told the values."""

    def __init__(self, tx: Tx, statement: Any, happens: Callable[[Any], object]) -> None:
        self._tx = tx
        self._statement = statement
        self._happens = happens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tx, name)

    def execute(self, statement: Any, values: Any = None) -> Any:
        if statement is self._statement:
            self._happens(values)
        return self._tx.execute(statement, values)
