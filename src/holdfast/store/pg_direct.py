"""Statements that are a transaction by themselves, by libpq's own calls.

Theory: what a step costs is one such statement, and half of the time that it takes in Python was the way through the
driver's cursor: what kind each value is, which statement has which name, what kinds come back. Here all of that is
known: values go as text, the text of the statement has their kinds, and what is asked of the answer is how many rows
it has. Errors are the driver's own, and so is the connection; nobody else uses it meanwhile.

There are few texts, and each comes often: all are prepared, where that can be. The driver drops what is prepared on a
connection when something was rolled back on it, so a name may be unknown to the server: then everything is named anew.

What is sent: store/pg_append.py. Who waits: store/pg_silence.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import psycopg
from psycopg.errors import InvalidSqlStatementName, error_from_result
from psycopg.pq import ExecStatus

from holdfast.store.pg_silence import Connection

NAMES_MAX: Final = 500  # of one connection


class Direct:
    """Of one connection."""

    __slots__ = ("_connection", "_named", "_names")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._names: dict[str, bytes] = {}
        self._named = 0  # so far; no name comes again

    def run(self, sql: str, values: Sequence[Any]) -> int:
        """How many rows it gave, or wrote. Raises psycopg.Error, UnicodeError."""
        server = self._connection.pgconn
        given = [None if value is None else str(value).encode() for value in values]
        if b"\0" in b"".join(filter(None, given)):
            raise psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
        if self._connection.prepare_threshold is None:
            server.send_query_params(sql.encode(), given)
        else:
            server.send_query_prepared(self._names.get(sql) or self._prepare(sql), given)
        try:
            return int(self._answer().command_tuples or 0)
        except InvalidSqlStatementName:
            self._names.clear()
            return self.run(sql, values)

    def _prepare(self, sql: str) -> bytes:
        if len(self._names) >= NAMES_MAX:
            self._names.clear()
            self._connection.execute("DEALLOCATE ALL")
        self._named += 1
        name = b"holdfast_%d" % self._named
        self._connection.pgconn.send_prepare(name, sql.encode())
        self._answer()
        self._names[sql] = name
        return name

    def _answer(self) -> Any:
        (result,) = self._connection.answer()
        if result.status not in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
            raise error_from_result(result)
        return result
