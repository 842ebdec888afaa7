"""What runs in a process of tests/forked.py, and before, in the one that all are forked from."""

from __future__ import annotations

import atexit
import gc
import os
import runpy
import sys
import tempfile
import threading
from multiprocessing import reduction
from typing import Any


class Descriptor:
    """One that is handed to the process."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __getstate__(self) -> Any:
        return reduction.DupFd(self.fd)

    def __setstate__(self, sent: Any) -> None:
        self.fd = sent.detach()


def run(words: tuple[str, ...], cwd: str, env: dict[str, str], streams: list[Descriptor]) -> None:
    """As `python -m` would, with those words."""
    for number, stream in enumerate(streams):
        os.dup2(stream.fd, number)
        os.close(stream.fd)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(number, mode, 1, encoding="utf-8", closefd=False) for number, mode in enumerate("rww")
    )
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = list(words)
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()


def load() -> None:
    """Everything that a service or a worker loads and makes of it at its start, which it does once for all."""
    import holdfast.cli.main  # noqa: F401
    from holdfast import local
    from holdfast.service.serve import Serving

    with tempfile.TemporaryDirectory() as place, local.open(f"sqlite:///{place}/tasks.db", port=0) as hold:
        serving = Serving(hold)
        serving.start()
        serving.stop()
    assert threading.active_count() == 1  # what has threads is not to be forked
    gc.collect()
    gc.freeze()


if os.environ.pop("TESTS_FORKING", None):
    load()
