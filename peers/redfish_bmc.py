"""A Redfish BMC as it should be: sushy-tools' emulator as a process of its own, with https, a user, several systems.

    with redfish_bmc(tmp_path) as peer:
        peer.driver_info, peer.power, peer.log(), peer.turn("ignore_acpi"), peer.hang()

    with redfish_bmc(tmp_path, "one", "two") as one:
        two = one.beside["two"]

The device, its guests and their switches: redfish_device.py. What a BMC should not do: lying_redfish.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from peers import chassis
from peers.chassis import NMI, OFF, ON, READ, SOFT_OFF, Peer
from peers.credentials import Credentials, make
from peers.knobs import system_id

ROOT: Final = Path(__file__).parents[1]
_WORDS: Final = {"power": READ, "On": ON, "ForceOff": OFF, "GracefulShutdown": SOFT_OFF, "Nmi": NMI}


class RedfishBmc(Peer):
    """One system of the BMC; the others are `beside` it."""

    def __init__(self, directory: Path, port: int, credentials: Credentials) -> None:
        self.system = system_id(directory.name)
        self.beside: dict[str, RedfishBmc] = {}
        super().__init__(
            directory,
            {
                "address": f"https://127.0.0.1:{port}",
                "username": credentials.username,
                "password": credentials.password,
                "verify_ca": str(credentials.ca),
                "system_id": self.system,
            },
        )

    def calls(self) -> list[str]:
        """What reached the BMC and was done, answered or not."""
        try:
            lines = (self.directory / "calls").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        called = [json.loads(line) for line in lines]
        return [_WORDS.get(call["what"], call["what"]) for call in called if call["call"] != "guest"]


@contextmanager
def redfish_bmc(directory: Path, *nodes: str) -> Iterator[RedfishBmc]:
    """A BMC whose machines are off, in `directory`, which is made if it is not there; the first of its systems. A node
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
