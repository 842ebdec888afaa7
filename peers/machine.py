"""A machine that is real as far as a BMC can tell: QEMU with a guest of 88 bytes, which hears its power button or not.

The guest writes one letter to its serial port for each thing that happens to it: U it is up, B the button was pressed,
D it goes down, N an NMI. It needs QEMU (Debian: qemu-system-x86) and no KVM; it is up after a tenth of a second.

The BMC in front of it: metal.py.
"""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from qemu.qmp import QMPClient, QMPError

DEAF: Final = 0xFFFF
TICKS_PER_S: Final = 18.2  # of the BIOS's timer, which is what wakes the guest
_SECTOR: Final = 512
_GOES: Final = (EOFError, OSError, QMPError)

#: Real mode, loaded at 0x7c00, where all segments are 0. The power button is bit 8 of the PM1 registers (status 0x600,
#: enable 0x602, control 0x604) of QEMU's `pc` machine; 0x2000 in the control register is "sleep now, S5".
_GUEST: Final = bytes.fromhex(
    "31c08ed88ed0bc007c"  # ds = ss = 0, sp = 0x7c00
    "c7060800497ca30a00"  # interrupt 2 -> nmi
    "ba0206b401ef"  # enable the button
    "b055e83600fb"  # say U; interrupts on
    "f4ba0006edf6c40174f6ef"  # idle: halt; unless status & button: idle; clear it
    "b042e82500"  # say B
    "8b0efc7d4174e9"  # cx = ticks; deaf: idle
    "497403f4ebfa"  # halt so many times
    "b044e81300"  # say D
    "ba0406b80020efebd5"  # off
    "5052b04ee803005a58cf"  # nmi: say N
    "baf803eec3"  # say: al to the serial port
)


def boot_sector(ticks: int) -> bytes:
    """The guest, which goes down so many ticks after the button was pressed, or doesn't (DEAF)."""
    return _GUEST.ljust(_SECTOR - 4, b"\0") + ticks.to_bytes(2, "little") + b"\x55\xaa"


class Machine:
    """`directory` holds its disk, and what its guests say (`serial`). `goes_down_after_s`: how long the guest takes to
    hear its button; None: it never does. QEMU ends with the thread that has switched the machine on."""

    def __init__(self, directory: Path, goes_down_after_s: float | None = 0.0) -> None:
        self._at = directory
        self._short = tempfile.TemporaryDirectory(prefix="machine-")  # the path of a socket has to be
        self._monitor = Path(self._short.name, "qmp")
        self._process: subprocess.Popen[bytes] | None = None
        self._turn = threading.Lock()
        ticks = DEAF if goes_down_after_s is None else min(round(goes_down_after_s * TICKS_PER_S), DEAF - 1)
        (self._at / "disk").write_bytes(boot_sector(ticks).ljust(1 << 20, b"\0"))

    @property
    def is_on(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """QEMU's, while the machine is on."""
        return self._process.pid if self._process is not None and self.is_on else None

    def on(self) -> None:
        with self._turn:
            if not self.is_on:
                self._process = subprocess.Popen(
                    [
                        "setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64",
                        "-accel", "tcg", "-machine", "pc", "-m", "2",
                        "-nodefaults", "-no-user-config", "-display", "none", "-vga", "none",
                        "-drive", f"file={self._at / 'disk'},format=raw,if=ide",
                        "-chardev", f"file,id=com1,path={self._at / 'serial'},append=on", "-serial", "chardev:com1",
                        "-qmp", f"unix:{self._monitor},server=on,wait=off",
                    ],
                    stdin=subprocess.DEVNULL,
                )  # fmt: skip

    def off(self) -> None:
        """Pull the plug."""
        with self._turn:
            if self._process is not None:
                self._process.kill()
                self._process.wait()

    def press_button(self) -> None:
        self._tell("system_powerdown")

    def reset(self) -> None:
        self._tell("system_reset")

    def inject_nmi(self) -> None:
        self._tell("inject-nmi")

    def close(self) -> None:
        self.off()
        self._short.cleanup()

    def _tell(self, command: str) -> None:
        """Does nothing to a machine that is off."""
        with self._turn:
            pause = threading.Event()
            while self.is_on:
                try:
                    asyncio.run(_say(self._monitor, command))
                    return
                except _GOES:  # it has just been started, or is going down
                    pause.wait(0.01)


async def _say(monitor: Path, command: str) -> None:
    client = QMPClient()
    try:
        await client.connect(str(monitor))
        await client.execute(command)
    finally:
        with suppress(*_GOES):
            await client.disconnect()
