"""PostgreSQL as the database of a cluster, and what befalls it: it is killed, hangs, has no connection left, its disk
is full or slow; and the clocks of those that it serves are wrong."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from glob import glob
from pathlib import Path
from typing import Any, Final

from chaos.cluster import Cluster
from chaos.disk import Disk
from chaos.faults import Fault, Heal, standing
from peers.postgres import Postgres

SKEW_S: Final = 120
CONNECTIONS: Final = 60
DATABASE: Final = "chaos"
DISK_MIB: Final = 4096
#: So that a worker that is cut off notices, and the server drops what nobody is at the other end of (PostgreSQL
#: documentation, §20.3.2).
#: Each flush takes a tenth of a second longer (PostgreSQL documentation, §19.5.1).
_SLOW: Final = "commit_delay = 100000\ncommit_siblings = 0\n"
_SETTINGS: Final = f"""
listen_addresses = '*'
max_connections = {CONNECTIONS}
fsync = on
full_page_writes = on
autovacuum = on
tcp_keepalives_idle = 2
tcp_keepalives_interval = 1
tcp_keepalives_count = 3
tcp_user_timeout = 4000
"""


class Server:
    """One that was started for this cluster, in a directory that is made for it."""

    def __init__(self, directory: Path, network: str = "") -> None:
        self.disk = Disk(directory / "data", DISK_MIB)
        self.fails = False  # on purpose
        self._slow = directory / "slow.conf"
        self.peer = Postgres(directory, settings=f"{_SETTINGS}include_if_exists = '{self._slow}'\n")
        self.peer.start()
        self.peer.make(DATABASE)
        if network:
            with open(self.peer.data / "pg_hba.conf", "a", encoding="ascii") as file:
                file.write(f"host all all {network} trust\n")
            self.peer.execute("SELECT pg_reload_conf()")

    def url(self, address: str = "127.0.0.1") -> str:
        return f"postgresql://postgres@{address}:{self.peer.port}/{DATABASE}"

    def tend(self) -> None:
        """Start it again, on the same port, if it has ended."""
        if not self.fails and not self.peer.is_up:
            self.peer.start()

    def fail(self, begin: Callable[[], object], end: Callable[[], object] = lambda: None) -> Heal:
        """Begin what may end it; how that is ended, and it is there again."""
        self.fails = True
        begin()

        def heal() -> None:
            self.fails = False
            end()
            self.tend()

        return heal

    def slow(self) -> Heal:
        """Its disk is, as far as those can tell who wait for a commit."""
        self._slow.write_text(_SLOW, encoding="ascii")
        self._read_settings()

        def heal() -> None:
            self._slow.unlink()
            self._read_settings()

        return heal

    def _read_settings(self) -> None:
        if self.peer.is_up:
            os.kill(self.peer.pid, signal.SIGHUP)

    def close(self) -> None:
        self.peer.__exit__(None, None, None)
        self.disk.close()


def faults(cluster: Cluster, server: Server, lease_s: float) -> list[Fault]:
    def killed(chance: random.Random) -> Heal:
        return server.fail(server.peer.kill)

    def stopped(chance: random.Random) -> Heal:
        return server.fail(server.peer.stop)

    def hanging(chance: random.Random) -> Heal:
        return server.fail(server.peer.pause, server.peer.resume)

    def crowded(chance: random.Random) -> Heal:
        """Somebody else has every connection that is left, and each that becomes free; at times nobody else has any."""
        import psycopg

        taken: list[Any] = []
        enough = threading.Event()
        if chance.random() < 0.5:
            dropped(chance)

        def take() -> None:
            while not enough.wait(0.01):
                try:
                    taken.append(psycopg.connect(server.url(), autocommit=True))
                except psycopg.OperationalError:
                    enough.wait(0.05)

        thread = threading.Thread(target=take, daemon=True)
        thread.start()

        def heal() -> None:
            enough.set()
            thread.join()
            for connection in taken:
                connection.close()

        return heal

    def dropped(chance: random.Random) -> None:
        """Every connection, as a proxy or a fail-over does it."""
        import psycopg

        others = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{DATABASE}'"
        with suppress(psycopg.OperationalError):  # they are: it recovers
            server.peer.execute(others)

    def lamed(chance: random.Random) -> None:
        """One of its processes is killed: so it ends all connections, and recovers."""
        for pid in chance.sample(server.peer.pids()[1:], 1):
            os.kill(pid, signal.SIGKILL)

    def full(chance: random.Random) -> Heal:
        """It may end over it, now or when it finds no room as it recovers."""
        filled: list[Heal] = []
        return server.fail(lambda: filled.append(server.disk.fill(server.peer.pids)), lambda: filled.pop()())

    past_the_lease = (lease_s * 1.2, lease_s * 2)
    return [
        Fault("database killed", killed, (0.0, lease_s), 2, database=True),
        Fault("database killed, away past the lease", killed, past_the_lease, 1, database=True),
        Fault("database stopped", stopped, (0.0, lease_s), 1, database=True),
        Fault("database hangs", hanging, (0.2, lease_s * 0.8), 1, database=True),
        Fault("database hangs past the lease", hanging, past_the_lease, 1, database=True),
        Fault("no connection left", crowded, (0.5, lease_s * 1.5), 1, database=True),
        Fault("all connections dropped", dropped, (0, 0), 2, database=True),
        Fault("a process of the database killed", lamed, (0, 0), 1, database=True),
        Fault("database's disk full", full, (0.5, lease_s * 1.5), 2, database=True),
        Fault("database's disk slow", lambda chance: server.slow(), (lease_s, lease_s * 3), 2, database=True),
        *_skewed(cluster, lease_s),
    ]


def clock_off(by_s: int) -> dict[str, str]:
    """The environment of a process whose clock is so far off. Raises: OSError: libfaketime is not on this machine."""
    found = glob("/usr/lib/*/faketime/libfaketime.so.1")
    if not found:
        raise OSError("libfaketime is not on this machine: tools/need faketime")
    return {"LD_PRELOAD": found[0], "FAKETIME": f"{by_s:+d}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def _skewed(cluster: Cluster, lease_s: float) -> list[Fault]:
    """A process is started again with a clock that is two minutes off, either way; and again, with the right one."""
    try:
        clock_off(0)
    except OSError as error:
        print(f"no clock is off: {error}")
        return []

    def skew(chance: random.Random) -> Heal | None:
        up = standing(cluster.members, chance)
        if not up:
            return None
        member = chance.choice(up)
        off = clock_off(chance.choice((-SKEW_S, SKEW_S)))
        member.extra |= off
        member.kill()

        def heal() -> None:
            for name in off:
                member.extra.pop(name, None)
            member.kill()

        return heal

    return [Fault("clock two minutes off", skew, (lease_s, lease_s * 4), 2)]
