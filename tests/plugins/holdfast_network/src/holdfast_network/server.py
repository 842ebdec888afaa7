"""An operation more for the kind `server`, which somebody else brings."""

from __future__ import annotations

import msgspec

import holdfast as hf
from holdfast.resources.kind import Kind
from holdfast_network.fabric import Fabric


class Frobnicate(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    times: int = 1


def add_frobnicate(server: Kind, fabric: Fabric) -> None:
    """Nothing of Holdfast is edited for it."""

    @server.operation("frobnicate", params=Frobnicate, fault="", summary="Frobnicate the server.")
    def frobnicate(kind: Kind) -> hf.Flow:
        def turn(ctx: hf.Context, resource_id: str, times: int) -> None:
            for _ in range(times):
                fabric.apply("knob", resource_id, {"name": "frobnicated"}, ctx)

        return hf.linear("frobnicate", turn)
