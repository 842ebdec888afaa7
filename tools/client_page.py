"""The page docs/reference/client.md: every call of the Python client, once for both shells."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from holdfast.client.patience import Patience
from holdfast.client.stream import Event
from holdfast.client.surface import Leases, Many, Nodes, One, Pools, Resources, Root, Schedules, Tasks, Workers
from holdfast.client.tasks import Accepted
from tools import pages
from tools.python_page import WIDTH, code, parameters, shown, told

HEAD = """
What `holdfast.client` gives; [how to use it](../how-to/use-the-client.md). A call on a client of `connect` returns its
value, or an iterator; on one of `connect_async` it is awaited, or iterated with `async for`. Errors are
[those of the library](errors.md), with the service's `code`, `status` and `details`.
"""


def client(module: ModuleType) -> str:
    parts = [pages.head("Python client", HEAD)]
    for name in ("connect", "connect_async"):
        made = getattr(module, name)
        parts += [f"## {name}", code(f"holdfast.client.{name}", made), told(made)]
    surfaces = {"client": Root, "client.tasks": Tasks, "client.resources": Resources, "client.nodes": Nodes,
                "client.schedules": Schedules, "client.pools": Pools, "client.workers": Workers,
                "client.leases": Leases}  # fmt: skip
    for title, surface in surfaces.items():
        parts.append(f"## {title}")
        parts += calls(title, surface)
    for value in (Accepted, Event, Patience):
        parts += [f"## {value.__name__}", code(value.__name__, value), told(value)]
    return "\n\n".join(parts)


def calls(title: str, surface: Any) -> Iterator[str]:
    for name, call in vars(surface).items():
        if isinstance(call, One | Many):
            signature = inspect.signature(call.call)
            given = list(signature.parameters.values())[1:]  # the first is how the client goes about it
            words = list(parameters(given))
            text = f"{title}.{name}({', '.join(words)}) -> {gives(call, signature)}"
            if len(text) > WIDTH:
                lines = (f"{title}.{name}(", *(f"{word}," for word in words))
                text = "\n    ".join(lines) + f"\n) -> {gives(call, signature)}"
            yield f"```text\n{text}\n```"
            yield told(call.call)


def gives(call: One[Any, Any] | Many[Any, Any], signature: inspect.Signature) -> str:
    if isinstance(call, Many):
        return f"iterator of {'dict' if call.of is not Event else 'Event'}"
    text = shown(signature.return_annotation).removeprefix("Call[").removesuffix("]")
    return text.replace("Document", "dict")
