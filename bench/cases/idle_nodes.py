"""A service that nobody asks anything, with many nodes, and with the power sync off: what it costs to have it.

`--prepare` enrols the nodes.
"""

from __future__ import annotations

import argparse
import os
import threading
from pathlib import Path

import holdfast as hf
from bench import service
from bench.cases.power_sync import enrol
from bench.cases.report import report
from holdfast.resources.node.kind import make_node

SETTLE_S = 5.0
TICKS = os.sysconf("SC_CLK_TCK")
KEY = "HAhYi9sRwuQ0zlzpGRIUIpD8jQQ8h5cqmqcSCvB5E5o="  # of the bench's passwords, which are no secrets


def cpu_s(pid: int) -> float:
    """Of the process and of those it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


def resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has no memory")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--prepare", action="store_true")
    options = parser.parse_args()
    database = options.directory / "holdfast.db"
    if options.prepare:
        with hf.open(f"sqlite:///{database}", kinds=[make_node()], secret_key=KEY) as hold, hold.working():
            enrol(hold, options.nodes)
        report()
    else:
        settings = {"HOLDFAST_SYNC_INTERVAL_S": "0", "HOLDFAST_SECRET_KEY": KEY}
        pause = threading.Event()
        with service.process(database, settings=settings) as (port, pid):
            there = service.get(port, "/v3/resources/node?limit=1000")["resources"]
            assert len(there) == options.nodes, len(there)
            pause.wait(SETTLE_S)
            before = cpu_s(pid)
            pause.wait(options.seconds)
            used = cpu_s(pid) - before
            report(nodes=options.nodes, core=used / options.seconds, resident_bytes=resident_bytes(pid))
