"""Processes of their own that are there at once: forked from one that has Holdfast loaded.

`Forked("tests.worker.process", url)` is what `Popen([sys.executable, "-m", "tests.worker.process", url])` would be, a
process that signals reach and kill -9 ends, but for the start of an interpreter and the loading of everything: most of
the time that a test with many of them takes. That the command itself starts: tests/cli, demo/.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import forkserver, get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import IO

from tests.forking import Descriptor, run


class Forked:
    """As `subprocess.Popen(…, text=True)`, as far as tests need it. Any of the three streams may be PIPE or DEVNULL, a
    file, or the test's own."""

    stdin: IO[str] | None = None
    stdout: IO[str] | None = None
    stderr: IO[str] | None = None

    def __init__(
        self, module: str, *words: str, cwd: Path | None = None, env: Mapping[str, str] | None = None,
        stdin: IO[str] | int | None = None, stdout: IO[str] | int | None = None, stderr: IO[str] | int | None = None,
    ) -> None:  # fmt: skip
        self.args = (module, *words)
        theirs: list[int] = []
        for number, (name, given) in enumerate({"stdin": stdin, "stdout": stdout, "stderr": stderr}.items()):
            if given == subprocess.PIPE:
                read, write = os.pipe()
                theirs.append(write if number else read)
                setattr(self, name, os.fdopen(read if number else write, "r" if number else "w", encoding="utf-8"))
            elif given == subprocess.DEVNULL:
                theirs.append(os.open(os.devnull, os.O_RDWR))
            else:
                theirs.append(os.dup(number if given is None else given if isinstance(given, int) else given.fileno()))
        around = dict(os.environ if env is None else env)
        self._process = _context().Process(
            target=run, args=(self.args, str(cwd or Path.cwd()), around, [Descriptor(fd) for fd in theirs]), daemon=True
        )
        self._process.start()
        for fd in theirs:
            os.close(fd)

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # whoever forked it hears first that it has ended
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it still says, once it has ended; it is killed where it doesn't in time."""
        with ThreadPoolExecutor(2) as pool:
            out, err = (pool.submit(stream.read if stream else str) for stream in (self.stdout, self.stderr))
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
            finally:
                said = out.result(), err.result()
        self.close()
        return said

    def close(self) -> None:
        """The test's ends of the streams."""
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()


@functools.cache
def _context() -> ForkServerContext:
    made = get_context("forkserver")
    made.set_forkserver_preload(["tests.forking"])
    around = {**os.environ}
    os.environ.update(PYTHONPATH=os.pathsep.join(path for path in sys.path if path), TESTS_FORKING="1")
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(around)
    return made
