"""A standby is promoted while services and workers are at work: they find the new primary, and nothing is lost."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from chaos.cluster import Cluster
from peers.postgres import Postgres
from tests.chaos.conftest import SETTINGS, Site, until


def replicated(server: Postgres) -> None:
    """From now on what is committed is on both: whoever promotes an asynchronous standby loses commits."""
    for statement in ("ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"):
        server.execute(statement)
    until(lambda: server.execute("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"), "it is synchronous")


@pytest.mark.requirement("P2", "G1", "G2", "G5", "NOVA-18")
@pytest.mark.parametrize("version", [15, 18])
def test_services_and_workers_go_on_with_a_standby_that_is_promoted(place: Path, tmp_path: Path, version: int) -> None:
    with Postgres(place / "pg", version=version) as server:
        server.make("tasks")
        standby = server.copy(place / "copy", standby=True)
        with standby:
            replicated(server)
            hosts = ",".join(f"127.0.0.1:{each.port}" for each in (server, standby))
            url = f"postgresql://postgres@{hosts}/tasks?target_session_attrs=read-write"
            with Cluster(tmp_path, url, apis=2, workers=2, settings=SETTINGS) as cluster:
                site = Site(cluster, lambda: server.kill)
                early = [site.ask("march", f"r{number}", pause=0.5) for number in range(8)]
                behind = [site.ask("march", f"r{number}") for number in range(8)]
                site.until_heard("begin", 8)
                server.kill()
                standby.promote()
                later = [site.ask("march", f"r{number}") for number in range(8)]
                assert Counter(site.ended(*early, *behind, *later)) == {"SUCCEEDED": 24}
                site.judged()
                assert site.heard("taken-over"), "it came amid steps"
                assert all(member.is_up for member in cluster.members)
                site.line.close()
