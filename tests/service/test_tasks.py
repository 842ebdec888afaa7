"""Looking at tasks: one, until it changes; lists; steps, children, graph, log; and that all is of the schema."""

from __future__ import annotations

import threading
import time
from typing import Any

import httpx
import jsonschema_rs
import pytest

from holdfast.service.tasks import INLINE_CHARS_MAX
from tests.service.conftest import MakeService, Service
from tests.service.test_requests import problem

# What the request for tasks laid down (additionalProperties: more is allowed).
SEED: dict[str, Any] = {
    "type": "object",
    "properties": {
        "uuid": {"type": "string", "format": "uuid"},
        "task": {"type": "string"},
        "state": {"type": "string"},
        "tag": {"type": ["string", "null"]},
        "resource": {"type": "object", "additionalProperties": {"type": "string"}},
        "request_id": {"type": "string"},
        "user_id": {"type": "string"},
        "project_id": {"type": "string"},
        "start_time": {"type": "string", "format": "date-time"},
        "last_updated": {"type": "string", "format": "date-time"},
    },
    "required": ["uuid", "task", "state", "resource", "request_id", "user_id", "project_id", "start_time",
                 "last_updated"],
    "additionalProperties": True,
}  # fmt: skip


@pytest.mark.requirement("TAG-16")
def test_everything_that_is_shown_is_of_the_schema(shared: Service) -> None:
    client, admin = shared.client(), shared.client(roles="admin")
    schema = client.get("/v3/schemas/task").json()
    own = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    seed = jsonschema_rs.Draft202012Validator(SEED, validate_formats=True)
    for flow, state in (("quick", "SUCCEEDED"), ("failing", "FAILED"), ("waiting", "WAITING")):
        answer = client.post("/v3/tasks", json={"task": flow, "resource": {"server": "s"}})
        own.validate(answer.json()["task"])
        uuid = answer.json()["task"]["uuid"]
        shared.until(uuid, state, client=client)
        for asker in (client, admin):
            task = asker.get(f"/v3/tasks/{uuid}").json()["task"]
            own.validate(task)
            seed.validate(task)
            assert task.keys() <= schema["properties"].keys()
        if flow == "waiting":
            client.post(f"/v3/tasks/{uuid}/abort")
            shared.until(uuid, "ABORTED", client=client)
    listed = client.get("/v3/tasks").json()["tasks"]
    assert len(listed) == 3
    for task in listed:
        own.validate(task)
        seed.validate(task)


def test_a_large_result_is_shown_as_a_small_one_is(shared: Service) -> None:
    client = shared.client()
    for letters in (10, INLINE_CHARS_MAX + 1):
        uuid = shared.submit("spelling", params={"letters": letters})["uuid"]
        shared.until(uuid, "SUCCEEDED")
        answer = client.get(f"/v3/tasks/{uuid}")
        assert answer.json()["task"]["result"] == {"text": "x" * letters}
        assert client.get(f"/v3/tasks/{uuid}", headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304
        problem(shared.client(project="another", roles="member").get(f"/v3/tasks/{uuid}"), 404, "not_found")


@pytest.mark.requirement("NOVA-3")
def test_tracebacks_and_hosts_are_for_administrators(shared: Service) -> None:
    uuid = shared.submit("failing")["uuid"]
    shared.until(uuid, "FAILED")
    for roles in ("member", "reader"):
        client = shared.client(roles=roles)
        for path in ("", "/steps", "/tasks", "/graph"):
            text = client.get(f"/v3/tasks/{uuid}{path}").text
            assert "Traceback" not in text
            assert "traceback" not in text
            assert '"host"' not in text
        assert "traceback" not in client.get("/v3/tasks", params={"fields": "uuid,error,params,result"}).text
        problem(client.get(f"/v3/tasks/{uuid}/log"), 403, "policy.forbidden")
    admin = shared.client(roles="admin")
    assert "no such luck" in admin.get(f"/v3/tasks/{uuid}").json()["task"]["error"]["traceback"]
    assert "traceback" in admin.get(f"/v3/tasks/{uuid}/steps").text


@pytest.mark.requirement("P6")
def test_who_failed_at_which_step_stays_to_be_found(shared: Service) -> None:
    client = shared.client()
    failed = shared.submit("failing", client=client, resource={"server": "s-1"}, params={"message": "out of disk"})
    shared.until(failed["uuid"], "FAILED", client=client)
    later = shared.submit("quick", client=client, resource={"server": "s-1"})
    shared.until(later["uuid"], "SUCCEEDED", client=client)
    found = client.get("/tasks?resource_id=s-1&task_state=FAILED&tag=").json()["tasks"]
    assert [each["uuid"] for each in found] == [failed["uuid"]]
    assert (found[0]["error"]["step"], found[0]["error"]["detail"]) == ("failing/fail", "out of disk")
    assert client.get("/v3/tasks?resource_id=s-1&state=in:failed,succeeded").json()["tasks"][0]["state"] == "SUCCEEDED"


def test_pages_neither_repeat_nor_skip(shared: Service) -> None:
    client = shared.client()
    first = [shared.submit("quick", client=client)["uuid"] for _ in range(5)]
    page = client.get("/v3/tasks", params={"limit": 2}).json()
    seen = [each["uuid"] for each in page["tasks"]]
    between = shared.submit("quick", client=client)["uuid"]
    while page["links"]:
        (link,) = page["links"]
        assert link["rel"] == "next"
        page = client.get(link["href"]).json()
        seen += [each["uuid"] for each in page["tasks"]]
    assert seen == first[::-1]
    assert between not in seen
    assert client.get("/v3/tasks", params={"limit": 0}).json() == {"tasks": [], "links": []}
    assert len(client.get("/v3/tasks", params={"limit": 5000}).json()["tasks"]) == 6
    oldest = client.get("/v3/tasks", params={"sort": "created_at:asc", "limit": 1, "fields": "uuid"}).json()["tasks"]
    assert oldest == [{"uuid": first[0]}]
    for bad in ("limit=-1", "limit=ten", "marker=nobody", "sort=colour", "fields=colour", "created_at=gt:soon",
                "state=MOVING", "all_projects=maybe", "changes-since=x"):  # fmt: skip
        problem(client.get(f"/v3/tasks?{bad}"), 400, "request.invalid")


def test_times_select(shared: Service) -> None:
    client = shared.client()
    tasks = [shared.submit("quick", client=client) for _ in range(3)]
    at = tasks[1]["created_at"]
    for query, wanted in (
        (f"created_at=gt:{at}", {2}), (f"created_at=gte:{at}", {1, 2}), (f"created_at=lt:{at}", {0}),
        (f"created_at=lte:{at}", {0, 1}), (f"created_at=gte:{at}&created_at=lte:{at}", {1}),
        (f"changes-since={tasks[0]['created_at']}", {0, 1, 2}), ("changes-before=2020-01-01T00:00:00Z", set()),
    ):  # fmt: skip
        found = {each["uuid"] for each in client.get(f"/v3/tasks?{query}").json()["tasks"]}
        assert found == {tasks[place]["uuid"] for place in wanted}, query


def test_other_projects_are_for_administrators(shared: Service) -> None:
    uuid = shared.submit("quick")["uuid"]
    member, admin = shared.client("elsewhere"), shared.client("elsewhere", roles="admin")
    assert uuid in [each["uuid"] for each in admin.get("/v3/tasks?all_projects=true&limit=1000").json()["tasks"]]
    found = admin.get("/v3/tasks", params={"project_id": shared.project}).json()["tasks"]
    assert [each["uuid"] for each in found] == [uuid]
    problem(member.get("/v3/tasks?all_projects=true"), 403, "policy.forbidden")
    problem(member.get("/v3/tasks", params={"project_id": shared.project}), 403, "policy.forbidden")
    assert member.get("/v3/tasks", params={"project_id": "elsewhere"}).status_code == 200


def test_steps_graph_and_log(shared: Service) -> None:
    client = shared.client()
    uuid = shared.submit("waiting", client=client)["uuid"]
    shared.until(uuid, "WAITING", client=client)
    steps = client.get(f"/v3/tasks/{uuid}/steps").json()["steps"]
    assert [(each["id"], each["state"]) for each in steps] == [
        ("waiting/mark", "SUCCEEDED"), ("waiting/wait_for_it", "WAITING"),
    ]  # fmt: skip
    page = client.get(f"/v3/tasks/{uuid}/steps?limit=1").json()
    assert [each["id"] for each in page["steps"]] == ["waiting/mark"]
    rest = client.get(page["links"][0]["href"]).json()
    assert ([each["id"] for each in rest["steps"]], rest["links"]) == (["waiting/wait_for_it"], [])
    graph = client.get(f"/v3/tasks/{uuid}/graph").json()["graph"]
    assert graph["edges"] == [{"from": "waiting/mark", "to": "waiting/wait_for_it"}]
    assert [node["state"] for node in graph["nodes"]] == ["SUCCEEDED", "WAITING"]
    admin = shared.client(roles="admin")
    page = admin.get(f"/v3/tasks/{uuid}/log?limit=2").json()
    assert [each["kind"] for each in page["log"]] == ["began", "started"]
    assert admin.get(page["links"][0]["href"]).json()["log"][0]["seq"] == 3
    assert admin.get(f"/v3/tasks/{uuid}/log", params={"after": 10**30}).json() == {"log": [], "links": []}
    assert client.get(f"/v3/tasks/{uuid}/tasks").json() == {"tasks": [], "links": []}
    client.post(f"/v3/tasks/{uuid}/abort")


def test_a_wait_ends_with_the_change(shared: Service) -> None:
    client = shared.client()
    uuid = shared.submit("waiting", client=client)["uuid"]
    shared.until(uuid, "WAITING", client=client)
    answers: list[httpx.Response] = []
    waiter = threading.Thread(target=lambda: answers.append(shared.client().get(f"/v3/tasks/{uuid}?wait=30")))
    waiter.start()
    while not shared.core.waiting._events:
        waiter.join(0.01)
    changed = client.post(f"/v3/tasks/{uuid}/suspend")
    waiter.join(10)
    assert answers[0].json()["task"]["state"] == "SUSPENDED"
    etag = changed.headers["etag"]
    assert answers[0].headers["etag"] == etag
    same = client.get(f"/v3/tasks/{uuid}", headers={"If-None-Match": etag})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
    began = time.monotonic()
    late = client.get(f"/v3/tasks/{uuid}?wait=0.2", headers={"If-None-Match": etag})
    assert late.status_code == 304
    assert time.monotonic() - began >= 0.2
    stale = client.get(f"/v3/tasks/{uuid}?wait=30", headers={"If-None-Match": '"other"'})
    assert (stale.status_code, stale.headers["retry-after"]) == (200, "1")
    client.post(f"/v3/tasks/{uuid}/cancel")
    shared.until(uuid, "CANCELLED", client=client)
    ended = client.get(f"/v3/tasks/{uuid}?wait=30")
    assert "retry-after" not in ended.headers
    for bad in ("wait=-1", "wait=soon", "wait=nan", "wait=inf", "wait=%097", "wait=1_0", "wait=%D9%A1", "wait=.5"):
        problem(client.get(f"/v3/tasks/{uuid}?{bad}"), 400, "request.invalid")


def test_what_another_process_does_ends_a_wait_too(make_service: MakeService) -> None:
    one = make_service(worker=False)
    other = make_service(worker=False, database=one.hold.url)
    uuid = one.submit("waiting")["uuid"]
    answers: list[httpx.Response] = []
    waiter = threading.Thread(target=lambda: answers.append(other.client().get(f"/v3/tasks/{uuid}?wait=30")))
    waiter.start()
    while not other.core.waiting._events:
        waiter.join(0.01)
    one.client().post(f"/v3/tasks/{uuid}/cancel")
    waiter.join(10)
    assert answers[0].json()["task"]["state"] == "CANCELLED"


def test_who_prefers_to_wait_is_answered_at_the_end(shared: Service) -> None:
    client = shared.client()
    answer = client.post("/v3/tasks", json={"task": "quick"}, headers={"Prefer": "respond-async, wait=20"})
    assert (answer.status_code, answer.json()["task"]["state"]) == (200, "SUCCEEDED")
    assert answer.headers["preference-applied"] == "wait=20"
    answer = client.post("/v3/tasks", json={"task": "waiting"}, headers={"Prefer": "wait=0.1"})
    assert answer.status_code == 202
    assert "preference-applied" not in answer.headers
    client.delete(answer.headers["location"])


def test_a_task_for_later_waits(shared: Service) -> None:
    client = shared.client()
    task = shared.submit("quick", client=client, start_after="2100-01-01T00:00:00+01:00", priority=5)
    assert (task["state"], task["priority"]) == ("PENDING", 5)
    assert client.post(f"/v3/tasks/{task['uuid']}/cancel").json()["task"]["state"] == "CANCELLED"


def test_claims_are_waited_for_in_order(shared: Service) -> None:
    client = shared.client()
    first = shared.submit("waiting", client=client, resource={"port": "q"})["uuid"]
    shared.until(first, "WAITING", client=client)
    second = shared.submit("quick", client=client, claims=[{"type": "port", "id": "q", "mode": "shared"}])["uuid"]
    behind = client.get(f"/v3/tasks/{second}").json()["task"]
    assert (behind["state"], behind["queue_position"], behind["blocked_by"]) == ("PENDING", 1, [first])
    client.post(f"/v3/tasks/{first}/events/go")
    shared.until(second, "SUCCEEDED", client=client)


def test_who_would_not_wait_is_told_who_is_first(shared: Service) -> None:
    client = shared.client()
    first = shared.submit("waiting", client=client, resource={"port": "busy"})["uuid"]
    hurried = {"Prefer": "fail-if-busy", "Task-tag": "hurried"}
    body = {"task": "quick", "resource": {"port": "busy"}}
    told = problem(client.post("/v3/tasks", json=body, headers=hurried), 409, "resource.busy")
    assert told["task"] == first
    assert [each["uuid"] for each in client.get("/v3/tasks").json()["tasks"]] == [first]
    client.post(f"/v3/tasks/{first}/events/go")
    shared.until(first, "SUCCEEDED", client=client)
    assert client.post("/v3/tasks", json=body, headers=hurried).status_code == 202


def test_what_may_be_asked_for_is_published(shared: Service) -> None:
    client = shared.client()
    actions = client.get("/v3/schemas/actions").json()
    assert actions["flows"]["quick"]["properties"].keys() == {"number"}
    assert actions["verbs"]["cancel"]["properties"]["revert"]["type"] == "boolean"
    machine = client.get("/v3/schemas/state-machines").json()["machines"]["task"]
    assert {"from": "RUNNING", "event": "cancel", "to": "CANCELLING"} in machine["edges"]
    assert machine["verbs"]["SUCCEEDED"]["rollback"] == "new task"
