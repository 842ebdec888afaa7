"""Steps that make child tasks: their results, failures, undo, and what verbs on the parent do to them."""

from __future__ import annotations

from collections import Counter

import pytest
from sqlalchemy import select

import holdfast as hf
from holdfast.errors import FlowNotFound, PastPivot, UsageError, VerbRefused
from holdfast.local import Holdfast, Task
from holdfast.store.base import Tx
from holdfast.store.schema import tasks
from holdfast.tasks import pools
from tests.worker import children_flows as flows
from tests.worker.house import House, until


def children(hold: Holdfast, task: Task) -> list[Task]:
    """The oldest first."""
    return [hold.task(uuid) for uuid in hold.store.read(lambda tx: _uuids(tx, task))]


def _uuids(tx: Tx, task: Task) -> list[str]:
    return tx.execute(select(tasks.c.uuid).where(tasks.c.parent_id == task._id).order_by(tasks.c.id)).scalars()


@pytest.fixture(params=["threads", "inline"])
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.requirement("NOVA-8", "NEUTRON-5")
def test_a_child_gives_its_results_to_the_step_that_made_it(house: House, runtime: str) -> None:
    hold = house.open()
    task = hold.submit(flows.attach, {"at": house.at, "net": "red"}, tag="mine", priority=3)
    hold.work(until_idle=True, runtime=runtime)
    assert task.raise_for_state().results["port"] == "port on red"
    assert house.said() == ["first", "port", "wire", "use"]
    (child,) = children(hold, task)
    assert child.state == "SUCCEEDED"
    view, above = child.view(), task.view()
    assert (view["parent_id"], view["root_id"], view["tag"]) == (task.id, task.id, None)
    assert (view["project_id"], view["request_id"], view["priority"]) == (above["project_id"], above["request_id"], 3)
    assert [line for line in task.trace if line.startswith(("attach/l2", "task"))] == [
        "task RUNNING", "attach/l2 RUNNING", "attach/l2 WAITING", "task WAITING", "task RUNNING", "attach/l2 RUNNING",
        "attach/l2 SUCCEEDED", "task SUCCEEDED",
    ]  # fmt: skip


@pytest.mark.requirement("NEUTRON-5")
def test_the_failure_of_a_child_names_it_and_carries_its_cause(house: House) -> None:
    house.turn("port_fails")
    hold = house.open()
    task = hold.submit(flows.attach, {"at": house.at, "net": "red"})
    hold.work(until_idle=True)
    (child,) = children(hold, task)
    assert (task.state, child.state) == ("FAILED", "FAILED")
    failure = task.failure
    assert failure is not None
    assert failure.type == "ChildFailed"
    assert child.id in failure.message
    assert failure.causes[0].summary == "ConnectionError: no such switch"
    assert house.said() == ["first", "port", "unport", "unfirst"]
    assert task.view()["revert"] == "done"
    assert hf.Retry(attempts=2, on=(hf.HoldfastError,)).matches(failure.types)


@pytest.mark.requirement("NEUTRON-5")
def test_what_a_child_did_is_undone_by_a_task_of_its_own(house: House, runtime: str) -> None:
    house.turn("use_fails")
    hold = house.open()
    task = hold.submit(flows.attach, {"at": house.at, "net": "red"})
    hold.work(until_idle=True, runtime=runtime)
    assert task.state == "FAILED"
    assert house.said() == ["first", "port", "wire", "use", "unwire", "unport", "unfirst"]
    child, undo = children(hold, task)
    assert (child.state, undo.state) == ("SUCCEEDED", "SUCCEEDED")
    assert undo.view()["rollback_of"] == child.id
    assert task.view()["effect"] == "none"
    forward = [line.key for line in house.lines() if line.what == "port"]
    assert [line.key for line in house.lines() if line.what == "unport"] == [f"{forward[0]}:revert"]


@pytest.mark.requirement("NEUTRON-5")
def test_one_of_two_children_fails_and_the_other_is_undone(house: House) -> None:
    house.turn("route_fails")
    hold = house.open()
    task = hold.submit(flows.interface, {"at": house.at})
    hold.work(until_idle=True)
    assert task.state == "FAILED"
    said = house.said()
    assert said.count("port") == said.count("unport")
    assert said[-1] == "unfirst"
    assert Counter(child.state for child in children(hold, task))["FAILED"] == 1


def test_a_child_that_still_runs_when_its_sibling_fails_is_stopped_and_undone(house: House) -> None:
    house.turn("route_waits", "port_waits")
    hold = house.open()
    with hold.working():
        task = hold.submit(flows.interface, {"at": house.at})
        house.until_said("port")
        house.until_said("route")
        house.turn("route_fails")
        house.turn_off("route_waits")
        task.wait(60)
    assert task.state == "FAILED"
    assert "wire" not in house.said()
    assert house.said()[-2:] == ["unport", "unfirst"]
    assert sorted(child.state for child in children(hold, task)) == ["CANCELLED", "FAILED"]


def test_a_child_that_cannot_be_undone_holds_its_parent(house: House) -> None:
    house.turn("use_fails", "port_sticks")
    hold = house.open()
    task = hold.submit(flows.attach, {"at": house.at, "net": "red"})
    hold.work(until_idle=True)
    child, undo = children(hold, task)
    assert (task.state, undo.state, undo.reason) == ("REVERTING", "SUSPENDED", "revert_failed")
    assert undo.id in task.view()["progress"]["message"]
    undo.force_fail("the switch is gone")
    hold.work(until_idle=True)
    assert (task.state, task.reason) == ("SUSPENDED", "revert_failed")
    failure = task.failure
    assert failure is not None
    house.turn_off("port_sticks")
    task.resume({"attach/l2": "rerun"})
    hold.work(until_idle=True)
    assert task.state == "FAILED"
    assert house.said()[-2:] == ["unport", "unfirst"]
    assert [each.state for each in children(hold, task)] == ["SUCCEEDED", "FAILED", "SUCCEEDED"]
    assert child.view()["rollback_of"] is None


def test_each_try_of_a_step_makes_a_child_of_its_own(house: House) -> None:
    house.turn("route_fails")
    hold = house.open()
    task = hold.submit(flows.again, {"at": house.at})
    hold.work(until_idle=True)
    assert [child.state for child in children(hold, task)] == ["FAILED"] * 3
    assert task.state == "FAILED"
    house.turn_off("route_fails")
    anew = task.retry()
    hold.work(until_idle=True)
    assert anew.state == "SUCCEEDED"
    assert len(children(hold, anew)) == 1
    assert len(children(hold, task)) == 3


def test_a_person_has_a_failed_child_made_again(house: House) -> None:
    house.turn("route_fails")
    hold = house.open(flows=[held])
    task = hold.submit(held, {"at": house.at})
    hold.work(until_idle=True)
    assert (task.state, task.reason) == ("SUSPENDED", "on_failure")
    house.turn_off("route_fails")
    task.resume()
    hold.work(until_idle=True)
    assert task.state == "SUCCEEDED"
    assert [child.state for child in children(hold, task)] == ["FAILED", "SUCCEEDED"]


held = hf.linear("held", hf.child("l3", flows.l3), on_failure="suspend")


def test_a_child_that_takes_too_long_is_stopped(house: House) -> None:
    house.turn("route_waits")
    hold = house.open()
    task = hold.submit(flows.hurried, {"at": house.at})
    hold.work(until_idle=True)
    assert task.state == "FAILED"
    (child,) = children(hold, task)
    assert child.state == "CANCELLED"
    assert house.said() == ["route", "unroute"]


@pytest.mark.requirement("NOVA-8")
def test_a_deadline_of_the_parent_stops_its_child(house: House) -> None:
    house.turn("route_waits")
    hold = house.open()
    task = hold.submit(flows.late, {"at": house.at})
    hold.work(until_idle=True)
    assert task.state == "FAILED"
    assert [child.state for child in children(hold, task)] == ["CANCELLED"]
    assert house.said() == ["route", "unroute"]


def test_a_child_that_rests_is_named_by_its_parent_and_goes_on_by_itself(house: House) -> None:
    hold = house.open(flows=[held, holding])
    house.turn("route_fails")
    task = hold.submit(holding, {"at": house.at})
    hold.work(until_idle=True)
    (child,) = children(hold, task)
    assert (task.state, child.state, child.reason) == ("WAITING", "SUSPENDED", "on_failure")
    assert child.id in task.view()["progress"]["message"]
    house.turn_off("route_fails")
    child.resume()
    hold.work(until_idle=True)
    assert task.state == "SUCCEEDED"


holding = hf.linear("holding", hf.child("held", held))


def test_a_map_has_a_child_for_each_element(house: House) -> None:
    hold = house.open()
    task = hold.submit(flows.mapped, {"at": house.at, "nets": ["red", "blue", "green"]})
    hold.work(until_idle=True)
    assert task.state == "SUCCEEDED"
    assert {line.extra for line in house.lines() if line.what == "port"} == {"red", "blue", "green"}
    undo = task.rollback()
    hold.work(until_idle=True)
    assert undo.state == "SUCCEEDED"
    assert len(children(hold, undo)) == 3
    assert house.said().count("unport") == 3


def test_each_try_of_a_flow_makes_a_child_of_its_own(house: House) -> None:
    house.turn("route_fails")
    hold = house.open()
    task = hold.submit(flows.tried, {"at": house.at})
    hold.work(until_idle=True)
    assert task.state == "FAILED"
    assert [child.state for child in children(hold, task)] == ["FAILED", "FAILED"]
    assert house.said() == ["first", "route", "unroute", "route", "unroute", "unfirst"]


@pytest.mark.requirement("NOVA-8")
def test_progress_counts_what_a_child_is_made_of(house: House) -> None:
    hold = house.open()
    house.turn("route_waits")
    with hold.working():
        task = hold.submit(flows.staged, {"at": house.at})
        house.until_said("route")
        until(lambda: task.state == "WAITING", lambda: task.trace)
        assert task.view()["progress"]["percent"] == 75  # first 1, l2 2, l3 1
        house.turn_off("route_waits")
        task.wait(60)
    assert task.view()["progress"]["percent"] == 100


@pytest.mark.requirement("NOVA-8")
def test_the_list_of_tasks_leaves_children_out(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    from holdfast.cli.main import main

    hold = house.open()
    task = hold.submit(flows.attach, {"at": house.at, "net": "red"})
    hold.work(until_idle=True)
    (child,) = children(hold, task)
    main(["task", "list", "--database", house.url, "-o", "json"])
    listed = capsys.readouterr().out
    assert task.id in listed
    assert child.id not in listed


# --- verbs -------------------------------------------------------------------------------------------------------


def running(house: House, hold: Holdfast, flow: hf.Flow = flows.interface) -> Task:
    """A task that waits for its children, whose steps run."""
    house.turn("port_waits", "route_waits")
    task = hold.submit(flow, {"at": house.at})
    house.until_said("port")
    house.until_said("route")
    until(lambda: task.state == "WAITING", lambda: task.trace)
    return task


@pytest.mark.requirement("NEUTRON-5")
def test_a_cancelled_parent_ends_behind_its_children(house: House) -> None:
    hold = house.open()
    with hold.working():
        task = running(house, hold)
        task.cancel()
        assert {child.state for child in children(hold, task)} <= {"CANCELLING", "CANCELLED"}
        task.wait(60)
    assert task.state == "CANCELLED"
    assert {child.state for child in children(hold, task)} == {"CANCELLED"}
    assert Counter(house.said()) == Counter(["first", "port", "route", "unport", "unroute", "unfirst"])
    ended = [child.view()["finish_time"] for child in children(hold, task)]
    assert max(ended) <= task.view()["finish_time"]


def test_a_parent_cancelled_without_undo_leaves_what_its_children_did(house: House) -> None:
    hold = house.open()
    with hold.working():
        task = running(house, hold)
        task.cancel(revert=False)
        task.wait(60)
    assert task.state == "CANCELLED"
    assert {child.state for child in children(hold, task)} == {"CANCELLED"}
    assert Counter(house.said()) == Counter(["first", "port", "route"])


def test_an_aborted_parent_ends_behind_its_children(house: House) -> None:
    hold = house.open()
    with hold.working():
        task = running(house, hold)
        task.abort()
        task.wait(60)
    assert task.state == "ABORTED"
    assert {child.state for child in children(hold, task)} == {"ABORTED"}
    assert task.view()["effect"] == "unknown"
    ended = [child.view()["finish_time"] for child in children(hold, task)]
    assert max(ended) <= task.view()["finish_time"]


def test_a_suspended_parent_rests_behind_its_children_and_resumes_them(house: House) -> None:
    hold = house.open()
    with hold.working():
        task = running(house, hold)
        task.suspend()
        assert task.state == "SUSPENDING"
        task.wait(60)
        assert {child.state for child in children(hold, task)} == {"SUSPENDED"}
        with pytest.raises(VerbRefused, match="resume that one"):
            children(hold, task)[0].resume()
        house.turn_off("port_waits", "route_waits")
        task.resume()
        task.wait(60)
    assert task.state == "SUCCEEDED"
    assert {child.state for child in children(hold, task)} == {"SUCCEEDED"}


def test_a_rolled_back_parent_takes_its_children_with_it(house: House) -> None:
    hold = house.open()
    with hold.working():
        task = running(house, hold)
        task.rollback()
        task.wait(60)
    assert task.state == "REVERTED"
    assert Counter(house.said()) == Counter(["first", "port", "route", "unport", "unroute", "unfirst"])


@pytest.mark.parametrize("verb", ["rollback", "cancel"])
def test_a_child_that_was_held_while_it_undid_goes_on_with_its_parents_undo(house: House, verb: str) -> None:
    hold = house.open()
    with hold.working():
        house.turn("wire_waits", "unwire_waits")
        task = hold.submit(flows.attach, {"at": house.at, "net": "blue"})
        house.until_said("wire")
        (child,) = children(hold, task)
        child.cancel()
        house.until_said("unwire")
        task.suspend()
        house.turn_off("unwire_waits")
        task.wait(60)
        assert (task.state, child.state) == ("SUSPENDED", "SUSPENDED")
        getattr(task, verb)()
        task.wait(60)
    assert (task.state, child.state) == ({"rollback": "REVERTED", "cancel": "CANCELLED"}[verb], "CANCELLED")
    assert house.said()[-3:] == ["unwire", "unport", "unfirst"]


def test_a_force_failed_parent_takes_its_children_with_it(house: House) -> None:
    hold = house.open()
    with hold.working():
        task = running(house, hold)
        task.force_fail("enough")
        assert task.state == "FAILED"
        assert {child.state for child in children(hold, task)} == {"FAILED"}


def test_a_child_is_not_retried_or_rolled_back_behind_its_parents_back(house: House) -> None:
    hold = house.open()
    with hold.working():
        task = running(house, hold)
        port, _ = children(hold, task)
        for verb in (port.rollback, port.retry):
            with pytest.raises(VerbRefused):
                verb()
        port.cancel()
        task.wait(60)
    assert task.state == "FAILED"
    failure = task.failure
    assert failure is not None
    assert f"{port.id} ended CANCELLED" in failure.message


def test_the_rollback_of_an_ended_parent_rolls_its_children_back(house: House) -> None:
    hold = house.open()
    task = hold.submit(flows.interface, {"at": house.at})
    hold.work(until_idle=True)
    assert task.state == "SUCCEEDED"
    undo = task.rollback()
    hold.work(until_idle=True)
    assert undo.state == "SUCCEEDED"
    assert [child.state for child in children(hold, undo)] == ["SUCCEEDED"] * 2
    assert Counter(house.said()[-4:]) == Counter(["unwire", "unport", "unroute", "unfirst"])
    assert house.said()[-1] == "unfirst"


def test_a_child_past_its_pivot_forbids_the_undo_of_its_parent(house: House) -> None:
    hold = house.open()
    with hold.working():
        task = hold.submit(flows.past, {"at": house.at})
        house.until_said("cool")
        with pytest.raises(PastPivot, match="child task"):
            task.cancel()
        with pytest.raises(PastPivot, match="child task"):
            task.rollback()
        task.cancel(revert=False)
        task.wait(60)
    assert task.state == "CANCELLED"


def test_claims_are_not_released_under_children(house: House) -> None:
    hold = house.open()
    with hold.working():
        task = running(house, hold)
        with pytest.raises(VerbRefused, match="child tasks"):
            task.suspend(release_claims=True)
        assert task.state == "WAITING"
        task.abort().wait(60)


def test_a_failed_task_that_keeps_what_was_done_stops_its_other_children(house: House) -> None:
    house.turn("port_waits", "route_fails")
    hold = house.open()
    hold.submit(flows.kept, {"at": house.at})
    hold.work(until_idle=True)
    task = hold.tasks(flow="kept")[0]
    assert task.state == "FAILED"
    assert {child.state for child in children(hold, task)} <= {"FAILED", "CANCELLED"}
    assert "unport" not in house.said()


# --- places and claims -------------------------------------------------------------------------------------------


@pytest.mark.requirement("NOVA-8", "P9")
def test_nested_children_need_one_place_among_them(house: House, runtime: str) -> None:
    """P9: eight levels on one thread, and a worker that takes one task at a time."""
    hold = house.open(workers_max=1)
    worker = hold.worker(runtime)
    worker._intake.pace.tasks_max = 1
    asked = [hold.submit(flows.deep, {"at": house.at}) for _ in range(3)]
    worker.run(worker.is_idle)
    worker.close()
    assert [task.state for task in asked] == ["SUCCEEDED"] * 3
    assert Counter(house.said()) == {"first": 21, "route": 3}


@pytest.mark.requirement("NOVA-8", "P9")
def test_nested_children_need_one_place_of_their_pool_among_two_workers(house: House) -> None:
    hold = house.open()
    hold.write(lambda tx, now: pools.change(tx, "default", {"running_max": 1}))
    workers = [house.worker(), house.worker()]
    asked = [hold.submit(flows.deep, {"at": house.at}) for _ in range(3)]
    assert [task.wait(60).state for task in asked] == ["SUCCEEDED"] * 3
    assert Counter(house.said()) == {"first": 21, "route": 3}
    assert [worker.leave() for worker in workers] == [0, 0]


def test_nested_children_are_undone_on_one_place(house: House) -> None:
    house.turn("route_fails")
    hold = house.open(workers_max=1)
    worker = hold.worker("threads")
    worker._intake.pace.tasks_max = 1
    task = hold.submit(flows.deep, {"at": house.at})
    worker.run(worker.is_idle)
    assert task.state == "FAILED"
    assert house.said().count("unfirst") == 7
    house.turn_off("route_fails")
    done = task.retry()
    worker.run(worker.is_idle)
    assert done.state == "SUCCEEDED"
    undo = done.rollback()
    worker.run(worker.is_idle)
    worker.close()
    assert undo.state == "SUCCEEDED"
    assert house.said().count("unfirst") == 14


def test_a_worker_of_one_task_does_its_children_too(house: House) -> None:
    hold = house.open()
    other = hold.submit(flows.l3, {"at": house.at})
    task = hold.submit(flows.deep, {"at": house.at})
    worker = hold.worker(only=task)
    worker.run(worker.is_idle)
    worker.close()
    assert (task.state, other.state) == ("SUCCEEDED", "PENDING")


@pytest.mark.requirement("NEUTRON-5", "P9")
def test_a_child_uses_what_its_root_holds_and_claims_the_rest_late(house: House) -> None:
    hold = house.open()
    task = hold.submit(flows.claiming, {"at": house.at}, claims=["router/1", "network/blue"])
    hold.work(until_idle=True)
    assert task.state == "SUCCEEDED"
    rest = hold.submit(flows.claiming, {"at": house.at}, claims=["router/1"])
    hold.work(until_idle=True)
    assert rest.state == "SUCCEEDED"
    with hold.working():
        holder = hold.submit(flows.parley, {"at": house.at}, claims=["network/blue"])
        house.until_said("meet")
        refused = hold.submit(flows.claiming, {"at": house.at}, claims=["router/1"])
        refused.wait(60)
        failure = refused.failure
        assert failure is not None
        assert failure.type == "ClaimRefused"
        children(hold, holder)[0].deliver("go")
        assert holder.wait(60).state == "SUCCEEDED"


def test_children_are_purged_behind_their_parent(house: House) -> None:
    hold = house.open(retention_s=0.000001)
    task = hold.submit(flows.attach, {"at": house.at, "net": "red"})
    hold.work(until_idle=True)
    assert task.state == "SUCCEEDED"
    (child,) = children(hold, task)
    assert hold.purge() == 2
    assert children(hold, task) == []
    assert child.id != task.id


# --- what is refused ---------------------------------------------------------------------------------------------


def test_in_memory_there_are_no_children() -> None:
    with pytest.raises(UsageError, match="needs a database"):
        hf.run(flows.attach, {"at": "nowhere", "net": "red"})


def test_a_child_step_says_what_it_lacks() -> None:
    with pytest.raises(UsageError, match="has no input 'colour'"):
        hf.child("l2", flows.l2, bind={"colour": "net"})
    with pytest.raises(UsageError, match="provides bridge"):
        hf.child("l2", flows.l2, provides={"bridge"})
    with pytest.raises(UsageError, match="takes no option"):
        hf.child("l2", flows.l2, pivot=True)  # type: ignore[call-arg]


def test_a_child_that_could_not_be_found_again_is_refused_with_its_parent(house: House) -> None:
    lost = hf.linear("lost", hf.child("inner", hf.linear("inner", flows.first)))
    hold = house.open(flows=[lost])
    with pytest.raises(FlowNotFound, match="inner"):
        hold.submit(lost, {"at": house.at})
