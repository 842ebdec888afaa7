"""Bare sqlite3: how fast this disk takes one row at a time. No engine can commit a step faster than this."""

from __future__ import annotations

import argparse
import sqlite3
from pathlib import Path

from bench.cases.report import Stopwatch, report

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    options = parser.parse_args()
    connection = sqlite3.connect(options.directory / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    connection.execute("CREATE TABLE steps (seq INTEGER PRIMARY KEY, data TEXT)")
    row = '{"state": "SUCCEEDED", "result": null}'
    with Stopwatch() as watch:
        for number in range(options.steps):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO steps VALUES (?, ?)", (number, row))
            connection.execute("COMMIT")
    assert connection.execute("SELECT count(*) FROM steps").fetchone() == (options.steps,)
    report(steps=options.steps, wall_s=watch.wall_s, cpu_s=watch.cpu_s)
