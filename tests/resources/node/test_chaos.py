"""Anything at once: operations, verbs at any moment, BMCs that lose what they are told, workers that die. What must
hold whatever happens: every task ends, no node is left with a target, what is shown of one that is not in error is
true, and nothing is sent again before a look."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import holdfast as hf
from holdfast.core.states import FINAL
from holdfast.errors import HoldfastError
from holdfast.resources import examine
from holdfast.resources.node import views
from tests.resources.node.conftest import Node
from tests.resources.node.test_killed import Ward
from tests.resources.node.test_power import OFF, ON, no_repeat_without_a_look

NODES, ROUNDS = 4, 6
WHAT = ["lost", "unreachable", "fail", "refuse", "stall", "garbage"]
VERBS = ["cancel", "abort", "suspend", "resume", "rollback"]


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    made = Ward(tmp_path)
    with made.hold:
        yield made
    made.workers.close()


def faults(chance: random.Random) -> list[dict[str, object]]:
    if chance.random() < 0.5:
        return []
    call = chance.choice([ON, OFF, "soft power off", "inject nmi", "get"])
    return [{"call": call, "nth": chance.randint(1, 4), "what": chance.choice(WHAT)}]


def verb(chance: random.Random, task: hf.Task) -> None:
    try:
        getattr(task, chance.choice(VERBS))()
    except HoldfastError:
        pass  # the state forbids it


def settle(ward: Ward) -> None:
    """Have everything end: what rests goes on, what waits for a person is given up."""
    for _ in range(20):
        ward.hold.work(until_idle=True)
        resting = [task for task in ward.hold.tasks(limit=1000) if task.state not in FINAL]
        if not resting:
            return
        for task in resting:
            try:
                task.resume()
            except HoldfastError:
                task.abort()
    raise AssertionError("tasks are left")


@pytest.mark.requirement("IRONIC-1", "IRONIC-3", "IRONIC-18")
@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_no_node_is_stuck_and_none_is_lied_about(ward: Ward, seed: int) -> None:
    chance = random.Random(seed)
    nodes = [ward.enrol(f"rack-{each}", soft_off=chance.choice(["works", "ignored"])) for each in range(NODES)]
    for _ in range(ROUNDS):
        asked: list[hf.Task] = []
        for node in nodes:
            ward.machine(node).behave(faults=faults(chance))
            asked += [node.operate(chance.choice([*views.TARGETS]), {"timeout": 0.3}) for _ in range(2)]
        for _ in range(3):
            ward.workers.work(chance.choice(["before", "after"]), chance.randint(1, 25))
            for task in chance.sample(asked, 3):
                verb(chance, task)
        settle(ward)
        for node in nodes:
            check(ward, node)
    assert list(ward.hold.store.read(lambda tx: list(examine.faults(tx)))) == []


def check(ward: Ward, node: Node) -> None:
    power, target = ward.shown(node)
    assert target is None
    assert power in ("error", ward.machine(node).power), ward.calls(node)
    no_repeat_without_a_look(ward, node)
    if power == "error":
        assert ward.states(node)["last_error"]
