"""Verbs over HTTP: every cell of the matrix, which is made of the table of states; and what they do to real tasks."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from holdfast.clock import Clock
from holdfast.core import states
from holdfast.store.base import Tx
from holdfast.store.schema import tasks
from holdfast.tasks import retention
from tests.postgresql import database_at, only_sqlite
from tests.service.conftest import MakeService, Service
from tests.service.test_requests import problem

#: Where a verb changes nothing and there is nothing left to do either: 200. Any other no-op is under way: 202.
IS_SO = {
    *((state, "resume") for state in ("PENDING", "RUNNING", "WAITING", "CANCELLING", "REVERTING")),
    *((f"SUSPENDED/{held}", "suspend") for held in ("pending", "forward", "reverting", "cancelling")),
    ("CANCELLED", "cancel"), ("ABORTED", "abort"), ("REVERTED", "rollback"),
}  # fmt: skip


@pytest.fixture(scope="module")
def resting_service(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Without a worker: tasks stay in the state they are put in."""
    from holdfast import local
    from holdfast.service.serve import Serving
    from tests.service import flows

    url = database_at(tmp_path_factory.mktemp("matrix") / "tasks.db")
    with local.open(url, flows=flows.FLOWS, port=0) as hold:
        serving = Serving(hold, worker=False)
        serving.start()
        made = Service(hold, serving)
        yield made
        made.close_clients()
        serving.stop()


def put(service: Service, uuid: str, phase: str, effect: str = "partial") -> None:
    """Let the task be in that phase, as if it had come there."""
    state, final = states.api_state(phase), phase in states.FINAL
    columns: dict[str, Any] = {"state": state, "hold": states.hold(phase), "effect": effect if final else "none"}
    columns |= {"finished_at": 1.7e9, "expires_at": 9e9, "due_at": None} if final else {}
    columns |= {"reason": "asked"} if phase in states.RESTING else {}

    def write(tx: Tx) -> None:
        tx.execute(update(tasks).where(tasks.c.uuid == uuid).values(**columns))

    service.hold.store.write(write)


CELLS = [(phase, verb) for phase in states.TASK.rows for verb in states.VERBS]


@pytest.mark.requirement("IRONIC-1")
@pytest.mark.parametrize(("phase", "verb"), CELLS)
def test_every_cell_of_the_matrix(resting_service: Service, phase: str, verb: str) -> None:
    service = resting_service
    client = service.client()
    uuid = service.submit("undoable", client=client)["uuid"]
    put(service, uuid, phase)
    answer = client.post(f"/v3/tasks/{uuid}/{verb}")
    meant = states.TASK.answer(phase, verb)
    after = client.get(f"/v3/tasks/{uuid}").json()["task"]
    if meant == states.REFUSE:
        told = problem(answer, 409, "task.verb_not_allowed")
        assert told["detail"] == f"Cannot '{verb}' task {uuid} while it is {states.api_state(phase)}"
        assert told["allowed"] == states.verbs_allowed(phase)
        assert after["state"] == states.api_state(phase)
    elif meant == states.ANEW:
        assert answer.status_code == 202
        made = answer.json()["task"]
        assert made["rollback_of" if verb == "rollback" else "retry_of"] == uuid
        assert answer.headers["location"] == f"/v3/tasks/{made['uuid']}"
        again = client.post(f"/v3/tasks/{uuid}/{verb}")
        assert (again.status_code, again.json()["task"]["uuid"]) == (202, made["uuid"])
        assert after["state"] == phase
    elif meant == states.IGNORE:
        assert answer.status_code == (200 if (phase, verb) in IS_SO else 202)
        assert answer.json()["task"]["state"] == after["state"] == states.api_state(phase)
    else:
        assert answer.status_code == 202
        assert answer.json()["task"]["state"] == after["state"] == states.api_state(meant)
    assert set(after["supported_verbs"]) <= set(states.VERBS)


@pytest.mark.parametrize("verb", ["retry", "rollback"])
def test_the_new_task_is_of_the_request_that_asked_for_it(resting_service: Service, verb: str) -> None:
    first, second = (f"req-00000000-0000-4000-8000-00000000000{number}" for number in (1, 2))
    client = resting_service.client()
    asked = client.post("/v3/tasks", json={"task": "undoable"}, headers={"X-OpenStack-Request-ID": first})
    uuid = asked.json()["task"]["uuid"]
    put(resting_service, uuid, "FAILED")
    answer = client.post(f"/v3/tasks/{uuid}/{verb}", headers={"X-OpenStack-Request-ID": second})
    made = answer.json()["task"]
    assert (made["request_id"], made["global_request_id"]) == (answer.headers["x-openstack-request-id"], second)


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED"])
def test_where_nothing_is_left_a_rollback_has_nothing_to_do(resting_service: Service, state: str) -> None:
    client = resting_service.client()
    uuid = resting_service.submit("undoable", client=client)["uuid"]
    put(resting_service, uuid, state, effect="none")
    answer = client.post(f"/v3/tasks/{uuid}/rollback")
    assert (answer.status_code, answer.json()["task"]["uuid"]) == (200, uuid)


@pytest.mark.parametrize("phase", list(states.TASK.rows))
def test_delete_cancels_and_never_deletes(resting_service: Service, phase: str) -> None:
    client = resting_service.client()
    uuid = resting_service.submit("undoable", client=client)["uuid"]
    put(resting_service, uuid, phase)
    answer = client.delete(f"/v3/tasks/{uuid}")
    refused = phase in states.FINAL or states.TASK.answer(phase, "cancel") == states.REFUSE
    assert answer.status_code == (409 if refused else 202)
    assert client.get(f"/v3/tasks/{uuid}").status_code == 200


def test_an_action_is_the_verb_of_its_key(shared: Service) -> None:
    client = shared.client()
    uuid = shared.submit("waiting", client=client)["uuid"]
    shared.until(uuid, "WAITING", client=client)
    url = f"/v3/tasks/{uuid}/action"
    assert client.post(url, json={"suspend": None}).json()["task"]["state"] == "SUSPENDED"
    assert client.post(url, json={"resume": {}}).status_code == 202
    for bad, says in (
        ({}, "one key"), ({"cancel": {}, "abort": {}}, "one key"), ({"stop": {}}, "cancel, abort"),
        ({"cancel": {"undo": False}}, "allowed are revert"), ({"cancel": {"revert": 1}}, "$.revert"),
        ({"cancel": []}, "expected `object`"),
    ):  # fmt: skip
        assert says in problem(client.post(url, json=bad), 400, "request.invalid")["detail"]
    assert client.post(url, json={"cancel": {"revert": False}}).status_code == 202
    assert shared.until(uuid, "CANCELLED", client=client)["effect"] == "partial"


@pytest.mark.requirement("IRONIC-1", "IRONIC-2", "NOVA-13")
def test_a_running_step_hears_of_it_while_it_holds_its_claim(shared: Service) -> None:
    client = shared.client()
    uuid = shared.submit("hanging", client=client, resource={"server": "s-1"})["uuid"]
    shared.until(uuid, "RUNNING", client=client)
    assert client.post(f"/v3/tasks/{uuid}/suspend").json()["task"]["state"] == "SUSPENDING"
    held = shared.until(uuid, "SUSPENDED", client=client)
    assert (held["reason"], held["claims"][0]["id"]) == ("asked", "s-1")
    assert client.post(f"/v3/tasks/{uuid}/resume").status_code == 202
    shared.until(uuid, "RUNNING", client=client)
    undone = client.post(f"/v3/tasks/{uuid}/rollback")
    assert (undone.status_code, undone.json()["task"]["state"]) == (202, "REVERTING")
    end = shared.until(uuid, "REVERTED", client=client)
    assert (end["effect"], end["revert"]) == ("none", "done")


@pytest.mark.requirement("IRONIC-1")
def test_an_abort_undoes_nothing_and_says_so(shared: Service) -> None:
    client = shared.client()
    uuid = shared.submit("hanging", client=client)["uuid"]
    shared.until(uuid, "RUNNING", client=client)
    assert client.post(f"/v3/tasks/{uuid}/abort").status_code == 202
    end = shared.until(uuid, "ABORTED", client=client)
    assert (end["effect"], end["error"]["code"]) == ("unknown", "task.aborted")


def test_a_verb_for_every_task_that_matches(shared: Service) -> None:
    client = shared.client()
    waiting = {shared.submit("waiting", client=client, resource={"port": "p"})["uuid"] for _ in range(3)}
    other = shared.submit("waiting", client=client)["uuid"]
    done = client.post("/v3/tasks/verbs", json={"verb": "abort", "filter": {"resource_id": "p"}}).json()
    assert {each["uuid"] for each in done["tasks"]} == waiting
    assert {each["status"] for each in done["tasks"]} == {202}
    assert done["more"] is False
    assert client.get(f"/v3/tasks/{other}").json()["task"]["state"] != "ABORTED"
    for uuid in waiting:
        shared.until(uuid, "ABORTED", client=client)
    again = client.post("/v3/tasks/verbs", json={"verb": "suspend", "filter": {"resource_id": "p"}}).json()
    assert {(each["status"], each["error"]["code"]) for each in again["tasks"]} == {(409, "task.verb_not_allowed")}
    for bad in ({"verb": "stop", "filter": {"state": "x"}}, {"verb": "abort", "filter": {}},
                {"verb": "abort", "filter": {"marker": "x"}}, {"verb": "abort", "filter": {"stat": "x"}},
                {"verb": "abort"}):  # fmt: skip
        assert client.post("/v3/tasks/verbs", json=bad).status_code == 400


class Meanwhile(Clock):
    """At the second id that is made, something happens first."""

    __slots__ = ("_made", "happens")

    def __init__(self) -> None:
        super().__init__()
        self.happens: Callable[[], object] | None = None
        self._made = 0

    def uuid7(self) -> str:
        if self.happens is not None:
            self._made += 1
            if self._made == 2:
                self.happens()
        return super().uuid7()


def test_a_task_that_is_purged_meanwhile_is_its_own_business(make_service: MakeService) -> None:
    clock = Meanwhile()
    service = make_service(worker=False, clock=clock)
    client = service.client()
    uuids = [service.submit("quick", client=client, resource={"port": "p"})["uuid"] for _ in range(3)]
    client.post(f"/v3/tasks/{uuids[1]}/cancel")
    clock.happens = lambda: service.hold.store.write(lambda tx: retention.purge(tx, time.time() + 1e9))
    done = client.post("/v3/tasks/verbs", json={"verb": "cancel", "filter": {"resource_id": "p"}}).json()
    told = {each["uuid"]: (each["status"], each["state"], (each["error"] or {}).get("code")) for each in done["tasks"]}
    assert told == {
        uuids[0]: (202, "CANCELLED", None), uuids[1]: (404, None, "not_found"), uuids[2]: (202, "CANCELLED", None),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("state", "hold"), [("SUSPENDED", None), ("SUSPENDING", "pending"), ("PENDING", "sideways"), ("ASLEEP", None)]
)
@only_sqlite
def test_a_task_in_no_state_there_is_is_answered_for_and_can_be_ended(
    make_service: MakeService, tmp_path: Path, state: str, hold: str | None
) -> None:
    """Somebody has written into the database by hand, past what it checks."""
    service = make_service(worker=False)
    client, admin = service.client(), service.client(roles="admin")
    uuid = service.submit("quick", client=client)["uuid"]
    with closing(sqlite3.connect(tmp_path / "tasks1.db")) as connection:
        with pytest.raises(sqlite3.IntegrityError, match="ck_tasks_hold"):
            connection.execute("UPDATE tasks SET state = 'SUSPENDED', hold = NULL")
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("UPDATE tasks SET state = ?, hold = ?", (state, hold))
        connection.commit()
    shown = client.get(f"/v3/tasks/{uuid}").json()["task"]
    assert (shown["state"], shown["supported_verbs"]) == (state, [])
    assert [each["state"] for each in client.get("/v3/tasks").json()["tasks"]] == [state]
    for verb in states.VERBS:
        assert problem(client.post(f"/v3/tasks/{uuid}/{verb}"), 409, "task.verb_not_allowed")["allowed"] == []
    (done,) = client.post("/v3/tasks/verbs", json={"verb": "abort", "filter": {"task": "quick"}}).json()["tasks"]
    assert (done["status"], done["state"]) == (409, state)
    for path in ("steps", "graph", "tasks", "events"):
        assert client.get(f"/v3/tasks/{uuid}/{path}").status_code == 200
    assert admin.get("/metrics").status_code == 200
    answer = admin.post(f"/v3/tasks/{uuid}/force-fail", json={"reason": "written by hand"})
    assert (answer.status_code, answer.json()["task"]["state"]) == (202, "FAILED")


def test_an_event_is_delivered_to_the_task_as_it_was_seen(shared: Service) -> None:
    client = shared.client()
    uuid = shared.submit("waiting", client=client)["uuid"]
    seen = client.get(f"/v3/tasks/{uuid}").headers["etag"]
    shared.until(uuid, "WAITING", client=client)
    for stale in (seen, '"7"', "nonsense"):
        answer = client.post(f"/v3/tasks/{uuid}/events/go", headers={"If-Match": stale})
        problem(answer, 412, "precondition.failed")
    now = client.get(f"/v3/tasks/{uuid}").headers["etag"]
    assert client.post(f"/v3/tasks/{uuid}/events/go", headers={"If-Match": now}).status_code == 202
    shared.until(uuid, "SUCCEEDED", client=client)


def test_if_match_is_the_task_as_it_was_seen(resting_service: Service) -> None:
    client = resting_service.client()
    uuid = resting_service.submit("waiting", client=client)["uuid"]
    seen = client.get(f"/v3/tasks/{uuid}").headers["etag"]
    assert client.post(f"/v3/tasks/{uuid}/suspend", headers={"If-Match": seen}).status_code == 202
    told = problem(client.post(f"/v3/tasks/{uuid}/abort", headers={"If-Match": seen}), 412, "precondition.failed")
    assert told["etag"] == client.get(f"/v3/tasks/{uuid}").headers["etag"]
    assert client.post(f"/v3/tasks/{uuid}/abort", headers={"If-Match": "*"}).status_code == 202


def test_who_may_force(shared: Service) -> None:
    member, admin = shared.client(), shared.client(roles="admin")
    uuid = shared.submit("hanging", client=member)["uuid"]
    url = f"/v3/tasks/{uuid}/force-fail"
    problem(member.post(url, json={"reason": "I want to"}), 403, "policy.forbidden")
    problem(admin.post(url, json={}), 400, "request.invalid")
    ended = admin.post(url, json={"reason": "the host is gone"})
    assert (ended.status_code, ended.json()["task"]["state"]) == (202, "FAILED")
    assert ended.json()["task"]["error"]["detail"] == "the host is gone"
    problem(admin.post(f"/v3/tasks/{uuid}/adopt", params={"dry_run": "true"}), 409, "task.verb_not_allowed")
    problem(member.post(f"/v3/tasks/{uuid}/adopt"), 403, "policy.forbidden")


def test_the_end_of_a_child_is_nobodys_to_tell(shared: Service) -> None:
    """A parent undoes by what such an event says: one that is made up would have that fail."""
    client = shared.client()
    uuid = shared.submit("waiting", client=client)["uuid"]
    told = client.post(f"/v3/tasks/{uuid}/events/child:{uuid}", json={"payload": {"task": "none", "state": "FAILED"}})
    assert told.status_code == 400
    assert "call it otherwise" in told.json()["detail"]
    client.post(f"/v3/tasks/{uuid}/abort")


def test_an_event_is_delivered_and_the_end_waited_for(shared: Service) -> None:
    client = shared.client()
    uuid = shared.submit("waiting", client=client)["uuid"]
    answer = client.post(f"/v3/tasks/{uuid}/events/go", json={"payload": {"a": 1}}, headers={"Prefer": "wait=10"})
    assert (answer.status_code, answer.json()["task"]["state"]) == (200, "SUCCEEDED")
    assert answer.headers["preference-applied"] == "wait=10"
    problem(client.post(f"/v3/tasks/{uuid}/events/go"), 409, "task.verb_not_allowed")


def test_a_question_is_answered(make_service: MakeService) -> None:
    """A task that rests for a person's word says which steps, and takes an answer for each."""
    service = make_service(worker=False)
    client = service.client()
    uuid = service.submit("waiting", client=client)["uuid"]

    def rest(tx: Tx) -> None:
        columns = {"state": "SUSPENDED", "hold": "forward", "reason": "outcome_unknown", "due_at": None,
                   "resting": '["waiting/mark"]'}  # fmt: skip
        tx.execute(update(tasks).where(tasks.c.uuid == uuid).values(**columns))

    service.hold.store.write(rest)
    url = f"/v3/tasks/{uuid}/resume"
    told = problem(client.post(url), 409, "task.answer_needed")
    assert (told["steps"], told["words"]) == (["waiting/mark"], ["done", "rerun", "undo", "skip"])
    problem(client.post(url, json={"steps": {"other": {"as": "done"}}}), 409, "task.answer_refused")
    problem(client.post(url, json={"steps": {"waiting/mark": {"is": "done"}}}), 400, "request.invalid")
    resumed = client.post(url, json={"steps": {"waiting/mark": {"as": "done", "result": 7}}})
    assert (resumed.status_code, resumed.json()["task"]["state"]) == (202, "RUNNING")
