"""Hosts made of network name spaces: each process has one, joined by a bridge to the database and to those who ask, and
a host name of its own. So who dies there is not found by its lock, as on one's own host, but by its lease.

Only root may, and only where the kernel has what it takes; where it can't be had, they are processes and no more.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from chaos.cluster import Cluster
from chaos.faults import Fault, Heal

NETWORK: Final = "10.213.0.0/16"
_FIRST: Final = 2  # the address of the first host, behind that of the bridge


class Network:
    """`hosts`: how many. Raises: OSError: it can't be had here."""

    def __init__(self, hosts: int) -> None:
        self._name = f"hf{os.getpid() % 100_000}"
        self._subnet = f"10.213.{os.getpid() % 250}"
        self.address = f"{self._subnet}.1"
        self._hosts = [f"{self._name}h{number}" for number in range(1, hosts + 1)]
        try:
            _ip("link", "add", self._name, "type", "bridge")
            _ip("addr", "add", f"{self.address}/24", "dev", self._name)
            _ip("link", "set", self._name, "up")
            for number, host in enumerate(self._hosts):
                self._join(host, self.address_of(number))
        except (OSError, subprocess.CalledProcessError) as error:
            self.close()
            raise OSError(f"no network name spaces: {error}") from error

    def _join(self, host: str, address: str) -> None:
        _ip("netns", "add", host)
        _ip("link", "add", self.link(host), "type", "veth", "peer", "name", "eth0", "netns", host)
        _ip("link", "set", self.link(host), "master", self._name)
        _ip("link", "set", self.link(host), "up")
        for words in (("addr", "add", f"{address}/24", "dev", "eth0"), ("link", "set", "eth0", "up")):
            _ip("-n", host, *words)
        _ip("-n", host, "link", "set", "lo", "up")

    def link(self, host: str) -> str:
        """The end of the host's cable that is on our side."""
        return f"{self._name}v{self._hosts.index(host) + 1}"

    def prefix(self, number: int) -> list[str]:
        """What a command on that host begins with. It is the process that this begins."""
        host = self._hosts[number]
        return ["ip", "netns", "exec", host, "unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', host]

    def address_of(self, number: int) -> str:
        return f"{self._subnet}.{number + _FIRST}"

    def cut(self, number: int) -> None:
        _ip("link", "set", self.link(self._hosts[number]), "down")

    def join_again(self, number: int) -> None:
        _ip("link", "set", self.link(self._hosts[number]), "up")

    def close(self) -> None:
        """With the name space goes its end of the cable, and with that the other."""
        for host in self._hosts:
            with suppress(OSError, subprocess.CalledProcessError):
                _ip("netns", "del", host)
        with suppress(OSError, subprocess.CalledProcessError):
            _ip("link", "del", self._name)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def spread(network: Network, cluster: Cluster, database: str) -> None:
    """Give each process of the cluster a host of its own, from where the database has that URL; before it starts."""
    for number, member in enumerate(cluster.members):
        member.move(network.prefix(number), network.address_of(number), database)


def faults(network: Network, cluster: Cluster, lease_s: float) -> list[Fault]:
    """Cables of single processes, and all of them at once: who is cut off has neither its database nor those who ask
    it."""
    hosts = range(len(cluster.members))
    services, workers = hosts[: len(cluster.apis)], hosts[len(cluster.apis) :][: len(cluster.workers)]
    agents = hosts[len(services) + len(workers) :]

    def cutting(some: Sequence[int], number: int = 1) -> Callable[[random.Random], Heal]:
        def begin(chance: random.Random) -> Heal:
            chosen = chance.sample(some, number)
            for host in chosen:
                network.cut(host)
                cluster.members[host].is_cut_off = True

            def heal() -> None:
                for host in chosen:
                    network.join_again(host)
                    cluster.members[host].is_cut_off = False

            return heal

        return begin

    past_the_lease = (lease_s * 1.3, lease_s * 2.5)
    return [
        Fault("worker's link down for a moment", cutting(workers), (0.2, lease_s * 0.8), 1),
        Fault("worker's link down past the lease", cutting(workers), past_the_lease, 4),
        Fault("service's link down", cutting(services), past_the_lease, 2),
        *([Fault("agent's link down past the lease", cutting(agents), past_the_lease, 3)] if agents else ()),
        Fault("all links down", cutting(hosts, len(hosts)), (0.2, lease_s * 2), 1),
    ]
