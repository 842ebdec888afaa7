"""A PostgreSQL that is frozen: its connections stay open, it takes what it is sent, and it says nothing."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from peers.postgres import Postgres
from tests.service.conftest import ROOT, MakeService
from tests.worker.house import until

TIMEOUT_S = 1.0
SLACK_S = 4.0  # for a slow machine
ENDS = ("SUCCEEDED",)


@pytest.fixture(scope="module")
def running() -> Iterator[Postgres]:
    directory = Path(tempfile.mkdtemp(prefix="hf-pg-"))
    with Postgres(directory / "pg") as made:
        yield made
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def server(running: Postgres) -> Iterator[Postgres]:
    yield running
    running.resume()


def timed(ask: Callable[[], httpx.Response]) -> tuple[httpx.Response, float]:
    began = time.monotonic()
    return ask(), time.monotonic() - began


@pytest.mark.requirement("P1")
def test_requests_are_answered_in_time_and_all_goes_on_when_it_moves_again(
    server: Postgres, make_service: MakeService
) -> None:
    service = make_service(database=server.make("frozen"), database_timeout_s=TIMEOUT_S)
    uuid = service.submit("quick")["uuid"]
    service.until(uuid, *ENDS)
    client = service.client()

    def post(number: int) -> httpx.Response:
        return client.post("/v3/tasks", json={"task": "quick"}, headers={"Task-tag": f"tag-{number}"})

    def asks() -> list[Callable[[], httpx.Response]]:
        paths = (f"/v3/tasks/{uuid}", "/v3/tasks", f"/v3/tasks/{uuid}/steps", f"/v3/tasks/{uuid}/graph")
        found: list[Callable[[], httpx.Response]] = [lambda path=path: client.get(path) for path in paths]  # type: ignore[misc]
        return found + [lambda number=number: post(number) for number in range(15)]

    server.pause()
    threads = []
    with ThreadPoolExecutor(24) as pool:
        for _ in range(3):
            answers = [pool.submit(timed, ask) for ask in asks()]
            health, took = timed(lambda: client.get("/healthz"))
            assert (health.status_code, took < TIMEOUT_S) == (200, True)
            ready, took = timed(lambda: client.get("/readyz"))
            assert (ready.status_code, took < 2 + SLACK_S) == (503, True)
            for answer, took in (each.result() for each in answers):
                assert answer.status_code == 503, answer.text
                assert took < TIMEOUT_S + SLACK_S
                assert int(answer.headers["retry-after"]) >= 1
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json()["code"] in ("store.silent", "store.away", "store.unknown")
            threads.append(threading.active_count())
    # A round asks 24; other services of this process have some threads that come and go.
    assert threads[2] < threads[0] + 12, "threads piled up"

    server.resume()
    end = time.monotonic() + 20
    while (first := post(0)).status_code == 503 and time.monotonic() < end:
        pass
    assert first.status_code == 202, first.text
    answers_ = [post(number) for number in range(15)]
    assert {answer.status_code for answer in answers_} == {202}
    tasks = client.get("/v3/tasks").json()["tasks"]
    assert sorted(task["tag"] for task in tasks if task["tag"]) == sorted(f"tag-{number}" for number in range(15))
    for answer in answers_:
        service.until(answer.json()["task"]["uuid"], *ENDS)
    assert client.get("/readyz").status_code == 200


@pytest.mark.requirement("P1")
def test_what_is_asked_while_it_is_frozen_for_a_moment_is_answered_when_it_moves(
    server: Postgres, make_service: MakeService
) -> None:
    service = make_service(database=server.make("moment"), database_timeout_s=30.0)
    client = service.client()
    service.until(service.submit("quick")["uuid"], *ENDS)
    server.pause()
    with ThreadPoolExecutor(2) as pool:
        posted = pool.submit(client.post, "/v3/tasks", json={"task": "quick"})
        got = pool.submit(client.get, "/v3/tasks")
        assert client.get("/healthz").status_code == 200
        server.resume()
        assert (posted.result().status_code, got.result().status_code) == (202, 200)


@pytest.mark.requirement("P1")
def test_who_still_asks_when_the_time_to_stop_is_over_is_told(
    make_service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    service = make_service(stop_s=2.0)
    client = service.client()
    monkeypatch.setattr(service.core, "_answer", hang)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(client.get, "/v3/tasks"), pool.submit(client.post, "/v3/tasks", json={"task": "quick"})]
        until(lambda: len(service.serving._server.server_state.tasks) == 2)
        service.serving.stop()
        for answer in (each.result() for each in asked):
            assert (answer.status_code, answer.json()["code"]) == (503, "store.silent"), answer.text


@pytest.mark.requirement("P1")
def test_a_command_says_in_time_that_the_database_gives_no_answer(server: Postgres) -> None:
    url = server.make("commands")
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "holdfast", "task", "list", "--database", url]
    assert subprocess.run([*command[:3], "db", "upgrade", "--database", url], env=env, check=False).returncode == 0
    server.pause()
    began = time.monotonic()
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert time.monotonic() - began < 5 + 2 * SLACK_S
    assert done.returncode == 2
    assert "can't be reached" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
