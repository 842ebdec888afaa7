"""Executors without the database, request by request: what they are given, what they may say, and who may not."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import holdfast as hf
from holdfast.client import connect
from holdfast.core.values import encode
from holdfast.seal import new_key
from holdfast.service.board import Board
from holdfast.service.policy import RULES
from holdfast.store import open_store
from tests.agent.agent_flows import FLOWS
from tests.agent.conftest import stored
from tests.postgresql import database_at
from tests.service.conftest import MakeService, Service

pytestmark = pytest.mark.requirement("TF-14")
BY_NAME = {flow.name: flow for flow in FLOWS}


class Executor:
    """One that speaks the protocol by itself. `lease`: what it holds."""

    def __init__(self, service: Service, roles: str = "agent", user: str = "hv1") -> None:
        self.http = service.client(roles=roles, user=user)
        self.lease: dict[str, Any] = {}

    def ask(self, pool: str = "hv1", wait: float = 10, **body: Any) -> list[dict[str, Any]]:
        answer = self.http.post("/v3/leases", json={"pool": pool, "wait": wait, **body})
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["leases"]
        return found

    def take(self, pool: str = "hv1", **body: Any) -> dict[str, Any]:
        (self.lease,) = self.ask(pool, **body)
        return self.lease

    def say(self, verb: str, body: Any = None, *, token: str | None = None, task: str | None = None) -> httpx.Response:
        headers = {"Lease-Token": token or self.lease["token"]}
        uuid = task or self.lease["task"]["uuid"]
        return self.http.post(f"/v3/tasks/{uuid}/{verb}", json=body or {}, headers=headers)

    def lost(self, verb: str = "heartbeat", body: Any = None, **what: str) -> bool:
        answer = self.say(verb, body, **what)
        return answer.status_code == 409 and answer.json()["code"] == "lease.lost"


@pytest.fixture
def service(make_service: MakeService) -> Service:
    return make_service(offered=FLOWS, lease_s=30)


@contextmanager
def short(make_service: MakeService, **settings: Any) -> Iterator[Service]:
    """One whose leases are short, and whose worker comes and goes."""
    yield make_service(worker=False, offered=FLOWS, **settings)


def test_a_lease_has_all_that_the_step_needs(service: Service) -> None:
    uuid = service.submit("making", params={"unit": "7"})["uuid"]
    executor = Executor(service)
    lease = executor.take("hv-7")
    assert (lease["task"]["uuid"], lease["step"], lease["what"]) == (uuid, "making/make", "execute")
    assert lease["work"]["arguments"] == {"unit": "7"}
    assert lease["work"]["context"]["key"] == f"{uuid}:making/make:0"
    assert executor.say("progress", {"fraction": 0.5, "message": "half"}).status_code == 204
    assert executor.say("complete", {"result": "a disk"}).status_code == 204
    assert service.until(uuid, "SUCCEEDED")["result"] == {"made": "a disk", "told": "A DISK"}


def test_progress_is_seen_while_it_runs(service: Service) -> None:
    uuid = service.submit("waiting_there")["uuid"]
    executor = Executor(service)
    executor.take()
    executor.say("heartbeat")
    executor.say("progress", {"fraction": 0.25, "message": "a quarter"})
    client = service.client()
    end = time.monotonic() + 10
    while (shown := client.get(f"/v3/tasks/{uuid}").json()["task"]["progress"])["percent"] != 25:
        assert time.monotonic() < end, shown
        client.get(f"/v3/tasks/{uuid}", params={"wait": 1})
    assert (shown["step"], shown["message"]) == ("waiting_there/wait_here", "a quarter")


def test_an_administrator_sees_what_is_offered_and_who_has_leased_it(service: Service) -> None:
    uuid = service.submit("waiting_there")["uuid"]
    admin = service.client(roles="admin")
    while not (listed := admin.get("/v3/leases").json()["leases"]):
        admin.get(f"/v3/tasks/{uuid}", params={"wait": 0.1})
    assert (listed[0]["task"], listed[0]["state"], listed[0]["agent"]) == (uuid, "OFFERED", None)
    Executor(service).take(agent="a1")
    (leased,) = admin.get("/v3/leases", params={"pool": "hv1"}).json()["leases"]
    assert (leased["state"], leased["agent"], leased["holder"]) == ("LEASED", "a1", "hv1")
    assert "token" not in leased
    assert admin.get("/v3/leases", params={"pool": "hv2"}).json() == {"leases": [], "links": []}
    assert admin.get("/v3/leases", params={"marker": leased["number"]}).json()["leases"] == []
    assert service.client(roles="agent").get("/v3/leases").status_code == 403
    with connect(service.url, project="default", roles="admin") as client:
        assert list(client.leases.list(pool="hv1")) == [leased]
        assert list(client.leases.list(pool="hv2")) == []


@pytest.mark.requirement("G2")
def test_after_a_restore_nothing_of_an_agent_is_taken_and_its_step_is_offered_anew(make_service: MakeService) -> None:
    """Its lease runs out first, for it may be at it still."""
    service = make_service(offered=FLOWS, lease_s=3, heartbeat_s=1)
    uuid = service.submit("waiting_there")["uuid"]
    executor = Executor(service)
    old = executor.take()
    with open_store(service.hold.url) as store:
        store.begin_anew()
    for verb, body in (("heartbeat", {}), ("progress", {"fraction": 0.5}), ("complete", {"result": 1})):
        assert executor.lost(verb, body), verb
    assert executor.ask(wait=0) == []
    (new,) = executor.ask(wait=20)
    assert new["work"]["context"]["fence"] > old["work"]["context"]["fence"] + 1000
    executor.lease = new
    assert executor.say("complete", {"result": 1}).status_code == 204
    service.until(uuid, "SUCCEEDED")


@pytest.mark.requirement("G3")
def test_an_end_is_recorded_once_however_often_it_is_said(service: Service) -> None:
    uuid = service.submit("waiting_there")["uuid"]
    executor = Executor(service)
    executor.take()
    said = [executor.say("complete", {"result": "once"}).status_code for _ in range(3)]
    assert said == [204, 204, 204]
    assert executor.lost("complete", {"result": "twice"})
    assert executor.lost("fail", {"died": "after all"})
    assert service.until(uuid, "SUCCEEDED")["result"] == {"waited": "once"}
    assert executor.say("complete", {"result": "once"}).status_code == 204  # also when the task is over
    assert executor.lost("heartbeat")
    log = service.client(roles="admin").get(f"/v3/tasks/{uuid}/log").json()["log"]
    assert [entry["kind"] for entry in log].count("succeeded") == 1


def test_what_was_leased_by_an_answer_that_was_lost_is_given_again(service: Service) -> None:
    service.submit("waiting_there")
    executor = Executor(service)
    first = executor.take(agent="a1")
    assert executor.ask(agent="a1", held=[], max=0, wait=0) == [first]
    assert executor.ask(agent="a1", held=[first["token"]], wait=0) == []
    assert executor.ask(agent="a2", held=[], wait=0) == []  # another process, though of the same user
    assert Executor(service, user="hv2").ask(agent="a1", held=[], wait=0) == []


def test_a_token_is_good_for_its_caller_its_task_and_its_entry(service: Service) -> None:
    service.submit("waiting_there")
    other = service.submit("waiting_there")["uuid"]
    executor = Executor(service)
    lease = executor.take()
    stranger = Executor(service, user="thief")
    stranger.lease = lease
    for verb, body in (
        ("heartbeat", {}), ("progress", {"fraction": 0.5}), ("checkpoint", {"value": 1}), ("complete", {}),
        ("fail", {"stopped": "cancel"}),
    ):  # fmt: skip
        assert stranger.lost(verb, body)
        assert executor.lost(verb, body, task=other)
        assert executor.lost(verb, body, token=lease["token"][:-1] + "x")
        assert executor.lost(verb, body, token="0" * 16 + lease["token"][16:])
    assert executor.say("complete", {"result": "mine"}).status_code == 204
    missing = executor.http.post(f"/v3/tasks/{other}/heartbeat", json={})
    assert (missing.status_code, missing.json()["code"]) == (400, "request.invalid")


@pytest.mark.parametrize("roles", ["reader", "member"])
def test_other_roles_are_refused(service: Service, roles: str) -> None:
    assert RULES["leases:hold"] == ("service",)
    asker = service.client(roles=roles)
    for path, body in (
        ("/v3/leases", {"pool": "hv1"}),
        ("/v3/tasks/x/heartbeat", {}),
        ("/v3/tasks/x/complete", {"result": 1}),
        ("/v3/tasks/x/fail", {"died": "x"}),
    ):
        answer = asker.post(path, json=body, headers={"Lease-Token": "x"})
        assert (answer.status_code, answer.json()["code"]) == (403, "policy.forbidden")


def test_an_agent_of_one_pool_serves_no_other(service: Service) -> None:
    service.submit("making", params={"unit": "7"})
    own = service.client(roles="agent:hv-7")
    assert len(own.post("/v3/leases", json={"pool": "hv-7", "wait": 10}).json()["leases"]) == 1
    assert own.post("/v3/leases", json={"pool": "hv-8"}).status_code == 403


def test_executors_that_race_get_each_entry_once(service: Service) -> None:
    service.submit("many", params={"numbers": list(range(8))})
    got: list[str] = []

    def race(user: str) -> None:
        executor = Executor(service, user=user)
        while found := executor.ask(max=3, wait=0.5):
            for lease in found:
                got.append(lease["step"])
                executor.lease = lease
                assert executor.say("complete", {"result": lease["work"]["arguments"]["number"]}).status_code == 204

    threads = [threading.Thread(target=race, args=(f"u{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(got)) == len(got) == 8


@pytest.mark.requirement("G6")
def test_a_heartbeat_is_answered_once_there_is_something_to_say(service: Service) -> None:
    uuid = service.submit("waiting_there")["uuid"]
    executor = Executor(service)
    executor.take()
    assert executor.say("heartbeat").json() == {"lease_s": 30.0, "stop": None, "kill": False}
    client = service.client()
    asking = threading.Timer(0.2, lambda: client.post(f"/v3/tasks/{uuid}/cancel"))
    began = time.monotonic()
    asking.start()
    assert executor.say("heartbeat", {"wait": 8}).json()["stop"] == "cancel"
    assert time.monotonic() - began < 2.0
    asking.join()
    assert executor.say("fail", {"stopped": "cancel"}).status_code == 204
    assert service.client().get(f"/v3/tasks/{uuid}").json()["task"]["state"] != "CANCELLED"
    undo = executor.take()
    assert undo["what"] == "revert"
    assert executor.say("complete").status_code == 204
    service.until(uuid, "CANCELLED")


def begun(admin: httpx.Client, uuid: str) -> bool:
    """Whether the start of its step is recorded."""
    return any(entry["kind"] == "started" for entry in admin.get(f"/v3/tasks/{uuid}/log").json()["log"])


def test_what_nobody_has_leased_is_taken_back_at_once(service: Service) -> None:
    uuid = service.submit("waiting_there")["uuid"]
    admin = service.client(roles="admin")
    while not begun(admin, uuid):
        admin.get(f"/v3/tasks/{uuid}", params={"wait": 0.1})
    service.client().post(f"/v3/tasks/{uuid}/cancel")
    assert service.until(uuid, "CANCELLED")["effect"] == "none"
    assert Executor(service).ask(wait=0) == []


def test_a_task_that_is_ended_by_force_takes_the_lease_with_it(service: Service) -> None:
    uuid = service.submit("waiting_there")["uuid"]
    executor = Executor(service)
    executor.take()
    forced = service.client(roles="admin").post(f"/v3/tasks/{uuid}/force-fail", json={"reason": "enough"})
    assert forced.status_code == 202
    assert executor.lost("heartbeat")
    assert executor.lost("complete", {"result": "too late"})
    assert service.until(uuid, "FAILED")["result"] is None


def test_a_result_that_is_too_large_is_refused_and_the_lease_goes_on(make_service: MakeService) -> None:
    service = make_service(offered=FLOWS, value_bytes_max=2048)
    uuid = service.submit("waiting_there")["uuid"]
    executor = Executor(service)
    executor.take()
    for verb, body in (("complete", {"result": "x" * 3000}), ("checkpoint", {"value": "x" * 3000})):
        refused = executor.say(verb, body)
        assert (refused.status_code, refused.json()["code"]) == (413, "value.too_large")
    assert executor.say("heartbeat").status_code == 200
    assert executor.say("fail", {"failure": {"types": ["TooBig"], "message": "it was too big"}}).status_code == 204
    (undo,) = executor.ask()
    executor.lease = undo
    executor.say("complete")
    assert service.until(uuid, "FAILED")["error"]["detail"] == "it was too big"


def test_a_step_fails_with_what_its_executor_says_and_is_tried_again(service: Service) -> None:
    uuid = service.submit("failing_once")["uuid"]
    executor = Executor(service)
    executor.take()
    assert executor.say("fail", {}).status_code == 400
    assert executor.say("fail", {"stopped": "cancel", "died": "x"}).status_code == 400
    failure = {"types": ["builtins.ConnectionRefusedError", "ConnectionError"], "message": "refused"}
    assert executor.say("fail", {"failure": failure}).status_code == 204
    again = executor.take()
    assert again["work"]["context"]["attempt"] == 2
    assert executor.say("complete").status_code == 204
    service.until(uuid, "SUCCEEDED")


def test_the_time_of_a_step_begins_when_its_executor_does(service: Service) -> None:
    uuid = service.submit("slow_there")["uuid"]
    service.client().get(f"/v3/tasks/{uuid}", params={"wait": 0.5})  # it may wait for an executor as long as it likes
    executor = Executor(service)
    assert executor.take()["timeout_s"] == pytest.approx(1.0, abs=0.5)
    executor.say("heartbeat")
    assert executor.say("heartbeat", {"wait": 8}).json()["stop"] == "timeout"
    assert executor.say("fail", {"stopped": "timeout"}).status_code == 204
    assert "timeout" in service.until(uuid, "FAILED")["error"]["detail"]


def test_an_executor_is_asked_whether_what_another_began_has_happened(service: Service) -> None:
    uuid = service.submit("knowable_there")["uuid"]
    executor = Executor(service)
    executor.take()
    assert executor.say("fail", {"died": "out of memory"}).status_code == 204
    assert executor.take()["what"] == "probe"
    answer = json.loads(encode(hf.Done("it was done")))
    assert executor.say("complete", {"result": answer}).status_code == 204
    assert service.until(uuid, "SUCCEEDED")["result"] == {"known": "it was done"}


@pytest.mark.requirement("NOVA-13")
def test_what_is_suspended_is_given_back_and_leased_again(service: Service) -> None:
    uuid = service.submit("counting")["uuid"]
    executor = Executor(service)
    executor.take()
    executor.say("checkpoint", {"value": 5, "number": 1})
    service.client().post(f"/v3/tasks/{uuid}/suspend")
    assert executor.say("heartbeat", {"wait": 8}).json()["stop"] == "suspend"
    executor.say("fail", {"stopped": "suspend"})
    service.until(uuid, "SUSPENDED")
    assert executor.ask(wait=0) == []
    service.client().post(f"/v3/tasks/{uuid}/resume")
    again = executor.take()["work"]["context"]
    assert (again["last_checkpoint"], again["attempt"]) == (5, 1)
    assert executor.say("complete", {"result": 12}).status_code == 204
    service.until(uuid, "SUCCEEDED")


def test_a_checkpoint_is_handed_to_whoever_goes_on(make_service: MakeService) -> None:
    with short(make_service, lease_s=0.4) as service, service.hold.working():
        uuid = service.submit("counting")["uuid"]
        executor = Executor(service)
        fence = executor.take()["work"]["context"]["fence"]
        assert executor.say("checkpoint", {"value": {"at": 1}, "number": 1}).status_code == 204
        assert executor.say("checkpoint", {"value": {"at": 2}, "number": 2}).status_code == 204
        assert executor.say("checkpoint", {"value": {"at": 1}, "number": 1}).status_code == 204  # it came late
        other = Executor(service, user="hv2")
        told = other.take()["work"]["context"]  # the first is not heard of any more
        assert told["last_checkpoint"] == {"at": 2}
        assert told["fence"] > fence  # a device that has seen the other's number refuses the first
        assert executor.lost("heartbeat")
        assert executor.lost("checkpoint", {"value": {"at": 3}, "number": 3})
        assert executor.lost("complete", {"result": 0})
        assert other.say("complete", {"result": 12}).status_code == 204
        assert service.until(uuid, "SUCCEEDED")["result"] == {"counted": 12}


def test_a_lease_outlives_the_worker_and_its_end_waits_for_the_next(make_service: MakeService) -> None:
    with short(make_service, lease_s=30) as service:
        executor = Executor(service)
        with service.hold.working():
            uuid = service.submit("waiting_there")["uuid"]
            executor.take()
        assert executor.say("heartbeat").status_code == 200
        assert executor.say("complete", {"result": "nobody looked"}).status_code == 204
        assert service.client().get(f"/v3/tasks/{uuid}").json()["task"]["state"] == "RUNNING"
        with service.hold.working():
            assert service.until(uuid, "SUCCEEDED")["result"] == {"waited": "nobody looked"}
        log = service.client(roles="admin").get(f"/v3/tasks/{uuid}/log").json()["log"]
        assert [entry["kind"] for entry in log] == ["began", "started", "succeeded", "ended"]


def test_any_server_takes_what_was_leased_by_another(make_service: MakeService, tmp_path: Path) -> None:
    """Three on one database: the one that gave the lease stops; the others hear what is said, and say what is asked."""
    database = database_at(tmp_path / "shared.db")
    first, second, third = (make_service(database=database, offered=FLOWS, lease_s=30) for _ in range(3))
    uuid = first.submit("waiting_there")["uuid"]
    executor, elsewhere = Executor(first), Executor(third)
    elsewhere.lease = executor.take()
    first.serving.stop()
    executor.http = second.client(roles="agent", user="hv1")
    assert executor.say("heartbeat").json()["stop"] is None
    assert elsewhere.say("progress", {"fraction": 0.5, "message": "half"}).status_code == 204
    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(executor.say, "heartbeat", {"wait": 8})
        assert third.client().post(f"/v3/tasks/{uuid}/cancel").status_code == 202
        assert asking.result().json()["stop"] == "cancel"
    assert elsewhere.say("fail", {"stopped": "cancel"}).status_code == 204
    assert executor.say("fail", {"stopped": "cancel"}).status_code == 204, "its answer may have been lost"
    elsewhere.lease = executor.take()
    assert elsewhere.say("complete").status_code == 204
    assert executor.lost("complete", {"result": "otherwise"})
    second.until(uuid, "CANCELLED")


@pytest.mark.requirement("G10")
def test_what_waits_for_an_agent_holds_no_worker(make_service: MakeService) -> None:
    with short(make_service, lease_s=30) as service, service.hold.working():
        uuid = service.submit("waiting_there")["uuid"]
        admin = service.client(roles="admin")
        end = time.monotonic() + 15
        while service.hold.store.read(_taken) or not begun(admin, uuid):
            assert time.monotonic() < end
            admin.get(f"/v3/tasks/{uuid}", params={"wait": 0.2})
        executor = Executor(service)
        executor.take()
        executor.say("heartbeat")
        assert executor.say("complete", {"result": "late"}).status_code == 204
        assert service.until(uuid, "SUCCEEDED")["result"] == {"waited": "late"}


def _taken(tx: Any) -> bool:
    from sqlalchemy import select

    from holdfast.store.schema import tasks

    return tx.execute(select(tasks.c.worker_id).where(tasks.c.worker_id.is_not(None))).first() is not None


def test_who_asks_for_work_as_the_service_stops_is_answered(service: Service) -> None:
    board, never = Board(service.core.bridge), asyncio.Event()

    async def ask() -> None:
        board.start()
        board.stop()
        await asyncio.wait_for(board.wait("hv1", 3600.0, asyncio.ensure_future(never.wait())), 30)

    asyncio.run(ask())
    assert board.stopped


def test_a_paused_pool_gives_nothing_and_its_limit_holds(service: Service) -> None:
    from sqlalchemy import insert, update

    from holdfast.store.schema import pools

    service.submit("many", params={"numbers": [1, 2, 3]})
    executor = Executor(service)
    (first,) = executor.ask(max=1)
    service.hold.store.write(lambda tx: tx.execute(insert(pools), {"name": "hv1", "paused_at": 1.0}))
    assert executor.ask(max=3, wait=0.3) == []
    service.hold.store.write(lambda tx: tx.execute(update(pools).values(paused_at=None, running_max=2)))
    assert len(executor.ask(max=3)) == 1
    executor.lease = first
    executor.say("complete", {"result": 1})
    assert len(executor.ask(max=3)) == 1


@pytest.mark.requirement("NOVA-3")
def test_secrets_are_open_for_the_executor_and_sealed_everywhere_else(
    make_service: MakeService, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    service = make_service(offered=FLOWS, secret_key=new_key(), access_log="on")
    task = service.hold.submit(BY_NAME["secretive"], {"password": hf.Secret({"inner": hf.Secret("tell-nobody")})})
    executor = Executor(service)
    given = executor.take()["work"]["arguments"]["password"]
    assert json.loads(given["v"]) == {"inner": {"$": "secret", "v": '"tell-nobody"'}}
    assert executor.say("checkpoint", {"value": {"$": "secret", "v": '"tell-nobody-1"'}}).status_code == 204
    assert executor.say("complete", {"result": {"$": "secret", "v": '"tell-nobody-too"'}}).status_code == 204
    task.wait(timeout_s=10)
    assert task.state == "SUCCEEDED"
    assert "tell-nobody" not in stored(service.hold)
    assert "tell-nobody" not in caplog.text
    assert executor.lease["token"] not in caplog.text
