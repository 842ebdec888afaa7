"""Faults and instance actions as Nova's clients know them: views over tasks, and who sees what of them."""

from __future__ import annotations

import re
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from holdfast import local
from holdfast.service.serve import Serving
from tests.postgresql import only_sqlite
from tests.service.conftest import MakeService
from tests.service.servers import RENEWAL, Cloud, _cloud, _still, cloud, kinds, still
from tests.service.test_requests import problem

__all__ = ["_cloud", "_still", "cloud", "still"]

#: What Nova's schema of microversion 2.84 has, and no more.
ACTION = {
    "action", "instance_uuid", "message", "project_id", "request_id", "start_time", "updated_at", "user_id"
}  # fmt: skip
EVENT = {"event", "start_time", "finish_time", "result", "hostId", "details"}


def faults(which: str) -> dict[str, Any]:
    return {"metadata": {"faults": which}}


def actions(cloud: Cloud, ident: str, **query: str) -> list[dict[str, Any]]:
    answer = cloud.member.get(f"/v3/servers/{ident}/os-instance-actions", params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["instanceActions"]
    return found


def events(cloud: Cloud, ident: str, request_id: str, roles: str = "reader") -> list[dict[str, Any]]:
    answer = cloud.client(roles=roles).get(f"/v3/servers/{ident}/os-instance-actions/{request_id}")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["instanceAction"]["events"]
    return found


# --- faults ------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("NOVA-1", "NOVA-2", "NOVA-5")
def test_failures_without_an_effect_are_no_fault_of_the_server(cloud: Cloud) -> None:
    ident = cloud.make(**faults("reboot=before, stop=before, suspend=before"))
    before = cloud.server(ident)
    failed = [cloud.do(ident, word) for word in ("reboot", "stop", "suspend")]
    assert [(task["state"], task["effect"]) for task in failed] == [("FAILED", "none")] * 3
    after = cloud.server(ident)
    assert (after["status"], after["power_state"]) == (before["status"], before["power_state"]) == ("ACTIVE", "RUNNING")
    assert "fault" not in after
    found = cloud.member.get(f"/v3/servers/{ident}/tasks", params={"task_state": "FAILED"}).json()["tasks"]
    assert [task["uuid"] for task in found] == [task["uuid"] for task in reversed(failed)]
    assert len({task["error"]["detail"] for task in found}) == 3
    listed = actions(cloud, ident)
    assert [(each["action"], each["message"]) for each in listed] == [
        ("suspend", "Error"), ("stop", "Error"), ("reboot", "Error"), ("create", None),
    ]  # fmt: skip
    assert after["last_failed_task"]["uuid"] == failed[-1]["uuid"]


@pytest.mark.requirement("NOVA-4", "NOVA-5", "NOVA-20")
def test_a_fault_is_the_last_failure_with_an_effect_until_the_server_recovers(cloud: Cloud) -> None:
    ident, admin = cloud.make(**faults("reboot=after, stop=before")), cloud.client(roles="admin")
    first = cloud.do(ident, "reboot")
    assert (first["state"], first["effect"] != "none") == ("FAILED", True)
    assert cloud.do(ident, "stop")["effect"] == "none"  # which is no fault, and hides none
    shown = cloud.server(ident)
    fault = shown["fault"]
    assert (shown["status"], fault["task_id"], fault["code"]) == ("ERROR", first["uuid"], 500)
    assert (fault["message"], fault["created"]) == (first["error"]["detail"], first["finish_time"])
    assert "details" not in fault
    assert cloud.member.get(f"/v3/tasks/{fault['task_id']}").status_code == 200
    assert "Traceback" in cloud.server(ident, client=admin)["fault"]["details"]
    (listed,) = (each for each in cloud.member.get("/v3/servers").json()["servers"] if each["id"] == ident)
    assert listed["fault"] == fault

    second = cloud.do(ident, "reboot", {"type": "HARD"})
    assert cloud.server(ident)["fault"]["task_id"] == second["uuid"] != first["uuid"]
    cloud.put(ident)
    assert cloud.do(ident, "reboot", {"type": "HARD"})["state"] == "SUCCEEDED"
    recovered = cloud.server(ident)
    assert (recovered["status"], "fault" in recovered) == ("ACTIVE", False)
    assert cloud.member.get(f"/v3/tasks/{second['uuid']}").json()["task"]["state"] == "FAILED"

    assert cloud.do(ident, "delete")["state"] == "SUCCEEDED"
    problem(cloud.member.get(f"/v3/servers/{ident}"), 404, "not_found")
    gone = cloud.member.get(f"/v3/servers/{ident}", params={"deleted": "true"}).json()["server"]
    assert (gone["status"], gone["fault"]["task_id"]) == ("DELETED", second["uuid"])


@pytest.mark.requirement("NOVA-4")
def test_a_server_that_could_not_be_made_says_why(cloud: Cloud) -> None:
    ident = cloud.make(**faults("create=before"))
    shown = cloud.server(ident)
    (task,) = cloud.tasks()
    assert (shown["status"], shown["fault"]["task_id"]) == ("ERROR", task["uuid"])
    assert actions(cloud, ident)[0]["message"] == "Error"


@pytest.mark.requirement("NOVA-4", "P6")
def test_who_was_stopped_in_the_middle_is_the_fault_and_not_an_older_failure(cloud: Cloud) -> None:
    ident = cloud.make(**faults("reboot=after, rebuild=hang"))
    cloud.do(ident, "reboot")
    rebuild = cloud.act(ident, "rebuild", {"image": "guest-2"})["uuid"]
    cloud.until(rebuild, "RUNNING")
    assert cloud.member.post(f"/v3/tasks/{rebuild}/abort").status_code == 202
    aborted = cloud.ended(rebuild)
    assert (aborted["state"], aborted["effect"]) == ("ABORTED", "unknown")
    assert cloud.do(ident, "delete")["state"] == "SUCCEEDED"
    fault = cloud.member.get(f"/v3/servers/{ident}", params={"deleted": "true"}).json()["server"]["fault"]
    assert (fault["task_id"], fault["created"]) == (rebuild, aborted["finish_time"])
    assert fault["message"] == aborted["error"]["detail"]


# --- instance actions --------------------------------------------------------------------------------------------


@pytest.mark.requirement("NOVA-3", "NOVA-2")
def test_events_tell_an_administrator_more(cloud: Cloud) -> None:
    ident = cloud.make(**faults("reboot=after"))
    task = cloud.do(ident, "reboot")
    (action, _) = actions(cloud, ident)
    assert set(action) == ACTION
    assert (action["request_id"], action["instance_uuid"]) == (task["request_id"], ident)
    assert (action["user_id"], action["project_id"], action["start_time"]) == ("u1", cloud.project, task["start_time"])
    told, seen = (events(cloud, ident, task["request_id"], roles) for roles in ("reader", "admin"))
    assert [set(event) for event in told] == [EVENT] * len(told)
    assert [event["result"] for event in told[:2]] == ["Success", "Success"]
    assert [event["result"] == "Error" for event in told] == [event["details"] is not None for event in told]
    assert [{name: event[name] for name in EVENT} for event in seen] == told
    assert all(re.fullmatch("[0-9a-f]{56}", event["hostId"]) and event["host"] for event in seen)
    assert ["Traceback" in event.get("traceback", "") for event in seen] == [e["result"] == "Error" for e in told]
    steps = cloud.member.get(f"/v3/tasks/{task['uuid']}/steps").json()["steps"]
    assert [event["event"] for event in told] == [step["id"] for step in steps]
    kept = cloud.client(roles="admin").get(f"/v3/tasks/{task['uuid']}").json()["task"]
    assert (kept["host"], kept["hostId"]) == (seen[0]["host"], seen[0]["hostId"])  # now that it has ended


@pytest.mark.requirement("NOVA-8", "NOVA-21")
def test_many_tasks_of_one_request_are_one_action(cloud: Cloud) -> None:
    ident = cloud.make()
    task = cloud.do(ident, "renew")
    assert (task["state"], task["progress"]["percent"]) == ("SUCCEEDED", 100)
    below = cloud.member.get(f"/v3/tasks/{task['uuid']}/tasks", params={"sort": "created_at:asc"}).json()["tasks"]
    assert [child["task"] for child in below] == list(RENEWAL)
    assert {child["request_id"] for child in below} == {task["request_id"]}
    assert {child["uuid"] for child in below}.isdisjoint(each["uuid"] for each in cloud.tasks())
    (action, made) = actions(cloud, ident)
    assert (action["action"], action["request_id"], made["action"]) == ("renew", task["request_id"], "create")
    told = events(cloud, ident, task["request_id"])
    assert [event["event"] for event in told] == [f"server_{name}" for name in RENEWAL]
    assert {event["result"] for event in told} == {"Success"}
    assert all(event["hostId"] for event in told)


def test_an_action_that_goes_on_has_no_result_yet(still: Cloud) -> None:
    ident = still.make()
    (action,) = actions(still, ident)
    assert (action["message"], events(still, ident, action["request_id"])) == (None, [])


@pytest.mark.requirement("NOVA-2", "NOVA-21")
def test_pages_and_times_of_actions(still: Cloud) -> None:
    ident = still.make()
    tasks = [still.tasks()[0], *(still.act(ident, "reboot", {"type": "HARD"}) for _ in range(4))]
    asked = [task["request_id"] for task in reversed(tasks)]
    path, seen = f"/v3/servers/{ident}/os-instance-actions?limit=2&changes-since=2020-01-01T00:00:00", []
    while path:
        page = still.member.get(path).json()
        assert len(page["instanceActions"]) <= 2
        seen += [each["request_id"] for each in page["instanceActions"]]
        path = page["links"][0]["href"] if "links" in page else ""
        assert "changes-since" in path or not path
    assert seen == asked
    moment = tasks[2]["last_updated"]
    since = [each["request_id"] for each in actions(still, ident, **{"changes-since": moment})]
    before = [each["request_id"] for each in actions(still, ident, **{"changes-before": moment})]
    assert (since, before) == (asked[:3], asked[2:])
    both = actions(still, ident, **{"changes-since": moment, "changes-before": moment})
    assert [each["request_id"] for each in both] == [asked[2]]
    for query in (
        f"changes-since={moment}&changes-before=2020-01-01T00:00:00Z", "changes-since=yesterday", "limit=-1",
        "limit=many", "marker=req-of-nobody", "sort=x",
    ):  # fmt: skip
        assert still.member.get(f"/v3/servers/{ident}/os-instance-actions?{query}").status_code == 400, query
    problem(still.member.get(f"/v3/servers/{ident}/os-instance-actions/req-of-nobody"), 404, "not_found")
    elsewhere = still.client("other-" + still.project)
    problem(elsewhere.get(f"/v3/servers/{ident}/os-instance-actions/{asked[0]}"), 404, "not_found")


@pytest.mark.requirement("NOVA-22", "NOVA-2")
def test_the_actions_of_a_deleted_server_can_be_read(cloud: Cloud) -> None:
    ident = cloud.make()
    cloud.do(ident, "delete")
    assert [each["action"] for each in actions(cloud, ident)] == ["delete", "create"]
    (last, _) = actions(cloud, ident)
    assert {event["result"] for event in events(cloud, ident, last["request_id"])} == {"Success"}


# --- views and nothing else --------------------------------------------------------------------------------------


@pytest.mark.requirement("NOVA-22")
def test_both_say_that_they_are_deprecated_and_what_comes_after_them(cloud: Cloud) -> None:
    ident = cloud.make()
    place = f"/v3/servers/{ident}/os-instance-actions"
    request_id = actions(cloud, ident)[0]["request_id"]
    for path in (place, f"{place}/{request_id}"):
        answer = cloud.member.get(path)
        assert re.fullmatch(r"@[0-9]{10}", answer.headers["deprecation"])
        assert answer.headers["link"] == f'</v3/servers/{ident}/tasks>; rel="successor-version"'


@only_sqlite
@pytest.mark.requirement("NOVA-22")
def test_faults_and_actions_need_no_table_of_their_own(make_service: MakeService, tmp_path: Path) -> None:
    first = Cloud(make_service(kinds=kinds(tmp_path / "servers")).serving, works=True)
    ident = first.make(**faults("reboot=after"))
    task = first.do(ident, "reboot")
    said = (first.server(ident)["fault"], actions(first, ident), events(first, ident, task["request_id"]))
    first.do(ident, "delete")
    shutil.copy(tmp_path / "tasks1.db", copied := tmp_path / "bare.db")
    shutil.copy(tmp_path / "tasks1.db-wal", tmp_path / "bare.db-wal")
    first.close_clients()
    with sqlite3.connect(copied) as database:
        names = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert not any("fault" in name or "action" in name for name in names)
        threads = {"webhooks", "feed"}  # what the service looks at by itself
        fenced = {"leases", "workers"}  # what holds tokens, which a copy begins anew
        kept = {"tasks", "steps", "journal", "resources", "store_info", "alembic_version"} | threads | fenced
        for name in names - kept - {"sqlite_sequence"}:
            database.execute(f"DROP TABLE {name}")
    with local.open(f"sqlite:///{copied}", kinds=kinds(tmp_path / "servers"), port=0) as hold:
        serving = Serving(hold, worker=False)
        serving.start()
        client = Cloud(serving, works=False).client(first.project)
        place = f"/v3/servers/{ident}"
        assert client.get(place, params={"deleted": "true"}).json()["server"]["fault"] == said[0]
        assert client.get(f"{place}/os-instance-actions").json()["instanceActions"][1:] == said[1]
        found = client.get(f"{place}/os-instance-actions/{task['request_id']}").json()["instanceAction"]
        assert found["events"] == said[2]
        client.close()
        serving.stop()
