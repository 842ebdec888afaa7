"""Steps as classes, for steps that need something to work with: it comes by `__init__`, so a test gives another.
Flows that a function makes are found again after a restart by name and version: `hf.open(…, flows=[…])`."""

from __future__ import annotations

import holdfast as hf


class Switch:
    """What the steps work on."""

    def __init__(self) -> None:
        self.ports: dict[str, int] = {}


class SetVlan(hf.Step):
    provides = "old_vlan"
    retry = hf.Retry(attempts=3)

    def __init__(self, switch: Switch) -> None:
        self.switch = switch

    def execute(self, port: str, vlan: int) -> int:
        old = self.switch.ports.get(port, 1)
        self.switch.ports[port] = vlan
        return old

    def revert(self, port: str, old_vlan: int | None = None) -> None:
        if old_vlan is not None:
            self.switch.ports[port] = old_vlan


class Check(hf.Step):
    def __init__(self, allowed: range) -> None:
        self.allowed = allowed

    def execute(self, vlan: int) -> None:
        if vlan not in self.allowed:
            raise ValueError(f"VLAN {vlan} is not ours")


def make_flow(switch: Switch) -> hf.Flow:
    return hf.linear("set_vlan", SetVlan(switch), Check(range(100, 200)), version="2")


if __name__ == "__main__":
    switch = Switch()
    flow = make_flow(switch)
    with hf.open("sqlite:///:memory:", flows=[flow]) as hold:
        for vlan in (150, 900):
            task = hold.submit(flow, {"port": "eth7", "vlan": vlan})
            hold.work(until_idle=True)
            print(vlan, task.state, task.failure and task.failure.summary, switch.ports)
