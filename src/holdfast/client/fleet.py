"""Calls about workers, pools and what agents run, for administrators.

What a call yields, and who does it: protocol.py.
"""

from __future__ import annotations

from typing import Any

from holdfast.client.protocol import Call, Ways, ask, ask_json, document, member, pages, path_of
from holdfast.client.tasks import Document


def workers(ways: Ways, /, *, pool: str | None = None) -> Call[list[Document]]:
    """The workers that nobody has found dead, the oldest first, with what they do now."""
    query = None if pool is None else {"pool": pool}
    return list(member((yield from ask_json(ways, path_of("workers"), query)), "workers"))


def leases(ways: Ways, /, *, pool: str | None = None, limit: int | None = None) -> Call[None]:
    """What agents run, or are to run, the oldest first, at most `limit`."""
    query = {"pool": pool, "limit": None if limit is None else max(1, min(limit, 1000))}
    return pages(ways, path_of("leases"), "leases", query, limit)


def pools(ways: Ways, /) -> Call[list[Document]]:
    """Every pool, by name: its limits, and what waits in it."""
    return list(member((yield from ask_json(ways, path_of("pools"))), "pools"))


def get(ways: Ways, /, pool: str) -> Call[Document]:
    """One pool."""
    return dict(member((yield from ask_json(ways, path_of("pools", pool))), "pool"))


def limit(ways: Ways, /, pool: str, **limits: int | None) -> Call[Document]:
    """Set `running_max`, how many of its tasks workers may have at once, or `queued_max`, how many may wait to be
    begun. None: no limit. The pool is made if it isn't there."""
    return _one((yield from ask(ways, "PUT", path_of("pools", pool), body=limits)))


def pause(ways: Ways, /, pool: str) -> Call[Document]:
    """Take none of its tasks from now on. What runs goes on."""
    return _one((yield from ask(ways, "POST", path_of("pools", pool, "pause"))))


def resume(ways: Ways, /, pool: str) -> Call[Document]:
    """Take its tasks again."""
    return _one((yield from ask(ways, "POST", path_of("pools", pool, "resume"))))


def drain(ways: Ways, /, pool: str) -> Call[Document]:
    """Take none of its tasks, and hand over what runs at the end of each step."""
    return _one((yield from ask(ways, "POST", path_of("pools", pool, "drain"))))


def _one(reply: Any) -> Document:
    return dict(member(document(reply), "pool"))
