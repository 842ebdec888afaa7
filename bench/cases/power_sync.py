"""The power of many nodes, once: asked by the driver alone from a pool of threads, or by a round of the power sync.

The nodes are the driver `fake`'s, of this process; each call takes `--call-s`. A round is a task: from its admission to
its end.
"""

from __future__ import annotations

import argparse
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import holdfast as hf
from bench.cases.report import Stopwatch, report
from holdfast.resources.node.fake import Device, Fake
from holdfast.resources.node.kind import make_node
from holdfast.resources.node.power import Bmc
from holdfast.seal import new_key

ROUNDS = 5
INFO = {"address": "192.0.2.1", "username": "admin", "password": "of the bench"}


def enrol(hold: hf.Holdfast, count: int) -> list[str]:
    """Their ids. Somebody has to be at work."""
    asked: list[dict[str, Any]] = [
        {"name": f"n{number}", "driver": "fake", "driver_info": INFO | {"address": f"n{number}"}}
        for number in range(count)
    ]
    made = [hold.operate("node", "create", desired=desired) for desired in asked]
    return [str(task.wait(600).view()["resource_id"]) for task in made]


def bare(ids: list[str], at_once: int) -> None:
    driver = Fake()
    with ThreadPoolExecutor(at_once) as threads:
        assert {*threads.map(lambda id: driver.get_power_state(Bmc(id, INFO)), ids)} == {"power on"}


def synced(hold: hf.Holdfast, ids: list[str]) -> None:
    (task,) = hold.watch_drift(rounds=1)
    assert task.wait(600).results["looked"]["seen"] == len(ids), task.results


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--who", choices=("bare", "sync"), required=True)
    parser.add_argument("--nodes", type=int, default=500)
    parser.add_argument("--at-once", type=int, default=50)
    parser.add_argument("--call-s", type=float, default=0.1)
    parser.add_argument("--directory", type=Path, required=True)
    options = parser.parse_args()
    walls = []
    with hf.open(
        f"sqlite:///{options.directory / 'tasks.db'}", kinds=[make_node()], secret_key=new_key(),
        node_calls_max=options.at_once,
    ) as hold, hold.working():  # fmt: skip
        ids = enrol(hold, options.nodes)
        for id in ids:
            Device(None, id).behave(delay_s=options.call_s)
        for _ in range(ROUNDS + 1):
            with Stopwatch() as watch:
                if options.who == "bare":
                    bare(ids, options.at_once)
                else:
                    synced(hold, ids)
            walls.append((watch.wall_s, watch.cpu_s))
    wall_s, cpu_s = map(statistics.median, zip(*walls[1:], strict=True))
    report(nodes=options.nodes, wall_s=wall_s, cpu_s=cpu_s)
