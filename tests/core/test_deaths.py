"""A step that takes its worker down is suspected, and what runs beside it is not for long: deaths count by row, until
an outcome of that row."""

from __future__ import annotations

import pytest

import holdfast as hf
from holdfast.core import events as e
from holdfast.core.doubt import poisons
from holdfast.core.machine import invert
from holdfast.flow.compile import compile
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
    task = side_by_side("killer", "a", "b")
    crash(task)
    end(task, "b")
    assert suspected(task) == {"a": 1, "killer": 1}
    end(task, "a", "raised", ValueError("refused"))
    assert suspected(task) == {"killer": 1}


def test_three_ends_of_one_agent_in_one_moment_are_one_death_of_each_step() -> None:
    task = side_by_side("a", "b", "c")
    for name in "abc":
        end(task, name, "died", "its agent's lease ran out")
    assert (task.state.phase, suspected(task)) == ("RUNNING", {"a": 1, "b": 1, "c": 1})
    assert (running(task), task.state.deaths) == (["execute c"], 1)


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
    a, b = (task.state.row_of(f"f/{name}") for name in "ab")
    # An older release began them beside each other again, and counted by task.
    task.journal += [e.Died(a, "signal 9", 2.0), e.Started(a, 1, None, 3.0), e.TakenOver(2, 4.0, True)]
    task.deaths_max = 2
    task.crash()
    assert task.state.suspects == {a: 2, b: 1}
    assert task.state.doubts == {a: "poison"}


def test_a_rest_that_is_recorded_is_for_those_that_it_names() -> None:
    """An older release counted by task, and had all that was in flight rest."""
    task = side_by_side("a", "b")
    a, b = (task.state.row_of(f"f/{name}") for name in "ab")
    task.journal += [e.Died(a, "signal 9", 2.0), e.TakenOver(2, 4.0, True), e.Rested("poison", (a, b), 5.0)]
    task.crash()
    assert task.state.doubts == {a: "poison", b: "poison"}
    answers: dict[str, tuple[str, object]] = {"f/a": ("done", 1), "f/b": ("skip", None)}
    say(task, e.ResumeAsked(answers, "t", 6.0))
    assert (task.state.phase, task.state.deaths) == ("SUCCEEDED", 0)


def test_an_answer_clears_who_was_answered_and_nobody_else() -> None:
    task = side_by_side("b", "killer", "a", deaths_max=2)
    crash(task)
    end(task, "a")
    end(task, "killer", "died", "signal 9")
    say(task, e.ResumeAsked({"f/killer": ("rerun", None)}, "t", 5.0))
    assert suspected(task) == {"b": 1}
    assert running(task) == ["execute b"]
    end(task, "b")
    assert suspected(task) == {}


def test_a_step_that_was_asked_about_for_another_reason_is_cleared_by_the_answer() -> None:
    careful = hf.step(lambda: 1, name="careful", on_interrupt="suspend")
    task = script(hf.unordered("f", careful, step("a")))
    end(task, "careful", "died", "signal 9")
    end(task, "a", "stopped", "suspend")
    say(task, e.ResumeAsked({"f/careful": ("rerun", None)}, "t", 5.0))
    assert (running(task), suspected(task)) == (["execute a", "execute careful"], {})


@pytest.mark.parametrize(("outcome", "left"), [(("returned", None), {}), (("raised", OSError("gone")), {})])
def test_the_outcome_of_a_revert_clears_it(outcome: tuple[str, object], left: dict[str, int]) -> None:
    task = script(hf.linear("f", step("a"), hf.step(lambda: 1, name="bad")))
    end(task, "a")
    end(task, "bad", "raised", ValueError("x"))
    end(task, "a", "died", "signal 9")
    assert suspected(task) == {"a": 1}
    end(task, "a", *outcome)
    assert suspected(task) == left


def test_a_suspect_is_undone_alone_though_another_revert_waits() -> None:
    """It would stand still for as long as that one waits, and for ever where it waits for an event."""
    task = script(hf.unordered("f", step("waits"), step("deadly"), step("third"), hf.step(lambda: 1, name="bad")))
    for name in ("waits", "deadly", "third"):
        end(task, name)
    end(task, "bad", "raised", ValueError("x"))
    end(task, "deadly", "died", "signal 9")
    assert running(task) == ["revert third", "revert waits"]
    end(task, "waits", what=hf.WaitFor("never"))
    assert running(task) == ["revert third"], "it begins when nothing else runs"
    end(task, "third")
    assert [(call.step_id, call.isolation) for call in task.runtime.calls] == [("f/deadly", "process")]


def test_a_suspect_that_can_not_run_yet_slows_nobody() -> None:
    """Its scope begins anew, and what comes before it in there has its turn beside what polls."""
    inner = hf.unordered("u", hf.step(lambda: 1, name="deadly"), hf.step(lambda: 1, name="bad"))
    scope = hf.linear("scope", step("before"), inner, retry=hf.Retry(attempts=3, backoff_s=0))
    task = script(hf.unordered("f", scope, step("p"), step("q")))
    end(task, "before")
    end(task, "deadly", "died", "signal 9")
    end(task, "bad", "raised", ValueError("x"))
    task.clock.now += 600
    task.settle()
    end(task, "before")  # its revert
    task.clock.now += 600
    task.settle()
    assert suspected(task) == {"deadly": 1}
    assert running(task) == ["execute before", "execute p", "execute q"]


def test_two_suspects_are_begun_one_after_the_other_whichever_way_they_go() -> None:
    scope = hf.linear("scope", step("back"), hf.step(lambda: 1, name="bad"), retry=hf.Retry(attempts=3, backoff_s=0))
    task = script(hf.unordered("f", scope, step("on")))
    end(task, "back")
    end(task, "bad", "raised", ValueError("x"))
    assert running(task) == ["execute on", "revert back"]
    crash(task)
    assert suspected(task) == {"on": 1, "back": 1}
    first = running(task)
    assert len(first) == 1
    end(task, first[0].split()[1])
    assert running(task) == list({"execute on", "revert back"} - {*first})


@pytest.mark.parametrize(("whole", "alone"), [(False, "process"), (True, "process")])
def test_the_revert_of_a_suspect_is_begun_apart_in_a_scope_as_in_a_task(whole: bool, alone: str) -> None:
    deadly = step("deadly", on_interrupt="undo")
    retry = None if whole else hf.Retry(attempts=3, backoff_s=0)
    task = script(hf.linear("f", hf.linear("scope", deadly, retry=retry)))
    end(task, "deadly", "died", "signal 9")
    assert [(call.what, call.isolation) for call in task.runtime.calls] == [("revert", alone)]


def test_a_rollback_begins_with_a_clean_slate() -> None:
    task = script(hf.linear("f", step("a"), hf.step(lambda: 1, name="b", on_interrupt="undo")), on_failure="keep")
    end(task, "a")
    end(task, "b", "died", "signal 9")
    assert (task.state.phase, suspected(task)) == ("FAILED", {"b": 1})
    invert(task.state)
    assert task.state.deaths == 0


def test_what_its_worker_ended_is_no_death() -> None:
    task = side_by_side("a")
    task.journal.append(e.Died(task.state.row_of("f/a"), "killed", 2.0, ours=True))
    assert task.replayed().deaths == 0


def test_one_that_is_too_often_in_flight_is_enough() -> None:
    state = side_by_side("a", "b").state
    a, b = (state.row_of(f"f/{name}") for name in "ab")
    state.suspects[a] = 2
    assert [poisons(state, rows) for rows in ((a, b), (b,), ())] == [True, False, False]


def test_the_count_of_an_element_outlives_its_scopes_next_try() -> None:
    each = hf.map("m", hf.step(lambda: 1, name="deadly"), over="items", item="item")
    scope = hf.unordered("scope", each, hf.step(lambda: 1, name="bad"), retry=hf.Retry(attempts=9, backoff_s=0))
    task = Script(compile(hf.linear("f", scope)), {"items": [1]}, deaths_max=3)
    task.settle()
    end(task, "deadly", "died", "signal 9")
    end(task, "bad", "raised", ValueError("x"))
    task.clock.now += 600
    task.settle()
    for deaths in (1, 2):
        assert (running(task), task.state.deaths) == (["execute deadly"], deaths)
        end(task, "deadly", "died", "signal 9")
    assert task.state.reason == "poison"


def test_a_suspect_that_is_passed_over_holds_up_no_undo() -> None:
    """It has nothing to undo, and what it left behind is undone side by side."""
    plain = hf.step(lambda: 1, name="plain", on_interrupt="undo")
    task = script(hf.linear("f", hf.unordered("made", step("a"), step("b")), plain))
    end(task, "a")
    end(task, "b")
    end(task, "plain", "died", "signal 9")
    assert running(task) == ["revert a", "revert b"]
