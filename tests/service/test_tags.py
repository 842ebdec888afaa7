"""Tags over HTTP: each row of the contract's table of tag semantics, and the transcript of a lost answer."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from holdfast.tasks import retention
from tests.service.conftest import MakeService, Service
from tests.service.servers import Cloud, _cloud, cloud
from tests.service.test_requests import problem
from tests.service.transcript import play

__all__ = ["_cloud", "cloud"]

TRANSCRIPT = Path(__file__).with_name("transcripts") / "servers.txt"
TAG = "49fe58f1-a658-4232-b723-8f0b3efc1014"
ASKED: dict[str, Any] = {"task": "waiting", "resource": {"server": "53626cb0"}}


def ask(
    client: httpx.Client, body: Any = ASKED, tag: str = TAG, path: str = "/v3/tasks", **more: str
) -> httpx.Response:
    return client.post(path, json=body, headers={"Task-tag": tag, **more})


def count(client: httpx.Client) -> int:
    return len(client.get("/v3/tasks").json()["tasks"])


@pytest.mark.requirement("TAG-4", "TAG-5", "TAG-6", "TAG-11", "TAG-12", "NOVA-7", "NEUTRON-14", "TF-7")
def test_the_transcript_of_a_reboot_whose_answer_was_lost(cloud: Cloud) -> None:
    assert play(TRANSCRIPT, cloud.member, {"S": cloud.make()}, {}) > 8


@pytest.mark.requirement("TAG-4", "TAG-6", "TAG-11", "NOVA-7")
def test_an_answer_that_was_lost_is_asked_for_again(shared: Service) -> None:
    client = shared.client()
    first = ask(client)
    assert first.status_code == 202
    task = first.json()["task"]
    assert first.headers["location"] == f"/v3/tasks/{task['uuid']}"
    assert first.headers["retry-after"] == "1"
    assert first.headers["task-tag"] == TAG
    assert "task-tag-replayed" not in first.headers
    assert "message" not in first.json()
    assert (task["state"], task["tag"], task["resource"]) == ("PENDING", TAG, {"server": "53626cb0"})
    assert task["request_id"] == first.headers["x-compute-request-id"]
    again = ask(client)
    assert again.status_code == 202
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["task-tag"] == TAG
    assert again.headers["task-tag-replayed"] == "true"
    assert again.json()["message"] == "That request is already accepted"
    assert again.json()["task"]["uuid"] == task["uuid"]
    assert again.json()["task"]["request_id"] == task["request_id"]
    assert again.headers["x-compute-request-id"] != task["request_id"]
    got = client.get(first.headers["location"])
    assert (got.status_code, got.json()["task"]["uuid"], got.headers["task-tag"]) == (200, task["uuid"], TAG)
    assert count(client) == 1


@pytest.mark.requirement("TAG-11", "P5")
def test_a_replay_after_the_end_is_the_same_task(shared: Service) -> None:
    client = shared.client()
    uuid = ask(client, {"task": "quick"}).json()["task"]["uuid"]
    shared.until(uuid, "SUCCEEDED")
    again = ask(client, {"task": "quick"})
    assert (again.status_code, again.headers["task-tag-replayed"]) == (202, "true")
    assert (again.json()["task"]["uuid"], again.json()["task"]["state"]) == (uuid, "SUCCEEDED")
    assert "retry-after" not in again.headers


@pytest.mark.requirement("TAG-12")
def test_another_request_under_the_tag_is_refused(shared: Service) -> None:
    client = shared.client()
    first = ask(client).json()["task"]
    for other in ({"task": "waiting"}, {**ASKED, "params": {}}, {**ASKED, "priority": 1}, {**ASKED, "claims": []}):
        told = problem(ask(client, other), 422, "tag.reused")
        assert (told["task"], told["request"]) == (first["uuid"], "POST /v3/tasks")
        assert f"Task-tag {TAG} already names POST /v3/tasks with different parameters" in told["detail"]
        assert told["first_seen"]
    other_url = client.post(f"/v3/tasks/{first['uuid']}/rollback", headers={"Task-tag": TAG})
    problem(other_url, 422, "tag.reused")
    assert count(client) == 1
    assert client.get(f"/v3/tasks/{first['uuid']}").json()["task"]["state"] in ("PENDING", "RUNNING", "WAITING")


def test_a_request_is_the_same_however_it_is_written(shared: Service) -> None:
    client = shared.client()
    head = {"Task-tag": TAG}
    body = b'{"task": "quick", "params": {"number": 1}, "priority": 0}'
    uuid = client.post("/v3/tasks", content=body, headers=head).json()["task"]["uuid"]
    for same in (
        b'{"priority":0,"params":{"number":1},"task":"quick"}',
        b' { "task" : "quick", "params": {"number": 1.0}, "priority": 0 } ',
        b'{"task": "qui\\u0063k", "params": {"number": 1e0}, "priority": 0}',
    ):
        answer = client.post("/v3/tasks", content=same, headers=head)
        assert (answer.status_code, answer.json()["task"]["uuid"]) == (202, uuid)
    assert ask(client, {"task": "quick", "params": {"number": 1}, "priority": 0}, path="/tasks").json()["message"]
    for other in (
        b'{"task": "quick", "params": {"number": "1"}, "priority": 0}',
        b'{"task": "quick", "params": {"number": 1}, "priority": 0, "start_after": null}',
    ):
        problem(client.post("/v3/tasks", content=other, headers=head), 422, "tag.reused")


@pytest.mark.requirement("P5")
def test_a_request_that_was_refused_has_not_used_its_tag(shared: Service) -> None:
    client = shared.client()
    assert ask(client, {"task": "no such"}).status_code == 400
    assert ask(shared.client(roles="reader")).status_code == 403
    assert ask(client).status_code == 202


@pytest.mark.requirement("TAG-10", "TAG-15")
def test_projects_and_users(service: Service) -> None:
    mine, theirs = service.client("a"), service.client("b")
    one, two = ask(mine).json()["task"], ask(theirs).json()["task"]
    assert one["uuid"] != two["uuid"]
    colleague = ask(service.client("a", user="u2"))
    assert colleague.json()["task"]["uuid"] == one["uuid"]
    assert [each["uuid"] for each in mine.get("/tasks", params={"tag": TAG}).json()["tasks"]] == [one["uuid"]]
    admin = service.client("c", roles="admin")
    found = admin.get("/tasks", params={"tag": TAG, "all_projects": "true"}).json()["tasks"]
    assert {(each["project_id"], each["user_id"]) for each in found} == {("a", "u1"), ("b", "u1")}
    assert all(each["request_id"] and each["resource"] for each in found)


@pytest.mark.requirement("TAG-9")
def test_without_a_tag_two_requests_are_two_tasks(shared: Service) -> None:
    client = shared.client()
    tasks = [client.post("/v3/tasks", json=ASKED).json()["task"] for _ in range(2)]
    assert tasks[0]["uuid"] != tasks[1]["uuid"]
    assert tasks[0]["tag"] is None
    assert "task-tag" not in client.get(f"/v3/tasks/{tasks[0]['uuid']}").headers


@pytest.mark.requirement("TAG-1")
@pytest.mark.parametrize("tag", ["a", "!~", "x" * 255, "a/b,c", '"', "ärger"[1:]])
def test_any_visible_letters_are_a_tag(shared: Service, tag: str) -> None:
    answer = ask(shared.client(), {"task": "quick"}, tag)
    assert answer.status_code == 202
    assert answer.json()["task"]["tag"] == tag


@pytest.mark.requirement("TAG-1")
@pytest.mark.parametrize("tag", ["", "x" * 256, "a b", "a\tb", "\xe4"])
def test_anything_else_is_no_tag(shared: Service, tag: str) -> None:
    raw: Any = [(b"Task-tag", tag.encode("latin-1"))]
    told = problem(shared.client().post("/v3/tasks", json={"task": "quick"}, headers=raw), 400, "tag.invalid")
    assert "1 to 255 visible ASCII characters" in told["detail"]


@pytest.mark.requirement("TAG-1")
def test_two_tags_are_none(shared: Service) -> None:
    client = shared.client()
    raw: Any = [("Task-tag", "a"), ("Task-tag", "b")]
    problem(client.post("/v3/tasks", json={"task": "quick"}, headers=raw), 400, "tag.invalid")
    problem(ask(client, {"task": "quick"}, "a", **{"Idempotency-Key": "b"}), 400, "tag.invalid")
    assert count(client) == 0


def test_an_idempotency_key_is_a_tag(shared: Service) -> None:
    client = shared.client()
    first = client.post("/v3/tasks", json=ASKED, headers={"Idempotency-Key": f'"{TAG}"'})
    assert first.headers["task-tag"] == TAG
    assert ask(client).json()["task"]["uuid"] == first.json()["task"]["uuid"]
    assert ask(client, **{"Idempotency-Key": TAG}).headers["task-tag-replayed"] == "true"


@pytest.mark.requirement("TAG-2")
def test_where_a_tag_has_nothing_to_name(shared: Service) -> None:
    client = shared.client()
    task = ask(client).json()["task"]
    assert client.get(f"/v3/tasks/{task['uuid']}", headers={"Task-tag": "not a tag at all"}).status_code == 200
    for method, path in (("POST", "/cancel"), ("DELETE", ""), ("POST", "/events/go"), ("POST", "/suspend")):
        answer = client.request(method, f"/v3/tasks/{task['uuid']}{path}", headers={"Task-tag": "x"})
        problem(answer, 400, "tag.not_supported")
    answer = client.post(f"/v3/tasks/{task['uuid']}/action", json={"cancel": {}}, headers={"Task-tag": "x"})
    problem(answer, 400, "tag.not_supported")
    assert client.get(f"/v3/tasks/{task['uuid']}").json()["task"]["state"] in ("PENDING", "RUNNING", "WAITING")


def test_a_retry_whose_answer_was_lost_is_one_retry(shared: Service) -> None:
    client = shared.client()
    uuid = client.post("/v3/tasks", json={"task": "failing"}).json()["task"]["uuid"]
    shared.until(uuid, "FAILED")
    first = client.post(f"/v3/tasks/{uuid}/retry", headers={"Task-tag": "again"})
    assert (first.status_code, first.headers["task-tag"]) == (202, "again")
    retried = first.json()["task"]
    assert (retried["retry_of"], retried["attempt"]) == (uuid, 2)
    shared.until(retried["uuid"], "FAILED")  # so that asking once more without a tag would make another
    second = client.post(f"/v3/tasks/{uuid}/retry", headers={"Task-tag": "again"})
    assert (second.status_code, second.headers["task-tag-replayed"]) == (202, "true")
    assert second.json()["task"]["uuid"] == retried["uuid"]
    assert client.post(f"/v3/tasks/{uuid}/retry").json()["task"]["uuid"] not in (uuid, retried["uuid"])


def test_a_tag_is_remembered_when_its_task_is_purged(make_service: MakeService) -> None:
    service = make_service(retention_s=0.0)
    client = service.client()
    uuid = ask(client, {"task": "quick"}).json()["task"]["uuid"]
    service.until(uuid, "SUCCEEDED")
    now = service.hold.clock.time() + 1
    service.hold.store.write(lambda tx: retention.purge(tx, now))
    told = problem(ask(client, {"task": "quick"}), 410, "gone")
    assert told["tag"] == TAG
    problem(client.get(f"/v3/tasks/{uuid}"), 404, "not_found")


@pytest.mark.requirement("TAG-14")
def test_many_at_once_through_several_services_are_one_task(make_service: MakeService) -> None:
    first = make_service(worker=False)
    others = [make_service(worker=False, database=first.hold.url) for _ in range(2)]
    answers: list[tuple[int, str]] = []

    def one(shared: Service) -> None:
        with httpx.Client(base_url=shared.url, timeout=30) as client:
            answer = ask(client)
            answers.append((answer.status_code, answer.json()["task"]["uuid"]))

    threads = [threading.Thread(target=one, args=(service,)) for service in (first, *others) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 30
    assert len(set(answers)) == 1
    assert answers[0][0] == 202
    assert count(first.bare()) == 1
