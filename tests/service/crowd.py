"""Connections by the thousand, from a process of its own: a process may not open as many files for both ends.

    python -m tests.service.crowd HOST PORT half|stream NUMBER

half: each begins a request and does not end it. stream: each listens to all events. Says `ready` once all are there;
for each word on its standard input one line: `heard` how many streams have heard an event since the last time, and how
long it took from the first that did to the last; `ended` how many were closed by the other end.
"""

from __future__ import annotations

import resource
import selectors
import socket
import sys
import time

HALF = b"POST /v3/tasks HTTP/1.1\r\nHost: localhost\r\nX-Half: "
STREAM = (
    b"GET /v3/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nX-Project-Id: default\r\n"
    b"X-Roles: member\r\n\r\n"
)
AT_ONCE = 200  # connections that are on their way


class Crowd:
    def __init__(self, address: tuple[str, int], what: str, number: int) -> None:
        self._address = address
        self._says = STREAM if what == "stream" else HALF
        self._selector = selectors.DefaultSelector()
        self._open: set[socket.socket] = set()
        self.ended = 0
        self._events: dict[socket.socket, float] = {}
        for begun in range(0, number, AT_ONCE):
            self._come(min(AT_ONCE, number - begun))
        if what == "stream":  # until each has heard that it listens
            self._heard: set[socket.socket] = set()
            while len(self._heard) < number - self.ended:
                self.turn(1.0)
            self._events.clear()

    def _come(self, number: int) -> None:
        for _ in range(number):
            made = socket.create_connection(self._address, timeout=60)
            made.sendall(self._says)
            made.setblocking(False)
            self._selector.register(made, selectors.EVENT_READ)
            self._open.add(made)

    def turn(self, timeout_s: float) -> None:
        """Hear what has come."""
        for key, _ in self._selector.select(timeout_s):
            each = key.fileobj
            assert isinstance(each, socket.socket)
            try:
                data = each.recv(65_536)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                self._selector.unregister(each)
                self._open.discard(each)
                each.close()
                self.ended += 1
            if self._says == STREAM:
                if b"retry:" in data:
                    self._heard.add(each)
                if b"event: task.state" in data:
                    self._events.setdefault(each, time.monotonic())

    def heard(self) -> str:
        end = time.monotonic() + 30
        while len(self._events) < len(self._open) and time.monotonic() < end:
            self.turn(0.1)
        times = sorted(self._events.values())
        self._events.clear()
        return f"{len(times)} {times[-1] - times[0] if times else 0:.3f}"

    def ends(self) -> str:
        end = time.monotonic() + 30
        while self._open and time.monotonic() < end:
            self.turn(0.1)
        return str(self.ended)


def main(host: str, port: str, what: str, number: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = int(number) + 64
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard < 0 else min(wanted, hard), hard))
    crowd = Crowd((host, int(port)), what, int(number))
    print("ready", flush=True)
    for line in sys.stdin:
        print(crowd.heard() if line.strip() == "heard" else crowd.ends(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
