"""A soak: `python -m chaos.run --seed 7 --minutes 5`. Exit 1, with the lines that show it, if a guarantee was broken.

The seed fixes what is asked for and which faults come, not the moment: the machine has its own say. Everything that was
started is ended, also on Ctrl-C; the directory stays when something was broken.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

from chaos import follower, load, network, postgresql, sqlite
from chaos.cluster import FIELD, FLOWS, ROOT, Cluster
from chaos.disk import Disk
from chaos.faults import Fault, Nemesis, of_processes
from chaos.history import NEVER, Broken, History, longest_lost_s
from chaos.network import NETWORK, Network
from chaos.rules import RULES, judge

LEASE_S: Final = 3.0
SETTINGS: Final = {
    "lease_s": str(LEASE_S), "heartbeat_s": "0.75", "deaths_max": "5", "busy_timeout_s": "1", "grace_s": "1",
    "sync_interval_s": "0",
}  # fmt: skip
PAUSE_S: Final = (0.5, 3.5)  # between two faults
RUNNING_MAX: Final = {"default": 6, FIELD: 3}  # at once, over all workers, and over all agents
TURN_S: Final = 0.03
SAY_EVERY_S: Final = 10.0
SETTLE_S: Final = 180.0
SHOWN_MOST: Final = 5


class Given(NamedTuple):
    """`rate`: requests a second of each client."""

    database: str = "sqlite"
    workers: int = 3
    agents: int = 2
    clients: int = 4
    rate: float = 3.0


class Soak:
    """One run on one cluster. `rate`: requests a second of each client."""

    def __init__(self, cluster: Cluster, seed: int, kinds: Sequence[Fault], *, clients: int, rate: float) -> None:
        self.cluster = cluster
        self.nemesis = Nemesis(cluster, seed, kinds, PAUSE_S)
        known: deque[str] = deque(maxlen=200)
        self._clients: list[load.Client | load.Operator] = [
            load.Client(number, seed, cluster.witness, cluster.urls, known, rate) for number in range(1, clients + 1)
        ]
        self._clients.append(load.Operator(cluster.witness, cluster.urls))
        self._follower = follower.Follower(seed, cluster.witness, cluster.urls)
        self._error: BaseException | None = None

    @property
    def asked(self) -> Counter[str]:
        return sum((client.asked for client in (*self._clients, self._follower)), Counter[str]())

    def run(self, seconds: float) -> None:
        """Faults and load at once, then neither until everything has ended."""
        self.cluster.excused = self.nemesis.excuses
        load.cap(self.cluster.witness, self.cluster.urls, RUNNING_MAX)
        for client in (*self._clients, self._follower):
            client.start()
        began = said = time.monotonic()
        while time.monotonic() < began + seconds and all(client.error is None for client in self._clients):
            self.cluster.tend()
            self.nemesis.turn()
            threading.Event().wait(TURN_S)
            if time.monotonic() - said > SAY_EVERY_S:
                said = time.monotonic()
                counts = f"{self.asked['submit']} tasks asked for, {self.nemesis.done.total()} faults"
                print(f"{said - began:6.0f} s: {counts}", flush=True)
        self.nemesis.heal()
        settling = threading.Thread(target=self._settle, name="settling", daemon=True)
        settling.start()
        while settling.is_alive():
            self.cluster.tend()
            settling.join(TURN_S)
        if self._error is not None:
            raise self._error

    def _settle(self) -> None:
        line = load.Line(self.cluster.urls)
        try:
            for client in self._clients:
                client.stopping.set()
            for client in self._clients:
                client.join()
                if client.error is not None:
                    raise client.error
            load.settle(line, self.cluster.witness, SETTLE_S)
            load.still_usable(line, self.cluster.witness, SETTLE_S)
            load.testify(line, self.cluster.witness)
            self._hear_out(follower.testify(line, self.cluster.witness))
        except BaseException as error:
            self._error = error
        finally:
            line.close()

    def _hear_out(self, last: int) -> None:
        """Until the follower has heard of the last event; if it never does, that is in its testimony."""
        end = time.monotonic() + SETTLE_S
        while self._follower.heard < last and self._follower.is_alive() and time.monotonic() < end:
            self._follower.join(TURN_S)
        self._follower.stopping.set()
        if self._follower.error is not None:
            raise self._follower.error


def examine(cluster: Cluster) -> None:
    """Have the doctor look at the database that nobody uses any more."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    command = [sys.executable, "-m", "holdfast", "doctor", "--database", cluster.database, *FLOWS]
    said = subprocess.run(command, env=env, cwd=cluster.directory, capture_output=True, text=True, check=False)
    for line in said.stdout.splitlines():
        if line.startswith("WRONG"):
            cluster.witness.say("doctor", "wrong", said=line[:1000])
    if said.returncode not in (0, 1):
        cluster.witness.say("doctor", "wrong", said=said.stderr[-1000:])


def summary(history: History, soak: Soak, broken: dict[str, list[Broken]]) -> str:
    """The run as a table."""
    told = Counter(line.what for line in history.lines)
    ends = Counter(task.state for task in history.tasks.values())
    stale = sum(entry.stale_from < NEVER for entry in history.entries.values())
    far = sum(entry.pool is not None for entry in history.entries.values())
    lost_s, lost = longest_lost_s(history)
    rows = [
        ("tasks", ", ".join(f"{number} {state}" for state, number in sorted(ends.items()))),
        ("requests", ", ".join(f"{number} {what}" for what, number in sorted(soak.asked.items()))),
        ("replayed replies", sum(line.more["replayed"] for line in history.of("accepted"))),
        ("entries into steps", f"{len(history.entries)}, {stale} of them stale, {far} by agents"),
        ("take-overs", told["taken-over"]),
        ("writes to guarded devices", f"{told['write']}, {told['refused']} refused"),
        ("processes that left by themselves", soak.cluster.left),
        ("longest from a fault to who went on", f"{lost_s:.1f} s{f', {lost}' if lost else ''}"),
        *((f"fault: {fault}", number) for fault, number in sorted(soak.nemesis.done.items())),
        *(
            (
                f"rule: {rule.__name__}",
                f"BROKEN {len(broken[rule.__name__])} times" if broken[rule.__name__] else "held",
            )
            for rule in RULES
        ),
    ]
    return "\n".join(f"{what:36} {value}" for what, value in rows)


def _hosts(number: int) -> Network | None:
    try:
        return Network(number)
    except OSError as error:
        print(f"there are processes and no hosts: {error}")
        return None


def soak(directory: Path, seed: int, seconds: float, given: Given) -> bool:
    """One soak; whether every rule held. Says all of it on the standard output."""
    with ExitStack() as closing:
        if given.database == "sqlite":
            disk = Disk(directory / "disk", sqlite.DISK_MIB)
            closing.callback(disk.close)
            if not disk.is_own:
                print("no file system of its own: a full disk is the limit of processes for the size of files")
            url = sqlite.url_on(disk)
            cluster = closing.enter_context(
                Cluster(directory, url, workers=given.workers, agents=given.agents, settings=SETTINGS)
            )
            own = sqlite.faults(cluster, disk, LEASE_S)
        else:
            server = postgresql.Server(directory / "pg", NETWORK)
            closing.callback(server.close)
            cluster = Cluster(directory, server.url(), workers=given.workers, agents=given.agents, settings=SETTINGS)
            cluster.tend_database = server.tend
            own = postgresql.faults(cluster, server, LEASE_S)
            if (hosts := _hosts(len(cluster.members))) is not None:
                closing.callback(hosts.close)
                network.spread(hosts, cluster, server.url(hosts.address))
                own += network.faults(hosts, cluster, LEASE_S)
            closing.enter_context(cluster)
        kinds = [*of_processes(cluster, LEASE_S), *own]
        made = Soak(cluster, seed, kinds, clients=given.clients, rate=given.rate)
        made.run(seconds)
        cluster.leave()
        examine(cluster)
        return verdict(made)


def verdict(soak: Soak) -> bool:
    """Print what was found; whether every rule held."""
    history = History(soak.cluster.witness.lines())
    broken = judge(history)
    print(summary(history, soak, broken), flush=True)
    for found in broken.values():
        for each in found[:SHOWN_MOST]:
            print(each)
    return not any(broken.values())


def main() -> int:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # what was started is ended
    parser = argparse.ArgumentParser(prog="python -m chaos.run", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="of what is asked for and of the faults")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default=Given().database)
    parser.add_argument("--workers", type=int, default=Given().workers)
    parser.add_argument("--agents", type=int, default=Given().agents, help="that run steps and have no database")
    parser.add_argument("--clients", type=int, default=Given().clients)
    parser.add_argument("--rate", type=float, default=Given().rate, help="requests a second of each client")
    parser.add_argument("--directory", type=Path, help="where all of it is kept, whatever came of it")
    asked = parser.parse_args()
    seed = asked.seed if asked.seed is not None else random.SystemRandom().randrange(1 << 32)
    directory = asked.directory or Path(tempfile.mkdtemp(prefix="chaos-"))
    print(f"seed {seed}, {asked.minutes:g} minutes on {asked.database}, in {directory}", flush=True)
    given = Given(asked.database, asked.workers, asked.agents, asked.clients, asked.rate)
    held = soak(directory, seed, asked.minutes * 60, given)
    if held and asked.directory is None:
        shutil.rmtree(directory)
    else:
        print(f"seed {seed}: what was said and logged is in {directory}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
