"""Admission on one resource: POSTs of one connection, on a resource with `--queued` tasks in its queue.

`--prepare` fills the queue over HTTP. Nothing is done meanwhile (`--no-worker`), so it stays as long as it is.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bench import load, service
from bench.cases.report import report


def reboots(server: str, count: int) -> list[bytes]:
    return [load.request("POST", f"/v3/servers/{server}/action", {"reboot": {"type": "SOFT"}})] * count


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--queued", type=int, required=True)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--prepare", action="store_true")
    options = parser.parse_args()
    with service.holdfast(options.directory / "holdfast.db", "--no-worker") as port:
        if options.prepare:
            made = load.run(service.HOST, port, [load.request("POST", "/v3/servers", {"server": {"name": "one"}})], 1)
            assert made.statuses == {202: 1}, made.statuses
        (server,) = service.ids(port)
        count = options.queued if options.prepare else options.requests
        asked = reboots(server, max(1, count))
        done = load.run_apart(service.HOST, port, asked, 16 if options.prepare else 1)
        assert done.statuses == {202: len(asked)}, done.statuses
        queue = service.get(port, f"/v3/resources/server/{server}")["resource"]["queue_length"]
        assert queue >= options.queued, queue
    report(requests=count, wall_s=done.seconds, p50_s=done.at(0.5))
