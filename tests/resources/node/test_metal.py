"""Real at both ends: IPMI to a BMC whose power button is that of a machine in QEMU."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from qemu.qmp import QMPClient

from holdfast.seal import new_key
from peers.machine import Machine
from peers.metal import MetalPeer, metal
from tests.resources.node.conftest import Node, Yard
from tests.worker.house import until


@pytest.fixture
def iron(tmp_path: Path) -> Iterator[Yard]:
    made = Yard(tmp_path, node_poll_s=0.1, secret_key=new_key())
    with made.hold, made.hold.working():
        yield made


def enrolled(yard: Yard, peer: MetalPeer, driver: str = "ipmi") -> Node:
    info = {**peer.driver_info, "cipher_suite": 3}
    task = yard.hold.operate("node", "create", desired={"name": driver, "driver": driver, "driver_info": info})
    assert yard.until_ended(task).state == "SUCCEEDED", task.failure
    return yard.hold.resource("node", str(task.view()["resource_id"]))


def up(yard: Yard, node: Node, peer: MetalPeer) -> None:
    assert yard.do(node, "power_on").state == "SUCCEEDED"
    yard.until(lambda: "U" in peer.said, "the guest")


def test_a_soft_power_off_reaches_the_guest_which_shuts_down(iron: Yard, tmp_path: Path) -> None:
    with metal(tmp_path / "bmc", goes_down_after_s=1.0) as peer:
        node = enrolled(iron, peer)
        up(iron, node, peer)
        task = iron.do(node, "soft_power_off")
        assert task.state == "SUCCEEDED", task.failure
        assert (peer.power, peer.said) == ("power off", "UBD")
        assert iron.shown(node) == ("power off", None)


def test_a_soft_reboot_is_a_shutdown_and_a_boot(iron: Yard, tmp_path: Path) -> None:
    with metal(tmp_path / "bmc") as peer:
        node = enrolled(iron, peer)
        up(iron, node, peer)
        assert iron.do(node, "soft_reboot").state == "SUCCEEDED"
        iron.until(lambda: peer.said == "UBDU", "the guest")
        assert peer.log() == ["power on", "soft power off", "power on"]


def test_a_machine_that_is_gone_as_soon_as_its_button_was_pressed_takes_no_bmc_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine with much else to do it ends before the BMC has let go of it."""
    machine = Machine(tmp_path)

    async def pressed_slowly(monitor: QMPClient, command: str) -> object:
        said = await press(monitor, command)
        while machine.is_on:
            await asyncio.sleep(0.02)
        return said

    machine.on()
    try:
        until(lambda: (tmp_path / "serial").exists() and "U" in (tmp_path / "serial").read_text(encoding="ascii"))
        press = QMPClient.execute
        monkeypatch.setattr(QMPClient, "execute", pressed_slowly)
        machine.press_button()
        assert not machine.is_on
    finally:
        machine.close()
    with pytest.raises(RuntimeError, match="no current event loop"):
        asyncio.get_event_loop()  # one that was left in this thread is found unclosed in another test


@pytest.mark.requirement("IRONIC-3", "IRONIC-7")
def test_a_hung_guest_stays_on_abort_frees_the_node_and_hard_off_works(iron: Yard, tmp_path: Path) -> None:
    with metal(tmp_path / "bmc", goes_down_after_s=None) as peer:
        node = enrolled(iron, peer)
        up(iron, node, peer)
        soft = node.operate("soft_power_off", {"timeout": 300.0})
        iron.until(lambda: "B" in peer.said, "the button")
        assert iron.shown(node) == ("power on", "soft power off")
        abort = iron.do(node, "abort_soft_power_off")
        assert abort.state == "SUCCEEDED"
        assert soft.state == "ABORTED"
        assert iron.shown(node) == ("error", None)
        assert peer.power == "power on"
        off = node.operate("power_off")
        assert iron.until_ended(off).state == "SUCCEEDED"
        assert (peer.power, peer.said) == ("power off", "UB")
        assert peer.log() == ["power on", "soft power off", "power off"]


def test_an_interrupt_reaches_the_guest(iron: Yard, tmp_path: Path) -> None:
    with metal(tmp_path / "bmc") as peer:
        node = enrolled(iron, peer)
        up(iron, node, peer)
        assert iron.do(node, "inject_nmi").state == "SUCCEEDED"
        iron.until(lambda: peer.said == "UN", "the interrupt")
