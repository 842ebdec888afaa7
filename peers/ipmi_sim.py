"""OpenIPMI's ipmi_sim (Debian: openipmi) as a peer: a BMC by other people, in C, that speaks IPMI 2.0 on loopback.

    with ipmi_sim(tmp_path) as peer:
        peer.driver_info, peer.power, peer.log(), peer.turn("ignore_acpi"), peer.hang()

It asks a script for every request of the chassis (`chassis_control`, which its manual leaves out), which keeps the
machine in files (chassis.py). What it can't: NMI (it answers 0xcc), cipher suite 17, a `fail` other than 0xff.

    python -m peers.ipmi_sim DIRECTORY PORT

runs one until it is ended, and says how it is reached. Its password is in DIRECTORY/password.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from peers import chassis
from peers.chassis import Peer

_USER: Final = "admin"
_PASSWORD: Final = "sim-pass-0815"
#: "Are you there?" in RMCP, and so in IPMI before a session.
_PING: Final = bytes.fromhex("0600ff06000011be80000000")

_SCRIPT: Final = r"""#!/bin/sh
# chassis_control: `get power`, `set power 1`, `set shutdown 1`; the answer to the first is `power:1`.
cd "$(dirname "$0")" || exit 1
note() { echo "$(date +%s.%N) $1" >>calls; }
turn() { echo "$2" >"$1.sh" && mv "$1.sh" "$1"; }
operation=$1
shift
[ ! -e slow ] || sleep "$(cat slow)"
while [ $# -gt 0 ]; do
    case "$operation $1" in
        "get power")
            note read
            [ "$(cat power)" = on ] && echo power:1 || echo power:0
            ;;
        "set power")
            [ "$2" = 1 ] && word=on || word=off
            note "power $word"
            [ ! -e fail ] || exit 1
            turn power $word
            ;;
        "set shutdown")
            note "soft power off"
            [ ! -e fail ] || exit 1
            if [ -e ignore_acpi ]; then :
            elif [ -e acpi_delay ]; then (sleep "$(cat acpi_delay)"; turn power off) >/dev/null 2>&1 &
            else turn power off
            fi
            ;;
        "get boot") echo boot:default ;;
        *) exit 1 ;;
    esac
    [ "$operation" = get ] || { shift; [ ! -e mute ] || kill -STOP "$(cat pid)"; }
    shift
done
"""

_LAN: Final = """name "chassis"
set_working_mc 0x20
  startlan 1
    addr 127.0.0.1 {port}
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
    allowed_auths_user none md2 md5 straight
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid a123456789abcdefa123456789abcdef
  endlan
  chassis_control "{script}"
  user 2 true "{user}" "{password}" admin 30 none md2 md5 straight
"""

_EMULATOR: Final = """mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02
sel_enable 0x20 1000 0x0a
mc_enable 0x20
"""


@contextmanager
def ipmi_sim(directory: Path, port: int = 0) -> Iterator[Peer]:
    """A BMC whose machine is off, in `directory`, which is made if it is not there. `port` 0: one that is free."""
    (directory / "state").mkdir(parents=True, exist_ok=True)
    script = directory / "chassis"
    script.write_text(_SCRIPT, encoding="utf-8")
    script.chmod(0o755)
    (directory / "sim.emu").write_text(_EMULATOR, encoding="utf-8")
    process, port = _listening(directory, port)
    info = {
        "address": "127.0.0.1", "port": port, "username": _USER, "password": _PASSWORD, "cipher_suite": 3,
    }  # fmt: skip
    try:
        peer = Peer(directory, info)
        peer.pid = process.pid
        peer.turn("pid", process.pid)
        yield peer
    finally:
        chassis.end(process)


def _listening(directory: Path, wanted: int) -> tuple[subprocess.Popen[str], int]:
    """Its process and its port. It takes a port, not 0, so another process may be quicker: then with another."""
    for _ in range(5):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", wanted))
            port: int = free.getsockname()[1]
        lan = _LAN.format(port=port, script=directory / "chassis", user=_USER, password=_PASSWORD)
        (directory / "lan.conf").write_text(lan, encoding="utf-8")
        with open(directory / "output", "a", encoding="utf-8") as output:
            process = chassis.start(
                ["ipmi_sim", "-c", "lan.conf", "-f", "sim.emu", "-s", "state", "-n"],
                cwd=directory, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        if _answers(process, port):
            return process, port
        chassis.end(process)
    raise OSError(f"ipmi_sim does not start: {(directory / 'output').read_text(encoding='utf-8')}")


def _answers(process: subprocess.Popen[str], port: int) -> bool:
    pause = threading.Event()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect(("127.0.0.1", port))
        asking.settimeout(0.05)
        for _ in range(400):
            if process.poll() is not None:
                return False
            try:
                asking.send(_PING)
                asking.recv(64)
                return True
            except ConnectionRefusedError:
                pause.wait(0.01)
            except TimeoutError:
                pass
    return False


def main(directory: Path, port: int) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "password").write_text(f"{_PASSWORD}\n", encoding="utf-8")
    with ipmi_sim(directory, port) as peer:
        print(f"a BMC at 127.0.0.1 port {peer.driver_info['port']} for {_USER}; its machine is off", flush=True)
        signal.pause()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]))
