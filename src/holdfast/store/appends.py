"""The hot write: many tasks' appends in one transaction, each fenced by its token.

Theory: the common case is that every token still holds and no verb lies between. So all guards run first, as one
`executemany` per set of columns; if as many rows changed as there are appends, everything else follows in bulk.
Otherwise the batch is undone and done again one by one, each in a savepoint, to find out which is the odd one. The
guard is an UPDATE of the task's row and comes before anything is read: it takes the row's lock, so that what is read
afterwards can't change (an unlocked read lets a stale write through on READ COMMITTED). The tasks of a batch are
locked in the order of their ids, as everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from sqlalchemy import bindparam, delete, insert, update

from holdfast.errors import LeaseLost, WorldError
from holdfast.store.base import APART, Append, Appended, FeedRow, Into, Row, StepRow, do_then
from holdfast.store.schema import feed, journal, steps, tasks

if TYPE_CHECKING:
    from sqlalchemy import Insert, Table

    from holdfast.store.base import Tx
    from holdfast.store.statements import Prepared, Statements
    from holdfast.store.transaction import Transaction


class Savepoints(Protocol):
    """Where a part of a transaction can go back to."""

    def savepoint(self) -> None: ...
    def release(self) -> None: ...
    def rollback_to(self) -> None: ...
    def start_over(self) -> None:
        """Undo the whole transaction and begin it again, with what guards it kept."""

    def has_raced(self, error: Exception) -> bool:
        """Whether a row was there already that another process may have made just now, unseen."""

    def is_spoilt(self) -> bool:
        """Whether a statement has failed, after which nothing is good but going back."""

    def translate(self, error: Exception) -> Exception:
        """The driver's error as one of ours, caused by it; any other as it is."""


class Moved(Exception):
    """Some guard of a batch changed no row: told apart one by one."""


JOURNAL_INSERT = insert(journal).values({name: bindparam(name) for name in ("task", "seq", *Row._fields)})
JOURNAL_COLUMNS = ("task", "seq", *Row._fields)
STEP_COLUMNS = ("task", *StepRow._fields)
FEED = Into(feed, *FeedRow._fields)
FOLD = (
    delete(journal)
    .where(journal.c.task == bindparam("_task"), journal.c.seq == bindparam("_seq"))
    .execution_options(**{APART: True})
)
FENCED = (tasks.c.id == bindparam("_task"), tasks.c.token == bindparam("_token"))
BEHIND = (
    update(tasks)
    .where(*FENCED, tasks.c.seq >= bindparam("_seen"))  # less: the database is older than what the worker remembers
    .values(seq=tasks.c.seq + bindparam("_count"))
    .returning(tasks.c.seq)
)  # for facts alone
STEPS_TOLD = update(tasks).where(tasks.c.id == bindparam("_task")).values(steps_seq=tasks.c.seq)


MANY: Final = 16  # rows


class Hot:
    """The statements of an append, in one dialect, with their values in a fixed order."""

    __slots__ = (
        "_added", "_draws", "_guards", "_inserts", "_many", "_new", "behind", "fold", "journal", "statements", "steps",
        "steps_told",
    )  # fmt: skip

    def __init__(self, statements: Statements) -> None:
        self.statements = statements
        self.journal = _ordered(statements.prepare(JOURNAL_INSERT), JOURNAL_COLUMNS)
        upsert = statements.insert(steps).values({name: bindparam(name) for name in STEP_COLUMNS})
        changed = {name: upsert.excluded[name] for name in STEP_COLUMNS if name not in ("task", "ord")}
        upsert = upsert.on_conflict_do_update(index_elements=["task", "ord"], set_=changed)
        self.steps = _ordered(statements.prepare(upsert), STEP_COLUMNS)
        self.fold = _ordered(statements.prepare(FOLD), ("_task", "_seq"))
        self.behind = _ordered(statements.prepare(BEHIND), ("_count", "_task", "_token", "_seen"))
        self.steps_told = _ordered(statements.prepare(STEPS_TOLD), ("_task",))
        self._added: dict[Into, str] = {}
        self._many: dict[Into, str] = {}
        self._inserts: dict[Table, Insert] = {}
        self._new: dict[Table, Insert] = {}
        self._draws: dict[tuple[Table, str], Insert] = {}
        self._guards: dict[tuple[tuple[str, ...], bool], tuple[str, tuple[str, ...]]] = {}

    def into(self, into: Into) -> str:
        """The text of an INSERT, whose parameters are the columns of `into`."""
        made = self._added.get(into)
        if made is None:
            statement = insert(into.table).values({name: bindparam(name) for name in into.columns})
            made = self._added[into] = _ordered(self.statements.prepare(statement), into.columns)
        return made

    def into_many(self, into: Into) -> str | None:
        """The text of one INSERT of MANY rows, where it costs less than as many: a file's. None: it does not."""
        made = self._many.get(into)
        if made is None and self.statements.dialect.name == "sqlite":
            head, values, row = self.into(into).partition(" VALUES ")
            made = self._many[into] = head + values + ", ".join([row] * MANY)
        return made

    def insert(self, table: Table) -> Insert:
        """INSERT, which gives back the row's `id` where the cursor does not tell it anyway: RETURNING costs SQLite half
        as much again as the row."""
        made = self._inserts.get(table)
        if made is None:
            made = insert(table)
            if not getattr(self.statements.dialect, "postfetch_lastrowid", False):
                made = made.returning(table.c.id)
            self._inserts[table] = made
        return made

    def insert_new(self, table: Table) -> Insert:
        """INSERT … ON CONFLICT DO NOTHING, in this dialect's words; one object a table, so that it is compiled once."""
        made = self._new.get(table)
        if made is None:
            made = self._new[table] = self.statements.insert(table).on_conflict_do_nothing()
        return made

    def draw(self, table: Table, column: str) -> Insert:
        """INSERT … ON CONFLICT DO UPDATE that adds 1 to the column, and returns it."""
        made = self._draws.get((table, column))
        if made is None:
            counted = table.c[column]
            upsert = self.statements.insert(table).on_conflict_do_update(
                index_elements=list(table.primary_key), set_={column: counted + 1}
            )
            made = self._draws[table, column] = upsert.returning(counted)
        return made

    def guard(self, columns: tuple[str, ...], tells_steps: bool) -> tuple[str, tuple[str, ...]]:
        """The UPDATE that takes the task's lock, checks the token and that no verb lies between, draws the seqs and
        sets `columns`: one statement, because each costs a walk to the row."""
        made = self._guards.get((columns, tells_steps))
        if made is None:
            values: dict[str, Any] = {name: bindparam(name) for name in columns}
            values["seq"] = tasks.c.seq + bindparam("_count")
            if tells_steps:
                values["steps_seq"] = values["seq"]
            statement = update(tasks).where(*FENCED, tasks.c.seq == bindparam("_seen")).values(values)
            prepared = self.statements.prepare(statement.execution_options(**{APART: True}))
            made = self._guards[columns, tells_steps] = (prepared.sql, prepared.names)
        return made


def _ordered(prepared: Prepared, names: tuple[str, ...]) -> str:
    """The text, whose parameters must come in the order of `names`: the caller builds plain tuples."""
    if prepared.names != names:
        raise AssertionError(f"{prepared.sql}: parameters are {prepared.names}, not {names}")
    return prepared.sql


def append_all(
    tx: Transaction, batch: Sequence[Append], points: Savepoints, *, alone: bool = False
) -> list[Appended | LeaseLost | Exception]:
    """An answer for each of the batch, inside the transaction that is open. `alone`: nothing else is in it, so it needs
    no savepoint, for which the database would copy every page that is changed.

    Raises a WorldError where the database itself failed: then the whole transaction is lost.
    """
    if not alone:
        points.savepoint()
    try:
        answers = _in_bulk(tx, batch)
    except Exception as error:
        told = points.translate(error)
        if isinstance(told, WorldError):
            raise told  # noqa: B904 - translate has chained them
        if alone:
            points.start_over()
        else:
            points.rollback_to()
            points.release()
    else:
        if not alone:
            points.release()
        return answers
    by_id = sorted(range(len(batch)), key=lambda place: batch[place].task)
    found = {place: _apart(tx, batch[place], points) for place in by_id}
    return [found[place] for place in range(len(batch))]


def _apart(tx: Transaction, one: Append, points: Savepoints) -> Appended | LeaseLost | Exception:
    points.savepoint()
    try:
        answer = append_one(tx, one)
    except Exception as error:
        told = points.translate(error)
        if isinstance(told, WorldError):
            raise told  # noqa: B904 - translate has chained them
        points.rollback_to()
        points.release()
        return told
    points.release()
    return answer


def _in_bulk(tx: Transaction, batch: Sequence[Append]) -> list[Appended | LeaseLost | Exception]:
    if len(batch) > 1:
        ordered = sorted(batch, key=_task)
    else:
        ordered = list(batch)
    _guard(tx, ordered)
    rows: list[tuple[Any, ...]] = []
    projected: list[tuple[Any, ...]] = []
    folded: list[tuple[int, int]] = []
    told: list[FeedRow] = []
    thens: list[Callable[[Tx], None]] = []
    last: dict[int, int] = {}
    touched = tx.tasks
    for one in ordered:
        task, _, seq, facts, decisions, _, steps_all, _, superseded, news, then = one
        touched.add(task)
        for row in facts:
            seq += 1
            rows.append((task, seq, *row))
        for row in decisions:
            seq += 1
            rows.append((task, seq, *row))
        last[task] = seq
        for step in steps_all:
            projected.append((task, *step))
        if superseded:
            folded.extend((task, old) for old in superseded)
        told.extend(news)
        if then is not None:
            thens.append(then)
    hot, cursor = tx.hot, tx.cursor
    cursor.executemany(hot.journal, rows)
    if projected:
        cursor.executemany(hot.steps, projected)
    if folded:
        cursor.executemany(hot.fold, folded)
    for each in told:
        tx.add(FEED, each)
    if thens:
        do_then(tx, thens)
    return [Appended(last[one.task], True) for one in batch]


def accepted(one: Append) -> Appended:
    """The answer to one of which all was taken."""
    return Appended(one.seen + len(one.facts) + len(one.decisions), True)


def _task(one: Append) -> int:
    return one.task


def _guard(tx: Transaction, ordered: Sequence[Append]) -> None:
    groups: dict[tuple[tuple[str, ...], bool], list[Append]] = {}
    for one in ordered:
        columns = tuple(one.projection) if one.projection else ()
        groups.setdefault((columns, bool(one.steps_all)), []).append(one)
    cursor = tx.cursor
    for (columns, tells_steps), members in groups.items():
        sql, names = tx.hot.guard(columns, tells_steps)
        cursor.executemany(sql, _guard_values(names, members))
        if cursor.rowcount != len(members):
            raise Moved


def _guard_values(names: tuple[str, ...], members: Iterable[Append]) -> list[list[Any]]:
    found = []
    for one in members:
        values = {
            "_count": len(one.facts) + len(one.decisions),
            "_task": one.task,
            "_token": one.token,
            "_seen": one.seen,
            **(one.projection or {}),
        }
        found.append([values[name] for name in names])
    return found


def append_one(tx: Transaction, one: Append) -> Appended:
    """One append in the transaction that is open. Raises LeaseLost."""
    try:
        (answer,) = _in_bulk(tx, [one])
    except Moved:
        return _behind(tx, one)
    assert isinstance(answer, Appended)
    return answer


def _behind(tx: Transaction, one: Append) -> Appended:
    """The token or the seq differs: if it is the seq, a verb lies between. Its facts happened and are kept."""
    cursor, count = tx.cursor, len(one.facts)
    cursor.execute(tx.hot.behind, (count, one.task, one.token, one.seen))
    drawn = cursor.fetchall()
    if not drawn:
        raise LeaseLost(task=one.task)
    seq = drawn[0][0]
    unseen = [row for row in tx.journal(one.task, one.seen) if row.seq <= seq - count]
    cursor.executemany(tx.hot.journal, [(one.task, seq - count + 1 + at, *row) for at, row in enumerate(one.facts)])
    if one.steps_facts:
        write_steps(tx, one.task, one.steps_facts)
    tx.tasks.add(one.task)
    return Appended(seq, False, unseen)


def write_steps(tx: Transaction, task: int, rows: Sequence[StepRow]) -> None:
    """See store/base.py."""
    tx.cursor.executemany(tx.hot.steps, [(task, *row) for row in rows])
    tx.cursor.execute(tx.hot.steps_told, (task,))
