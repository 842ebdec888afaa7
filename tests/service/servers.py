"""Services with the real kind `server`, shared by many tests: each test has a project of its own in them.

`cloud` has a worker; `still` has none, so what is asked for there stays as it was accepted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

import holdfast as hf
from holdfast.resources.child import child
from holdfast.resources.kind import Kind
from holdfast.resources.registry import Kinds
from holdfast.resources.server.kind import make_server
from holdfast.resources.server.process import Server
from holdfast.service.serve import Serving
from holdfast.settings import Settings
from tests.resources.server.conftest import pause
from tests.service.conftest import Service, serving

ENDS = ("SUCCEEDED", "FAILED", "CANCELLED", "ABORTED", "REVERTED")
_projects = count(1)


def kinds(where: Path) -> Kinds:
    """The kind `server`, with an operation that is made of five others."""
    made = make_server(Settings(server_dir=str(where), server_faults=1, server_boot_s=5.0))

    @made.operation("renew", starts=("ACTIVE",), ends="ACTIVE", summary="Everything once.")
    def renew(kind: Kind) -> Any:
        return hf.linear("renew", *(child(name, "server", name, id="resource_id") for name in RENEWAL))

    return Kinds([made])


RENEWAL = ("suspend", "resume", "stop", "start", "reboot")


class Cloud(Service):
    """What is asked of servers, by the member `u1` of the project unless another client asks."""

    def __init__(self, serving: Serving, *, works: bool) -> None:
        super().__init__(serving.service.hold, serving)
        self._works = works
        self.project = f"project-{next(_projects)}"
        self.member = self.client()

    def make(self, *, client: httpx.Client | None = None, **desired: Any) -> str:
        """The id of a new server; it is up, if somebody works here."""
        body = {"server": {"name": "web", **desired}}
        answer = (client or self.member).post("/v3/servers", json=body)
        assert answer.status_code == 202, answer.text
        if self._works:
            self.ended(answer.json()["task"]["uuid"])
        ident: str = answer.json()["server"]["id"]
        return ident

    def act(self, ident: str, action: str, params: Any = None, **headers: str) -> dict[str, Any]:
        """The task of an action, as it was accepted."""
        answer = self.member.post(f"/v3/servers/{ident}/action", json={action: params}, headers=headers)
        assert answer.status_code == 202, answer.text
        task: dict[str, Any] = answer.json()["task"]
        return task

    def do(self, ident: str, action: str, params: Any = None) -> dict[str, Any]:
        """The task of an action, once it has ended."""
        return self.ended(self.act(ident, action, params)["uuid"])

    def put(self, ident: str, **desired: Any) -> dict[str, Any]:
        """The task of a new desired document, once it has ended."""
        answer = self.member.put(f"/v3/resources/server/{ident}", json={"name": "web", **desired})
        assert answer.status_code == 202, answer.text
        return self.ended(answer.json()["task"]["uuid"])

    def ended(self, uuid: str) -> dict[str, Any]:
        return self.until(uuid, *ENDS)

    def server(self, ident: str, *, client: httpx.Client | None = None) -> dict[str, Any]:
        found: dict[str, Any] = (client or self.member).get(f"/v3/servers/{ident}").json()["server"]
        return found

    def tasks(self, **query: str) -> list[dict[str, Any]]:
        """Those of the project, the newest first."""
        found: list[dict[str, Any]] = self.member.get("/v3/tasks", params={"limit": 1000, **query}).json()["tasks"]
        return found


@contextmanager
def _serving(place: Path, *, worker: bool) -> Iterator[Serving]:
    where = place / "servers"
    with serving(place, worker=worker, kinds=kinds(where)) as made:
        yield made
    for directory in where.glob("*"):
        Server(str(where), directory.name).remove(pause)


@pytest.fixture(scope="session")
def _cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with _serving(tmp_path_factory.mktemp("cloud"), worker=True) as made:
        yield made


@pytest.fixture(scope="session")
def _still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with _serving(tmp_path_factory.mktemp("still"), worker=False) as made:
        yield made


@pytest.fixture
def cloud(_cloud: Serving) -> Iterator[Cloud]:
    made = Cloud(_cloud, works=True)
    yield made
    made.close_clients()


@pytest.fixture
def still(_still: Serving) -> Iterator[Cloud]:
    made = Cloud(_still, works=False)
    yield made
    made.close_clients()


FIXTURES = ["_cloud", "_still", "cloud", "still"]  # for who imports them
