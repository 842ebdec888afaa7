"""What the service says of itself: versions, health, the meaning of its errors."""

from __future__ import annotations

from typing import Any, Final

from holdfast import __version__
from holdfast.errors import HoldfastError
from holdfast.service import problems
from holdfast.service.app import Service
from holdfast.service.problems import NotReady, PageNotFound
from holdfast.service.requests import VERSION_MAX, VERSION_MIN, Ask
from holdfast.service.routes import Answer, Route
from holdfast.tasks import listing
from holdfast.tasks.tags import TAG_CHARS_MAX

READY_S: Final = 2.0  # for which the database may think: who balances loads asks often, and has little patience


def routes(service: Service) -> list[Route]:
    return [
        Route("GET", "/", versions, None, "The versions that are served", answers={200: "VersionList"}, limited=False),
        Route("GET", "/v3", version, None, "This version, its limits and retention", answers={200: "VersionOne"},
              limited=False),
        Route("GET", "/healthz", health, None, "Whether the process answers", answers={200: "Health"}, limited=False),
        Route("GET", "/readyz", readiness, None, "Whether it can read its database, and is not stopping",
              answers={200: "Health", 503: "Problem"}, limited=False),
        Route("GET", "/errors/{code}", error_page, None, "What the code of an error means",
              answers={200: "ErrorPage", 404: "Problem"}, limited=False),
    ]  # fmt: skip


def _entry(service: Service) -> dict[str, Any]:
    settings = service.settings
    return {
        "id": "v3.0",
        "status": "CURRENT",
        "min_version": ".".join(map(str, VERSION_MIN)),
        "max_version": ".".join(map(str, VERSION_MAX)),
        "version": ".".join(map(str, VERSION_MAX)),
        "links": [{"rel": "self", "href": "/v3"}, {"rel": "describedby", "href": "/openapi.json"}],
        "holdfast": __version__,
        "retention": {"tasks_s": settings.retention_s, "tags_s": settings.retention_s},
        "limits": {
            "body_bytes_max": settings.body_bytes_max,
            "header_bytes_max": settings.header_bytes_max,
            "value_bytes_max": settings.value_bytes_max,
            "wait_s_max": settings.wait_s_max,
            "limit_max": listing.LIMIT_MAX,
            "limit_default": listing.LIMIT,
            "tag_chars_max": TAG_CHARS_MAX,
            "rate": settings.rate_limit,
        },
    }


async def versions(ask: Ask) -> Answer:
    return Answer(body={"versions": [_entry(ask.service)]})


async def version(ask: Ask) -> Answer:
    return Answer(body={"version": _entry(ask.service)})


async def health(ask: Ask) -> Answer:
    return Answer(body={"status": "ok"}, headers=[("Cache-Control", "no-store")])


async def readiness(ask: Ask) -> Answer:
    if ask.service.stopping:
        raise NotReady("the service is stopping: ask another")
    try:
        ask.service.hold.store.changes()
        await ask.service.bridge.read(
            lambda tx: listing.counts(tx, listing.Filter(project_id="", state="pending")), timeout_s=READY_S
        )
    except Exception as error:  # whatever it is: who asks is told to go elsewhere, and a log has the rest
        problems.log.error("not ready: the database can't be read", exc_info=error)
        why = error.code if isinstance(error, HoldfastError) else type(error).__name__
        raise NotReady(f"the database can't be read ({why})") from error
    return Answer(body={"status": "ok"}, headers=[("Cache-Control", "no-store")])


async def error_page(ask: Ask) -> Answer:
    code = ask.path["code"]
    if len(code) > 100:
        raise PageNotFound
    return Answer(body=problems.page(code))
