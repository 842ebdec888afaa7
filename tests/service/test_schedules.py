"""Schedules over HTTP: every route, whose they are, and that their tasks are asked for as any other."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.client import connect
from holdfast.client.patience import Patience
from holdfast.errors import HoldfastError
from holdfast.testing.clock import FakeClock
from tests.postgresql import database_at
from tests.service.conftest import MakeService, Service
from tests.service.test_requests import problem
from tests.worker.house import until

NIGHTLY = {
    "name": "nightly",
    "cron": "30 2 * * *",
    "timezone": "Europe/Berlin",
    "task": "quick",
    "params": {"number": 4},
}
LONG_AGO_S = 86_400.0


def add(service: Service, expect: int = 201, *, project: str | None = None, **more: Any) -> dict[str, Any]:
    answer = service.client(project).post("/v3/schedules", json={**NIGHTLY, **more})
    assert answer.status_code == expect, answer.text
    found: dict[str, Any] = answer.json()
    return found["schedule"] if expect < 300 else found


def test_a_schedule_is_made_shown_listed_and_removed(shared: Service) -> None:
    client = shared.client()
    answer = client.post("/v3/schedules", json=NIGHTLY)
    made = answer.json()["schedule"]
    assert (answer.status_code, answer.headers["location"]) == (201, f"/v3/schedules/{made['uuid']}")
    told = {name: made[name] for name in ("name", "cron", "timezone", "task", "params", "catch_up", "overlap", "state")}
    assert told == NIGHTLY | {"catch_up": "one", "overlap": "skip", "state": "ACTIVE"}
    assert made["next_at"].endswith("30:00.000000Z")
    assert made["firings"] == []
    for ref in (made["uuid"], "nightly"):
        assert client.get(f"/v3/schedules/{ref}").json() == {"schedule": made}
    assert client.get("/v3/schedules").json()["schedules"] == [made]
    assert client.delete("/v3/schedules/nightly").status_code == 204
    problem(client.delete("/v3/schedules/nightly"), 404, "not_found")
    problem(client.get(f"/v3/schedules/{made['uuid']}"), 404, "not_found")


def test_a_request_that_is_sent_again_makes_no_second_one(shared: Service) -> None:
    first = add(shared)
    assert add(shared, 200)["uuid"] == first["uuid"]
    assert add(shared, 409, cron="0 3 * * *")["code"] == "schedule.exists"


def test_pause_and_resume_say_what_it_is_then(shared: Service) -> None:
    made, client = add(shared), shared.client()
    verbs = {link["rel"]: link["href"] for link in made["links"]}
    paused = client.post(verbs["pause"]).json()["schedule"]
    assert (paused["state"], paused["next_at"], paused["paused_at"] is None) == ("PAUSED", None, False)
    again = client.post({link["rel"]: link["href"] for link in paused["links"]}["resume"]).json()["schedule"]
    assert (again["state"], again["next_at"], again["paused_at"]) == ("ACTIVE", made["next_at"], None)


@pytest.mark.parametrize(
    ("wrong", "status", "code"),
    [
        ({"cron": "* * * * * *"}, 400, "schedule.invalid"),
        ({"cron": "0 0 30 2 *"}, 400, "schedule.invalid"),
        ({"timezone": "Mars/Base"}, 400, "schedule.invalid"),
        ({"catch_up": "all"}, 400, "schedule.invalid"),
        ({"overlap": "twice"}, 400, "request.invalid"),
        ({"task": "rm -rf"}, 400, "request.invalid"),
        ({"params": {"wrod": 1}}, 400, None),
        ({"start_after": None}, 400, "request.invalid"),
        ({"priority": 10**9}, 400, "request.invalid"),
    ],
)
def test_what_can_not_be_kept_is_refused(shared: Service, wrong: dict[str, Any], status: int, code: str | None) -> None:
    found = add(shared, status, **wrong)
    assert code in (None, found["code"]), found
    assert shared.client().get("/v3/schedules").json()["schedules"] == []


@pytest.mark.requirement("TF-13")
def test_nobody_sees_or_touches_those_of_another_project(shared: Service) -> None:
    made, rival = add(shared), shared.client("rival-of-schedules")
    place = f"/v3/schedules/{made['uuid']}"
    for answer in (
        rival.get(place),
        rival.delete(place),
        rival.post(f"{place}/pause"),
        rival.get("/v3/schedules/nightly"),
    ):
        problem(answer, 404, "not_found")
    assert rival.get("/v3/schedules").json()["schedules"] == []
    problem(rival.get("/v3/schedules", params={"all_projects": True}), 403, "policy.forbidden")
    assert add(shared, project="rival-of-schedules")["uuid"] != made["uuid"]
    boss = shared.client("elsewhere", roles="admin")
    assert boss.get(place).json()["schedule"] == made
    everybody = boss.get("/v3/schedules", params={"all_projects": True}).json()["schedules"]
    assert {each["name"] for each in everybody} == {"nightly"}
    reader = shared.client(roles="reader")
    assert reader.get(place).status_code == 200
    problem(reader.post(f"{place}/pause"), 403, "policy.forbidden")
    problem(reader.post("/v3/schedules", json=NIGHTLY), 403, "policy.forbidden")


def test_a_list_comes_in_pages(shared: Service) -> None:
    names = [add(shared, name=f"s{number}")["name"] for number in range(5)]
    client, seen = shared.client(), []
    link: str | None = "/v3/schedules?limit=2"
    while link is not None:
        page = client.get(link).json()
        seen.append([each["name"] for each in page["schedules"]])
        link = next((each["href"] for each in page["links"]), None)
    assert seen == [names[:2], names[2:4], names[4:]]


@pytest.mark.requirement("TF-15")
def test_its_tasks_are_the_projects_and_count_for_its_quota(make_service: MakeService, tmp_path: Any) -> None:
    """Made by a service whose clock is a day behind; the next one finds the moments that have passed meanwhile."""
    database = database_at(tmp_path / "tasks.db")
    first = make_service(worker=False, database=database)
    first.hold.clock = FakeClock(first.hold.clock.time() - LONG_AGO_S, threads=None)
    made = add(first, name="hourly", cron="0 * * * *", task="waiting", params={}, overlap="queue", catch_up="all",
               project="tenant")  # fmt: skip
    service = make_service(database=database, quota_live_tasks=3)
    client, place = service.client("tenant"), f"/v3/schedules/{made['uuid']}"
    firings: list[dict[str, Any]] = []

    def shown() -> bool:
        firings[:] = client.get(place).json()["schedule"]["firings"]
        return {each["outcome"] for each in firings} == {"REFUSED"}

    until(shown)
    assert firings[0]["why"].startswith("QuotaExceeded: ")
    tasks = client.get("/v3/tasks").json()["tasks"]
    assert len(tasks) == 3
    assert {(each["origin"], each["user_id"], each["project_id"]) for each in tasks} == {("schedule", "u1", "tenant")}


def test_the_client_can_all_of_it(shared: Service) -> None:
    with connect(shared.url, project=shared.project, user="u1", roles="member", patience=Patience()) as client:
        made = client.schedules.create("hourly", "0 * * * *", "quick", {"number": 2}, overlap="queue", claims=["a/b"])
        assert made["claims"][0]["resource"] == "a/b"
        assert client.schedules.get("hourly") == made == next(client.schedules.list())
        assert client.schedules.pause("hourly")["state"] == "PAUSED"
        assert client.schedules.resume(made["uuid"])["state"] == "ACTIVE"
        client.schedules.remove("hourly")
        with pytest.raises(HoldfastError, match="no schedule"):
            client.schedules.get("hourly")
