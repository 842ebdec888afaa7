"""Ports and routers, for Holdfast: found by the entry point of pyproject.toml."""

from __future__ import annotations

import os
from collections.abc import Iterable

from holdfast.resources.kind import Kind
from holdfast.resources.registry import Kinds
from holdfast_network.fabric import Fabric
from holdfast_network.port import make_port
from holdfast_network.router import make_router
from holdfast_network.server import add_frobnicate

DIRECTORY = "HOLDFAST_NETWORK_DIR"


def make_kinds(kinds: Kinds) -> Iterable[Kind]:
    """The entry point. `kinds`: those that are known already."""
    fabric = Fabric(os.environ[DIRECTORY])
    if "server" in kinds:
        add_frobnicate(kinds.kind("server"), fabric)
    return [make_port(fabric), make_router(fabric)]
