"""One transaction on a DB-API cursor: the `Tx` that functions are given.

Nothing here is SQLite's; where a database differs, the statements' dialect does. Who begins and commits:
store/writer.py. What an append does: store/appends.py.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, select, update

from holdfast.errors import TaskNotFound
from holdfast.store import appends
from holdfast.store.base import Append, Appended, Into, JournalRow, Row, StepRow
from holdfast.store.schema import journal, tasks

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.sql import Executable

JOURNAL_AFTER = (
    select(journal.c.seq, journal.c.kind, journal.c.node, journal.c.data, journal.c.at)
    .where(journal.c.task == bindparam("_task"), journal.c.seq > bindparam("_after"))
    .order_by(journal.c.seq)
)
DRAW_SEQ = (
    update(tasks)
    .where(tasks.c.id == bindparam("_task"))
    .values(seq=tasks.c.seq + bindparam("_count"))
    .returning(tasks.c.seq)
)


class Rows:
    """What a statement gave, read to its end."""

    __slots__ = ("_rows", "rowcount")

    def __init__(self, rows: list[Any], rowcount: int) -> None:
        self._rows = rows
        self.rowcount = rowcount

    def all(self) -> list[Any]:
        return self._rows

    def first(self) -> Any:
        return self._rows[0] if self._rows else None

    def one(self) -> Any:
        (row,) = self._rows
        return row

    def scalar(self) -> Any:
        return self._rows[0][0] if self._rows else None

    def scalars(self) -> list[Any]:
        return [row[0] for row in self._rows]


class Transaction:
    """See store/base.py for what each method promises."""

    beside = 0
    __slots__ = (
        "_pending",
        "careful",
        "cursor",
        "hot",
        "known",
        "lasts",
        "quiet",
        "rings",
        "seen",
        "statements",
        "tasks",
        "written",
    )

    def __init__(self, cursor: Any, hot: appends.Hot) -> None:
        self.cursor = cursor
        self.hot = hot
        self.statements = hot.statements
        self.tasks: set[int] = set()  # touched since the transaction began
        self.known: set[Hashable] = set()
        self.seen: dict[Hashable, Any] = {}
        self.quiet = False  # nobody has to be told of it
        self.rings = False  # others are told at once, whether it touched a task or not
        self.lasts = True  # whoever is told of it may rely on it
        self.written = 0  # grows with each statement that may have changed something
        self.careful = 0  # how many groups of functions are still to be run each in a savepoint: writer.CallMany
        self._pending: dict[Into, list[Sequence[Any]]] = {}

    def execute(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> Rows:
        prepared = self.statements.prepare(statement, parameters)
        if self._pending:
            self.flush(prepared.tables)
        if prepared.writes:
            self.written += 1
        cursor = self.cursor
        cursor.execute(*prepared.bind(parameters))
        rows = prepared.rows(cursor.fetchall()) if cursor.description is not None else []
        return Rows(rows, cursor.rowcount)

    def execute_all(self, *asked: tuple[Executable, Mapping[str, Any]]) -> Sequence[Rows]:
        return [self.execute(*each) for each in asked]

    def executemany(self, statement: Executable, parameters: Sequence[Mapping[str, Any]]) -> int:
        if not parameters:
            return 0
        prepared = self.statements.prepare(statement, parameters[0])
        if self._pending:
            self.flush(prepared.tables)
        self.written += 1
        self.cursor.executemany(prepared.sql, [prepared.bind(each)[1] for each in parameters])
        return int(self.cursor.rowcount)

    def add(self, into: Into, values: Sequence[Any]) -> None:
        self.written += 1
        pending = self._pending.get(into)
        if pending is None:
            pending = self._pending[into] = []
        pending.append(values)

    def flush(self, tables: frozenset[str] | None = None) -> None:
        """Write what waits to be: all of it, or what these tables are to have."""
        due = [into for into in self._pending if tables is None or into.table.name in tables]
        for into in due:
            rows = self._pending.pop(into)
            many = self.hot.into_many(into) if len(rows) >= appends.MANY else None
            if many is not None:
                rest = len(rows) % appends.MANY
                for first in range(0, len(rows) - rest, appends.MANY):
                    some = rows[first : first + appends.MANY]
                    self.cursor.execute(many, [value for row in some for value in row])
                rows = rows[len(rows) - rest :]
            if rows:
                self.cursor.executemany(self.hot.into(into), rows)

    def forget(self) -> None:
        """Something was undone: what waits to be written is undone too, and nobody can say what else."""
        self._pending.clear()
        self.known.clear()
        self.seen.clear()
        self.lasts = True

    def insert(self, table: Table, values: Mapping[str, Any]) -> int:
        prepared = self.statements.prepare(self.hot.insert(table), values)
        if self._pending:
            self.flush(prepared.tables)
        self.written += 1
        cursor = self.cursor
        cursor.execute(*prepared.bind(values))
        return int(cursor.lastrowid if prepared.make is None else cursor.fetchall()[0][0])

    def insert_new(self, table: Table, values: Mapping[str, Any]) -> bool:
        return self.execute(self.hot.insert_new(table), values).rowcount == 1

    def draw(self, table: Table, values: Mapping[str, Any], column: str) -> int:
        return int(self.execute(self.hot.draw(table, column), values).scalar())

    def now(self, given: float) -> float:
        if self.statements.clock is None:
            return given
        self.cursor.execute(self.statements.clock)
        return float(self.cursor.fetchall()[0][0])

    def hold(self, name: str) -> None:
        pass  # only one writes at a time

    def append(self, one: Append) -> Appended:
        self.written += 1
        return appends.append_one(self, one)

    def record(self, task: int, rows: Sequence[Row], projection: Mapping[str, Any] | None = None) -> int:
        drawn = self.execute(DRAW_SEQ, {"_task": task, "_count": len(rows), **(projection or {})}).first()
        if drawn is None:
            raise TaskNotFound(task=task)
        first = drawn.seq - len(rows) + 1
        self.cursor.executemany(self.hot.journal, [(task, first + place, *row) for place, row in enumerate(rows)])
        self.tasks.add(task)
        return int(drawn.seq)

    def write_steps(self, task: int, rows: Sequence[StepRow]) -> None:
        self.written += 1
        appends.write_steps(self, task, rows)

    def journal(self, task: int, after: int = 0) -> list[JournalRow]:
        prepared = self.statements.prepare(JOURNAL_AFTER)
        self.cursor.execute(*prepared.bind({"_task": task, "_after": after}))
        return list(map(JournalRow._make, self.cursor.fetchall()))

    def keep_quiet(self) -> None:
        self.quiet = True

    def need_not_last(self) -> None:
        self.lasts = False

    def ring(self) -> None:
        self.rings = True

    def touched(self, task: int) -> None:
        self.written += 1
        self.tasks.add(task)
