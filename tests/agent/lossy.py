"""A proxy that knows which verb an answer is for: it loses the first answers of some, after the service gave them, or
gives another."""

from __future__ import annotations

import re
import socket
import threading

from tests.service.proxy import PIECE, Proxy

_LINE = re.compile(rb"^POST \S*/(\w+) HTTP/1\.1\r\n")


class Lossy(Proxy):
    """`left`: how many answers of each verb are still to be lost. `instead`: what is answered then. `asked`: the verbs
    of all requests that went through."""

    def __init__(self, upstream: str, instead: bytes = b"", **left: int) -> None:
        self.instead = instead
        self.left = left
        self.asked: list[str] = []
        self._verbs: dict[socket.socket, str] = {}
        self._counting = threading.Lock()
        super().__init__(upstream)

    def _pump(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        try:
            while data := source.recv(PIECE):
                asked = None if answers else _LINE.match(data)
                if asked is not None:
                    self._verbs[target] = asked[1].decode()  # one request at a time on a connection
                if answers and self._loses(self._verbs.get(source, "")):
                    target.sendall(self.instead)
                    break
                target.sendall(data)
                if asked is not None:
                    self.asked.append(asked[1].decode())
        except OSError:
            pass
        for each in (source, target):
            self._end(each)

    def _loses(self, verb: str) -> bool:
        with self._counting:
            if self.left.get(verb, 0) <= 0:
                return False
            self.left[verb] -= 1
            self.lost += 1
            return True
