"""Holdfast: from `cancel` or `suspend` to the moment the step's code has stopped.

The worker is this process. `--from inside` asks in it, `--from outside` in another process on the same database. The
moment of the stop is written down by the step itself; where it can't (`--how hung`), the kernel says when its process
has ended.
"""

from __future__ import annotations

import argparse
import os
import select
import statistics
import subprocess
import sys
import time
from pathlib import Path

import holdfast as hf
from bench.cases.report import report
from bench.cases.stop_flows import FLOWS

PATIENCE_S = 30.0


def seen(file: Path) -> str:
    """Wait for a witness file and return its text."""
    until = time.monotonic() + PATIENCE_S
    while not file.exists():
        assert time.monotonic() < until, f"{file.name} was never written"
        time.sleep(0.002)
    return file.read_text()


def ended(pid: int) -> float:
    """Wait for the end of a process, reaped or not, and return the moment."""
    handle = os.pidfd_open(pid)
    try:
        assert select.select([handle], [], [], PATIENCE_S)[0], f"process {pid} did not end"
        return time.perf_counter()
    finally:
        os.close(handle)


def ask(hold: hf.Holdfast, task_id: str, verb: str) -> float:
    """Say the verb and return the moment before."""
    task = hold.task(task_id)
    began = time.perf_counter()
    getattr(task, verb)()
    return began


def outside(database: str, verb: str) -> None:
    """The other process: asks for what it reads on its input."""
    with hf.open(database) as hold:
        print("ready", flush=True)
        for line in sys.stdin:
            print(ask(hold, line.strip(), verb), flush=True)


def once(hold: hf.Holdfast, how: str, verb: str, other: subprocess.Popen[str] | None, witness: Path) -> float:
    """Start a task, stop it, and return the seconds between the two moments."""
    witness.mkdir()
    task = hold.submit(FLOWS[how], {"witness": str(witness)})
    pid = int(seen(witness / "entered"))
    if other is None:
        asked = ask(hold, task.id, verb)
    else:
        assert other.stdin is not None
        assert other.stdout is not None
        print(task.id, file=other.stdin, flush=True)
        asked = float(other.stdout.readline())
    left = ended(pid) if how == "hung" else float(seen(witness / "left"))
    if verb == "suspend":
        task.wait(timeout_s=PATIENCE_S)
        assert task.state == "SUSPENDED", task.state
        task.cancel()
    task.wait(timeout_s=PATIENCE_S)
    assert task.state == "CANCELLED", task.state
    return left - asked


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--how", choices=FLOWS, required=True)
    parser.add_argument("--verb", choices=["cancel", "suspend"], required=True)
    parser.add_argument("--from", dest="asked_from", choices=["inside", "outside", "the other process"], required=True)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--directory", type=Path, required=True)
    options = parser.parse_args()
    database = f"sqlite:///{options.directory / 'holdfast.db'}"
    if options.asked_from == "the other process":
        outside(database, options.verb)
        sys.exit()
    with hf.open(database) as hold, hold.working():
        other = None
        if options.asked_from == "outside":
            command = [sys.executable, "-m", "bench.cases.stop_holdfast", "--how", options.how, "--verb", options.verb]
            command += ["--from", "the other process", "--directory", str(options.directory)]
            other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            assert other.stdout is not None
            assert other.stdout.readline() == "ready\n"
        taken = []
        for time_ in range(options.times):
            taken.append(once(hold, options.how, options.verb, other, options.directory / f"witness{time_}"))
        if other is not None:
            other.communicate()
    report(times=options.times, median_s=statistics.median(taken), worst_s=max(taken))
