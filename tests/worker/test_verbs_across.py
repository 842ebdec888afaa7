"""Verbs from this process reach steps of a worker in another one: threads, coroutines and processes, deaf ones too."""

from __future__ import annotations

import pytest

import holdfast as hf
from holdfast.local import Task
from tests.worker import flows
from tests.worker.house import House, Line, is_there, until

REACHED = pytest.mark.parametrize(
    ("flow", "said"),
    [(flows.in_thread, "nap"), (flows.in_loop, "awaiting"), (flows.in_process, "napping")],
    ids=["thread", "async", "process"],
)


def begun(house: House, flow: hf.Flow, said: str, **options: object) -> tuple[Task, Line]:
    """The task, in the middle of a step of another process's worker, and what that step said."""
    task = house.open().submit(flow, {"at": house.at}, **options)  # type: ignore[arg-type]
    house.worker(grace_s=0.2)
    return task, house.until_said(said)


@REACHED
@pytest.mark.requirement("IRONIC-1", "IRONIC-2", "G6")
class TestReachingAnotherProcess:
    """The stop arrives though nobody ends the sleep of an hour."""

    def test_cancel(self, house: House, flow: hf.Flow, said: str) -> None:
        task, _ = begun(house, flow, said)
        assert task.cancel().wait(60).state == "CANCELLED"
        assert house.said() == ["first", said, f"un{said}", "unfirst"]

    def test_suspend_and_resume_and_rollback(self, house: House, flow: hf.Flow, said: str) -> None:
        task, _ = begun(house, flow, said)
        assert task.suspend().wait(60).state == "SUSPENDED"
        task.resume()
        house.until_said(said, 2)
        assert task.rollback().wait(60).state == "REVERTED"
        assert house.said() == ["first", said, said, f"un{said}", "unfirst"]

    def test_abort(self, house: House, flow: hf.Flow, said: str) -> None:
        task, line = begun(house, flow, said)
        assert task.abort().wait(60).state == "ABORTED"
        assert house.said() == ["first", said]
        if flow is flows.in_process:
            assert not is_there(line.pid)


@pytest.mark.requirement("IRONIC-3", "G6", "P3")
class TestAStepThatHangsInC:
    """It holds the interpreter's lock and hears nothing; its process is ended."""

    def test_cancel_ends_it_after_its_grace_and_not_before_it_is_gone_says_so(self, house: House) -> None:
        task, hung = begun(house, flows.in_c, "hung")
        task.cancel()
        seen: list[tuple[str, bool]] = []

        def ended() -> bool:
            state = task.state  # read first: once it says CANCELLED, nothing may run
            seen.append((state, is_there(hung.pid)))
            return state == "CANCELLED"

        until(ended)
        assert seen[0][0] in ("CANCELLING", "CANCELLED")
        assert seen[-1] == ("CANCELLED", False)
        assert house.said() == ["first", "hung", "unhung", "unfirst"]

    def test_abort_ends_it_at_once_and_the_next_gets_its_claim(self, house: House) -> None:
        task, hung = begun(house, flows.in_c, "hung", claims=["node/1"])
        after = house.open().submit(flows.short, {"at": house.at}, claims=["node/1"])
        assert (after.state, after.view()["blocked_by"]) == ("PENDING", [task.id])
        task.abort()
        assert task.wait(60).state == "ABORTED"
        assert not is_there(hung.pid)
        assert after.wait(60).state == "SUCCEEDED"
        assert house.said() == ["first", "hung", "first", "last"]

    def test_its_timeout_ends_it_and_it_is_undone(self, house: House) -> None:
        task, hung = begun(house, flows.in_c_timed, "hung")
        assert task.wait(60).state == "FAILED"
        assert not is_there(hung.pid)
        assert task.failure is not None
        assert task.failure.types[0] == "holdfast.errors.StepTimeout"
        assert house.said() == ["first", "hung", "unhung", "unfirst"]


@pytest.mark.requirement("IRONIC-1", "P3")
class TestAThreadThatHearsNothing:
    def test_cancelled_is_not_said_while_it_runs(self, house: House) -> None:
        task, _ = begun(house, flows.unhearing, "deaf")
        task.cancel()
        until(lambda: any("asked to CANCEL" in line for line in task.trace))
        # The worker has heard it: a second task that came later is done, and the first still says what is true.
        assert house.open().submit(flows.short, {"at": house.at}).wait(60).state == "SUCCEEDED"
        assert task.state == "CANCELLING"
        house.turn("go")
        assert task.wait(60).state == "CANCELLED"
        assert house.said() == ["first", "deaf", "first", "last", "deaf ends", "undeaf", "unfirst"]

    def test_abort_leaves_it_behind_and_says_so(self, house: House) -> None:
        task, _ = begun(house, flows.unhearing, "deaf", claims=["node/1"])
        after = house.open().submit(flows.short, {"at": house.at}, claims=["node/1"])
        assert task.abort().wait(60).state == "ABORTED"
        assert {step.node: step.state for step in task.steps}["unhearing/deaf"] == "ABANDONED"
        assert task.view()["effect"] == "unknown"
        assert after.wait(60).state == "SUCCEEDED"
        assert "deaf ends" not in house.said()
