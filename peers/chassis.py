"""The machine behind a BMC that is played, as a directory of files: its switches, which tests turn at any time, and
`calls`, the BMC's own log of what reached it.

    power         `on` or `off`
    ignore_acpi   the guest doesn't hear its power button while the file exists
    acpi_delay    seconds that the guest needs to go down
    slow          seconds that the BMC takes over each request
    fail          the BMC does nothing that it is told, and answers each command with this completion code
    mute          the BMC does what it is told, and no answer comes: ipmi_sim hangs, that of pyghmi goes on

Each file is read anew for every request. The BMCs: ipmi_sim.py, pyghmi_bmc.py.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

READ: Final = "read"
ON: Final = "power on"
OFF: Final = "power off"
SOFT_OFF: Final = "soft power off"
NMI: Final = "inject nmi"


class Switches:
    """The directory, from either side."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def power(self) -> str:
        """`power on` or `power off`."""
        return f"power {self.switch('power') or 'off'}"

    @power.setter
    def power(self, state: str) -> None:
        self.turn("power", state.removeprefix("power "))

    def switch(self, name: str) -> str | None:
        """What it is turned to; None: the file is not there."""
        try:
            return (self.directory / name).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return None

    def turn(self, name: str, value: object = "") -> None:
        new = self.directory / f"{name}.{threading.get_ident()}"
        new.write_text(f"{value}\n", encoding="utf-8")
        new.rename(self.directory / name)  # who reads it sees the old or the new, never a piece

    def release(self, name: str) -> None:
        (self.directory / name).unlink(missing_ok=True)


class Chassis(Switches):
    """The machine, as a BMC that is written in Python sees it."""

    def note(self, what: str) -> None:
        with open(self.directory / "calls", "a", encoding="utf-8") as log:
            log.write(f"{time.time():.3f} {what}\n")

    def obey(self, command: str) -> None:
        """Do one of the commands above."""
        if command in (ON, OFF):
            self.power = command
        elif command == SOFT_OFF and self.switch("ignore_acpi") is None:
            delay_s = float(self.switch("acpi_delay") or 0)
            if delay_s:
                threading.Timer(delay_s, self.turn, ("power", "off")).start()
            else:
                self.power = OFF


class Peer(Switches):
    """A BMC in a process of its own, as a test sees it.

    `driver_info`: what a node says that has it. `pid`: of the BMC's process.
    """

    def __init__(self, directory: Path, driver_info: Mapping[str, Any]) -> None:
        super().__init__(directory)
        self.driver_info = dict(driver_info)
        self.pid = 0
        self.turn("power", "off")

    def log(self) -> list[str]:
        """The commands that have reached the BMC, in order."""
        return [what for what in self.calls() if what != READ]

    def calls(self) -> list[str]:
        """The same, with every `read` of the power state."""
        try:
            lines = (self.directory / "calls").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        return [line.partition(" ")[2] for line in lines]

    def hang(self) -> None:
        """Stop the BMC in its tracks: packets arrive, and nobody reads them."""
        os.kill(self.pid, signal.SIGSTOP)

    def wake(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


def start(command: list[str], **options: Any) -> subprocess.Popen[str]:
    """A process that dies with the thread that started it, and that no Ctrl-C reaches."""
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *command],
        stdin=subprocess.DEVNULL, text=True, start_new_session=True, **options,
    )  # fmt: skip


def end(process: subprocess.Popen[str]) -> None:
    """Stopped or not, it ends now."""
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
