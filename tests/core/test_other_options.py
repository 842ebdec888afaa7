"""An upgrade says otherwise what becomes of a step that was interrupted: what its journal says stays so."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import Any

import pytest

import holdfast as hf
from holdfast.core import commands as c
from holdfast.core import events as e
from holdfast.core.decide import decide
from holdfast.core.machine import replay
from holdfast.core.plan import Plan
from holdfast.core.state import State
from holdfast.flow.compile import compile
from tests.core.scripted import COMPARED

pytestmark = pytest.mark.requirement("G3", "G9")

OPTIONS = ("rerun", "undo", "suspend", "probe")
ROW = 0
SHOWN = (*COMPARED, "ready", "running", "to_probe", "undo_heap", "suspects", "resting")


def plan_with(option: str, on_failure: str) -> Plan:
    boot = hf.step(lambda: None, name="boot", on_interrupt="rerun" if option == "probe" else option)
    boot.revert(lambda: None)
    if option == "probe":
        boot.probe(lambda: hf.NotDone())
    return compile(hf.linear("build", boot, hf.step(lambda: None, name="check"), on_failure=on_failure))


def answered(word: str) -> e.ResumeAsked:
    return e.ResumeAsked({"build/boot": (word, None)}, "", 5.0)


def then(option: str, on_failure: str) -> Iterator[tuple[e.Event, ...]]:
    """What may follow in the journal when a step with that option has died."""
    begins = e.Started(ROW, 1, None, 5.0)
    unknown = e.Rested("outcome_unknown", (ROW,), 4.0)
    answers = [answered(word) for word in ("done", "rerun", "undo", "skip")]
    if option == "rerun":
        yield (begins,)
        yield begins, e.Succeeded(ROW, None, 6.0)
    elif option == "suspend":
        yield (unknown,)
        yield from ((unknown, answer) for answer in answers)
    elif option == "undo" and on_failure == "revert":
        yield (e.Turned("FAILED", 4.0),)
    elif option == "undo":
        rests = e.Rested("on_failure", (ROW,), 4.0)
        yield from ((rests,), (rests, e.ResumeAsked({}, "", 5.0)))
        yield from ((rests, answer) for answer in answers)
    else:
        yield (e.Probed(ROW, "done", None, None, 4.0),)
        yield (e.Probed(ROW, "not_done", None, None, 4.0),)
        unsure = e.Probed(ROW, "unknown", None, None, 4.0)
        yield from ((unsure, unknown, answer) for answer in answers)


STORIES = [
    pytest.param(before, after, on_failure, [e.Began(1.0), e.Started(ROW, 1, None, 2.0), *parked, dies, *rest])
    for on_failure in ("revert", "suspend")
    for before, after in permutations(OPTIONS, 2)
    for parked in ([], [e.Parked(ROW, 2.5, None, None, 1, 2.0), e.Reentered(ROW, 2.5)])
    for dies in (e.Died(ROW, "signal 9", 3.0), e.TakenOver(2, 3.0))
    for rest in then(before, on_failure)
]


@pytest.mark.parametrize(("before", "after", "on_failure", "journal"), STORIES)
def test_what_is_recorded_goes_before_what_the_options_say_today(
    before: str, after: str, on_failure: str, journal: list[e.Event]
) -> None:
    was, now = (State(plan_with(option, on_failure), {}) for option in (before, after))
    replay(was, journal)
    replay(now, journal)
    expected, found = told(was), told(now)
    if type(journal[-1]) is e.Turned:  # why it turned, and at which try, is shown with its steps, and in no event
        for name in ("failures", "attempt"):
            del expected[name], found[name]
    assert found == expected
    assert decide(now, 9.0, 4) == decide(was, 9.0, 4)


def told(state: State) -> dict[str, Any]:
    return {name: getattr(state, name) for name in SHOWN} | {"failed": list(state.failed)}


def test_what_nothing_has_followed_goes_by_what_the_author_says_now() -> None:
    state = State(plan_with("suspend", "revert"), {})
    replay(state, [e.Began(1.0), e.Started(ROW, 1, None, 2.0), e.Died(ROW, "signal 9", 3.0)])
    assert state.doubts == {ROW: "outcome_unknown"}
    assert decide(state, 4.0, 4) == [c.Rest("outcome_unknown", (ROW,))]
