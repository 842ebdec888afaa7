"""Many at once over real sockets: an abort against the end, one tag through several processes, opposite claims, and a
storm of changes beside a look that takes long."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from holdfast.client import connect
from holdfast.client.patience import Patience
from holdfast.resources.server.process import Server
from tests.resources.ports import Backend, make_kind
from tests.service.conftest import MakeServed, MakeService
from tests.service.proxy import between
from tests.service.storms import ENDS, FLOWS, YARD, Heard, Line, shared_out, size
from tests.service.test_chaos import where
from tests.service.test_feed import poll

__all__ = ["where"]

ABORTS = size("ABORTS", 1000)


def ended(line: Line, uuid: str) -> dict[str, Any]:
    """The task, once it has ended."""
    end = time.monotonic() + 60
    while True:
        task: dict[str, Any] = line.ask("GET", f"/v3/tasks/{uuid}").body["task"]
        if task["state"] in ENDS:
            return task
        assert time.monotonic() < end, f"{uuid} is {task['state']} and never ended"
        line.ask("GET", f"/v3/tasks/{uuid}?wait=1")


@pytest.mark.timeout(300)
@pytest.mark.requirement("IRONIC-18")
def test_an_abort_races_with_the_end_and_the_answer_says_who_won(make_service: MakeService) -> None:
    """Each task is aborted at a moment of its own, on average when it ends. Every third waits for an event, whose
    delivery and the abort are sent at once."""
    service = make_service(offered=[*FLOWS, *_waiting()])
    chance = random.Random(18)
    took = 0.02  # seconds that a task takes by now; aborts come about then

    def race(line: Line, number: int) -> tuple[Heard, Heard | None, dict[str, Any], Heard]:
        nonlocal took
        waits = number % 3 == 0
        uuid = line.ask("POST", "/v3/tasks", {"task": "waiting" if waits else "raced"}).body["task"]["uuid"]
        path, delivered = f"/v3/tasks/{uuid}", []
        if waits:
            other = Line(service.url)
            send = threading.Thread(target=lambda: delivered.append(other.ask("POST", f"{path}/events/go")))
            send.start()
        threading.Event().wait(chance.random() * took * (0.5 if waits else 1))
        abort = line.ask("POST", f"{path}/abort")
        took = max(0.001, min(5.0, took * (1.05 if abort.status == 202 else 0.95)))
        if waits:
            send.join()
            other.close()
        after = ended(line, uuid)
        return abort, delivered[0] if waits else None, after, line.ask("POST", f"{path}/abort")

    races = shared_out(service.url, range(ABORTS), 8, race)
    won = Counter[str]()
    for abort, delivered, after, again in races:
        won[after["state"]] += 1
        if abort.status == 202:
            assert abort.body["task"]["state"] in ("ABORTING", "ABORTED")
            assert (after["state"], after["error"]["code"]) == ("ABORTED", "task.aborted")
            assert (again.status, again.body["task"]["state"]) == (200, "ABORTED")
        else:
            assert (abort.status, abort.body["code"]) == (409, "task.verb_not_allowed"), abort
            assert abort.body["detail"].endswith("while it is SUCCEEDED")
            assert (after["state"], after["error"], again.status) == ("SUCCEEDED", None, 409)
        assert delivered is None or delivered.status in (202, 409), delivered
    assert set(won) == {"ABORTED", "SUCCEEDED"}
    assert min(won.values()) > ABORTS / 20, won
    ends: dict[str, list[str]] = defaultdict(list)
    for event in poll(service.client(), type="task.state", limit=1000):
        assert event["subject"] not in ends, f"{event} after the end"
        if event["data"]["to"] in ENDS:
            ends[event["subject"]].append(event["data"]["to"])
    assert sorted(ends) == sorted(f"tasks/{after['uuid']}" for _, _, after, _ in races)


def _waiting() -> list[Any]:
    from tests.service.flows import WAITING

    return [WAITING]


@pytest.mark.requirement("TAG-14", "P5")
def test_one_tag_from_fifty_threads_through_three_processes_is_one_task(
    make_served: MakeServed, tmp_path: Path
) -> None:
    database, threads = tmp_path / "shared.db", size("TAG_THREADS", 50)
    three = [make_served("--no-worker", database=database, server_dir=str(tmp_path / "servers")) for _ in range(3)]
    body = {"server": {"name": "web"}}
    gate = threading.Barrier(3 * threads)
    heard: list[Heard] = []

    def ask(url: str) -> None:
        line = Line(url)
        gate.wait(60)
        heard.append(line.ask("POST", "/v3/servers", body, Task_tag="order-1"))
        line.close()

    asking = [threading.Thread(target=ask, args=(served.url,)) for served in three for _ in range(threads)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert Counter(each.status for each in heard) == {202: 3 * threads}
    assert (
        len({(each.body["task"]["uuid"], each.body["server"]["id"], each.headers["location"]) for each in heard}) == 1
    )
    assert sum("task-tag-replayed" not in each.headers for each in heard) == 1
    line = Line(three[1].url)
    assert [len(line.ask("GET", f"/v3/{what}").body[what]) for what in ("tasks", "servers")] == [1, 1]
    line.close()
    patience = Patience(deadline_s=60, first_s=0.01, most_s=0.05)
    with between(*(served.url for served in three)) as proxy, connect(proxy.url, patience=patience) as client:
        client.ways.plurals["server"] = "servers"
        proxy.lose, proxy.busy = 5, 5
        accepted = client.resources.create("server", {"name": "db"})
        assert (proxy.lost, accepted.replayed) == (10, True)
        assert len(list(client.tasks.list())) == len(list(client.resources.list("server"))) == 2
        assert accepted.task["uuid"] not in {each.body["task"]["uuid"] for each in heard}


@pytest.mark.requirement("NEUTRON-8", "NEUTRON-9", "P9")
def test_two_hundred_tasks_on_opposite_claims_all_end_in_their_turn(make_service: MakeService) -> None:
    service = make_service(offered=FLOWS, workers_max=8)
    chance, number = random.Random(9), size("CLAIMS", 200)
    wanted = [chance.choice([("r1", "r2"), ("r2", "r1"), ("r1", "r2", "r3"), ("r3",)]) for _ in range(number)]
    came, met = len(YARD.came), len(YARD.met)

    def ask(line: Line, names: tuple[str, ...]) -> dict[str, Any]:
        claims = [{"type": "thing", "id": name, "mode": "exclusive"} for name in names]
        answer = line.ask("POST", "/v3/tasks", {"task": "standing", "params": {"names": names}, "claims": claims})
        assert answer.status == 202, answer
        task: dict[str, Any] = answer.body["task"]
        return task

    tasks = shared_out(service.url, wanted, 8, ask)
    after = shared_out(service.url, [task["uuid"] for task in tasks], 8, ended)
    assert Counter(task["state"] for task in after) == {"SUCCEEDED": number}
    assert YARD.met[met:] == []  # no two stood on one claim
    names_of = {task["uuid"]: names for task, names in zip(tasks, wanted, strict=True)}
    admitted = [task["uuid"] for task in service.client().get("/v3/tasks", params={"limit": 1000}).json()["tasks"]][
        ::-1
    ]
    order = YARD.came[came:]
    assert sorted(order) == sorted(admitted)
    for name in ("r1", "r2", "r3"):  # whoever asked first came first: nobody was passed over, however wide
        assert [each for each in order if name in names_of[each]] == [
            each for each in admitted if name in names_of[each]
        ]


@pytest.mark.requirement("P4", "NEUTRON-7")
def test_a_hundred_changes_a_second_beside_a_look_that_takes_long(make_service: MakeService, tmp_path: Path) -> None:
    """The periodic look at what the port is like hangs all the while. Each change is taken, and done in its turn."""
    (tmp_path / "switch").mkdir()
    backend = Backend(tmp_path / "switch")
    service = make_service(kinds=[make_kind(backend.directory)], sync_interval_s=0.05, offered=FLOWS)
    client = service.client()
    made = client.post("/v3/ports", json={"port": {}})
    assert made.status_code == 202, made.text
    port = made.json()["port"]["id"]
    service.until(made.json()["task"]["uuid"], "SUCCEEDED")
    backend.turn("slow")
    looked = len(backend.said("look", port))
    while len(backend.said("look", port)) == looked:
        threading.Event().wait(0.01)
    number, began = size("CHANGES", 200), time.monotonic()

    def change(line: Line, place: int) -> tuple[Heard, float]:
        threading.Event().wait(max(0.0, began + place / 100 - time.monotonic()))
        at = time.monotonic()
        return line.ask("PUT", f"/v3/resources/port/{port}", {"mtu": 1000 + place}), time.monotonic() - at

    answers = shared_out(service.url, range(number), 4, change)
    took = time.monotonic() - began
    assert Counter(answer.status for answer, _ in answers) == {202: number}
    assert took < number / 100 * 3, f"{number} changes took {took:.1f} s"
    shared_out(service.url, [answer.body["task"]["uuid"] for answer, _ in answers], 4, ended)
    assert len(backend.said("look", port)) == looked + 1  # it still hangs
    tasks = {task["uuid"]: task["state"] for task in client.get("/v3/tasks?limit=1000&task=update").json()["tasks"]}
    assert Counter(tasks.values()) == {"SUCCEEDED": number}
    written = [(revision, document["mtu"]) for _, _, revision, document in backend.said("written", port)][1:]
    asked = sorted((answer.body["resource"]["revision"], 1000 + place) for place, (answer, _) in enumerate(answers))
    assert written == asked
    assert backend.said("collision") == []
    backend.turn_off("slow")


@pytest.mark.timeout(180)
@pytest.mark.requirement("NEUTRON-7", "NEUTRON-8", "P8")
def test_sixteen_writers_through_four_processes_are_one_order(make_served: MakeServed, where: Path) -> None:
    """Each process serves and works. What is done last, and what is true of the guest, is what was asked for last."""
    settings = {"server_dir": str(where), "lease_s": "5"}
    four = [make_served(database=where.parent / "shared.db", **settings) for _ in range(4)]
    client = four[0].client()
    made = client.post("/v3/servers", json={"server": {"name": "web"}}).json()
    four[0].until(made["task"]["uuid"], "SUCCEEDED")
    path, each = f"/v3/resources/server/{made['server']['id']}", size("UPDATES", 2)
    accepted: list[tuple[int, str, int]] = []

    def write(who: int) -> None:
        chance, line = random.Random(who), Line(four[who % 4].url)
        for place in range(each):
            wanted = 256 + who * each + place
            answer = line.ask("PUT", path, {"name": "web", "memory_mib": wanted})
            assert answer.status == 202, answer
            accepted.append((answer.body["resource"]["revision"], answer.body["task"]["uuid"], wanted))
            threading.Event().wait(chance.random() * 0.02)
        line.close()

    writers = [threading.Thread(target=write, args=(who,)) for who in range(16)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    accepted.sort()
    assert [revision for revision, _, _ in accepted] == list(range(2, 2 + 16 * each))
    for _, uuid, _ in accepted[-16:]:
        assert four[1].until(uuid, *ENDS)["state"] == "SUCCEEDED"
    done = [event["subject"] for event in poll(client, type="task.state") if event["data"]["to"] == "SUCCEEDED"]
    assert done[1:] == [f"tasks/{uuid}" for _, uuid, _ in accepted]
    shown = client.get(path).json()["resource"]
    assert (shown["sync_status"], shown["revision"], shown["applied_revision"]) == ("IN_SYNC", *[accepted[-1][0]] * 2)
    assert Server(str(where), made["server"]["id"]).slot.limits()["memory_mib"] == accepted[-1][2]
