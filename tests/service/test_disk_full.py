"""The disk under the database is full for a while: what was acknowledged is there, what was not is refused in words,
and the service and its worker go on when there is room."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

import holdfast as hf
from chaos.disk import Disk
from peers.postgres import Postgres
from tests.service import flows
from tests.service.conftest import MakeService

PATIENCE_S = 30.0
LARGE = random.Random(1).randbytes(20_000).hex()
_began, _go = threading.Event(), threading.Event()
_times: list[str] = []


@hf.step(provides="said")
def stand_by(word: str) -> str:
    _times.append(word)
    _began.set()
    assert _go.wait(PATIENCE_S)
    return word


@hf.step
def keep(word: str) -> None:
    pass


KEEPING = hf.linear("keeping", keep)
STANDING_BY = hf.linear("standing-by", stand_by, flows.mark)


class Place(NamedTuple):
    url: str
    disk: Disk
    pids: tuple[int, ...]


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    directory = Path(tempfile.mkdtemp(prefix="hf-pg-"))
    with ExitStack() as closing:
        closing.callback(shutil.rmtree, directory, ignore_errors=True)
        if request.param == "sqlite":
            disk = Disk(directory / "disk", 64)
            closing.callback(disk.close)
            yield Place(f"sqlite:///{disk.directory}/tasks.db", disk, (os.getpid(),))
        else:
            disk = Disk(directory / "pg" / "data", 128)
            closing.callback(disk.close)
            server = closing.enter_context(Postgres(directory / "pg", wal=directory / "wal"))
            yield Place(server.url(), disk, (server.pid,))


@pytest.mark.requirement("P1")
def test_nothing_acknowledged_is_lost_and_all_goes_on_when_there_is_room(
    place: Place, make_service: MakeService
) -> None:
    _began.clear()
    _go.clear()
    _times.clear()
    service = make_service(database=place.url, offered=[*flows.FLOWS, STANDING_BY, KEEPING], lease_s=3.0)
    client = service.client()
    running = service.submit("standing-by", params={"word": "once"}, claims=[{"type": "server", "id": "one"}])["uuid"]
    assert _began.wait(PATIENCE_S)

    empty = place.disk.fill(lambda: place.pids)
    accepted: list[str] = []
    refused = 0
    end = time.monotonic() + PATIENCE_S
    for number in range(10_000):
        body = {"task": "keeping", "params": {"word": f"{LARGE}{number}"}}
        answer = client.post("/v3/tasks", json=body, headers={"Task-tag": f"tag-{number}"})
        if answer.status_code == 202:
            accepted.append(answer.json()["task"]["uuid"])
        else:
            assert (answer.status_code, answer.json()["code"]) == (503, "store.full"), answer.text
            assert int(answer.headers["retry-after"]) >= 1
            refused += 1
        if refused >= 3:
            break
        assert time.monotonic() < end, "the disk never was full"
    assert client.get(f"/v3/tasks/{running}").json()["task"]["state"] == "RUNNING"
    _go.set()  # it ends while nothing can be written, perhaps; for longer than its lease lasts
    threading.Event().wait(4)
    assert client.get("/healthz").status_code == 200

    empty()
    assert service.until(running, "SUCCEEDED")["result"]["said"] == "once"
    assert set(_times) == {"once"}
    again = client.post("/v3/tasks", json=body, headers={"Task-tag": f"tag-{number}"})
    assert again.status_code == 202, again.text
    assert again.headers.get("task-tag-replayed") is None
    for uuid in accepted:
        assert client.get(f"/v3/tasks/{uuid}").status_code == 200, "acknowledged, and lost"
    service.until(service.submit("quick")["uuid"], "SUCCEEDED")
