"""Statements by libpq's own calls: many in one journey to the server and back.

Theory: half of the time that a statement takes in Python was the way through the driver's cursor: what kind each value
is, which statement has which name, what kinds come back. And its pipeline sends each statement by itself, so a server
that is quick is woken for each, and answers each by itself. Here values go as text, the text of the statement has most
of their kinds, and what is asked together is sent together. What rows come to in Python, the errors and the connection
are the driver's own; nobody else uses it meanwhile.

All is prepared, where that can be: the same few texts come again and again. The driver drops all that is prepared on a
connection when it has rolled something back there, so whoever uses this rolls back with it too. If a name is unknown to
the server all the same, or what it gives has another form by now, that transaction has failed, and everything is named
anew.

What is sent: store/pg_append.py, store/transaction.py. Who waits: store/pg_silence.py.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any, Final

import psycopg
from psycopg.adapt import Transformer
from psycopg.errors import FeatureNotSupported, InvalidSqlStatementName, error_from_result
from psycopg.postgres import types
from psycopg.pq import ExecStatus

from holdfast.store.pg_silence import Connection

NAMES_MAX: Final = 500  # of one connection
_numbers: Final = itertools.count(1)  # no name comes again
_KINDS: Final = {bool: types["bool"].oid, int: types["int8"].oid, float: types["float8"].oid}
_STALE: Final = (InvalidSqlStatementName, FeatureNotSupported)  # that: of a plan, once a column was altered
_DONE: Final = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)

#: A statement and its values: None, bool, int, float and str.
Asked = tuple[str, Sequence[Any]]
#: What a name stands for: a text, and the kinds that its values were said to have.
_Named = tuple[str, tuple[int, ...]]


class Direct:
    """Of one connection. All that asks raises psycopg.Error, UnicodeError."""

    __slots__ = ("_connection", "_names", "_transformer")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._names: dict[_Named, bytes] = connection.named
        self._transformer = Transformer.from_context(connection)

    def run(self, sql: str, values: Sequence[Any]) -> int:
        """A statement that is a transaction by itself and says of what kinds its values are: how many rows it gave, or
        wrote."""
        named = (sql, ())
        given = self._given(values)
        name = self._names.get(named)
        if name is None:
            (result,) = self._ask([(named, given)])
            return count(result)
        self._connection.pgconn.send_query_prepared(name, given)
        try:
            result, *_ = map(_checked, self._answer())
            return count(result)
        except _STALE:
            self._names.clear()
            return self.run(sql, values)

    def script(self, script: str) -> Any:
        """Statements without values, in one journey: the last one's answer."""
        self._connection.pgconn.send_query(script.encode())
        *_, last = map(_checked, self._answer())
        return last

    def ask(self, asked: Sequence[Asked]) -> list[Any]:
        """Statements in one journey: the answer of each. Of those behind one that fails none is run."""
        return self._ask([((sql, _kinds(values)), self._given(values)) for sql, values in asked])

    def rows(self, result: Any) -> list[tuple[Any, ...]]:
        if not result.nfields:
            return []
        self._transformer.set_pgresult(result)
        return self._transformer.load_rows(0, result.ntuples, tuple)

    def _ask(self, asked: Sequence[tuple[_Named, list[bytes | None]]]) -> list[Any]:
        if len(self._names) > NAMES_MAX:
            self._names.clear()
            self.script("DEALLOCATE ALL")
        server = self._connection.pgconn
        answers: list[Any] = []
        error: Exception | None = None
        try:
            server.enter_pipeline_mode()
            new = [self._send(named, given) for named, given in asked]
            server.pipeline_sync()
            for (named, _), is_new in zip(asked, new, strict=True):
                if is_new:
                    (result,) = self._answer()
                    error = error or _error(result)
                    if result.status not in _DONE:
                        self._names.pop(named, None)
                (result,) = self._answer()
                error = error or _error(result)
                answers.append(result)
            while (result := self._answer()[-1]).status != ExecStatus.PIPELINE_SYNC:
                error = error or _error(result)  # of a statement by itself: of its commit
            server.exit_pipeline_mode()
        except BaseException as lost:  # it may have more to say
            self._connection.close()
            if error is not None and isinstance(lost, psycopg.Error):
                raise error from None
            raise
        if error is not None:
            if isinstance(error, _STALE):
                self._names.clear()
            raise error
        return answers

    def _send(self, named: _Named, given: list[bytes | None]) -> bool:
        """Whether it is prepared with it: then there are two answers."""
        server = self._connection.pgconn
        sql, kinds = named
        name = self._names.get(named)
        is_new = name is None and self._connection.prepare_threshold is not None
        if is_new:
            name = self._names[named] = b"holdfast_%d" % next(_numbers)
            server.send_prepare(name, sql.encode(), kinds or None)
        if name is None:
            server.send_query_params(sql.encode(), given, kinds or None)
        else:
            server.send_query_prepared(name, given)
        return is_new

    def _answer(self) -> list[Any]:
        try:
            return self._connection.answer()
        except BaseException:
            self._connection.close()  # it may have more to say
            raise

    def _given(self, values: Sequence[Any]) -> list[bytes | None]:
        given = [
            None if value is None else (decimal(value) if type(value) is float else str(value)).encode()
            for value in values
        ]
        if b"\0" in b"".join(filter(None, given)):
            if (instead := self._connection.nul) is None:
                raise psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
            return [None if value is None else value.replace(b"\0", instead.encode()) for value in given]
        return given


@functools.lru_cache(1024)
def decimal(value: float) -> str:
    """The text of a number. Most are moments, and one moment is said many times."""
    return repr(value)


def _kinds(given: Sequence[Any]) -> tuple[int, ...]:
    """As the driver tells them, where the statement's text doesn't. 0: the server finds out."""
    return tuple(_KINDS.get(type(value), 0) for value in given)


def count(result: Any) -> int:
    """How many rows it gave, or wrote."""
    return int(result.command_tuples or 0)


def _error(result: Any) -> Exception | None:
    return None if result.status in _DONE else error_from_result(result)


def _checked(result: Any) -> Any:
    if (error := _error(result)) is not None:
        raise error
    return result
