"""What one project can neither learn of another's work nor do to it, where both meet at one resource."""

from __future__ import annotations

from typing import Any

import pytest

from tests.service.conftest import Service
from tests.service.servers import Cloud, _cloud, _still, cloud, still
from tests.service.test_requests import problem

__all__ = ["_cloud", "_still", "cloud", "still"]

pytestmark = pytest.mark.requirement("TF-13")


def test_a_resource_of_another_project_is_not_claimed(still: Cloud) -> None:
    mine, rival = still.make(), still.client("rival")
    before = still.member.get("/v3/tasks").json()["tasks"]
    for claim in (
        {"type": "server", "id": mine}, {"type": "server", "id": mine, "mode": "shared"},
        {"type": "", "id": f"server/{mine}"}, {"type": "server", "id": "none-at-all"},
    ):  # fmt: skip
        answer = rival.post("/v3/tasks", json={"task": "quick", "claims": [claim]}, headers={"Task-tag": "mine"})
        problem(answer, 404, "not_found")
    own = still.make(client=rival)
    body = {"task": "start", "resource": {"server": own}, "claims": [{"type": "server", "id": mine}]}
    assert rival.post("/v3/tasks", json=body).status_code in (404, 409)
    body |= {"task": "delete"}
    problem(rival.post("/v3/tasks", json=body), 404, "not_found")
    assert rival.get(f"/v3/servers/{own}").json()["server"]["queue_length"] == 1
    assert still.member.get("/v3/tasks").json()["tasks"] == before
    # Its own it may claim, and so may an administrator everybody's; and the tag was not used up.
    asked = {"task": "quick", "claims": [{"type": "server", "id": own}]}
    again: dict[str, Any] = {"json": asked, "headers": {"Task-tag": "mine"}}
    assert [rival.post("/v3/tasks", **again).status_code for _ in range(2)] == [202, 202]
    boss = still.client("elsewhere", roles="admin")
    claimed = boss.post("/v3/tasks", json=asked)
    assert claimed.status_code == 202


def test_what_is_another_projects_is_not_there_to_be_made_either(still: Cloud) -> None:
    mine, rival = "choice-of-mine", still.client("rival")
    assert still.member.put(f"/v3/resources/server/{mine}", json={"name": "a"}).status_code == 202
    place, free = f"/v3/resources/server/{mine}", "/v3/resources/server/choice-of-nobody"
    wanted = {"task": "create", "resource": {"server": mine}, "params": {"name": "a"}}
    told = [
        problem(answer, 404, "not_found")["detail"]
        for answer in (
            rival.get(place), rival.put(place, json={"name": "a"}), rival.post("/v3/tasks", json=wanted),
            rival.delete(place),
        )
    ]  # fmt: skip
    assert set(told) == {f"there is no server {mine}"}
    seen = {"If-Match": '"1"'}
    for path in (place, free):  # neither tells which of the two there is
        problem(rival.put(path, json={"name": "a"}, headers=seen), 412, "precondition.failed")
    assert problem(still.member.post("/v3/tasks", json=wanted), 409, "resource.immutable")


def test_an_administrator_who_is_at_work_on_a_resource_is_not_named(cloud: Cloud) -> None:
    mine, boss = cloud.make(), cloud.client("elsewhere", roles="admin")
    theirs = cloud.submit("waiting", client=boss, claims=[{"type": "server", "id": mine}])["uuid"]
    cloud.until(theirs, "WAITING", client=boss)
    hurried = {"Prefer": "fail-if-busy"}
    refused = cloud.member.post(f"/v3/servers/{mine}/action", json={"stop": None}, headers=hurried)
    assert "task" not in problem(refused, 409, "resource.busy")
    waits = cloud.act(mine, "stop")
    assert theirs not in refused.text + cloud.member.get(f"/v3/tasks/{waits['uuid']}").text
    boss.post(f"/v3/tasks/{theirs}/events/go")
    assert cloud.ended(waits["uuid"])["state"] == "SUCCEEDED"


def test_who_of_another_project_is_before_a_task_is_not_named(shared: Service) -> None:
    mine, rival = shared.client(), shared.client(f"rival-of-{shared.project}")
    place = {"network": f"public-{shared.project}"}
    theirs = shared.submit("waiting", client=rival, resource=place)["uuid"]
    shared.until(theirs, "WAITING", client=rival)
    waits = shared.submit("quick", client=mine, resource=place)["uuid"]
    shown = mine.get(f"/v3/tasks/{waits}")
    assert (shown.json()["task"]["queue_position"], shown.json()["task"]["blocked_by"]) == (1, [])
    listed = mine.get("/v3/tasks", params={"fields": "uuid,blocked_by"})
    assert theirs not in shown.text + listed.text
    boss = shared.client("elsewhere", roles="admin")
    assert boss.get(f"/v3/tasks/{waits}").json()["task"]["blocked_by"] == [theirs]
    refused = mine.post("/v3/tasks", json={"task": "quick", "resource": place}, headers={"Prefer": "fail-if-busy"})
    assert "task" not in problem(refused, 409, "resource.busy")
    assert theirs not in refused.text
    rival.post(f"/v3/tasks/{theirs}/events/go")
    shared.until(waits, "SUCCEEDED", client=mine)


def test_who_of_another_project_came_since_is_not_named(shared: Service) -> None:
    mine, rival = shared.client(), shared.client(f"rival-of-{shared.project}")
    place = {"network": f"undone-{shared.project}"}
    first = shared.submit("undoable", client=mine, resource=place)["uuid"]
    shared.until(first, "SUCCEEDED", client=mine)
    theirs = shared.submit("undoable", client=rival, resource=place)["uuid"]
    shared.until(theirs, "SUCCEEDED", client=rival)
    refused = mine.post(f"/v3/tasks/{first}/rollback")
    problem(refused, 409, "rollback.superseded")
    assert theirs not in refused.text
