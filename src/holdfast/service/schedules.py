"""The routes of schedules: have something asked for again and again, look, pause, resume, remove.

What a schedule is: tasks/schedules.py. How its tasks are asked for: scheduling.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import msgspec

from holdfast import scheduling
from holdfast.errors import ScheduleInvalid
from holdfast.service import view
from holdfast.service.admission import Admission, ClaimAsked, claims_asked, priority_of, resource_of
from holdfast.service.app import Service
from holdfast.service.paging import next_link, project
from holdfast.service.policy import may_only_as_agent
from holdfast.service.requests import Ask
from holdfast.service.routes import BOOLEAN, COUNT, Answer, Param, Route, Schema
from holdfast.store.base import Tx
from holdfast.tasks import cron, listing, schedules
from holdfast.tasks.claims import claims_of
from holdfast.tasks.submit import Request

#: What these are is checked below; here it is only said.
Cron = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": r"^\S+( \S+){4}$", "maxLength": 200})]
Name = Annotated[str, msgspec.Meta(extra_json_schema={"minLength": 1, "maxLength": schedules.NAME_CHARS_MAX})]
Zone = Annotated[str, msgspec.Meta(extra_json_schema={"minLength": 1, "maxLength": cron.ZONE_CHARS_MAX})]


class NewSchedule(msgspec.Struct, forbid_unknown_fields=True):
    """`task`, `resource`, `params`, `claims` and `priority` are those of a request for a task."""

    name: Name
    cron: Cron
    task: str
    timezone: Zone = "UTC"
    catch_up: Literal["one", "all", "none"] = "one"
    overlap: Literal["skip", "queue"] = "skip"
    resource: dict[str, str | None] | None = None
    params: dict[str, Any] = {}
    priority: int = 0
    claims: list[ClaimAsked] = []


class Schedules:
    """The handlers."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.admission = Admission(service)

    async def create(self, ask: Ask) -> Answer:
        hold, caller = self.service.hold, ask.caller
        self.service.policy.check(caller, "tasks:create")
        data: NewSchedule = ask.data
        what, inputs, asked = self._what(ask, data)
        row = schedules.Schedule(
            hold.clock.uuid7(), caller.project_id, caller.user_id, data.name, " ".join(data.cron.split()),
            data.timezone, data.catch_up, data.overlap, what, inputs, None, None, 0.0, 0.0,
        )  # fmt: skip
        schedules.check(row)
        wanted = claims_of(claims_asked(data.claims))

        def write(tx: Tx, now: float) -> tuple[dict[str, Any], bool]:
            scheduling.check_claims(tx, hold.kinds, wanted, caller.project_id)
            found, is_new = scheduling.add(tx, row, asked, now)
            return _shown(tx, found), is_new

        shown, is_new = await self.service.bridge.write(write)
        return Answer(201 if is_new else 200, {"schedule": shown}, [("Location", _place(shown["uuid"]))])

    def _what(self, ask: Ask, data: NewSchedule) -> tuple[str, str, Request | None]:
        """What is asked for, as text; its inputs; and the request for a task of it, where it is a flow.

        Raises: RequestInvalid, OperationUnknown, MissingInput, UnknownInput, ValueRefused, DocumentInvalid."""
        hold = self.service.hold
        kind, ident = resource_of(data.resource)
        named, priority = claims_asked(data.claims), priority_of(data.priority)
        if kind is not None and kind in hold.kinds:
            name = data.task.removeprefix(f"{kind}.")
            what, text = scheduling.of_operation(
                hold, kind, name, ident, data.params, claims_of(named), priority, hold.settings.pool, limited=True
            )
            return what, text, None
        if may_only_as_agent(ask.caller):
            raise ScheduleInvalid("an agent may ask for operations of kinds only")
        offer = self.admission.offer(data.task)
        takes_moment = scheduling.check_flow(offer.plan, data.params)
        if kind is not None:
            if not ident:
                raise ScheduleInvalid('resource needs the id of what the task is for: {"server": "…"}')
            named.append(f"{kind}/{ident}")
        asked = offer.request._replace(
            claims=claims_of(named), operation=data.task, resource_type=kind, resource_id=ident, priority=priority
        )
        what = scheduling.of_flow(asked, data.task, takes_moment=takes_moment, limited=True)
        return what, hold.inputs_text(data.params), asked

    async def listed(self, ask: Ask) -> Answer:
        limit = ask.integer("limit", listing.LIMIT, most=listing.LIMIT_MAX)
        whose, after = project(ask), ask.text("marker")

        def read(tx: Tx) -> dict[str, Any]:
            rows = schedules.page(tx, whose, after=after, limit=limit + 1)
            marker = rows[limit - 1].id if len(rows) > limit > 0 else None
            return {"schedules": [_shown(tx, each) for each in rows[:limit]], "links": next_link(ask, marker)}

        return Answer(body=await self.service.bridge.read_json(read))

    async def show(self, ask: Ask) -> Answer:
        return Answer(200, {"schedule": await self.service.bridge.read(lambda tx: _shown(tx, _find(tx, ask)))})

    async def pause(self, ask: Ask) -> Answer:
        return await self._change(ask, schedules.pause)

    async def resume(self, ask: Ask) -> Answer:
        return await self._change(ask, schedules.resume)

    async def _change(self, ask: Ask, change: Callable[[Tx, str, float], schedules.Schedule]) -> Answer:
        def write(tx: Tx, now: float) -> dict[str, Any]:
            return _shown(tx, change(tx, _find(tx, ask).id, now))

        return Answer(200, {"schedule": await self.service.bridge.write(write)})

    async def delete(self, ask: Ask) -> Answer:
        await self.service.bridge.write(lambda tx, now: schedules.remove(tx, _find(tx, ask).id))
        return Answer(204)


def _find(tx: Tx, ask: Ask) -> schedules.Schedule:
    """By its id, or by its name in the asker's project. Raises: ScheduleNotFound."""
    return schedules.get(tx, ask.path["schedule"], ask.caller.project_id, every=view.project_seen(ask) is None)


def _place(id: str) -> str:
    return f"/v3/schedules/{id}"


def _shown(tx: Tx, at: schedules.Schedule) -> dict[str, Any]:
    shown = scheduling.shown(tx, at)
    verb = "resume" if at.state == schedules.PAUSED else "pause"
    place = _place(at.id)
    return {**shown, "links": [{"rel": "self", "href": place}, {"rel": verb, "href": f"{place}/{verb}"}]}


_TEXT: Final = {"type": "string"}
_MAYBE: Final = {"type": ["string", "null"]}
_FIRING: dict[str, Any] = {
    "moment": _TEXT, "at": _TEXT, "outcome": {"enum": list(schedules.OUTCOMES)}, "task": _MAYBE, "why": _MAYBE,
}  # fmt: skip
_FIELDS: dict[str, Any] = {
    "uuid": _TEXT, "name": _TEXT, "cron": _TEXT, "timezone": _TEXT, "catch_up": {"enum": list(schedules.CATCH_UP)},
    "overlap": {"enum": list(schedules.OVERLAP)},
    "state": {"enum": [schedules.ACTIVE, schedules.PAUSED, schedules.OVER]}, "task": _TEXT,
    "resource": {"type": ["object", "null"]}, "params": {"type": "object"},
    "claims": {"type": "array", "items": {"type": "object"}}, "priority": {"type": "integer"}, "project_id": _TEXT,
    "user_id": _MAYBE, "next_at": _MAYBE, "paused_at": _MAYBE, "created_at": _TEXT, "updated_at": _TEXT,
    "firings": {"type": "array", "items": {"type": "object", "properties": _FIRING, "required": list(_FIRING)}},
    "links": {"type": "array", "items": {"type": "object"}},
}  # fmt: skip
_SCHEDULE: dict[str, Any] = {"type": "object", "properties": _FIELDS, "required": list(_FIELDS)}
ONE: Schema = {"type": "object", "properties": {"schedule": _SCHEDULE}, "required": ["schedule"]}
LIST: Schema = {
    "type": "object",
    "properties": {"schedules": {"type": "array", "items": _SCHEDULE}, "links": _FIELDS["links"]},
    "required": ["schedules", "links"],
}


def _body_schema(admission: Admission) -> dict[str, Any]:
    """That of a request for a task, with what a schedule says besides; and it starts when it starts."""
    own = msgspec.json.schema(NewSchedule)["$defs"]["NewSchedule"]["properties"]
    rules = {name: own[name] for name in ("name", "cron", "timezone", "catch_up", "overlap")}
    found = admission.schema()
    for each in found["oneOf"]:
        kept = {name: value for name, value in each["properties"].items() if name != "start_after"}
        each["properties"] = {**rules, **kept}
        each["required"] = ["name", "cron", *each["required"]]
    return found


_LIST_PARAMS: Final = (
    Param("limit", "how many at most", COUNT),
    Param("marker", "the uuid of the last schedule of the page before"),
    Param("project_id", "of another project (administrators)"),
    Param("all_projects", "of all projects (administrators)", BOOLEAN),
)


def routes(service: Service) -> list[Route]:
    handlers = Schedules(service)
    one = "/v3/schedules/{schedule}"
    known = {200: ONE, 404: "Problem"}
    return [
        Route("GET", "/v3/schedules", handlers.listed, "schedules:read", "The project's schedules, the oldest first",
              query=_LIST_PARAMS, answers={200: LIST}),
        Route("POST", "/v3/schedules", handlers.create, "schedules:write", "Have a task asked for again and again",
              body=NewSchedule, body_schema=_body_schema(handlers.admission),
              answers={201: ONE, 200: ONE, 404: "Problem", 409: "Problem"}),
        Route("GET", one, handlers.show, "schedules:read", "One schedule, and what became of its last moments",
              answers=known),
        Route("DELETE", one, handlers.delete, "schedules:write", "Have nothing more asked for; its tasks go on",
              answers={204: None, 404: "Problem"}),
        Route("POST", f"{one}/pause", handlers.pause, "schedules:write", "Ask for nothing until it is resumed",
              answers=known),
        Route("POST", f"{one}/resume", handlers.resume, "schedules:write", "Go on with its next moment",
              answers=known),
    ]  # fmt: skip
