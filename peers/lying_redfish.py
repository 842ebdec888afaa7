"""A Redfish BMC as it should not be: a server of our own, which lies as it is told and keeps a log of what it heard.

    with lying_redfish(tmp_path) as peer:
        peer.lie(reset="lose_reply")
        peer.driver_info, peer.power, peer.log(), peer.heard(), peer.stop(), peer.start()

Its machine is real enough to be controlled: it is on or off, its guest shuts down when it is asked to (or not:
`deaf`), and it stays as it is while the BMC restarts; tasks and sessions are gone then. What the lies are: `LIES`.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from peers.chassis import NMI, OFF, ON, SOFT_OFF, Peer
from peers.credentials import Credentials, make
from peers.knobs import put
from peers.redfish_bmc import serving

SYSTEM = "/redfish/v1/Systems/1"
ACTION = f"{SYSTEM}/Actions/ComputerSystem.Reset"
SESSIONS = "/redfish/v1/SessionService/Sessions"
MONITORS = "/redfish/v1/TaskService/TaskMonitors/"
WORDS = {"On": ON, "ForceOff": OFF, "GracefulShutdown": SOFT_OFF, "Nmi": NMI}
WRONG = {"@Message.ExtendedInfo": [{"MessageSeverity": "OK", "Message": "Have a nice day."}]}
BROKEN = [
    {"MessageSeverity": "OK", "Message": "Power button found."},
    {"MessageSeverity": "Critical", "Message": "The power supply\n\tis   on fire."},
]

#: Every lie, and what it may be set to. What isn't set is as it should be.
LIES = {
    # what a request to the system is answered
    "system": ("html", "truncated", "half", "list", "types", "no_power", "huge", "drip", "not_http", "no_reset",
               "redirect", "redirect_elsewhere", "away", "echo"),
    # what a reset is answered; lose_reply and mute take effect, drop and hang don't
    "reset": ("lose_reply", "mute", "drop", "hang", "half", "busy", "broken", "html", "nonsense_error", "say_no"),
    # how a reset goes on that is answered 202
    "task": ("good", "as_task", "no_location", "elsewhere", "forget", "forget_410", "critical", "exception", "forever",
             "html", "error", "types", "nothing_done"),
    # what a DELETE of its monitor is answered
    "give_up": ("refuse", "hang"),
    "looks": "how many times its monitor is looked at before a task ends",
    "retry_after": "the header's text; `date`: an HTTP date 2 s from now",
    "clock": "seconds that the BMC's clock is wrong",
    "password": ("refuse",),
    "deaf": "true: the guest does not hear its power button",
    "offers": "what AllowableValues says",
    "action_info": "true: what is offered is said in an ActionInfo",
    "basic": ("refuse",),
}  # fmt: skip


class Metal:
    """The machine, and what the BMC remembers."""

    def __init__(self, place: Path, credentials: Credentials) -> None:
        self.place = place
        self.credentials = credentials
        self.lock = threading.RLock()
        self.tasks: dict[str, dict[str, Any]] = {}
        self.sessions: dict[str, str] = {}
        self.made = 0

    @property
    def lies(self) -> dict[str, Any]:
        return dict(json.loads((self.place / "lies").read_text(encoding="utf-8")))

    @property
    def power(self) -> str:
        return (self.place / "power").read_text(encoding="utf-8").strip().capitalize()

    def note(self, **what: Any) -> None:
        line = json.dumps({"at": round(time.time(), 3), **what}) + "\n"
        with self.lock, open(self.place / "received", "a", encoding="utf-8") as log:
            log.write(line)

    def do(self, reset: str) -> None:
        """What the machine does."""
        self.note(did=reset)
        if reset == "On":
            put(self.place / "power", "on")
        elif reset == "ForceOff" or (reset == "GracefulShutdown" and not self.lies.get("deaf")):
            put(self.place / "power", "off")

    def system(self) -> dict[str, Any]:
        lies = self.lies
        action: dict[str, Any] = {"target": ACTION}
        if lies.get("action_info"):
            action["@Redfish.ActionInfo"] = f"{SYSTEM}/ResetActionInfo"
        else:
            action["ResetType@Redfish.AllowableValues"] = lies.get(
                "offers", ["On", "ForceOff", "GracefulShutdown", "Nmi"]
            )
        document: dict[str, Any] = {
            "@odata.id": SYSTEM,
            "Id": "1",
            "Name": "one",
            "PowerState": self.power,
            "Actions": {"#ComputerSystem.Reset": action},
        }
        match lies.get("system"):
            case "types":
                document["PowerState"], document["Actions"] = 5, ["On"]
            case "no_power":
                document["PowerState"] = None
            case "no_reset":
                document["Actions"] = {}
            case "huge":
                document["Oem"] = "x" * (5 << 20)
            case "list":
                return [document]  # type: ignore[return-value]
        return document


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    metal: Metal

    def setup(self) -> None:
        self.request.settimeout(30)
        super().setup()

    def log_message(self, format: str, *args: Any) -> None:
        """The log is `received`."""

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:  # the client has gone
            self.close_connection = True

    def do_GET(self) -> None:
        self._heard()

    do_POST = do_DELETE = do_GET

    # --- what is heard

    def _heard(self) -> None:
        metal = self.metal
        said = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.loads(said) if said else {}
        how = self._login()
        metal.note(method=self.command, path=self.path, reset=body.get("ResetType"), login=how)
        if self.path == "/redfish/v1/":
            links = {"Sessions": {"@odata.id": SESSIONS}}
            self.answer(200, {"Id": "Root", "Systems": {"@odata.id": "/redfish/v1/Systems"}, "Links": links})
        elif (self.command, self.path) == ("POST", SESSIONS):
            self._open_session(body)
        elif how is None:
            self.answer(401, {"error": {"code": "Base.1.0.NoAccess", "message": "no", **WRONG}})
        elif self.command == "DELETE" and self.path.startswith(SESSIONS):
            metal.sessions.pop(self.path, None)
            metal.note(closed=self.path)
            self.answer(204)
        elif self.path == "/redfish/v1/Systems":
            self.answer(200, {"Members": [{"@odata.id": SYSTEM}]})
        elif self.path == f"{SYSTEM}/ResetActionInfo":
            offers = metal.lies.get("offers", ["On", "ForceOff"])
            self.answer(200, {"Parameters": [{"Name": "ResetType", "AllowableValues": offers}]})
        elif self.path.rstrip("/") == SYSTEM:
            self._system()
        elif self.path == ACTION and self.command == "POST":
            self._reset(str(body.get("ResetType")))
        elif self.command == "DELETE" and self.path.partition("?")[0] in metal.tasks:
            self._give_up()
        elif self.path.startswith(MONITORS):
            self._monitor()
        else:
            self.answer(404, {"error": {"code": "Base.1.0.NoSuchThing", "message": f"no {self.path}"}})

    def _login(self) -> str | None:
        own = self.metal.credentials
        if self.metal.lies.get("password") == "refuse":
            return None
        if self.headers.get("X-Auth-Token") in self.metal.sessions.values():
            return "session"
        login = base64.b64encode(f"{own.username}:{own.password}".encode()).decode()
        if self.headers.get("Authorization") == f"Basic {login}" and self.metal.lies.get("basic") != "refuse":
            return "basic"
        return None

    def _open_session(self, body: dict[str, Any]) -> None:
        own = self.metal.credentials
        if (body.get("UserName"), body.get("Password")) != (own.username, own.password):
            self.answer(401, {"error": {"message": f"{body.get('Password')} is wrong"}})
            return
        self.metal.made += 1
        path, token = f"{SESSIONS}/{self.metal.made}", f"token-{self.metal.made}-{os.getpid()}"
        self.metal.sessions[path] = token
        self.metal.note(opened=path)
        self.answer(201, {"Id": str(self.metal.made)}, {"X-Auth-Token": token, "Location": path})

    # --- what is said

    def _system(self) -> None:
        lie = self.metal.lies.get("system")
        whole = json.dumps(self.metal.system()).encode()
        secret = self.metal.credentials.password
        says: dict[str, Callable[[], None]] = {
            "html": lambda: self.answer(200, b"<html><h1>It works!</h1></html>", {"Content-Type": "text/html"}),
            "truncated": lambda: self.answer(200, whole[: len(whole) // 2]),
            "half": lambda: self.half(whole),
            "drip": lambda: self.drip(whole),
            "not_http": lambda: self.raw(b"220 smtp.example ESMTP\r\n"),
            "redirect": lambda: self.answer(308, b"", {"Location": f"{SYSTEM}/"}),
            "redirect_elsewhere": lambda: self.answer(308, b"", {"Location": f"gopher://elsewhere.example{SYSTEM}"}),
            "away": lambda: self.answer(503, b"<html>starting</html>", {"Content-Type": "text/html"}),
            "echo": lambda: self.answer(500, {"error": {"message": f"{secret} and {self.headers['Authorization']}"}}),
        }
        if lie == "redirect" and self.path.endswith("/"):
            lie = None
        says.get(str(lie), lambda: self.answer(200, whole))()

    def _reset(self, reset: str) -> None:
        metal, lies = self.metal, self.metal.lies
        lie = lies.get("reset")
        if lie == "drop":
            self.cut()
        elif lie in ("hang", "mute"):
            if lie == "mute":
                metal.do(reset)
            self.rfile.read(1)  # it waits for more until the client has gone
        elif lie == "busy":
            self.answer(503, {"error": {"message": "busy"}}, {"Retry-After": "1"})
        elif lie == "broken":
            self.answer(500, {"error": {"message": "see the others", "@Message.ExtendedInfo": BROKEN}})
        elif lie == "nonsense_error":
            self.answer(400, ["what?"])
        elif lie == "say_no":
            self.answer(409, {"error": {"message": "The lid is open."}})
        elif lie == "html":
            self.answer(200, b"<html>Please log in</html>", {"Content-Type": "text/html"})
        elif lie in ("lose_reply", "half"):
            metal.do(reset)
            self.cut() if lie == "lose_reply" else self.half(json.dumps({"ok": "yes"}).encode())
        elif (kind := lies.get("task")) is not None:
            self._take_up(reset, kind)
        else:
            metal.do(reset)
            self.answer(204)

    def _take_up(self, reset: str, kind: str) -> None:
        metal = self.metal
        metal.made += 1
        path = f"{MONITORS}{metal.made}"
        metal.tasks[path] = {"reset": reset, "kind": kind, "looks": 0, "did": False}
        host = "http://elsewhere.example" if kind == "elsewhere" else ""
        location = {} if kind == "no_location" else {"Location": f"{host}{path}?token=a%20b"}
        if kind == "no_location":
            metal.do(reset)
        self.answer(202, self._task(path, "New", "OK"), {**location, **self._retry_after()})

    def _task(self, path: str, state: object, status: object, percent: object = 0) -> dict[str, Any]:
        return {"Id": path.rpartition("/")[2], "Name": "a task", "TaskState": state, "TaskStatus": status,
                "PercentComplete": percent, "Messages": BROKEN}  # fmt: skip

    def _retry_after(self) -> dict[str, str]:
        said = self.metal.lies.get("retry_after")
        if said == "date":
            said = formatdate(time.time() + float(self.metal.lies.get("clock", 0)) + 2, usegmt=True)
        return {} if said is None else {"Retry-After": str(said)}

    def _give_up(self) -> None:
        match self.metal.lies.get("give_up"):
            case "refuse":
                self.answer(405, {"error": {"message": "a task is not given up"}})
            case "hang":
                self.rfile.read(1)
            case _:
                del self.metal.tasks[self.path.partition("?")[0]]
                self.metal.note(given_up=self.path)
                self.answer(204)

    def _monitor(self) -> None:
        metal = self.metal
        path = self.path.partition("?")[0]
        task = metal.tasks.get(path)
        if task is None:
            self.answer(404, {"error": {"message": f"no task {path}"}})
            return
        kind = task["kind"]
        task["looks"] += 1
        if kind == "forever" or task["looks"] <= int(metal.lies.get("looks", 1)):
            code = 200 if kind == "as_task" else 202
            self.answer(code, self._task(path, "Running", "OK", 40), self._retry_after())
            return
        if not task["did"] and kind not in ("critical", "exception", "nothing_done", "error"):
            task["did"] = True
            metal.do(task["reset"])
        if kind in ("forget", "forget_410", "nothing_done"):
            self.answer(410 if kind == "forget_410" else 404, {"error": {"message": f"no task {path}"}})
        elif kind == "critical":
            self.answer(200, self._task(path, "Completed", "Critical", 100))
        elif kind == "exception":
            self.answer(202, self._task(path, "Exception", "Warning", 30))
        elif kind == "error":
            self.answer(500, {"error": {"message": "see the others", "@Message.ExtendedInfo": BROKEN}})
        elif kind == "html":
            self.answer(200, b"<html>done</html>", {"Content-Type": "text/html"})
        elif kind == "types":
            self.answer(200, self._task(path, ["Completed"], 7, "all"))
        elif kind == "as_task":
            self.answer(200, self._task(path, "Completed", "OK", 100))
        else:
            self.answer(204)

    def answer(self, status: int, body: Any = b"", headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def date_time_string(self, timestamp: float | None = None) -> str:
        return formatdate((timestamp or time.time()) + float(self.metal.lies.get("clock", 0)), usegmt=True)

    def raw(self, data: bytes) -> None:
        self.wfile.write(data)
        self.close_connection = True

    def half(self, whole: bytes) -> None:
        """Begin an answer, and reset the connection in the middle of it."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(whole)))
        self.end_headers()
        self.wfile.write(whole[: len(whole) // 2])
        self.cut()

    def drip(self, whole: bytes) -> None:
        """A byte now and then: no single wait is long."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        gone = threading.Event()
        for _ in range(300):
            self.wfile.write(b".")
            self.wfile.flush()
            gone.wait(0.1)

    def cut(self) -> None:
        """End the connection without a word more (RST)."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who talks to a liar goes away in the middle."""


class LyingRedfish(Peer):
    """The peer. `log` has each command that was asked for, answered or not."""

    def __init__(self, directory: Path, credentials: Credentials) -> None:
        self.credentials = credentials
        self.port = 0
        self._running = ExitStack()
        directory.mkdir(parents=True, exist_ok=True)
        super().__init__(directory, {})
        self.anew()
        self.start()
        self.driver_info = {
            "address": f"https://127.0.0.1:{self.port}",
            "username": credentials.username,
            "password": credentials.password,
            "verify_ca": str(credentials.ca),
            "system_id": "1",
        }

    def lie(self, **lies: Any) -> None:
        """Lie so from now on, and in no other way."""
        for name, value in lies.items():
            known = LIES[name]
            assert not isinstance(known, tuple) or value in known, f"{name} is one of {known}"
        put(self.directory / "lies", json.dumps(lies))

    def anew(self) -> None:
        """No lies, the machine off, nothing heard: as it was started."""
        if self.pid:
            self.wake()
        self.lie()
        self.power = OFF
        (self.directory / "received").unlink(missing_ok=True)

    def heard(self) -> list[dict[str, Any]]:
        """What it heard and what its machine did, in order."""
        try:
            text = (self.directory / "received").read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in text.splitlines()]

    def log(self) -> list[str]:
        return [
            WORDS.get(line["reset"], line["reset"])
            for line in self.heard()
            if line.get("method") == "POST" and line["path"] == ACTION
        ]

    def looks(self) -> int:
        """How many times a monitor was looked at."""
        return sum(str(line.get("path")).startswith(MONITORS) for line in self.heard())

    def given_up(self) -> int:
        """How many tasks it has given up because it was asked to."""
        return sum("given_up" in line for line in self.heard())

    def sessions(self) -> tuple[int, int]:
        """How many sessions were opened and closed."""
        heard = self.heard()
        return sum("opened" in line for line in heard), sum("closed" in line for line in heard)

    def stop(self) -> None:
        """The BMC is gone, in the middle of whatever it did."""
        self._running.close()

    def start(self) -> None:
        """Start it, again too: on the same port, with the machine as it is and nothing else."""
        own = self.credentials
        words = [str(self.directory), str(own.certificate), str(own.key), own.username, own.password, str(self.port)]
        process, self.port = self._running.enter_context(serving(self.directory, "peers.lying_redfish", *words))
        self.pid = process.pid


@contextmanager
def lying_redfish(directory: Path, password: str = "correct horse") -> Iterator[LyingRedfish]:
    """A BMC whose machine is off, in `directory`, which is made if it is not there."""
    peer = LyingRedfish(directory, make(directory / "credentials", password=password))
    try:
        yield peer
    finally:
        peer.stop()


def main() -> None:
    place, certificate, key, username, password, port = sys.argv[1:]
    own = Credentials(username, password, Path(), Path(certificate), Path(key), Path())
    Handler.metal = Metal(Path(place), own)
    server = Server(("127.0.0.1", int(port)), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    # The handshake is done in the connection's own thread: one who never finishes it holds up nobody.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    put(Path(place) / "port", str(server.server_port))
    server.serve_forever()


if __name__ == "__main__":
    main()
