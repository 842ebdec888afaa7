"""kill -9 of the service at the moments that hurt, and a store that fails when a task ends: whoever asked finds what he
asked for, nothing that was done is done again, and nothing stays locked."""

from __future__ import annotations

import contextlib
import os
import resource
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from holdfast.client import connect
from holdfast.client.client import Client
from holdfast.client.patience import Patience
from tests.postgresql import database_at, only_sqlite
from tests.resources.ports import Backend, make_kind
from tests.service.conftest import ROOT, MakeServed, MakeService, Served
from tests.service.flows import QUICK
from tests.service.storms import ENDS, FLOWS, FLOWS_HERE, size
from tests.service.test_feed import Event, Listener, poll
from tests.service.test_requests import problem

PATIENT = Patience(deadline_s=60, first_s=0.02, most_s=0.2)
PATIENCE_S = 60.0
LEASE = {"lease_s": "1", "heartbeat_s": "0.3"}


def until(fact: Callable[[], object], what: str) -> None:
    pause, end = threading.Event(), time.monotonic() + PATIENCE_S
    while not fact():
        assert time.monotonic() < end, f"never: {what}"
        pause.wait(0.005)


def complaints(database: Path, *options: str) -> list[str]:
    """What the doctor finds wrong, but that the server of tests trades safety for speed (peers/postgres.py)."""
    command = [sys.executable, "-m", "holdfast", "doctor", "--database", database_at(database), *options]
    env = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_TEST_")}
    found = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert found.returncode in (0, 1), found.stderr
    return [line for line in found.stdout.splitlines() if line.startswith("WRONG") and "fsync off" not in line]


# --- kills ---------------------------------------------------------------------------------------------------------


class Listening:
    """Whoever listens to a service that is killed again and again, and always comes back for the rest."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._stopping = threading.Event()
        self.heard: list[Event] = []
        self.came_back = -1
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while not self._stopping.is_set():
            after = self.heard[-1]["id"] if self.heard else 0
            with (
                contextlib.suppress(httpx.TransportError, AssertionError, StopIteration),
                self._served.client() as client,
            ):
                listener = Listener(client, "/v3/events", after)
                self.came_back += 1
                while found := listener.events(1):
                    self.heard += found
            self._stopping.wait(0.02)

    def __enter__(self) -> Listening:
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        self._served.kill()
        self._thread.join(PATIENCE_S)


#: What the witness has said last when the kill comes, and the flow whose task it is.
MOMENTS = [
    ("march", "begin", 2), ("retreat", "unbegin", 3), ("march", "end", 3), ("retreat", "stumble", 0),
    ("retreat", "begin", 3), ("retreat", "unend", 3), ("march", "end", 1), ("retreat", "unbegin", 1),
]  # fmt: skip


@pytest.mark.timeout(180)
@pytest.mark.requirement("NOVA-6", "TAG-13", "TF-2", "TF-7", "G1", "G3", "G4")
def test_killed_during_steps_and_undo_and_answers_it_goes_on_where_it_was(make_served: MakeServed) -> None:
    served = make_served(*FLOWS_HERE, **LEASE, deaths_max="100")
    asked: dict[str, str] = {}
    lost = 0
    with (
        Listening(served) as listening,
        connect(served.url, project="default", roles="member", user="u1", patience=PATIENT) as client,
    ):
        until(lambda: listening.came_back >= 0, "who listens is there")
        for place in range(size("SERVICE_KILLS", 4)):
            flow, what, number = MOMENTS[place % len(MOMENTS)]
            accepted = client.tasks.submit(flow, tag=f"{flow}-{place}")
            uuid = accepted.task["uuid"]
            asked[uuid] = flow
            line = f"{what} {uuid} {number}"
            until(lambda line=line: line in served.witnessed(), line)  # type: ignore[misc]
            asking = threading.Thread(
                target=_ask, args=(client, place, asked)
            )  # its answer may be the one that is lost
            asking.start()
            served.kill()
            lost += 1
            served.start()
            until(lambda lost=lost: listening.came_back >= lost, "who listens is back")  # type: ignore[misc]
            asking.join(PATIENCE_S)
            again = client.tasks.submit(flow, tag=f"{flow}-{place}")
            assert (again.replayed, again.task["uuid"]) == (True, uuid)
        for uuid, flow in asked.items():
            after = client.tasks.wait(uuid, PATIENCE_S)
            assert (after["state"], after["revert"]) == (
                ("SUCCEEDED", "none") if flow == "march" else ("FAILED", "done")
            ), served.witnessed()
        assert len(list(client.tasks.list(limit=1000))) == len(asked)
        for uuid, flow in asked.items():
            judge(flow, [tuple(line.split()[::2]) for line in served.witnessed() if line.split()[1] == uuid])
        assert complaints(served.database, *FLOWS_HERE) == []
        everything = poll(served.client(), limit=1000)
        until(lambda: len(listening.heard) >= len(everything), "the rest of the events")
    assert listening.heard == everything
    ends = Counter(event["subject"] for event in everything if event["data"].get("to") in ENDS)
    assert ends == {f"tasks/{uuid}": 1 for uuid in asked}


def _ask(client: Client, place: int, asked: dict[str, str]) -> None:
    asked[client.tasks.submit("march", tag=f"beside-{place}").task["uuid"]] = "march"


def judge(flow: str, story: list[tuple[str, ...]]) -> None:
    """What is done before another begins is never done again, forward and back."""
    done = [("begin", "end", str(number)) for number in (1, 2, 3)]
    undone = [("unbegin", "unend", str(number)) for number in (3, 2, 1)]
    furthest = 0
    order = done if flow == "march" else [*done, ("stumble", "stumble", "0"), *undone]
    for what, number in story:
        (place,) = [at for at, (begin, end, of) in enumerate(order) if what in (begin, end) and of == number]
        assert place in (furthest, furthest + 1), f"{what} {number} again: {story}"
        furthest = max(furthest, place)
    for begin, end, number in order:
        assert (begin, number) in story, story
        assert (end, number) in story, story


# --- a store that fails when a task ends -----------------------------------------------------------------------------


@contextlib.contextmanager
def locked(database: str) -> Iterator[None]:
    """Somebody else writes, and does not come to an end."""
    other = sqlite3.connect(database, isolation_level=None, timeout=30)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()


@only_sqlite
@pytest.mark.requirement("P2", "P5")
def test_a_store_that_is_locked_when_a_task_ends_locks_no_resource(make_service: MakeService, tmp_path: Path) -> None:
    (tmp_path / "switch").mkdir()
    backend = Backend(tmp_path / "switch")
    service = make_service(kinds=[make_kind(backend.directory)], busy_timeout_s=0.1, lease_s=1.0, heartbeat_s=0.3)
    client = service.client()
    made = client.post("/v3/ports", json={"port": {"faults": ["hang"]}}).json()
    port = made["port"]["id"]
    until(lambda: backend.said("write", port), "the step that writes")
    queued = client.delete(f"/v3/ports/{port}")
    assert queued.status_code == 202, queued.text
    assert queued.json()["task"]["state"] == "PENDING"
    with locked(service.hold.url.removeprefix("sqlite:///")):
        backend.turn("go")
        until(lambda: backend.said("written", port), "what can't be recorded")
        began = time.monotonic()
        problem(client.post("/v3/ports", json={"port": {}}, headers={"Task-tag": "t"}), 503, "store.busy")
        threading.Event().wait(2.0)  # two leases
        assert client.get(f"/v3/tasks/{made['task']['uuid']}").json()["task"]["state"] == "RUNNING"
        assert client.get("/healthz").status_code == 200
    began = time.monotonic()
    again = client.post("/v3/ports", json={"port": {}}, headers={"Task-tag": "t"})
    assert (again.status_code, again.headers.get("task-tag-replayed")) == (202, None)
    assert service.until(made["task"]["uuid"], *ENDS)["state"] == "SUCCEEDED"
    assert service.until(queued.json()["task"]["uuid"], *ENDS)["state"] == "SUCCEEDED"
    assert service.until(again.json()["task"]["uuid"], *ENDS)["state"] == "SUCCEEDED"
    assert time.monotonic() - began < 5.0
    assert backend.there(port) is None
    other = again.json()["port"]["id"]
    assert client.put(f"/v3/resources/port/{other}", json={"mtu": 1}).status_code == 202


@only_sqlite
@pytest.mark.requirement("P2", "G1")
def test_a_full_disk_when_a_task_ends_locks_no_resource(make_service: MakeService) -> None:
    service = make_service(offered=[*FLOWS, QUICK], lease_s=1.0, heartbeat_s=0.3)
    client, claimed = service.client(), {"resource": {"thing": "t-1"}}
    first = service.submit("hoard", client=client, **claimed)["uuid"]
    queued = service.submit("quick", client=client, **claimed)["uuid"]
    service.until(first, "WAITING")
    service.hold.store.write(lambda tx: tx.execute(text("PRAGMA max_page_count = 1")))  # as many as there are
    assert client.post(f"/v3/tasks/{first}/events/go").status_code == 202  # small things still fit
    threading.Event().wait(2.0)
    assert client.get(f"/v3/tasks/{first}").json()["task"]["state"] == "RUNNING"
    service.hold.store.write(lambda tx: tx.execute(text("PRAGMA max_page_count = 1000000")))
    began = time.monotonic()
    for uuid in (first, queued):
        assert service.until(uuid, *ENDS)["state"] == "SUCCEEDED"
    assert time.monotonic() - began < 3.0


@only_sqlite
@pytest.mark.requirement("P1", "P2", "G1")
def test_a_disk_that_fails_ends_the_process_and_the_next_one_goes_on(make_served: MakeServed) -> None:
    """No file of the service may grow from a moment on, so that it can't write its log. One that stayed up would take
    no task and do none."""
    served = make_served(*FLOWS_HERE, **LEASE)
    client = served.client()
    claimed = {"resource": {"thing": "t-1"}, "params": {"pause": 0.3}}
    first = served.submit("march", client=client, **claimed)["uuid"]
    queued = served.submit("march", client=client, **claimed)["uuid"]
    until(lambda: f"begin {first} 3" in served.witnessed(), "the last step")
    resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    with contextlib.suppress(httpx.TransportError):  # if it has noticed already
        told = problem(client.post("/v3/tasks", json={"task": "march"}), 503, "store.unwritable")
        assert str(served.database.parent) not in str(told)
    assert served.process.wait(PATIENCE_S) != 0
    served.kill()  # only closes what it said
    served.start()
    for uuid in (first, queued):
        assert served.until(uuid, *ENDS)["state"] == "SUCCEEDED"
    assert served.until(served.submit("march")["uuid"], *ENDS)["state"] == "SUCCEEDED"
