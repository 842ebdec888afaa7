"""Calls about schedules: what is to be asked for again and again.

What a call yields, and who does it: protocol.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from holdfast.client.protocol import Call, Ways, ask, ask_json, document, member, pages, path_of
from holdfast.client.tasks import Document, claims_sent


def create(
    ways: Ways,
    /,
    name: str,
    cron: str,
    task: str,
    params: Mapping[str, Any] | None = None,
    *,
    timezone: str | None = None,
    catch_up: str | None = None,
    overlap: str | None = None,
    resource: Mapping[str, str | None] | None = None,
    claims: Iterable[str | tuple[str, str]] | None = None,
    priority: int | None = None,
) -> Call[Document]:
    """Have a task asked for at each moment of a cron expression. The same again is the same schedule, so that it may be
    sent twice; another of that name is refused. What may be None is the service's to choose.

    Raises: ScheduleExists, ScheduleInvalid."""
    said = {
        "name": name, "cron": cron, "task": task, "params": dict(params or {}), "timezone": timezone,
        "catch_up": catch_up, "overlap": overlap, "resource": None if resource is None else dict(resource),
        "claims": None if claims is None else claims_sent(claims), "priority": priority,
    }  # fmt: skip
    body = {key: value for key, value in said.items() if value is not None}
    return _one((yield from ask(ways, "POST", path_of("schedules"), body=body)))


def schedules(ways: Ways, /, *, limit: int | None = None, **filters: Any) -> Call[None]:
    """Every schedule of the project, the oldest first, at most `limit`."""
    query = {**filters, "limit": None if limit is None else max(0, min(limit, 1000))}
    return pages(ways, path_of("schedules"), "schedules", query, limit)


def get(ways: Ways, /, schedule: str) -> Call[Document]:
    """One schedule, by its id or its name: what it asks for, when next, and what became of its last moments."""
    return dict(member((yield from ask_json(ways, path_of("schedules", schedule))), "schedule"))


def pause(ways: Ways, /, schedule: str) -> Call[Document]:
    """Ask for nothing until it is resumed. Its tasks go on."""
    return _one((yield from ask(ways, "POST", path_of("schedules", schedule, "pause"))))


def resume(ways: Ways, /, schedule: str) -> Call[Document]:
    """Go on with its next moment; those of the pause are not caught up with."""
    return _one((yield from ask(ways, "POST", path_of("schedules", schedule, "resume"))))


def remove(ways: Ways, /, schedule: str) -> Call[None]:
    """Ask for nothing more. Its tasks go on."""
    yield from ask(ways, "DELETE", path_of("schedules", schedule))


def _one(reply: Any) -> Document:
    return dict(member(document(reply), "schedule"))
