"""Calls about nodes in Ironic's words, under /v1/nodes, where a node is named by its id or by its name.

What all kinds of resources have in common: resources.py. What a call yields, and who does it: protocol.py.
"""

from __future__ import annotations

from typing import Any

from holdfast.client.protocol import Call, Ways, ask_json, path_of
from holdfast.client.tasks import Accepted, Document, make


def get(ways: Ways, /, node: str) -> Call[Document]:
    """One node, as Ironic shows it."""
    found: Document = yield from ask_json(ways, _place(node))
    return found


def states(ways: Ways, /, node: str) -> Call[Document]:
    """Its power as it was seen last, what is being done about it, and what may be asked for."""
    found: Document = yield from ask_json(ways, _place(node, "states"))
    return found


def power(
    ways: Ways, /, node: str, target: str, *, timeout_s: float | None = None, tag: str | None = None
) -> Call[Accepted]:
    """Ask for a power state, as "soft power off", or for the end of what is being done about it, as "abort soft power
    off". timeout_s: how long the machine may take."""
    body: dict[str, Any] = {"target": target}
    if timeout_s is not None:
        body["timeout"] = timeout_s
    return make(ways, "PUT", _place(node, "states", "power"), body, tag=tag)


def _place(*parts: str) -> str:
    return "/v1" + path_of("nodes", *parts).removeprefix("/v3")
