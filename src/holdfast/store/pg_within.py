"""A caller's own transaction on PostgreSQL, for what is to be there exactly if it commits.

Theory: the caller's connection runs the statements, inside a savepoint, and the caller commits, when he likes. So what
everybody waits for may not be locked in it. Rows of `feed` draw their ids under such a lock; here they are left in
`untold`, and told once they are there to be seen (tasks/tell.py). Others hear of it by a NOTIFY in that transaction,
which PostgreSQL sends when it has committed.

Holdfast's own transactions: store/pg_session.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from psycopg.types.numeric import Int8Dumper

from holdfast.errors import UsageError
from holdfast.store import pg_faults
from holdfast.store.base import Into, Tx
from holdfast.store.pg_bell import RING
from holdfast.store.pg_driver import writing
from holdfast.store.schema import feed, untold
from holdfast.store.transaction import Transaction

T = TypeVar("T")
_POINT: Final = "holdfast_within"


class _Borrowed(Transaction):
    __slots__ = ()

    def add(self, into: Into, values: Sequence[Any]) -> None:
        super().add(_UNTOLD if into.table is feed and into.columns == _UNTOLD.columns else into, values)

    def hold(self, name: str) -> None:
        self.cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", (name,))


class _Cursor:
    """The driver's own: what is prepared on a connection of somebody else's is its affair. With rows and numbers as the
    statements want them, whatever the caller has set."""

    __slots__ = ("_cursor", "execute", "executemany", "fetchall")

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._cursor: Any = psycopg.RawCursor(driver, row_factory=tuple_row)
        self._cursor.adapters.register_dumper(int, Int8Dumper)
        self.execute, self.executemany, self.fetchall = (
            self._cursor.execute,
            self._cursor.executemany,
            self._cursor.fetchall,
        )

    @property
    def rowcount(self) -> int:
        return int(self._cursor.rowcount)

    @property
    def description(self) -> Any:
        return self._cursor.pgresult.nfields or None

    def run(self, script: str) -> None:
        """Statements without parameters, in one journey."""
        self._cursor.execute(script)


_UNTOLD: Final = Into(untold, "at", "type", "project_id", "task", "subject", "resource", "data")


def within(connection: Any, fn: Callable[[Tx], T], *, generation: str, shown: str) -> T:
    """What `fn` returns, in the transaction of a psycopg connection, or of a connection or session of SQLAlchemy's on
    one. What it raises, once what it did is undone; the caller's own work stays.

    Raises: UsageError: there is no such transaction, or it is of another database. StoreBusy and others as `write`.
    """
    driver = _driver(connection)
    if driver.autocommit and driver.info.transaction_status == TransactionStatus.IDLE:
        raise UsageError("the connection commits by itself: begin a transaction, for the task is to be part of it")
    cursor = _Cursor(driver)
    try:
        cursor.run(f"SAVEPOINT {_POINT}")
        try:
            _check(cursor, generation, shown)
            tx = _Borrowed(cursor, writing())
            found = fn(tx)
            tx.flush()
            cursor.run(f"RELEASE {_POINT}; {RING}")
            return found
        except BaseException:
            if not driver.closed and driver.info.transaction_status != TransactionStatus.IDLE:
                cursor.run(f"ROLLBACK TO {_POINT}; RELEASE {_POINT}")
            raise
    except psycopg.Error as error:
        raise pg_faults.translate(error, shown) from error


def _driver(connection: Any) -> psycopg.Connection[Any]:
    """The driver's connection beneath what the caller has; of SQLAlchemy's, one that knows of the transaction."""
    given = connection
    if callable(getattr(connection, "connection", None)):
        connection = connection.connection()  # a Session
    if hasattr(connection, "in_transaction") and hasattr(connection, "connection"):
        if not connection.in_transaction():
            connection.begin()
        connection = connection.connection.driver_connection
    if not isinstance(connection, psycopg.Connection):
        raise UsageError(
            f"connection= takes a psycopg.Connection, or a Connection or Session of SQLAlchemy on psycopg, not"
            f" {type(given).__module__}.{type(given).__qualname__}"
        )
    return connection


def _check(cursor: _Cursor, generation: str, shown: str) -> None:
    try:
        cursor.execute("SELECT generation FROM store_info")
        found = cursor.fetchall()
    except psycopg.errors.UndefinedTable:
        found = []
    if found != [(generation,)]:
        raise UsageError(f"the connection is to another database than {shown}: a transaction is of one")
