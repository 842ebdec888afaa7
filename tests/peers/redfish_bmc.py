"""A Redfish BMC as it should be: sushy-tools' emulator as a process of its own, with https, a user, several systems.

    with redfish_bmc(tmp_path, "one", "two") as peer:
        peer.driver_info, peer.power("two"), peer.log("one")

The device, its guests and their knobs are the demo's (demo/bmc.py). What a BMC should not do: lying_redfish.py.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from demo.calls import Bmc, Call
from demo.children import Children
from demo.credentials import make

#: What a test itself asks for; everything else in the log is the driver's.
TEST = "a test"


class RedfishBmc:
    """The peer. Where no node is named, the first one is meant."""

    def __init__(self, bmc: Bmc) -> None:
        self._bmc = bmc
        self._first = next(iter(bmc.nodes))

    @property
    def driver_info(self) -> dict[str, Any]:
        return self.info(self._first)

    def info(self, node: str) -> dict[str, Any]:
        own = self._bmc.credentials
        assert own is not None
        return {
            "address": self._bmc.url,
            "username": own.username,
            "password": own.password,
            "verify_ca": str(own.ca),
            "system": self._bmc.nodes[node].system,
        }

    def power(self, node: str | None = None) -> str:
        """`On` or `Off`, as the machine is."""
        machine = self._bmc.nodes[node or self._first]
        machine.look(TEST)
        return machine.calls()[-1].power

    def reset(self, reset: str, node: str | None = None) -> int:
        """Do it behind Holdfast's back; the HTTP status."""
        return self._bmc.nodes[node or self._first].reset(reset, TEST)

    def log(self, node: str | None = None) -> list[Call]:
        """What the BMC was asked and what its guest did; without what the test did itself."""
        return [call for call in self._bmc.nodes[node or self._first].calls() if call.by != TEST]

    def resets(self, node: str | None = None) -> list[str]:
        """The resets that the BMC was asked for, in order."""
        return [call.what for call in self.log(node) if call.is_reset]

    def set(self, knob: str, text: str = "", node: str | None = None) -> None:
        """`ignore_acpi`, `acpi_delay` seconds, or `fail` with an HTTP status."""
        self._bmc.nodes[node or self._first].set(knob, text)

    def clear(self, knob: str, node: str | None = None) -> None:
        self._bmc.nodes[node or self._first].clear(knob)

    def hang(self) -> None:
        """It takes connections and answers nothing more."""
        os.kill(self._bmc.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self._bmc.process.pid, signal.SIGCONT)


@contextmanager
def redfish_bmc(place: Path, *nodes: str) -> Iterator[RedfishBmc]:
    """Start one, with its files in that folder. Each machine is on. From the main thread: it dies with its maker."""
    with Children() as children:
        bmc = Bmc(place / "redfish", list(nodes or ("one",)), make(place / "credentials"))
        bmc.start(children)
        peer = RedfishBmc(bmc)
        try:
            yield peer
        finally:
            peer.go_on()
