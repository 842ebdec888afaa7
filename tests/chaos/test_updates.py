"""Four services take the changes of one resource at once; workers do them in the order of their commits."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from chaos import load
from tests.chaos.conftest import until
from tests.postgresql import Databases
from tests.resources.ports import Backend, plain

ROOT = Path(__file__).parents[2]
SERVICES, WORKERS = 4, 2
UPDATES = int(os.environ.get("TEST_UPDATES", "100"))  # of each service


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/tasks.db"
    postgresql: Databases = request.getfixturevalue("postgresql")
    return postgresql.fresh()


@pytest.fixture
def urls(database: str, tmp_path: Path) -> Iterator[list[str]]:
    """Of the services; the workers work beside them."""
    (tmp_path / "switch").mkdir()
    with ExitStack() as closing:
        started = []
        for what in ["serve"] * SERVICES + ["work"] * WORKERS:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.ports", database, str(tmp_path / "switch"), what],
                cwd=ROOT, env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])},
                stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            started.append(closing.enter_context(process))
            closing.callback(process.terminate)
        said = [process.stdout.readline().strip() for process in started if process.stdout is not None]
        yield said[:SERVICES]


@pytest.mark.requirement("NEUTRON-7", "NEUTRON-8", "P8")
def test_changes_through_four_services_are_applied_in_the_order_of_their_commits(
    urls: list[str], tmp_path: Path
) -> None:
    backend, line = Backend(tmp_path / "switch"), load.Line(urls)
    backend.turn("slow")
    port = line.ask(0, "POST", "/v3/ports", {"port": {}}).body["port"]["id"]
    path = f"/v3/resources/port/{port}"
    asked: dict[int, dict[str, Any]] = {}  # by revision

    def write(who: int) -> None:
        chance, own = random.Random(who), load.Line(urls)
        for place in range(UPDATES):
            heard = own.ask(who, "PUT", path, {"mtu": 1000 + who * UPDATES + place, "address": f"10.0.{who}.{place}"})
            assert heard.status == 202, heard
            asked[heard.body["resource"]["revision"]] = plain(heard.body["resource"]["desired"])
            threading.Event().wait(chance.random() * 0.01)
        own.close()

    writers = [threading.Thread(target=write, args=(who,)) for who in range(SERVICES)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    last = SERVICES * UPDATES + 1
    assert sorted(asked) == list(range(2, last + 1))
    until(lambda: line.ask(1, "GET", path).body["resource"]["applied_revision"] == last, f"revision {last}")
    shown = line.ask(2, "GET", path).body["resource"]
    line.close()
    written = [(revision, document) for _, _, revision, document in backend.said("written", port)]
    assert written[1:] == sorted(asked.items(), key=lambda each: each[0])
    assert backend.there(port) == plain(shown["desired"]) == asked[last]
    assert (shown["sync_status"], backend.said("collision")) == ("IN_SYNC", [])
