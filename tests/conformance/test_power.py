"""The power drivers of IPMI against the one suite, on BMCs by other people; and the driver `fake`, which is its own.
Redfish: test_power_redfish.py."""

from __future__ import annotations

import socket
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from holdfast.resources.node import drivers, words
from holdfast.resources.node.fake import Device, Fake
from holdfast.resources.node.ipmi import Ipmi
from holdfast.resources.node.irmc import Irmc
from holdfast.resources.node.power import GROUP, PowerDriver
from holdfast.resources.node.redfish import Redfish
from holdfast.testing.power import GarbageConformance, NmiConformance, PowerConformance, SoftConformance
from peers.chassis import Peer as Played
from peers.ipmi_sim import ipmi_sim
from peers.pyghmi_bmc import pyghmi_bmc

pytestmark = pytest.mark.requirement("IRONIC-16")

IPMI = tuple(target for target in words.TARGETS if target != words.ABORT_INJECT_NMI)
SLOW_S = 1.2


class IpmiPeers:
    supported = IPMI
    #: ipmi_sim has no other code, and pyghmi's BMC is given the same.
    says = "0xff, Unspecified error"

    def bmc_in(self, directory: Path) -> AbstractContextManager[Played]:
        return pyghmi_bmc(directory)

    def make(self) -> PowerDriver:
        return Ipmi()

    @contextmanager
    def peer(self, behaviour: str, directory: Path) -> Iterator[Played]:
        with self.bmc_in(directory) as peer:
            if behaviour != "ordinary":
                SWITCHES[behaviour](peer)
            yield peer


class OnIpmi(IpmiPeers, PowerConformance, SoftConformance):
    pass


def absent(peer: Played) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        peer.driver_info["port"] = free.getsockname()[1]


SWITCHES: dict[str, Callable[[Played], object]] = {
    "deaf": lambda peer: peer.turn("ignore_acpi"),
    "slow": lambda peer: peer.turn("slow", SLOW_S),
    "hung": lambda peer: peer.hang(),
    "mute": lambda peer: peer.turn("mute"),
    "locked": lambda peer: peer.driver_info.update(password="not-this-one"),
    "failing": lambda peer: peer.turn("fail", "0xff"),
    "garbage": lambda peer: peer.turn("garbage", "short"),
    "absent": absent,
}


class TestIpmiOnOpenIpmi(OnIpmi):
    def bmc_in(self, directory: Path) -> AbstractContextManager[Played]:
        return ipmi_sim(directory)


class TestIpmiOnPyghmi(IpmiPeers, NmiConformance, GarbageConformance):
    """What ipmi_sim can't."""


class TestIrmcOnPyghmi(OnIpmi, NmiConformance, GarbageConformance):
    supported = words.TARGETS

    def make(self) -> PowerDriver:
        return Irmc()


class FakePeer:
    """A machine of the driver's own. What it refused at the door it has not heard."""

    def __init__(self, path: Path, knobs: Mapping[str, Any]) -> None:
        self.driver_info: dict[str, Any] = {"path": str(path), "fake": dict(knobs)}
        self.device = Device(str(path), "node-1", knobs)

    @property
    def power(self) -> str:
        return self.device.power

    @power.setter
    def power(self, state: str) -> None:
        self.device.turn(state)

    def log(self) -> list[str]:
        return [called.call for called in self.device.calls(looks=False) if called.answer != "bmc.auth"]


def every(what: str) -> dict[str, Any]:
    return {"faults": [{"what": what}]}


KNOBS: dict[str, dict[str, Any]] = {
    "ordinary": {"follow_s": 0.2},
    "deaf": {"soft_off": "ignored"},
    "slow": {"delay_s": SLOW_S},
    "hung": every("stall"),
    "mute": every("lost"),
    "locked": every("auth"),
    "failing": every("fail"),
    "garbage": every("garbage"),
    "absent": every("unreachable"),
}


class TestFake(PowerConformance, SoftConformance, NmiConformance):
    supported = words.TARGETS
    says = "0xff"

    def make(self) -> PowerDriver:
        return Fake()

    @contextmanager
    def peer(self, behaviour: str, directory: Path) -> Iterator[FakePeer]:
        directory.mkdir(parents=True, exist_ok=True)
        yield FakePeer(directory / "machines.db", KNOBS[behaviour])


def test_every_driver_of_the_house_is_an_entry_point_and_is_in_here_or_beside() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    places = {name: f"holdfast.resources.node.{module}:{made}" for name, (module, made) in drivers.OURS.items()}
    assert project["entry-points"][GROUP] == places
    proved = {type(suite().make()) for suite in (TestIpmiOnOpenIpmi, TestIrmcOnPyghmi, TestFake)}
    assert {type(drivers.get(name)) for name in places} == {*proved, Redfish}
