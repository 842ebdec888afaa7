"""A database in a file, and what befalls it: somebody else locks it, its disk is full."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path
from typing import Final

from chaos.cluster import Cluster
from chaos.disk import Disk
from chaos.faults import Fault, Heal

DISK_MIB: Final = 256


def database_on(disk: Disk) -> Path:
    return disk.directory / "tasks.db"


def url_on(disk: Disk) -> str:
    return f"sqlite:///{database_on(disk)}"


def lock(disk: Disk) -> Heal:
    """Somebody writes, and does not come to an end. Raises: sqlite3.OperationalError: somebody else already does."""
    other = sqlite3.connect(database_on(disk), isolation_level=None, timeout=10, check_same_thread=False)
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
        return disk.fill(lambda: [member.pid for member in cluster.members if member.is_up])

    return [
        Fault("database locked", locked, (0.2, lease_s), 2, database=True),
        Fault("database locked past the lease", locked, (lease_s * 1.2, lease_s * 2), 1, database=True),
        Fault("disk full", full, (0.3, lease_s * 1.5), 1, database=True),
    ]
