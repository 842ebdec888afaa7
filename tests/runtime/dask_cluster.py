"""A cluster of this machine, as `python -m tests.runtime.dask_cluster`: the scheduler is this process, each worker one
of its own. It says where it is, and ends when its input does."""

from __future__ import annotations

import sys
from typing import Any, Final

import dask
import distributed

#: The machine may be busy.
SLOW: Final = {"distributed.comm.timeouts.connect": "60s", "distributed.comm.timeouts.tcp": "60s"}

if __name__ == "__main__":
    there: Any = distributed
    with (
        dask.config.set(SLOW),
        there.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as made,
    ):
        print(made.scheduler_address, flush=True)
        sys.stdin.read()
