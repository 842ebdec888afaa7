"""What an agent says to the service and hears: each a request that may be lost, and may be sent again.

Theory: one try each; who calls decides how long it tries. A 409 `lease.lost` is an answer for good, like any other
refusal; a lost answer and a service that is away are not. The client's own protocol reads the answers (client/).
What is said with what: service/leases.py.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from holdfast.client import shell
from holdfast.client.aio import AsyncClient
from holdfast.client.patience import Patience
from holdfast.client.protocol import ask, document, member, path_of
from holdfast.core.failure import Failure
from holdfast.core.values import encode
from holdfast.errors import HoldfastError, ValueRefused, WorldError
from holdfast.runtime.base import Outcome, RemoteError
from holdfast.runtime.wire import write_outcome

ANSWER_S = 10.0  # how long the service may take for an answer, besides what it was told to wait
CONNECT_S = 3.0


class Wire:
    """The service, for one agent. For one event loop."""

    def __init__(self, url: str, token: str | None) -> None:
        self.patience = Patience(deadline_s=0.5, connect_s=CONNECT_S, most_s=5.0)
        self._client = AsyncClient(shell.Options(url, token=token, patience=self.patience))

    async def lease(self, pool: str, most: int, wait_s: float, agent: str, held: Sequence[str]) -> list[dict[str, Any]]:
        """What there is to run. Raises: HoldfastError."""
        body = {"pool": pool, "max": most, "wait": wait_s, "agent": agent, "held": list(held)}
        reply = await self._post(path_of("leases"), None, body, wait_s + ANSWER_S)
        found: list[dict[str, Any]] = member(document(reply), "leases")
        return found

    async def beat(self, lease: Lease, wait_s: float, answer_s: float, known: tuple[str | None, bool]) -> Any:
        """What is asked of its step. Raises: LeaseLost and other HoldfastErrors."""
        body = {"wait": wait_s, "stop": known[0], "kill": known[1]}
        return document(await self._post(lease.path("heartbeat"), lease, body, wait_s + answer_s))

    async def say(self, lease: Lease, verb: str, body: dict[str, Any]) -> None:
        """Raises: LeaseLost and other HoldfastErrors."""
        await self._post(lease.path(verb), lease, body, ANSWER_S)

    async def close(self) -> None:
        await self._client.close()

    async def _post(self, path: str, lease: Lease | None, body: Any, answer_s: float) -> Any:
        headers = {} if lease is None else {"Lease-Token": lease.token}
        try:
            return await self._client.run(
                ask(self._client.ways, "POST", path, body=body, headers=headers, answer_s=answer_s)
            )
        except HoldfastError as error:
            if error.is_foreign:  # while a server of the service is replaced, a proxy knows of none
                raise WorldError(str(error)) from error
            raise


class Lease:
    """One that the service has given."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.token: str = member(given, "token")
        self.task: str = member(member(given, "task"), "uuid")
        self.step: str = member(given, "step")
        self.what: str = member(given, "what")
        self.lease_s = float(member(given, "lease_s"))
        self.timeout_s: float | None = given.get("timeout_s")
        self.work: dict[str, Any] = member(given, "work")

    def path(self, verb: str) -> str:
        return path_of("tasks", self.task, verb)

    def __str__(self) -> str:
        return f"{self.what} of {self.step} of task {self.task}"


def checkpoint_body(value: Any, number: int, name: str, bytes_max: int | None) -> dict[str, Any]:
    """Raises: ValueRefused: it can't be stored."""
    return {"value": json.loads(encode(value, _as_is, name=name, bytes_max=bytes_max)), "number": number}


def end_of(outcome: Outcome, name: str, bytes_max: int | None) -> tuple[str, dict[str, Any]]:
    """How it ended, as the verb and its body. A result that can't be stored is a failure of the step."""
    said = write_outcome(outcome, name, bytes_max)
    word, value = said["outcome"], said["value"]
    if word == "returned":
        return "complete", {"result": json.loads(value)}
    if word == "raised":
        return "fail", {"failure": value}
    if word == "stopped":
        return "fail", {"stopped": str(value)}
    if word == "killed":
        return "fail", {"killed": "it was ended by its agent"}
    return "fail", {"died": str(value)}


def refused(error: HoldfastError, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """What is said instead of an end that the service does not take, whatever is wrong with it. A service of an older
    release knows no `killed`."""
    if "killed" in body:
        return "fail", {"died": body["killed"]}
    failure = Failure.of(ValueRefused(f"the service did not take how the step ended: {error}"), with_traceback=False)
    return end_of(("raised", RemoteError(failure)), "", None)


def _as_is(text: str) -> str:
    return text
