"""One lease in one agent, with a service that is away when the test says so: what is said of the step afterwards."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import holdfast as hf
from holdfast.agent.held import Held
from holdfast.agent.wire import Lease
from holdfast.client.patience import Patience
from holdfast.clock import SYSTEM
from holdfast.errors import WorldError
from holdfast.flow.registry import registered
from holdfast.runtime.choice import Runtimes

pytestmark = pytest.mark.requirement("TF-14")
entered, go_on = threading.Event(), threading.Event()


@hf.step(provides="paid", agent="hv1", on_interrupt="suspend")
def pay(ctx: hf.Context) -> str:
    entered.set()
    assert go_on.wait(30)
    raise ValueError("the second of two was declined")


@hf.step(provides="saved", agent="hv1")
def save(ctx: hf.Context) -> str:
    entered.set()
    assert go_on.wait(30)
    ctx.checkpoint(1)
    return "saved"


@hf.step(provides="heeded", agent="hv1")
def heed(ctx: hf.Context) -> None:
    entered.set()
    ctx.sleep(30)


FLOWS = [hf.linear("paying", pay), hf.linear("saving", save), hf.linear("heeding", heed)]


class Service:
    """Answers heartbeats, and keeps what is said."""

    def __init__(self) -> None:
        self.patience = Patience(deadline_s=0.5, connect_s=1.0, most_s=0.2)
        self.away = False
        self.said: list[tuple[str, dict[str, Any]]] = []

    async def _answer(self) -> None:
        await asyncio.sleep(0.01)
        if self.away:
            raise WorldError("away")

    async def beat(self, *_: object) -> dict[str, Any]:
        await self._answer()
        return {"stop": None, "kill": False}

    async def say(self, lease: Lease, verb: str, body: dict[str, Any]) -> None:
        await self._answer()
        self.said.append((verb, body))


def lease_of(flow: Any) -> Lease:
    context = {
        "key": "k", "forward_key": "k", "attempt": 1, "task_id": "u", "fence": 1, "last_checkpoint": None, "event": None
    }  # fmt: skip
    work = {"reference": next(iter(registered([flow]))), "arguments": {}, "ctx": ["ctx"], "context": context}
    step = f"{flow.name}/{flow.children[0].name}"
    return Lease({"token": "t", "task": {"uuid": "u"}, "step": step, "what": "execute", "lease_s": 0.6, "work": work})


async def cut_off(flow: Any) -> list[tuple[str, dict[str, Any]]]:
    """What is said of a step whose service is away for too long, and back when the step has been told."""
    entered.clear()
    go_on.clear()
    service: Any = Service()
    runtimes = Runtimes("threads", workers_max=2)
    held = Held(lease_of(flow), service, runtimes, SYSTEM, FLOWS)
    run = asyncio.ensure_future(held.run())
    async with asyncio.timeout(30):
        await asyncio.to_thread(entered.wait)
        service.away = True
        while not held._cut_off:
            await asyncio.sleep(0.01)
        go_on.set()
        service.away = False
        await run
    await asyncio.to_thread(runtimes.close, 1.0)
    assert not held.lost
    said: list[tuple[str, dict[str, Any]]] = service.said
    return said


@pytest.mark.requirement("G3")
def test_what_raised_when_it_was_stopped_is_in_doubt() -> None:
    """Said to have stopped at a safe point it would be entered again, whatever its author said."""
    assert asyncio.run(cut_off(FLOWS[0])) == [("fail", {"killed": "it was ended by its agent"})]


@pytest.mark.parametrize("flow", FLOWS[1:], ids=lambda flow: flow.name)
def test_what_heeded_the_request_goes_on_elsewhere_and_stores_no_more(flow: Any) -> None:
    assert asyncio.run(cut_off(flow)) == [("fail", {"stopped": "lease_lost"})]
