"""Which of a database's possible histories this one is: its generation, and how another begins.

Theory: a database that was restored from a copy, or promoted in place of one that failed, may lack commits that were
acknowledged. Whoever remembers them (a worker in the middle of a task, an agent with a lease) may write nothing there
on the strength of what is no more. So every token holds the generation, and where the database is found to be at
another place than the one where that was drawn, a new one begins, at once and by itself, in whichever process finds it
first. Then no token is good any more. But who holds one may be at work still, and does not know: nobody takes its tasks
before it must have stopped, so each lease counts from that moment on. What only ever grows goes on above all that may
have been given out and was forgotten: the numbers of `ctx.fence` (`floor`), and the ids of the feed.

The place of a file is its inode, for a copy is another file. PostgreSQL's: store/pg_history.py. What a running process
does that finds another generation: worker/lease.py. For a copy that can't be told from the original, `begin_anew` is a
command: `holdfast db restored`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Final

from holdfast.clock import SYSTEM
from holdfast.errors import StoreReplaced

LOOK_S: Final = 0.25  # for which a process may go on with a file that was replaced
_SINCE: Final = 1_577_836_800  # 2020: what a number of seconds counts from, so that it is small
_FEED_LEAP: Final = 1_000_000_000  # more events than can have been told and forgotten
_HELD: Final = {
    "sqlite": "worker_id IS NOT NULL",
    "postgresql": "id IN (SELECT id FROM tasks WHERE worker_id IS NOT NULL ORDER BY id FOR UPDATE)",
}
_LEAP: Final = {
    "sqlite": f"UPDATE sqlite_sequence SET seq = seq + {_FEED_LEAP} WHERE name = 'feed'",
    "postgresql": f"SELECT setval('feed_id_seq', nextval('feed_id_seq') + {_FEED_LEAP})",
}


def draw() -> str:
    """A generation that follows another."""
    return f"{int(SYSTEM.time()) - _SINCE:x}-{SYSTEM.token_hex(8)}"


def floor(generation: str) -> int:
    """What the number of every taking is at least: above all that were given before the generation began. The first
    begins at 1."""
    began, dash, _ = generation.partition("-")
    return int(began, 16) if dash else 1


def anew(dialect: str, *, generation: str, place: str, now: str) -> Iterator[str]:
    """The statements that begin a new generation. `now`: an expression."""
    yield f"UPDATE store_info SET generation = '{generation}', place = '{place}'"
    least = floor(generation)
    epoch = f"CASE WHEN epoch < {least} THEN {least} ELSE epoch + 1 END"  # a step of before has a lower one
    yield f"UPDATE tasks SET epoch = {epoch}, token = '{generation}.' || {epoch} || '.nobody' WHERE {_HELD[dialect]}"
    yield (
        f"UPDATE leases SET token = '{generation}.' || id || '.nobody', expires_at = {now} +"
        " coalesce((SELECT max(lease_s) FROM workers WHERE NOT dead), 15),"
        f" told_at = coalesce(told_at, {now})"  # or so it may have been said
        " WHERE token IS NOT NULL AND ended_at IS NULL AND closed_at IS NULL"
    )
    yield f"UPDATE workers SET heartbeat_at = {now} WHERE NOT dead"
    yield _LEAP[dialect]


# --- a file --------------------------------------------------------------------------------------------------------


def place_of(path: str) -> str | None:
    """None: there is no such file, as in memory."""
    try:
        return str(os.stat(path).st_ino)
    except OSError:
        return None


def begin_anew(cursor: Any, path: str) -> str:
    """In a transaction that the caller has begun; the new generation."""
    generation = draw()
    for statement in anew("sqlite", generation=generation, place=place_of(path) or "", now=repr(SYSTEM.time())):
        cursor.execute(statement)
    return generation


def settle(cursor: Any, path: str, generation: str) -> str:
    """The generation of a file that is being opened: another one, where it is a copy."""
    place = place_of(path)
    (known,) = cursor.execute("SELECT place FROM store_info").fetchone()
    if place is None or place == known:
        return generation
    if known is None:
        cursor.execute("UPDATE store_info SET place = ?", (place,))
        return generation
    return begin_anew(cursor, path)


class File:
    """What one that has it open knows of a file's history."""

    __slots__ = ("_looked_at", "_path", "_place", "generation")

    def __init__(self, path: str) -> None:
        self._path = path
        self._place = place_of(path)
        self._looked_at = SYSTEM.monotonic()
        self.generation = ""

    def look(self, cursor: Any) -> None:
        """Now and then, before a transaction writes. Raises: StoreReplaced."""
        now = SYSTEM.monotonic()
        if now - self._looked_at < LOOK_S or self._place is None:
            return
        self._looked_at = now
        if place_of(self._path) != self._place:
            raise StoreReplaced(
                f"{self._path} was replaced while it was in use, and what is written into the old file is lost:"
                " stop everything that uses it, and start it again"
            )
        found = cursor.execute("SELECT generation FROM store_info").fetchone()
        if found is not None:
            self.generation = str(found[0])
