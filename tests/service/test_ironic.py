"""Nodes over real sockets, as Ironic's clients ask for them: /v1/nodes and what is beneath."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from holdfast.client import connect
from holdfast.errors import NotFound, UsageError
from holdfast.resources.node import words
from tests.service.nodes import Metal, _idle, _metal, idle, metal
from tests.service.test_requests import problem

__all__ = ["_idle", "_metal", "idle", "metal"]

HUNG = {"soft_off": "ignored"}
#: As the proposal's sample has it.
STATES = {
    "console_enabled", "last_error", "power_state", "provision_state", "provision_updated_at", "target_power_state",
    "target_provision_state", "supported_power_states",
}  # fmt: skip


# --- enrolling, showing, changing --------------------------------------------------------------------------------


def test_a_machine_is_enrolled_shown_changed_and_forgotten(metal: Metal) -> None:
    answer = metal.member.post(
        "/v1/nodes", json={"name": "web", "driver": "fake", "driver_info": {"password": "s3cret"}, "extra": {"u": 7}}
    )
    assert answer.status_code == 202, answer.text
    made, task = answer.json(), answer.json()["task"]
    ident = made["uuid"]
    assert answer.headers["location"] == f"/v1/nodes/{ident}"
    assert answer.headers["link"] == f'</v3/tasks/{task["uuid"]}>; rel="monitor"'
    assert (made["name"], made["driver"], made["provision_state"], made["maintenance"]) == (
        "web",
        "fake",
        "enroll",
        False,
    )
    assert metal.ended(task["uuid"])["state"] == "SUCCEEDED"

    by_name = metal.member.get("/v1/nodes/web")
    assert by_name.json() == metal.member.get(f"/v1/nodes/{ident}").json()
    shown = by_name.json()
    assert (shown["power_state"], shown["provision_state"]) == (words.POWER_ON, "manageable")
    assert (shown["driver_info"], shown["extra"]) == ({"password": "******"}, {"u": 7})
    assert "s3cret" not in by_name.text + answer.text + metal.member.get(f"/v3/resources/node/{ident}").text
    assert shown["supported_power_states"] == list(words.TARGETS)
    seen = metal.member.get("/v1/nodes/web", headers={"If-None-Match": by_name.headers["etag"]})
    assert seen.status_code == 304

    patch = [{"op": "replace", "path": "/name", "value": "db"}, {"op": "add", "path": "/extra/rack", "value": "r1"},
             {"op": "remove", "path": "/extra/u"}]  # fmt: skip
    changed = metal.member.patch("/v1/nodes/web", json=patch, headers={"If-Match": by_name.headers["etag"]})
    assert changed.status_code == 202, changed.text
    assert (changed.json()["name"], changed.json()["extra"]) == ("db", {"rack": "r1"})
    assert changed.headers["location"] == f"/v1/nodes/{ident}"
    assert metal.ended(changed.json()["task"]["uuid"])["state"] == "SUCCEEDED"
    problem(metal.member.patch("/v1/nodes/db", json=patch, headers={"If-Match": '"1"'}), 412, "precondition.failed")
    problem(metal.member.get("/v1/nodes/web"), 404, "not_found")

    gone = metal.member.delete("/v1/nodes/db")
    assert gone.status_code == 202, gone.text
    assert metal.ended(gone.json()["task"]["uuid"])["state"] == "SUCCEEDED"
    problem(metal.member.get(f"/v1/nodes/{ident}"), 404, "not_found")
    assert metal.device(ident).power == words.POWER_ON


def test_the_words_of_ironics_drivers_are_understood_and_their_secrets_kept(idle: Metal) -> None:
    ident = idle.enrol(
        driver="ipmi", address="192.0.2.1", ipmi_username="admin", ipmi_password="s3cret", ipmi_port=6230
    )
    shown = idle.member.get(f"/v1/nodes/{ident}")
    assert shown.json()["driver_info"] == {
        "address": "192.0.2.1", "username": "admin", "password": "******", "port": 6230
    }  # fmt: skip
    patch = [{"op": "replace", "path": "/driver_info/ipmi_username", "value": "root"}]
    problem(idle.member.patch(f"/v1/nodes/{ident}", json=patch), 400, "request.invalid")  # whose is the password now?
    patch.append({"op": "replace", "path": "/driver_info/ipmi_password", "value": "s3cret-2"})
    changed = idle.member.patch(f"/v1/nodes/{ident}", json=patch)
    assert changed.status_code == 202, changed.text
    assert changed.json()["driver_info"] == shown.json()["driver_info"] | {"username": "root"}
    both = {"name": "x", "driver": "ipmi", "driver_info": {"password": "a", "ipmi_password": "b"}}
    problem(idle.member.post("/v1/nodes", json=both), 400, "request.invalid")


@pytest.mark.parametrize(
    "patch",
    [
        [{"op": "replace", "path": "/provision_state", "value": "active"}],
        [{"op": "remove", "path": "/extra/nothing"}],
        [{"op": "add", "path": "/extra/a/b", "value": 1}],
        [{"op": "replace", "path": "name", "value": "x"}],
        [{"op": "replace", "path": "", "value": {}}],
        [{"op": "move", "path": "/name", "value": "x"}],
        [{"op": "remove", "path": "/driver"}],
        [{"op": "replace", "path": "/extra", "value": 1}],
        {"op": "remove", "path": "/extra"},
    ],
)
def test_a_patch_that_makes_no_sense_changes_nothing(idle: Metal, patch: Any) -> None:
    ident = idle.enrol()
    before = idle.member.get(f"/v1/nodes/{ident}").json()
    answer = idle.member.patch(f"/v1/nodes/{ident}", json=patch, headers={"Task-tag": "t"})
    assert answer.status_code == 400, answer.text
    assert idle.member.get(f"/v1/nodes/{ident}").json() == before
    assert len(idle.tasks()) == 1
    again = [{"op": "remove", "path": "/extra"}]  # the tag was not used up
    assert idle.member.patch(f"/v1/nodes/{ident}", json=again, headers={"Task-tag": "t"}).status_code == 202


def test_a_repeated_patch_is_the_same_request_whatever_has_become_of_the_node(metal: Metal) -> None:
    ident = metal.enrol("one")
    patch = [{"op": "add", "path": "/extra/a", "value": 1}, {"op": "remove", "path": "/extra/a"}]
    patch += [{"op": "replace", "path": "/name", "value": "two"}]
    first = metal.member.patch("/v1/nodes/one", json=patch, headers={"Idempotency-Key": "p"})
    assert first.status_code == 202, first.text
    metal.ended(first.json()["task"]["uuid"])
    again = metal.member.patch("/v1/nodes/one", json=patch, headers={"Idempotency-Key": "p"})
    assert (again.status_code, again.headers["task-tag-replayed"]) == (202, "true")
    assert again.json()["task"]["uuid"] == first.json()["task"]["uuid"]
    metal.ended(metal.member.delete(f"/v1/nodes/{ident}").json()["task"]["uuid"])
    gone = metal.member.patch("/v1/nodes/one", json=patch, headers={"Idempotency-Key": "p"})
    assert gone.json()["task"]["uuid"] == first.json()["task"]["uuid"]


def test_maintenance(metal: Metal) -> None:
    ident = metal.enrol()
    answer = metal.member.put(f"/v1/nodes/{ident}/maintenance", json={"reason": "new fan"})
    assert answer.status_code == 202, answer.text
    shown = metal.member.get(f"/v1/nodes/{ident}").json()
    assert (shown["maintenance"], shown["maintenance_reason"]) == (True, "new fan")
    assert metal.ended(answer.json()["task"]["uuid"])["state"] == "SUCCEEDED"
    assert [node["uuid"] for node in metal.member.get("/v1/nodes?maintenance=true").json()["nodes"]] == [ident]
    assert metal.member.get("/v1/nodes?maintenance=false").json()["nodes"] == []
    answer = metal.member.delete(f"/v1/nodes/{ident}/maintenance")
    assert metal.ended(answer.json()["task"]["uuid"])["state"] == "SUCCEEDED"
    shown = metal.member.get(f"/v1/nodes/{ident}").json()
    assert (shown["maintenance"], shown["maintenance_reason"]) == (False, None)


def test_lists_are_paged_filtered_and_cut(idle: Metal) -> None:
    made = [idle.enrol(f"n{number}", driver="ipmi" if number % 2 else "fake") for number in range(5)]
    found = idle.member.get("/v1/nodes").json()
    assert [each["uuid"] for each in found["nodes"]] == made
    assert set(found["nodes"][0]) == {
        "uuid", "name", "instance_uuid", "maintenance", "power_state", "provision_state", "links"
    }  # fmt: skip
    assert "next" not in found
    first = idle.member.get(f"/v1/nodes/{made[0]}").json()
    assert found["nodes"][0] == {name: first[name] for name in found["nodes"][0]}
    seen, link = [], "/v1/nodes?limit=2&fields=uuid"
    while link:
        page = idle.member.get(link).json()
        seen += [each["uuid"] for each in page["nodes"]]
        assert all(set(each) == {"uuid"} for each in page["nodes"])
        link = page.get("next")
    assert seen == made
    ipmi = idle.member.get("/v1/nodes/detail?driver=ipmi&limit=1").json()
    assert [each["driver"] for each in ipmi["nodes"]] == ["ipmi"]
    assert [each["name"] for each in idle.member.get(ipmi["next"]).json()["nodes"]] == ["n3"]
    assert len(idle.member.get("/v1/nodes?provision_state=enroll").json()["nodes"]) == 5
    assert idle.member.get("/v1/nodes?provision_state=manageable").json()["nodes"] == []
    assert set(idle.member.get("/v1/nodes/n1?fields=name,power_state").json()) == {"name", "power_state"}
    for wrong in ("fields=nothing", "fields=%0A", "fields=name%0A", "limit=-1", "limit=x", "limit=0", "sort_key=name"):
        assert idle.member.get(f"/v1/nodes?{wrong}").status_code == 400


# --- power -------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("IRONIC-12")
def test_states_have_all_that_the_proposal_has(metal: Metal) -> None:
    ident = metal.enrol("irmc-1")
    states = metal.states(ident)
    assert set(states) >= STATES
    assert metal.states("irmc-1") == states
    assert states | {"provision_updated_at": None} == {
        "console_enabled": False, "last_error": None, "power_state": words.POWER_ON, "provision_state": "manageable",
        "provision_updated_at": None, "target_power_state": None, "target_provision_state": None,
        "supported_power_states": list(words.TARGETS),
    }  # fmt: skip
    for path in ("", "/states", "/states/power/supported"):
        found = metal.member.get(f"/v1/nodes/irmc-1{path}").json()
        assert found["supported_power_states"] == list(words.TARGETS)


@pytest.mark.requirement("IRONIC-4")
@pytest.mark.parametrize("target", words.TARGETS)
def test_every_target_is_accepted_at_once_and_has_a_task(metal: Metal, target: str) -> None:
    ident = metal.enrol("m")
    answer = metal.ask("m", target)
    assert answer.status_code == 202, answer.text
    task = answer.json()["task"]
    assert answer.headers["location"] == "/v1/nodes/m/states"
    assert answer.headers["link"] == f'</v3/tasks/{task["uuid"]}>; rel="monitor"'
    assert task["resource"] == {"node": ident}
    assert metal.ended(task["uuid"])["state"] == "SUCCEEDED"
    assert metal.states(ident)["target_power_state"] is None


@pytest.mark.requirement("IRONIC-4")
@pytest.mark.parametrize("target", ["error", "abort", "", "power on please", "abort power on", "shutdown"])
def test_an_unknown_target_is_refused_with_those_that_there_are(metal: Metal, target: str) -> None:
    ident = metal.enrol()
    told = problem(metal.ask(ident, target), 400, "request.invalid")
    assert told["allowed"] == list(words.TARGETS)
    assert len(metal.tasks()) == 1


@pytest.mark.requirement("IRONIC-6")
def test_what_the_driver_does_not_do_is_refused_and_has_no_task(idle: Metal) -> None:
    idle.enrol("ipmi-1", driver="ipmi", username="u", password="p")
    idle.enrol("irmc-1", driver="irmc", username="u", password="p")
    before = idle.tasks()
    answer = idle.ask("ipmi-1", words.ABORT_INJECT_NMI)
    told = problem(answer, 400, "power.unsupported")
    assert told["detail"] == "The driver ipmi does not support the power state, abort inject nmi"
    assert idle.tasks() == before
    assert idle.states("ipmi-1")["supported_power_states"] == list(words.TARGETS[:-1])
    assert idle.states("irmc-1")["supported_power_states"] == list(words.TARGETS)
    assert idle.ask("irmc-1", words.ABORT_INJECT_NMI).status_code == 202


@pytest.mark.requirement("IRONIC-9")
@pytest.mark.parametrize(
    ("said", "operation"),
    [("ABORT_POWER_OFF", "abort_soft_power_off"), ("POWER_OFF_SOFT", "soft_power_off"),
     ("SOFT_POWER_OFF", "soft_power_off"), ("Abort Soft Rebooting", "abort_soft_reboot"),
     ("abort_soft_reboot", "abort_soft_reboot"), ("reboot", "reboot")],
)  # fmt: skip
def test_the_names_of_the_proposals_table_mean_what_its_constants_do(idle: Metal, said: str, operation: str) -> None:
    ident = idle.enrol()
    assert idle.power(ident, said)["task"] == operation


@pytest.mark.requirement("IRONIC-7", "IRONIC-2")
def test_an_abort_is_accepted_while_the_machine_is_held_and_frees_it(metal: Metal) -> None:
    ident = metal.enrol(**HUNG)
    task = metal.power(ident, words.SOFT_POWER_OFF, 60)
    metal.until(task["uuid"], "RUNNING", "WAITING")
    assert metal.states(ident)["target_power_state"] == words.SOFT_POWER_OFF
    abort = metal.do(ident, words.ABORT_SOFT_POWER_OFF)
    assert (abort["state"], metal.ended(task["uuid"])["state"]) == ("SUCCEEDED", "ABORTED")
    states = metal.states(ident)
    assert (states["power_state"], states["target_power_state"]) == (words.ERROR, None)
    assert states["last_error"]
    assert metal.do(ident, words.POWER_OFF)["state"] == "SUCCEEDED"
    states = metal.states(ident)
    assert (states["power_state"], states["last_error"]) == (words.POWER_OFF, None)


@pytest.mark.requirement("IRONIC-8")
def test_an_abort_of_nothing_leaves_everything_as_it_is(metal: Metal) -> None:
    ident = metal.enrol()
    before = metal.states(ident)
    for target in (words.ABORT_SOFT_REBOOT, words.ABORT_SOFT_POWER_OFF, words.ABORT_INJECT_NMI):
        abort = metal.do(ident, target)
        assert (abort["state"], abort["effect"]) == ("SUCCEEDED", "none")
    assert metal.states(ident) == before


def test_the_request_says_how_long_the_machine_may_take(metal: Metal) -> None:
    ident = metal.enrol(**HUNG)
    task = metal.do(ident, words.SOFT_POWER_OFF, 0.3)
    assert (task["state"], task["error"]["code"]) == ("FAILED", "power.timeout")
    assert metal.states(ident)["power_state"] == words.ERROR
    for wrong in (-1, 0, "soon", True):
        answer = metal.member.put(f"/v1/nodes/{ident}/states/power", json={"target": words.POWER_ON, "timeout": wrong})
        assert answer.status_code == 400, (wrong, answer.text)


def test_an_nmi_is_asked_for_at_its_own_address(metal: Metal) -> None:
    ident = metal.enrol()
    for content in (b"{}", b""):
        answer = metal.member.put(f"/v1/nodes/{ident}/management/inject_nmi", content=content)
        assert answer.status_code == 202, answer.text
        assert metal.ended(answer.json()["task"]["uuid"])["state"] == "SUCCEEDED"
    assert [call.call for call in metal.device(ident).calls(looks=False)] == [words.INJECT_NMI] * 2
    assert metal.member.put(f"/v1/nodes/{ident}/management/inject_nmi", json={"a": 1}).status_code == 400


def test_who_prefers_to_wait_is_told_the_end(metal: Metal) -> None:
    ident = metal.enrol()
    answer = metal.ask(ident, words.POWER_OFF, prefer="wait=20")
    assert (answer.status_code, answer.json()["task"]["state"]) == (200, "SUCCEEDED")
    assert answer.headers["preference-applied"] == "wait=20"
    body = {"name": "second", "driver": "fake", "driver_info": {"path": str(metal.machines)}}
    made = metal.member.post("/v1/nodes", json=body, headers={"Prefer": "wait=20"})
    assert (made.status_code, made.json()["provision_state"]) == (200, "manageable")
    tagged = [metal.ask(ident, words.POWER_ON, tag="on") for _ in range(2)]
    assert len({each.json()["task"]["uuid"] for each in tagged}) == 1
    problem(metal.ask(ident, words.POWER_OFF, tag="on"), 422, "tag.reused")


def test_a_machine_that_is_busy_is_not_refused_unless_one_wants_that(idle: Metal) -> None:
    ident = idle.enrol()
    first, second = idle.power(ident, words.POWER_OFF), idle.power(ident, words.POWER_ON)
    assert second["uuid"] != first["uuid"]
    problem(idle.ask(ident, words.REBOOT, prefer="fail-if-busy"), 409, "resource.busy")


# --- the history, and other people's -----------------------------------------------------------------------------


def test_the_history_is_the_tasks_of_the_node(metal: Metal) -> None:
    ident = metal.enrol("h", **HUNG)
    failed = metal.do(ident, words.SOFT_POWER_OFF, 0.2)
    done = metal.do(ident, words.POWER_OFF)
    found = metal.member.get("/v1/nodes/h/history").json()["history"]
    assert [each["uuid"] for each in found[:2]] == [done["uuid"], failed["uuid"]]
    assert [each["severity"] for each in found] == ["INFO", "ERROR", "INFO"]
    assert all(set(each) == {"uuid", "created_at", "severity", "event", "links"} for each in found)
    assert failed["error"]["detail"] in found[1]["event"]
    page = metal.member.get("/v1/nodes/h/history?limit=1&detail=true").json()
    assert [each["uuid"] for each in page["history"]] == [done["uuid"]]
    assert (page["history"][0]["user"], page["history"][0]["conductor"]) == ("u1", None)
    assert [each["uuid"] for each in metal.member.get(page["next"]).json()["history"]] == [failed["uuid"]]
    one = metal.member.get(f"/v1/nodes/{ident}/history/{done['uuid']}").json()
    assert (one["event_type"], one["state"], one["project"]) == ("power_off", "SUCCEEDED", metal.project)
    seen = metal.client(roles="admin").get(f"/v1/nodes/{ident}/history/{done['uuid']}").json()
    assert seen["conductor"]
    other = metal.enrol("other")
    problem(metal.member.get(f"/v1/nodes/{other}/history/{done['uuid']}"), 404, "not_found")


def test_another_projects_node_is_not_there(metal: Metal) -> None:
    ident = metal.enrol("mine")
    stranger = metal.client(project="strangers")
    asked = {"target": words.POWER_OFF}
    for name in (ident, "mine"):
        for method, path, body in (
            ("GET", "", None), ("GET", "/states", None), ("GET", "/history", None), ("DELETE", "", None),
            ("GET", "/states/power/supported", None), ("PUT", "/states/power", asked), ("PUT", "/maintenance", {}),
            ("PUT", "/management/inject_nmi", {}), ("PATCH", "", []),
            ("PUT", "/states/provision", {"target": "manage"}),
        ):  # fmt: skip
            answer = stranger.request(method, f"/v1/nodes/{name}{path}", json=body)
            assert answer.status_code == 404, (method, path, answer.text)
    assert stranger.get("/v1/nodes").json()["nodes"] == []
    assert len(metal.tasks()) == 1
    reader = metal.client(roles="reader")
    assert reader.get("/v1/nodes/mine/states").status_code == 200
    problem(reader.put("/v1/nodes/mine/states/power", json=asked), 403, "policy.forbidden")

    admin = metal.client(project="operators", roles="admin")
    assert ident in [each["uuid"] for each in admin.get("/v1/nodes?all_projects=true").json()["nodes"]]
    answer = admin.put("/v1/nodes/mine/states/power", json=asked)
    assert answer.status_code == 202, answer.text
    assert answer.json()["task"]["project_id"] == metal.project
    metal.ended(answer.json()["task"]["uuid"])


def test_a_name_is_one_nodes_alone_in_its_project(idle: Metal) -> None:
    ident, other = idle.enrol("twin"), idle.enrol("other")
    asked = {"name": "twin", "driver": "fake"}
    told = problem(idle.member.post("/v1/nodes", json=asked), 409, "name.taken")
    assert told["id"] == ident
    rename = [{"op": "replace", "path": "/name", "value": "twin"}]
    problem(idle.member.patch("/v1/nodes/other", json=rename), 409, "name.taken")
    assert idle.member.get("/v1/nodes/other").json()["uuid"] == other
    assert len(idle.tasks()) == 2
    assert idle.member.patch("/v1/nodes/twin", json=rename).status_code == 202  # it is its own
    stranger = idle.client(project=f"{idle.project}-2")
    own = stranger.post("/v1/nodes", json=asked)
    assert own.status_code == 202, own.text
    assert stranger.get("/v1/nodes/twin").json()["uuid"] == own.json()["uuid"] != ident


def test_a_name_that_several_have_names_none_of_them(idle: Metal) -> None:
    asked = {"name": "twin", "driver": "fake"}
    ident = idle.enrol("twin")
    own = idle.client(project=f"{idle.project}-2", roles="admin")
    second = own.post("/v1/nodes", json=asked).json()["uuid"]
    assert own.get("/v1/nodes/twin").json()["uuid"] == second  # his own goes before others'
    admin = idle.client(project="with-none", roles="admin")
    told = problem(admin.get("/v1/nodes/twin"), 400, "request.invalid")
    assert "by its id" in told["detail"]
    off = {"target": words.POWER_OFF}
    problem(admin.put("/v1/nodes/twin/states/power", json=off), 400, "request.invalid")
    assert admin.put(f"/v1/nodes/{ident}/states/power", json=off).status_code == 202


@pytest.mark.parametrize(
    ("name", "ident"),
    [("01a1fcfb-1151-703a-afc3-3b6b07bd1cfb", None), ("detail", None), ("\x1b[2J", None), ("a\x00b", None),
     (" a", None), ("a", "web-1"), ("a", ""), ("a", "detail"), ("a", "{01a1fcfb-1151-703a-afc3-3b6b07bd1cfb}"),
     ("a", "01a1fcfb-1151-703a-afc3-3b6b07bd1cfb\n")],
)  # fmt: skip
def test_a_node_has_no_name_or_id_that_leads_astray(idle: Metal, name: str, ident: str | None) -> None:
    asked = {"name": name, "driver": "fake"} | ({} if ident is None else {"uuid": ident})
    problem(idle.member.post("/v1/nodes", json=asked), 400, "request.invalid")
    assert idle.tasks() == []


def test_changes_that_come_at_once_all_count(idle: Metal) -> None:
    ident = idle.enrol()

    def change(number: int) -> int:
        patch = [{"op": "add", "path": f"/extra/k{number}", "value": number}]
        with idle.client() as client:
            return client.patch(f"/v1/nodes/{ident}", json=patch).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(change, range(24))) == {202}
    assert idle.member.get(f"/v1/nodes/{ident}").json()["extra"] == {f"k{number}": number for number in range(24)}


def test_a_node_is_asked_whether_it_can_be_controlled(metal: Metal) -> None:
    ident = metal.enrol()
    answer = metal.member.put(f"/v1/nodes/{ident}/states/provision", json={"target": "manage"})
    assert answer.status_code == 202, answer.text
    assert metal.ended(answer.json()["task"]["uuid"])["task"] == "manage"
    answer = metal.member.put(f"/v1/nodes/{ident}/states/provision", json={"target": "active"})
    assert answer.status_code == 400


def test_the_python_client_says_it_in_the_same_words(metal: Metal) -> None:
    ident = metal.enrol("m")
    with connect(metal.url, project=metal.project) as client:
        asked = client.nodes.power("m", words.SOFT_POWER_OFF, timeout_s=60, tag="off")
        assert client.tasks.wait(asked.task["uuid"], timeout_s=20)["params"] == {"timeout": 60}
        assert client.nodes.power("m", words.SOFT_POWER_OFF, timeout_s=60, tag="off").replayed
        assert client.nodes.get("m")["uuid"] == ident
        assert client.nodes.states(ident)["power_state"] == words.POWER_OFF
        with pytest.raises(NotFound):
            client.nodes.states("nobody")
        with pytest.raises(UsageError):
            client.nodes.get("..")
