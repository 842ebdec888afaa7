"""Claims and shared files, by what the steps say: no two at once on one resource, in the order of admission."""

from __future__ import annotations

import os
import socket
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path

import pytest

from tests.worker import flows
from tests.worker.house import House


@pytest.mark.requirement("G5", "NEUTRON-7", "NEUTRON-8")
def test_two_on_one_resource_never_overlap_and_keep_their_order(house: House) -> None:
    """24 tasks with one or two of four resources, three workers: each resource sees one task at a time, as admitted."""
    hold = house.open()
    claims = [sorted({f"node/{number % 4}", f"node/{number * 3 % 4}"}) for number in range(24)]
    tasks = [
        hold.submit(flows.claiming, {"at": house.at, "number": number}, claims=names)
        for number, names in enumerate(claims)
    ]
    workers = [house.worker() for _ in range(3)]
    assert [task.wait(90).state for task in tasks] == ["SUCCEEDED"] * len(tasks)
    assert [worker.leave() for worker in workers] == [0, 0, 0]
    on: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for line in house.lines():
        for name in claims[line.extra]:
            on[name].append((line.what, line.extra))
    assert len(on) == 4
    for name, seen in on.items():
        admitted = [number for number, names in enumerate(claims) if name in names]
        assert seen == [(what, number) for number in admitted for what in ("enter", "work", "leave")], name


@pytest.mark.requirement("G5", "NEUTRON-8")
def test_shared_claims_run_beside_each_other_and_an_exclusive_one_waits_for_all(house: House) -> None:
    hold = house.open()
    inputs = {"at": house.at}
    readers = [hold.submit(flows.rerun, inputs, claims=[("network/1", "shared")]) for _ in range(2)]
    writer = hold.submit(flows.short, inputs, claims=["network/1"])
    late = hold.submit(flows.short, inputs, claims=[("network/1", "shared")])
    with hold.working():
        house.until_said("make", 2)  # both at once
        assert (writer.state, late.state) == ("PENDING", "PENDING")
        house.turn("go")
        assert [task.wait(60).state for task in (*readers, writer, late)] == ["SUCCEEDED"] * 4
    assert house.said()[-4:] == ["first", "last", "first", "last"]
    assert [task.id for task in sorted((writer, late), key=lambda task: task.view()["executed_at"])] == [
        writer.id,
        late.id,
    ]


@pytest.mark.requirement("NOVA-18", "NEUTRON-15")
def test_three_processes_share_a_file_and_double_nothing(house: House) -> None:
    hold = house.open()
    workers = [house.worker() for _ in range(3)]
    tasks = [hold.submit(flows.effects, {"at": house.at, "number": number}) for number in range(60)]
    assert Counter(task.wait(90).state for task in tasks) == {"SUCCEEDED": 60}
    assert [worker.leave() for worker in workers] == [0, 0, 0]
    effects = Counter((line.extra, line.step) for line in house.lines())
    assert effects == {(number, f"effects/{step}"): 1 for number in range(60) for step in ("effect", "second")}


@pytest.mark.requirement("NOVA-18", "G2")
def test_one_of_three_is_killed_and_nothing_is_doubled(house: House) -> None:
    hold = house.open()
    workers = [house.worker(lease_s=3600) for _ in range(3)]
    tasks = [hold.submit(flows.effects, {"at": house.at, "number": number}) for number in range(30)]
    house.until_said("effect", 5)
    workers[0].kill()
    assert Counter(task.wait(90).state for task in tasks) == {"SUCCEEDED": 30}
    assert [worker.leave() for worker in workers[1:]] == [0, 0]
    # An effect is at least once under one key, and its outcome is recorded once.
    keys = {(line.extra, line.step): line.key for line in house.lines()}
    assert all(line.key == keys[line.extra, line.step] for line in house.lines())
    assert len(keys) == 60
    for task in tasks:
        kinds = Counter((row.kind, row.node) for row in hold.store.journal(task._id))
        assert all(kinds["succeeded", f"effects/{step}"] == 1 for step in ("effect", "second"))


@pytest.mark.requirement("NEUTRON-3", "TAG-9")
def test_the_same_request_twice_is_two_tasks_and_the_second_waits_and_says_behind_whom(house: House) -> None:
    hold = house.open()
    first, second, third = (hold.submit(flows.rerun, {"at": house.at}, claims=["port/1"]) for _ in range(3))
    assert len({first.id, second.id, third.id}) == 3
    with hold.working():
        house.until_said("make")
        assert [task.state for task in (first, second, third)] == ["RUNNING", "PENDING", "PENDING"]
        assert (second.view()["blocked_by"], second.view()["queue_position"]) == ([first.id], 1)
        assert (third.view()["blocked_by"], third.view()["queue_position"]) == ([first.id, second.id], 2)
        house.turn("go")
        assert third.wait(60).state == "SUCCEEDED"
    assert house.said() == ["first", "make", "made", "use"] * 3
    assert third.view()["blocked_by"] == []


@pytest.mark.requirement("NOVA-16")
def test_a_worker_takes_what_is_of_its_pool_and_listens_on_no_socket(house: House) -> None:
    hold = house.open()
    mine = hold.submit(flows.rerun, {"at": house.at}, pool="cell-1")
    others = hold.submit(flows.rerun, {"at": house.at})
    worker = house.worker(pool="cell-1")
    house.until_said("make")
    assert (mine.state, others.state) == ("RUNNING", "PENDING")
    assert listening(worker.pid) == []
    house.turn("go")
    assert mine.wait(60).state == "SUCCEEDED"
    assert (worker.leave(), others.state) == (0, "PENDING")


def listening(pid: int) -> list[str]:
    """The sockets of the process that somebody could connect to, as the kernel lists them."""
    own = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            own.add(os.readlink(fd))
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in own:
                found.append(line)
    return found


def test_a_socket_that_listens_would_be_seen() -> None:
    before = len(listening(os.getpid()))
    with socket.create_server(("127.0.0.1", 0)):
        assert len(listening(os.getpid())) == before + 1
