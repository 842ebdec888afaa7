"""The log of what has happened: read it behind an id, and follow it.

Theory: the log is the one source; the library's listener, the polled list, the streams and the webhooks all read it by
id, so they tell the same events in the same order, and whoever names the last id it has seen goes on there with
neither gap nor repeat. What is purged is always the oldest part, and the newest event stays, so that the oldest id
tells whether an id is too old (tasks/retention.py).

Who writes: tasks/tell.py. An event as others see it: feed/shape.py. Many listeners at once: feed/hub.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from sqlalchemy import bindparam, func, select
from sqlalchemy.sql import Select

from holdfast.errors import EventsGone, HoldfastClosed, UsageError
from holdfast.store.base import Store, Tx
from holdfast.store.schema import feed
from holdfast.tasks.tell import STATE, TYPES, is_end

LIMIT: Final = 100
LIMIT_MAX: Final = 1000
ID_DIGITS_MAX: Final = 18
_LOOK_S: Final = 3600.0


class Entry(NamedTuple):
    """One event. `subject` says what it is about, as `tasks/<uuid>`; `text` is its data, as JSON."""

    id: int
    at: float
    type: str
    project_id: str
    task: int | None
    subject: str
    resource: str | None
    text: str

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.text)
        return found

    @property
    def is_end(self) -> bool:
        """Whether it is the end of its task."""
        return self.type == STATE and is_end(self.type, self.data)


class Filter(NamedTuple):
    """Which events. `project`: None is all of them; `task`: the task's row; `types`: empty is all of them."""

    project: str | None = None
    task: int | None = None
    resource: str | None = None
    types: frozenset[str] = frozenset()

    def wants(self, entry: Entry) -> bool:
        return (
            (self.project is None or entry.project_id == self.project)
            and (self.task is None or entry.task == self.task)
            and (self.resource is None or entry.resource == self.resource)
            and (not self.types or entry.type in self.types)
        )


ALL: Final = Filter()
EVERY: Final = frozenset(TYPES)

_COLUMNS: Final = [feed.c[name] for name in ("id", "at", "type", "project_id", "task", "subject", "resource", "data")]
_BEHIND: Final = (
    select(*_COLUMNS)
    .where(feed.c.id > bindparam("_after"), feed.c.id <= bindparam("_until"))
    .order_by(feed.c.id)
    .limit(bindparam("_limit"))
)
_OLDEST: Final = select(func.min(feed.c.id))
_NEWEST: Final = select(func.max(feed.c.id))
_END_OF: Final = (
    select(*_COLUMNS).where(feed.c.task == bindparam("_task"), feed.c.type == STATE).order_by(feed.c.id.desc()).limit(1)
)
_FOREVER: Final = (1 << 63) - 1
_kept: dict[tuple[bool, bool, bool, int], Select[Any]] = {}


def read(tx: Tx, after: int = 0, *, limit: int = LIMIT, filter: Filter = ALL, until: int | None = None) -> list[Entry]:
    """The events behind `after` (and up to `until`), the oldest first, at most `limit`.

    Raises: EventsGone: some of those behind `after` are no longer kept. 0 is always good: as far back as there is.
    """
    check(tx, after)
    return behind(tx, after, limit=limit, filter=filter, until=until)


def behind(tx: Tx, after: int, *, limit: int = LIMIT, filter: Filter = ALL, until: int | None = None) -> list[Entry]:
    """`read`, for who knows that nothing behind `after` has been purged."""
    values: dict[str, Any] = {
        "_after": after,
        "_until": _FOREVER if until is None else until,
        "_limit": min(limit, LIMIT_MAX),
        "_project": filter.project,
        "_task": filter.task,
        "_resource": filter.resource,
    }
    if filter.types:
        values["_types"] = sorted(filter.types)
    return [Entry._make(found) for found in tx.execute(_select(filter), values).all()]


def _select(filter: Filter) -> Select[Any]:
    """One statement for each set of columns that is asked for, so that it is compiled once."""
    key = (filter.project is not None, filter.task is not None, filter.resource is not None, bool(filter.types))
    found = _kept.get(key)
    if found is None:
        found = _BEHIND
        for is_asked, column, name in zip(key, ("project_id", "task", "resource"), _NAMES, strict=False):
            if is_asked:
                found = found.where(feed.c[column] == bindparam(name))
        if filter.types:
            found = found.where(feed.c.type.in_(bindparam("_types", expanding=True)))
        _kept[key] = found
    return found


_NAMES: Final = ("_project", "_task", "_resource")


def check(tx: Tx, after: int) -> None:
    """Raises: EventsGone: who has seen `after` has missed something, or never saw it in this log."""
    if after <= 0:
        return
    first, last = oldest(tx), newest(tx)
    if first is not None and after < first - 1:
        raise EventsGone(
            f"events are kept from {first} on, and {after} is older: read what there is, and go on from there",
            oldest=first,
        )
    if after > last:
        raise EventsGone(
            f"the last event is {last}, and {after} was never told here: read what there is, and go on from there",
            oldest=first,
        )


def oldest(tx: Tx) -> int | None:
    """The oldest id that is kept; None: nothing was ever told."""
    found: int | None = tx.execute(_OLDEST).scalar()
    return found


def newest(tx: Tx) -> int:
    """The id of the last event; 0: nothing was ever told."""
    return int(tx.execute(_NEWEST).scalar() or 0)


def end_of(tx: Tx, task: int) -> Entry | None:
    """The event of the task's end, if it has ended and that is still kept."""
    found = tx.execute(_END_OF, {"_task": task}).first()
    entry = None if found is None else Entry._make(found)
    return entry if entry is not None and entry.is_end else None


def types_of(words: str | None) -> frozenset[str]:
    """`task.state,task.step` as a set. Raises: UsageError: a word that is none of them."""
    found = frozenset(word.strip() for word in (words or "").split(",") if word.strip())
    if unknown := sorted(found - set(TYPES)):
        raise UsageError(f"{', '.join(unknown)}: no such type of event; there are {', '.join(TYPES)}")
    return found


def id_of(text: str) -> int:
    """The id of an event, as others send it back. Raises: UsageError."""
    if not text.isascii() or not text.isdigit() or len(text) > ID_DIGITS_MAX:
        raise UsageError(f"the id of an event is a number, not {text[:40]!r}")
    return int(text)


def follow(store: Store, after: int = 0, *, filter: Filter = ALL, wait: bool = True) -> Iterator[Entry]:
    """The events behind `after`, and with `wait` those to come, until the store is closed; those of one task until
    its end. Raises: EventsGone."""
    while True:
        try:
            seen = store.changes() if wait else 0
            found, newest_id = store.read(lambda tx, after=after: (read(tx, after, filter=filter), newest(tx)))  # type: ignore[misc]
            for entry in found:
                yield entry
                if filter.task is not None and entry.is_end:
                    return
            if len(found) == LIMIT:
                after = found[-1].id
                continue
            after = max(newest_id, after)
            if not wait:
                return
            store.wait(seen, _LOOK_S)
        except HoldfastClosed:
            return
