"""Bare PostgreSQL: one-row inserts of one connection, each committed by itself. No engine can commit a step faster."""

from __future__ import annotations

import argparse

import psycopg

from bench.cases.report import Stopwatch, report

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--url", required=True)
    options = parser.parse_args()
    row = '{"state": "SUCCEEDED", "result": null}'
    with psycopg.connect(options.url, autocommit=True, prepare_threshold=0) as connection:
        connection.execute("CREATE TABLE steps (seq bigint PRIMARY KEY, data text)")
        settings = [connection.execute(f"SHOW {name}").fetchone() for name in ("fsync", "synchronous_commit")]
        assert settings == [("on",), ("on",)], settings
        cursor = connection.cursor()
        for number in range(20):
            cursor.execute("INSERT INTO steps VALUES (%s, %s)", (-1 - number, row))
        with Stopwatch() as watch:
            for number in range(options.steps):
                cursor.execute("INSERT INTO steps VALUES (%s, %s)", (number, row))
        assert cursor.execute("SELECT count(*) FROM steps").fetchone() == (options.steps + 20,)
    report(steps=options.steps, wall_s=watch.wall_s, cpu_s=watch.cpu_s)
