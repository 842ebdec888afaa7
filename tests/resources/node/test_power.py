"""What operations on the power do to a machine, and what is shown of it meanwhile."""

from __future__ import annotations

from tests.resources.node.conftest import Yard


def test_on_and_off(yard: Yard) -> None:
    node = yard.enrol(power="power off")
    assert node.lifecycle == "manageable"
    assert yard.shown(node) == ("power off", None)
    task = yard.do(node, "power_on")
    assert task.state == "SUCCEEDED", task.failure
    assert yard.shown(node) == ("power on", None)
    task = yard.do(node, "power_off")
    assert task.state == "SUCCEEDED", task.failure
    assert yard.shown(node) == ("power off", None)
    assert yard.sent(node) == ["power on", "power off"]
