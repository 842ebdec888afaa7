"""A task at rest is never at a dead end: every answer and every verb, for every reason, in both directions."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import holdfast as hf
from holdfast.core.states import REASONS
from holdfast.errors import AnswerNeeded, AnswerRefused, PastPivot, VerbRefused
from holdfast.local import Holdfast, Task
from tests.worker import resting_flows as flows
from tests.worker.house import House

FORWARD = {
    "on_failure": flows.on_failure,
    "outcome_unknown": flows.outcome_unknown,
    "poison": flows.poison,
    "step_unresponsive": flows.step_unresponsive,
}
BACK = {"revert_failed": flows.revert_failed, "poison": flows.poison_back, "step_unresponsive": flows.unresponsive_back}

forward = pytest.mark.parametrize("reason", FORWARD)
back = pytest.mark.parametrize("reason", BACK)


class Resting:
    """A task at rest for the reason, and the worker that it waits for."""

    def __init__(self, house: House, flow: hf.Flow, reason: str) -> None:
        self.house = house
        self.hold: Holdfast = house.open(deaths_max=1 if reason == "poison" else 3)
        house.turn("last_fails")
        self.task = self.hold.submit(flow, {"at": house.at}, claims=["node/1"])
        self.hold.work(until_idle=True)
        assert (self.task.state, self.task.reason) == ("SUSPENDED", reason)
        self.step = f"{flow.name}/it"
        self.before = house.said()

    def mend(self) -> None:
        """What made it rest is over, and nobody else is at work."""
        self.house.turn("mended")

    def after(self, verb: Callable[[], object]) -> list[str]:
        """What the steps say after the verb."""
        verb()
        self.hold.work(until_idle=True)
        return self.house.said()[len(self.before) :]

    def answer(self, word: str) -> list[str]:
        return self.after(lambda: self.task.resume({self.step: word}))


@forward
@pytest.mark.parametrize("word", ["done", "rerun", "undo", "skip"])
def test_every_answer_forward(house: House, reason: str, word: str) -> None:
    resting = Resting(house, FORWARD[reason], reason)
    resting.mend()
    said = {
        "done": ["see None"],
        "rerun": ["it", "see it"],
        "undo": ["unit", "unfirst"],
        "skip": [],
    }[word]
    told = resting.answer(word)
    if word == "skip":  # what takes an input of it by default goes on without
        assert told in ([], ["see nothing"])
    else:
        assert told == said
    assert resting.task.state == ("FAILED" if word == "undo" else "SUCCEEDED")


@back
@pytest.mark.parametrize("word", ["done", "rerun", "undo", "skip"])
def test_every_answer_back(house: House, reason: str, word: str) -> None:
    resting = Resting(house, BACK[reason], reason)
    resting.mend()
    if word not in REASONS[reason].answers:
        with pytest.raises(AnswerRefused, match=word):
            resting.answer(word)
        word = "rerun"
    assert resting.answer(word) == (["unit", "unfirst"] if word in ("rerun", "undo") else ["unfirst"])
    assert resting.task.state == "FAILED"
    assert resting.task.view()["revert"] == ("partial" if word == "skip" else "done")


@pytest.mark.parametrize("word", ["done", "rerun", "skip"])
def test_every_answer_past_the_pivot(house: House, word: str) -> None:
    resting = Resting(house, flows.past_pivot, "past_pivot")
    resting.mend()
    told = resting.answer(word)
    assert told in {"done": [["see None"]], "rerun": [["it", "see it"]], "skip": [[], ["see nothing"]]}[word]
    assert resting.task.state == "SUCCEEDED"


@forward
class TestVerbsForward:
    def test_cancel(self, house: House, reason: str) -> None:
        resting = Resting(house, FORWARD[reason], reason)
        told = resting.after(resting.task.cancel)
        if reason == "step_unresponsive":  # it may still run, and nothing is undone beside it
            assert (resting.task.state, resting.task.reason, told) == ("SUSPENDED", reason, [])
            resting.mend()
            told = resting.answer("undo")
        assert resting.task.state == "CANCELLED"
        assert told == ["unit", "unfirst"]

    def test_rollback(self, house: House, reason: str) -> None:
        resting = Resting(house, FORWARD[reason], reason)
        told = resting.after(resting.task.rollback)
        if reason == "step_unresponsive":
            assert (resting.task.state, resting.task.reason, told) == ("SUSPENDED", reason, [])
            resting.mend()
            told = resting.answer("undo")
        assert resting.task.state == "REVERTED"
        assert told == ["unit", "unfirst"]

    def test_abort(self, house: House, reason: str) -> None:
        resting = Resting(house, FORWARD[reason], reason)
        assert resting.after(resting.task.abort) == []
        view = resting.task.view()
        assert (view["state"], view["effect"], view["revert"]) == ("ABORTED", "unknown", "none")

    def test_cancel_without_undo(self, house: House, reason: str) -> None:
        resting = Resting(house, FORWARD[reason], reason)
        told = resting.after(lambda: resting.task.cancel(revert=False))
        if reason == "step_unresponsive":
            assert (resting.task.state, told) == ("SUSPENDED", [])
            resting.mend()
            told = resting.answer("skip")
        assert (resting.task.state, told) == ("CANCELLED", [])
        unheard = reason in ("outcome_unknown", "poison")  # of a step that nobody has heard the end of
        assert resting.task.view()["effect"] == ("unknown" if unheard else "partial")


@back
class TestVerbsBack:
    def test_abort(self, house: House, reason: str) -> None:
        resting = Resting(house, BACK[reason], reason)
        assert resting.after(resting.task.abort) == []
        assert (resting.task.state, resting.task.view()["effect"]) == ("ABORTED", "unknown")

    def test_what_is_being_undone_is_not_cancelled_and_a_rollback_is_what_it_does(
        self, house: House, reason: str
    ) -> None:
        resting = Resting(house, BACK[reason], reason)
        with pytest.raises(VerbRefused):
            resting.task.cancel()
        assert resting.after(resting.task.rollback) == []
        assert (resting.task.state, resting.task.reason) == ("SUSPENDED", reason)


def test_verbs_past_the_pivot(house: House) -> None:
    resting = Resting(house, flows.past_pivot, "past_pivot")
    for verb in (resting.task.cancel, resting.task.rollback):
        with pytest.raises(PastPivot):
            verb()
    assert resting.after(lambda: resting.task.cancel(revert=False)) == []
    assert resting.task.state == "CANCELLED"


@pytest.mark.parametrize("reason", [reason for reason, told in REASONS.items() if told.needs_answer])
def test_who_does_not_answer_is_told_what_to_say(house: House, reason: str) -> None:
    flow = {**BACK, **FORWARD, "past_pivot": flows.past_pivot}[reason]
    resting = Resting(house, flow, reason)
    with pytest.raises(AnswerNeeded) as needed:
        resting.task.resume()
    assert needed.value.details == {"steps": [resting.step], "words": list(REASONS[reason].answers)}
    for word in REASONS[reason].answers:
        assert word in str(needed.value)
    with pytest.raises(AnswerRefused, match="does not rest for an answer about"):
        resting.task.resume({f"{flow.name}/first": "rerun"})
    with pytest.raises(AnswerRefused, match="is no answer"):
        resting.task.resume({resting.step: "whatever"})
    assert (resting.task.state, house.said()) == ("SUSPENDED", resting.before)


def test_a_task_at_rest_keeps_its_claims_and_frees_them_at_its_end(house: House) -> None:
    resting = Resting(house, flows.poison, "poison")
    behind: Task = resting.hold.submit(flows.see, {"at": house.at}, claims=["node/1"])
    assert resting.after(lambda: None) == []
    assert behind.view()["blocked_by"] == [resting.task.id]
    assert resting.after(resting.task.abort) == ["see nothing"]
    assert behind.state == "SUCCEEDED"
