"""The watch over nodes: what is known of their power is what their BMCs say, and users come first."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from holdfast.resources.node import words
from tests.resources.node.conftest import Node, Yard

FAR = 4e9


@contextmanager
def working(directory: Path, **settings: object) -> Iterator[Yard]:
    made = Yard(directory, **settings)
    with made.hold, made.hold.working():
        yield made


def look(yard: Yard) -> dict[str, int]:
    """One round, from its beginning to its end."""
    (task,) = yard.hold.watch_drift(rounds=1)
    found: dict[str, int] = yard.until_ended(task).results["looked"]
    return found


def changes(yard: Yard, node: Node) -> list[tuple[str, str, str]]:
    """Of the node's status: from what to what, by which task."""
    told = [event.data for event in yard.hold.events() if event.type == "resource.status" and event.resource == node.id]
    return [(each["from"], each["to"], each["task"]) for each in told]


@pytest.mark.requirement("IRONIC-10")
def test_an_error_is_overwritten_by_what_the_bmc_says_with_a_task_and_an_event(yard: Yard) -> None:
    node = yard.enrol(soft_off="ignored")
    task = node.operate("soft_power_off")
    yard.until_sent(node, words.SOFT_POWER_OFF)
    task.abort()
    yard.until_ended(task)
    assert (yard.shown(node), node.sync_status) == ((words.ERROR, None), "UNKNOWN")
    assert look(yard) == {"seen": 1, "drifted": 0, "busy": 0, "unreachable": 0}
    assert (yard.shown(node), node.sync_status) == ((words.POWER_ON, None), "IN_SYNC")
    last = changes(yard, node)[-1]
    assert last[:2] == (words.ERROR, words.POWER_ON)
    by = yard.hold.task(last[2]).view()
    assert (by["task"], by["resource_type"], by["state"]) == ("sync", "node", "SUCCEEDED")


def test_only_what_is_news_is_written_and_told(yard: Yard) -> None:
    nodes = [yard.enrol(f"n{number}") for number in range(5)]
    look(yard)
    before, told = [node.view() for node in nodes], len(changes(yard, nodes[0]))
    assert look(yard)["seen"] == 5
    assert [node.view() for node in nodes] == before
    yard.machine(nodes[0]).turn(words.POWER_OFF)
    look(yard)
    assert len(changes(yard, nodes[0])) == told + 1
    assert yard.shown(nodes[0]) == (words.POWER_OFF, None)
    assert [node.view() for node in nodes[1:]] == before[1:]


def test_who_is_in_maintenance_or_waited_for_is_passed_over(yard: Yard) -> None:
    nodes = [yard.enrol(f"n{number}") for number in range(4)]
    kept, waited, lost, seen = nodes
    yard.until_ended(kept.update({**kept.desired, "maintenance": True}))
    waited.operate("power_off", start_after=FAR)
    yard.machine(lost).behave(faults=[{"what": "unreachable"}])
    calls = [len(yard.calls(node)) for node in nodes]
    assert look(yard) == {"seen": 2, "drifted": 0, "busy": 1, "unreachable": 1}
    assert [len(yard.calls(node)) for node in nodes] == [calls[0], calls[1], calls[2] + 1, calls[3] + 1]
    assert seen.sync_status == "IN_SYNC"


@pytest.mark.parametrize("fault", ["stall", "hang"])
def test_who_does_not_answer_holds_up_the_round_for_its_own_time_only(tmp_path: Path, fault: str) -> None:
    with working(tmp_path, node_calls_max=4, node_call_s=0.5) as yard:
        nodes = [yard.enrol(f"n{number}", delay_s=0.02) for number in range(12)]
        dead = nodes[3]
        yard.machine(dead).behave(faults=[{"what": fault}])
        for node in nodes:
            yard.machine(node).turn(words.POWER_OFF)
        began = time.monotonic()
        tally = look(yard)
        assert time.monotonic() - began < 4.0  # 0.5 s, a second's margin, and a slow machine to test on
        assert tally == {"seen": 11, "drifted": 0, "busy": 0, "unreachable": 1}
        assert [yard.shown(node)[0] for node in nodes if node != dead].count(words.POWER_OFF) == 11
        assert yard.shown(dead)[0] == words.POWER_ON


@pytest.mark.parametrize("same", [True, False], ids=["of the same node", "of another"])
def test_a_users_operation_takes_the_line_of_a_look(tmp_path: Path, same: bool) -> None:
    with working(tmp_path, node_calls_max=1) as yard:
        slow, other = yard.enrol("slow"), yard.enrol("other")
        yard.machine(slow).behave(delay_s=8.0)
        (watch,) = yard.hold.watch_drift(rounds=1)
        yard.until(lambda: yard.calls(slow)[-1].answer is None, "a look at the slow one")
        user = slow if same else other
        yard.machine(user).behave(delay_s=0.0)
        began = time.monotonic()
        task = yard.do(user, "power_off")
        assert time.monotonic() - began < 3.0
        assert task.state == "SUCCEEDED"
        yard.machine(slow).behave(delay_s=0.0)
        yard.until_ended(watch)
        assert yard.shown(user)[0] == words.POWER_OFF
        assert watch.state == "SUCCEEDED"


def test_a_round_that_is_stopped_ends_at_once(tmp_path: Path) -> None:
    with working(tmp_path, node_calls_max=2) as yard:
        nodes = [yard.enrol(f"n{number}") for number in range(6)]
        for node in nodes:
            yard.machine(node).behave(delay_s=10.0)
        (watch,) = yard.hold.watch_drift()
        yard.until(lambda: yard.calls(nodes[0])[-1].answer is None, "a look")
        began = time.monotonic()
        watch.cancel()
        yard.until_ended(watch)
        assert time.monotonic() - began < 3.0
        assert watch.state == "CANCELLED"


def test_no_seconds_between_two_rounds_are_no_rounds(tmp_path: Path) -> None:
    with working(tmp_path, sync_interval_s=0) as yard:
        node = yard.enrol()
        calls = len(yard.calls(node))
        (watch,) = yard.hold.watch_drift()
        yard.until(lambda: watch.state == "WAITING", "the watch to wait")
        assert len(yard.calls(node)) == calls
        assert look(yard)["seen"] == 1  # who asks for a round gets it


def test_many_are_looked_at_at_once_and_each_bmc_by_one(tmp_path: Path) -> None:
    with working(tmp_path, node_calls_max=8) as yard:
        nodes = [yard.enrol(f"n{number}") for number in range(24)]
        for node in nodes:
            yard.machine(node).behave(delay_s=0.1)
        since = {node.id: len(yard.calls(node)) for node in nodes}
        (first,) = yard.hold.watch_drift(rounds=1)
        (second,) = yard.hold.watch_drift(rounds=1)
        yard.until_ended(first), yard.until_ended(second)
        spans = [(call.at, call.until or FAR, node.id) for node in nodes for call in yard.calls(node)[since[node.id] :]]
        assert len(spans) == 48
        assert 4 <= most_at_once(spans) <= 8
        assert max(most_at_once([span for span in spans if span[2] == node.id]) for node in nodes) == 1


def most_at_once(spans: list[tuple[float, float, str]]) -> int:
    """How many of them are open at the same moment at most."""
    steps = sorted([(end, -1) for _, end, _ in spans] + [(begin, 1) for begin, _, _ in spans])
    most = now = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most
