"""A node that is real at both ends: pyghmi's BMC on loopback, and a machine in QEMU whose power button it presses.

    with metal(tmp_path, goes_down_after_s=None) as peer:   # a guest that doesn't hear it
        peer.driver_info, peer.power, peer.log(), peer.said

    python -m peers.metal DIRECTORY SECONDS|never      # prints its port

The BMC's switches: pyghmi_bmc.py. The machine: machine.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from peers import chassis
from peers.chassis import Chassis, Peer
from peers.machine import Machine
from peers.pyghmi_bmc import ChassisBmc, serve, served_by

_NEVER: Final = "never"
_PID: Final = "qemu.pid"


class Metal(Chassis):
    """The machine, as its BMC sees it."""

    def __init__(self, directory: Path, goes_down_after_s: float | None) -> None:
        super().__init__(directory)
        self.machine = Machine(directory, goes_down_after_s)

    @property
    def power(self) -> str:
        return chassis.ON if self.machine.is_on else chassis.OFF

    @power.setter
    def power(self, state: str) -> None:
        self.obey(state)

    def obey(self, command: str) -> None:
        machine = self.machine
        does = {
            chassis.ON: machine.on,
            chassis.OFF: machine.off,
            chassis.SOFT_OFF: machine.press_button,
            chassis.NMI: machine.inject_nmi,
        }
        does[command]()
        self.turn(_PID, machine.pid or "")


class MetalPeer(Peer):
    """The node, as a test sees it."""

    @property
    def power(self) -> str:
        """As the kernel sees it: whether QEMU's process is there."""
        pid = self.switch(_PID)
        try:
            state = Path("/proc", pid or "none", "stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
        except OSError:
            return chassis.OFF
        return chassis.OFF if state == "Z" else chassis.ON

    @power.setter
    def power(self, state: str) -> None:
        raise AttributeError("it is switched by its BMC")

    @property
    def said(self) -> str:
        """What the guests have said: see machine.py."""
        return self.switch("serial") or ""


@contextmanager
def metal(directory: Path, goes_down_after_s: float | None = 0.0) -> Iterator[MetalPeer]:
    """A node that is off."""
    patience = _NEVER if goes_down_after_s is None else str(goes_down_after_s)
    with served_by(directory, "peers.metal", str(directory), patience) as (info, pid):
        peer = MetalPeer(directory, info)
        peer.pid = pid
        yield peer


if __name__ == "__main__":
    where, patience = sys.argv[1:]
    serve(ChassisBmc(Metal(Path(where), None if patience == _NEVER else float(patience))))
