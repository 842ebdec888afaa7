"""A client that nobody here wrote: openstacksdk drives servers, and reads what it is answered, as it is."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.resources.server.conftest import pause
from tests.service.conftest import MakeService, Service
from tests.service.servers import kinds

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import openstack
    from keystoneauth1 import noauth, session, token_endpoint
    from openstack import exceptions

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs
TOKENS = {"t0ken-of-a-member": ["member"], "t0ken-of-an-admin": ["admin"]}


class Site:
    """A service, and how a role asks it."""

    def __init__(self, service: Service, way: str) -> None:
        self.service = service
        self._way = way
        self._opened: list[Any] = []

    def connection(self, role: str) -> Any:
        base = f"{self.service.url}/v3"
        if self._way == "tokens":
            (token,) = (token for token, roles in TOKENS.items() if roles == [role])
            asks = session.Session(auth=token_endpoint.Token(base, token))
        else:  # what the middleware of a proxy would have added
            said = {"X-Identity-Status": "Confirmed", "X-User-Id": "u1", "X-Project-Id": "p", "X-Roles": role}
            asks = session.Session(auth=noauth.NoAuth(endpoint=base), additional_headers=said)
        made: Any = openstack.connection.Connection(
            session=asks, compute_endpoint_override=base, compute_api_version="2"
        )  # fmt: skip
        self._opened.append(asks)
        return made

    def close(self) -> None:
        for each in self._opened:
            each.session.close()


@pytest.fixture(params=["tokens", "keystone-proxy"])
def site(request: pytest.FixtureRequest, make_service: MakeService, tmp_path: Path) -> Iterator[Site]:
    known = {
        hashlib.sha256(token.encode()).hexdigest(): {"user": "u1", "project": "p", "roles": roles}
        for token, roles in TOKENS.items()
    }
    (tmp_path / "tokens.json").write_text(json.dumps(known), encoding="utf-8")
    ways: dict[str, Any] = {"tokens": {"tokens_file": str(tmp_path / "tokens.json")}, "keystone-proxy": {}}
    offered = kinds(tmp_path / "servers")
    made = Site(make_service(kinds=offered, identity=request.param, **ways[request.param]), request.param)
    yield made
    made.close()


@pytest.mark.requirement("NOVA-2", "NOVA-3", "NOVA-22")
def test_a_server_its_actions_and_their_events(site: Site) -> None:
    compute = site.connection("member").compute
    body = {"server": {"name": "web", "metadata": {"faults": "reboot=after"}}}
    made = compute.post("/servers", json=body)
    assert made.status_code == 202
    server = compute.wait_for_server(compute.get_server(made.json()["server"]["id"]), interval=0.05, wait=20)
    raw = compute.get(f"/servers/{server.id}").json()["server"]
    assert (server.name, server.status, server.vm_state, server.power_state) == ("web", "ACTIVE", "active", 1)
    assert (server.created_at, server.project_id, server.metadata) == (raw["created"], "p", raw["metadata"])
    assert (
        [each.id for each in compute.servers()] == [each.id for each in compute.servers(details=False)] == [server.id]
    )
    assert server.fault is None

    compute.reboot_server(server, "SOFT")  # raises unless the answer is what it expects
    until(lambda: compute.get_server(server.id).status == "ERROR")
    failed = compute.get_server(server.id)
    assert failed.fault["task_id"] == failed.to_dict()["fault"]["task_id"] != ""
    assert "details" not in failed.fault

    found = list(compute.server_actions(server))
    assert [(each.action, each.message) for each in found] == [("reboot", "Error"), ("create", None)]
    paged = list(compute.server_actions(server, limit=1, changes_since="2020-01-01T00:00:00Z"))
    assert [each.request_id for each in paged] == [each.request_id for each in found]
    raw_actions = compute.get(f"/servers/{server.id}/os-instance-actions").json()["instanceActions"]
    for each, was in zip(found, raw_actions, strict=True):
        assert {name: getattr(each, name) for name in was if name not in ("instance_uuid", "updated_at")} == {
            name: was[name] for name in was if name not in ("instance_uuid", "updated_at")
        }

    one = compute.get_server_action(found[0].request_id, server)
    assert {event.result for event in one.events} == {"Success", "Error"}
    assert all(event.host is None and event.traceback is None and event.host_id for event in one.events)
    seen = site.connection("admin").compute.get_server_action(found[0].request_id, server)
    assert [event.event for event in seen.events] == [event.event for event in one.events]
    assert all(event.host for event in seen.events)
    assert [event.event for event in seen.events if "Traceback" in (event.traceback or "")]


def test_its_cloud_layer_and_its_errors(site: Site) -> None:
    connection = site.connection("member")
    compute = connection.compute
    made = compute.post("/servers", json={"server": {"name": "web"}}).json()["server"]
    server = compute.wait_for_server(compute.get_server(made["id"]), interval=0.05, wait=20)
    assert connection.get_server("web").id == server.id
    for verb, status in (("suspend", "SUSPENDED"), ("resume", "ACTIVE"), ("pause", "SUSPENDED"), ("unpause", "ACTIVE"),
                         ("stop", "SHUTOFF"), ("start", "ACTIVE")):  # fmt: skip
        getattr(compute, f"{verb}_server")(server)
        assert compute.wait_for_server(server, status=status, interval=0.05, wait=20).status == status
    with pytest.raises(exceptions.ConflictException) as refused:
        compute.resume_server(server)
    assert "suspend" in said(refused.value)["allowed"]
    with pytest.raises(exceptions.BadRequestException) as unknown:
        compute.lock_server(server)
    assert unknown.value.request_id == said(unknown.value)["request_id"]
    with pytest.raises(exceptions.NotFoundException) as missing:
        compute.get_server("nobody")
    for error in (refused, unknown, missing):
        assert said(error.value)["detail"] in str(error.value), "people are shown our sentence"
    compute.delete_server(server)
    compute.wait_for_delete(server, interval=0.05, wait=20)
    assert next(each.action for each in compute.server_actions(server.id)) == "delete"


def said(error: Any) -> Any:
    return error.response.json()


def until(condition: Any) -> None:
    for _ in range(400):
        if condition():
            return
        pause(0.05)
    raise AssertionError("it never came true")
