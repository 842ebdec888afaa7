"""A PostgreSQL that has no connection left, or stops now and then as one does whose disk is slow: all takes longer, and
nothing fails."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import psycopg
import pytest

from holdfast.tasks import lease
from peers.postgres import Postgres
from tests.service.conftest import MakeService

CONNECTIONS = 12


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    directory = Path(tempfile.mkdtemp(prefix="hf-pg-"))
    # The last one counts.
    with Postgres(directory / "pg", settings=f"max_connections = {CONNECTIONS}\n") as made:
        yield made
    shutil.rmtree(directory, ignore_errors=True)


def fill(url: str, stack: ExitStack) -> None:
    """Take every connection that is left."""
    while True:
        try:
            stack.enter_context(psycopg.connect(url))
        except psycopg.OperationalError:
            return


@pytest.mark.requirement("P1")
def test_with_no_connection_left_requests_share_those_there_are(server: Postgres, make_service: MakeService) -> None:
    url = server.make("scarce")
    service = make_service(database=url)
    client = service.client()
    uuid = service.submit("quick")["uuid"]
    service.until(uuid, "SUCCEEDED")

    def read(_: int) -> httpx.Response:
        return client.get(f"/v3/tasks/{uuid}")

    def post(number: int) -> httpx.Response:
        return client.post("/v3/tasks", json={"task": "quick"}, headers={"Task-tag": f"tag-{number}"})

    with ExitStack() as others, ThreadPoolExecutor(16) as pool:
        fill(url, others)
        reads, posts = list(pool.map(read, range(40))), list(pool.map(post, range(15)))
        assert {each.status_code for each in reads} == {200}
        assert {each.status_code for each in posts} == {202}
        for each in posts:
            service.until(each.json()["task"]["uuid"], "SUCCEEDED")
        assert client.get("/readyz").status_code == 200


@pytest.mark.requirement("P1")
def test_a_server_that_stops_now_and_then_slows_all_down_and_breaks_no_lease(
    server: Postgres, make_service: MakeService
) -> None:
    service = make_service(database=server.make("slow"), lease_s=6.0)
    client = service.client()
    service.until(service.submit("quick")["uuid"], "SUCCEEDED")
    held = service.submit("hanging")["uuid"]
    service.until(held, "RUNNING")
    workers = {row.id for row in service.hold.store.read(lease.alive)}
    over, pause = threading.Event(), threading.Event()

    def pulses() -> None:
        while not over.is_set():
            server.pause()
            pause.wait(0.4)
            server.resume()
            pause.wait(0.1)

    beat = threading.Thread(target=pulses)
    beat.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            posts = list(pool.map(lambda _: client.post("/v3/tasks", json={"task": "quick"}), range(15)))
        assert {each.status_code for each in posts} == {202}
        for each in posts:
            service.until(each.json()["task"]["uuid"], "SUCCEEDED")
        pause.wait(3.0)
        task = client.get(f"/v3/tasks/{held}").json()["task"]
        assert (task["state"], task["attempt"]) == ("RUNNING", 1)
        assert client.post(f"/v3/tasks/{held}/cancel").status_code == 202
        service.until(held, "CANCELLED")
    finally:
        over.set()
        beat.join()
    assert {row.id for row in service.hold.store.read(lease.alive)} == workers, "a lease was lost"
    assert len(client.get("/v3/tasks", params={"task": "quick"}).json()["tasks"]) == 16
