"""pyghmi's BMC as a peer: IPMI 2.0 on loopback with NMI, and with the faults that ipmi_sim can't have.

    with pyghmi_bmc(tmp_path) as peer:
        peer.driver_info, peer.power, peer.log(), peer.turn("garbage", "short"), peer.hang()

Beside the switches of chassis.py:

    garbage   `short`: answers without the bytes that belong in them; `noise`: packets that are none
    drop      "4 1": of the packets that come in from now on, the first four are read and the next one is lost
    reset     at the next command the BMC resets: it forgets the command and every session, and is away so many seconds
    vanish    the same when it has done the next command, and has answered it

    python -m peers.pyghmi_bmc DIRECTORY      # prints its port; that of a machine which is more than files: metal.py

To a user whom it does not know it says nothing; a wrong password shows at once.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pyghmi.ipmi import bmc
from pyghmi.ipmi.private import serversession
from pyghmi.ipmi.private import session as sessions

from peers import chassis
from peers.chassis import Chassis, Peer

_USER: Final = "admin"
_PASSWORD: Final = "ghmi-pass-4711"
_NETFN_CHASSIS: Final = 0
_GET_STATUS: Final = 1
_CONTROL: Final = 2
_DIRECTIVES: Final = {0: chassis.OFF, 1: chassis.ON, 4: chassis.NMI, 5: chassis.SOFT_OFF}
_NOISE_BYTES: Final = 60
#: In the answer to "open session".
_INVALID_AUTHENTICATION_ALGORITHM: Final = 0x04
_HMAC_SHA1: Final = 1
_NOT_IN_PRESENT_STATE: Final = 0xD5


class ChassisBmc(bmc.Bmc):  # type: ignore[misc]
    """A BMC in front of a machine in files."""

    def __init__(self, machine: Chassis) -> None:
        super().__init__({_USER: _PASSWORD}, port=0, address="127.0.0.1")
        self.machine = machine
        self.port: int = self.serversocket.getsockname()[1]

    # --- what is asked of it --------------------------------------------------------------------------------------

    def get_power_state(self) -> str:
        return self.machine.power.removeprefix("power ")

    def power_on(self) -> int:
        return self._obey(chassis.ON)

    def power_off(self) -> int:
        return self._obey(chassis.OFF)

    def power_shutdown(self) -> int:
        return self._obey(chassis.SOFT_OFF)

    def pulse_diag(self) -> int:
        return self._obey(chassis.NMI)

    def _obey(self, command: str) -> int:
        if command in (chassis.SOFT_OFF, chassis.NMI) and self.machine.power == chassis.OFF:
            return _NOT_IN_PRESENT_STATE
        self.machine.obey(command)
        return 0

    # --- how it answers -------------------------------------------------------------------------------------------

    def handle_raw_request(self, request: dict[str, Any], session: Any) -> None:
        asked = request["command"] if request["netfn"] == _NETFN_CHASSIS else None
        if asked not in (_GET_STATUS, _CONTROL):
            super().handle_raw_request(request, session)
            return
        machine, is_command = self.machine, asked == _CONTROL
        machine.note(_DIRECTIVES.get(request["data"][0], "something else") if is_command else chassis.READ)
        threading.Event().wait(float(machine.switch("slow") or 0))
        if is_command and (away_s := machine.switch("reset")) is not None:
            machine.release("reset")
            self._reset(float(away_s))
        elif is_command and (code := machine.switch("fail")) is not None:
            session.send_ipmi_response(code=int(code, 16))
        elif (garbage := machine.switch("garbage")) == "noise":
            session.socket.sendto(os.urandom(_NOISE_BYTES), session.sockaddr)
        elif garbage is not None:
            session.send_ipmi_response(data=[])
        else:
            super().handle_raw_request(request, _Mute(session, machine) if is_command else session)
            if is_command and (away_s := machine.switch("vanish")) is not None:
                machine.release("vanish")
                self._reset(float(away_s))

    def _reset(self, away_s: float) -> None:
        handlers = sessions.Session.bmc_handlers
        for other in [other for other in handlers if other is not self.serversocket]:
            del handlers[other]
        _Loss.away_until = time.monotonic() + away_s


class _Mute:
    """A session whose answer gets lost if the switch says so."""

    def __init__(self, session: Any, machine: Chassis) -> None:
        self._session = session
        self._machine = machine

    def send_ipmi_response(self, **answer: Any) -> None:
        if self._machine.switch("mute") is None:
            self._session.send_ipmi_response(**answer)


class _Loss:
    """Packets that come in and are not read."""

    away_until = 0.0
    _count = 0

    @classmethod
    def strikes(cls, machine: Chassis) -> bool:
        drop = machine.switch("drop")
        cls._count = cls._count + 1 if drop else 0
        read, lost = map(int, (drop or "0 0").split())
        return time.monotonic() < cls.away_until or read < cls._count <= read + lost


def _mend(machine: Chassis) -> None:
    """Have pyghmi refuse cipher suites that it does not speak and privileges that it does not give, as a BMC does; and
    lose packets."""
    receive = sessions._io_recvfrom
    open_session = serversession.ServerSession.create_open_session_response

    def receive_some(socket: Any, size: int) -> Any:
        while (packet := receive(socket, size)) is not None and _Loss.strikes(machine):
            pass
        return packet

    def open_or_refuse(session: Any, request: bytearray) -> bytearray:
        if request[12] != _HMAC_SHA1:
            return bytearray((request[0], _INVALID_AUTHENTICATION_ALGORITHM, 0, 0)) + request[4:8]
        return bytearray(open_session(session, request))

    sessions._io_recvfrom = receive_some
    serversession.ServerSession.clientpriv = 0  # it has none before it has asked, and would fall over that
    serversession.ServerSession.create_open_session_response = open_or_refuse


@contextmanager
def pyghmi_bmc(directory: Path) -> Iterator[Peer]:
    """A BMC whose machine is off, in `directory`, which is made if it is not there."""
    with served_by(directory, "peers.pyghmi_bmc", str(directory)) as (info, pid):
        peer = Peer(directory, info)
        peer.pid = pid
        yield peer


@contextmanager
def served_by(directory: Path, module: str, *arguments: str) -> Iterator[tuple[dict[str, Any], int]]:
    """The module as a process, which prints its port and serves: the `driver_info` of its BMC, and its pid."""
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / "output", "a", encoding="utf-8") as output:
        process = chassis.start(
            [sys.executable, "-m", module, *arguments],
            cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, stderr=output,
        )  # fmt: skip
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port:
            raise OSError(f"pyghmi's BMC does not start: {(directory / 'output').read_text(encoding='utf-8')}")
        info = {
            "address": "127.0.0.1", "port": int(port), "username": _USER, "password": _PASSWORD, "cipher_suite": 3,
        }  # fmt: skip
        yield info, process.pid
    finally:
        chassis.end(process)


def serve(served: ChassisBmc) -> None:
    """Until the process is ended."""
    _mend(served.machine)
    print(served.port, flush=True)
    served.listen()


if __name__ == "__main__":
    serve(ChassisBmc(Chassis(Path(sys.argv[1]))))
