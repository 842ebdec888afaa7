"""Holdfast: from `submit` to the entry of the first step, in another process whose worker has nothing to do."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

import holdfast as hf
from bench.cases.report import report
from bench.cases.where import add_place, url_of

PAUSE_S = 0.05  # so that it has nothing to do again


@hf.step
def step() -> None:
    print(time.clock_gettime(time.CLOCK_MONOTONIC), flush=True)


FLOW = hf.linear("one", step)

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, required=True)
    parser.add_argument("--worker", action="store_true")
    add_place(parser)
    options = parser.parse_args()
    url = url_of(options, "holdfast.db")
    if options.worker:
        with hf.open(url, flows=[FLOW]) as hold, hold.working():
            sys.stdin.read()
        sys.exit()
    command = [sys.executable, "-m", "bench.cases.start_holdfast", "--tasks", "0", "--worker"]
    command += ["--url", url] if options.url else ["--directory", str(options.directory)]
    waited = []
    with hf.open(url, flows=[FLOW]) as hold:
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert worker.stdout is not None
        for number in range(20 + options.tasks):  # the first load what is loaded late
            began = time.clock_gettime(time.CLOCK_MONOTONIC)
            hold.submit(FLOW)
            entered = float(worker.stdout.readline())
            if number >= 20:
                waited.append(entered - began)
            time.sleep(PAUSE_S)
        worker.communicate()
    cuts = statistics.quantiles(waited, n=100)
    report(p50_s=cuts[49], p99_s=cuts[98], worst_s=max(waited))
