"""Whatever is asked of real servers while the service is killed again and again, faults strike and people change their
minds: in the end everything has ended, nothing needs an edit of the database, and nothing is left of what is deleted.

HOLDFAST_TEST_CHAOS=1000 for as many operations. HOLDFAST_TEST_SEED repeats the draws.
"""

from __future__ import annotations

import http.client
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from holdfast.resources.server.process import Server
from tests.resources.server.conftest import pause
from tests.service.conftest import MakeServed, Served
from tests.service.storms import Heard, Line, size
from tests.service.test_kills import LEASE, complaints

OPERATIONS = size("CHAOS", 36)
KILL_EVERY = 12
TEND_EVERY = 4
SERVERS = 8
PATIENCE_S = 120.0
LIVE = "PENDING,RUNNING,WAITING,SUSPENDING,SUSPENDED,CANCELLING,REVERTING,ABORTING"
ACTIONS: list[dict[str, Any]] = [
    {"start": None}, {"stop": {"type": "SOFT"}}, {"stop": {"type": "HARD"}}, {"reboot": {"type": "SOFT"}},
    {"reboot": {"type": "HARD"}}, {"suspend": None}, {"resume": None}, {"rebuild": {"image": "guest-2"}},
    {"rebuild": {"image": "panics"}}, {"resize": {"memory_mib": 512}},
]  # fmt: skip
VERBS = ["cancel", "abort", "suspend", "resume", "rollback", "retry"]


@pytest.fixture
def where(tmp_path: Path) -> Iterator[Path]:
    """Where the servers are. Their guests outlive every service, but not the test."""
    path = tmp_path / "servers"
    yield path
    for directory in path.glob("*"):
        Server(str(path), directory.name).remove(pause)


class Chaos:
    """Somebody who asks for anything, and asks again where no answer came."""

    def __init__(self, served: Served, chance: random.Random) -> None:
        self.served = served
        self._chance = chance
        self._line = Line(served.url)
        self.servers: list[str] = []
        self.tasks: list[str] = []
        self.heard = Counter[int]()
        self.place = 0

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Heard:
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                answer = self._line.ask(method, path, body, **headers)
                break
            except (OSError, http.client.HTTPException):
                assert time.monotonic() < end, f"{method} {path}: no answer"
                self._line.close()
                threading.Event().wait(0.02)
        self.heard[answer.status] += 1
        assert answer.status in (200, 202, 400, 404, 409, 410), (method, path, body, answer)
        if answer.status == 404 and path.split("/")[-2] in self.servers:
            self.servers.remove(path.split("/")[-2])
        if answer.status == 202 and "task" in answer.body:
            self.tasks.append(answer.body["task"]["uuid"])
        return answer

    def faults(self) -> dict[str, Any]:
        operation = self._chance.choice(["create", "start", "stop", "reboot", "rebuild", "resize", "delete"])
        moment = self._chance.choice(["before", "after", "hang"])
        return {"metadata": {"faults": f"{operation}={moment}"}} if self._chance.random() < 0.4 else {}

    def anything(self) -> None:
        self.place += 1
        draw, tag = self._chance.random(), {"Task_tag": f"chaos-{self.place}"}
        if len(self.servers) < 2 or (draw < 0.15 and len(self.servers) < SERVERS):
            made = self.ask("POST", "/v3/servers", {"server": {"name": "s", **self.faults()}}, **tag)
            self.servers.append(made.body["server"]["id"])
        elif draw < 0.65:
            self.ask("POST", f"{self._some_server()}/action", self._chance.choice(ACTIONS), **tag)
        elif draw < 0.75:
            path = self._some_server().replace("/v3/servers", "/v3/resources/server")
            self.ask("PUT", path, {"name": "s", "memory_mib": self._chance.choice([None, 256]), **self.faults()}, **tag)
        elif draw < 0.78:
            gone = self._some_server()
            if self.ask("DELETE", gone, **tag).status == 202 and self._chance.random() < 0.8:
                self.servers.remove(gone.rpartition("/")[2])
        else:
            verb = self._chance.choice(VERBS)
            more = tag if verb in ("rollback", "retry") else {}
            self.ask("POST", f"/v3/tasks/{self._chance.choice(self.tasks[-6:])}/{verb}", **more)

    def _some_server(self) -> str:
        return f"/v3/servers/{self._chance.choice(self.servers)}"  # one that is gone is asked for once

    def live(self) -> list[dict[str, Any]]:
        return self.all(f"/v3/tasks?limit=1000&depth=all&state={LIVE}")

    def all(self, path: str | None) -> list[dict[str, Any]]:
        """What is listed there, page by page."""
        found: list[dict[str, Any]] = []
        while path is not None:
            page = self.ask("GET", path).body
            found += page["tasks"]
            path = next((link["href"] for link in page["links"] if link["rel"] == "next"), None)
        return found

    def settle(self) -> None:
        """Let everything end, by what an operator may do over HTTP; some of it within any two minutes."""
        fewest, end = len(self.tasks) + 1, 0.0
        while live := self.live():
            if len(live) < fewest:
                fewest, end = len(live), time.monotonic() + PATIENCE_S
            assert time.monotonic() < end, [(task["task"], task["state"], task["reason"]) for task in live]
            self.tend(live)
            self.ask("GET", f"/v3/tasks/{live[-1]['uuid']}?wait=0.5")

    def tend(self, live: list[dict[str, Any]]) -> None:
        """Have those that rest go on, or end."""
        for task in live:
            if task["state"] == "SUSPENDED":
                path = f"/v3/tasks/{task['uuid']}"
                answer = self.ask("POST", f"{path}/resume")
                if answer.status == 409 and answer.body["code"] == "task.answer_needed":
                    steps = {step: {"as": answer.body["words"][-1]} for step in answer.body["steps"]}
                    answer = self.ask("POST", f"{path}/resume", {"steps": steps})
                if answer.status == 409:
                    self.ask("POST", f"{path}/abort")

    def close(self) -> None:
        self._line.close()


@pytest.mark.timeout(1800 + 6 * OPERATIONS)
@pytest.mark.requirement("TF-12", "P1", "P12")
def test_chaos_leaves_nothing_that_needs_a_hand(make_served: MakeServed, where: Path) -> None:
    seed = int(os.environ.get("HOLDFAST_TEST_SEED", random.randrange(1 << 32)))
    print(f"seed {seed}: HOLDFAST_TEST_SEED={seed} repeats the draws")
    chance = random.Random(seed)
    settings = {"server_dir": str(where), "server_faults": "1", "server_boot_s": "1.5", "server_stop_s": "1.5"}
    served = make_served(**LEASE, **settings, sync_interval_s="0.5", grace_s="1", deaths_max="1000")
    kills = 0
    with closing(Chaos(served, chance)) as chaos:
        while chaos.place < OPERATIONS:
            for _ in range(chance.randrange(KILL_EVERY // 2, KILL_EVERY)):
                chaos.anything()
                threading.Event().wait(chance.random() * 0.1)
            asking = threading.Thread(target=chaos.anything)
            asking.start()
            threading.Event().wait(chance.random() * 0.01)
            served.kill()
            kills += 1
            served.start()
            asking.join(PATIENCE_S)
            if kills % TEND_EVERY == 0:  # else most of what is asked for later is refused, for what rests before it
                chaos.tend(chaos.live())
        chaos.settle()
        ended = Counter(task["state"] for task in chaos.all("/v3/tasks?limit=1000"))
        print(f"{chaos.place} operations, {kills} kills, answers {dict(chaos.heard)}, ends {dict(ended)}")
        assert complaints(served.database) == []
        for server in chaos.ask("GET", "/v3/servers?limit=1000").body["servers"]:
            gone = chaos.ask("DELETE", f"/v3/servers/{server['id']}")
            assert gone.status == 202, gone
        chaos.settle()
        left = {server["id"]: server["status"] for server in chaos.ask("GET", "/v3/servers").body["servers"]}
    assert {directory.name for directory in where.glob("*")} <= set(left)
    for ident in left:  # what failed to go, as was asked of it
        client = served.client()
        document = client.get(f"/v3/resources/server/{ident}").json()["resource"]["desired"]
        assert "delete" in document["metadata"].get("faults", ""), (ident, left, document)
