"""What clients of other services expect of kinds that they know: how a resource looks, and what operations are called.

The shapes themselves have a module for each service: nova.py. A kind that nobody knew before looks as
`plain` has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from holdfast.resources.kind import Kind
from holdfast.resources.state import ResourceRow
from holdfast.service.compat import nova
from holdfast.store.base import Tx

if TYPE_CHECKING:
    from holdfast.service.requests import Ask

Shape = Callable[[Tx, "Ask", ResourceRow, dict[str, Any]], dict[str, Any]]

SHAPES: Final[Mapping[str, Shape]] = {"server": nova.server}
WORDS: Final[Mapping[str, Mapping[str, str]]] = {"server": nova.WORDS}


#: Kinds whose lists have another address where clients look for the whole of each.
DETAILED: Final = frozenset(("server",))


def shape(tx: Tx, ask: Ask, kind: Kind, row: ResourceRow, found: dict[str, Any]) -> dict[str, Any]:
    """The resource as clients know that kind; `found` is the document of /v3/resources."""
    made = SHAPES.get(kind.name)
    return plain(found) if made is None else made(tx, ask, row, found)


def plain(found: dict[str, Any]) -> dict[str, Any]:
    """What is desired and what is observed as fields of the resource; what we say of it has precedence."""
    return {**found["desired"], **found["observed"], **found}


def operation(kind: Kind, word: str) -> str:
    """Our name of the operation that a client calls so."""
    return words(kind).get(word, word)


def words(kind: Kind) -> dict[str, str]:
    """What clients call operations of the kind -> our names; what it has itself goes before."""
    known = WORDS.get(kind.name, {})
    return {word: name for word, name in known.items() if word not in kind.operations}
