"""Kinds as plain data: what a client has to know to ask for their operations. Both the service's schemas and the nouns
of the command line are made from it.

What a kind is: kind.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from holdfast.resources.kind import Kind, Operation


def describe(kinds: Iterable[Kind]) -> dict[str, Any]:
    """Each kind by name: its plural, title, lifecycle states, the JSON schema of its fields, and its operations."""
    return {kind.name: _kind(kind) for kind in kinds}


def _kind(kind: Kind) -> dict[str, Any]:
    return {
        "plural": kind.plural,
        "title": kind.title,
        "lifecycle": list(kind.lifecycle),
        "fields": schema_of(kind.fields),
        "operations": {name: _operation(operation) for name, operation in kind.operations.items()},
    }


def _operation(operation: Operation) -> dict[str, Any]:
    """`starts`: the lifecycle states that allow it; none for the one that makes a resource."""
    return {
        "summary": operation.summary,
        "starts": [] if operation.creates else list(operation.starts),
        "ends": operation.ends,
        "abortable": operation.abortable,
        "desires": operation.desires,
        "params": None if operation.params is None else schema_of(operation.params),
    }


def schema_of(struct: type[Any]) -> dict[str, Any]:
    """The JSON schema of a document (2020-12), which stands by itself."""
    import msgspec

    made = msgspec.json.schema(struct)
    below = dict(made.get("$defs", {}))
    top = made
    if "$ref" in made:
        top = below.pop(made["$ref"].rpartition("/")[2])
    return {**top, **({"$defs": below} if below else {})}
