"""A real TCP proxy on loopback between a client and a service, which loses answers after the service gave them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

PIECE = 65536
PATIENCE_S = 10.0


class Proxy:
    """`lose`: so many answers are kept from the client: the service has given each when its connection is cut.
    `cut`: so many connections are cut after the first bytes of the answer. `lost`: how many it were."""

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname or "", parts.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._mutex = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.lose = 0
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
            far = socket.create_connection(self._upstream)
            with self._mutex:
                self._open |= {near, far}
            self._threads += [self._run(self._pump, near, far, False), self._run(self._pump, far, near, True)]

    def _pump(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        try:
            while data := source.recv(PIECE):
                if answers and self._takes("lose"):
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
def between(upstream: str) -> Iterator[Proxy]:
    proxy = Proxy(upstream)
    try:
        yield proxy
    finally:
        proxy.close()
