"""The kept encoder writes what json.dumps does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core import compact

TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize("ascii", [False, True])
@given(tree=TREES)
def test_it_writes_what_json_does(ascii: bool, tree: Any) -> None:
    assert compact.writer(ascii=ascii)(tree) == json.dumps(tree, ensure_ascii=ascii, separators=(",", ":"))


def test_numbers_that_json_lacks_can_be_refused() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        compact.writer(nan=False)([float("nan")])


def test_what_is_no_data_is_refused_and_does_not_hang() -> None:
    circle: list[Any] = []
    circle.append(circle)
    for bad, error in ((object(), TypeError), ({(1, 2): 3}, TypeError), (circle, RecursionError)):
        with pytest.raises(error):
            compact.writer()(bad)
