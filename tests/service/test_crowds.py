"""Crowds: thousands of connections that are slow or half open, and as many streams as there are screens in a control
room. Others are still served, the memory has an end, and SIGTERM is heeded in time.

They are as large as the contract says, where a process may open as many files; HOLDFAST_TEST_CONNECTIONS and
HOLDFAST_TEST_STREAMS say otherwise.
"""

from __future__ import annotations

import resource
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.forked import Forked
from tests.service.conftest import ROOT, MakeServed, Served
from tests.service.storms import Line, size
from tests.service.test_serve import address

FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
IS_ROOMY = FILES == resource.RLIM_INFINITY or FILES > 13_000
CONNECTIONS = size("CONNECTIONS", 10_000 if IS_ROOMY else 1000)
STREAMS = size("STREAMS", 1000 if IS_ROOMY else 200)
NEVER_END = 250
#: What a connection that waits may take of the service's memory, and what one that listens may.
HALF_KIB = 32
STREAM_KIB = 64
BESIDE_KIB = 32 * 1024


class Crowd:
    """Connections that another process holds."""

    def __init__(self, served: Served, what: str, number: int) -> None:
        host, port = address(served.url)
        self.process = Forked(
            "tests.service.crowd", host, str(port), what, str(number),
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._says() == "ready"

    def _says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip()

    def ask(self, word: str) -> list[str]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        return self._says().split()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.close()


@contextmanager
def crowd(served: Served, what: str, number: int) -> Iterator[Crowd]:
    made = Crowd(served, what, number)
    try:
        yield made
    finally:
        made.close()


def memory_kib(served: Served) -> int:
    lines = Path(f"/proc/{served.process.pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def slowest(line: Line, times: int) -> float:
    """Of so many tasks that are asked for and looked at, how long the slowest request took."""
    took = 0.0
    for _ in range(times):
        for method, path, body in (("POST", "/v3/tasks", {"task": "quick"}), ("GET", "/v3/tasks?limit=10", None)):
            began = time.monotonic()
            answer = line.ask(method, path, body)
            took = max(took, time.monotonic() - began)
            assert answer.status in (200, 202), answer
    return took


@pytest.mark.timeout(300)
@pytest.mark.requirement("TF-7")
def test_thousands_of_half_open_connections_and_hundreds_of_streams_stop_nobody(make_served: MakeServed) -> None:
    served = make_served(request_timeout_s="120")
    line = Line(served.url)
    slowest(line, 5)
    alone = memory_kib(served)
    with crowd(served, "half", CONNECTIONS):
        among = slowest(line, 20)
        of_half = memory_kib(served) - alone
        with crowd(served, "stream", STREAMS) as listening:
            asked = line.ask("POST", "/v3/tasks", {"task": "quick"})
            assert asked.status == 202
            heard, spread = listening.ask("heard")
            among_streams = slowest(line, 10)
            of_streams = memory_kib(served) - alone - of_half
            line.close()
            took = served.terminate()
            ended = listening.ask("ends")
    print(
        f"{CONNECTIONS} half open: {of_half} KiB, slowest request {among:.3f} s; {STREAMS} streams: {of_streams} KiB,"
        f" slowest {among_streams:.3f} s, one change on all within {spread} s of the first; SIGTERM {took:.2f} s"
    )
    assert served.process.returncode == 0
    assert (int(heard), ended) == (STREAMS, [str(STREAMS)])
    assert max(among, among_streams) < 5
    assert of_half < BESIDE_KIB + HALF_KIB * CONNECTIONS
    assert of_streams < BESIDE_KIB + STREAM_KIB * STREAMS
    assert took < 5


def test_who_never_ends_his_request_is_let_go_and_leaves_no_memory(make_served: MakeServed) -> None:
    """Crowd after crowd: what one took the next one takes again."""
    served = make_served(request_timeout_s="0.5")
    sizes = []
    for _ in range(4):
        with crowd(served, "half", NEVER_END) as come:
            assert come.ask("ends") == [str(NEVER_END)]
        line = Line(served.url)  # an older one would lie idle for too long
        assert slowest(line, 5) < 5
        line.close()
        sizes.append(memory_kib(served))
    assert sizes[-1] - sizes[0] < 8 * 1024, sizes


def deaf(served: Served, number: int) -> list[socket.socket]:
    """Connections that ask for much again and again, and take nothing of it."""
    made = []
    for _ in range(number):
        each = socket.socket()
        each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        each.connect(address(served.url))
        each.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 200)
        made.append(each)
    return made


def files(served: Served) -> int:
    return len(list(Path(f"/proc/{served.process.pid}/fd").iterdir()))


def test_who_does_not_read_what_he_asked_for_is_cut_off(make_served: MakeServed) -> None:
    served = make_served(request_timeout_s="2")
    line = Line(served.url)
    assert slowest(line, 1) < 5
    line.close()
    before = files(served)
    there = deaf(served, 20)
    end = time.monotonic() + 30
    while files(served) < before + 10:
        assert time.monotonic() < end, "they have not come in"
        threading.Event().wait(0.01)
    while files(served) > before + 5:
        assert time.monotonic() < end, f"{files(served)} files are open, {before} were"
        line = Line(served.url)
        assert slowest(line, 1) < 5
        line.close()
    for each in there:
        each.close()


def test_who_does_not_read_does_not_keep_it_from_stopping(make_served: MakeServed) -> None:
    served = make_served(request_timeout_s="120", stop_s="8")
    there = deaf(served, 20)
    line = Line(served.url)
    assert slowest(line, 2) < 5
    line.close()
    assert served.terminate() < 5
    assert served.process.returncode == 0
    for each in there:
        each.close()
