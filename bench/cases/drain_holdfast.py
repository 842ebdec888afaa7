"""Holdfast: a backlog of one-step tasks, drained by `--workers` processes.

Each worker first does a few tasks and then waits for the word, so what is measured is draining, from the word to the
moment when the last of them has nothing to do.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import holdfast as hf
from bench.cases.report import report
from bench.cases.where import add_place, url_of

WARM = 50


@hf.step
def noop() -> None:
    return None


FLOW = hf.linear("drained", noop)


def submit(hold: hf.Holdfast, count: int) -> None:
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda _: hold.submit(FLOW), range(count)))


def worker(url: str) -> None:
    with hf.open(url, flows=[FLOW]) as hold:
        for _ in sys.stdin:
            hold.work(until_idle=True)
            print("done", flush=True)


def drain(workers: list[subprocess.Popen[str]]) -> float:
    began = time.perf_counter()
    for each in workers:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    for each in workers:
        assert each.stdout is not None
        assert each.stdout.readline() == "done\n", each.poll()
    return time.perf_counter() - began


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--worker", action="store_true")
    add_place(parser)
    options = parser.parse_args()
    url = url_of(options, "holdfast.db")
    if options.worker:
        worker(url)
        sys.exit()
    command = [sys.executable, "-m", "bench.cases.drain_holdfast", "--tasks", "0", "--worker"]
    command += ["--url", url] if options.url else ["--directory", str(options.directory)]
    with hf.open(url, flows=[FLOW]) as hold:
        workers = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(options.workers)
        ]
        for each in workers:  # one by one: the first could do all of it
            submit(hold, WARM)
            drain([each])
        submit(hold, options.tasks)
        wall_s = drain(workers)
        counts = {task.state for task in hold.tasks(limit=1000)}
        assert counts == {"SUCCEEDED"}, counts
        for each in workers:
            each.communicate()
    report(steps=options.tasks, wall_s=wall_s)
