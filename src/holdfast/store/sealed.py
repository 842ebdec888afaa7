"""Sealed values in the tables: whether they can be opened, and how all of them get the newest key.

Theory: the codec writes a sealed secret in one form only, which no other text can have at that place: quotes inside a
string are escaped. So it is found in the text of a row, and its token is changed without reading the rest. Rows are
looked at in their order, and changed by a few at once if they are still as they were seen; what has the newest key
already is left alone. So it can be broken off, done again, and done while others work: they seal with the newest key,
and what they copied meanwhile of what had an older one is found by the next round. A round that changes nothing is the
last.

How is sealed: seal.py. The form: core/values.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import Column, Table, bindparam, select, tuple_, update

from holdfast.core.values import SEALED
from holdfast.errors import SecretKeyMissing
from holdfast.seal import Sealer
from holdfast.store.base import Store, Tx
from holdfast.store.schema import (
    inputs,
    journal,
    leases,
    operations,
    resources,
    revisions,
    schedules,
    store_info,
    tasks,
    webhooks,
)

if TYPE_CHECKING:
    from sqlalchemy.sql import Executable

PEPPER: Final = "what requests with secrets are known by"
ROUNDS_MAX: Final = 100
ROWS: Final = 100  # of one transaction
_BARE: Final = re.compile("()(.+)")
_IN_JSON: Final = re.compile(f'({re.escape(SEALED)})([^"]+)')
_IN_TEXT_IN_JSON: Final = re.compile("({})([^\\\\]+)".format(re.escape(SEALED.replace('"', '\\"'))))


class _Place(NamedTuple):
    """A column in which there may be sealed values. `live`: only rows of tasks that have not ended are of use."""

    column: Column[Any]
    form: re.Pattern[str]
    live: bool = False

    @property
    def table(self) -> Table:
        return self.column.table


_PLACES: Final = (
    _Place(store_info.c.pepper, _BARE),
    _Place(webhooks.c.secret, _BARE),
    _Place(resources.c.desired, _IN_JSON),
    _Place(resources.c.applied, _IN_JSON),
    _Place(revisions.c.desired, _IN_JSON),
    _Place(operations.c.rules, _IN_TEXT_IN_JSON, live=True),
    _Place(schedules.c.inputs, _IN_JSON),
    _Place(inputs.c.inputs, _IN_JSON, live=True),
    _Place(journal.c.data, _IN_JSON, live=True),
    _Place(tasks.c.result, _IN_JSON, live=True),
    _Place(leases.c.work, _IN_JSON),
    _Place(leases.c.checkpoint, _IN_JSON),
    _Place(leases.c.outcome, _IN_JSON),
)


class Tally(NamedTuple):
    """`sealed`: secrets that have got the newest key. `had`: those that had it. `lost`: where there are some that no
    key opens, once each."""

    sealed: int
    had: int
    lost: list[str]


class _Seen(NamedTuple):
    key: tuple[Any, ...]
    text: str
    changed: str
    sealed: int
    had: int
    lost: int


def rotate(store: Store, sealer: Sealer, *, rows: int = ROWS, forget: bool = False) -> Tally:
    """Seal every secret with the newest key. `forget`: what fingerprints are made with, if no key opens it: there will
    be another, and requests with secrets that come again under their tags are not known to be the same.

    Raises: SecretKeyMissing: there is no key."""
    sealer.seal("")
    total = 0
    for _ in range(ROUNDS_MAX):
        sealed, had, lost = 0, 0, []
        for place in _PLACES:
            for seen in _rows(store, sealer, place, rows, live=False):
                changed = [each for each in seen if each.sealed]
                if changed:
                    sealed += store.write(partial(_change, place, changed))
                had += sum(each.had for each in seen)
                lost += [_name(place, each.key) for each in seen if each.lost]
        total += sealed
        if not sealed:
            break
    if forget and PEPPER in lost:
        lost.remove(PEPPER)
        store.write(lambda tx: tx.execute(update(store_info).values(pepper=None)))
    return Tally(total, had - total, _names(store, lost))


def lost(store: Store, sealer: Sealer) -> list[str]:
    """Where there are secrets that are of use and can't be opened."""
    found = [
        _name(place, each.key)
        for place in _PLACES
        for seen in _rows(store, sealer, place, ROWS, live=True)
        for each in seen
        if each.lost
    ]
    return _names(store, found)


# --- looking -----------------------------------------------------------------------------------------------------


def _rows(store: Store, sealer: Sealer, place: _Place, limit: int, *, live: bool) -> Iterator[list[_Seen]]:
    """The rows that have sealed values, a few at a time, with what they are to be."""
    keys = tuple(place.table.primary_key)
    statement = select(*keys, place.column.label("_text")).order_by(*keys).limit(limit)
    if place.form is not _BARE:
        statement = statement.where(place.column.contains("secret"))
    if live and place.live:
        statement = statement.where(keys[0].in_(select(tasks.c.id).where(tasks.c.finished_at.is_(None))))
    marker: tuple[Any, ...] | None = None
    while True:
        page = statement if marker is None else statement.where(tuple_(*keys) > tuple_(*marker))
        found = store.read(partial(_all, page))
        seen = [_look(sealer, place, tuple(row)[:-1], row[-1]) for row in found if row[-1] is not None]
        yield [each for each in seen if each.sealed or each.had or each.lost]
        if len(found) < limit:
            return
        marker = tuple(found[-1])[:-1]


def _all(statement: Executable, tx: Tx) -> list[Any]:
    return tx.execute(statement).all()


def _look(sealer: Sealer, place: _Place, key: tuple[Any, ...], text: str) -> _Seen:
    counts = {"sealed": 0, "had": 0, "lost": 0}

    def anew(match: re.Match[str]) -> str:
        begin, token = match.groups()
        word, token = _anew(sealer, token)
        counts[word] += 1
        return f"{begin}{token}"

    return _Seen(key, text, place.form.sub(anew, text), **counts)


def _anew(sealer: Sealer, token: str) -> tuple[str, str]:
    try:
        if sealer.is_newest(token):
            return "had", token
        text = sealer.unseal(token)
    except SecretKeyMissing:
        return "lost", token
    # What is sealed may have secrets in it.
    return "sealed", sealer.seal(_IN_JSON.sub(lambda match: match[1] + _anew(sealer, match[2])[1], text))


def _name(place: _Place, key: tuple[Any, ...]) -> str:
    if place.table is resources or place.table is revisions:
        return f"{key[0]}/{key[1]}"
    if place.table is store_info:
        return PEPPER
    if place.table is leases:
        return f"lease {key[0]}"
    word = "webhook" if place.table is webhooks else "schedule" if place.table is schedules else "task"
    return f"{word} {key[0]}"


def _names(store: Store, found: list[str]) -> list[str]:
    """Each once; tasks as the world knows them."""
    ids = {int(name.split()[1]) for name in found if name.startswith("task ")}
    known = select(tasks.c.id, tasks.c.uuid).where(tasks.c.id.in_(sorted(ids)))
    uuids = {f"task {row.id}": f"task {row.uuid}" for row in store.read(lambda tx: tx.execute(known).all())}
    return list(dict.fromkeys(uuids.get(name, name) for name in found))


# --- changing ----------------------------------------------------------------------------------------------------


def _change(place: _Place, rows: list[_Seen], tx: Tx) -> int:
    """How many secrets that were: what somebody else has changed meanwhile is left to the next round."""
    keys = tuple(place.table.primary_key)
    names = [f"_{number}" for number in range(len(keys))]
    statement = (
        update(place.table)
        .where(*(key == bindparam(name) for key, name in zip(keys, names, strict=True)))
        .where(place.column == bindparam("_was"))
        .values({place.column: bindparam("_is")})
    )
    done = 0
    for each in rows:
        where = dict(zip(names, each.key, strict=True))
        done += each.sealed * tx.execute(statement, {**where, "_was": each.text, "_is": each.changed}).rowcount
    return done
