"""What is wrong with a document, in words that say what is allowed there.

msgspec names the place and what it has found; what would have been allowed is in the type's JSON Schema.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    import msgspec

_MEMBERS: Final = "additionalProperties"
_PART: Final = re.compile(r"\.([^.\[]+)|\[[^\]]*\]")


class Misfit(NamedTuple):
    """`place`: as msgspec says it ($.a[0].b), "" for the document itself. `said` names what is `allowed`, if that is a
    list."""

    place: str
    said: str
    allowed: list[str]

    @property
    def field(self) -> str:
        """The place within the document: `a[0].b`."""
        return self.place.removeprefix("$").removeprefix(".")


def misfit(error: msgspec.ValidationError, kind: Any) -> Misfit:
    """`kind`: the type that the document does not fit."""
    said, _, place = str(error).partition(" - at `")
    place = place.rstrip("`")
    allowed: list[str] = []
    if "enum value" in said or "unknown field" in said:
        allowed = _allowed(kind, place, "enum" if "enum value" in said else "properties")
    hint = f"; allowed are {', '.join(allowed)}" if allowed else ""
    return Misfit(place, said + hint, allowed)


def _allowed(kind: Any, place: str, what: str) -> list[str]:
    import msgspec

    schema = msgspec.json.schema(kind)
    at = [schema]
    for part in _PART.finditer(place):
        at = [below for each in at for below in _below(each, part[1], schema)]
    found = [str(value) for each in at for one in _plain(each, schema) for value in one.get(what, ())]
    return list(dict.fromkeys(found))


def _below(at: dict[str, Any], name: str | None, schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schemas of a field, or (name None) of the members of a list or a mapping."""
    for each in _plain(at, schema):
        inside = [each.get("properties", {}).get(name)] if name else [each.get("items"), each.get(_MEMBERS)]
        yield from (one for one in inside if isinstance(one, dict))


def _plain(at: dict[str, Any], schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schema behind a reference, or the alternatives."""
    if "$ref" in at:
        at = schema["$defs"][at["$ref"].rpartition("/")[2]]
    yield at
    for each in at.get("anyOf", ()):
        yield from _plain(each, schema)
