"""A database in a file, and what befalls it: somebody else locks it, its disk is full. As root the disk is one of its
own, in memory; for anybody else it is the limit that processes have for the size of files."""

from __future__ import annotations

import os
import random
import resource
import sqlite3
import subprocess
from pathlib import Path
from typing import Final

from chaos.cluster import Cluster
from chaos.faults import Fault, Heal

DISK_MIB: Final = 256


class Disk:
    """Where the database is. `is_own`: it can be filled without harm to others."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.directory.mkdir(parents=True)
        options = ["-t", "tmpfs", "-o", f"size={DISK_MIB}m", "chaos", str(directory)]
        done = subprocess.run(["mount", *options], capture_output=True, check=False) if os.geteuid() == 0 else None
        self.is_own = done is not None and done.returncode == 0

    @property
    def database(self) -> Path:
        return self.directory / "tasks.db"

    @property
    def url(self) -> str:
        return f"sqlite:///{self.database}"

    def close(self) -> None:
        if self.is_own:
            subprocess.run(["umount", "--lazy", self.directory], check=True)
            self.is_own = False


def lock(disk: Disk) -> Heal:
    """Somebody writes, and does not come to an end. Raises: sqlite3.OperationalError: somebody else already does."""
    other = sqlite3.connect(disk.database, isolation_level=None, timeout=10, check_same_thread=False)
    try:
        other.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        other.close()
        raise

    def heal() -> None:
        other.execute("ROLLBACK")
        other.close()

    return heal


def faults(cluster: Cluster, disk: Disk, lease_s: float) -> list[Fault]:
    def locked(chance: random.Random) -> Heal | None:
        try:
            return lock(disk)
        except sqlite3.OperationalError:
            return None

    def full(chance: random.Random) -> Heal:
        filler = disk.directory / "filler"
        with open(filler, "wb") as file:
            try:
                while True:
                    file.write(bytes(1 << 20))
                    file.flush()
            except OSError:
                pass
        return filler.unlink

    def limited(chance: random.Random) -> Heal:
        members = [member for member in cluster.members if member.is_up]
        for member in members:
            resource.prlimit(member.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))

        def heal() -> None:
            for member in members:
                if member.is_up:
                    resource.prlimit(
                        member.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
                    )

        return heal

    return [
        Fault("database locked", locked, (0.2, lease_s), 2, database=True),
        Fault("database locked past the lease", locked, (lease_s * 1.2, lease_s * 2), 1, database=True),
        Fault("disk full", full if disk.is_own else limited, (0.3, lease_s * 1.5), 1, database=True),
    ]
