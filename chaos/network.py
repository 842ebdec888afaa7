"""Hosts made of network name spaces: each worker has one, joined by a bridge to the database and the services.

Only root may, and only where the kernel has what it takes; where it can't be had, workers are processes and no more.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from chaos.cluster import Member
from chaos.faults import Fault, Heal

NETWORK: Final = "10.213.0.0/16"


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
            for number, host in enumerate(self._hosts, 2):
                self._join(host, f"{self._subnet}.{number}")
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
        """What a command on that host begins with."""
        return ["ip", "netns", "exec", self._hosts[number]]

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


def faults(network: Network, workers: Sequence[Member], lease_s: float) -> list[Fault]:
    def cutting(chance: random.Random) -> Heal:
        number = chance.randrange(len(workers))
        network.cut(number)
        return lambda: network.join_again(number)

    return [
        Fault("link down for a moment", cutting, (0.2, lease_s * 0.8), 1),
        Fault("link down past the lease", cutting, (lease_s * 1.3, lease_s * 2.5), 4),
    ]
