"""`import holdfast` over a bare interpreter: pairs of fresh processes, one with the import and one without, in turn."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

from bench.cases.report import report


def seconds(program: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=41)
    options = parser.parse_args()
    seconds("import holdfast")  # writes the bytecode
    with_it, bare = [], []
    for _ in range(options.pairs):
        bare.append(seconds("pass"))
        with_it.append(seconds("import holdfast"))
    report(bare_s=statistics.median(bare), import_s=statistics.median(with_it) - statistics.median(bare))
