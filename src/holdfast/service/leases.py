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
from typing import Annotated, Any, Final

import msgspec

from holdfast.core.failure import (
    CAUSES_MAX,
    DEPTH_MAX,
    MESSAGE_CHARS_MAX,
    TRACEBACK_CHARS_MAX,
    TYPES_MAX,
    Failure,
    clean,
)
from holdfast.core.secret import Seal
from holdfast.errors import LeaseLost, PolicyForbidden, ValueTooLarge
from holdfast.service.app import Service
from holdfast.service.board import Board
from holdfast.service.problems import RequestInvalid
from holdfast.service.requests import Ask
from holdfast.service.routes import Answer, Param, Route
from holdfast.store.base import Tx
from holdfast.tasks import agents, row
from holdfast.tasks.agents import Lease, Speaker
from holdfast.tasks.row import TaskRow

TOKEN: Final = "lease-token"
TOKEN_CHARS_MAX: Final = 255
AT_ONCE_MAX: Final = 100
HELD_MAX: Final = 1_000

#: A token, or what an agent calls itself.
Word = Annotated[str, msgspec.Meta(max_length=255, pattern="^[!-~]+$")]
#: What has a name of people's: a pool, a class.
Name = Annotated[str, msgspec.Meta(max_length=255, pattern="^[^\u0000-\u001f\u007f]+$")]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=86_400)]
Said = Annotated[str, msgspec.Meta(max_length=MESSAGE_CHARS_MAX)]


class NewLeases(msgspec.Struct, forbid_unknown_fields=True):
    """`max`: how many steps; 0: none but those whose answer was lost. `wait`: seconds that it may take until there is
    one. `agent`: what the executor calls itself, another name each time it is started; then leases whose answer it
    never got are given to it again, if they are not among the tokens that it says it holds (`held`)."""

    pool: Name
    max: Annotated[int, msgspec.Meta(ge=0, le=AT_ONCE_MAX)] = 1
    wait: Seconds = 0.0
    agent: Word | None = None
    held: Annotated[list[Word], msgspec.Meta(max_length=HELD_MAX)] = []


class Heartbeat(msgspec.Struct, forbid_unknown_fields=True):
    """`wait`: seconds that the answer may take, if there is nothing to say but what the executor knows (`stop`, `kill`:
    what it was asked last)."""

    wait: Seconds = 0.0
    stop: str | None = None
    kill: bool = False


class StepProgress(msgspec.Struct, forbid_unknown_fields=True):
    """`fraction`: how far it is, 0 to 1."""

    fraction: Annotated[float, msgspec.Meta(ge=0, le=1)]
    message: Said | None = None


class NewCheckpoint(msgspec.Struct, forbid_unknown_fields=True):
    """`value`: what whoever runs the step next is handed. `number`: 1, 2, 3 …, by which one that is sent again is
    known."""

    value: Any
    number: Annotated[int, msgspec.Meta(ge=1, le=1 << 53)] | None = None


class Complete(msgspec.Struct, forbid_unknown_fields=True):
    """`result`: what the step returns."""

    result: Any = None


class FailureSaid(msgspec.Struct, forbid_unknown_fields=True):
    """`types`: the names of the error's class and of those it derives from, by which a retry knows it."""

    message: Said
    types: Annotated[list[Name], msgspec.Meta(max_length=TYPES_MAX)] = []
    traceback: str | None = None
    causes: Annotated[list[FailureSaid], msgspec.Meta(max_length=CAUSES_MAX)] = []


class Fail(msgspec.Struct, forbid_unknown_fields=True):
    """One of: `failure`: the step failed. `stopped`: it heeded the request to stop, or its executor leaves, and
    somebody else goes on. `died`: it was ended from outside, and nobody knows how far it came."""

    failure: FailureSaid | None = None
    stopped: Word | None = None
    died: Said | None = None


class LeaseTask(msgspec.Struct):
    uuid: str
    task: str
    project_id: str


class LeaseOne(msgspec.Struct):
    """`work`: which step, with which arguments: docs/how-to. `lease_s`: how long after a heartbeat it may go on."""

    token: str
    task: LeaseTask
    step: str
    what: str
    pool: str
    timeout_s: float | None
    lease_s: float
    work: dict[str, Any]


class LeaseList(msgspec.Struct):
    leases: list[LeaseOne]


class Asked(msgspec.Struct):
    """`stop`: why the step is asked to stop, or null. `kill`: end it at once. Say `fail` with `stopped` or `died`."""

    lease_s: float
    stop: str | None
    kill: bool


class Leases:
    """The handlers."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.hold = service.hold
        self.board = Board(service.hold)
        service.at_start(self.board.start)
        service.at_stop(self.board.stop)

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
        agent = given.agent or f"{holder or 'somebody'}, {ask.request_id}"
        unheard = partial(agents.unheard, holder=holder, agent=agent, held=given.held)
        bridge = self.service.bridge
        if not bridge.read(lambda tx: given.pool in agents.waiting(tx) or bool(given.agent and unheard(tx))):
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

        def asked() -> bool:
            latest[0] = self.service.bridge.read(lambda tx: agents.find(tx, speaker, generation))
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
        said = [name for name in ("failure", "stopped", "died") if getattr(given, name) is not None]
        if len(said) != 1:
            raise RequestInvalid("say one of failure, stopped and died", allowed=["failure", "stopped", "died"])
        if given.failure is not None:
            return await self._end(ask, "raised", json.dumps(_failure(given.failure).to_json()))
        if given.stopped is not None:
            return await self._end(ask, "stopped", json.dumps(given.stopped))
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
)


def routes(service: Service) -> list[Route]:
    made = Leases(service)
    one, rule = "/v3/tasks/{task}", "leases:hold"
    verbs: list[tuple[str, Callable[[Ask], Awaitable[Answer]], str, Any, bool]] = [
        ("heartbeat", made.heartbeat, "Say that its step still runs, and hear what is asked of it", Heartbeat, False),
        ("progress", made.progress, "Say how far its step is", StepProgress, True),
        ("checkpoint", made.checkpoint, "Store what the next entry of its step is to know", NewCheckpoint, True),
        ("complete", made.complete, "Its step has ended well", Complete, False),
        ("fail", made.fail, "Its step has failed, stopped or died", Fail, True),
    ]
    found = [
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
