"""What is wrong with a document names what is allowed, however deep it is."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pytest

from holdfast.resources.misfit import misfit


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    power: Literal["SOFT", "HARD"] | None = None


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    size: int = 0
    inner: Inner | None = None
    many: list[Inner] = []
    named: dict[str, Inner] = {}


@pytest.mark.parametrize(
    ("document", "field", "allowed"),
    [
        ({"extra": 1}, "", ["size", "inner", "many", "named"]),
        ({"inner": {"extra": 1}}, "inner", ["power"]),
        ({"inner": {"power": "x"}}, "inner.power", ["HARD", "SOFT"]),
        ({"many": [{}, {"power": "x"}]}, "many[1].power", ["HARD", "SOFT"]),
        ({"named": {"a": {"power": "x"}}}, "named[...].power", ["HARD", "SOFT"]),
        ({"size": "x"}, "size", []),
    ],
)
def test_it_says_where_and_what_is_allowed(document: dict[str, Any], field: str, allowed: list[str]) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(document, Outer)
    found = misfit(caught.value, Outer)
    assert (found.field, found.allowed) == (field, allowed)
    assert all(word in found.said for word in allowed)
