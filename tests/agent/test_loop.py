"""An agent that the service does not want, or that asks for what there is not."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path

import pytest

from holdfast.agent.loop import Agent
from holdfast.agent.wire import Wire, end_of, refused
from holdfast.cli.main import main
from holdfast.clock import SYSTEM
from holdfast.errors import AuthRequired, PolicyForbidden, UsageError
from holdfast.service.problems import RequestInvalid
from tests.agent.agent_flows import FLOWS
from tests.service.conftest import MakeService, Service, make_service

__all__ = ["make_service"]


async def run(service: Service, token: str, pool: str = "hv1", at_once: int = 1) -> None:
    made = Agent(Wire(service.url, token), pool=pool, flows=FLOWS, at_once=at_once, clock=SYSTEM, grace_s=0.1)
    async with asyncio.timeout(10):
        await made.run()


@pytest.fixture
def guarded(make_service: MakeService, tmp_path: Path) -> Service:
    known = {"good": ["agent:hv1"], "reader": ["reader"]}
    hashed = {
        hashlib.sha256(token.encode()).hexdigest(): {"user": token, "project": "p", "roles": roles}
        for token, roles in known.items()
    }
    file = tmp_path / "tokens.json"
    file.write_text(json.dumps(hashed), encoding="utf-8")
    return make_service(worker=False, offered=FLOWS, identity="tokens", tokens_file=str(file))


@pytest.mark.requirement("TF-14")
def test_an_agent_that_may_not_lease_ends_and_says_so(guarded: Service) -> None:
    with pytest.raises(AuthRequired):
        asyncio.run(run(guarded, "nobody's"))
    with pytest.raises(PolicyForbidden, match="leases:hold"):
        asyncio.run(run(guarded, "reader"))
    with pytest.raises(PolicyForbidden, match="you serve hv1"):
        asyncio.run(run(guarded, "good", pool="hv2"))


def test_an_agent_runs_a_number_of_steps_that_its_connections_can_carry(guarded: Service) -> None:
    for number in (0, 33):
        with pytest.raises(UsageError, match="steps at once"):
            asyncio.run(run(guarded, "good", at_once=number))


def test_an_agent_is_told_where_the_service_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOLDFAST_URL", raising=False)
    assert main(["agent", "--pool", "hv1"]) == 2
    assert "--url" in capsys.readouterr().err


def test_a_result_that_nobody_can_store_is_a_failure_of_the_step() -> None:
    verb, body = end_of(("returned", object()), "the result of make", 2048)
    assert verb == "fail"
    assert "can't be stored" in body["failure"]["message"]
    assert end_of(("returned", "x" * 3000), "the result of make", 2048)[0] == "fail"
    assert end_of(("killed", None), "", None) == ("fail", {"killed": "it was ended by its agent"})


def test_a_service_that_knows_no_killed_is_told_that_it_died() -> None:
    """One of the release before: else the step would fail, and be undone."""
    _, body = end_of(("killed", None), "", None)
    assert refused(RequestInvalid("it has an unknown field"), body) == ("fail", {"died": body["killed"]})
    verb, said = refused(RequestInvalid("too deep"), {"result": 1})
    assert (verb, list(said)) == ("fail", ["failure"])
