"""How a case says what it measured: one JSON object on one line, the last of its output.

A case is a program of its own, run in a fresh interpreter, so that no measurement inherits another's heap, caches or
imports. What is done with the figures: ../rows.py.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from typing import Any


def report(**figures: Any) -> None:
    """Print `figures` as the case's answer."""
    print(json.dumps(figures), flush=True)


def peak_bytes() -> int:
    """The peak of this process's resident memory.

    `ru_maxrss` survives exec on Linux, so a child would report its parent's peak where that was higher; VmHWM belongs
    to the address space, and is this program's own.
    """
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class Stopwatch:
    """Wall and CPU seconds of a `with` block."""

    def __enter__(self) -> Stopwatch:
        self._cpu = time.process_time()
        self._wall = time.perf_counter()
        self.wall_s = self.cpu_s = 0.0
        return self

    def __exit__(self, *_: object) -> None:
        self.wall_s = time.perf_counter() - self._wall
        self.cpu_s = time.process_time() - self._cpu
