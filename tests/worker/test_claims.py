"""Claims and shared files, by what the steps say: no two at once on one resource, in the order of admission."""

from __future__ import annotations

from collections import Counter, defaultdict

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
