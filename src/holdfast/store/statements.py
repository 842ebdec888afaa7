"""SQLAlchemy Core statements as SQL text, compiled once, for the driver's own cursor.

Running a statement through SQLAlchemy costs a third of SQLite's commit rate; compiling it once and handing the text
to the driver costs a dictionary look-up. What the statements say is where they are used; who runs them:
store/transaction.py.
"""

from __future__ import annotations

import re
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Boolean

from holdfast.store.base import LOCKS
from holdfast.store.schema import metadata

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.engine import Dialect
    from sqlalchemy.sql import Executable
    from sqlalchemy.sql.compiler import SQLCompiler

KEPT_MAX: Final = 1024  # statements made per call would else be kept for ever
EXPANSIONS_MAX: Final = 64  # of one statement: the lengths of its lists
_WORD: Final = re.compile(r"\w+")

_row_types: dict[tuple[str, ...], Any] = {}


def row_type(names: tuple[str, ...]) -> Any:
    """The named tuple of these fields; making one takes longer than a query, so they are kept."""
    kind = _row_types.get(names)
    if kind is None:
        kind = _row_types[names] = namedtuple("Row", names, rename=True)
    return kind


class Prepared:
    """A statement ready for the cursor: `sql`, the names of its parameters in order, how its rows come back. `tables`:
    all that it names, and maybe more. `writes`: it may change something."""

    __slots__ = (
        "_arrays", "_compiled", "_defaults", "_expansions", "_lists", "_values", "booleans", "make", "names", "sql",
        "tables", "writes",
    )  # fmt: skip

    def __init__(self, statement: Executable, keys: Sequence[str] | None, dialect: Dialect) -> None:
        compiled: SQLCompiler = statement.compile(dialect=dialect, column_keys=keys)  # type: ignore[attr-defined]
        self.sql = str(compiled)
        self.tables = frozenset(_WORD.findall(self.sql)) & metadata.tables.keys()
        self.writes = statement.is_dml and not statement.get_execution_options().get(LOCKS, False)
        self.names = tuple(compiled.positiontup or ())
        self._defaults = {name: value for name, value in compiled.params.items() if value is not None}
        for bind, name in compiled.bind_names.items():
            if not bind.required:
                self._defaults.setdefault(name, None)
        # One look-up for all of them, where all are given; of one name it would give no tuple.
        self._values: Any = itemgetter(*self.names) if len(self.names) > 1 else self._one_value
        self._compiled = compiled if compiled.post_compile_params else None
        self._lists = tuple(name for bind, name in compiled.bind_names.items() if bind.expanding)
        kinds = {name: getattr(bind.type, "item_type", None) for bind, name in compiled.bind_names.items()}
        self._arrays = {name: kind for name, kind in kinds.items() if kind is not None}
        self._expansions: dict[tuple[int, ...], tuple[str, list[tuple[str, int]]]] = {}
        columns = list(getattr(statement, "exported_columns", ()))
        self.booleans = tuple(place for place, column in enumerate(columns) if isinstance(column.type, Boolean))
        self.make = row_type(tuple(statement.exported_columns.keys()))._make if columns else None  # type: ignore[attr-defined]

    def bind(self, parameters: Mapping[str, Any] | None) -> tuple[str, Sequence[Any]]:
        """The text and the values in its order. Lists (`IN`) are spelled out for their length."""
        if self._compiled is not None:
            return self._expanded(self._compiled, parameters or {})
        if not self.names:
            return self.sql, ()
        if not parameters:
            return self.sql, [self._defaults[name] for name in self.names]
        try:
            return self.sql, self._values(parameters)
        except KeyError:
            defaults = self._defaults
            return self.sql, [parameters[name] if name in parameters else defaults[name] for name in self.names]

    def _expanded(self, compiled: SQLCompiler, parameters: Mapping[str, Any]) -> tuple[str, Sequence[Any]]:
        """The text for lists of these lengths is kept: to make it takes longer than to run it. And there are few
        lengths: the last of a list is named again until it is as long as the next power of two."""
        given = {**self._defaults, **parameters}
        for name in self._lists:
            given[name] = _padded(given[name])
        lengths = tuple(len(given[name]) for name in self._lists)
        known = self._expansions.get(lengths)
        if known is None:
            state = compiled.construct_expanded_state(given)
            places: dict[str, tuple[str, int]] = {}
            for name in self._lists:
                places |= {each: (name, place) for place, each in enumerate(state.parameter_expansion[name])}
            known = state.statement, [places.get(name, (name, -1)) for name in state.positiontup or ()]
            if len(self._expansions) < EXPANSIONS_MAX:
                self._expansions[lengths] = known
        text, named = known
        return text, [given[name] if place < 0 else given[name][place] for name, place in named]

    def _one_value(self, parameters: Mapping[str, Any]) -> tuple[Any]:
        return (parameters[self.names[0]],)

    def rows(self, raw: list[tuple[Any, ...]]) -> list[Any]:
        """The driver's rows as named tuples; SQLite has no booleans, so they are made here."""
        make = self.make
        if make is None:
            return raw
        if not self.booleans:
            return list(map(make, raw))
        made = []
        for values in raw:
            row = list(values)
            for place in self.booleans:
                if row[place] is not None:
                    row[place] = bool(row[place])
            made.append(make(row))
        return made


def _padded(values: Sequence[Any]) -> Sequence[Any]:
    missing = (1 << (len(values) - 1).bit_length()) - len(values) if values else 0
    return [*values, *[values[-1]] * missing] if missing else values


class Statements:
    """The statements of one dialect, compiled at first use. Threads may share it."""

    #: What asks the database for the moment; None: it is on the one machine of all who use it.
    clock: str | None = None

    def __init__(self, dialect: Dialect, insert: Callable[[Table], Any]) -> None:
        self.dialect = dialect
        self.insert = insert  # the dialect's own, which knows ON CONFLICT
        self._kept: dict[Any, tuple[Executable, Prepared]] = {}

    def prepare(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> Prepared:
        """For a statement that writes, the columns written are those named by `parameters`."""
        keys = tuple(parameters) if parameters and statement.is_dml else None
        key = (id(statement), keys)
        kept = self._kept.get(key)
        if kept is None:
            if len(self._kept) >= KEPT_MAX:
                self._kept.clear()
            # The statement is kept with its text: an id may be used again once its object is gone.
            kept = self._kept[key] = (statement, self.compile(statement, keys))
        return kept[1]

    def compile(self, statement: Executable, keys: Sequence[str] | None) -> Prepared:
        return Prepared(statement, keys, self.dialect)
