"""One verb for every task that matches: `POST /v3/tasks/verbs`. Each task is a transaction of its own, and has its own
answer; one that refuses changes nothing for the others."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from holdfast.errors import TaskNotFound
from holdfast.service import problems, view
from holdfast.service.app import Service
from holdfast.service.paging import project_of
from holdfast.service.problems import RequestInvalid
from holdfast.service.requests import Ask
from holdfast.service.routes import Answer, Route
from holdfast.service.tasks import LIST_PARAMS, STATE, WORD
from holdfast.service.verbs import BODIES, Verbs, converted, status_of
from holdfast.store.base import Tx
from holdfast.tasks import listing, params
from holdfast.tasks.row import TaskRow

TASKS_MAX: Final = 1000
_CHOOSING: Final = (
    "task", "tag", "resource_id", "resource_type", "user_id", "request_id", "origin", "parent_id", "root_id",
)  # fmt: skip
_ALSO_CHOOSING: Final = (
    "state", "task_state", "created_at", "start_time", "last_updated", "updated_at", "changes-since", "changes-before",
)  # fmt: skip
_TYPES: Final[dict[str, type]] = {"limit": int, "all_projects": bool}
_NAMES: Final[dict[type, str]] = {int: "number", bool: "boolean", str: "text"}
_NOT_HERE: Final = ("marker", "sort", "fields")


class VerbForMany(msgspec.Struct, forbid_unknown_fields=True):
    """`filter`: the parameters of a list of tasks, by name: {"state": "running", "resource_id": "…"}. `options`: the
    body of the verb."""

    verb: str
    filter: dict[str, str | int | bool]
    options: dict[str, Any] = {}


class Bulk:
    """The handler."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._verbs = Verbs(service)

    async def verbs(self, ask: Ask) -> Answer:
        given: VerbForMany = ask.data
        if given.verb not in BODIES:
            raise RequestInvalid(f"there is no verb {given.verb[:40]!r}: {', '.join(BODIES)}", allowed=list(BODIES))
        options = converted(given.options, BODIES[given.verb])
        asked = params.read([(name, _text(value)) for name, value in _filter(given.filter).items()])
        if given.filter.keys().isdisjoint((*_CHOOSING, *_ALSO_CHOOSING)):
            raise RequestInvalid("filter has to name some: every task of the project is too many to mean at once")
        limit = asked.limit if "limit" in given.filter else TASKS_MAX
        wanted = asked.filter._replace(project_id=project_of(ask, asked.project_id, every=asked.all_projects))
        found = await self._service.bridge.read_long(lambda tx: listing.page(tx, wanted, limit=limit))
        done = [await self._one(ask, each.uuid, given.verb, options) for each in found.tasks]
        return Answer(body={"tasks": done, "more": found.marker is not None})

    async def _one(self, ask: Ask, uuid: str, verb: str, options: Any) -> dict[str, Any]:
        new = self._service.hold.clock.uuid7()

        def write(tx: Tx, now: float) -> tuple[int, TaskRow, TaskRow]:
            at = view.find(tx, ask, uuid)
            answer = self._verbs.apply(tx, ask, at, verb, options, now, new)
            return status_of(at, verb, answer), at, answer.task

        try:
            status, at, task = await self._service.bridge.write(write)
        except Exception as error:
            return await self._refused(ask, uuid, error)
        new_task = None if task.id == at.id else task.uuid
        state = task.state if new_task is None else at.state
        return {"uuid": uuid, "status": status, "state": state, "new_task": new_task, "error": None}

    async def _refused(self, ask: Ask, uuid: str, error: Exception) -> dict[str, Any]:
        known = problems.known(error)
        if isinstance(known, problems.Internal):
            problems.log.error("%s %s of task %s", ask.request_id, ask.request, uuid, exc_info=error)
        told = problems.of(known, request_id=ask.request_id, instance=f"/v3/tasks/{uuid}")
        try:
            state = await self._service.bridge.read(lambda tx: view.find(tx, ask, uuid).state)
        except TaskNotFound:  # purged since it was listed
            state = None
        return {"uuid": uuid, "status": known.status, "state": state, "new_task": None, "error": told}


def _filter(given: dict[str, Any]) -> dict[str, Any]:
    for name, value in given.items():
        if name in _NOT_HERE:
            raise RequestInvalid(f"filter takes no {name}", parameter=name)
        wanted = _TYPES.get(name, str)
        if type(value) is not wanted:
            raise RequestInvalid(f"{name} of the filter is a {_NAMES[wanted]}, not {value!r}"[:200], parameter=name)
        if value == "":  # in a list's query that is as if it weren't there; here it would mean every task
            raise RequestInvalid(f"{name} of the filter is empty: leave it out", parameter=name)
    return given


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _schema() -> dict[str, Any]:
    """A filter names something by which to choose."""
    chosen = {name: {**WORD, "minLength": 1} for name in _CHOOSING} | {"state": STATE}
    beside = {
        param.name: {**param.schema, "minLength": 1} for param in LIST_PARAMS if param.name not in (*_NOT_HERE, *chosen)
    }
    beside |= {"depth": {"enum": ["roots", "all"]}, "task_state": STATE}
    filtering = {
        "type": "object", "properties": {**beside, **chosen}, "additionalProperties": False,
        "anyOf": [{"required": [name]} for name in (*_CHOOSING, *_ALSO_CHOOSING)],
    }  # fmt: skip
    return {
        "oneOf": [
            {"type": "object", "properties": {"verb": {"const": verb}, "filter": filtering, "options": body},
             "required": ["verb", "filter"], "additionalProperties": False}
            for verb, body in BODIES.items()
        ]
    }  # fmt: skip


def routes(service: Service) -> list[Route]:
    bulk = Bulk(service)
    return [
        Route("POST", "/v3/tasks/verbs", bulk.verbs, "tasks:control", "Give a verb to every task that matches",
              body=VerbForMany,
              body_schema=_schema(), answers={200: "VerbsDone"})
    ]  # fmt: skip
