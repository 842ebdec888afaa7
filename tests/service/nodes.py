"""Services with the real kind `node`, shared by many tests: each test has a project of its own in them.

`metal` has a worker, and its machines are the driver `fake`'s, which stand in a file; `idle` has none, so what is asked
for there stays as it was accepted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.fernet import Fernet

from holdfast.resources.node.fake import Device
from holdfast.resources.node.kind import node
from holdfast.resources.registry import Kinds
from holdfast.service.serve import Serving
from tests.service.conftest import Service, serving
from tests.service.servers import ENDS

_projects = count(1)
NAME = "X-OpenStack-Ironic-API-Version"


class Metal(Service):
    """What is asked of nodes, by the member `u1` of the project unless another client asks."""

    def __init__(self, serving: Serving, machines: Path, *, works: bool) -> None:
        super().__init__(serving.service.hold, serving)
        self._works = works
        self.machines = machines
        self.project = f"metal-{next(_projects)}"
        self.member = self.client()

    def enrol(self, name: str = "rack1-u7", driver: str = "fake", **info: Any) -> str:
        """The id of a new node; it is manageable, if somebody works here. `info`: what the driver knows."""
        given = {"path": str(self.machines), "fake": info} if driver == "fake" else {"address": "192.0.2.1", **info}
        answer = self.member.post("/v1/nodes", json={"name": name, "driver": driver, "driver_info": given})
        assert answer.status_code == 202, answer.text
        if self._works:
            assert self.ended(answer.json()["task"]["uuid"])["state"] == "SUCCEEDED"
        ident: str = answer.json()["uuid"]
        return ident

    def device(self, ident: str) -> Device:
        """The machine itself."""
        return Device(str(self.machines), ident)

    def ask(
        self, ident: str, target: str, timeout: float | None = None, *, prefer: str = "", tag: str = ""
    ) -> httpx.Response:
        body = {"target": target} if timeout is None else {"target": target, "timeout": timeout}
        headers = {name: text for name, text in (("Prefer", prefer), ("Task-tag", tag)) if text}
        return self.member.put(f"/v1/nodes/{ident}/states/power", json=body, headers=headers)

    def power(self, ident: str, target: str, timeout: float | None = None) -> dict[str, Any]:
        """The task, as it was accepted."""
        answer = self.ask(ident, target, timeout)
        assert answer.status_code == 202, answer.text
        task: dict[str, Any] = answer.json()["task"]
        return task

    def do(self, ident: str, target: str, timeout: float | None = None) -> dict[str, Any]:
        """The task, once it has ended."""
        return self.ended(self.power(ident, target, timeout)["uuid"])

    def ended(self, uuid: str) -> dict[str, Any]:
        return self.until(uuid, *ENDS)

    def states(self, ident: str) -> dict[str, Any]:
        answer = self.member.get(f"/v1/nodes/{ident}/states")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def sync(self) -> None:
        """Have the power of all machines looked at now."""
        self.hold.watch_drift(rounds=1)

    def tasks(self, **query: str) -> list[dict[str, Any]]:
        """Those of the project, the newest first."""
        found: list[dict[str, Any]] = self.member.get("/v3/tasks", params={"limit": 1000, **query}).json()["tasks"]
        return found


def _serving(place: Path, *, worker: bool) -> AbstractContextManager[Serving]:
    quick: Any = {"node_poll_s": 0.02, "sync_interval_s": 3_600.0, "secret_key": Fernet.generate_key().decode()}
    return serving(place, worker=worker, kinds=Kinds([node]), **quick)


@pytest.fixture(scope="session")
def _metal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with _serving(tmp_path_factory.mktemp("metal"), worker=True) as made:
        yield made


@pytest.fixture(scope="session")
def _idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with _serving(tmp_path_factory.mktemp("idle"), worker=False) as made:
        yield made


@pytest.fixture
def metal(_metal: Serving, tmp_path: Path) -> Iterator[Metal]:
    made = Metal(_metal, tmp_path / "machines.db", works=True)
    yield made
    made.close_clients()


@pytest.fixture
def idle(_idle: Serving, tmp_path: Path) -> Iterator[Metal]:
    made = Metal(_idle, tmp_path / "machines.db", works=False)
    yield made
    made.close_clients()


FIXTURES = ["_idle", "_metal", "idle", "metal"]  # for who imports them
