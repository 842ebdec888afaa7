"""What the work of Holdfast costs a PostgreSQL server, and what a fleet of workers costs it that has nothing to do.

    .venv-bench/bin/python -m bench.scale cost              what a task leaves and takes, by the server's counts
    .venv-bench/bin/python -m bench.scale hosts 250 1000    so many workers, each with a pool and a host of its own
    .venv-bench/bin/python -m bench.scale bells 100 400     so many processes that are told of each commit

`hosts` runs real workers: their rows, heartbeats, looks and takings are the product's. They share the connections of a
few processes, because 1,000 hosts have 3,000 and this is one machine; what their being told costs, `bells` measures.
The paper that shows the figures: docs/operate/scale.md.
"""

from __future__ import annotations

import argparse
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

import holdfast as hf
from holdfast.clock import SYSTEM
from holdfast.runtime.choice import Runtimes
from holdfast.tasks.lease import alive
from holdfast.worker.lease import Lease
from holdfast.worker.loop import Worker
from peers.postgres import Postgres

TICKS = os.sysconf("SC_CLK_TCK")
PROCESSES = 4  # of `hosts`
SETTINGS = """
fsync = on
full_page_writes = on
autovacuum = on
shared_buffers = 256MB
max_connections = 700
shared_preload_libraries = 'pg_stat_statements'
"""
TABLES = "tasks", "journal", "steps", "feed", "tickets", "queues", "tags", "plans", "workers"


def work(n: int) -> int:
    return n + 1


ONE = hf.linear("one", hf.step(work))
TEN = hf.linear("ten", *(hf.step(work, name=f"s{n}") for n in range(10)))


class Counts(NamedTuple):
    """What the server says of itself."""

    commits: int
    statements: int
    inserted: int
    updated: int
    deleted: int
    wal_records: int
    wal_bytes: int
    full_pages: int
    cpu_s: float
    at: float

    def since(self, before: Counts) -> Counts:
        return Counts._make(now - then for now, then in zip(self, before, strict=True))


class Server:
    """A server of its own, with default durability, for as long as the `with` lasts."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self.postgres = Postgres(Path(self._directory.name) / "pg", settings=SETTINGS)
        self.version = self.postgres.version

    def __enter__(self) -> Server:
        self.postgres.start()
        self.postgres.execute("CREATE EXTENSION pg_stat_statements")
        return self

    def __exit__(self, *_: object) -> None:
        self.postgres.stop()
        self._directory.cleanup()

    def counts(self) -> Counts:
        ((commits, inserted, updated, deleted),) = self.postgres.execute(
            "SELECT sum(xact_commit), sum(tup_inserted), sum(tup_updated), sum(tup_deleted) FROM pg_stat_database"
            " WHERE datname NOT IN ('postgres', 'template1')"
        )
        ((statements,),) = self.postgres.execute(
            "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements"
            " WHERE dbid <> (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        ((records, full),) = self.postgres.execute("SELECT wal_records, wal_fpi FROM pg_stat_wal")
        ((lsn,),) = self.postgres.execute("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")
        return Counts(
            int(commits), int(statements), int(inserted), int(updated), int(deleted), int(records), int(lsn), int(full),
            self.cpu_s(), time.monotonic(),
        )  # fmt: skip

    def cpu_s(self) -> float:
        """Of all its processes, those that have ended included."""
        total = 0
        for pid in {self.postgres.pid, *self.postgres.pids()}:
            try:
                fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
            except OSError:
                continue
            total += sum(map(int, fields[11:15] if pid == self.postgres.pid else fields[11:13]))
        return total / TICKS

    def bytes_of(self, url: str) -> dict[str, int]:
        """The tables with their indexes."""
        with psycopg.connect(url) as connection:
            return {
                table: connection.execute("SELECT pg_total_relation_size(%s)", (table,)).fetchall()[0][0]
                for table in TABLES
            }


# --- cost -----------------------------------------------------------------------------------------------------------


def cost(count: int) -> None:
    print(f"{'a task':34} commits statem.  ins.  upd.  del.  WAL kB  CPU ms  kept kB")
    with Server() as server:
        for name, flow, claims, at_once in (
            ("1 step, queued with others", ONE, False, True),
            ("1 step, by itself", ONE, False, False),
            ("1 step and a claim, by itself", ONE, True, False),
            ("10 steps and a claim, by itself", TEN, True, False),
            ("10 steps and a claim, with others", TEN, True, True),
        ):
            number = count if at_once else max(50, count // 5)
            url = server.postgres.make(f"cost_{abs(hash(name)) % 10**8}")
            _do(url, flow, 20, claims, at_once)  # pages and plans are there
            kept, before = server.bytes_of(url), server.counts()
            _do(url, flow, number, claims, at_once)
            used, left = server.counts().since(before), server.bytes_of(url)
            grown = sum(left.values()) - sum(kept.values())
            print(
                f"{name:34} {used.commits / number:7.1f} {used.statements / number:7.1f} {used.inserted / number:5.1f}"
                f" {used.updated / number:5.1f} {used.deleted / number:5.1f} {used.wal_bytes / number / 1e3:7.1f}"
                f" {1e3 * used.cpu_s / number:7.2f} {grown / number / 1e3:8.1f}",
                flush=True,
            )


def _do(url: str, flow: Any, number: int, claims: bool, at_once: bool) -> None:
    """Through the front door, and then closed: a connection that ends has told all its counts."""

    def ask(hold: Any, n: int) -> Any:
        return hold.submit(flow, {"n": n}, claims=[f"thing/{n}"] if claims else ())

    with hf.open(url, flows=[ONE, TEN]) as hold:
        if at_once:
            for n in range(number):
                ask(hold, n)
            hold.work(until_idle=True)
        else:
            with hold.working():
                for n in range(number):
                    ask(hold, n).wait(60)


# --- hosts ----------------------------------------------------------------------------------------------------------


def hosts(numbers: list[int], seconds: float, rate: float) -> None:
    print("hosts  asked/s  statem./s  commits/s  WAL kB/s  server's CPU %  of it a host, ms/s  workers' CPU %")
    with Server() as server:
        for number in numbers:
            url = server.postgres.make(f"hosts_{number}")
            with hf.open(url, flows=[ONE]) as hold:
                _crowd(url, number)
                children = _fleet(url, number)
                try:
                    _settle(hold, number)
                    pids = [child.pid for child in children]
                    for asked in (0.0, rate) if rate else (0.0,):
                        before, own = server.counts(), _cpu_s(pids)
                        _ask(hold, number, asked, seconds)
                        used = server.counts().since(before)
                        own = _cpu_s(pids) - own
                        each = 1e3 * used.cpu_s / used.at / max(1, number)
                        print(
                            f"{number:5} {asked:8.0f} {used.statements / used.at:10.0f} {used.commits / used.at:10.1f}"
                            f" {used.wal_bytes / used.at / 1e3:9.1f} {100 * used.cpu_s / used.at:15.1f} {each:19.3f}"
                            f" {100 * own / used.at:15.1f}",
                            flush=True,
                        )
                finally:
                    for child in children:
                        child.terminate()
                    for child in children:
                        child.wait()


def _fleet(url: str, number: int) -> list[subprocess.Popen[bytes]]:
    each = -(-number // PROCESSES)
    return [
        subprocess.Popen([sys.executable, "-m", "bench.scale", "some", url, str(first), str(min(first + each, number))])
        for first in range(0, number, each)
    ]


def _crowd(url: str, number: int) -> None:
    """A row for each process that there would be: how often one is told goes by how many there are."""
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO writers (id, number, fence, at)"
            " SELECT 'host' || n, 0, 0, extract(epoch FROM now()) + 86400 FROM generate_series(1, %s) AS n",
            (max(0, number - PROCESSES),),
        )


def _settle(hold: Any, number: int) -> None:
    pause, end = threading.Event(), time.monotonic() + 60 + number / 2
    while len(hold.store.read(alive)) < number:
        assert time.monotonic() < end, "not all of the workers came"
        pause.wait(0.5)
    pause.wait(10.0)


def _ask(hold: Any, number: int, rate: float, seconds: float) -> None:
    """Tasks for one pool after the other, so many a second."""
    pause, began, n = threading.Event(), time.monotonic(), 0
    while (left := began + seconds - time.monotonic()) > 0:
        if not rate:
            pause.wait(left)
            return
        hold.submit(ONE, {"n": n}, pool=f"hv{n * 37 % number}")
        n += 1
        pause.wait(max(0.0, began + n / rate - time.monotonic()))


def _cpu_s(pids: list[int]) -> float:
    found = (Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split() for pid in pids)
    return sum(int(fields[11]) + int(fields[12]) for fields in found) / TICKS


def some(url: str, first: int, end: int) -> None:
    """One process's share of the hosts, until it is ended. What `Holdfast.worker` does, of another host each."""
    pause = threading.Event()
    with hf.open(url, flows=[ONE]) as hold:
        each_s = hold.settings.heartbeat_s / max(1, end - first)  # their heartbeats are spread
        for n in range(first, end):
            lease = Lease(hold.store, SYSTEM, hold.settings, f"hv{n}", host=f"host{n}")
            runtimes = Runtimes("threads", workers_max=2, inherit=(), value_bytes_max=hold.settings.value_bytes_max)
            worker = Worker(
                hold.store, runtimes, clock=SYSTEM, settings=hold.settings, flows=hold.flows, pool=f"hv{n}", lease=lease
            )
            hold._workers.append(worker)  # it is told of what others commit, as a host's own would be
            threading.Thread(target=worker.run, daemon=True).start()
            pause.wait(each_s)
        pause.wait()


# --- bells ----------------------------------------------------------------------------------------------------------


def bells(numbers: list[int], seconds: float) -> None:
    print("listeners  NOTIFY/s  server's CPU %  of one who is told, us")
    with Server() as server:
        url = server.postgres.make("bells")
        for number in numbers:
            some = [psycopg.connect(url, autocommit=True) for _ in range(number)]
            for each in some:
                each.execute("LISTEN holdfast")
            told, stop = [0], threading.Event()
            hearing = threading.Thread(target=_hear, args=(some, told, stop))
            hearing.start()
            with psycopg.connect(url, autocommit=True) as bell:
                before = server.counts()
                rings = _every(0.05, seconds, lambda bell=bell: bell.execute("NOTIFY holdfast"))  # type: ignore[misc]
                used = server.counts().since(before)
            stop.set()
            hearing.join()
            for each in some:
                each.close()
            print(
                f"{number:9} {rings / used.at:9.1f} {100 * used.cpu_s / used.at:15.1f}"
                f" {1e6 * used.cpu_s / max(1, rings * number):23.1f}",
                flush=True,
            )


def _hear(some: list[Any], told: list[int], stop: threading.Event) -> None:
    poll = select.poll()
    by_fd = {each.fileno(): each for each in some}
    for fd in by_fd:
        poll.register(fd, select.POLLIN)
    while not stop.is_set():
        for fd, _ in poll.poll(100):
            told[0] += len(list(by_fd[fd].notifies(timeout=0)))


def _every(pause_s: float, seconds: float, do: Callable[[], object]) -> int:
    pause, began, n = threading.Event(), time.monotonic(), 0
    while time.monotonic() < began + seconds:
        do()
        n += 1
        pause.wait(max(0.0, began + n * pause_s - time.monotonic()))
    return n


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("cost", "hosts", "bells", "some"))
    parser.add_argument("rest", nargs="*")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=0.0, help="hosts: tasks a second, in a second measurement")
    options = parser.parse_args()
    if options.what == "cost":
        cost(options.count)
    elif options.what == "some":
        some(options.rest[0], int(options.rest[1]), int(options.rest[2]))
    elif options.what == "bells":
        bells([int(each) for each in options.rest], options.seconds)
    else:
        hosts([int(each) for each in options.rest], options.seconds, options.rate)
