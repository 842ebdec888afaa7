"""Workers and pools over HTTP: what is shown, to whom; limits, pause and drain."""

from __future__ import annotations

from typing import Any

import pytest

import holdfast
from holdfast.client import connect
from tests.service.conftest import MakeService, Service
from tests.service.test_requests import problem
from tests.worker.house import until


def admin(service: Service) -> Any:
    return service.client("elsewhere", roles="admin")


def test_workers_and_what_they_do(make_service: MakeService) -> None:
    service = make_service()
    task = service.submit("hanging")
    service.until(task["uuid"], "RUNNING")
    until(lambda: any(each["tasks"] for each in admin(service).get("/v3/workers").json()["workers"]))
    (worker,) = admin(service).get("/v3/workers", params={"pool": "default"}).json()["workers"]
    assert (worker["pool"], worker["state"], worker["version"]) == ("default", "ALIVE", holdfast.__version__)
    assert worker["host"]
    assert worker["heartbeat_age_s"] < worker["lease_s"]
    (held,) = worker["tasks"]
    assert (held["uuid"], held["task"], held["state"]) == (task["uuid"], "hanging", "RUNNING")
    assert [step["id"] for step in held["steps"]] == ["hanging/hold_on"]
    assert admin(service).get("/v3/workers", params={"pool": "none"}).json()["workers"] == []


@pytest.mark.parametrize("path", ["/v3/workers", "/v3/pools", "/v3/pools/default"])
def test_they_are_for_administrators(shared: Service, path: str) -> None:
    problem(shared.client().get(path), 403, "policy.forbidden")
    assert admin(shared).get(path).status_code == 200


def test_changes_are_for_administrators(shared: Service) -> None:
    client = shared.client()
    problem(client.put("/v3/pools/mine", json={"running_max": 1}), 403, "policy.forbidden")
    for verb in ("pause", "resume", "drain"):
        problem(client.post(f"/v3/pools/default/{verb}"), 403, "policy.forbidden")
        problem(admin(shared).post(f"/v3/pools/nobodys/{verb}"), 404, "not_found")
    problem(admin(shared).get("/v3/pools/nobodys"), 404, "not_found")
    assert admin(shared).get("/v3/pools/default").json()["pool"]["state"] == "OPEN"


def test_limits_are_set_and_taken_off(shared: Service) -> None:
    boss = admin(shared)
    made = boss.put("/v3/pools/hv1", json={"running_max": 8, "queued_max": 100}).json()["pool"]
    told = {name: made[name] for name in ("name", "state", "running_max", "queued_max", "running", "queued", "workers")}
    assert told == {
        "name": "hv1", "state": "OPEN", "running_max": 8, "queued_max": 100, "running": 0, "queued": 0, "workers": 0,
    }  # fmt: skip
    changed = boss.put("/v3/pools/hv1", json={"queued_max": None}).json()["pool"]
    assert (changed["running_max"], changed["queued_max"]) == (8, None)
    assert [link["href"] for link in made["links"]][:2] == ["/v3/pools/hv1", "/v3/pools/hv1/pause"]
    assert changed in boss.get("/v3/pools").json()["pools"]
    for wrong in ({"running_max": 0}, {"running_max": "8"}, {"most": 8}):
        problem(boss.put("/v3/pools/hv1", json=wrong), 400, "request.invalid")


def test_a_full_pool_refuses_what_would_wait_and_says_when_to_come_again(make_service: MakeService) -> None:
    service = make_service(worker=False)
    boss = admin(service)
    assert boss.put("/v3/pools/default", json={"queued_max": 2}).status_code == 200
    for _ in range(2):
        service.submit("quick")
    answer = service.client().post("/v3/tasks", json={"task": "quick"}, headers={"Task-tag": "again"})
    told = problem(answer, 429, "quota")
    assert (told["quota"], told["limit"], told["pool"]) == ("pool_queued", 2, "default")
    assert int(answer.headers["retry-after"]) == 5
    assert boss.get("/v3/pools/default").json()["pool"]["queued"] == 2
    boss.put("/v3/pools/default", json={"queued_max": 3})
    again = service.client().post("/v3/tasks", json={"task": "quick"}, headers={"Task-tag": "again"})
    assert again.status_code == 202


def test_pause_takes_nothing_and_resume_goes_on(make_service: MakeService) -> None:
    service = make_service()
    boss = admin(service)
    service.until(service.submit("quick")["uuid"], "SUCCEEDED")
    assert boss.post("/v3/pools/default/pause").json()["pool"]["state"] == "PAUSED"
    waits = service.submit("quick")
    pool = boss.get("/v3/pools/default").json()["pool"]
    assert (pool["due"], pool["running"], pool["state"]) == (1, 0, "PAUSED")
    assert service.client().get(f"/v3/tasks/{waits['uuid']}").json()["task"]["state"] == "PENDING"
    assert boss.post("/v3/pools/default/pause").json()["pool"]["paused_at"] == pool["paused_at"]
    assert boss.post("/v3/pools/default/resume").json()["pool"]["state"] == "OPEN"
    service.until(waits["uuid"], "SUCCEEDED")


def test_a_drained_pool_hands_over_what_it_had(make_service: MakeService) -> None:
    service = make_service(lease_s=0.6)
    with connect(service.url, project="elsewhere", roles="admin") as client:
        task = service.submit("hanging")
        service.until(task["uuid"], "RUNNING")
        until(lambda: client.pools.get("default")["running"] == 1)
        assert client.pools.drain("default")["state"] == "DRAINING"
        until(lambda: client.workers.list()[0]["state"] == "DRAINING")
        assert client.pools.limit("default", running_max=4)["running_max"] == 4
        service.client().post(f"/v3/tasks/{task['uuid']}/suspend")
        until(lambda: client.pools.get("default")["state"] == "DRAINED")
        assert client.pools.pause("default")["state"] == "DRAINED", "it is more than paused"
        assert client.pools.resume("default")["state"] == "OPEN"
        assert [each["name"] for each in client.pools.list()] == ["default"]
