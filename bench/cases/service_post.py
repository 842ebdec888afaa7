"""POSTs that are accepted durably, 32 connections; the web stack's constant answer; the same rows by bare sqlite3.

`--who holdfast` sends requests that each make a resource and its task to `holdfast serve --no-worker` (accepting is
measured, not doing), and leaves its database behind. `--who constant` sends the same requests to bench/constant.py.
`--who sqlite` copies the rows that the first left, table by table and 32 tasks to a commit, into an empty database of
the same schema: what the disk and SQLite allow for these rows.
"""

from __future__ import annotations

import argparse
import sqlite3
from pathlib import Path
from typing import Any

from bench import load, service
from bench.cases.report import Stopwatch, report

CONNECTIONS = 32
AT_ONCE = 32  # tasks to a commit of bare sqlite3


def requests(count: int, path: str, first: int = 0) -> list[bytes]:
    return [
        load.request("POST", path, {"task": "create", "resource": {"server": None}, "params": {"name": f"s{number}"}})
        for number in range(first, first + count)
    ]


def measure(port: int, path: str, count: int) -> load.Load:
    load.run_apart(service.HOST, port, requests(64, path), CONNECTIONS)  # loads what is loaded late
    done = load.run_apart(service.HOST, port, requests(count, path, 64), CONNECTIONS)
    assert done.statuses == {202: count}, done.statuses
    return done


def rows_of(database: sqlite3.Connection) -> dict[str, list[Any]]:
    tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {
        table: database.execute(f'SELECT * FROM "{table}"').fetchall()
        for table in tables
        if not table.startswith("sqlite_") and table not in ("alembic_version", "store_info", "workers")
    }


def copy(directory: Path, count: int) -> None:
    """Time the rows of holdfast.db, written again."""
    with sqlite3.connect(directory / "holdfast.db") as source:
        schema = [sql for (sql,) in source.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")]
        rows = rows_of(source)
    target = sqlite3.connect(directory / "copy.db", isolation_level=None)
    target.execute("PRAGMA journal_mode=WAL")
    target.execute("PRAGMA synchronous=FULL")
    for sql in schema:
        if "sqlite_sequence" not in sql:
            target.execute(sql)
    commits = -(-count // AT_ONCE)
    inserts = {
        table: f'INSERT INTO "{table}" VALUES ({", ".join("?" * len(found[0]))})'
        for table, found in rows.items()
        if found
    }
    with Stopwatch() as watch:
        for commit in range(commits):
            target.execute("BEGIN IMMEDIATE")
            for table, insert in inserts.items():
                found = rows[table]
                target.executemany(insert, found[len(found) * commit // commits : len(found) * (commit + 1) // commits])
            target.execute("COMMIT")
    report(requests=count, wall_s=watch.wall_s)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--who", choices=["holdfast", "constant", "sqlite"], required=True)
    parser.add_argument("--requests", type=int, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    options = parser.parse_args()
    if options.who == "constant":
        with service.constant() as port:
            done = measure(port, "/tasks", options.requests)
    else:
        with service.holdfast(options.directory / "holdfast.db", "--no-worker") as port:
            done = measure(port, "/v3/tasks", options.requests)
    if options.who == "sqlite":
        copy(options.directory, options.requests)
    else:
        report(requests=options.requests, wall_s=done.seconds, p50_s=done.at(0.5), p99_s=done.at(0.99))
