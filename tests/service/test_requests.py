"""What every request and every answer have in common: ids, versions, methods, media, queries, bodies, errors."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest

from tests.service.conftest import MakeService, Service

REQUEST_ID = re.compile(r"^req-[0-9a-f-]{36}$")


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem that the answer is, in both shapes."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert (body["status"], body["code"], body["type"]) == (status, code, f"/errors/{code}")
    assert body["title"]
    assert body["detail"]
    assert body["request_id"] == answer.headers["x-openstack-request-id"]
    (entry,) = body["errors"]
    assert entry == {
        "request_id": body["request_id"], "code": code, "status": status, "title": body["title"],
        "detail": body["detail"], "links": [{"rel": "help", "href": f"/errors/{code}"}],
    }  # fmt: skip
    return body


@pytest.mark.requirement("TAG-7")
def test_every_answer_has_the_id_of_its_request(shared: Service) -> None:
    with shared.client() as client:
        seen = set()
        for method, path in (("GET", "/"), ("GET", "/nothing"), ("PUT", "/v3/tasks"), ("POST", "/v3/tasks")):
            headers = client.request(method, path).headers
            assert REQUEST_ID.match(headers["x-openstack-request-id"])
            assert headers["x-compute-request-id"] == headers["x-openstack-request-id"]
            seen.add(headers["x-compute-request-id"])
        assert len(seen) == 4
        answer = client.post("/v3/tasks", json={"task": "quick"})
        assert answer.json()["task"]["request_id"] == answer.headers["x-compute-request-id"]


def test_a_request_id_that_comes_in_is_the_global_one_if_it_is_one(shared: Service) -> None:
    client = shared.client()
    given = "req-00000000-0000-4000-8000-000000000000"
    answer = client.post("/v3/tasks", json={"task": "quick"}, headers={"X-OpenStack-Request-ID": given})
    assert answer.json()["task"]["global_request_id"] == given
    assert answer.headers["x-openstack-request-id"] != given
    answer = client.post("/v3/tasks", json={"task": "quick"}, headers={"X-OpenStack-Request-ID": "mine"})
    assert answer.json()["task"]["global_request_id"] is None


def test_versions(shared: Service) -> None:
    client = shared.client()
    answer = client.get("/v3/tasks")
    assert answer.headers["openstack-api-version"] == "tasks 1.0"
    assert "OpenStack-API-Version" in answer.headers["vary"]
    for given in ("tasks 1.0", "tasks latest", "compute 2.90, tasks 1.0", "compute 2.90"):
        assert client.get("/v3/tasks", headers={"OpenStack-API-Version": given}).status_code == 200
    unknown = problem(client.get("/v3/tasks", headers={"OpenStack-API-Version": "tasks 1.7"}), 406, "api.version")
    assert (unknown["min_version"], unknown["max_version"]) == ("1.0", "1.0")
    problem(client.get("/v3/tasks", headers={"OpenStack-API-Version": "tasks one"}), 400, "request.invalid")
    about = shared.bare().get("/v3").json()["version"]
    assert about["min_version"] == "1.0"
    assert about["retention"]["tasks_s"] >= 86_400
    assert about["limits"]["limit_max"] == 1000


def test_head_is_get_without_a_body(shared: Service) -> None:
    client = shared.client()
    task = shared.submit()
    shared.until(task["uuid"], "SUCCEEDED")
    for path in ("/v3", "/v3/tasks", f"/v3/tasks/{task['uuid']}", "/nothing"):
        got, head = client.get(path), client.head(path)
        assert head.status_code == got.status_code
        assert head.content == b""
        assert head.headers["content-type"] == got.headers["content-type"]
    assert client.head("/v3/tasks").headers["content-length"] == client.get("/v3/tasks").headers["content-length"]


def test_another_method_is_told_which_there_are(shared: Service) -> None:
    client = shared.client()
    answer = client.put("/v3/tasks", json={})
    assert problem(answer, 405, "method")["allowed"] == ["GET", "HEAD", "OPTIONS", "POST"]
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    answer = client.patch("/v3/tasks/x")
    assert set(answer.headers["allow"].split(", ")) == {"DELETE", "GET", "HEAD", "OPTIONS"}
    assert client.options("/v3/tasks").status_code == 204
    problem(client.get("/v4"), 404, "not_found")


def test_an_answer_comes_in_what_is_asked_for(shared: Service) -> None:
    client = shared.client()
    for accept in ("application/json", "*/*", "application/*", "text/html, */*;q=0.1", "application/problem+json"):
        assert client.get("/v3", headers={"Accept": accept}).status_code == 200
    problem(client.get("/v3", headers={"Accept": "text/html"}), 406, "media.not_acceptable")
    problem(client.get("/v3", headers={"Accept": "application/json;q=0"}), 406, "media.not_acceptable")


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("application/json", "application/json"), ("Application/JSON; q=0.9", "application/json"),
        ("", "application/json"),
        ("*/*", "application/problem+json"), ("application/json, */*", "application/problem+json"),
        ("application/json, application/problem+json", "application/problem+json"),
        ("application/*", "application/problem+json"), ("text/event-stream", "application/problem+json"),
    ],
)  # fmt: skip
def test_a_problem_is_plain_json_to_who_reads_nothing_else(shared: Service, accept: str, media: str) -> None:
    for path in ("/v3/tasks/nobody", "/v3/nothing"):
        answer = shared.client().get(path, headers={"Accept": accept, "User-Agent": "openstacksdk/4 keystoneauth1/5"})
        assert answer.headers["content-type"] == (media if "problem" in accept else "application/json")
        answer = shared.client().get(path, headers={"Accept": accept})
        assert answer.headers["content-type"] == media
        body = answer.json()
        assert body["detail"]
        assert body.get("message") == (body["detail"] if media == "application/json" else None)


@pytest.mark.parametrize("query", ["stat=FAILED", "wait=3&x=", "limit=1&limit=2", "limit=%ff", "&".join(["a=1"] * 200)])
def test_a_query_that_cannot_be_meant_is_refused(shared: Service, query: str) -> None:
    assert shared.client().get(f"/v3/tasks?{query}").status_code == 400


@pytest.mark.parametrize("limit", ["%095", "5%0A", "1_0", "%D9%A1", "5.0", "0x5"])
def test_a_number_is_written_as_in_json(shared: Service, limit: str) -> None:
    for path in ("/v3/tasks", "/v3/events"):
        problem(shared.client().get(f"{path}?limit={limit}"), 400, "request.invalid")
        assert shared.client().get(f"{path}?limit={'9' * 100}").status_code == 200


def test_an_unknown_parameter_is_told_what_is_known(shared: Service) -> None:
    told = problem(shared.client().get("/v3/tasks", params={"stat": "FAILED"}), 400, "query.unknown")
    assert "state" in told["allowed"]
    assert "'stat'" in told["detail"]


BODIES: list[tuple[bytes, str]] = [
    (b"", "a body is needed"),
    (b"\r\n\r\n", "no JSON"),
    (b"{", "no JSON"),
    (b"[]", "expected `object`"),
    (b'{"task": 1}', "$.task"),
    (b'{"tsk": "quick"}', "allowed are task, resource, params"),
    (b'{"task": "quick", "prams": {}}', "allowed are task, resource, params"),
    (b'{"task": "quick", "priority": 1.5}', "$.priority"),
    (b'{"task": "quick", "priority": 10000000}', "priority is"),
    (b'{"task": "quick", "start_after": "tomorrow"}', "$.start_after"),
    (b'{"task": "quick", "start_after": "2030-01-01T00:00:00"}', "offset from UTC"),
    (b'{"task": "quick", "resource": {"a": "1", "b": "2"}}', "one resource"),
    (b'{"task": "quick", "resource": {"a": null}}', "needs the id"),
    (b'{"task": "quick", "claims": [{"type": "a", "id": "b", "mode": "some"}]}', "exclusive or shared"),
    (b'{"task": "quick", "claims": [{"type": "a"}]}', "missing required field `id`"),
    (b'{"task": "quick", "params": {"nmber": 1}}', "takes no input 'nmber'"),
    (b'{"task": "tests.service.flows:QUICK"}', "failing, failing@1"),
    (b'{"task": "quick", "params": ' + b"[" * 100_000, "$.params"),
    (b'{"task": "quick", "params": {"number": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}", "nested too deeply"),
    (b'{"task": "\xff"}', "no JSON"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "says"), BODIES, ids=[str(place) for place in range(len(BODIES))])
def test_a_body_that_cannot_be_meant_is_refused_and_stores_nothing(shared: Service, body: bytes, says: str) -> None:
    client = shared.client()
    answer = client.post("/v3/tasks", content=body, headers={"Content-Type": "application/json", "Task-tag": "t"})
    assert answer.status_code == 400, answer.text
    assert says in answer.json()["detail"]
    assert client.get("/v3/tasks").json()["tasks"] == []
    assert client.post("/v3/tasks", json={"task": "quick"}, headers={"Task-tag": "t"}).status_code == 202


def test_white_space_is_no_body_that_may_be_left_out(shared: Service) -> None:
    client, path = shared.client(), f"/v3/tasks/{shared.submit('waiting')['uuid']}"
    for white in (b" ", b"\r\n\r\n", b"\t\n"):
        for verb in ("suspend", "events/go"):
            told = problem(client.post(f"{path}/{verb}", content=white), 400, "request.invalid")
            assert "no JSON" in told["detail"]
    assert client.post(f"{path}/suspend", content=b"").status_code == 202


def test_bodies_are_json_and_of_a_size(shared: Service) -> None:
    client = shared.client()
    form = client.post("/v3/tasks", data={"task": "quick"})
    problem(form, 415, "media.unsupported")
    large = json.dumps({"task": "quick", "params": {"number": "x" * (2 << 20)}}).encode()
    told = problem(client.post("/v3/tasks", content=large), 413, "too_large")
    assert told["bytes_max"] == 2 << 20
    pieces = (large[start : start + 65_536] for start in range(0, len(large), 65_536))
    problem(client.post("/v3/tasks", content=pieces), 413, "too_large")
    assert client.post("/v3/tasks", content=b'{"task": "quick"}').status_code == 202
    value = client.post("/v3/tasks", json={"task": "quick", "params": {"number": "x" * (1 << 20)}})
    problem(value, 413, "value.too_large")


@pytest.mark.requirement("TAG-10")
def test_what_is_anothers_is_not_there(shared: Service) -> None:
    task = shared.submit()
    other, admin = shared.client("other"), shared.client("other", roles="admin")
    for method, path in (
        ("GET", ""), ("GET", "/steps"), ("GET", "/tasks"), ("GET", "/graph"), ("POST", "/cancel"), ("DELETE", ""),
        ("POST", "/events/go"), ("POST", "/retry"),
    ):  # fmt: skip
        answer = other.request(method, f"/v3/tasks/{task['uuid']}{path}")
        told = problem(answer, 404, "not_found")
        nobody = other.request(method, f"/v3/tasks/{task['uuid'][:-1]}x{path}").json()
        assert told["detail"].replace(task["uuid"], "") == nobody["detail"].replace(task["uuid"][:-1] + "x", "")
    assert other.get("/v3/tasks").json()["tasks"] == []
    assert admin.get(f"/v3/tasks/{task['uuid']}").status_code == 200


def test_a_page_for_every_code(shared: Service) -> None:
    client = shared.bare()
    for code, status in (("tag.reused", 422), ("rate", 429), ("store.busy", 503), ("too_large", 413)):
        page = client.get(f"/errors/{code}").json()
        assert (page["code"], page["status"]) == (code, status)
        assert page["detail"]
    problem(client.get("/errors/nothing"), 404, "not_found")


def test_a_fault_of_ours_tells_nothing_but_its_id(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError("the secret of the house")

    service.core.bridge.read_some = broken  # type: ignore[method-assign]
    answer = service.client().get("/v3/tasks")
    told = problem(answer, 500, "internal")
    assert "secret" not in answer.text
    assert "ZeroDivisionError" not in answer.text
    assert told["request_id"] in caplog.text
    assert "the secret of the house" in caplog.text


def test_one_that_is_about_to_stop_says_to_ask_again(make_service: MakeService) -> None:
    service = make_service(worker=False)
    client = service.client()
    service.core.bridge.close()
    for answer in (client.get("/v3/tasks?limit=1000"), client.post("/v3/tasks", json={"task": "quick"})):
        problem(answer, 503, "stopping")
        assert answer.headers["Retry-After"] == "1"


def test_names_in_a_path_may_have_any_letter(shared: Service) -> None:
    client = shared.client()
    task = shared.submit("waiting")
    shared.until(task["uuid"], "WAITING")
    answer = client.post(f"/v3/tasks/{task['uuid']}/events/a%2Fb%20%C3%A4")
    assert answer.status_code == 202
    problem(client.post(f"/v3/tasks/{task['uuid']}/events/a/b"), 404, "not_found")
    problem(client.post(f"/v3/tasks/{task['uuid']}/events/a%00b"), 400, "request.invalid")
    problem(client.post(f"/v3/tasks/{task['uuid']}/events/%ff"), 400, "request.invalid")
    log = shared.client(roles="admin").get(f"/v3/tasks/{task['uuid']}/log").json()["log"]
    assert [entry["data"]["name"] for entry in log if entry["kind"] == "delivered"] == ["a/b ä"]
