"""A kind `box` that has a secret, and a driver that remembers with what it was called."""

from __future__ import annotations

from typing import Any

import msgspec

import holdfast as hf
from holdfast.resources import sealing
from holdfast.resources.kind import Kind, Seen, final, resting


class Access(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    address: str = "10.0.0.1"
    password: str | None = None


class BoxFields(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    name: str = "box"
    access: Access = msgspec.field(default_factory=Access)
    notes: dict[str, Any] = {}


class Rekey(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    access: Access | None = None


class Device:
    """`calls`: the password of each call. Where it is `wrong`, the call fails."""

    def __init__(self) -> None:
        self.calls: list[str | None] = []
        self.notes: list[dict[str, Any]] = []

    def log_in(self, document: dict[str, Any]) -> None:
        known = sealing.opened(document)
        self.calls.append(known["access"]["password"])
        self.notes.append(known["notes"])
        if known["access"]["password"] == "wrong":
            raise ConnectionError("the box does not know you")


def make_kind() -> Kind:
    box = Kind(
        "box", plural="boxes", fields=BoxFields, lifecycle={"NEW": resting(), "THERE": resting(), "GONE": final()},
        driver=Device(), secrets=("access.password",),
    )  # fmt: skip

    def logging_in(kind: Kind) -> hf.Flow:
        @hf.step
        def log_in(desired: dict[str, Any], applied: dict[str, Any] | None) -> dict[str, Any]:
            kind.driver.log_in(desired)
            return desired  # what a step returns is stored

        @log_in.revert
        def log_out(applied: dict[str, Any] | None) -> None:
            if applied is not None:
                kind.driver.log_in(applied)

        return hf.linear("log_in", log_in)

    @box.operation("create", ends="THERE")
    def create(kind: Kind) -> hf.Flow:
        return logging_in(kind)

    @box.operation("update")
    def update(kind: Kind) -> hf.Flow:
        return logging_in(kind)

    @box.operation("rekey", params=Rekey, desires=True, applies=True)
    def rekey(kind: Kind) -> hf.Flow:
        return logging_in(kind)

    @box.operation("delete", ends="GONE")
    def delete(kind: Kind) -> hf.Flow:
        def forget(resource_id: str) -> None:
            pass

        return hf.linear("forget", forget)

    @box.probe
    def look(driver: Device, desired: dict[str, Any]) -> Seen:
        driver.log_in(desired)
        return Seen(True)

    return box
