"""A service over real sockets: in this process (`service`), or as `holdfast serve` (`served`).

`make_service` makes more than one in a test, with settings of its own. Each has a database of its own in a file.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from holdfast import local
from holdfast.service.serve import Serving
from tests.forked import Forked
from tests.postgresql import database_at
from tests.service import flows, told

ROOT = Path(__file__).parents[2]
PATIENCE_S = 20.0


class Asker:
    """What both kinds of service have: clients."""

    url: str
    project = "default"

    def __init__(self) -> None:
        self._clients: list[httpx.Client] = []

    def client(
        self, project: str | None = None, roles: str = "member", user: str = "u1", **headers: str
    ) -> httpx.Client:
        """One that says who it is; by `identity` none."""
        given = {"X-Project-Id": project or self.project, "X-Roles": roles, "X-User-Id": user, **headers}
        made = told.listen(httpx.Client(base_url=self.url, headers=given, timeout=PATIENCE_S))
        self._clients.append(made)
        return made

    def bare(self) -> httpx.Client:
        """One that says nothing of itself."""
        made = told.listen(httpx.Client(base_url=self.url, timeout=PATIENCE_S))
        self._clients.append(made)
        return made

    def submit(self, name: str = "quick", *, client: httpx.Client | None = None, **body: Any) -> dict[str, Any]:
        """A new task of that flow."""
        answer = (client or self.client()).post("/v3/tasks", json={"task": name, **body})
        assert answer.status_code == 202, answer.text
        task: dict[str, Any] = answer.json()["task"]
        return task

    def until(self, uuid: str, *wanted: str, client: httpx.Client | None = None) -> dict[str, Any]:
        """The task once it is in one of these states."""
        asker = client or self.client()
        end = time.monotonic() + PATIENCE_S
        while True:
            task: dict[str, Any] = asker.get(f"/v3/tasks/{uuid}").json()["task"]
            if task["state"] in wanted:
                return task
            assert time.monotonic() < end, f"{uuid} is {task['state']} and never was {wanted}"
            asker.get(f"/v3/tasks/{uuid}", params={"wait": 0.2})

    def close_clients(self) -> None:
        for each in self._clients:
            each.close()


class Service(Asker):
    """In this process."""

    def __init__(self, hold: local.Holdfast, serving: Serving) -> None:
        super().__init__()
        self.hold = hold
        self.serving = serving
        self.core = serving.service
        self.url = serving.url


MakeService = Callable[..., Service]


@pytest.fixture
def make_service(tmp_path: Path) -> Iterator[MakeService]:
    """`make_service(worker=True, flows=[…], **settings)`."""
    with ExitStack() as closing:
        made = 0

        def make(*, worker: bool = True, database: str | None = None, offered: Any = None, **settings: Any) -> Service:
            nonlocal made
            made += 1
            url = database or database_at(tmp_path / f"tasks{made}.db")
            given = {"port": 0, **settings}
            hold = closing.enter_context(local.open(url, flows=flows.FLOWS if offered is None else offered, **given))
            serving = Serving(hold, worker=worker)
            serving.start()
            closing.callback(serving.stop)
            service = Service(hold, serving)
            closing.callback(service.close_clients)
            return service

        yield make


_projects = count(1)


@contextmanager
def serving(place: Path, *, worker: bool = True, **settings: Any) -> Iterator[Serving]:
    """One that many tests use, with its database in that directory."""
    with local.open(database_at(place / "tasks.db"), flows=flows.FLOWS, port=0, **settings) as hold:
        made = Serving(hold, worker=worker)
        made.start()
        yield made
        made.stop()


@pytest.fixture(scope="session")
def _running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("shared")) as made:
        yield made


@pytest.fixture
def shared(_running: Serving) -> Iterator[Service]:
    """One that other tests use too, and a project of its own in it: for tests that look at their project only."""
    made = Service(_running.service.hold, _running)
    made.project = f"project-{next(_projects)}"
    yield made
    made.close_clients()


@pytest.fixture
def service(make_service: MakeService) -> Service:
    """One with everything as it is by itself, and a worker."""
    return make_service()


class Served(Asker):
    """`holdfast serve` as a process. `witness`: where its steps say what they did."""

    def __init__(self, database: Path, *, port: int = 0, options: tuple[str, ...] = (), **settings: str) -> None:
        super().__init__()
        self.database = database
        self.witness = database.with_suffix(".witness")
        self._port = port
        self._options = options
        self._settings = settings
        self.start()

    def start(self) -> None:
        """Again after `kill`, on the same port and the same database."""
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
            flows.WITNESS: str(self.witness),
            **{f"HOLDFAST_{name.upper()}": value for name, value in self._settings.items()},
        }
        words = ["serve", "--port", str(self._port), "--database", database_at(self.database)]
        self.process = Forked(
            "holdfast", *words, "--flows", "tests.service.flows:FLOWS", *self._options,
            env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stderr is not None
        said = ""
        for line in self.process.stderr:
            said += line
            if " on http" in line:
                break
        assert " on http" in said, f"it did not start: {said}"
        self.url = said.rstrip().rpartition(" on ")[2]
        self._port = int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def terminate(self) -> float:
        """SIGTERM; how long it took."""
        began = time.monotonic()
        self._end(signal.SIGTERM)
        return time.monotonic() - began

    def _end(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(PATIENCE_S)
        assert self.process.stderr is not None
        self.process.stderr.close()

    def witnessed(self) -> list[str]:
        return self.witness.read_text(encoding="utf-8").splitlines() if self.witness.exists() else []


MakeServed = Callable[..., Served]


@pytest.fixture
def make_served(tmp_path: Path) -> Iterator[MakeServed]:
    """`make_served("--no-worker", database=path, lease_s="1")`."""
    made: list[Served] = []
    guests = tmp_path / "guests"

    def make(*options: str, database: Path | None = None, port: int = 0, **settings: str) -> Served:
        settings.setdefault("server_dir", str(guests))
        made.append(Served(database or tmp_path / "served.db", port=port, options=options, **settings))
        return made[-1]

    yield make
    for served in made:
        served.close_clients()
        if served.process.poll() is None:
            served.kill()
        elif served.process.stderr is not None:
            served.process.stderr.close()
    shutil.rmtree(guests, ignore_errors=True)  # a guest whose directory is gone ends


@pytest.fixture
def served(make_served: MakeServed) -> Served:
    """One with everything as it is by itself, and a worker."""
    return make_served()
