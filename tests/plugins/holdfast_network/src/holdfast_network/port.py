"""The kind `port`: three mechanisms apply it, agents may wire it, routers attach to it."""

from __future__ import annotations

from typing import Any

import msgspec

import holdfast as hf
from holdfast.errors import DocumentInvalid
from holdfast.resources.drivers import Mechanism, Mechanisms
from holdfast.resources.kind import Change, Kind, Seen, final, resting
from holdfast_network.fabric import Fabric

MECHANISMS = ("switch", "dhcp", "flows")
AGENTS = "agents"  # the pool in which wiring is done
MTU_MAX = 9000


class PortFields(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    name: str = "port"
    mtu: int = 1500
    groups: list[str] = []  # security groups


class Attach(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    router: str


class Wire(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    cable: str


def make_port(fabric: Fabric) -> Kind:
    lifecycle = {
        "BUILD": resting(),
        "ACTIVE": resting(),
        "ATTACHED": resting(),
        "ERROR": resting(),
        "DELETED": final(),
    }
    port = Kind("port", fields=PortFields, lifecycle=lifecycle, driver=fabric)
    together = Mechanisms(*(_mechanism(fabric, name) for name in MECHANISMS))
    port.precommit(together.check)

    @port.operation("create", ends="ACTIVE", summary="Make a port on the fabric.")
    def create(kind: Kind) -> hf.Flow:
        return together.flow()

    @port.operation("update", starts=("ACTIVE", "ATTACHED"), fault="", summary="Have the fabric as desired.")
    def update(kind: Kind) -> hf.Flow:
        return together.flow()

    @port.operation("delete", starts=("ACTIVE", "ERROR"), ends="DELETED")
    def delete(kind: Kind) -> hf.Flow:
        return hf.linear("delete", *(_dropping(fabric, name) for name in reversed(MECHANISMS)))

    @port.operation("attach", starts=("ACTIVE",), ends="ATTACHED", params=Attach, fault="")
    def attach(kind: Kind) -> hf.Flow:
        return hf.linear("attach", _attaching(fabric))

    @port.operation("detach", starts=("ATTACHED",), ends="ACTIVE", fault="")
    def detach(kind: Kind) -> hf.Flow:
        def unbridge(resource_id: str) -> None:
            fabric.drop("l2", resource_id)

        return hf.linear("detach", unbridge)

    @port.operation("wire", starts=("ACTIVE",), params=Wire, agents=True, fault="", summary="An agent wires it.")
    def wire(kind: Kind) -> hf.Flow:
        @hf.step(name="plug", pool=AGENTS)
        def plug(ctx: hf.Context, resource_id: str, cable: str) -> None:
            fabric.apply("cable", resource_id, {"name": cable}, ctx)

        return hf.linear("wire", plug)

    @port.probe
    def look(driver: Fabric, resource_id: str, desired: dict[str, Any]) -> Seen:
        there = [driver.there(name, resource_id) for name in MECHANISMS]
        status = "DOWN" if driver.has("link-down") else "ACTIVE"
        return Seen(all(found == desired for found in there), {"status": status})

    return port


def _mechanism(fabric: Fabric, name: str) -> Mechanism:
    def precommit(change: Change) -> None:
        fabric.say("check", name, change.operation)
        if name == "flows" and change.desired["mtu"] > MTU_MAX:
            raise DocumentInvalid(f"mtu: the fabric takes at most {MTU_MAX}", field="mtu")

    def postcommit(ctx: hf.Context, resource_id: str, desired: dict[str, Any]) -> None:
        fabric.apply(name, resource_id, desired, ctx)

    return Mechanism(name, postcommit, precommit, after=("switch",) if name == "flows" else ())


def _dropping(fabric: Fabric, name: str) -> Any:
    def drop(resource_id: str) -> None:
        fabric.drop(name, resource_id)

    return hf.step(drop, name=f"drop_{name}")


def _attaching(fabric: Fabric) -> Any:
    @hf.step(name="bridge")
    def bridge(ctx: hf.Context, resource_id: str, router: str) -> None:
        fabric.apply("l2", resource_id, {"name": router}, ctx)

    @bridge.revert
    def unbridge(resource_id: str) -> None:
        fabric.drop("l2", resource_id)

    return bridge
