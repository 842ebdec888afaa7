"""A power strip with one outlet, as a peer: JSON over HTTP with a user and a password. It can switch on and off, and
that is all it can.

    GET  /outlets/1                    -> {"state": "on"}
    PUT  /outlets/1  {"state": "off"}  -> {"state": "off"}

    with outlet(tmp_path) as peer:
        peer.driver_info, peer.power, peer.log(), peer.hang()

    python -m peers.outlet DIRECTORY      # prints its port

Its switches, beside those of chassis.py: `fail` is the error that it answers, `garbage` has it answer what is no JSON,
and `drip` one byte at a time, with a pause of that many seconds.
"""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from peers import chassis
from peers.chassis import Chassis, Peer

_USER: Final = "admin"
_PASSWORD: Final = "outlet-pass-4711"


class _Outlet(BaseHTTPRequestHandler):
    machine: Chassis

    def do_GET(self) -> None:
        if self._is_let_in():
            self.machine.note(chassis.READ)
            self._answer(200, self._state())

    def do_PUT(self) -> None:
        said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self._is_let_in():
            command = f"power {said['state']}"
            self.machine.note(command)
            if self.machine.switch("fail") is None:
                self.machine.obey(command)
            if self.machine.switch("mute") is not None:
                signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # this thread, before it goes on
            self._answer(200, self._state())

    def _state(self) -> Any:
        return {"state": self.machine.power.removeprefix("power ")}

    def _is_let_in(self) -> bool:
        threading.Event().wait(float(self.machine.switch("slow") or 0))
        login = base64.b64encode(f"{_USER}:{_PASSWORD}".encode()).decode()
        if self.headers["Authorization"] == f"Basic {login}":
            return True
        self._answer(401, {"error": "who are you?"})
        return False

    def _answer(self, status: int, said: Any) -> None:
        fail = self.machine.switch("fail")
        if fail is not None and status == 200:
            status, said = 500, {"error": fail}
        text = b"<html>" if self.machine.switch("garbage") is not None else json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        pause_s = self.machine.switch("drip")
        if pause_s is None:
            self.wfile.write(text)
            return
        for byte in text:
            threading.Event().wait(float(pause_s))
            self.wfile.write(bytes((byte,)))

    def log_message(self, format: str, *args: Any) -> None:
        """Its log is the machine's."""


@contextmanager
def outlet(directory: Path) -> Iterator[Peer]:
    """A power strip whose outlet is off, in `directory`, which is made if it is not there."""
    directory.mkdir(parents=True, exist_ok=True)
    process = chassis.start(
        [sys.executable, "-m", "peers.outlet", str(directory)], cwd=Path(__file__).parents[1], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        peer = Peer(
            directory, {"address": "127.0.0.1", "port": port, "outlet": 1, "username": _USER, "password": _PASSWORD}
        )
        peer.pid = process.pid
        yield peer
    finally:
        chassis.end(process)


if __name__ == "__main__":
    _Outlet.machine = Chassis(Path(sys.argv[1]))
    served = ThreadingHTTPServer(("127.0.0.1", 0), _Outlet)
    print(served.server_port, flush=True)
    served.serve_forever()
