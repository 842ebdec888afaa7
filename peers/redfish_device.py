"""A Redfish device: sushy-tools' emulator, as a process of its own, with a driver whose timing is set from outside.

    python -m peers.redfish_device [--tls CERTIFICATE KEY] [--users HTPASSWD] STATE_DIR NODE [NODE …]

It serves on a free port of loopback, by https and to those users if it is told so, and writes the port's number to
STATE_DIR/port once it listens. Each node has a directory STATE_DIR/NODE with its knobs, which are files that may come
and go at any time:

    power         `on` or `off`: what the machine is, which may be changed from outside; it is on at first
    ignore_acpi   the guest does not attend to its power button while the file exists
    acpi_delay    seconds that the guest needs to shut down, or the word hold: as long as the file exists
    fail          "CODE [TIMES [RESET]]": requests to change power are answered with that HTTP status
    slow          seconds that the BMC takes over each request for the node
    mute          the BMC does what it is told, and then hangs before it answers (SIGSTOP)

and with `calls`, the witness of what happened: one JSON line for each request that the BMC answered and for each thing
that the guest did. Who starts one for a test: redfish_bmc.py; for the demo: demo/calls.py.

The stock fake driver waits a random 1 to 11 s before a change and has no NMI, which is no base for a proof.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import flask
from sushy_tools import error
from sushy_tools.emulator import main as emulator
from sushy_tools.emulator.resources.systems import fakedriver
from werkzeug.serving import make_server

from peers.knobs import put, system_id


class Witness:
    """Appends to a node's call log; a line is whole or absent."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self._lock = threading.Lock()

    def note(self, node: str, **what: Any) -> None:
        line = json.dumps({"at": round(time.time(), 3), **what}) + "\n"
        with self._lock, open(self.state_dir / node / "calls", "a", encoding="utf-8") as log:
            log.write(line)


class Driver(fakedriver.FakeDriver):  # type: ignore[misc]
    """Hardware and guest of all nodes. Requests come from several threads, so every look at a node is under one lock.

    A pressed power button stays pressed until the guest attends to it (ACPI 6.5 §4.8.3.1.1: PWRBTN_STS is sticky), so
    a guest that was deaf goes off when it hears again.
    """

    witness: Witness
    state_dir: Path

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.RLock()

    def get_power_state(self, identity: str) -> str:
        with self._lock:
            system = self._get(identity)
            self._attend(system)
            return self._power(system)

    def set_power_state(self, identity: str, state: str) -> None:
        with self._lock:
            system = self._get(identity)
            self._attend(system)
            self._maybe_fail(system["name"], state)
            running = self._power(system) == "On"
            if state in ("On", "ForceOn"):
                if not running:
                    self._turn(system, "on")
            elif state == "ForceOff":
                self._turn(system, "off")
            elif state == "GracefulShutdown":
                if running and not system.get("pressed_at"):
                    self._update(system, pressed_at=time.time())
            elif state in ("ForceRestart", "GracefulRestart"):
                self._turn(system, "on")
            elif state == "Nmi":
                if not running:
                    raise error.Conflict("the system is off")
            else:
                raise error.NotSupportedError(f"Power state {state} is not supported")

    def _attend(self, system: dict[str, Any]) -> None:
        """The guest looks at its power button."""
        pressed_at = system.get("pressed_at")
        if not pressed_at or self._knob(system["name"], "ignore_acpi") is not None:
            return
        delay = self._knob(system["name"], "acpi_delay") or "0"
        if delay != "hold" and time.time() >= pressed_at + float(delay):
            self._turn(system, "off")
            self.witness.note(system["name"], by="the guest", call="guest", what="went off", power="Off")

    def _maybe_fail(self, node: str, reset: str) -> None:
        code, times, only = [*(self._knob(node, "fail") or "").split(), "", "", ""][:3]
        if not code or (only and only != reset):
            return
        knob = self.state_dir / node / "fail"
        if times:
            left = int(times) - 1
            if left:
                put(knob, f"{code} {left} {only}")
            else:
                knob.unlink()
        raise error.FishyError("simulated hardware fault", code=int(code))

    def _power(self, system: dict[str, Any]) -> str:
        return "Off" if self._knob(system["name"], "power") == "off" else "On"

    def _turn(self, system: dict[str, Any], power: str) -> None:
        put(self.state_dir / system["name"] / "power", power)
        self._update(system, pressed_at=None)

    def _knob(self, node: str, name: str) -> str | None:
        return read(self.state_dir / node / name)


def read(knob: Path) -> str | None:
    """What it is set to; None: it isn't there."""
    try:
        return knob.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None


def keep_log(app: Any, witness: Witness) -> None:
    """Note every request about one system after it was answered, with what was answered."""

    def note(response: flask.Response) -> flask.Response:
        identity = (flask.request.view_args or {}).get("identity")
        try:
            node = app.systems.name(identity) if identity else None
        except error.FishyError:
            node = None
        if node is not None:
            asked, told = flask.request.get_json(silent=True), response.get_json(silent=True)
            what = asked.get("ResetType") if isinstance(asked, dict) else None
            power = told.get("PowerState") if isinstance(told, dict) else None
            witness.note(
                node,
                by=flask.request.headers.get("User-Agent", "?"),
                call=flask.request.method,
                what=what or ("power" if power else flask.request.path),
                status=response.status_code,
                power=power or app.systems.get_power_state(identity),
            )
            if what is not None and (witness.state_dir / node / "mute").exists():
                signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # this thread, before it goes on
                time.sleep(1)  # another thread may have taken the signal: this one is stopped in a moment
            if seconds := read(witness.state_dir / node / "slow"):
                time.sleep(float(seconds))
        return response

    app.after_request(note)


def serve(state_dir: Path, nodes: list[str], tls: tuple[str, str] | None, users: str | None) -> None:
    """Serve until SIGTERM or SIGINT."""
    for node in nodes:
        (state_dir / node).mkdir(parents=True, exist_ok=True)
    witness = Witness(state_dir)
    Driver.witness, Driver.state_dir = witness, state_dir
    fakedriver.FakeDriver = Driver
    app = emulator.app
    app.configure(
        extra_config={
            "SUSHY_EMULATOR_FAKE_DRIVER": True,
            "SUSHY_EMULATOR_STATE_DIR": str(state_dir),
            "SUSHY_EMULATOR_AUTH_FILE": users,
            "SUSHY_EMULATOR_FAKE_SYSTEMS": [
                {"uuid": system_id(node), "name": node, "power_state": "On", "nics": []} for node in nodes
            ],
        }
    )
    keep_log(app, witness)
    app.systems  # noqa: B018 - made here and not by the first two requests at once
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, app, threaded=True, ssl_context=tls)
    put(state_dir / "port", str(server.server_port))
    server.serve_forever()


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    parser = argparse.ArgumentParser(prog="python -m peers.redfish_device")
    parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"))
    parser.add_argument("--users", metavar="HTPASSWD")
    parser.add_argument("state_dir", type=Path)
    parser.add_argument("nodes", nargs="+")
    said = parser.parse_args()
    try:
        serve(said.state_dir.resolve(), said.nodes, tuple(said.tls) if said.tls else None, said.users)
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
