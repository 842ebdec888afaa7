"""A worker on a host of its own whose cable is pulled: it stops before another begins, by itself, and works again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chaos import network, postgresql
from chaos.cluster import Cluster
from chaos.network import NETWORK, Network
from tests.chaos.conftest import SETTINGS, Site, until


@pytest.mark.requirement("P10", "G2", "G5")
def test_a_worker_that_is_cut_off_past_its_lease_has_stopped_when_another_begins(place: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        with pytest.raises(OSError, match="no network name spaces"):
            Network(2)
        return
    server = postgresql.Server(place / "pg", NETWORK)
    cluster = Cluster(tmp_path, server.url(), apis=1, workers=2, settings=SETTINGS)
    hosts = Network(len(cluster.members))
    network.spread(hosts, cluster, server.url(hosts.address))
    try:
        with cluster:
            site = Site(cluster, lambda: lambda: None)
            task = site.ask("march", "r1", pause=1.5)
            first = site.until_heard("begin", task=task, step=2)
            (host,) = [at for at, member in enumerate(cluster.members) if member.incarnation == first.who]
            hosts.cut(host)
            stopped = site.until_heard("end", entry=first.more["entry"])
            assert stopped.more["how"] == "Stopping"
            assert site.ended(task) == ["SUCCEEDED"]
            again = site.until_heard("begin", 2, task=task, step=2)
            assert (again.who != first.who, again.place > stopped.place) == (True, True)
            hosts.join_again(host)
            after = [site.ask("glide", f"r{number}", pause=0.5) for number in range(2, 18)]
            until(lambda: any(line.who == first.who for line in site.heard("begin")[-30:]), "it works again")
            assert set(site.ended(*after)) == {"SUCCEEDED"}
            site.judged()
            site.line.close()
    finally:
        hosts.close()
        server.close()
