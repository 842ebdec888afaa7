"""A real HTTP server on loopback that answers as a list says: what a client does over a real socket is seen here."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Answer:
    """`lost`: the connection is closed when the request has been read; `cut`: in the middle of the answer."""

    def __init__(
        self, status: int = 200, body: Any = None, *, lost: bool = False, cut: bool = False,
        kind: str = "", **headers: str,
    ) -> None:  # fmt: skip
        self.status = status
        self.data = body if isinstance(body, bytes) else json.dumps(body if body is not None else {}).encode()
        self.lost = lost
        self.cut = cut
        self.headers = {"Content-Type": kind or "application/json"}
        self.headers |= {name.replace("_", "-"): value for name, value in headers.items()}


class Peer:
    """`seen`: method, path and headers of each request, in order."""

    def __init__(self, answers: list[Answer]) -> None:
        self.answers = answers
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.url = ""
        self.mutex = threading.Lock()

    def tags(self) -> list[str | None]:
        return [headers.get("task-tag") for _, _, headers in self.seen]


@contextmanager
def serving(*answers: Answer) -> Iterator[Peer]:
    peer = Peer(list(answers))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            size = int(self.headers.get("Content-Length", 0))
            self.rfile.read(size)
            with peer.mutex:
                peer.seen.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
                answer = peer.answers.pop(0)
            if answer.lost:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.data) + (100 if answer.cut else 0)))
            self.end_headers()
            self.wfile.write(answer.data)
            self.close_connection = answer.cut or self.close_connection

        do_GET = do_POST = do_PUT = do_DELETE = _answer

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the test looks at `seen`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    peer.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield peer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
