"""The routes of tasks: ask for one, list them, look at one. The verbs: verbs.py."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from holdfast.service import view
from holdfast.service.app import Service
from holdfast.service.offers import Offers
from holdfast.service.problems import RequestInvalid
from holdfast.service.requests import Ask
from holdfast.service.routes import Answer, Param, Route
from holdfast.store.base import Tx
from holdfast.tasks import query, submit
from holdfast.tasks.claims import claims_of

PRIORITY_MAX: Final = 1_000_000


class ClaimAsked(msgspec.Struct, forbid_unknown_fields=True):
    type: str
    id: str
    mode: str = "exclusive"


class NewTask(msgspec.Struct, forbid_unknown_fields=True):
    """`resource`: one key, the kind, and the id: {"server": "…"}."""

    task: str
    resource: dict[str, str] | None = None
    params: dict[str, Any] = {}
    start_after: datetime | None = None
    priority: int = 0
    claims: list[ClaimAsked] = []


class Tasks:
    """The handlers, and what they share."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.offers = Offers(service.hold)

    # --- asking for one -------------------------------------------------------------------------------------------

    async def create(self, ask: Ask) -> Answer:
        request = self._request(ask)
        uuid = ask.service.hold.clock.uuid7()

        def write(tx: Tx, now: float) -> tuple[submit.Submitted, dict[str, Any]]:
            found = submit.submit(tx, request, now, uuid)
            return found, view.task(tx, ask, found.task)

        found, shown = await ask.service.bridge.write(write)
        return await view.accepted(ask, found.task, shown, replayed=found.replayed)

    def _request(self, ask: Ask) -> submit.Request:
        data: NewTask = ask.data
        kind, ident = _resource(data.resource)
        named = [(f"{each.type}/{each.id}", each.mode) for each in data.claims]
        if kind is not None:
            named.append((f"{kind}/{ident}", "exclusive"))
        request = self.offers.request(data.task, data.params)
        caller = ask.caller
        return request._replace(
            claims=claims_of(named),
            operation=data.task,
            resource_type=kind,
            resource_id=ident,
            start_after=None if data.start_after is None else _seconds(data.start_after),
            priority=_priority(data.priority),
            tag=ask.tag,
            fingerprint=ask.fingerprint,
            request=ask.request,
            project_id=caller.project_id,
            user_id=caller.user_id,
            request_id=ask.request_id,
            global_request_id=ask.global_request_id,
            origin=caller.origin,
        )

    # --- looking --------------------------------------------------------------------------------------------------

    async def listed(self, ask: Ask) -> Answer:
        wanted = query.Filter(
            state=ask.text("state") or ask.text("task_state"),
            tag=ask.text("tag"),
            project_id=ask.caller.project_id,
        )
        limit = ask.integer("limit", query.LIMIT)
        page = self.service.bridge.read(
            lambda tx: query.page(tx, wanted, limit=limit, marker=ask.text("marker") or None)
        )
        return Answer(body={"tasks": [view.summary(each) for each in page.tasks], "links": []})

    async def show(self, ask: Ask) -> Answer:
        service, uuid, wait_s = self.service, ask.path["task"], ask.wait_s()
        at, shown = service.bridge.read(lambda tx: self._shown(tx, ask, uuid))
        seen = view.etag(at)
        if wait_s > 0 and not view.is_final(at) and (ask.has_seen(seen) or "if-none-match" not in ask.headers):
            latest = [at]

            def changed() -> bool:
                latest[0] = service.bridge.read(lambda tx: query.get(tx, uuid))
                return view.etag(latest[0]) != seen

            if await service.waiting.until(at.id, changed, wait_s, ask.received):
                at, shown = service.bridge.read(lambda tx: self._shown(tx, ask, uuid))
        headers = view.headers(at)
        if ask.has_seen(view.etag(at)):
            return Answer(304, None, headers)
        return Answer(200, {"task": shown}, headers)

    def _shown(self, tx: Tx, ask: Ask, uuid: str) -> tuple[Any, dict[str, Any]]:
        at = view.find(tx, ask, uuid)
        return at, view.task(tx, ask, at)


def _resource(given: dict[str, str] | None) -> tuple[str | None, str | None]:
    if not given:
        return None, None
    if len(given) > 1:
        raise RequestInvalid("a task is for one resource: {kind: id}; name the others in claims")
    ((kind, ident),) = given.items()
    return kind, ident


def _seconds(at: datetime) -> float:
    if at.tzinfo is None:
        raise RequestInvalid("start_after needs its offset from UTC, as 2026-01-01T00:00:00Z")
    return at.timestamp()


def _priority(given: int) -> int:
    if abs(given) > PRIORITY_MAX:
        raise RequestInvalid(f"priority is {-PRIORITY_MAX} to {PRIORITY_MAX}, not {given}")
    return given


def routes(service: Service) -> list[Route]:
    tasks = Tasks(service)
    wait = Param("wait", "seconds to wait for a change", {"type": "number", "minimum": 0})
    found = []
    for path in ("/v3/tasks", "/tasks"):
        found += [
            Route("GET", path, tasks.listed, "tasks:read", "List tasks, the newest first",
                  query=(Param("state", ""), Param("task_state", ""), Param("tag", ""), Param("limit", ""),
                         Param("marker", "")), answers={200: "task_list"}),
            Route("POST", path, tasks.create, "tasks:create", "Ask for a task", body=NewTask, tagged=True,
                  answers={202: "task_accepted", 200: "task_accepted"}),
        ]  # fmt: skip
    found.append(
        Route("GET", "/v3/tasks/{task}", tasks.show, "tasks:read", "One task; with wait, once it has changed",
              query=(wait,), answers={200: "task_one", 304: None})
    )  # fmt: skip
    return found
