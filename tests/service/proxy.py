"""A real TCP proxy on loopback between a client and services, which loses answers after a service gave them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import cycle
from urllib.parse import urlsplit

PIECE = 65536
PATIENCE_S = 10.0
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Proxy:
    """`lose`: so many answers are kept from the client: the service has given each when its connection is cut.
    `busy`: so many are replaced by a 503. `cut`: so many connections are cut after the first bytes of the answer.
    `lost`: how many it were. Connections go to the services in turn."""

    def __init__(self, *upstreams: str) -> None:
        self._upstreams = cycle([(parts.hostname or "", parts.port or 80) for parts in map(urlsplit, upstreams)])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._mutex = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.lose = 0
        self.busy = 0
        self.cut = 0
        self.lost = 0
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._accepting = self._run(self._accept)

    def _run(self, work: object, *args: object) -> threading.Thread:
        thread = threading.Thread(target=work, args=args, daemon=True)  # type: ignore[arg-type]
        thread.start()
        return thread

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(next(self._upstreams))
            with self._mutex:
                self._open |= {near, far}
            self._threads += [self._run(self._pump, near, far, False), self._run(self._pump, far, near, True)]

    def _pump(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        try:
            while data := source.recv(PIECE):
                if answers and self._takes("lose"):
                    break
                if answers and self._takes("busy"):
                    target.sendall(BUSY)
                    break
                target.sendall(data)
                if answers and self._takes("cut"):
                    break
        except OSError:
            pass
        for each in (source, target):
            self._end(each)

    def _takes(self, what: str) -> bool:
        with self._mutex:
            left = getattr(self, what)
            if left <= 0:
                return False
            setattr(self, what, left - 1)
            self.lost += 1
            return True

    def _end(self, each: socket.socket) -> None:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join(PATIENCE_S)
        with self._mutex:
            found = list(self._open)
        for each in found:
            self._end(each)
        for thread in self._threads:
            thread.join(PATIENCE_S)
        for each in found:
            each.close()


@contextmanager
def between(*upstreams: str) -> Iterator[Proxy]:
    proxy = Proxy(*upstreams)
    try:
        yield proxy
    finally:
        proxy.close()
