"""A yard of machines: a database with the kind `node`, whose nodes have the driver `fake` over one file."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import holdfast as hf
from holdfast.core.states import FINAL
from holdfast.resources import state
from holdfast.resources.handle import Resource
from holdfast.resources.node import views
from holdfast.resources.node.fake import Called, Device
from holdfast.resources.node.kind import make_node
from holdfast.resources.node.words import POWER_ON
from holdfast.resources.state import ResourceRow
from peers.lying_redfish import LyingRedfish, lying_redfish
from tests.postgresql import database_at

Node = Resource[hf.Task]
PATIENCE_S = 30.0
POLL_S = 0.02


class Yard:
    """An open database, its machines, and what the tests do with them again and again."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.url = database_at(directory / "tasks.db")
        self.machines = str(directory / "machines.db")
        quick = {"node_poll_s": POLL_S, "node_settle_s": 0.2, "node_timeout_s": 20.0, "lease_s": 1.0}
        self.hold = hf.open(self.url, kinds=[make_node()], **{**quick, **settings})

    def enrol(self, name: str = "rack-1", **knobs: Any) -> Node:
        """A node that is manageable. `knobs`: of its machine."""
        info = {"path": self.machines, "fake": knobs}
        task = self.hold.operate("node", "create", desired={"name": name, "driver": "fake", "driver_info": info})
        self.until_ended(task)
        return self.hold.resource("node", str(task.view()["resource_id"]))

    def machine(self, node: Node) -> Device:
        return Device(self.machines, node.id)

    def sent(self, node: Node) -> list[str]:
        """The commands that the machine was sent."""
        return [called.call for called in self.machine(node).calls(looks=False)]

    def calls(self, node: Node) -> list[Called]:
        return self.machine(node).calls()

    def states(self, node: Node) -> dict[str, Any]:
        """As the API shows them."""
        return self.hold.store.read(lambda tx: views.node_states(tx, self._row(tx, node)))

    def shown(self, node: Node) -> tuple[str | None, str | None]:
        """power_state, target_power_state."""
        states = self.states(node)
        return states["power_state"], states["target_power_state"]

    def _row(self, tx: Any, node: Node) -> ResourceRow:
        return state.read(tx, "node", node.id)

    def until(self, fact: Callable[[], object], what: str = "it", within_s: float = PATIENCE_S) -> None:
        limit, pause, look_s = time.monotonic() + within_s, threading.Event(), 0.005
        while not fact():
            assert time.monotonic() < limit, f"waited {within_s:g} s for {what}"
            pause.wait(look_s)
            look_s = min(look_s * 1.5, 0.05)  # many look at once, and a look is a question to a server

    def until_ended(self, task: hf.Task) -> hf.Task:
        self.until(lambda: task.state in FINAL, f"the end of {task.id}")
        return task

    def until_sent(self, node: Node, command: str, times: int = 1) -> None:
        self.until(lambda: self.sent(node).count(command) >= times, command)

    def do(self, node: Node, operation: str, params: dict[str, Any] | None = None) -> hf.Task:
        return self.until_ended(node.operate(operation, params))


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    made = Yard(tmp_path)
    with made.hold, made.hold.working():
        yield made


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LyingRedfish]:
    with lying_redfish(tmp_path_factory.mktemp("liar")) as peer:
        yield peer


@pytest.fixture
def liar(started: LyingRedfish) -> LyingRedfish:
    started.anew()
    started.power = POWER_ON
    return started
