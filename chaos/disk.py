"""A disk of its own for a database, which can be full. As root it is one in memory; for anybody else a full disk is the
limit that processes have for the size of files."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

_MIB: Final = 1 << 20
_TRIES: Final = 50


class Disk:
    """Is mounted at `directory`, which is made for it. `is_own`: it can be filled without harm to others."""

    def __init__(self, directory: Path, size_mib: int) -> None:
        self.directory = directory
        self.directory.mkdir(parents=True)
        self._size_mib = size_mib
        options = ["-t", "tmpfs", "-o", f"size={size_mib}m", "chaos", str(directory)]
        done = subprocess.run(["mount", *options], capture_output=True, check=False) if os.geteuid() == 0 else None
        self.is_own = done is not None and done.returncode == 0

    def fill(self, pids: Callable[[], Iterable[int]]) -> Callable[[], None]:
        """There is no room on it, for those processes at least, until what is returned is called."""
        if not self.is_own:
            _limit(pids(), 1)
            return lambda: _limit(pids(), resource.RLIM_INFINITY)
        for _ in range(_TRIES):  # what is there may grow meanwhile, and then the size is refused
            there = os.statvfs(self.directory)
            if self._resize(f"{(there.f_blocks - there.f_bfree) * there.f_frsize}"):
                break
        return self._empty

    def _empty(self) -> None:
        if not self._resize(f"{self._size_mib * _MIB}"):
            raise OSError(f"{self.directory} can't be given its size back")

    def _resize(self, size: str) -> bool:
        options = ["-o", f"remount,size={size}", str(self.directory)]
        return subprocess.run(["mount", *options], capture_output=True, check=False).returncode == 0

    def close(self) -> None:
        if self.is_own:
            subprocess.run(["umount", "--lazy", self.directory], check=True)
            self.is_own = False


def _limit(pids: Iterable[int], size: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
