"""The kind `router`. Its `add_interface` spans two resources: an L2 part on the port, an L3 part on the router."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

import holdfast as hf
from holdfast.resources.child import child
from holdfast.resources.kind import Change, Kind, final, resting
from holdfast_network.fabric import Fabric


class RouterFields(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    name: str = "router"


class Interface(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    port_id: str
    subnet: str


class Route(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    subnet: str


def make_router(fabric: Fabric) -> Kind:
    lifecycle = {"BUILD": resting(), "ACTIVE": resting(), "ERROR": resting(), "DELETED": final()}
    router = Kind("router", fields=RouterFields, lifecycle=lifecycle, driver=fabric)

    @router.operation("create", ends="ACTIVE")
    def create(kind: Kind) -> hf.Flow:
        def boot(resource_id: str, desired: dict[str, str]) -> None:
            fabric.apply("router", resource_id, desired)

        return hf.linear("create", boot)

    @router.operation("delete", ends="DELETED")
    def delete(kind: Kind) -> hf.Flow:
        def drop(resource_id: str) -> None:
            fabric.drop("router", resource_id)

        return hf.linear("delete", drop)

    @router.operation("route", starts=("ACTIVE",), params=Route, fault="", summary="The L3 part of an interface.")
    def route(kind: Kind) -> hf.Flow:
        @hf.step(name="install")
        def install(ctx: hf.Context, resource_id: str, subnet: str) -> None:
            fabric.apply("l3", resource_id, {"name": subnet}, ctx)

        @install.revert
        def uninstall(resource_id: str) -> None:
            fabric.drop("l3", resource_id)

        return hf.linear("route", install)

    def ports(change: Change) -> Iterable[str]:
        return [f"port/{change.params['port_id']}"]

    def parts() -> tuple[hf.Step, hf.Step]:
        l2 = child("l2", "port", "attach", id="port_id", params={"router": "resource_id"})
        l3 = child("l3", "router", "route", id="resource_id", params=("subnet",))
        return l2, l3

    @router.operation("add_interface", starts=("ACTIVE",), params=Interface, claims=ports, fault="")
    def add_interface(kind: Kind) -> hf.Flow:
        """Where one part fails, the other is undone."""
        return hf.linear("add_interface", *parts(), on_failure="revert")

    @router.operation("try_interface", starts=("ACTIVE",), params=Interface, claims=ports, fault="")
    def try_interface(kind: Kind) -> hf.Flow:
        """Where one part fails, the other stays, and the failure is reported."""
        return hf.linear("try_interface", *parts(), on_failure="keep")

    return router
