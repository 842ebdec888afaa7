"""What is answered at once, without user code."""

from __future__ import annotations

import pytest

import holdfast as hf
from holdfast.core import commands as c
from holdfast.core.state import State
from holdfast.flow.compile import compile
from holdfast.runtime.answer import answer_of


def ok() -> None: ...


@pytest.mark.parametrize(
    ("timeout_s", "said"), [(5.0, "its timeout of 5 s"), (None, "the timeout that it began with")], ids=["has", "had"]
)
def test_a_wait_that_is_over_says_whose_time_it_was(timeout_s: float | None, said: str) -> None:
    """Seed 367 of the simulated cluster: an upgrade took the timeout away while the step waited."""
    state = State(compile(hf.linear("f", hf.step(ok, timeout_s=timeout_s))), {})
    failed = answer_of(c.Expire(0), state, 1.0)
    assert failed.failure.message == f"{state.ids[0]} did not end within {said}"  # type: ignore[union-attr]
