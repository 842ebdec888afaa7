"""Holdfast: how long it takes a worker to take one task of a queue with `--queued` of them.

A thousand are asked for, and their rows copied in SQL until there are as many.
"""

from __future__ import annotations

import argparse
import statistics
import time

import psycopg

import holdfast as hf
from bench.cases.report import report
from holdfast.store.base import Tx
from holdfast.tasks import take

BASE = 1000
TAKEN = 300


@hf.step
def noop() -> None:
    return None


FLOW = hf.linear("queued", noop)


def fill(url: str, count: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        names = [each[0] for each in connection.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'tasks' AND column_name NOT IN"
            " ('id', 'uuid')"
        )]  # fmt: skip
        columns = ", ".join(names)
        copies = count // BASE - 1
        if copies > 0:
            connection.execute(
                f"INSERT INTO tasks (uuid, {columns}) SELECT gen_random_uuid()::text, {columns}"
                f" FROM tasks, generate_series(1, {copies})"
            )
        connection.execute("VACUUM ANALYZE tasks")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--queued", type=int, required=True)
    parser.add_argument("--url", required=True)
    options = parser.parse_args()
    with hf.open(options.url, flows=[FLOW]) as hold:
        for _ in range(BASE):
            hold.submit(FLOW)
        fill(options.url, options.queued)
        worker = hold.worker()
        worker.lease.register(time.time())

        def claim(tx: Tx) -> None:
            nonce = "bench"
            found = take.take(
                tx, worker.lease.id, generation=hold.store.generation, nonce=nonce, now=time.time(), limit=1,
                pool=hold.settings.pool,
            )  # fmt: skip
            assert len(found.tasks) == 1

        took = []
        for _ in range(TAKEN):
            began = time.perf_counter()
            hold.store.write(claim)
            took.append(time.perf_counter() - began)
    report(p50_s=statistics.median(took[50:]))
