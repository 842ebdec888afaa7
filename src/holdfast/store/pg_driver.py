"""psycopg as the store uses it: connections, types, statements, and a cursor that writes many rows in one go.

Theory: each statement costs a journey to the server, so many rows go as one: INSERT … SELECT from arrays instead of
VALUES, and an UPDATE or DELETE whose rows of values are apart (base.APART) joined with arrays. The text of that is made
from the compiled statement's own, once.

Who begins and commits: store/postgres.py. Who finds out that a server is silent: store/pg_silence.py.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.adapt import Loader
from psycopg.pq import TransactionStatus
from sqlalchemy import ARRAY, BigInteger, BindParameter, Boolean, Float, Integer, String, bindparam
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.sql.operators import in_op, not_in_op

from holdfast.store.appends import Hot
from holdfast.store.base import APART
from holdfast.store.pg_direct import Asked, Direct, count, decimal
from holdfast.store.pg_silence import SILENCE_S, Connection
from holdfast.store.place import without_direct
from holdfast.store.statements import Prepared, Statements
from holdfast.store.transaction import Rows, Transaction

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect
    from sqlalchemy.sql import Executable

_INSERT: Final = re.compile(r"(INSERT INTO \w+ \(([^)]+)\) )VALUES \(([^()]*)\)( ON CONFLICT.*)?", re.DOTALL)
_TARGET: Final = re.compile(r" ON CONFLICT \(([^)]+)\) DO UPDATE", re.DOTALL)
_PARAMETER: Final = re.compile(r"\$(\d+)::(BIGINT|INTEGER|VARCHAR|FLOAT|BOOLEAN)")
_NO_NUL: Final = "\ufffd"  # no text here holds a NUL: who seeks one that does finds nothing, as everywhere else
_CHANGE: Final = re.compile(r"(UPDATE \w+ SET .*?|DELETE FROM \w+)( WHERE .*)", re.DOTALL)
_DEFAULTS: Final = {"connect_timeout": "5", "tcp_user_timeout": "10000", "keepalives_idle": "10"}
_DEFAULTS_KEEPALIVE: Final = {"keepalives_interval": "3", "keepalives_count": "3"}


# --- statements --------------------------------------------------------------------------------------------------


class _Float(Float[float]):
    render_bind_cast = True


class _Whole(BigInteger):
    render_bind_cast = True


class _Truth(Boolean):
    render_bind_cast = True


_FLOATS: Final = frozenset(("float8", "FLOAT"))
_COMPARED: Final = {in_op: "= ANY", not_in_op: "<> ALL"}


class _Compiler(PGDialect_psycopg.statement_compiler):  # type: ignore[valid-type,misc]
    """A list is one parameter, however long it is: so the text is one too, and planned once."""

    def visit_binary(self, binary: Any, *more: Any, **options: Any) -> Any:
        given = binary.right
        compared = _COMPARED.get(binary.operator)
        if compared is None or not isinstance(given, BindParameter) or not given.required:
            return super().visit_binary(binary, *more, **options)
        # As large as any: what is sought may be larger than it can become.
        kind = BigInteger() if isinstance(given.type, Integer) else given.type
        values = bindparam(given.key, type_=ARRAY(kind))
        return f"{self.process(binary.left, **options)} {compared} ({self.process(values, **options)})"


class _Dialect(PGDialect_psycopg):
    """Every parameter is $n::TYPE, so the server knows what a NULL is. What is compared with a small number may be
    larger than it can become."""

    supports_statement_cache = True
    statement_compiler = _Compiler
    colspecs = PGDialect_psycopg.colspecs | {Boolean: _Truth, Float: _Float, Integer: _Whole}


class _ReadingCompiler(_Compiler):
    """What is only read takes no lock: the same statement serves who looks and who takes."""

    def for_update_clause(self, select: Any, **options: Any) -> str:
        return ""


class _ReadingDialect(_Dialect):
    supports_statement_cache = True
    statement_compiler = _ReadingCompiler


def _dialect(kind: Any) -> Dialect:
    made: Dialect = kind(paramstyle="numeric_dollar")
    return made


class Text(str):
    """The text of a statement that can be run for many rows in one go, and how. `many` takes an array for each
    parameter; `keys`: the places of the values of which no two rows may have the same; the last one counts."""

    __slots__ = ("keys", "kinds", "many")
    many: str
    keys: tuple[int, ...]
    kinds: tuple[str, ...]


class _Prepared(Prepared):
    """Its lists are given as texts of arrays."""

    __slots__ = ()

    def bind(self, parameters: Mapping[str, Any] | None) -> tuple[str, Sequence[Any]]:
        if self._arrays and parameters:
            lists = {name: _sought(parameters[name], kind) for name, kind in self._arrays.items()}
            parameters = {**parameters, **lists}
        return super().bind(parameters)


class PgStatements(Statements):
    clock = "SELECT extract(epoch FROM clock_timestamp())::float8"

    def compile(self, statement: Executable, keys: Sequence[str] | None) -> Prepared:
        prepared = _Prepared(statement, keys, self.dialect)
        prepared.booleans = ()  # the driver has made them
        if prepared.writes:
            prepared.sql = _many(prepared.sql, apart=bool(statement.get_execution_options().get(APART)))
        return prepared


def _many(sql: str, *, apart: bool) -> Text:
    """A text that has been looked at; `many` is empty where rows have to go one by one."""
    text = Text(sql)
    text.many, text.keys, text.kinds = "", (), ()
    casts = dict(_PARAMETER.findall(sql))
    numbers = sorted(map(int, casts))
    if not numbers or numbers != list(range(1, len(numbers) + 1)) or len(re.findall(r"\$\d+(?!\d|::)", sql)):
        return text
    kinds = [casts[str(number)] for number in numbers]
    arrays = ", ".join(f"${number}::{kind}[]" for number, kind in zip(numbers, kinds, strict=True))
    if (found := _INSERT.fullmatch(sql)) is not None and found[3].count("$") == found[3].count(",") + 1:
        begin, columns, values, conflict = found[1], found[2].split(", "), found[3], found[4] or ""
        wanted = [int(number) for number, _ in _PARAMETER.findall(values)]
        if "$" in conflict or "RETURNING" in conflict or wanted != numbers:
            return text
        text.many = f"{begin}SELECT * FROM unnest({arrays}){conflict}"
        if (target := _TARGET.match(conflict)) is not None:
            text.keys = tuple(columns.index(name) for name in target[1].split(", "))
    elif apart and (change := _CHANGE.fullmatch(sql)) is not None and "RETURNING" not in sql:
        names = ", ".join(f"p{number}" for number in numbers)
        begin, where = (_PARAMETER.sub(r"given.p\1", part) for part in change.groups())
        word = "FROM" if begin.startswith("UPDATE") else "USING"
        text.many = f"{begin} {word} unnest({arrays}) AS given ({names}){where}"
    text.kinds = tuple("text" if kind == "VARCHAR" else kind for kind in kinds)
    return text


@functools.cache
def writing() -> Hot:
    """One for all the stores of a process: compiling takes long."""
    return Hot(PgStatements(_dialect(_Dialect), insert))


@functools.cache
def reading() -> Hot:
    return Hot(PgStatements(_dialect(_ReadingDialect), insert))


def array(values: Iterable[Any], kind: str) -> str:
    """The text of an array of PostgreSQL's. Its driver makes one several times as slowly."""
    if kind != "text":
        told = decimal if kind in _FLOATS else str
        return f"{{{','.join(['NULL' if value is None else told(value) for value in values])}}}"
    texts = [*values]
    said = "".join(filter(None, texts))
    if "\\" in said or '"' in said or "\0" in said:
        quoted = list(map(_quoted, texts))
    else:
        quoted = ["NULL" if text is None else f'"{text}"' for text in texts]
    return f"{{{','.join(quoted)}}}"


def _sought(values: Iterable[Any], kind: Any) -> str:
    if isinstance(kind, String):
        return array([value.replace("\0", _NO_NUL) for value in values], "text")
    return array(values, "int8")


def _quoted(value: str | None) -> str:
    if value is None:
        return "NULL"
    if "\0" in value:
        raise psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
    if "\\" in value or '"' in value:
        value = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{value}"'


# --- connections -------------------------------------------------------------------------------------------------


class _NumericLoader(Loader):
    """Sums of whole numbers are whole numbers, as everywhere else."""

    def load(self, data: Any) -> int | float:
        said = bytes(data)
        return float(said) if b"." in said or b"N" in said else int(said)


class Server:
    """Where to connect to. `pooled`: whether a pooler of connections stands before it; known when somebody has
    connected. `hears`: whether who connects directly can LISTEN."""

    def __init__(self, url: str, silence_s: float = SILENCE_S) -> None:
        self.url, self._direct = without_direct(url)
        self.pooled: bool | None = None
        self._silence_s = silence_s

    @property
    def hears(self) -> bool:
        return not self.pooled or self._direct is not None

    def connect(self, name: str, *, kind: type[Connection] = Connection, direct: bool = False) -> Any:
        """In autocommit mode: transactions are begun and ended by name. `direct`: past the pooler, where the URL says
        how. Raises psycopg.Error."""
        beside = self._direct if direct else None
        given: dict[str, Any] = {**psycopg.conninfo.conninfo_to_dict(self.url), **(beside or {})}
        asked = {**_DEFAULTS, **_DEFAULTS_KEEPALIVE, "application_name": name} | given | {"client_encoding": "utf8"}
        connection = kind.connect(**asked, autocommit=True, prepare_threshold=1)
        connection.place, connection.silence_s = given, self._silence_s
        connection.adapters.register_loader("numeric", _NumericLoader)
        if beside is None:
            if self.pooled is None:
                self.pooled = _is_pooled(connection)
            if self.pooled:  # the next transaction may be another session's, which knows of no statements
                connection.prepare_threshold = None
        return connection

    def connect_reading(self) -> Any:
        """For what only reads."""
        connection = self.connect("holdfast reader")
        connection.nul = _NO_NUL
        return connection


def _is_pooled(connection: Connection) -> bool:
    """A pooler gives its clients numbers of its own."""
    found = connection.execute("SELECT pg_backend_pid()").fetchone()
    return found is not None and found[0] != connection.info.backend_pid


class PgTransaction(Transaction):
    """One with a cursor of this module."""

    __slots__ = ()

    def execute_all(self, *asked: tuple[Executable, Mapping[str, Any]]) -> list[Rows]:
        prepared = [self.statements.prepare(*each) for each in asked]
        if self._pending:
            self.flush(frozenset().union(*(each.tables for each in prepared)))
        self.written += sum(each.writes for each in prepared)
        bound = [each.bind(parameters) for each, (_, parameters) in zip(prepared, asked, strict=True)]
        answers = zip(prepared, self.cursor.execute_all(bound), strict=True)
        return [Rows(each.rows(rows), count) for each, (rows, count) in answers]


class Cursor:
    """What store/transaction.py wants of a cursor. `opening`: statements to be sent with the next, before it."""

    __slots__ = ("_direct", "_result", "connection", "opening", "rowcount")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.opening: Sequence[str] = ()
        self._direct = Direct(connection)
        self._result: Any = None  # of the last statement
        self.rowcount = 0

    @property
    def description(self) -> Any:
        return self._result.nfields or None

    def at_once(self, sql: str, values: Sequence[Any]) -> int:
        """A statement that is a transaction by itself: how many rows it wrote."""
        return self._direct.run(sql, values)

    def execute(self, sql: str, values: Sequence[Any] = ()) -> None:
        self._ask([(sql, values)])

    def execute_all(self, asked: Sequence[Asked]) -> list[tuple[list[Any], int]]:
        """Statements in one journey: the rows of each, and how many they are or were changed."""
        return [(self._direct.rows(result), count(result)) for result in self._ask(asked)]

    def _ask(self, asked: Sequence[Asked]) -> list[Any]:
        opening, self.opening = self.opening, ()
        try:
            answers = self._direct.ask([*((each, ()) for each in opening), *asked])
        except (UnicodeError, psycopg.DataError):
            if self.connection.info.transaction_status == TransactionStatus.IDLE:  # nothing was sent
                self.opening = opening
            raise
        self._result = answers[-1]
        answers = answers[len(opening) :]
        self.rowcount = sum(map(count, answers))
        return answers

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        if len(rows) == 1:
            self.execute(sql, rows[0])
        elif rows and isinstance(sql, Text) and sql.many:
            if sql.keys:
                rows = list({tuple(row[key] for key in sql.keys): row for row in rows}.values())
            self.execute(sql.many, list(map(array, zip(*rows, strict=True), sql.kinds)))
        elif rows:
            self._ask([(sql, row) for row in rows])

    def run(self, script: str) -> None:
        """Statements without parameters, in one journey."""
        opening, self.opening = self.opening, ()
        self._result = self._direct.script("; ".join([*opening, script]))

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Of the last statement."""
        return self._direct.rows(self._result)
