"""The power of many nodes is looked at all the time, and nobody who works on one notices: fake machines and real BMCs.

HOLDFAST_TEST_NODES=500 is the full size: 20 of them real, and users on 50.
"""

from __future__ import annotations

import gc
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from itertools import cycle, islice
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest

from holdfast.resources.node import drivers, words
from holdfast.resources.node.fake import Device
from holdfast.resources.node.kind import make_node
from holdfast.resources.node.power import Bmc, PowerDriver
from holdfast.seal import new_key
from holdfast.service.serve import settle
from peers.ipmi_sim import ipmi_sim
from tests.service.conftest import MakeService, Service

NODES = int(os.environ.get("HOLDFAST_TEST_NODES", "60"))
REAL = max(3, NODES // 25)
USERS = NODES // 10
AT_ONCE = min(50, NODES // 4)
TURNS = 4  # of each user
COMES_S = 0.02
START_S = 1.0
HOPS = 8  # threads and processes between a request and the call of a BMC
PATIENCE_S = 60.0 + NODES / 5


class Metered:
    """A driver: when each of its calls begins, and how many run, in all and to one BMC."""

    lock = threading.Lock()
    begun: ClassVar[dict[str, list[float]]] = {}
    running: ClassVar[dict[str, int]] = {}
    most = 0
    most_of_one = 0

    def __init__(self, driver: PowerDriver) -> None:
        self._driver = driver

    def get_supported_power_states(self, bmc: Bmc) -> Any:
        return self._driver.get_supported_power_states(bmc)

    def get_power_state(self, bmc: Bmc) -> str:
        with self._counted(bmc):
            return self._driver.get_power_state(bmc)

    def set_power_state(self, bmc: Bmc, target: str, monitor: Any = None) -> Any:
        with self._counted(bmc):
            return self._driver.set_power_state(bmc, target, monitor)

    @classmethod
    @contextmanager
    def _counted(cls, bmc: Bmc) -> Iterator[None]:
        with cls.lock:
            cls.begun.setdefault(bmc.node, []).append(time.time())
            now = cls.running[bmc.node] = cls.running.get(bmc.node, 0) + 1
            cls.most_of_one = max(cls.most_of_one, now)
            cls.most = max(cls.most, sum(cls.running.values()))
        try:
            yield
        finally:
            with cls.lock:
                cls.running[bmc.node] -= 1


class Idler(threading.Thread):
    """Has nothing to do but to wake up again and again: how late it was at most is the machine's fault."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.late_s = 0.0
        self.stopped = threading.Event()

    def run(self) -> None:
        while True:
            at = time.monotonic() + 0.01
            if self.stopped.wait(0.01):
                return
            self.late_s = max(self.late_s, time.monotonic() - at)

    def __enter__(self) -> Idler:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.join()


class Turn(NamedTuple):
    """What a user asked for, when, and what came of it."""

    node: str
    asked_at: float
    status: int
    state: str
    task: str


class Crowd:
    """A service, its nodes, and the users of some."""

    def __init__(self, service: Service, directory: Path, leaving: ExitStack) -> None:
        self.service = service
        self.hold = service.hold
        self.real = {f"real-{n}": leaving.enter_context(ipmi_sim(directory / f"bmc-{n}")) for n in range(REAL)}
        self.turns: list[Turn] = []
        self.ids: dict[str, str] = {}
        self.enrol()

    def enrol(self) -> None:
        info = {name: ("ipmi", peer.driver_info) for name, peer in self.real.items()}
        info |= {f"fake-{n}": ("fake", {"fake": {"power": words.POWER_OFF}}) for n in range(NODES - REAL)}
        made = {
            name: self.hold.operate("node", "create", desired={"name": name, "driver": driver, "driver_info": known})
            for name, (driver, known) in info.items()
        }
        for name, task in made.items():
            task.wait(PATIENCE_S)
            assert task.state == "SUCCEEDED", task.failure
            self.ids[name] = task.view()["resource_id"]
        for name in self.ids:
            if name not in self.real:
                self.device(name).behave(delay_s=0.05)

    def device(self, name: str) -> Device:
        return Device(None, self.ids[name])

    def reads(self, name: str) -> int:
        """How often its BMC was called."""
        return len(self.real[name].calls()) if name in self.real else len(self.device(name).calls())

    def use(self, names: list[str]) -> None:
        """A user on each of the nodes, one coming soon after the other, until each has had its turns."""
        users = [threading.Thread(target=self._turns, args=(name,)) for name in names]
        pause = threading.Event()
        for user in users:
            user.start()
            pause.wait(COMES_S)
        for user in users:
            user.join(PATIENCE_S)
            assert not user.is_alive()

    def _turns(self, name: str) -> None:
        for target in islice(cycle((words.POWER_ON, words.POWER_OFF)), TURNS):
            at = time.time()
            status, answer = self._put(f"/v1/nodes/{name}/states/power", {"target": target})
            task = answer.get("task", {"state": answer, "uuid": ""})
            self.turns.append(Turn(name, at, status, task["state"], task["uuid"]))

    def _put(self, path: str, body: Any) -> tuple[int, Any]:
        """The answer, once the task has ended."""
        headers = {"Content-Type": "application/json", "Prefer": "wait=60", "X-Project-Id": "default"}
        with closing(HTTPConnection(self.service.url.removeprefix("http://"), timeout=PATIENCE_S)) as connection:
            connection.request("PUT", path, json.dumps(body), headers | {"X-Roles": "member", "X-User-Id": "u"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def late(self) -> list[float]:
        """How long after its request each operation called its BMC: what calls there once the task has begun is the
        task, because nobody else does then."""
        found = []
        for turn in self.turns:
            journal = self.hold.store.journal(self.hold.task(turn.task)._id)
            began = next(row.at for row in journal if row.kind == "started" and str(row.node).endswith("look_before"))
            first = min(at for at in Metered.begun[self.ids[turn.node]] if at >= began)
            found.append(first - turn.asked_at)
        return sorted(found)

    def known(self) -> dict[str, str]:
        """The power of each node, as it is shown."""
        rows = self.hold.resources("node", limit=1000)
        return {row.view()["name"]: row.view()["observed"]["power_state"] for row in rows}


@pytest.fixture
def crowd(make_service: MakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Crowd]:
    monkeypatch.setattr(Metered, "begun", {})
    monkeypatch.setattr(Metered, "running", {})
    for name in ("fake", "ipmi"):
        monkeypatch.setitem(drivers._made, name, Metered(drivers.get(name)))
    settings: Any = {"node_calls_max": AT_ONCE, "node_poll_s": 0.1, "sync_interval_s": 0.1, "workers_max": 64}
    with ExitStack() as leaving:
        service = make_service(kinds=[make_node()], secret_key=new_key(), **settings)
        leaving.enter_context(settled())
        yield Crowd(service, tmp_path, leaving)


@contextmanager
def settled() -> Iterator[None]:
    """The garbage collector as `holdfast serve` has it: it would stop a process as large as this one for longer than a
    user's operation takes."""
    before = gc.get_threshold()
    settle()
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@pytest.mark.requirement("IRONIC-10")
def test_many_are_polled_and_users_come_first(crowd: Crowd) -> None:
    used = [*crowd.real][: max(1, REAL // 4)] + [f"fake-{n}" for n in range(USERS - max(1, REAL // 4))]
    watched = [name for name in crowd.ids if name not in used]
    reads = {name: crowd.reads(name) for name in watched}
    for name in watched:  # somebody presses all the buttons
        if name in crowd.real:
            crowd.real[name].power = words.POWER_ON
        else:
            crowd.device(name).turn(words.POWER_ON)
    pause = threading.Event()
    began = time.monotonic()
    with Idler() as idler:
        crowd.use(used)
    took_s = time.monotonic() - began

    assert {turn.status for turn in crowd.turns} == {200}
    assert {turn.state for turn in crowd.turns} == {"SUCCEEDED"}
    assert len(crowd.turns) == len(used) * TURNS
    late = crowd.late()
    told = f"{len(late)} operations in {took_s:.1f} s, begun within {late[-1]:.2f} s, half {late[len(late) // 2]:.2f}"
    assert late[-1] < START_S + HOPS * idler.late_s, f"{told}; threads that were due waited {idler.late_s:.2f} s"
    end = time.monotonic() + PATIENCE_S
    while not all(crowd.reads(name) >= reads[name] + 2 for name in watched):
        assert time.monotonic() < end, "some nodes are not looked at"
        pause.wait(0.1)
    while unseen := [name for name, power in crowd.known().items() if name in watched and power != words.POWER_ON]:
        assert time.monotonic() < end, f"what was seen of some is not written: {unseen}"
        pause.wait(0.1)
    assert Metered.most_of_one == 1
    assert AT_ONCE // 2 < Metered.most <= AT_ONCE
