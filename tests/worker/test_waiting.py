"""Waiting is durable and costs nothing: a time, an event, a retry's pause. Every verb is answered meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import holdfast as hf
from holdfast.local import Holdfast, Task
from holdfast.tasks import take
from tests.core.scripted import step
from tests.worker import waiting_flows as flows
from tests.worker.house import House, until
from tests.worker.scripted import Bench

WAITS = [
    (flows.polling, "look", "unpoll"),
    (flows.hearing, "wait", "unwait"),
    (flows.backing_off, "back_off", "unback_off"),
]
waits = pytest.mark.parametrize(("flow", "said", "undone"), WAITS, ids=["time", "event", "retry"])


def waiting(house: House, flow: hf.Flow, **settings: Any) -> tuple[Holdfast, Task]:
    """A task that waits for an hour or for ever, with no worker."""
    hold = house.open(**settings)
    task = hold.submit(flow, {"at": house.at})
    with hold.working():
        until(lambda: task.state == "WAITING")
    return hold, task


def test_tasks_that_only_poll_keep_no_other_from_being_begun(house: House) -> None:
    house.turn("quick")
    hold = house.open()
    worker = hold.worker("threads")
    worker._intake.pace.tasks_max = 2
    polls = [hold.submit(flows.polling, {"at": house.at}) for _ in range(4)]
    other = hold.submit(flows.hearing, {"at": house.at})
    worker.run(lambda: other.state == "WAITING")
    assert {poll.state for poll in polls} <= {"RUNNING", "WAITING"}
    house.turn("off")
    other.deliver("word")
    worker.run(worker.is_idle)
    worker.close()
    assert {task.state for task in (*polls, other)} == {"SUCCEEDED"}


def test_what_many_tasks_say_and_their_leaving_are_a_few_commits(tmp_path: Path) -> None:
    """Each commit is a sync of the disk, and nobody is heard meanwhile. All have a thread here."""
    bench = Bench(tmp_path, hf.linear("many", step("poll")))
    tasks = [bench.submit() for _ in range(30)]
    bench.settle()
    commits: list[float] = []
    bench.hold.store.time_commits(commits.append)
    for call in bench.runtime.calls:
        call.host.progress(call, 0.5, "half")
    bench.later(5.0)
    assert {task.view()["progress"]["message"] for task in tasks} == {"half"}
    assert 0 < len(commits) < 5

    commits.clear()
    for call in list(bench.runtime.calls):
        bench.runtime.end(call, "returned", hf.Again(3600.0))
    bench.settle()
    assert (bench.worker.taken, {task.state for task in tasks}) == ({}, {"WAITING"})
    assert 0 < len(commits) < 5


@pytest.mark.requirement("TF-16")
def test_a_poll_survives_a_kill_and_asks_once(house: House) -> None:
    house.turn("quick")
    task = house.open().submit(flows.polling, {"at": house.at})
    worker = house.worker(lease_s=3600)
    house.until_said("look", 3)
    worker.kill()
    looked = house.said().count("look")
    house.turn("off")
    hold = house.open(lease_s=3600)
    hold.work(until_idle=True)
    assert (task.state, task.results["power"]) == ("SUCCEEDED", "off")
    assert house.said().count("ask") == house.said().count("first") == 1
    looks = [line.extra for line in house.lines() if line.what == "look"]
    assert looks == sorted(looks), "it goes on counting where it was"
    assert looks[-1] in (looked, looked + 1)
    assert len(hold.store.journal(task._id)) < 20, "polls fold into one row"


@waits
class TestVerbsOfOneThatWaits:
    def test_cancel(self, house: House, flow: hf.Flow, said: str, undone: str) -> None:
        hold, task = waiting(house, flow)
        task.cancel()
        hold.work(until_idle=True)
        assert task.state == "CANCELLED"
        assert house.said()[-2:] == [undone, "unfirst"]

    def test_abort_needs_no_worker(self, house: House, flow: hf.Flow, said: str, undone: str) -> None:
        _, task = waiting(house, flow)
        assert task.abort().state == "ABORTED"
        assert house.said()[-1] == said

    def test_rollback(self, house: House, flow: hf.Flow, said: str, undone: str) -> None:
        hold, task = waiting(house, flow)
        task.rollback()
        hold.work(until_idle=True)
        assert task.state == "REVERTED"
        assert house.said()[-2:] == [undone, "unfirst"]

    def test_suspend_and_resume_keep_what_it_waits_for(
        self, house: House, flow: hf.Flow, said: str, undone: str
    ) -> None:
        hold, task = waiting(house, flow)
        entered = house.said().count(said)
        assert task.suspend().state == "SUSPENDED"
        hold.work(until_idle=True)
        task.resume()
        with hold.working():
            until(lambda: task.state == "WAITING")
        assert house.said().count(said) == entered, "it was not entered again before its time"
        assert task.abort().state == "ABORTED"


@pytest.mark.parametrize("payload", [{"by": "ann"}, None, 0, ""], ids=repr)
class TestAnEvent:
    """What is delivered is what the step gets; and where there is no payload, that it came."""

    def test_delivered_while_nobody_works(self, house: House, payload: Any) -> None:
        hold, task = waiting(house, flows.hearing)
        task.deliver("word", payload)
        hold.work(until_idle=True)
        assert task.state == "SUCCEEDED"
        assert task.results["answer"] == (True if payload is None else payload)
        assert house.said() == ["first", "wait", "wait", "last"]

    def test_delivered_before_it_is_awaited(self, house: House, payload: Any) -> None:
        hold = house.open()
        task = hold.submit(flows.hearing, {"at": house.at})
        task.deliver("word", payload)
        hold.work(until_idle=True)
        assert task.state == "SUCCEEDED"
        assert task.results["answer"] == (True if payload is None else payload)


def test_an_event_reaches_a_worker_of_another_process(house: House) -> None:
    task = house.open().submit(flows.hearing, {"at": house.at})
    house.worker()
    until(lambda: task.state == "WAITING")
    task.deliver("another", 1)
    task.deliver("word", 2)
    assert task.wait(60).state == "SUCCEEDED"
    assert task.results["answer"] == 2


def test_an_event_survives_a_kill(house: House) -> None:
    task = house.open().submit(flows.hearing, {"at": house.at})
    worker = house.worker(lease_s=3600)
    until(lambda: task.state == "WAITING")
    worker.kill()
    task.deliver("word", "heard")
    house.open(lease_s=3600).work(until_idle=True)
    assert (task.state, task.results["answer"]) == ("SUCCEEDED", "heard")


def test_who_waits_only_so_long_goes_on_without(house: House) -> None:
    hold = house.open()
    task = hold.submit(flows.hearing_so_long, {"at": house.at})
    with hold.working():
        house.until_said("wait", 3)
        house.turn("enough")
        assert task.wait(60).state == "SUCCEEDED"
    assert task.results["answer"] == "nobody spoke"


def test_two_that_wait_for_one_event_both_hear_it(house: House) -> None:
    hold, task = waiting(house, flows.two_hear)
    task.deliver("word", "hear, hear")
    hold.work(until_idle=True)
    assert task.state == "SUCCEEDED"
    assert (task.results["answer"], task.results["answer2"]) == ("hear, hear", "hear, hear")


def test_a_deadline_ends_one_that_waits_and_it_is_undone(tmp_path: Path) -> None:
    bench = Bench(tmp_path, hf.linear("late", step("first"), step("poll"), deadline_s=60.0))
    task = bench.submit()
    bench.settle()
    bench.end("first")
    bench.end("poll", what=hf.Again(3600.0))
    assert task.state == "WAITING"
    bench.later(61.0)
    bench.end("poll")
    bench.end("first")
    assert task.state == "FAILED"
    assert task.failure is not None
    assert task.failure.type == "DeadlinePassed"


def test_a_deadline_that_passes_while_nobody_works_is_kept(tmp_path: Path) -> None:
    bench = Bench(tmp_path, hf.linear("late", step("first"), step("poll"), deadline_s=60.0))
    task = bench.submit()
    bench.settle()
    bench.end("first")
    bench.end("poll", what=hf.Again(3600.0))
    bench.clock.now += 61.0
    bench.crash()
    bench.end("poll")
    bench.end("first")
    assert task.state == "FAILED"


@pytest.mark.parametrize("deadline_s", [None, 60.0])
def test_who_takes_over_one_that_was_suspended_while_it_waited_gives_it_back(
    tmp_path: Path, deadline_s: float | None
) -> None:
    """Its time has come, and is nobody's business before it is resumed."""
    bench = Bench(tmp_path, hf.linear("late", step("poll"), deadline_s=deadline_s))
    task = bench.submit()
    bench.settle()
    bench.end("poll", what=hf.Again(1.0))
    assert (task.state, len(bench.worker.taken)) == ("WAITING", 1)
    task.suspend()
    bench.clock.now += 61.0
    bench.crash()
    bench.settle()
    assert (task.state, bench.worker.taken, bench.worker.is_idle()) == ("SUSPENDED", {}, True)
    task.resume()
    bench.settle()
    assert (bench.running(), task.state) == (["poll"], "RUNNING" if deadline_s is None else "REVERTING")


def test_a_deadline_that_passes_before_anybody_begins_is_the_failure(tmp_path: Path) -> None:
    bench = Bench(tmp_path, hf.linear("late", step("first"), deadline_s=60.0))
    task = bench.submit()
    bench.later(61.0)
    assert (task.state, bench.runtime.calls) == ("FAILED", [])
    assert task.failure is not None
    assert task.failure.type == "DeadlinePassed"


LONG = hf.linear("long", step("first"))


def late(tmp_path: Path) -> Bench:
    return Bench(tmp_path, hf.linear("late", step("first"), deadline_s=60.0), LONG)


def test_a_deadline_that_passes_while_it_waits_for_its_claims_is_the_failure_and_lets_others_pass(
    tmp_path: Path,
) -> None:
    bench = late(tmp_path)
    holds = bench.hold.submit(bench.flow, claims=["node/1"])
    bench.later(30.0)
    waits = bench.hold.submit(bench.flow, claims=["node/1", "node/2"])
    behind = bench.hold.submit(LONG, claims=["node/2"])
    bench.settle()
    bench.later(29.0)
    assert (waits.state, behind.state, bench.running()) == ("PENDING", "PENDING", ["first"])
    bench.later(31.0)
    assert (holds.state, waits.state, behind.state) == ("RUNNING", "FAILED", "RUNNING")  # the first is asked to stop
    assert waits.failure is not None
    assert (waits.failure.type, waits.view()["effect"]) == ("DeadlinePassed", "none")
    assert waits.view()["executed_at"] is None


def test_a_deadline_that_passes_before_the_start_is_the_failure(tmp_path: Path) -> None:
    bench = late(tmp_path)
    task = bench.hold.submit(bench.flow, claims=["node/1"], start_after=bench.clock.now + 3600)
    bench.later(61.0)
    assert (task.state, task.view()["executed_at"]) == ("FAILED", None)


def test_one_that_is_held_before_it_began_is_late_when_it_goes_on(tmp_path: Path) -> None:
    bench = late(tmp_path)
    holds = bench.hold.submit(LONG, claims=["node/1"])
    task = bench.hold.submit(bench.flow, claims=["node/1"])
    task.suspend()
    bench.later(61.0)
    assert task.state == "SUSPENDED"
    task.resume()
    bench.settle()
    assert (holds.state, task.state) == ("RUNNING", "FAILED")


def test_who_is_late_and_has_no_claims_begins_nothing_whatever_the_clock_and_whoever_dies(tmp_path: Path) -> None:
    bench = late(tmp_path)
    holds = bench.hold.submit(LONG, claims=["node/1"])
    task = bench.hold.submit(bench.flow, claims=["node/1"])
    bench.settle()
    bench.clock.now += 61.0
    store, worker = bench.hold.store, bench.worker.lease.id
    how: dict[str, Any] = {"generation": store.generation, "nonce": "n", "now": bench.clock.now, "limit": 9}
    (taken,) = store.write(lambda tx: take.take(tx, worker, **how, pool="default").tasks)
    assert (taken.id, taken.ready) == (task._id, False)
    bench.clock.now -= 30.0  # that worker dies, and the next one's clock is behind
    bench.crash()
    assert (task.state, bench.running()) == ("PENDING", ["first"])
    bench.later(31.0)
    assert (holds.state, task.state, bench.running()) == ("RUNNING", "FAILED", ["first"])


def test_a_retry_has_as_long_as_the_first(tmp_path: Path) -> None:
    bench = late(tmp_path)
    bench.hold.submit(LONG, claims=["node/1"])
    task = bench.hold.submit(bench.flow, claims=["node/1"])
    bench.later(61.0)
    again = task.retry()
    bench.later(59.0)
    assert again.state == "PENDING"
    bench.later(2.0)
    assert again.state == "FAILED"


def test_an_event_that_was_taken_is_not_handed_out_again_after_a_take_over(tmp_path: Path) -> None:
    """The poll that took it is told by the next one, but not by that of another attempt."""
    bench = Bench(tmp_path, hf.linear("hears", step("hear", timeout_s=60.0, retry=hf.Retry(attempts=2, backoff_s=1.0))))
    task = bench.submit()
    bench.settle()
    bench.end("hear", what=hf.WaitFor("word"))
    task.deliver("word", "once")
    bench.settle()
    bench.end("hear", what=hf.Again(3600.0))
    bench.later(61.0)
    bench.later(2.0)
    bench.end("hear", what=hf.WaitFor("word"))
    bench.crash()
    task.suspend()
    bench.settle()
    task.resume()
    bench.settle()
    assert (task.state, bench.running()) == ("WAITING", [])


def test_a_step_that_waits_holds_up_no_sibling_and_no_thread(house: House) -> None:
    hold = house.open(workers_max=1)
    tasks = [hold.submit(flows.beside, {"at": house.at}) for _ in range(4)]
    with hold.working():
        house.until_said("first", 4)
        until(lambda: [task.state for task in tasks] == ["WAITING"] * 4)
    assert house.said().count("look") == 4, "each looked and let go of the one thread there is"


@pytest.mark.parametrize("begin", [Task.cancel, Task.rollback], ids=["cancel", "rollback"])
def test_what_was_left_is_handed_to_the_revert(house: House, begin: Callable[[Task], Task]) -> None:
    hold, task = waiting(house, flows.polling)
    begin(task)
    hold.work(until_idle=True)
    (undo,) = [line for line in house.lines() if line.what == "unpoll"]
    assert undo.extra == {"looks": 1}
