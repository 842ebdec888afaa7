"""An HTTP/1.1 client that does nothing but keep connections busy, so that the server is what is measured.

Requests are bytes made before the clock starts; an answer is read to its end and only its status is looked at. Run it
in a process of its own (`run_apart`): the machine has two cores, and the server shall have one of them to itself.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import time
from collections.abc import Sequence
from typing import Any, NamedTuple


class Load(NamedTuple):
    """`seconds`: from the first request to the last answer. `latencies_s`: of every request, as they ended."""

    seconds: float
    latencies_s: list[float]
    statuses: dict[int, int]

    @property
    def rate(self) -> float:
        return len(self.latencies_s) / self.seconds

    def at(self, share: float) -> float:
        """The latency that `share` of the requests stayed below."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def request(method: str, path: str, body: Any = None, headers: Sequence[tuple[str, str]] = ()) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(content)}"]
    if content:
        lines.append("Content-Type: application/json")
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


async def answer(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head[9:12])
    lower = head.lower()
    at = lower.find(b"content-length:")
    if at >= 0:
        await reader.readexactly(int(lower[at + 15 : lower.index(b"\r\n", at)]))
        return status
    if b"transfer-encoding: chunked" in lower:
        while size := int((await reader.readline()).split(b";")[0], 16):
            await reader.readexactly(size + 2)
        await reader.readline()
    return status


async def _one(host: str, port: int, todo: list[bytes], load: Load) -> None:
    reader, writer = await asyncio.open_connection(host, port, limit=1 << 20)
    while todo:
        writer.write(todo.pop())
        began = time.perf_counter()
        status = await answer(reader)
        load.latencies_s.append(time.perf_counter() - began)
        load.statuses[status] = load.statuses.get(status, 0) + 1
    writer.close()


async def _all(host: str, port: int, requests: Sequence[bytes], connections: int) -> Load:
    todo = list(reversed(requests))
    load = Load(0.0, [], {})
    began = time.perf_counter()
    await asyncio.gather(*(_one(host, port, todo, load) for _ in range(connections)))
    return load._replace(seconds=time.perf_counter() - began)


def run(host: str, port: int, requests: Sequence[bytes], connections: int) -> Load:
    """Send all, each connection one after the other, and wait for every answer."""
    return asyncio.run(_all(host, port, requests, connections))


def run_apart(host: str, port: int, requests: Sequence[bytes], connections: int) -> Load:
    """`run`, in another process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(run, (host, port, list(requests), connections))
