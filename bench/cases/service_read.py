"""GETs of one connection: one task, a list of 50; and what the web stack needs for a constant.

`--prepare` makes a database with `--tasks` tasks: 1,000 are asked for over HTTP, and their rows are copied in SQL, each
with a resource, a uuid and a tag of its own, until there are as many. Half of the copies have ended, some have failed.
"""

from __future__ import annotations

import argparse
import sqlite3
from pathlib import Path

from bench import load, service
from bench.cases.report import report

BASE = 1_000  # tasks asked for
SERVERS = 10  # that they are for
SEED = "00000000-0000-7000-8000-%012d"
#: Columns of `tasks` that are one's own.
OWN = {"id", "uuid", "resource_id", "tag", "state", "hold", "finished_at", "expires_at", "due_at", "ready", "effect"}


def make(directory: Path, count: int, *, ended_at: float | None = None, expires_at: float | None = None) -> None:
    """The database. `ended_at`: all copies have ended then, and may be purged after `expires_at`."""
    path = directory / "holdfast.db"
    with service.holdfast(path, "--no-worker") as port:
        made = load.run(service.HOST, port, [_create(number) for number in range(SERVERS)], 1)
        assert made.statuses == {202: SERVERS}, made.statuses
        ids = service.ids(port)
        asked = [_reboot(ids[number % SERVERS], number) for number in range(BASE - SERVERS)]
        assert load.run(service.HOST, port, asked, 8).statuses == {202: BASE - SERVERS}
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA synchronous=OFF")
        columns = [name for _, name, *_ in database.execute("PRAGMA table_info(tasks)")]
        kept = ", ".join(name for name in columns if name not in OWN)
        ended = "1" if ended_at is not None else "n % 2"
        (base,) = database.execute("SELECT max(id) FROM tasks").fetchone()
        for copy in range(1, -(-count // base)):
            shift = copy * base
            database.execute(
                f"INSERT INTO tasks (id, uuid, resource_id, tag, state, hold, finished_at, expires_at, due_at, ready,"
                f" effect, {kept}) SELECT id + {shift}, printf('{SEED}', id + {shift}), resource_id || '-{copy}',"
                f" tag || '-{copy}', CASE WHEN NOT {ended} THEN 'SUSPENDED' WHEN n % 100 = 1 THEN 'FAILED' ELSE"
                f" 'SUCCEEDED' END, CASE WHEN NOT {ended} THEN 'pending' END,"
                f" CASE WHEN {ended} THEN {ended_at or 'updated_at'} END, CASE WHEN {ended} THEN"
                f" {expires_at or 'updated_at + 1e9'} END, NULL, 0, 'applied', {kept}"
                f" FROM (SELECT *, id + {shift} AS n FROM tasks WHERE id <= {base})"
            )
            database.execute(
                f"INSERT INTO inputs SELECT task + {shift}, inputs, claims FROM inputs WHERE task <= {base}"
            )
        database.execute("ANALYZE")


def _create(number: int) -> bytes:
    return load.request("POST", "/v3/servers", {"server": {"name": f"s{number}"}})


def _reboot(server: str, number: int) -> bytes:
    return load.request(
        "POST", f"/v3/servers/{server}/action", {"reboot": {"type": "SOFT"}}, [("Task-tag", f"tag-{number}")]
    )


def paths(port: int) -> dict[str, str]:
    first = service.ids(port)[0]
    (task,) = service.get(port, f"/v3/servers/{first}/tasks?limit=1")["tasks"]
    return {
        "task": f"/v3/tasks/{task['uuid']}",
        "resource": f"/v3/tasks?resource_id={first}",
        "state": "/v3/tasks?state=pending,suspended",
        "tag": "/v3/tasks?tag=tag-7",
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--who", choices=["holdfast", "constant"], default="holdfast")
    parser.add_argument("--tasks", type=int, default=BASE)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--prepare", action="store_true")
    options = parser.parse_args()
    if options.prepare:
        make(options.directory, options.tasks)
        report(tasks=options.tasks)
    elif options.who == "constant":
        with service.constant() as port:
            asked = [load.request("GET", "/task")] * options.requests
            load.run_apart(service.HOST, port, asked[:100], 1)
            report(p50_s=load.run_apart(service.HOST, port, asked, 1).at(0.5))
    else:
        with service.holdfast(options.directory / "holdfast.db", "--no-worker") as port:
            found = {}
            for name, path in paths(port).items():
                asked = [load.request("GET", path)] * options.requests
                load.run_apart(service.HOST, port, asked[:100], 1)
                done = load.run_apart(service.HOST, port, asked, 1)
                assert done.statuses == {200: options.requests}, (path, done.statuses)
                found[f"{name}_p50_s"] = done.at(0.5)
        report(**found)
