"""Executors that have no access to the database: they lease steps, and say how they come on, with the lease's token.

What a lease is, and what is kept of it: tasks/agents.py. An executor that comes with the house: agent/. Secrets are
sealed where they are stored and open on the wire: this service listens on loopback or behind TLS.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from holdfast.core.failure import (
    DEPTH_MAX,
    MESSAGE_CHARS_MAX,
    TRACEBACK_CHARS_MAX,
    Failure,
    clean,
)
from holdfast.core.secret import Seal
from holdfast.errors import LeaseLost, PolicyForbidden, ValueTooLarge
from holdfast.service.app import Service
from holdfast.service.board import Board
from holdfast.service.lease_documents import (
    Asked,
    Complete,
    Fail,
    FailureSaid,
    Heartbeat,
    LeaseList,
    LeasesShown,
    NewCheckpoint,
    NewLeases,
    StepProgress,
)
from holdfast.service.paging import next_link
from holdfast.service.problems import RequestInvalid
from holdfast.service.requests import Ask
from holdfast.service.routes import COUNT, Answer, Param, Route
from holdfast.store.base import Tx
from holdfast.tasks import agents, row, show
from holdfast.tasks.agents import Lease, Speaker
from holdfast.tasks.row import TaskRow

TOKEN: Final = "lease-token"
TOKEN_CHARS_MAX: Final = 255
PAGE_MAX: Final = 1_000
NUMBER_MAX: Final = 1 << 62


class Leases:
    """The handlers."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.hold = service.hold
        self.board = Board(service.bridge)
        service.at_start(self.board.start)
        service.at_stop(self.board.stop)

    async def listed(self, ask: Ask) -> Answer:
        pool, after = ask.text("pool") or None, ask.integer("marker", 0, most=NUMBER_MAX)
        limit = ask.integer("limit", PAGE_MAX, least=1, most=PAGE_MAX)

        def read(tx: Tx) -> dict[str, Any]:
            found = agents.page(tx, pool, after, limit + 1)
            marker = str(found[limit - 1][0].id) if len(found) > limit else None
            return {"leases": [_listed(*each) for each in found[:limit]], "links": next_link(ask, marker)}

        return Answer(body=await self.service.bridge.read_json(read))

    # --- leasing --------------------------------------------------------------------------------------------------

    async def lease(self, ask: Ask) -> Answer:
        given: NewLeases = ask.data
        pools = ask.caller.pools
        if pools and given.pool not in pools:
            raise PolicyForbidden(f"you serve {', '.join(pools)}, not {given.pool}", rule="leases:hold")
        loop = asyncio.get_running_loop()
        end = loop.time() + min(given.wait, self.service.settings.wait_s_max)
        left = asyncio.ensure_future(ask.gone())
        try:
            while True:
                found = await self._leased(ask, given)
                wait_s = end - loop.time()
                if not found and wait_s > 0:
                    await self.board.wait(given.pool, wait_s, left)
                if found or wait_s <= 0 or self.board.stopped or left.done():
                    return Answer(body={"leases": found})
        finally:
            left.cancel()

    async def _leased(self, ask: Ask, given: NewLeases) -> list[dict[str, Any]]:
        holder, settings = ask.caller.user_id, self.service.settings
        # The space says that nobody has promised to be heard of before he begins (tasks/agents.py, Lease.is_begun).
        agent = given.agent or f"{holder or 'somebody'}, {ask.request_id}"
        unheard = partial(agents.unheard, holder=holder, agent=agent, held=given.held)
        bridge = self.service.bridge
        if not await bridge.read(lambda tx: given.pool in agents.waiting(tx) or bool(given.agent and unheard(tx))):
            return []
        nonce, generation = self.hold.clock.token_hex(8), self.hold.store.generation

        def write(tx: Tx, now: float) -> list[tuple[Lease, TaskRow]]:
            found = unheard(tx) if given.agent else []
            found += agents.take(
                tx, given.pool, given.max - len(found), holder=holder, agent=agent, generation=generation, nonce=nonce,
                now=now, lease_s=settings.lease_s,
            )  # fmt: skip
            return [(each, row.read(tx, each.task)) for each in found]

        return [self._shown(*each) for each in await bridge.write(write)]

    def _shown(self, lease: Lease, task: TaskRow) -> dict[str, Any]:
        return {
            "token": lease.token,
            "task": {"uuid": task.uuid, "task": task.operation or task.flow, "project_id": task.project_id},
            "step": lease.node,
            "what": lease.what,
            "pool": lease.pool,
            "timeout_s": lease.timeout_s,
            "lease_s": self.service.settings.lease_s,
            "work": opened(json.loads(lease.work), self.hold.sealer.unseal),
        }

    # --- speaking for one -----------------------------------------------------------------------------------------

    async def heartbeat(self, ask: Ask) -> Answer:
        given: Heartbeat = ask.data
        speaker, generation, lease_s = self._speaker(ask), self.hold.store.generation, self.service.settings.lease_s
        known = (given.stop, given.kill)
        lease = await self.service.bridge.write(
            lambda tx, now: agents.beat(tx, speaker, generation, now, lease_s)
        )  # fmt: skip
        latest = [lease]

        async def asked() -> bool:
            latest[0] = await self.service.bridge.read(lambda tx: agents.find(tx, speaker, generation))
            if latest[0].closed_at is not None or latest[0].ended_at is not None:
                raise LeaseLost
            return (latest[0].stop, latest[0].killed) != known

        if given.wait > 0 and (lease.stop, lease.killed) == known:
            # An answer that is long under way must not eat up the lease that it confirms.
            await self.service.waiting.until(lease.task, asked, min(given.wait, lease_s / 3), ask.gone)
        return Answer(body={"lease_s": lease_s, "stop": latest[0].stop, "kill": latest[0].killed})

    async def progress(self, ask: Ask) -> Answer:
        given: StepProgress = ask.data
        message = None if given.message is None else clean(given.message)
        return await self._say(ask, agents.progress, fraction=given.fraction, message=message)

    async def checkpoint(self, ask: Ask) -> Answer:
        given: NewCheckpoint = ask.data
        return await self._say(ask, agents.checkpoint, value=self._kept(given.value), number=given.number)

    async def complete(self, ask: Ask) -> Answer:
        return await self._end(ask, "returned", self._kept(ask.data.result))

    async def fail(self, ask: Ask) -> Answer:
        given: Fail = ask.data
        said = [name for name in given.__struct_fields__ if getattr(given, name) is not None]
        if len(said) != 1:
            allowed = list(given.__struct_fields__)
            raise RequestInvalid(f"say one of {', '.join(allowed)}", allowed=allowed)
        if given.failure is not None:
            return await self._end(ask, "raised", json.dumps(_failure(given.failure).to_json()))
        if given.stopped is not None:
            return await self._end(ask, "stopped", json.dumps(given.stopped))
        if given.killed is not None:
            return await self._end(ask, "killed", json.dumps(clean(given.killed)))
        return await self._end(ask, "died", json.dumps(clean(given.died or "")))

    async def _end(self, ask: Ask, word: str, text: str) -> Answer:
        said = hashlib.sha256(ask.raw).hexdigest()
        return await self._say(ask, agents.end, outcome=agents.outcome_text(word, text), said=f"{word} {said}")

    async def _say(self, ask: Ask, verb: Callable[..., None], **what: Any) -> Answer:
        speaker, generation = self._speaker(ask), self.hold.store.generation
        await self.service.bridge.write(
            lambda tx, now: verb(tx, speaker=speaker, generation=generation, now=now, **what)
        )  # fmt: skip
        return Answer(204)

    def _speaker(self, ask: Ask) -> Speaker:
        token = ask.headers.get(TOKEN, "")
        if not 0 < len(token) <= TOKEN_CHARS_MAX or not token.isascii() or not token.isprintable() or " " in token:
            raise RequestInvalid("Lease-Token is needed: the token of the lease", parameter="Lease-Token")
        return Speaker(token, ask.caller.user_id, ask.path["task"])

    def _kept(self, value: Any) -> str:
        """As it is stored: secrets sealed, and not too large. Raises: ValueTooLarge, SecretKeyMissing."""
        most = self.service.settings.value_bytes_max
        text = _dumps(sealed(value, self.hold.sealer.seal))
        if len(text) > most:
            raise ValueTooLarge(
                f"it takes {len(text):,} bytes, more than value_bytes_max = {most:,} allows: put it elsewhere and say"
                " where; the lease is still yours"
            )
        return text


def _listed(lease: Lease, task: str) -> dict[str, Any]:
    state = "ENDED" if lease.ended_at is not None else "OFFERED" if lease.token is None else "LEASED"
    return {
        "number": lease.id, "task": task, "step": lease.node, "what": lease.what, "pool": lease.pool, "state": state,
        "agent": lease.agent, "holder": lease.holder, "offered_at": show.moment(lease.offered_at),
        "leased_at": show.moment(lease.leased_at), "expires_at": show.moment(lease.expires_at), "stop": lease.stop,
        "progress": lease.progress,
    }  # fmt: skip


def sealed(value: Any, seal: Seal) -> Any:
    """The codec's data as it came, with each secret in it sealed. Raises: RequestInvalid, SecretKeyMissing."""

    def turn(text: str) -> str:  # what is sealed is text of the codec, which may have secrets in it
        return seal(_dumps(_turned(json.loads(text), turn)))

    try:
        return _turned(value, turn)
    except (RecursionError, ValueError):
        raise RequestInvalid("a value is nested too deeply, or its secret is no JSON") from None


def opened(value: Any, unseal: Seal) -> Any:
    """The codec's data as it is stored, with each secret in it open. Raises: SecretKeyMissing."""

    def turn(text: str) -> str:
        return _dumps(_turned(json.loads(unseal(text)), turn))

    return _turned(value, turn)


def _turned(value: Any, turn: Seal) -> Any:
    if isinstance(value, list):
        return [_turned(each, turn) for each in value]
    if not isinstance(value, dict):
        return value
    if value.get("$") == "secret" and isinstance(value.get("v"), str):
        return {"$": "secret", "v": turn(value["v"])}
    return {name: _turned(each, turn) for name, each in value.items()}


def _failure(said: FailureSaid, depth: int = 0) -> Failure:
    causes = tuple(_failure(each, depth + 1) for each in said.causes) if depth < DEPTH_MAX else ()
    traceback = None if said.traceback is None else clean(said.traceback[-TRACEBACK_CHARS_MAX:])
    return Failure(tuple(said.types) or ("Failed",), clean(said.message), traceback, causes)


_dumps: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_TOKEN: Final = Param(
    "Lease-Token", "the token of the lease",
    {"type": "string", "minLength": 1, "maxLength": TOKEN_CHARS_MAX, "pattern": "^[!-~]+$"},
)  # fmt: skip


def _one_of(**kinds: Any) -> dict[str, Any]:
    """An object with one of these keys."""
    found = [
        {"type": "object", "properties": {name: kind}, "required": [name], "additionalProperties": False}
        for name, kind in kinds.items()
    ]
    return {"oneOf": found}


_FAIL: Final = _one_of(
    failure=FailureSaid,
    stopped={"type": "string", "pattern": "^[!-~]+$", "maxLength": 255},
    died={"type": "string", "maxLength": MESSAGE_CHARS_MAX},
    killed={"type": "string", "maxLength": MESSAGE_CHARS_MAX},
)


def routes(service: Service) -> list[Route]:
    made = Leases(service)
    one, rule = "/v3/tasks/{task}", "leases:hold"
    verbs: list[tuple[str, Callable[[Ask], Awaitable[Answer]], str, Any, bool]] = [
        ("heartbeat", made.heartbeat, "Say that its step still runs, and hear what is asked of it", Heartbeat, False),
        ("progress", made.progress, "Say how far its step is", StepProgress, True),
        ("checkpoint", made.checkpoint, "Store what the next entry of its step is to know", NewCheckpoint, True),
        ("complete", made.complete, "Its step has ended well", Complete, False),
        ("fail", made.fail, "Its step has failed, stopped or died, or was killed", Fail, True),
    ]
    found = [
        Route("GET", "/v3/leases", made.listed, "workers:read", "What agents run, or are to run",
              query=(Param("pool", "of this pool of agents only"), Param("limit", "how many at most", COUNT),
                     Param("marker", "the number of the last one of the page before", COUNT)),
              answers={200: LeasesShown}),
        Route("POST", "/v3/leases", made.lease, rule, "Lease steps of a pool, once there are some", body=NewLeases,
              answers={200: LeaseList}, limited=False)
    ]  # fmt: skip
    found += [
        Route("POST", f"{one}/{verb}", handler, rule, summary, body=body, body_needed=needed, headers=(_TOKEN,),
              body_schema=_FAIL if verb == "fail" else None,
              answers={200: Asked, 409: "Problem"} if verb == "heartbeat" else {204: None, 409: "Problem"},
              limited=False)
        for verb, handler, summary, body, needed in verbs
    ]  # fmt: skip
    return found
