"""A driver's connection that does what a test says: counts, fails, or is short of room."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from holdfast.store.sqlite import connect_file


class Faulty:
    """`before(sql)` is called before every statement of every connection; what it raises is the driver's error.
    `after(sql)`: behind each that succeeded."""

    def __init__(
        self, before: Callable[[str], object], *pragmas: str, after: Callable[[str], object] = lambda sql: None
    ) -> None:
        self.before = before
        self.after = after
        self.pragmas = pragmas
        self.opened: list[sqlite3.Connection] = []

    def __call__(self, path: str) -> _Connection:
        connection = connect_file(path)
        for pragma in self.pragmas:
            connection.execute(f"PRAGMA {pragma}")
        self.opened.append(connection)
        return _Connection(connection, self)


class _Connection:
    def __init__(self, real: sqlite3.Connection, faulty: Faulty) -> None:
        self._real = real
        self._faulty = faulty

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def cursor(self) -> _Cursor:
        return _Cursor(self._real.cursor(), self._faulty)


class _Cursor:
    def __init__(self, real: sqlite3.Cursor, faulty: Faulty) -> None:
        self._real = real
        self._faulty = faulty

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def execute(self, sql: str, parameters: Any = ()) -> _Cursor:
        self._faulty.before(sql)
        self._real.execute(sql, parameters)
        self._faulty.after(sql)
        return self

    def executemany(self, sql: str, parameters: Any) -> _Cursor:
        self._faulty.before(sql)
        self._real.executemany(sql, parameters)
        return self


def driver_error(code: int, name: str) -> sqlite3.OperationalError:
    """An error as SQLite gives it."""
    error = sqlite3.OperationalError("made by a test")
    error.sqlite_errorcode = code
    error.sqlite_errorname = name
    return error
