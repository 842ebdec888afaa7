"""Processes that die with the demo: started in a session of their own, ended by process group, never by name.

A Ctrl-C at the terminal therefore reaches the demo alone, which ends its children itself (`Children.end_all`); and
where the demo is killed with -9, the kernel ends them (PR_SET_PDEATHSIG). What is run in them: scenes.py.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]  # every command is run as if typed at the top of the repository
PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None, use_errno=True)


def _die_with(parent: int) -> None:
    """Between fork and exec: ask the kernel to kill this process when the thread that made it ends."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the request
        os._exit(1)


class Child:
    """One process, with what it prints in a file."""

    def __init__(self, command: Sequence[str], output: Path, *, env: dict[str, str] | None = None) -> None:
        parent = os.getpid()
        self.output = output
        with open(output, "ab") as file:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=ROOT,
                start_new_session=True,
                preexec_fn=lambda: _die_with(parent),
            )
        self.pid = self._process.pid
        self.printed: list[str] = []  # what new_lines has given
        self._read = 0

    def poll(self) -> int | None:
        """The exit code, or None while it runs; minus the signal's number where a signal ended it."""
        return self._process.poll()

    def new_lines(self) -> list[str]:
        """The whole lines printed since the last call."""
        with open(self.output, "rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = len(text) if self._process.poll() is not None else text.rfind(b"\n") + 1
        self._read += whole
        lines = text[:whole].decode("utf-8", "replace").splitlines()
        self.printed += lines
        return lines

    def kill9(self) -> int:
        """kill -9 of the process and whatever it started; returns once it is gone, with its exit code."""
        self._signal(signal.SIGKILL)
        return self._process.wait()

    def terminate(self, limit_s: float) -> int | None:
        """Ask the process to end (SIGTERM), and wait for it; its exit code, None: it did not end in time."""
        self._process.terminate()
        try:
            return self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return None

    def end(self, grace_s: float = 3.0) -> None:
        """End the process group: SIGTERM first, SIGKILL after `grace_s`."""
        if self._process.poll() is None:
            self._signal(signal.SIGTERM)
            try:
                self._process.wait(grace_s)
            except subprocess.TimeoutExpired:
                pass
        self._signal(signal.SIGKILL)  # the leader may be gone and a member of its group not
        self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass


class Children:
    """All processes of the demo, as a context manager that leaves none behind."""

    def __init__(self) -> None:
        self._running: list[Child] = []
        self.groups: list[int] = []

    def __enter__(self) -> Children:
        return self

    def __exit__(self, *_: object) -> None:
        self.end_all()

    def start(self, command: Sequence[str], output: Path, *, env: dict[str, str] | None = None) -> Child:
        child = Child(command, output, env=env)
        self._running.append(child)
        self.groups.append(child.pid)
        return child

    def end_all(self) -> None:
        # Who was started first is a peer of those after it, so it goes last.
        while self._running:
            self._running[-1].end()
            self._running.pop()

    def left(self, limit_s: float = 5.0) -> list[int]:
        """The processes of our groups that are still there `limit_s` after they were all killed."""
        try:
            until(lambda: not members(self.groups), "the last processes to end", limit_s=limit_s)
        except WaitedTooLong:
            pass
        return members(self.groups)


def members(groups: Sequence[int]) -> list[int]:
    """The live processes of these groups. A zombie is not alive: it is whoever inherited it that has to reap it."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = stat.parent.name, stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if rest[0] not in "ZX" and int(rest[2]) in groups:  # proc(5): state, ppid, pgrp
            found.append(int(pid))
    return found


class WaitedTooLong(Exception):
    """What the demo waited for did not come."""


def until(
    condition: Callable[[], bool], what: str, *, limit_s: float, meanwhile: Callable[[], None] | None = None
) -> None:
    """Wait for a condition, never for a time; `limit_s` only says when to give up.

    Raises: WaitedTooLong.
    """
    limit = time.monotonic() + limit_s
    while not condition():
        if meanwhile is not None:
            meanwhile()
        if time.monotonic() > limit:
            raise WaitedTooLong(f"waited {limit_s:g} s for {what}")
        time.sleep(0.03)
