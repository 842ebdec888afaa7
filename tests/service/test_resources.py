"""Resources over HTTP: what is asked of them is a task, whatever the address; who may see them; what is refused."""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import quote

import httpx
import pytest

from holdfast.resources.operate import Asked, operate
from holdfast.resources.server.kind import make_server
from holdfast.store.base import Tx
from holdfast.tasks import retention
from tests.resources.meanwhile import Meanwhile
from tests.service.conftest import MakeServed, Service
from tests.service.servers import Cloud, _cloud, _still, cloud, still
from tests.service.test_requests import problem

__all__ = ["_cloud", "_still", "cloud", "still"]

NOBODY = "01a1fc3e-031b-7ab9-a95c-000000000000"


# --- asking ------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("TAG-3", "TAG-6", "NOVA-4", "NOVA-7")
def test_a_new_server_comes_with_its_task(still: Cloud) -> None:
    answer = still.member.post("/v3/servers", json={"server": {"name": "web"}}, headers={"Task-tag": "new"})
    assert answer.status_code == 202
    task, server = answer.json()["task"], answer.json()["server"]
    assert answer.headers["location"] == f"/v3/tasks/{task['uuid']}"
    assert answer.headers["link"] == f'</v3/servers/{server["id"]}>; rel="related"'
    assert (answer.headers["task-tag"], task["tag"], task["task"]) == ("new", "new", "create")
    assert task["resource"] == {"server": server["id"]}
    assert task["request_id"] == answer.headers["x-compute-request-id"]
    got = still.member.get(answer.headers["location"]).json()["task"]
    assert (got["uuid"], got["state"]) == (task["uuid"], "PENDING")
    links = {link["rel"]: link["href"] for link in still.server(server["id"])["links"]}
    assert [each["uuid"] for each in still.member.get(links["tasks"]).json()["tasks"]] == [task["uuid"]]
    assert still.member.get(links["bookmark"]).json()["resource"]["last_task"] == task["uuid"]
    listed = still.member.get("/v3/servers").json()["servers"]
    assert [{link["rel"] for link in each["links"]} for each in listed] == [{"self", "bookmark", "tasks"}]


@pytest.mark.parametrize("match", ["*", '"1"', "nonsense"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v3/servers", {"server": {"name": "web"}}),
        ("/v3/tasks", {"task": "create", "resource": {"server": None}, "params": {"name": "web"}}),
        ("/v3/tasks", {"task": "quick"}),
        ("/v3/tasks/verbs", {"verb": "cancel", "filter": {"task": "quick"}}),
        ("/v3/webhooks", {"url": "https://example.org/"}),
    ],
)
def test_what_is_only_made_has_no_revision(still: Cloud, path: str, body: dict[str, Any], match: str) -> None:
    problem(still.member.post(path, json=body, headers={"If-Match": match}), 412, "precondition.failed")
    assert still.tasks() == []


@pytest.mark.requirement("NOVA-7", "TAG-3")
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("action", {"reboot": {"type": "SOFT"}}),
        ("actions", {"reboot": {"type": "SOFT"}}),
        ("action", {"reboot": None}),
        ("tasks", {"action": "REBOOT"}),
        ("tasks", {"action": "reboot", "params": {"type": "SOFT"}}),
    ],
)
def test_an_action_answers_with_where_its_task_is(still: Cloud, path: str, body: dict[str, Any]) -> None:
    ident = still.make()
    answer = still.member.post(f"/v3/servers/{ident}/{path}", json=body, headers={"Task-tag": "t"})
    assert answer.status_code == 202, answer.text
    task = answer.json()["task"]
    assert answer.headers["location"] == f"/v3/servers/{ident}/tasks/{task['uuid']}"
    assert (task["task"], task["params"]) == ("reboot", {"type": "SOFT"})
    got = still.member.get(answer.headers["location"])
    assert (got.status_code, got.json()["task"]["uuid"], got.headers["task-tag"]) == (200, task["uuid"], "t")
    again = still.member.post(f"/v3/servers/{ident}/{path}", json=body, headers={"Task-tag": "t"})
    assert (again.status_code, again.headers["task-tag-replayed"]) == (202, "true")
    assert (again.headers["location"], len(still.tasks())) == (answer.headers["location"], 2)


@pytest.mark.requirement("TAG-4", "TAG-11")
def test_both_names_of_the_address_are_one_request(still: Cloud) -> None:
    ident = still.make()
    first = still.member.post(f"/v3/servers/{ident}/action", json={"stop": {}}, headers={"Task-tag": "t"})
    again = still.member.post(f"/v3/servers/{ident}/actions", json={"stop": {}}, headers={"Task-tag": "t"})
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json()["task"]["uuid"] == first.json()["task"]["uuid"]
    assert again.json()["message"] == "That request is already accepted"
    other = still.member.post(f"/v3/servers/{ident}/action", json={"stop": {"type": "HARD"}}, headers={"Task-tag": "t"})
    assert problem(other, 422, "tag.reused")["task"] == first.json()["task"]["uuid"]


@pytest.mark.requirement("NOVA-6")
def test_every_call_that_changes_something_is_one_root_task(still: Cloud) -> None:
    member, ident = still.member, still.make()
    calls: list[tuple[str, str, Any]] = [
        ("POST", "/v3/servers", {"server": {"name": "b"}}),
        ("POST", f"/v3/servers/{ident}/action", {"reboot": {}}),
        ("POST", f"/v3/servers/{ident}/actions", {"reboot": {}}),
        ("POST", f"/v3/servers/{ident}/tasks", {"action": "REBOOT"}),
        ("POST", f"/v3/resources/server/{ident}/action", {"resize": {"memory_mib": 64}}),
        ("PUT", f"/v3/resources/server/{ident}", {"name": "c"}),
        ("PUT", "/v3/resources/server/mine", {"name": "d"}),
        ("POST", f"/v3/resources/server/{ident}/reconcile", None),
        ("POST", "/v3/tasks", {"task": "reboot", "resource": {"server": ident}}),
        ("POST", "/tasks", {"task": "server.reboot", "resource": {"server": ident}}),
        ("DELETE", f"/v3/servers/{ident}", None),
        ("DELETE", "/v3/resources/server/mine", None),
    ]
    known = still.core.routes
    changing = {(route.method, route.path) for route in known if "servers" in route.path or "resources" in route.path}
    assert len([method for method, _ in changing if method != "GET"]) == 9  # as many as are called here
    before = {task["uuid"] for task in still.tasks()}
    for method, path, body in calls:
        answer = member.request(method, path, json=body)
        assert answer.status_code == 202, (method, path, answer.text)
        now = {task["uuid"] for task in still.tasks(depth="all")}
        assert now - before == {answer.json()["task"]["uuid"]}, (method, path)
        assert answer.json()["task"]["request_id"] == answer.headers["x-openstack-request-id"]
        before = now
    revisions = member.get(f"/v3/resources/server/{ident}/revisions").json()["revisions"]
    assert {each["task_id"] for each in revisions} <= before


@pytest.mark.requirement("NOVA-6")
def test_kill_9_after_the_answer_loses_no_task(make_served: MakeServed, tmp_path: Any) -> None:
    served = make_served("--no-worker", server_dir=str(tmp_path / "servers"))
    client = served.client()
    made = client.post("/v3/servers", json={"server": {"name": "web"}})
    acted = client.post(f"/v3/servers/{made.json()['server']['id']}/action", json={"delete": None})
    served.kill()
    assert (made.status_code, acted.status_code) == (202, 202)
    served._options = ()
    served.start()
    for answer in (made, acted):
        task = served.until(answer.json()["task"]["uuid"], "SUCCEEDED", "FAILED", client=served.client())
        assert (task["state"], task["error"]) == ("SUCCEEDED", None)
    assert len(served.client().get("/v3/tasks").json()["tasks"]) == 2


REFUSED: list[tuple[str, Any, str]] = [
    ("action", {"explode": {}}, "no operation 'explode'"),
    ("action", {"reboot": {"type": "MEDIUM"}}, "type"),
    ("action", {"reboot": {"typ": "SOFT"}}, "typ"),
    ("action", {"suspend": {"now": True}}, "takes no parameters"),
    ("action", {"reboot": {}, "stop": {}}, "one key"),
    ("action", {}, "one key"),
    ("action", {"reboot": "SOFT"}, "takes an object"),
    ("action", {"create": {"name": "x"}}, "POST /v3/servers"),
    ("action", {"resize": {"memory_mib": 1}}, "memory_mib"),
    ("action", {"rebuild": None}, "image"),
    ("tasks", {"action": "EXPLODE"}, "no operation 'explode'"),
    ("tasks", {"action": "REBOOT", "when": "now"}, "allowed are action, params"),
    ("tasks", {"params": {}}, "missing required field `action`"),
]


@pytest.mark.requirement("NOVA-6", "TAG-4")
def test_what_cannot_be_meant_is_refused_and_makes_no_task(still: Cloud) -> None:
    ident = still.make()
    for path, body, says in REFUSED:
        answer = still.member.post(f"/v3/servers/{ident}/{path}", json=body, headers={"Task-tag": "t"})
        assert (answer.status_code, says in answer.json()["detail"]) == (400, True), (body, answer.text)
    for body in ({}, {"server": {}}, {"server": {"name": "a"}, "port": {}}, {"server": []}, {"server": {"nme": "a"}}):
        assert still.member.post("/v3/servers", json=body, headers={"Task-tag": "t"}).status_code == 400, body
    told = still.member.post(f"/v3/servers/{ident}/action", json={"explode": {}}).json()
    assert {"reboot", "stop", "rebuild", "renew"} <= set(told["allowed"])
    assert len(still.tasks()) == 1
    assert still.act(ident, "reboot", {}, **{"Task-tag": "t"})["tag"] == "t"  # the tag is as good as new


def test_what_the_state_does_not_allow_is_told_with_what_it_does(still: Cloud) -> None:
    ident = still.make()
    told = problem(still.member.post(f"/v3/servers/{ident}/action", json={"resume": None}), 409, "resource.immutable")
    assert (told["planned"], "suspend" in told["allowed"], "resume" in told["allowed"]) == ("ACTIVE", True, False)
    before = still.act(ident, "suspend")["uuid"]
    after = still.act(ident, "resume")["uuid"]  # judged as if those before it had succeeded
    assert before in still.member.get(f"/v3/tasks/{after}").json()["task"]["blocked_by"]


def test_words_of_other_clients(still: Cloud) -> None:
    ident = still.make()
    for word, means in (("os-stop", "stop"), ("os-start", "start"), ("pause", "suspend"), ("unpause", "resume")):
        assert still.act(ident, word)["task"] == means


# --- the desired document ----------------------------------------------------------------------------------------


def test_a_put_makes_it_or_changes_it_if_it_is_as_the_asker_saw_it(still: Cloud) -> None:
    member, place = still.member, "/v3/resources/server/put-1"
    problem(member.put(place, json={"name": "a"}, headers={"If-Match": '"1"'}), 412, "precondition.failed")
    made = member.put(place, json={"name": "a"}, headers={"If-None-Match": "*", "Task-tag": "first"})
    assert (made.status_code, made.json()["task"]["task"], made.json()["resource"]["revision"]) == (202, "create", 1)
    assert made.headers["location"] == f"/v3/tasks/{made.json()['task']['uuid']}"
    again = member.put(place, json={"name": "a"}, headers={"If-None-Match": "*", "Task-tag": "first"})
    assert again.json()["task"]["uuid"] == made.json()["task"]["uuid"]
    problem(member.put(place, json={"name": "b"}, headers={"If-None-Match": "*"}), 412, "precondition.failed")
    got = member.get(place)
    assert got.headers["etag"].startswith('"1.')
    assert member.get(place, headers={"If-None-Match": got.headers["etag"]}).status_code == 304
    seen = {"If-Match": got.headers["etag"]}
    changed = member.put(place, json={"name": "b"}, headers=seen)
    assert (changed.json()["task"]["task"], changed.json()["resource"]["revision"]) == ("update", 2)
    for method, path, body in (("PUT", place, {"name": "c"}), ("DELETE", place, None), ("POST", f"{place}/action",
                                                                                        {"reboot": {}})):  # fmt: skip
        told = problem(member.request(method, path, json=body, headers=seen), 412, "precondition.failed")
        assert told["revision"] == 2
    assert member.get(place).json()["resource"]["desired"]["name"] == "b"
    assert member.get(place, headers=seen).headers["etag"].startswith('"2.')
    page = member.get(f"{place}/revisions", params={"limit": 1}).json()
    assert [(each["revision"], each["task_id"]) for each in page["revisions"]] == [(2, changed.json()["task"]["uuid"])]
    rest = member.get(page["links"][0]["href"]).json()
    assert ([each["revision"] for each in rest["revisions"]], rest["links"]) == ([1], [])
    assert member.put(place, json={"nme": "c"}).status_code == 400
    assert member.delete(place, headers={"If-Match": '"2"'}).status_code == 202


def test_of_two_puts_that_make_it_the_second_changes_it(still: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    bridge, hold, ident = still.core.bridge, still.hold, "put-twice"

    def first(tx: Tx) -> None:
        desired = {"name": "first"}
        asked = Asked("server", "create", ident, desired=desired, project_id=still.project)
        operate(tx, hold.kinds, asked, hold.clock.time(), hold.clock.uuid7())

    write = bridge.write
    monkeypatch.setattr(bridge, "write", lambda fn: write(lambda tx, now: fn(cast(Any, Meanwhile(tx, first)), now)))
    second = still.member.put(f"/v3/resources/server/{ident}", json={"name": "second"})
    assert (second.status_code, second.json()["task"]["task"]) == (202, "update")
    assert [each["task"] for each in second.json()["resource"]["queue"]] == ["create", "update"]
    ident = "put-once"
    refused = still.member.put(f"/v3/resources/server/{ident}", json={"name": "b"}, headers={"If-None-Match": "*"})
    problem(refused, 412, "precondition.failed")


def test_who_has_seen_it_is_told_of_every_change(still: Cloud) -> None:
    ident, other = still.make(), still.client("other-of-" + still.project)
    for place in (f"/v3/servers/{ident}", f"/v3/resources/server/{ident}"):
        etag = still.member.get(place).headers["etag"]
        assert still.member.get(place, headers={"If-None-Match": etag}).status_code == 304
        still.act(ident, "reboot")  # which is no new revision
        changed = still.member.get(place, headers={"If-None-Match": etag})
        assert (changed.status_code, changed.headers["etag"].partition(".")[0]) == (200, etag.partition(".")[0])
        problem(other.get(place, headers={"If-None-Match": etag}), 404, "not_found")
    for given in ('"x"', "1, 2", '"99999999999999999999"'):
        told = still.member.delete(f"/v3/servers/{ident}", headers={"If-Match": given})
        problem(told, 412, "precondition.failed")


# --- preferences -------------------------------------------------------------------------------------------------


def test_who_would_rather_not_wait_for_others_is_told_who_they_are(still: Cloud) -> None:
    ident = still.make()
    first = still.tasks()[0]["uuid"]
    busy = still.member.post(
        f"/v3/servers/{ident}/action", json={"reboot": {}}, headers={"Prefer": "fail-if-busy", "Task-tag": "t"}
    )
    assert problem(busy, 409, "resource.busy")["task"] == first
    queued = still.act(ident, "reboot", {}, **{"Task-tag": "t"})
    waits = still.member.get(f"/v3/tasks/{queued['uuid']}").json()["task"]
    assert (waits["state"], waits["blocked_by"]) == ("PENDING", [first])
    assert len(still.tasks()) == 2


def test_who_waits_sees_the_end(cloud: Cloud) -> None:
    made = cloud.member.post("/v3/servers", json={"server": {"name": "web"}}, headers={"Prefer": "wait=15"})
    assert (made.status_code, made.headers["preference-applied"]) == (200, "wait=15")
    assert (made.json()["task"]["state"], made.json()["server"]["status"]) == ("SUCCEEDED", "ACTIVE")
    ident = made.json()["server"]["id"]
    brief = cloud.member.post(f"/v3/servers/{ident}/action", json={"reboot": {}}, headers={"Prefer": "wait=0.001"})
    assert (brief.status_code, "preference-applied" in brief.headers) == (202, False)
    cloud.ended(brief.json()["task"]["uuid"])
    with_busy = cloud.member.delete(f"/v3/servers/{ident}", headers={"Prefer": "fail-if-busy, wait=15"})
    assert (with_busy.status_code, with_busy.json()["task"]["state"]) == (200, "SUCCEEDED")
    problem(cloud.member.get(f"/v3/servers/{ident}"), 404, "not_found")
    gone = cloud.member.get(f"/v3/servers/{ident}", params={"deleted": "true"}).json()["server"]
    assert (gone["status"], "fault" in gone) == ("DELETED", False)
    tasks = cloud.member.get(f"/v3/servers/{ident}/tasks").json()["tasks"]
    assert [task["task"] for task in tasks] == ["delete", "reboot", "create"]
    problem(cloud.member.post(f"/v3/servers/{ident}/action", json={"reboot": {}}), 404, "not_found")


# --- tags as addresses -------------------------------------------------------------------------------------------


@pytest.mark.requirement("TAG-5", "TAG-6", "TAG-8")
@pytest.mark.parametrize("tag", ["49fe58f1-a658-4232-b723-8f0b3efc1014", "order/17", "a:b?c#d%2F(x)", "tasks", "/"])
def test_a_tag_stands_for_the_server_that_it_made(still: Cloud, tag: str) -> None:
    made = still.member.post("/v3/servers", json={"server": {"name": "web"}}, headers={"Task-tag": tag})
    assert made.status_code == 202, made.text
    ident, uuid = made.json()["server"]["id"], made.json()["task"]["uuid"]
    named = httpx.URL(still.url).copy_with(raw_path=f"/v3/servers/{_escaped(tag)}/tasks".encode())
    by_tag, by_id = still.member.get(named), still.member.get(f"/v3/servers/{ident}/tasks")
    assert (by_tag.status_code, by_tag.content == by_id.content) == (200, True), by_tag.text
    assert (by_tag.headers["task-tag"], "task-tag" in by_id.headers) == (tag, False)
    (task,) = by_tag.json()["tasks"]
    assert (task["uuid"], task["resource"]) == (uuid, {"server": ident})  # all that somebody needs who got no answer
    one = still.member.get(
        httpx.URL(still.url).copy_with(raw_path=f"/v3/servers/{_escaped(tag)}/tasks/{uuid}".encode())
    )
    assert (one.status_code, one.headers["task-tag"]) == (200, tag)
    other = still.act(ident, "reboot")["uuid"]
    assert still.member.get(named).content == by_tag.content  # those of the tag, not those of its server
    assert len(still.member.get(f"/v3/servers/{ident}/tasks").json()["tasks"]) == 2
    assert still.member.get(f"/v3/servers/{ident}/tasks", params={"tag": tag}).content == by_tag.content
    beside = httpx.URL(still.url).copy_with(raw_path=f"/v3/servers/{_escaped(tag)}/tasks/{other}".encode())
    problem(still.member.get(beside), 404, "not_found")


def _escaped(tag: str) -> str:
    return "".join(f"%{ord(each):02X}" if not each.isalnum() else each for each in tag)


@pytest.mark.requirement("TAG-5", "TAG-10")
def test_an_address_means_an_own_server_first_and_nobody_elses(still: Cloud) -> None:
    ident = still.make()
    task = still.act(still.make(), "reboot", {}, **{"Task-tag": ident})
    by_id = still.member.get(f"/v3/servers/{ident}/tasks").json()["tasks"]
    assert [each["task"] for each in by_id] == ["create"]
    by_tag = still.member.get("/v3/tasks", params={"tag": ident}).json()["tasks"]
    assert [each["uuid"] for each in by_tag] == [task["uuid"]]
    other = still.client("elsewhere-of-" + still.project)
    problem(other.get(f"/v3/servers/{ident}/tasks"), 404, "not_found")
    mine = other.post("/v3/servers", json={"server": {"name": "o"}}, headers={"Task-tag": ident}).json()["task"]
    assert [each["uuid"] for each in other.get(f"/v3/servers/{ident}/tasks").json()["tasks"]] == [mine["uuid"]]
    problem(still.member.get("/v3/servers/no-such-tag/tasks"), 404, "not_found")
    still.submit("quick", client=still.member)
    flow = still.member.post("/v3/tasks", json={"task": "quick"}, headers={"Task-tag": "of-no-server"})
    assert flow.status_code == 202
    problem(still.member.get("/v3/servers/of-no-server/tasks"), 404, "not_found")


@pytest.mark.requirement("TAG-5")
def test_a_tag_whose_task_is_purged_is_gone_and_so_it_says(still: Cloud) -> None:
    other = still.client("purged-of-" + still.project)
    made = other.post("/v3/servers", json={"server": {"name": "o"}}, headers={"Task-tag": "short"}).json()["task"]
    other.post(f"/v3/tasks/{made['uuid']}/cancel")
    keep = still.hold.settings.retention_s
    still.hold.write(lambda tx, now: retention.purge(tx, now + keep + 1))
    told = problem(other.get("/v3/servers/short/tasks"), 410, "gone")
    assert told["tag"] == "short"
    problem(other.post("/v3/servers", json={"server": {"name": "o"}}, headers={"Task-tag": "short"}), 410, "gone")


@pytest.mark.requirement("TAG-2")
def test_a_tag_is_for_what_makes_a_task(still: Cloud) -> None:
    ident = still.make()
    assert still.member.get(f"/v3/servers/{ident}", headers={"Task-tag": "t" * 999}).status_code == 200
    tagged = [route.path for route in still.core.routes if "/servers" in route.path and route.method != "GET"]
    assert len(tagged) == 5
    for method, path, body in (
        ("POST", "/v3/tasks/verbs", {"verb": "cancel", "filter": {"state": "PENDING"}}),
        ("POST", "/v3/webhooks", {"url": "https://example.org/"}),
    ):
        problem(still.member.request(method, path, json=body, headers={"Task-tag": "t"}), 400, "tag.not_supported")


@pytest.mark.requirement("TAG-15")
def test_an_administrator_finds_a_request_and_its_resource(still: Cloud) -> None:
    tag = f"of-{still.project}"
    made = still.member.post("/v3/servers", json={"server": {"name": "web"}}, headers={"Task-tag": tag})
    admin = still.client("operators", roles="admin", user="op")
    (found,) = admin.get("/tasks", params={"tag": tag, "all_projects": "true"}).json()["tasks"]
    assert (found["project_id"], found["user_id"]) == (still.project, "u1")
    assert found["request_id"] == made.headers["x-compute-request-id"]
    assert found["resource"] == {"server": made.json()["server"]["id"]}
    assert admin.get("/tasks", params={"tag": tag}).json()["tasks"] == []
    problem(still.member.get("/tasks", params={"tag": tag, "all_projects": "true"}), 403, "policy.forbidden")


# --- whose it is -------------------------------------------------------------------------------------------------

BODIES: dict[str, Any] = {"action": {"reboot": {}}, "actions": {"reboot": {}}, "tasks": {"action": "REBOOT"}}


@pytest.mark.requirement("TAG-10", "NOVA-6")
def test_what_is_anothers_is_not_there_at_any_address(still: Cloud) -> None:
    ident, task = still.make(), still.tasks()[0]["uuid"]
    other = still.client("other-" + still.project)
    paths = [
        (route.method, route.path.replace("{type}", "server").replace("{task}", task).replace("{action}", "req-x"))
        for route in still.core.routes
        if route.path.startswith(("/v3/servers/{id}", "/v3/resources/{type}/{id}"))
    ]
    assert len(paths) == 16
    for method, path in paths:
        body = BODIES.get(path.rpartition("/")[2]) if method == "POST" else {"name": "a"} if method == "PUT" else None
        told = problem(other.request(method, path.replace("{id}", ident), json=body), 404, "not_found")
        if method != "PUT":  # which makes what is not there
            nobody = other.request(method, path.replace("{id}", NOBODY), json=body).json()
            assert told["detail"].replace(ident, "") == nobody["detail"].replace(NOBODY, "")
            assert told.keys() == nobody.keys()
    assert other.get("/v3/servers").json()["servers"] == []
    problem(other.get("/v3/servers", params={"all_projects": "true"}), 403, "policy.forbidden")
    problem(other.get("/v3/resources/server", params={"project_id": still.project}), 403, "policy.forbidden")
    assert len(still.tasks()) == 1


@pytest.mark.requirement("TAG-15")
def test_an_administrator_acts_in_the_project_of_the_resource(still: Cloud) -> None:
    ident = still.make()
    admin = still.client("operators", roles="admin", user="op")
    assert admin.get(f"/v3/servers/{ident}").status_code == 200
    task = admin.post(f"/v3/servers/{ident}/action", json={"reboot": {}}).json()["task"]
    assert (task["project_id"], task["user_id"]) == (still.project, "op")
    assert still.tasks()[0]["uuid"] == task["uuid"]
    listed = admin.get("/v3/servers", params={"project_id": still.project}).json()["servers"]
    assert [each["id"] for each in listed] == [ident]


def test_a_reader_reads(still: Cloud) -> None:
    ident = still.make()
    reader = still.client(roles="reader")
    for path in ("", "/tasks", "/os-instance-actions"):
        assert reader.get(f"/v3/servers/{ident}{path}").status_code == 200
    for method, path, body in (
        ("POST", "/action", {"reboot": {}}), ("POST", "/tasks", {"action": "REBOOT"}), ("DELETE", "", None),
    ):  # fmt: skip
        told = problem(reader.request(method, f"/v3/servers/{ident}{path}", json=body), 403, "policy.forbidden")
        assert "member" in told["detail"]


# --- lists -------------------------------------------------------------------------------------------------------


def test_lists_of_resources(still: Cloud) -> None:
    idents = [still.make(name=name) for name in ("a", "b", "c")]
    seen: list[str] = []
    path = "/v3/servers?limit=2"
    while path:
        page = still.member.get(path).json()
        seen += [each["id"] for each in page["servers"]]
        path = page["links"][0]["href"] if page["links"] else ""
    assert seen == sorted(idents)
    plain = still.member.get("/v3/resources/server", params={"name": "b"}).json()["resources"]
    assert [each["id"] for each in plain] == [idents[1]]
    whole = still.member.get("/v3/servers/detail").json()["servers"]
    assert whole == still.member.get("/v3/servers", params={"sync_status": "syncing"}).json()["servers"]
    assert still.member.get("/v3/servers", params={"status": "ACTIVE"}).json()["servers"] == []
    assert len(still.member.get("/v3/servers", params={"limit": 99999, "name": ""}).json()["servers"]) == 3
    for query in ("limit=-1", "limit=x", "sync_status=lost", "size=3", "name=a&name=b", "all_projects=perhaps"):
        assert still.member.get(f"/v3/servers?{query}").status_code == 400, query
    problem(still.member.get("/v3/resources/nothing"), 404, "not_found")


def test_head_is_get_without_a_body(still: Cloud) -> None:
    ident = still.make()
    for path in ("", "/tasks", "/os-instance-actions"):
        got, head = (ask(f"/v3/servers/{ident}{path}") for ask in (still.member.get, still.member.head))
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == got.headers["content-length"]
        assert head.headers.get("etag") == got.headers.get("etag")


@pytest.mark.requirement("NOVA-12")
def test_the_routes_are_those_of_the_kinds(still: Cloud, service: Service) -> None:
    told = still.member.get("/v3/schemas/actions").json()["kinds"]["server"]
    assert set(told["operations"]) >= set(make_server().operations)
    paths = still.member.get("/openapi.json").json()["paths"]
    assert "/v3/servers/{id}/action" in paths
    bare = service.client()  # which has no kinds
    problem(bare.get("/v3/servers"), 404, "not_found")
    assert "/v3/servers" not in bare.get("/openapi.json").json()["paths"]


@pytest.mark.parametrize("ident", ["日本", "a/b", "a?b", "é", "a%b", "a#b"])
def test_any_text_is_an_id(still: Cloud, ident: str) -> None:
    """What was accepted is not answered with a fault because a header can't hold its name."""
    ident = f"{ident}-{still.project}"
    at = quote(ident, safe="")
    made = still.member.put(f"/v3/resources/server/{at}", json={"name": "web"})
    assert (made.status_code, made.headers["link"]) == (202, f'</v3/servers/{at}>; rel="related"')
    shown = still.member.get(f"/v3/servers/{at}").json()["server"]
    for each in (*shown["links"], *made.json()["task"]["links"]):
        if each["rel"] in ("self", "bookmark", "tasks", "resource"):
            assert still.member.get(each["href"]).status_code == 200, each
    actions = still.member.get(f"/v3/servers/{at}/os-instance-actions")
    assert [each["instance_uuid"] for each in actions.json()["instanceActions"]] == [ident]
    ended = still.member.post(f"/v3/servers/{at}/action", json={"delete": None})
    assert still.member.get(ended.headers["location"]).json()["task"]["resource_id"] == ident
