"""The routes of the event feed: a page of it, or a stream.

Both are the one log, behind the same ids (feed/log.py); who may see which events is decided here, by project. No event
holds a traceback or a host (tasks/tell.py).
"""

from __future__ import annotations

import json
from typing import Any, Final

from holdfast.feed import log, shape
from holdfast.feed.log import Filter
from holdfast.service import paging, view
from holdfast.service.app import Service
from holdfast.service.requests import Ask
from holdfast.service.routes import BOOLEAN, JSON, STREAM, Answer, Param, Route, Schema
from holdfast.store.base import Tx
from holdfast.tasks.row import TaskRow
from holdfast.tasks.tell import TYPES

STREAM_HEADERS: Final = (("Cache-Control", "no-store"), ("X-Accel-Buffering", "no"))

#: The body of a page: CloudEvents.
PAGE: Final[Schema] = {
    "type": "object",
    "required": ["events", "last", "links"],
    "properties": {
        "events": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["specversion", "id", "source", "type", "subject", "time", "datacontenttype", "data"],
                "properties": {
                    "specversion": {"const": "1.0"},
                    "id": {"type": "string"},
                    "source": {"type": "string"},
                    "type": {"enum": list(TYPES)},
                    "subject": {"type": "string"},
                    "time": {"type": "string", "format": "date-time"},
                    "datacontenttype": {"const": "application/json"},
                    "data": {"type": "object"},
                },
            },
        },
        "last": {"type": "string"},
        "links": {"type": "array", "items": {"type": "object"}},
    },
}

AFTER: Final = Param(
    "after", "the id of the last event seen; 0: as far back as events are kept", {"type": "integer", "minimum": 0}
)
LIMIT: Final = Param(
    "limit",
    f"how many at once; not for streams; more than {log.LIMIT_MAX} is that",
    {"type": "integer", "minimum": 1},
)
TYPE: Final = Param("type", f"only these, with commas between: {', '.join(TYPES)}")


class Feed:
    """The handlers."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.hub = service.hub

    async def events(self, ask: Ask) -> Answer:
        """Of a project, or of all."""
        task = ask.text("task")

        def wanted(tx: Tx) -> Filter:
            return Filter(
                project=paging.project(ask),
                task=view.find(tx, ask, task).id if task else None,
                resource=ask.text("resource_id") or None,
                types=log.types_of(ask.text("type")),
            )

        filter = await self.service.bridge.read(wanted)
        if not _streams(ask):
            return await self._page(ask, filter)
        after = _after(ask)
        if after is not None:
            await self.service.bridge.read(lambda tx: log.check(tx, after))
        return _stream(self.hub.frames(filter, after))

    async def events_of_task(self, ask: Ask) -> Answer:
        """From its beginning to its end."""

        def found(tx: Tx) -> tuple[TaskRow, log.Entry | None]:
            at = view.find(tx, ask, ask.path["task"])
            return at, log.end_of(tx, at.id) if view.is_final(at) else None

        at, end = await self.service.bridge.read(found)
        types = log.types_of(ask.text("type"))
        if not _streams(ask):
            return await self._page(ask, Filter(task=at.id, types=types))
        after = _after(ask) or 0
        if view.is_final(at) and (end is None or after >= end.id):
            return Answer(204)  # an EventSource comes back until it is told that there is no more
        await self.service.bridge.read(lambda tx: log.check(tx, after))
        return _stream(self.hub.frames(Filter(task=at.id), after, until_end=True, types=types or log.EVERY))

    async def _page(self, ask: Ask, filter: Filter) -> Answer:
        after = _after(ask) or 0
        limit = ask.integer("limit", log.LIMIT, least=1, most=log.LIMIT_MAX)

        def read(tx: Tx) -> bytes:
            found = log.read(tx, after, limit=limit, filter=filter)
            last = found[-1].id if len(found) == limit else max(log.newest(tx), after)
            shown = ",".join(map(shape.text_of, found))
            links = json.dumps(paging.next_link(ask, str(last), name="after"))
            return f'{{"events":[{shown}],"last":"{last}","links":{links}}}'.encode()

        return Answer(200, await self.service.bridge.read_long(read))


def _streams(ask: Ask) -> bool:
    return STREAM in ask.headers.get("accept", "").lower()


def _stream(frames: Any) -> Answer:
    return Answer(200, None, STREAM_HEADERS, STREAM, frames)


def _after(ask: Ask) -> int | None:
    """The last event that the asker has seen. A browser that comes back says it in a header, and its URL is still the
    first one. Raises: UsageError."""
    given = ask.headers.get("last-event-id", "").strip() or ask.text("after")
    return log.id_of(given) if given else None


def routes(service: Service) -> list[Route]:
    feed = Feed(service)
    what = (
        AFTER, LIMIT, TYPE,
        Param("resource_id", "only of this resource"),
        Param("task", "only of this task"),
        Param("all_projects", "of every project: for administrators", BOOLEAN),
        Param("project_id", "of another project: for administrators"),
    )  # fmt: skip
    media = (JSON, STREAM)
    return [
        Route("GET", "/v3/events", feed.events, "events:read", "What happened, as a page or as a stream",
              query=what, answers={200: PAGE, 404: "Problem", 410: "Problem"}, media=media),
        Route("GET", "/v3/tasks/{task}/events", feed.events_of_task, "events:read",
              "What happened to one task, until its end", query=(AFTER, LIMIT, TYPE),
              answers={200: PAGE, 204: None, 404: "Problem", 410: "Problem"}, media=media),
    ]  # fmt: skip
