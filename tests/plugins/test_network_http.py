"""The plug-in over HTTP: routes, actions, children, the graph and agents come with the package, by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from holdfast.resources.registry import Kinds
from tests.service.conftest import MakeService, Service, make_service

__all__ = ["make_service"]  # the fixture


class Site:
    """A service with everything that is installed, and the fabric behind the plug-in."""

    def __init__(self, service: Service, fabric: Any) -> None:
        self.service = service
        self.fabric = fabric
        self.member = service.client(roles="member")

    def ask(self, path: str, body: Any, **headers: str) -> dict[str, Any]:
        """The task that was accepted."""
        answer = self.member.post(path, json=body, headers=headers)
        assert answer.status_code == 202, answer.text
        task: dict[str, Any] = answer.json()["task"]
        return task

    def made(self, kind: str, plural: str, **desired: Any) -> str:
        task = self.ask(f"/v3/{plural}", {kind: desired})
        assert self.service.until(task["uuid"], "SUCCEEDED", "FAILED")["state"] == "SUCCEEDED"
        return str(task["resource_id"])

    def resource(self, kind: str, ident: str) -> dict[str, Any]:
        found: dict[str, Any] = self.member.get(f"/v3/resources/{kind}/{ident}").json()["resource"]
        return found


@pytest.fixture
def site(plugin: ModuleType, tmp_path: Path, make_service: MakeService) -> Iterator[Site]:
    made = Site(make_service(kinds=Kinds.load()), plugin.Fabric(tmp_path / "fabric"))
    yield made
    for hang in (tmp_path / "fabric").glob("hang.*"):
        hang.unlink()


@pytest.mark.requirement("NOVA-12")
def test_an_operation_of_a_plug_in_is_an_action_of_its_kind(site: Site) -> None:
    server = site.made("server", "servers", name="web")
    task = site.ask(f"/v3/servers/{server}/action", {"frobnicate": {}})
    assert site.service.until(task["uuid"], "SUCCEEDED", "FAILED")["state"] == "SUCCEEDED"
    assert (task["task"], task["resource_id"]) == ("frobnicate", server)
    assert len(site.fabric.said("end", "knob", server)) == 1
    assert "frobnicate" in site.member.get("/v3/schemas/actions").text
    refused = site.member.post(f"/v3/servers/{server}/action", json={"frobnicate": {"how": "often"}})
    assert refused.status_code == 400
    gone = site.ask(f"/v3/servers/{server}/action", {"delete": None})
    assert site.service.until(gone["uuid"], "SUCCEEDED", "FAILED")["state"] == "SUCCEEDED"


@pytest.mark.requirement("NEUTRON-4", "NEUTRON-12", "NEUTRON-13", "P7")
def test_mechanisms_over_http(site: Site) -> None:
    port = site.made("port", "ports", name="p")
    refused = site.member.put(f"/v3/resources/port/{port}", json={"name": "p", "mtu": 9999})
    assert refused.status_code == 400
    assert site.resource("port", port)["revision"] == 1
    site.fabric.turn("fail.dhcp")
    answer = site.member.put(f"/v3/resources/port/{port}", json={"name": "p", "mtu": 1400})
    task = answer.json()["task"]
    assert site.service.until(task["uuid"], "SUCCEEDED", "FAILED")["state"] == "FAILED"
    shown = site.resource("port", port)
    assert (shown["status"], shown["sync_status"]) == ("ACTIVE", "OUT_OF_SYNC")
    assert shown["last_failed_task"]["step"].endswith("/dhcp")
    graph = site.member.get(f"/v3/tasks/{task['uuid']}/graph").json()
    graph = graph.get("graph", graph)
    edges = {(edge["from"].rpartition("/")[2], edge["to"].rpartition("/")[2]) for edge in graph["edges"]}
    assert ("switch", "flows") in edges
    assert ("switch", "dhcp") not in edges
    site.fabric.turn_off("fail.dhcp")
    mend = site.ask(f"/v3/resources/port/{port}/reconcile", {})
    assert site.service.until(mend["uuid"], "SUCCEEDED", "FAILED")["state"] == "SUCCEEDED"
    shown = site.resource("port", port)
    assert (shown["sync_status"], shown["last_failed_task"]) == ("IN_SYNC", None)


@pytest.mark.requirement("NEUTRON-5", "NOVA-8")
def test_the_children_of_an_interface_are_listed_with_it_and_not_among_the_others(site: Site) -> None:
    port, router = site.made("port", "ports", name="p"), site.made("router", "routers", name="r")
    asked = {"add_interface": {"port_id": port, "subnet": "10.0.0.0/24"}}
    task = site.ask(f"/v3/routers/{router}/action", asked, **{"Task-tag": "if-1"})
    uuid = task["uuid"]
    assert site.service.until(uuid, "SUCCEEDED", "FAILED")["state"] == "SUCCEEDED"
    below = site.member.get(f"/v3/tasks/{uuid}/tasks").json()["tasks"]
    assert {(child["task"], child["resource_id"]) for child in below} == {("attach", port), ("route", router)}
    assert {child["parent_id"] for child in below} == {uuid}
    assert {child["request_id"] for child in below} == {task["request_id"]}
    listed = {each["uuid"] for each in site.member.get("/v3/tasks").json()["tasks"]}
    assert uuid in listed
    assert listed.isdisjoint(child["uuid"] for child in below)
    by_parent = site.member.get("/v3/tasks", params={"parent_id": uuid}).json()["tasks"]
    assert {each["uuid"] for each in by_parent} == {child["uuid"] for child in below}
    deep = site.member.get("/v3/tasks", params={"depth": "all", "tag": "if-1"}).json()["tasks"]
    assert {each["uuid"] for each in deep} == {uuid, *(child["uuid"] for child in below)}
    assert [each["uuid"] for each in site.member.get("/v3/tasks", params={"tag": "if-1"}).json()["tasks"]] == [uuid]
    steps = site.member.get(f"/v3/tasks/{uuid}/steps").json()["steps"]
    assert [step["id"].rpartition("/")[2] for step in steps] == ["read_desired", "l2", "l3"]


@pytest.mark.requirement("NEUTRON-5")
def test_a_cancelled_interface_over_http(site: Site) -> None:
    port, router = site.made("port", "ports", name="p"), site.made("router", "routers", name="r")
    site.fabric.turn("hang.l3")
    asked = {"add_interface": {"port_id": port, "subnet": "10.0.0.0/24"}}
    uuid = site.ask(f"/v3/routers/{router}/action", asked)["uuid"]
    for _ in range(100):
        if len(found := site.member.get(f"/v3/tasks/{uuid}/tasks").json()["tasks"]) == 2:
            break
        site.member.get(f"/v3/tasks/{uuid}", params={"wait": 0.1})
    assert len(found) == 2
    child = next(each for each in found if each["task"] == "attach")
    assert site.member.post(f"/v3/tasks/{child['uuid']}/rollback").status_code == 409
    assert site.member.post(f"/v3/tasks/{uuid}/cancel").status_code == 202
    assert site.service.until(uuid, "CANCELLED", "FAILED")["state"] == "CANCELLED"
    assert site.resource("port", port)["lifecycle"] == "ACTIVE"
    assert site.fabric.there("l2", port) is None


@pytest.mark.requirement("NEUTRON-11")
def test_an_agent_asks_for_what_its_pool_does(site: Site) -> None:
    port = site.made("port", "ports", name="p")
    agent = site.service.client(roles="agent:agents", user="host1")
    body = {"task": "port.wire", "resource": {"port": port}, "params": {"cable": "c7"}}
    made = agent.post("/tasks", json=body, headers={"Task-tag": "wire-p"})
    assert made.status_code == 202, made.text
    task = made.json()["task"]
    assert (task["origin"], task["task"], task["resource_id"]) == ("agent:host1", "wire", port)
    again = agent.post("/tasks", json=body, headers={"Task-tag": "wire-p"})
    assert again.json()["task"]["uuid"] == task["uuid"]
    elsewhere = site.service.client(roles="agent:others", user="host2")
    assert elsewhere.post("/tasks", json=body).status_code == 403
    gone = {"task": "delete", "resource": {"port": port}}
    assert agent.post("/tasks", json=gone).status_code == 403
