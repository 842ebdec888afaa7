"""The routes of webhooks: subscribe, look, unsubscribe. What is sent, and how: feed/sinks.py."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any, Final

import msgspec

from holdfast.feed import hooks, log, post
from holdfast.feed.hooks import Hook
from holdfast.feed.sinks import Sinks
from holdfast.service import view
from holdfast.service.app import Service
from holdfast.service.requests import Ask
from holdfast.service.routes import Answer, Route, Schema
from holdfast.store.base import Tx
from holdfast.tasks.tell import TYPES

#: Names that are looked up at once. One that is slow has a thread, of which there are few, and lists need them too.
LOOK_UPS_MAX: Final = 2

Url = Annotated[
    str,
    msgspec.Meta(min_length=1, max_length=post.URL_CHARS_MAX, extra_json_schema={"pattern": "^https?://[!-~]+$"}),
]
Id = Annotated[str, msgspec.Meta(pattern=f"^[0-9]{{1,{log.ID_DIGITS_MAX}}}$")]


#: What these are is checked below; here it is only said.
Secret = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": "^whsec_([A-Za-z0-9+/]{4}){8,21}$"})]
Type = Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(TYPES)})]


class NewWebhook(msgspec.Struct, forbid_unknown_fields=True):
    """`types`: [] is all. `after`: the id of the last event that is not wanted; from now on if it is not given.
    `secret`: as Standard Webhooks has them, whsec_ and base64; one is made if it is not given."""

    url: Url
    types: list[Type] = []
    resource_id: str | None = None
    task: str | None = None
    after: Id | None = None
    secret: Secret | None = None


class Webhooks:
    """The handlers."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.allowed = post.networks(service.settings.webhook_networks)
        self._looking_up = asyncio.Semaphore(LOOK_UPS_MAX)

    async def create(self, ask: Ask) -> Answer:
        data: NewWebhook = ask.data
        types = log.types_of(",".join(data.types))
        secret = data.secret or post.new_secret()
        post.key_of(secret)
        await self._check(data.url)
        hold = self.service.hold
        after = None if data.after is None else log.id_of(data.after)
        sealed = hold.sealer.seal(secret)
        uuid = hold.clock.uuid7()

        def write(tx: Tx, now: float) -> Hook:
            wants: dict[str, Any] = {"types": sorted(types)}
            if data.resource_id:
                wants["resource"] = data.resource_id
            if data.task:
                wants |= {"task": view.find(tx, ask, data.task).id, "task_uuid": data.task}
            begin = log.newest(tx) if after is None else after
            return hooks.add(
                tx,
                Hook(
                    uuid, ask.caller.project_id, ask.caller.user_id, data.url, sealed, json.dumps(wants), begin, now,
                    None, 0, 0.0, None, None, 0.0,
                ),
            )  # fmt: skip

        made = await self.service.bridge.write(write)
        return Answer(
            201, {"webhook": hooks.show(made) | {"secret": secret}}, [("Location", f"/v3/webhooks/{made.id}")]
        )

    async def _check(self, url: str) -> None:
        """Raises: WebhookRefused. A name that is not known yet may be when something is sent."""
        at = post.place(url)
        try:
            async with self._looking_up:
                await asyncio.to_thread(post.addresses, at, self.allowed)
        except OSError:
            pass

    async def listed(self, ask: Ask) -> Answer:
        found = await self.service.bridge.read(lambda tx: hooks.page(tx, ask.caller.project_id))
        return Answer(200, {"webhooks": [hooks.show(each) for each in found], "links": []})

    async def show(self, ask: Ask) -> Answer:
        found = await self.service.bridge.read(lambda tx: hooks.get(tx, ask.caller.project_id, ask.path["webhook"]))
        return Answer(200, {"webhook": hooks.show(found)})

    async def delete(self, ask: Ask) -> Answer:
        await self.service.bridge.write(lambda tx, now: hooks.drop(tx, ask.caller.project_id, ask.path["webhook"]))
        return Answer(204)


_TEXT = {"type": "string"}
_MAYBE = {"type": ["string", "null"]}
_FIELDS: dict[str, Any] = {
    "uuid": _TEXT, "url": _TEXT, "types": {"type": "array", "items": _TEXT}, "resource_id": _MAYBE, "task": _MAYBE,
    "project_id": _TEXT, "user_id": _MAYBE, "state": {"enum": ["ACTIVE", "FAILING", "DISABLED"]}, "reason": _MAYBE,
    "delivered": _TEXT, "failures": {"type": "integer"}, "failing_since": _MAYBE, "next_attempt_at": _MAYBE,
    "created_at": _TEXT, "links": {"type": "array", "items": {"type": "object"}},
}  # fmt: skip
_WEBHOOK: dict[str, Any] = {"type": "object", "properties": _FIELDS, "required": list(_FIELDS)}
ONE: Schema = {"type": "object", "properties": {"webhook": _WEBHOOK}, "required": ["webhook"]}
MADE: Schema = {
    "type": "object",
    "properties": {"webhook": {**_WEBHOOK, "properties": _FIELDS | {"secret": _TEXT}}},
    "required": ["webhook"],
}
LIST: Schema = {
    "type": "object",
    "properties": {"webhooks": {"type": "array", "items": _WEBHOOK}, "links": _FIELDS["links"]},
    "required": ["webhooks", "links"],
}


def routes(service: Service) -> list[Route]:
    handlers = Webhooks(service)
    hold = service.hold
    sinks = Sinks(hold.store, hold.clock, service.settings, hold.sealer)
    service.at_start(sinks.start)
    service.at_stop(lambda: _in_thread(sinks))
    one = "/v3/webhooks/{webhook}"
    return [
        Route("GET", "/v3/webhooks", handlers.listed, "webhooks:read", "The project's webhooks", answers={200: LIST}),
        Route("POST", "/v3/webhooks", handlers.create, "webhooks:write", "Have events sent to a URL", body=NewWebhook,
              answers={201: MADE, 404: "Problem", 410: "Problem"}),
        Route("GET", one, handlers.show, "webhooks:read", "One webhook, and how it goes",
              answers={200: ONE, 404: "Problem"}),
        Route("DELETE", one, handlers.delete, "webhooks:write", "Have nothing more sent",
              answers={204: None, 404: "Problem"}),
    ]  # fmt: skip


async def _in_thread(sinks: Sinks) -> None:
    await asyncio.to_thread(sinks.stop)
