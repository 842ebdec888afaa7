"""Corners of the core that were lost once: events that come while a step runs, starts that never began, scopes that
fail while something in them is due."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import holdfast as hf
from holdfast.core import events as e
from holdfast.core.machine import invert
from holdfast.core.states import STEP_STATES
from holdfast.errors import LeaseLost
from tests.core.scripted import end, ok, running, say, script, step

# --- starts that never began -------------------------------------------------------------------------------------


def test_what_was_entered_before_is_undone_though_its_last_start_never_began() -> None:
    task = script(hf.linear("f", step("a"), step("b")))
    say(task, e.SuspendAsked(False, "t", 1.0))
    end(task, "a", "stopped", "suspend")
    say(task, e.ResumeAsked({}, "t", 2.0))
    say(task, e.CancelAsked(True, "t", 3.0))
    end(task, "a", "stopped", "cancel", began=False)
    assert running(task) == ["revert a"]


def test_a_first_start_that_never_began_is_passed_over_by_the_undo() -> None:
    task = script(hf.linear("f", step("a"), step("b")))
    say(task, e.CancelAsked(True, "t", 3.0))
    end(task, "a", "stopped", "cancel", began=False)
    assert task.state.phase == "CANCELLED"
    assert not any(type(event) is e.RevertStarted for event in task.journal)


def test_a_pivot_is_not_passed_by_a_second_try_that_never_began() -> None:
    task = script(hf.linear("f", step("a", pivot=True, retry=hf.Retry(attempts=3))))
    end(task, "a", "raised", ValueError())
    assert task.state.pivots
    say(task, e.SuspendAsked(False, "t", 1.0))
    end(task, "a", "stopped", "suspend", began=False)
    assert task.state.phase == "SUSPENDED/forward"
    assert not task.state.pivots


# --- events that a step waits for --------------------------------------------------------------------------------


def test_an_event_that_comes_while_its_step_looks_again_is_kept() -> None:
    task = script(step("a"))
    end(task, "a", "returned", hf.WaitFor("x", timeout_s=3))
    task.clock.now += 4
    task.settle()
    assert running(task) == ["execute a"]
    say(task, e.Delivered("x", 7, task.clock.now))
    end(task, "a", "returned", hf.WaitFor("x"))
    assert running(task) == ["execute a"]
    assert task.runtime.calls[0].step_id == "a"
    assert task.state.delivered == {0: 7}


def test_an_event_that_comes_between_two_tries_of_a_flow_is_kept() -> None:
    task = script(hf.unordered("f", step("a"), step("b"), retry=hf.Retry(attempts=2, backoff_s=10)))
    end(task, "a", "returned", hf.WaitFor("x"))
    end(task, "b", "raised", ValueError())
    end(task, "b")
    end(task, "a")
    say(task, e.Delivered("x", 7, task.clock.now))
    task.clock.now += 30
    task.settle()
    end(task, "a", "returned", hf.WaitFor("x"))
    assert running(task) == ["execute a", "execute b"]
    assert list(task.state.delivered.values()) == [7]


# --- a flow that fails while something in it is due --------------------------------------------------------------


def test_nothing_is_entered_in_a_flow_that_is_being_undone() -> None:
    task = script(hf.unordered("f", step("a"), step("b"), retry=hf.Retry(attempts=2, backoff_s=10)))
    end(task, "a", "returned", hf.WaitFor("x"))
    (call,) = task.runtime.calls
    task.runtime.end(call, "raised", ValueError())
    task.turn()
    assert type(task.journal[-1]) is e.ScopeFailing
    heard = e.Delivered("x", 7, task.clock.now)
    task.journal.append(heard)
    task.drive.saw([heard])
    task.settle()
    assert running(task) == ["revert a", "revert b"]
    assert task.state.events == {"x": [7]}
    assert not task.state.events_taken  # the next try will take it


def test_a_step_answered_with_rerun_in_a_flow_that_fails_is_undone_first() -> None:
    flow = hf.unordered("f", step("a", on_interrupt="suspend"), step("b"), retry=hf.Retry(attempts=2, backoff_s=10))
    task = script(flow)
    (call,) = [each for each in task.runtime.calls if each.step_id == "f/b"]
    task.runtime.end(call, "raised", ValueError())
    task.turn()
    task.crash()
    task.settle()
    assert task.state.reason == "outcome_unknown"
    say(task, e.ResumeAsked({"f/a": ("rerun", None)}, "t", 1.0))
    assert running(task) == ["revert a", "revert b"]


def test_a_serial_undo_is_serial_in_a_flow_that_is_tried_again() -> None:
    parts = [hf.unordered(name, step(f"{name}1"), step(f"{name}2"), retry=hf.Retry(attempts=2)) for name in "ab"]
    task = script(hf.unordered("f", *parts), undo="serial")
    for name in ("a1", "b1"):
        end(task, name)
    for name in ("a2", "b2"):
        (call,) = [each for each in task.runtime.calls if each.step_id.endswith(name)]
        task.runtime.end(call, "raised", ValueError())
    task.settle()
    undone = []
    while reverts := [call for call in task.runtime.calls if call.what == "revert"]:
        assert len(reverts) == 1
        undone.append(reverts[0].step_id[-2:])
        task.runtime.end(reverts[0], "returned")
        task.settle()
    assert sorted(undone) == ["a1", "a2", "b1", "b2"]


# --- answers about what is no step -------------------------------------------------------------------------------


def boom() -> bool:
    raise ValueError("no")


@pytest.mark.parametrize("word", ["done", "skip"])
@pytest.mark.parametrize("what", ["link", "map", "retry"])
def test_a_person_can_answer_for_what_is_no_step(what: str, word: str) -> None:
    last = step("last")
    flows: dict[str, Callable[[], Any]] = {
        "link": lambda: hf.graph("f", first := step("first"), last).link(first, last, when=boom),
        "map": lambda: hf.linear("f", hf.map("m", step("each"), over="items", item="item"), last),
        "retry": lambda: hf.linear(
            "f", hf.linear("g", step("each"), step("more"), retry=hf.Retry(over="items", item="item")), last
        ),
    }
    task = script(flows[what](), {} if what == "link" else {"items": 3}, on_failure="suspend")
    if what == "link":
        end(task, "first")
    assert task.state.reason == "on_failure"
    (row,) = task.state.resting
    say(task, e.ResumeAsked({task.state.ids[row]: (word, None)}, "t", 1.0))
    if task.runtime.calls:
        end(task, "last")
    assert task.state.phase == "SUCCEEDED"
    assert task.state.left == 0
    skipped = STEP_STATES[task.state.st[task.state.row_of("f/last")]] == "SKIPPED"
    assert skipped == (what == "link" and word == "skip")


# --- rollbacks of what has ended, as tasks of their own ----------------------------------------------------------


def test_a_rollback_that_is_cancelled_and_suspended_in_its_last_revert_is_cancelled() -> None:
    task = script(step("a"))
    end(task, "a")
    invert(task.state)
    task.settle()
    for verb in (e.CancelAsked(True, "t", 1.0), e.SuspendAsked(False, "t", 2.0)):
        task.verb(verb)
    task.settle()
    (call,) = task.runtime.calls
    task.runtime.end(call, "returned")
    task.settle()
    assert task.state.phase == "CANCELLED"


def test_a_task_that_ended_for_its_deadline_can_be_rolled_back() -> None:
    task = script(hf.linear("f", step("a"), step("b")), on_failure="keep")
    end(task, "a")
    task.drive.note(e.DeadlineReached(task.clock.now))
    task.settle()
    end(task, "b", "stopped", "suspend")
    assert task.state.phase == "FAILED"
    invert(task.state)
    task.settle()
    assert running(task) == ["revert b"]


# --- a lease that is over, and nobody took the task --------------------------------------------------------------


def test_a_step_killed_for_a_lease_that_nobody_took_is_entered_again() -> None:
    task = script(step("a"))
    task.drive.stop_steps()
    task.drive.halted = False  # it is seen to be nobody else's
    end(task, "a", "killed", None)
    assert running(task) == ["execute a"]
    assert task.state.deaths == 0  # its worker ended it


def test_no_probe_begins_while_the_lease_is_over_and_nobody_waits_for_one() -> None:
    """It would be stopped at once and asked for again, without an end."""
    first = hf.step(ok, name="a")
    first.probe(lambda: hf.Done(3))
    task = script(hf.linear("f", first))
    task.crash()
    task.drive.stop_steps()
    task.settle()
    assert running(task) == []
    task.drive.halted = False
    task.settle()
    assert running(task) == ["probe a"]


def test_what_a_worker_that_leaves_has_to_leave_behind_is_entered_again_and_is_no_death() -> None:
    task = script(hf.linear("f", step("a"), step("b")))
    (call,) = task.runtime.calls
    call.began = True
    assert task.drive.leave_behind(task.clock.now)
    task.runtime.calls.clear()
    assert not task.drive.leave_behind(task.clock.now)
    task.settle()
    assert (running(task), task.state.deaths) == (["execute a"], 0)


def test_what_never_began_is_not_left_behind_but_withdrawn() -> None:
    task = script(step("a"))
    (call,) = task.runtime.calls
    call.began = False
    task.drive.leave_behind(task.clock.now)
    task.runtime.calls.clear()
    task.settle()
    assert running(task) == ["execute a"]
    assert [type(fact).__name__ for fact in task.journal].count("Withdrawn") == 1


@pytest.mark.requirement("G2")
@pytest.mark.parametrize("is_in_an_append", [False, True])
def test_a_thread_that_waits_for_its_checkpoint_stops_when_the_lease_is_over(is_in_an_append: bool) -> None:
    task = script(step("a"))
    (call,) = task.runtime.calls
    assert call.isolation == "thread"
    said: list[BaseException | None] = []
    task.drive.checkpoint(call, 1, said.append)
    if is_in_an_append:
        task.drive.advance(task.clock.now)
    task.drive.stop_steps()
    assert [type(error) for error in said] == [LeaseLost]
    task.drive.checkpoint(call, 2, said.append)
    assert [type(error) for error in said] == [LeaseLost, LeaseLost]


# --- results that are not what was promised ----------------------------------------------------------------------


def pair() -> tuple[int, int]:
    return 1, 2


def test_a_step_that_a_person_calls_done_may_give_less_than_it_promised() -> None:
    first = hf.step(pair, name="a", provides=("p", "q"), on_interrupt="suspend")
    task = script(hf.linear("f", first, hf.step(lambda q: q, name="b")))
    task.crash()
    task.settle()
    say(task, e.ResumeAsked({"f/a": ("done", None)}, "t", 1.0))
    assert task.runtime.calls[0].arguments == {"q": None}
    end(task, "b")
    assert task.state.phase == "SUCCEEDED"
    assert task.state.outputs() == {"p": None, "q": None}


def test_a_probe_that_brings_back_less_than_was_promised_knows_nothing() -> None:
    first = hf.step(pair, name="a", provides=("p", "q"))
    first.probe(lambda: hf.Done(3))
    task = script(hf.linear("f", first))
    task.crash()
    task.settle()
    end(task, "a", "returned", hf.Done(3))
    assert task.state.reason == "outcome_unknown"


def test_what_was_skipped_in_a_map_is_none_in_its_list() -> None:
    first, last = step("first"), hf.step(pair, name="last", provides=("p", "q"))
    body = hf.graph("g", first, last).link(first, last, when=lambda: False)
    task = script(hf.map("m", body, over="items", item="item", provides="out", collect="q"), {"items": [1, 2]})
    for call in list(task.runtime.calls):
        task.runtime.end(call, "returned", 1)
    task.settle()
    assert task.state.phase == "SUCCEEDED"
    assert task.state.outputs() == {"out": [None, None]}


def test_an_event_is_there_for_the_next_try_of_the_step_that_failed_with_it() -> None:
    task = script(step("a", retry=hf.Retry(attempts=2)))
    end(task, "a", "returned", hf.WaitFor("x"))
    say(task, e.Delivered("x", 7, 1.0))
    end(task, "a", "raised", ConnectionError())
    end(task, "a", "returned", hf.WaitFor("x"))
    assert running(task) == ["execute a"]
    assert list(task.state.delivered.values()) == [7]


# --- answers of user code that are none --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        hf.Again(float("nan")), hf.Again(float("inf")), hf.Again("3"), hf.Again(10**400),  # type: ignore[arg-type]
        hf.WaitFor("x", "3"), hf.WaitFor(3), hf.WaitFor("x", float("nan")),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_a_wait_that_would_never_end_is_the_steps_failure(answer: Any) -> None:
    task = script(step("a"))
    end(task, "a", "returned", answer)
    end(task, "a")
    assert task.state.phase == "FAILED"
    assert task.state.failures[0].type in ("UsageError", "OverflowError")


def test_a_call_that_has_ended_is_not_kept_until_its_timeout_would_have_been() -> None:
    task = script(hf.linear("f", step("a", timeout_s=3600), step("b")))
    gone = task.runtime.calls[0]
    end(task, "a")
    assert task.drive.next_at() is None
    assert gone not in task.drive._patience._open.values()


def test_the_time_that_a_step_waits_for_a_thread_is_not_taken_off_its_timeout() -> None:
    task = script(step("a", timeout_s=10))
    (call,) = task.runtime.calls
    call.began = False  # no thread is free
    task.clock.now += 11
    task.settle()
    assert call.stop_reason is None
    call.begin()
    for passed, reason in ((9, None), (2, "timeout")):
        task.clock.now += passed
        task.settle()
        assert call.stop_reason == reason
