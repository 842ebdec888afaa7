"""The routes of workers and pools, for administrators. What they show: tasks/fleet.py."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from holdfast.service.app import Service
from holdfast.service.requests import Ask
from holdfast.service.routes import Answer, Param, Route, Schema
from holdfast.tasks import fleet, pools

Limit = Annotated[int, msgspec.Meta(ge=1, le=pools.LIMIT_MOST)]
_NAME: Final[Schema] = {"type": "string", "pattern": "^[!-.0-~]{1,255}$"}


class PoolLimits(msgspec.Struct, forbid_unknown_fields=True):
    """`running_max`: how many of its tasks workers may have at once. `queued_max`: how many may wait to be begun; more
    are refused with 429. null: no limit. One that is not given stays as it is."""

    running_max: Limit | UnsetType | None = UNSET
    queued_max: Limit | UnsetType | None = UNSET


class Fleet:
    """The handlers."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def _now(self) -> float:
        return self.service.hold.clock.time()

    async def workers(self, ask: Ask) -> Answer:
        pool = ask.text("pool") or None
        now = self._now()
        return Answer(200, await self.service.bridge.read_json(
            lambda tx: {"workers": fleet.workers(tx, now, pool=pool), "links": []}
        ))  # fmt: skip

    async def pools(self, ask: Ask) -> Answer:
        now = self._now()
        return Answer(200, await self.service.bridge.read_json(
            lambda tx: {"pools": [_linked(each) for each in fleet.all_pools(tx, now)], "links": []}
        ))  # fmt: skip

    async def pool(self, ask: Ask) -> Answer:
        now, name = self._now(), ask.path["pool"]
        return Answer(200, {"pool": _linked(await self.service.bridge.read(lambda tx: fleet.one_pool(tx, name, now)))})

    async def limit(self, ask: Ask) -> Answer:
        data: PoolLimits = ask.data
        limits = {
            name: getattr(data, name) for name in ("running_max", "queued_max") if getattr(data, name) is not UNSET
        }
        name = ask.path["pool"]
        found = await self.service.bridge.write(lambda tx, now: fleet.limit(tx, name, limits, now))
        return Answer(200, {"pool": _linked(found)})

    def verb(self, verb: str) -> Callable[[Ask], Awaitable[Answer]]:
        async def give(ask: Ask) -> Answer:
            name = ask.path["pool"]
            found = await self.service.bridge.write(lambda tx, now: fleet.give(tx, name, verb, now))
            return Answer(202 if found["state"] == fleet.DRAINING else 200, {"pool": _linked(found)})

        return give


def _linked(pool: dict[str, Any]) -> dict[str, Any]:
    from urllib.parse import quote

    at = f"/v3/pools/{quote(pool['name'], safe='')}"
    return pool | {
        "links": [{"rel": "self", "href": at}, *({"rel": verb, "href": f"{at}/{verb}"} for verb in fleet.VERBS)]
    }


_TEXT = {"type": "string"}
_MAYBE = {"type": ["string", "null"]}
_NUMBER = {"type": "number"}
_COUNT = {"type": "integer"}
_MAYBE_COUNT = {"type": ["integer", "null"]}
_LINKS = {"type": "array", "items": {"type": "object"}}


def _object(fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(fields)}


def _array(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": of}


_POOL = _object(
    {
        "name": _TEXT, "state": {"enum": list(fleet.POOL_STATES)}, "running_max": _MAYBE_COUNT,
        "queued_max": _MAYBE_COUNT, "paused_at": _MAYBE, "draining_at": _MAYBE, "workers": _COUNT, "running": _COUNT,
        "queued": _COUNT, "due": _COUNT, "oldest_wait_s": {"type": ["number", "null"]}, "links": _LINKS,
    }
)  # fmt: skip
_STEP = _object({"id": _TEXT, "running_s": _NUMBER})
_TASK = _object(
    {"uuid": _TEXT, "task": _TEXT, "state": _TEXT, "project_id": _TEXT, "running_s": _NUMBER, "steps": _array(_STEP)}
)
_WORKER = _object(
    {
        "id": _TEXT, "pool": _TEXT, "state": {"enum": list(fleet.WORKER_STATES)}, "host": _TEXT, "pid": _COUNT,
        "version": _MAYBE, "started_at": _TEXT, "heartbeat_at": _TEXT, "heartbeat_age_s": _NUMBER, "lease_s": _NUMBER,
        "tasks": _array(_TASK),
    }
)  # fmt: skip
ONE: Schema = _object({"pool": _POOL})
POOLS: Schema = _object({"pools": _array(_POOL), "links": _LINKS})
WORKERS: Schema = _object({"workers": _array(_WORKER), "links": _LINKS})
SUMMARIES: Final = {
    "pause": "Take none of its tasks from now on; what runs goes on",
    "resume": "Take its tasks again",
    "drain": "Take none of its tasks, and hand over what runs at the end of each step",
}


def routes(service: Service) -> list[Route]:
    handlers = Fleet(service)
    one = "/v3/pools/{pool}"
    named = {"pool": _NAME}
    return [
        Route("GET", "/v3/workers", handlers.workers, "workers:read", "The workers, their leases and what they do",
              query=(Param("pool", "of this pool"),), answers={200: WORKERS}),
        Route("GET", "/v3/pools", handlers.pools, "workers:read", "The pools, their limits and what waits in them",
              answers={200: POOLS}),
        Route("GET", one, handlers.pool, "workers:read", "One pool", path_schemas=named,
              answers={200: ONE, 404: "Problem"}),
        Route("PUT", one, handlers.limit, "workers:control", "Set its limits; it is made if it is not there",
              path_schemas=named, body=PoolLimits, answers={200: ONE, 404: "Problem"}),
        *(
            Route("POST", f"{one}/{verb}", handlers.verb(verb), "workers:control", SUMMARIES[verb], path_schemas=named,
                  answers={200: ONE, 404: "Problem"} | ({202: ONE} if verb == "drain" else {}))
            for verb in fleet.VERBS
        ),
    ]  # fmt: skip
