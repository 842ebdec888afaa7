"""DBOS: a backlog of one-step workflows in a queue, drained by one process; from the first of them on."""

from __future__ import annotations

import argparse
import threading
import time

from dbos import DBOS, DBOSClient, DBOSConfig

from bench.cases.report import report

QUEUE = "drained"
PATIENCE_S = 600.0
lock = threading.Lock()
count = 0
began = ended = 0.0


@DBOS.step()  # type: ignore[untyped-decorator]
def step() -> None:
    return None


@DBOS.workflow()  # type: ignore[untyped-decorator]
def workflow() -> None:
    global began, count, ended
    with lock:
        began = began or time.perf_counter()
    step()
    with lock:
        count += 1
        ended = time.perf_counter()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, required=True)
    parser.add_argument("--url", required=True)
    options = parser.parse_args()
    config: DBOSConfig = {"name": "bench", "system_database_url": options.url, "log_level": "ERROR"}
    DBOS(config=config)
    DBOS.launch()
    version = DBOS.application_version
    DBOS.destroy()
    client = DBOSClient(system_database_url=options.url)
    client.register_queue(QUEUE)
    for _ in range(options.tasks):
        client.enqueue({"queue_name": QUEUE, "workflow_name": workflow.__qualname__, "app_version": version})
    client.destroy()
    DBOS(config=config)
    DBOS.launch()
    try:
        until = time.monotonic() + PATIENCE_S
        while count < options.tasks:
            assert time.monotonic() < until, count
            time.sleep(0.05)
    finally:
        DBOS.destroy()
    report(steps=options.tasks, wall_s=ended - began)
