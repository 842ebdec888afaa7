"""An operation on two resources while its workers are killed: it is done on both, or on neither, and only once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.forked import Forked
from tests.plugins.conftest import Net

ROOT = Path(__file__).parents[2]
KILLS = 12


def worker(url: str) -> Forked:
    path = os.pathsep.join([str(ROOT / "src"), os.environ["PYTHONPATH"]])
    return Forked(
        "holdfast", "worker", "--database", url, "--until-idle", stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path, "HOLDFAST_LEASE_S": "3", "HOLDFAST_DEATHS_MAX": "1000"},
    )  # fmt: skip


@pytest.mark.timeout(300)
@pytest.mark.requirement("NEUTRON-5", "NOVA-14")
def test_interfaces_survive_the_death_of_their_workers(net: Net) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    router = net.made("router", name="r")
    tasks = []
    for port in [net.made("port", name="p") for _ in range(3)]:
        given = {"port_id": port.id, "subnet": "10.0.0.0/24"}
        tasks.append((port, net.hold.operate("router", "add_interface", router.id, given)))
    net.fabric.turn("slow.l2")
    net.fabric.turn("slow.l3")
    kills = 0
    while kills < KILLS:
        process = worker(net.url)
        try:
            process.wait(chance.uniform(0.7, 1.3))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        if process.wait() == 0:
            break
        kills += 1
    assert kills >= 2, "they were hardly disturbed"
    process = worker(net.url)
    assert process.wait(120) == 0
    for port, task in tasks:
        assert task.state == "SUCCEEDED", task.trace
        assert (port.lifecycle, port.sync_status) == ("ATTACHED", "IN_SYNC")
        assert Counter(child.view()["task"] for child in net.children(task)) == {"attach": 1, "route": 1}
        assert net.fabric.said("end", "l2", port.id)
    assert (router.lifecycle, router.sync_status) == ("ACTIVE", "IN_SYNC")
