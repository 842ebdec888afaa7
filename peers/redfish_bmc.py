"""A Redfish BMC as it should be: sushy-tools' emulator as a process of its own, with https, a user, several systems.

    with redfish_bmc(tmp_path) as peer:
        peer.driver_info, peer.power, peer.log(), peer.turn("ignore_acpi"), peer.hang()

    with redfish_bmc(tmp_path, "one", "two") as one:
        two = one.beside["two"]

The device, its guests and their switches: redfish_device.py. What a BMC should not do: lying_redfish.py.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from peers import chassis
from peers.chassis import NMI, OFF, ON, READ, SOFT_OFF, Peer
from peers.credentials import Credentials, make
from peers.knobs import system_id

ROOT: Final = Path(__file__).parents[1]
#: Who asks in the name of a test: everything else in the log is the driver's.
TEST: Final = "a test"
_WORDS: Final = {"power": READ, "On": ON, "ForceOff": OFF, "GracefulShutdown": SOFT_OFF, "Nmi": NMI}
_RESETS: Final = {ON: "On", OFF: "ForceOff"}


class RedfishBmc(Peer):
    """One system of the BMC; the others are `beside` it."""

    def __init__(self, directory: Path, port: int, credentials: Credentials) -> None:
        self.port = port
        self.credentials = credentials
        self.system = system_id(directory.name)
        self.beside: dict[str, RedfishBmc] = {}
        super().__init__(
            directory,
            {
                "address": f"https://127.0.0.1:{port}",
                "username": credentials.username,
                "password": credentials.password,
                "verify_ca": str(credentials.ca),
                "system": self.system,
            },
        )

    @property
    def power(self) -> str:
        status, said = self.ask("GET", f"/redfish/v1/Systems/{self.system}")
        assert status == 200, said
        return ON if said["PowerState"] == "On" else OFF

    @power.setter
    def power(self, state: str) -> None:
        assert self.reset(_RESETS[state]) == 204

    def reset(self, reset: str) -> int:
        """Do it behind Holdfast's back; the HTTP status."""
        path = f"/redfish/v1/Systems/{self.system}/Actions/ComputerSystem.Reset"
        return self.ask("POST", path, {"ResetType": reset})[0]

    def calls(self) -> list[str]:
        """What reached the BMC and was answered, without what the test asked itself."""
        try:
            lines = (self.directory / "calls").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        called = [json.loads(line) for line in lines]
        return [_WORDS.get(call["what"], call["what"]) for call in called if call["by"] not in (TEST, "the guest")]

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One request in the test's name, without sushy and without Holdfast."""
        own = self.credentials
        context = ssl.create_default_context(cafile=own.ca)
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30, context=context)
        login = base64.b64encode(f"{own.username}:{own.password}".encode()).decode()
        headers = {"User-Agent": TEST, "Authorization": f"Basic {login}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            said = answer.read()
            return answer.status, json.loads(said) if said else None
        finally:
            connection.close()


@contextmanager
def redfish_bmc(directory: Path, *nodes: str) -> Iterator[RedfishBmc]:
    """A BMC whose machines are on, in `directory`, which is made if it is not there; the first of its systems. A node
    that isn't named is called `one`."""
    names = nodes or ("one",)
    credentials = make(directory / "credentials")
    options = ["--tls", str(credentials.certificate), str(credentials.key), "--users", str(credentials.users)]
    with serving(directory, "peers.redfish_device", *options, str(directory), *names) as (process, port):
        made = {name: RedfishBmc(directory / name, port, credentials) for name in names}
        for peer in made.values():
            peer.pid, peer.beside = process.pid, made
        yield made[names[0]]


@contextmanager
def serving(directory: Path, module: str, *words: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A module as a process that writes its port into `directory` once it listens; the process and the port."""
    (directory / "port").unlink(missing_ok=True)
    with open(directory / "output", "a", encoding="utf-8") as output:
        process = chassis.start(
            [sys.executable, "-m", module, *words], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        pause = threading.Event()
        while not (directory / "port").exists():
            if process.poll() is not None:
                raise OSError(f"{module} does not start: {(directory / 'output').read_text(encoding='utf-8')}")
            pause.wait(0.01)
        yield process, int((directory / "port").read_text(encoding="utf-8"))
    finally:
        chassis.end(process)
