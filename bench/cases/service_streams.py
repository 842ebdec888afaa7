"""Event streams: from a change's request to its arrival on the last of `--streams` streams, which one process holds."""

from __future__ import annotations

import argparse
import asyncio
import resource
import statistics
import time
from pathlib import Path

from bench import load, service
from bench.cases.report import report

CHANGES = 20
REQUEST = b"GET /v3/events?type=task.state HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"


async def arrivals(port: int, streams: int) -> list[float]:
    """Of each change, how long it took to all."""
    opened = []
    for _ in range(streams):
        reader, writer = await asyncio.open_connection(service.HOST, port)
        writer.write(REQUEST)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        opened.append((reader, writer))
    asker, ask = await asyncio.open_connection(service.HOST, port)
    found = []
    for number in range(CHANGES):
        waiting = [asyncio.create_task(_next_event(reader)) for reader, _ in opened]
        await asyncio.sleep(0.2)  # until nothing else is on its way
        began = time.perf_counter()
        ask.write(load.request("POST", "/v3/servers", {"server": {"name": f"s{number}"}}))
        await asyncio.gather(*waiting)
        found.append(time.perf_counter() - began)
        await load.answer(asker)
    for _, writer in (*opened, (asker, ask)):
        writer.close()
    return found


async def _next_event(reader: asyncio.StreamReader) -> None:
    while not (await reader.readline()).startswith(b"data:"):
        pass


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--streams", type=int, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, options.streams + 256), hard))
    with service.holdfast(options.directory / "holdfast.db", "--no-worker") as port:
        found = asyncio.run(arrivals(port, options.streams))
    report(streams=options.streams, median_s=statistics.median(found), worst_s=max(found))
