"""An append as one statement: guards, rows and the commit in one journey to the server and back.

Theory: a statement by itself is a transaction. So all that an append writes hangs on its guard, in one WITH: the UPDATE
that takes the task's lock and checks its token and seq gives a row or none, and what follows is inserted FROM that row.
Of many appends those whose tokens and seqs hold are counted first; where one is missing nothing is written, and the
writer finds out which in a transaction of the usual kind. The UPDATEs then ask for the same again, and wait for who has
a row: where one finds its row changed since, the statement fails as a whole. The session's number is written by the
same statement, for who has to ask what became of it (store/pg_session.py). What is told waits for its turn as there.

A text is made for each shape of batch and kept. Among many tasks the server looks for rows by a join, whose plan is
good for the size that the table has when it is made; so the text says how long the ids are by now, and while the table
is small, it is planned anew whenever they have grown by three bits.

What is written at all, and by every database: store/appends.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import BigInteger, Boolean, Float, Integer

from holdfast.store.appends import JOURNAL_COLUMNS, STEP_COLUMNS
from holdfast.store.base import Append, FeedRow
from holdfast.store.pg_driver import array
from holdfast.store.schema import feed, journal, steps, tasks

FEED_LOCK: Final = 0x686F6C6466656564  # held from before the first id of the feed is drawn until the commit
SHAPES_MAX: Final = 256  # whose texts are kept
BITS: Final = 3  # of ids: for a table that has grown eightfold it is planned anew
BITS_MAX: Final = 12  # from there on no plan reads the whole table
ROWS_MAX: Final = 4  # of one append that are spelled out: cheaper than arrays

_GUARD: Final = (
    "guard AS MATERIALIZED (SELECT 1 FROM {patient}{given} AS given (id, token, seen) JOIN tasks"
    " ON tasks.id = given.id AND tasks.token = given.token AND tasks.seq = given.seen HAVING count(*) = {count})"
)
_MOVED: Final = (
    "moved{place} AS (UPDATE tasks SET {changes} FROM guard, {given} AS given ({names})"
    " WHERE tasks.id = given.id AND tasks.token = given.token AND tasks.seq = given.seen RETURNING 1)"
)
#: Not extract(epoch …), as elsewhere: that is a numeric, which takes longer.
_NUMBER: Final = (
    "number AS (INSERT INTO writers (id, number, fence, at)"
    " SELECT {id}, {number}, 0, date_part('epoch', now()) FROM guard"
    " ON CONFLICT (id) DO UPDATE SET at = excluded.at, number ="
    # The division fails, on purpose: somebody has found out that this was never committed, or a row has changed since.
    " CASE WHEN writers.fence < excluded.number{moved} THEN excluded.number"
    " ELSE 1 / (writers.fence - writers.fence) END)"
)
_SET: Final = ", ".join(f"{name} = excluded.{name}" for name in STEP_COLUMNS if name not in ("task", "ord"))


def _kind(column: Any) -> str:
    if isinstance(column.type, Boolean):
        return "bool"
    if isinstance(column.type, Float):
        return "float8"
    return "int8" if isinstance(column.type, BigInteger | Integer) else "text"


_KINDS: Final = {column.name: _kind(column) for column in tasks.c}
_JOURNAL_KINDS: Final = tuple(_kind(journal.c[name]) for name in JOURNAL_COLUMNS)
FEED_KINDS: Final = tuple(_kind(feed.c[name]) for name in FeedRow._fields)
_STEP_KINDS: Final = tuple("int4" if name in ("ord", "attempt") else _kind(steps.c[name]) for name in STEP_COLUMNS)


class _More(NamedTuple):
    """What not all appends have: rows of `steps`, rows of the journal that go, rows of the feed; settings of its own
    for the transaction."""

    steps: bool
    folded: bool
    news: bool
    settings: bool


_PLAIN: Final = _More(steps=False, folded=False, news=False, settings=False)
#: What appends write alike: the columns of `tasks`, and whether their steps are told.
_Columns = tuple[tuple[str, ...], bool]


class Writing:
    """Of one session: its texts. `id`: of the session. `always`: what goes with a statement's own settings, as SQL."""

    __slots__ = ("_always", "_id", "_texts")

    def __init__(self, id: str, always: str = "") -> None:
        self._id = id
        self._always = always
        self._texts: dict[Any, str] = {}

    def of(self, batch: Sequence[Append], number: int, lock_ms: int | None = None) -> tuple[str, list[Any]]:
        """The text and its values. It writes rows of the journal, or nothing at all. `lock_ms`: for which it
        waits for a lock; None: as its connection does."""
        if len(batch) == 1:
            text, values = self._one(batch[0], [self._id, number], lock_ms is not None)
        else:
            ordered = sorted(batch, key=lambda one: one.task)
            text, values = self._many(ordered, [self._id, number], lock_ms is not None)
        if lock_ms is not None:
            values.append(f"{lock_ms}ms")
        return text, values

    def _one(self, one: Append, values: list[Any], settings: bool) -> tuple[str, list[Any]]:
        columns = tuple(one.projection) if one.projection else ()
        count = len(one.facts) + len(one.decisions)
        more = _PLAIN
        if one.steps_all or one.folded or one.news or settings:
            more = _More(bool(one.steps_all), bool(one.folded), bool(one.news), settings)
        values += (one.task, one.token, one.seen, count)
        if one.projection:
            values += one.projection.values()
        if count <= ROWS_MAX:
            for row in (*one.facts, *one.decisions):
                values += row
        else:
            values += arrays(_rows((one,)), _JOURNAL_KINDS)
            count = -1
        key = (columns, count, more)
        text = self._texts.get(key) or self._keep(key, self._text_of_one(*key))
        if more is not _PLAIN:
            values += _values_of(more, (one,))
        return text, values

    def _text_of_one(self, columns: tuple[str, ...], count: int, more: _More) -> str:
        at = _Places(6)
        changes = [*(f"{name} = {at.next(_KINDS[name])}" for name in columns), *_moves("$6::int8", more.steps)]
        guard = (
            f"guard AS (UPDATE tasks SET {', '.join(changes)}{' FROM patient' if more.settings else ''}"
            " WHERE tasks.id = $3::int8 AND tasks.token = $4::text AND tasks.seq = $5::int8 RETURNING 1)"
        )
        if count < 0:
            given = at.unnest(_JOURNAL_KINDS)
        else:
            spelled = (
                f"($3::int8, $5::int8 + {place}, {', '.join(at.next(kind) for kind in _JOURNAL_KINDS[2:])})"
                for place in range(1, count + 1)
            )
            given = f"(VALUES {', '.join(spelled)})"
        return self._whole(guard, given, at, more)

    def _many(self, ordered: Sequence[Append], values: list[Any], settings: bool) -> tuple[str, list[Any]]:
        groups: dict[_Columns, list[Append]] = {}
        for one in ordered:
            groups.setdefault((tuple(one.projection or ()), bool(one.steps_all)), []).append(one)
        values.append(len(ordered))
        values += arrays([(one.task, one.token, one.seen) for one in ordered], ("int8", "text", "int8"))
        shapes = sorted(groups)
        for columns, tells in shapes:
            members = groups[columns, tells]
            kinds = ("int8", "text", "int8", "int8", *(_KINDS[name] for name in columns))
            values += arrays(
                [
                    (
                        one.task,
                        one.token,
                        one.seen,
                        len(one.facts) + len(one.decisions),
                        *(one.projection or {}).values(),
                    )
                    for one in members
                ],
                kinds,
            )
        values += arrays(_rows(ordered), _JOURNAL_KINDS)
        steps, folded, news = zip(
            *((bool(one.steps_all), bool(one.folded), bool(one.news)) for one in ordered), strict=True
        )
        more = _More(any(steps), any(folded), any(news), settings)
        key = (tuple(shapes), more, min(ordered[-1].task.bit_length(), BITS_MAX) // BITS)
        text = self._texts.get(key) or self._keep(key, self._text_of_many(*key))
        return text, values + _values_of(more, ordered)

    def _text_of_many(self, groups: tuple[_Columns, ...], more: _More, length: int) -> str:
        at = _Places(3)
        patient = "patient, " if more.settings else ""
        guards = [_GUARD.format(patient=patient, given=at.unnest(("int8", "text", "int8")), count="$3::int8")]
        for place, (columns, tells) in enumerate(groups):
            given = at.unnest(("int8", "text", "int8", "int8", *(_KINDS[name] for name in columns)))
            changes = [*(f"{name} = given.c{name}" for name in columns), *_moves("given.n", tells)]
            names = ", ".join(("id", "token", "seen", "n", *(f"c{name}" for name in columns)))
            guards.append(_MOVED.format(place=place, changes=", ".join(changes), given=given, names=names))
        moved = " + ".join(f"(SELECT count(*) FROM moved{place})" for place in range(len(groups)))
        text = self._whole(", ".join(guards), at.unnest(_JOURNAL_KINDS), at, more, moved=f" AND {moved} = $3::int8")
        return f"{text} /* {length} */"

    def _whole(self, guard: str, rows: str, at: _Places, more: _More, *, moved: str = "") -> str:
        parts = [guard]
        if more.steps:
            parts.append(
                f"told AS (INSERT INTO steps ({', '.join(STEP_COLUMNS)}) SELECT given.* FROM guard,"
                f" {at.unnest(_STEP_KINDS)} AS given ON CONFLICT (task, ord) DO UPDATE SET {_SET})"
            )
        if more.folded:
            given = at.unnest(("int8", "int8"))
            parts.append(
                f"old AS (DELETE FROM journal USING guard, {given} AS given (task, seq)"
                " WHERE journal.task = given.task AND journal.seq = given.seq)"
            )
        if more.news:
            given = at.unnest(FEED_KINDS)
            names = ", ".join(FeedRow._fields)
            # The first is done last (ExecInitModifyTable of PostgreSQL): others wait for this lock.
            parts[1:1] = [
                f"turn AS MATERIALIZED (SELECT pg_advisory_xact_lock({FEED_LOCK}) FROM guard)",
                f"news AS (INSERT INTO feed ({names}) SELECT given.* FROM turn, {given} AS given)",
            ]
        parts.append(_NUMBER.format(id="$1::text", number="$2::int8", moved=moved))
        if more.settings:
            wait = f"set_config('lock_timeout', {at.next('text')}, true)"
            parts.insert(0, f"patient AS MATERIALIZED (SELECT {wait}{self._always})")
        names = ", ".join(JOURNAL_COLUMNS)
        return f"WITH {', '.join(parts)} INSERT INTO journal ({names}) SELECT given.* FROM guard, {rows} AS given"

    def _keep(self, key: Any, text: str) -> str:
        if len(self._texts) >= SHAPES_MAX:
            self._texts.clear()
        self._texts[key] = text
        return text


class _Places:
    """The parameters of a text, numbered as they come."""

    __slots__ = ("_last",)

    def __init__(self, last: int) -> None:
        self._last = last

    def next(self, kind: str) -> str:
        self._last += 1
        return f"${self._last}::{kind}"

    def unnest(self, kinds: Sequence[str]) -> str:
        return f"unnest({', '.join(self.next(f'{kind}[]') for kind in kinds)})"


def _moves(count: str, told: bool) -> list[str]:
    return [f"seq = tasks.seq + {count}", *([f"steps_seq = tasks.seq + {count}"] if told else [])]


def _rows(batch: Sequence[Append]) -> list[tuple[Any, ...]]:
    """Those of the journal."""
    rows: list[tuple[Any, ...]] = []
    for one in batch:
        task, seq = one.task, one.seen
        for row in one.facts:
            seq += 1
            rows.append((task, seq, *row))
        for row in one.decisions:
            seq += 1
            rows.append((task, seq, *row))
    return rows


def _values_of(more: _More, batch: Sequence[Append]) -> list[Any]:
    values: list[Any] = []
    if more.steps:
        shown = {(one.task, row.ord): (one.task, *row) for one in batch for row in one.steps_all}
        values += arrays(list(shown.values()), _STEP_KINDS)
    if more.folded:
        values += arrays([(one.task, seq) for one in batch for seq in one.folded], ("int8", "int8"))
    if more.news:
        values += arrays([row for one in batch for row in one.news], FEED_KINDS)
    return values


def arrays(rows: Sequence[Sequence[Any]], kinds: Sequence[str]) -> list[str]:
    """One for each column."""
    return [array(column, kind) for column, kind in zip(zip(*rows, strict=True), kinds, strict=True)]
