"""Somebody else who comes first: what more than one writer at a time will bring."""

from __future__ import annotations

from typing import Any

from holdfast.store.base import Tx
from holdfast.store.schema import queues


class Meanwhile:
    """A transaction in which somebody else comes first, once: just before it makes a queue, or draws in one."""

    def __init__(self, tx: Tx, what: Any) -> None:
        self._tx = tx
        self._what = what

    def insert_new(self, table: Any, values: Any) -> bool:
        self._let(table)
        return self._tx.insert_new(table, values)

    def draw(self, table: Any, values: Any, column: str) -> int:
        self._let(table)
        return self._tx.draw(table, values, column)

    def _let(self, table: Any) -> None:
        if table is queues and self._what is not None:
            what, self._what = self._what, None
            what(self._tx)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tx, name)
