"""The driver of docs/how-to/write-a-power-driver.md: it is short, keeps every promise, and is found as a package's."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

import holdfast as hf
from holdfast.resources.node.power import PowerDriver
from holdfast.seal import new_key
from holdfast.testing.power import DripConformance, GarbageConformance, PowerConformance
from peers.chassis import Peer
from peers.outlet import outlet
from tests.pages import blocks
from tests.postgresql import database_at

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "write-a-power-driver.md"
DRIVER = next(block.text for block in blocks(PAGE.read_text(encoding="utf-8")) if block.language == "python")
POINT = next(block.text for block in blocks(PAGE.read_text(encoding="utf-8")) if block.language == "toml")


def absent(peer: Peer) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        peer.driver_info["port"] = free.getsockname()[1]


SWITCHES: dict[str, Callable[[Peer], object]] = {
    "slow": lambda peer: peer.turn("slow", 1.2),
    "hung": lambda peer: peer.hang(),
    "mute": lambda peer: peer.turn("mute"),
    "locked": lambda peer: peer.driver_info.update(password="not-this-one"),
    "failing": lambda peer: peer.turn("fail", "the fuse has blown"),
    "garbage": lambda peer: peer.turn("garbage"),
    "dripping": lambda peer: peer.turn("drip", 0.3),
    "absent": absent,
}


class TestTheDriverOfThePage(PowerConformance, GarbageConformance, DripConformance):
    supported = ("power on", "power off", "rebooting")
    says = "the fuse has blown"

    def make(self) -> PowerDriver:
        named: dict[str, Any] = {}
        exec(DRIVER, named)
        return cast(PowerDriver, named["Outlet"]())

    @contextmanager
    def peer(self, behaviour: str, directory: Path) -> Iterator[Peer]:
        with outlet(directory) as peer:
            if behaviour != "ordinary":
                SWITCHES[behaviour](peer)
            yield peer


def test_it_is_short() -> None:
    assert len([line for line in DRIVER.splitlines() if line.strip()]) < 60


@pytest.mark.requirement("IRONIC-16")
def test_a_node_has_it_as_its_package_says(tmp_path: Path) -> None:
    package, info = tmp_path / "my_package", tmp_path / "my_package-1.0.dist-info"
    package.mkdir()
    info.mkdir()
    (package / "__init__.py").touch()
    (package / "outlet.py").write_text(DRIVER, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n", encoding="utf-8")
    group, point = POINT.replace('[project.entry-points."', "[").replace('"]', "]").replace('"', "").splitlines()
    (info / "entry_points.txt").write_text(f"{group}\n{point}\n", encoding="utf-8")

    url = database_at(tmp_path / "tasks.db")
    hf.open(url).close()
    with outlet(tmp_path / "strip") as peer:
        env = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")} | {
            "PYTHONPATH": str(tmp_path),
            "HOLDFAST_DATABASE": url,
            "HOLDFAST_SECRET_KEY": new_key(),
            "PASSWORD": str(peer.driver_info["password"]),
        }

        def holdfast(*words: str) -> str:
            done = subprocess.run(
                [Path(sys.executable).with_name("holdfast"), "node", *words], env=env, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        at = ["--address", "127.0.0.1", "--port", str(peer.driver_info["port"]), "--username", "admin"]
        holdfast("enroll", "rack-7", "--driver", "outlet", *at, "--password-from", "env:PASSWORD", "--info", "outlet=1")
        holdfast("power", "rack-7", "on")
        assert peer.power == "power on"
        holdfast("power", "rack-7", "reboot")
        assert peer.log() == ["power on", "power off", "power on"]
