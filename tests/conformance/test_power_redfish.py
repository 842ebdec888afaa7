"""The Redfish driver against the one suite: on a BMC by other people, and on one that lies. Others: test_power.py."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from holdfast.resources.node import words
from holdfast.resources.node.power import PowerDriver
from holdfast.resources.node.redfish import Redfish
from holdfast.testing.power import (
    DripConformance,
    GarbageConformance,
    NmiConformance,
    PowerConformance,
    SoftConformance,
)
from peers.chassis import Peer as Played
from peers.lying_redfish import LyingRedfish, lying_redfish
from peers.redfish_bmc import RedfishBmc, redfish_bmc

pytestmark = pytest.mark.requirement("IRONIC-16")

SLOW_S = 1.2
SYSTEMS = 60


class OnRedfish(PowerConformance, SoftConformance, NmiConformance):
    supported = words.TARGETS

    def make(self) -> PowerDriver:
        return Redfish()


def absent(peer: Played) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        peer.driver_info["address"] = f"https://127.0.0.1:{free.getsockname()[1]}"


class TestRedfishOnSushyTools(OnRedfish):
    """One BMC for all, which takes a while to start; each peer is another of its systems."""

    says = "(500): simulated hardware fault"
    unused: ClassVar[Iterator[RedfishBmc]]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def systems(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        names = [f"system-{number}" for number in range(SYSTEMS)]
        with redfish_bmc(tmp_path_factory.mktemp("redfish"), *names) as first:
            cls.unused = iter(first.beside.values())
            yield

    @contextmanager
    def peer(self, behaviour: str, directory: Path) -> Iterator[RedfishBmc]:
        peer = next(self.unused)
        match behaviour:
            case "deaf":
                peer.turn("ignore_acpi")
            case "slow":
                peer.turn("slow", SLOW_S)
            case "hung":
                peer.hang()
            case "mute":
                peer.turn("mute")
            case "locked":
                peer.driver_info["password"] = "not-this-one"
            case "failing":
                peer.turn("fail", "500")
            case "absent":
                absent(peer)
        try:
            yield peer
        finally:
            peer.wake()


class TestRedfishThatLies(OnRedfish, GarbageConformance, DripConformance):
    """It has a task for each command, and forgets it when it is done."""

    says = "(500): The power supply is on fire."

    @contextmanager
    def peer(self, behaviour: str, directory: Path) -> Iterator[LyingRedfish]:
        with lying_redfish(directory) as peer:
            peer.lie(task="good", looks=2, retry_after="0")
            match behaviour:
                case "deaf":
                    peer.lie(task="good", deaf=True)
                case "slow":
                    peer.lie(task="good", looks=3, retry_after="date")
                case "hung":
                    peer.hang()
                case "mute":
                    peer.lie(reset="mute")
                case "locked":
                    peer.lie(password="refuse")
                case "failing":
                    peer.lie(reset="broken")
                case "garbage":
                    peer.lie(system="html")
                case "dripping":
                    peer.lie(system="drip")
                case "absent":
                    absent(peer)
            yield peer
