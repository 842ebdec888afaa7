"""Several workers on one pool: any of them may die or freeze, and the pool's limit holds all the same, as the witness
saw it."""

from __future__ import annotations

import json
import os
from collections import Counter

import pytest

from holdfast.local import Holdfast, Task
from holdfast.tasks import pools, submit
from tests.worker import pool_flows
from tests.worker.house import House, Line, WorkerProcess, is_there, until


def limit(hold: Holdfast, name: str, running_max: int) -> None:
    hold.write(lambda tx, now: pools.change(tx, name, {"running_max": running_max}))


def ask(hold: Holdfast, house: House, project: str, number: int) -> Task:
    text = hold.inputs_text({"at": house.at, "number": number})
    request = hold.request(pool_flows.plugged)._replace(inputs=text, project_id=project)
    made = hold.write(lambda tx, now: submit.submit(tx, request, now, hold.clock.uuid7()))
    return hold.task(made.task.uuid)


def note(house: House, what: str, pid: int) -> None:
    """A line of the test's own, in the order in which things happened."""
    fd = os.open(house.directory / "witness", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, (json.dumps([what, "", 0, "", pid, None]) + "\n").encode())
    os.close(fd)


def most_at_once(lines: list[Line]) -> int:
    """How many were in the step at once at most. Who was killed or frozen is in none; who is about to be killed may
    have entered another, which it never leaves."""
    inside: set[tuple[int, int]] = set()
    killed: set[int] = set()
    most = 0
    for line in lines:
        if line.what == "enter" and line.pid not in killed:
            inside.add((line.pid, line.extra))
        elif line.what == "leave":
            inside.discard((line.pid, line.extra))
        elif line.what == "stopped":
            inside.discard((line.pid, line.extra[0]))
        elif line.what in ("killed", "frozen"):
            if line.what == "killed":
                killed.add(line.pid)
            inside = {each for each in inside if each[0] != line.pid}
        most = max(most, len(inside))
    return most


def last_at_work(house: House, workers: list[WorkerProcess]) -> WorkerProcess | None:
    """The one of them that the witness heard last; None: of none it has heard."""
    by_pid = {worker.pid: worker for worker in workers}
    return next((by_pid[line.pid] for line in reversed(house.lines()) if line.pid in by_pid), None)


@pytest.mark.requirement("NOVA-17", "NOVA-16", "NOVA-14", "P10")
def test_any_two_of_three_workers_die_and_every_effect_is_made_once(house: House) -> None:
    hold = house.open(pool="hv1")
    limit(hold, "hv1", 5)
    workers = [house.worker(pool="hv1", lease_s=3600, deaths_max=9) for _ in range(3)]
    tasks = [hold.submit(pool_flows.plugged, {"at": house.at, "number": number}) for number in range(500)]
    for share in (60, 200):
        until(lambda: house.said().count("leave") >= share, lambda: f"{share} done")  # noqa: B023 it is asked here
        until(lambda: last_at_work(house, workers), lambda: "a task of one of those that live")
        dying = last_at_work(house, workers)
        assert dying is not None
        workers.remove(dying)
        note(house, "killed", dying.pid)
        dying.kill()
    assert Counter(task.wait(120).state for task in tasks) == {"SUCCEEDED": 500}
    assert workers[0].leave() == 0
    lines = house.lines()
    assert Counter(line.extra for line in lines if line.what == "effect") == dict.fromkeys(range(500), 1)
    assert 1 < most_at_once(lines) <= 5
    assert len({line.pid for line in lines if line.what == "effect"}) >= 3


@pytest.mark.requirement("P10", "NOVA-17")
def test_a_worker_that_is_frozen_past_its_lease_gives_up_its_places_and_its_steps(house: House) -> None:
    """Its two places are taken once its lease has run out; when it comes to, its steps are stopped, and it counts
    again as one of those that share the limit."""
    hold = house.open(pool="hv1")
    limit(hold, "hv1", 2)
    tasks = [hold.submit(pool_flows.held, {"at": house.at, "number": number}) for number in range(4)]
    frozen = house.worker(pool="hv1", lease_s=1.5, deaths_max=50)
    house.until_said("enter", 2)
    other = house.worker(pool="hv1", lease_s=1.5, deaths_max=50)
    note(house, "frozen", frozen.pid)
    frozen.freeze()
    house.until_said("enter", 4)
    entered = [line.pid == frozen.pid for line in house.lines() if line.what == "enter"]
    assert entered == [True, True, False, False], "its places are another's"
    frozen.thaw()
    house.until_said("stopped", 2)
    stopped = [line.extra for line in house.lines() if line.what == "stopped"]
    assert {(reason, pid) for _, reason, pid in stopped} == {("lease_lost", frozen.pid)}
    house.turn("go")
    assert [task.wait(60).state for task in tasks] == ["SUCCEEDED"] * 4
    assert (frozen.leave(), other.leave()) == (0, 0)
    assert most_at_once(house.lines()) == 2
    for number in (0, 1):
        fences = [line.extra[1] for line in house.lines() if line.what == "fence" and line.extra[0] == number]
        assert len(fences) >= 2
        assert fences == sorted(set(fences)), "a device can tell who is late"
    for task in tasks:
        kinds = [row.kind for row in hold.store.journal(task._id)]
        assert (kinds.count("succeeded"), kinds.count("ended")) == (1, 1)


@pytest.mark.requirement("P10", "G2")
def test_a_process_of_a_frozen_worker_ends_before_another_begins(house: House) -> None:
    """The worker can't stop it, and the process itself runs on: it ends itself with the lease."""
    hold = house.open()
    task = hold.submit(pool_flows.beating, {"at": house.at})
    frozen = house.worker(lease_s=1.5, deaths_max=50)
    first = house.until_said("beat").pid
    frozen.freeze()
    other = house.worker(lease_s=1.5, deaths_max=50)
    until(lambda: house.lines()[-1].pid != first, lambda: "another's entry")
    assert not is_there(first)
    house.turn("go")
    assert task.wait(60).state == "SUCCEEDED"
    pids = [line.pid for line in house.lines()]
    assert pids == sorted(pids, key=lambda pid: pid != first), "no beat of the first after one of the second"
    frozen.thaw()
    assert (frozen.leave(), other.leave()) == (0, 0)


@pytest.mark.requirement("NOVA-17")
def test_a_project_with_one_task_is_not_held_up_by_one_with_hundreds(house: House) -> None:
    """On one worker with two threads: it is begun before a tenth of the others are done."""
    hold = house.open()
    many = [ask(hold, house, "many", number) for number in range(300)]
    worker = house.worker(workers_max=2)
    house.until_said("leave", 20)
    one = ask(hold, house, "few", 1000)
    before = house.said().count("enter")
    assert one.wait(60).state == "SUCCEEDED"
    entered = [line.extra for line in house.lines() if line.what == "enter"]
    assert entered.index(1000) - before < 30
    assert [task.wait(60).state for task in many] == ["SUCCEEDED"] * 300
    assert worker.leave() == 0
