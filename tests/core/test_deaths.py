"""A step that takes its worker down is suspected, and what runs beside it is not for long: deaths count by row, until
an outcome of that row."""

from __future__ import annotations

import pytest

import holdfast as hf
from holdfast.core import events as e
from tests.core.scripted import Script, end, running, say, script, step

pytestmark = pytest.mark.requirement("G10")


def side_by_side(*names: str, deaths_max: int = 3) -> Script:
    made = script(hf.unordered("f", *map(step, names)))
    made.deaths_max = made.state.deaths_max = deaths_max
    return made


def crash(of: Script) -> None:
    of.crash()
    of.settle()


def suspected(of: Script) -> dict[str, int]:
    return {of.state.ids[row].rpartition("/")[2]: deaths for row, deaths in of.state.suspects.items()}


@pytest.mark.requirement("P12")
def test_of_many_side_by_side_only_the_one_that_kills_is_poison() -> None:
    """Each runs alone after the first death, so the second and the third are the killer's."""
    task = side_by_side("a", "killer", "b", "c")
    crash(task)
    assert suspected(task) == {"a": 1, "killer": 1, "b": 1, "c": 1}
    deaths = 1
    while task.state.phase == "RUNNING":
        (only,) = running(task)
        if only == "execute killer":
            end(task, "killer", "died", "signal 9")
            deaths += 1
        else:
            end(task, only.removeprefix("execute "))
    assert (task.state.reason, task.state.resting) == ("poison", (task.state.row_of("f/killer"),))
    assert deaths == 3


def test_what_another_step_comes_to_says_nothing_of_the_one_that_kills() -> None:
    """Before, a sibling's outcome set the count back: eight of a map took eight workers with them."""
    task = side_by_side("a", "b", "killer")
    crash(task)
    end(task, "a")
    assert suspected(task) == {"b": 1, "killer": 1}
    end(task, "b", "raised", ValueError("refused"))
    assert suspected(task) == {"killer": 1}


def test_three_ends_of_one_agent_in_one_moment_are_one_death_of_each_step() -> None:
    task = side_by_side("a", "b", "c")
    for name in "abc":
        end(task, name, "died", "its agent's lease ran out")
    assert (task.state.phase, suspected(task)) == ("RUNNING", {"a": 1, "b": 1, "c": 1})
    assert (running(task), task.state.deaths) == (["execute a"], 1)


def test_a_suspect_runs_alone_and_then_all_that_is_left_side_by_side() -> None:
    task = script(hf.linear("f", step("deadly"), hf.unordered("rest", step("a"), step("b"))))
    end(task, "deadly", "died", "signal 9")
    assert [(call.step_id, call.isolation) for call in task.runtime.calls] == [("f/deadly", "process")]
    end(task, "deadly")
    assert (running(task), task.state.deaths) == (["execute a", "execute b"], 0)


@pytest.mark.parametrize("outcome", [("returned", hf.Again(0.0)), ("raised", OSError("gone"))])
def test_an_outcome_of_its_own_clears_it(outcome: tuple[str, object]) -> None:
    task = script(hf.linear("f", step("flaky", retry=hf.Retry(attempts=9)), step("next")))
    for _ in range(5):
        end(task, "flaky", "died", "signal 9")
        assert task.state.deaths == 1
        end(task, "flaky", *outcome)
        assert task.state.deaths == 0
        task.clock.now += 600
        task.settle()
    assert running(task) == ["execute flaky"]


def test_of_what_was_in_flight_together_the_one_with_the_most_deaths_is_one_too_many() -> None:
    """With a bound that was lowered meanwhile, the journal says which of them it was."""
    task = side_by_side("a", "b", deaths_max=99)
    end(task, "a", "died", "signal 9")
    end(task, "b")
    (row,) = task.state.suspects
    task.deaths_max = 2
    crash(task)
    assert (task.state.reason, task.state.resting) == ("poison", (row,))
    assert task.replayed().phase == "SUSPENDED/forward"


def test_an_answer_clears_who_was_answered_and_nobody_else() -> None:
    task = side_by_side("a", "killer", "b", deaths_max=2)
    crash(task)
    end(task, "a")
    end(task, "killer", "died", "signal 9")
    say(task, e.ResumeAsked({"f/killer": ("rerun", None)}, "t", 5.0))
    assert suspected(task) == {"b": 1}
    assert running(task) == ["execute b"]
    end(task, "b")
    assert (running(task), suspected(task)) == (["execute killer"], {})


def test_a_suspect_that_is_passed_over_holds_up_no_undo() -> None:
    """It has nothing to undo, and what it left behind is undone side by side."""
    plain = hf.step(lambda: 1, name="plain", on_interrupt="undo")
    task = script(hf.linear("f", hf.unordered("made", step("a"), step("b")), plain))
    end(task, "a")
    end(task, "b")
    end(task, "plain", "died", "signal 9")
    assert running(task) == ["revert a", "revert b"]
