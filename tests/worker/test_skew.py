"""Machines whose clocks are minutes apart: how long a lease lasts is told by the database's clock alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import update

from holdfast.clock import Clock
from holdfast.local import open as open_database
from holdfast.settings import Settings
from holdfast.store.schema import workers
from holdfast.tasks import lease as rows
from holdfast.worker.lease import Lease
from tests.postgresql import Databases

LEASE_S = 15.0


class Skewed(Clock):
    """The machine's clock, off by so many seconds."""

    __slots__ = ("_by_s",)

    def __init__(self, by_s: float) -> None:
        super().__init__()
        self._by_s = by_s

    def time(self) -> float:
        return super().time() + self._by_s


@pytest.mark.requirement("G2", "P10")
def test_workers_whose_clocks_are_minutes_apart_take_each_other_for_alive_and_for_dead_in_time(
    postgresql: Databases,
) -> None:
    with open_database(postgresql.fresh()) as hold:
        settings = Settings(lease_s=LEASE_S)
        clocks = [Skewed(by_s) for by_s in (-120.0, 0.0, 120.0)]
        leases = [
            Lease(hold.store, clock, settings, "default", threaded=False, host=f"host{number}")
            for number, clock in enumerate(clocks)
        ]
        for lease, clock in zip(leases, clocks, strict=True):
            lease.register(clock.time())
            lease.beat()
        for lease, clock in zip(leases, clocks, strict=True):
            lease.sweep(clock.time())
        assert {worker.id for worker in hold.store.read(rows.alive)} == {lease.id for lease in leases}
        behind, right, ahead = leases
        behind._steady_at = float("-inf")  # it has been there for long
        hold.store.write(
            lambda tx: tx.execute(
                update(workers).where(workers.c.id == ahead.id).values(heartbeat_at=workers.c.heartbeat_at - LEASE_S)
            )
        )
        behind.sweep(clocks[0].time())
        assert {worker.id for worker in hold.store.read(rows.alive)} == {behind.id, right.id}


def test_a_clock_that_is_off_is_set_by_the_databases_where_machines_share_it(
    postgresql: Databases, tmp_path: Path
) -> None:
    ahead = Skewed(120.0)
    with open_database(postgresql.fresh(), clock=ahead) as hold:
        assert abs(hold.clock.time() - Clock().time()) < 30
    alone = Skewed(120.0)
    with open_database(f"sqlite:///{tmp_path}/tasks.db", clock=alone) as hold:
        assert hold.clock.time() - Clock().time() > 90
