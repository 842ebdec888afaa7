"""A revert may wait as a step does: `Again` and `WaitFor` hold no thread, and what depends on it waits too."""

from __future__ import annotations

from typing import Any

import pytest

import holdfast as hf
from holdfast.clock import Clock
from holdfast.testing.clock import FakeClock


def _flow(*, undo: str = "parallel") -> tuple[hf.Flow, list[str]]:
    told: list[str] = []

    def make(name: str) -> Any:
        @hf.step(name=name)
        def work() -> None:
            told.append(name)

        @work.revert
        def unwork(ctx: hf.Context) -> Any:
            told.append(f"{name} looked")
            if ctx.last_checkpoint is None:
                return hf.Again(5.0, checkpoint="asked")
            told.append(f"{name} undone")
            return None

        return work

    @hf.step
    def boom() -> None:
        raise ConnectionError("it always fails")

    both = hf.unordered("both", make("b"), make("c"))
    return hf.linear("back", make("a"), both, boom, undo=undo), told


@pytest.mark.requirement("TF-4")
def test_a_revert_that_polls_is_entered_again_and_the_others_wait_for_it() -> None:
    flow, told = _flow()
    outcome = hf.run(flow, clock=FakeClock())
    assert outcome.state == "FAILED"
    assert outcome.aftermath.revert == "done"
    assert told[:3] == ["a", "b", "c"]
    assert set(told[3:5]) == {"b looked", "c looked"}  # the second did not wait for the first
    assert told[-3:] == ["a looked", "a looked", "a undone"]
    assert len(told) == 3 + 3 * 3


def test_a_serial_undo_waits_for_the_revert_that_waits() -> None:
    flow, told = _flow(undo="serial")
    outcome = hf.run(flow, clock=FakeClock())
    assert outcome.state == "FAILED"
    assert told[3:6] == ["c looked", "c looked", "c undone"]
    assert told[6:9] == ["b looked", "b looked", "b undone"]


def test_what_a_revert_returns_must_be_a_wait_that_ends() -> None:
    @hf.step
    def work() -> None: ...

    @work.revert
    def unwork() -> Any:
        return hf.Again(float("inf"))

    @hf.step
    def boom() -> None:
        raise ConnectionError("no")

    outcome = hf.run(hf.linear("bad", work, boom), clock=Clock())
    assert outcome.state == "SUSPENDED"
    assert outcome.reason == "revert_failed"
