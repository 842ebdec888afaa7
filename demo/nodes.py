"""The story's scene on bare metal: four nodes behind real BMCs, two by IPMI and two by Redfish, two of whose guests
don't hear their power buttons.

The machines behind IPMI are in QEMU. What the scene proves: proofs.py.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from demo import proofs
from demo.children import until
from demo.evidence import Check
from demo.service import LIMIT_S
from demo.web import Answer
from peers.chassis import ON, Peer
from peers.metal import MetalPeer, metal
from peers.redfish_bmc import redfish_bmc

if TYPE_CHECKING:
    from demo.story import Story

DEAF = ("ipmi-deaf", "redfish-deaf")


def a_soft_off_that_hangs_is_aborted(story: Story) -> list[Check]:
    """Four nodes, two protocols: a soft power off that nobody hears is aborted, and the node obeys the next command"""
    with ExitStack() as stack:
        yard = Yard(story, stack)
        yard.enrol()
        yard.put(*yard.peers, target="power on")
        yard.until_up()
        before = {name: len(peer.log()) for name, peer in yard.peers.items()}
        story.show.act("two of the guests don't hear their power button")
        soft = yard.ask(*yard.peers, target="soft power off", timeout=300)
        polite = [story.end(soft[name])["state"] for name in yard.peers if name not in DEAF]
        hung = {name: yard.hung(name, soft[name]) for name in DEAF}
        aborts = yard.put(*DEAF, target="abort soft power off")
        stopped = {name: story.end(soft[name]) for name in DEAF}
        story.show.act("nobody does anything, until the power sync has looked")
        until(lambda: all(yard.states(n)["power_state"] == ON for n in DEAF), "the power sync", limit_s=LIMIT_S)
        asleep = {name: yard.peers[name].power for name in DEAF}
        off = yard.put(*DEAF, target="power off")
        for name, peer in yard.peers.items():
            story.show.say(f"the BMC of {name} was told: {', '.join(peer.log())}")
        return proofs.freed(
            polite=polite,
            hung=list(hung.values()),
            aborts=[task["result"]["answer"]["state"] for task in aborts],
            stopped=[task["state"] for task in stopped.values()],
            shown=[yard.shown(name)[-3:] for name in DEAF],
            powers=list(asleep.values()),
            off=[task["state"] for task in off],
            logs={name: peer.log()[before[name] :] for name, peer in yard.peers.items()},
            ends=[peer.power for peer in yard.peers.values()],
        )


class Yard:
    """The four nodes and their BMCs."""

    def __init__(self, story: Story, stack: ExitStack) -> None:
        self.story = story
        directory = story.service.directory / "nodes"
        at = redfish_bmc(directory / "redfish", "redfish-polite", "redfish-deaf")
        redfish = stack.enter_context(at).beside
        redfish["redfish-deaf"].turn("ignore_acpi")
        self.peers: dict[str, Peer] = {
            "ipmi-polite": stack.enter_context(metal(directory / "polite")),
            "ipmi-deaf": stack.enter_context(metal(directory / "deaf", goes_down_after_s=None)),
            **redfish,
        }
        self.ids: dict[str, str] = {}

    def enrol(self) -> None:
        for name, peer in self.peers.items():
            driver, info = name.partition("-")[0], dict(peer.driver_info)
            self.story.show.say(f"{name}: a BMC at {info['address']}, which says so itself in its log")
            body = {"name": name, "driver": driver, "driver_info": info}
            answer = self.story.web.ask("POST", "/v1/nodes", body)
            self.story.end(answer.task["uuid"])
            self.ids[name] = str(answer.task["resource_id"])

    def until_up(self) -> None:
        """A guest that is still on its way up does not hear its button."""
        guests = [peer for peer in self.peers.values() if isinstance(peer, MetalPeer)]
        until(lambda: all("U" in guest.said for guest in guests), "the guests", limit_s=LIMIT_S)

    def ask(self, *names: str, target: str, **more: Any) -> dict[str, str]:
        """The tasks, which run."""
        return {name: str(self._put(name, target, **more).task["uuid"]) for name in names}

    def put(self, *names: str, target: str) -> list[dict[str, Any]]:
        """The tasks, which have ended."""
        return [self.story.end(uuid) for uuid in self.ask(*names, target=target).values()]

    def _put(self, name: str, target: str, **more: Any) -> Answer:
        return self.story.web.ask("PUT", f"/v1/nodes/{name}/states/power", {"target": target, **more})

    def states(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.story.web.get(f"/v1/nodes/{name}/states")
        return found

    def hung(self, name: str, task: str) -> tuple[str, str]:
        """What is shown while the guest does not hear its button, once the BMC has been told to press it."""
        until(lambda: "soft power off" in self.peers[name].log(), "the button", limit_s=LIMIT_S)
        at = self.states(name)
        self.story.show.say(f"{name}: power_state {at['power_state']}, target_power_state {at['target_power_state']}")
        until(lambda: self.story.task(task)["progress"]["message"], "its progress", limit_s=LIMIT_S)
        progress = self.story.task(task)["progress"]
        self.story.show.say(f"{name}: {progress['percent']} % of its time: {progress['message']}")
        return at["power_state"], at["target_power_state"]

    def shown(self, name: str) -> list[str]:
        """What the stream has said of its power."""
        events = [event for event in list(self.story.stream.events) if event.type == "resource.status"]
        return [str(event.data["to"]) for event in events if event.subject.endswith(self.ids[name])]
