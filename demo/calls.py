"""The BMC as the demo sees it from outside: its process, its knobs, and its call log.

The log is written by the device (peers/redfish_device.py), so it can testify against the flow (power.py).
"""

from __future__ import annotations

import http.client
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from demo.children import Child, Children, until
from peers.knobs import put, system_id


class Call(NamedTuple):
    """One line of the BMC's log. `by` is the step that called, as it named itself; `what` is `power` for a reading of
    the power state, else the reset type; `power` is the state after the call."""

    at: float
    by: str
    call: str  # GET | POST | guest
    what: str
    status: int | None
    power: str

    @property
    def is_reset(self) -> bool:
        return self.call == "POST"


def parse(text: str) -> list[Call]:
    """The whole lines of a log."""
    calls = []
    for line in text.splitlines(keepends=True):
        if line.endswith("\n"):
            fields: dict[str, Any] = json.loads(line)
            calls.append(
                Call(fields["at"], fields["by"], fields["call"], fields["what"], fields.get("status"), fields["power"])
            )
    return calls


class Node:
    """One machine behind the BMC."""

    def __init__(self, name: str, bmc: Bmc) -> None:
        self.name = name
        self.bmc = bmc
        self.system = system_id(name)
        self._directory = bmc.state_dir / name

    def set(self, knob: str, text: str = "") -> None:
        put(self._directory / knob, text)

    def clear(self, knob: str) -> None:
        (self._directory / knob).unlink(missing_ok=True)

    def calls(self) -> list[Call]:
        try:
            return parse((self._directory / "calls").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return []

    def look(self, by: str) -> None:
        """Read the power state in the name of `by`: a plain request, without sushy and without Holdfast."""
        self.bmc.get(f"/redfish/v1/Systems/{self.system}", by)


class Bmc:
    """The device's process. Start it from the main thread: it dies with the thread that started it."""

    def __init__(self, state_dir: Path, nodes: list[str]) -> None:
        self.state_dir = state_dir
        self.nodes = {name: Node(name, self) for name in nodes}
        self.process: Child
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, children: Children, *, limit_s: float = 60.0) -> None:
        """Start it and wait until it answers."""
        self.state_dir.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "peers.redfish_device", str(self.state_dir), *self.nodes]
        self.process = children.start(command, self.state_dir / "output")
        until(self._answers, "the BMC to answer", limit_s=limit_s)

    def _answers(self) -> bool:
        code = self.process.poll()
        if code is not None:
            raise RuntimeError(f"the BMC ended with {code}:\n{self.process.output.read_text(errors='replace')}")
        try:
            self.port = int((self.state_dir / "port").read_text(encoding="utf-8"))
            return self.get("/redfish/v1/", "start") == 200
        except (FileNotFoundError, ConnectionError, TimeoutError):
            return False

    def get(self, path: str, by: str) -> int:
        """One GET; the HTTP status."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path, headers={"User-Agent": by})
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()
