"""The store: what Holdfast remembers. `open_store` is the way in.

The seam every database implements is in base.py, the tables in schema.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.store.place import is_postgresql, lock_prefix, redacted, sqlite_path

if TYPE_CHECKING:
    from holdfast.clock import Clock
    from holdfast.store.base import Store


def open_store(url: str, **options: Any) -> Store:
    """The store at `url`; a new database gets its tables unless `create=False`.

    Options: busy_timeout_s, batch_max, create, look_s; of SQLite also synchronous "full" or "normal", connect; of
    PostgreSQL also away_s, how long a write waits for a database that is away, and doubt_s, how long it finds out what
    became of a commit.
    Raises DatabaseUrlInvalid, SchemaOlder, SchemaNewer, StoreUnwritable, StoreBusy, StoreCorrupt, StoreFull, StoreAway.
    """
    if is_postgresql(url):
        from holdfast.store.postgres import PostgresStore

        return PostgresStore(url, **options)
    path = sqlite_path(url)
    from holdfast.store.sqlite import SqliteStore

    return SqliteStore(path, **options)


def keep_time(store: Store, clock: Clock) -> None:
    """Set the clock by the database's, where machines with clocks of their own share it: what one of them says of time,
    as when a task is due, others go by."""
    clock.set_by(lambda now: store.read(lambda tx: tx.now(now)))


__all__ = ["is_postgresql", "keep_time", "lock_prefix", "open_store", "redacted", "sqlite_path"]
