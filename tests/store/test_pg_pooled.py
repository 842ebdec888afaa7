"""PgBouncer in transaction mode before PostgreSQL: workers, a library and doctor through it.

What the store promises, through it: tests/conformance/test_stores.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import holdfast as hf
from holdfast.cli.findings import examine
from holdfast.errors import DatabaseUrlInvalid
from holdfast.store.place import without_direct
from peers.pgbouncer import PgBouncer
from tests.postgresql import Databases
from tests.service import flows

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pooler(postgresql_server: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PgBouncer]:
    with PgBouncer(tmp_path_factory.mktemp("pool"), postgresql_server.server) as running:
        yield running


@pytest.fixture
def database(postgresql: Databases) -> str:
    return postgresql.fresh().rpartition("/")[2]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}


def works(url: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "holdfast", "worker", "--database", url, "--flows", "tests.service.flows:FLOWS"]
    return subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)


def doctor(url: str) -> dict[bool, str]:
    """What is good, and what is not."""
    found = list(examine(url, ()))
    return {good: "; ".join(each.text for each in found if each.good is good) for good in (True, False)}


def test_two_workers_do_what_is_submitted_through_it(pooler: PgBouncer, database: str) -> None:
    url = pooler.url(database, direct=True)
    workers = [works(url), works(url)]
    try:
        with hf.open(url, flows=flows.FLOWS) as hold:
            held = hold.submit(flows.HANGING)
            tasks = [hold.submit(flows.QUICK, {"number": number}, tag=f"t{number}") for number in range(60)]
            claimed = [hold.submit(flows.QUICK, claims=["server/one"]) for _ in range(10)]
            for number, task in enumerate(tasks):
                task.wait(timeout_s=60)
                assert (task.state, task.results["sum"]) == ("SUCCEEDED", number + 1)
            for task in claimed:
                task.wait(timeout_s=60)
                assert task.state == "SUCCEEDED"
            held.cancel()
            held.wait(timeout_s=30)
            assert held.state == "CANCELLED"
            assert {worker.poll() for worker in workers} == {None}
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait(30)
    said = doctor(url)
    assert "told past that" in said[True]
    assert "pooler" not in said[False]


def test_without_a_way_past_it_others_commits_are_seen_by_looking(pooler: PgBouncer, database: str) -> None:
    url = pooler.url(database)
    with hf.open(url, flows=flows.FLOWS) as hold, hf.open(url, flows=flows.FLOWS) as other:
        assert not other.store.hears  # type: ignore[attr-defined]
        with other.working():
            first = hold.submit(flows.QUICK)
            first.wait(timeout_s=20)
            assert first.state == "SUCCEEDED"
    assert "direct=HOST:PORT" in doctor(url)[False]


@pytest.mark.parametrize(
    ("given", "url", "direct"),
    [
        ("postgresql://h:6432/d", "postgresql://h:6432/d", None),
        ("postgresql://h:6432/d?direct=db:5433", "postgresql://h:6432/d", ("db", "5433")),
        ("postgresql://h/d?direct=a,b:2&sslmode=x", "postgresql://h/d?sslmode=x", ("a,b", "5432,2")),
        ("postgresql://h/d?sslmode=x&direct=[::1]:3", "postgresql://h/d?sslmode=x", ("::1", "3")),
    ],
)
def test_a_url_names_the_server_behind_it(given: str, url: str, direct: tuple[str, str] | None) -> None:
    wanted = None if direct is None else {"host": direct[0], "port": direct[1]}
    assert without_direct(given) == (url, wanted)


def test_a_url_that_names_it_wrongly_is_refused() -> None:
    with pytest.raises(DatabaseUrlInvalid, match="direct=HOST:PORT"):
        without_direct("postgresql://h/d?direct=a:b:c")
