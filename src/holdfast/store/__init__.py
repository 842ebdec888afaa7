"""The store: what Holdfast remembers. `open_store` is the way in.

The seam every database implements is in base.py, the tables in schema.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.errors import DatabaseUrlInvalid

if TYPE_CHECKING:
    from holdfast.store.base import Store


def sqlite_path(url: str) -> str:
    """The file that `sqlite:///FILE` names, or `:memory:`. Raises DatabaseUrlInvalid."""
    scheme, separator, path = url.partition("://")
    if scheme != "sqlite" or not separator:
        raise DatabaseUrlInvalid(
            f"{url!r} can't be used: sqlite:///FILE, sqlite:////ABSOLUTE/FILE or sqlite:///:memory:"
        )
    if path in ("", "/", "/:memory:"):
        return ":memory:"
    if not path.startswith("/") or "?" in path or "\0" in path:
        raise DatabaseUrlInvalid(f"{url!r} can't be used: sqlite:///FILE or sqlite:////ABSOLUTE/FILE, with no options")
    return path[1:]


def open_store(url: str, **options: Any) -> Store:
    """The store at `url`; a new database is made there unless `create=False`.

    Options (SQLite): synchronous "full" or "normal", busy_timeout_s, batch_max, create, look_s, connect.
    Raises DatabaseUrlInvalid, SchemaOlder, SchemaNewer, StoreUnwritable, StoreBusy, StoreCorrupt, StoreFull.
    """
    path = sqlite_path(url)
    from holdfast.store.sqlite import SqliteStore

    return SqliteStore(path, **options)
