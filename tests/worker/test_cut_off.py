"""The database was away for all: nobody's silence says that he is dead, before he had the time to be heard again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from holdfast.clock import Clock
from holdfast.errors import StoreAway
from holdfast.local import Holdfast
from holdfast.local import open as open_database
from holdfast.settings import Settings
from holdfast.tasks import lease as rows
from holdfast.worker.lease import SWEEP_S, Lease
from tests.worker.scripted import MovedClock

LEASE_S, HEARTBEAT_S = 15.0, 5.0


class Hosts:
    """Workers of as many hosts, by number. Any of them may be silent."""

    def __init__(self, hold: Holdfast, clock: MovedClock, count: int) -> None:
        self.clock = clock
        self._hold = hold
        self.leases = [
            Lease(hold.store, clock, Settings(lease_s=LEASE_S), "default", threaded=False, host=f"host{number}")
            for number in range(count)
        ]
        for lease in self.leases:
            lease.register(clock.now)

    def turn(self, seconds: float, *, alive: range) -> None:
        for _ in range(round(seconds / SWEEP_S)):
            self.clock.now += SWEEP_S
            for number in alive:
                self.leases[number].turn(self.clock.now)

    def known(self) -> list[int]:
        ids = {worker.id for worker in self._hold.store.read(rows.alive)}
        return [number for number, lease in enumerate(self.leases) if lease.id in ids]


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    clock = MovedClock()
    with open_database(f"sqlite:///{tmp_path}/tasks.db", clock=clock, lease_s=LEASE_S) as hold:
        yield Hosts(hold, clock, 3)


@pytest.mark.requirement("P2", "G10")
@pytest.mark.parametrize("first", ["beat", "sweep"])
def test_who_lives_is_not_buried_by_who_is_back_first(hosts: Hosts, first: str) -> None:
    """Else all that ran when the database went away would count as killed by it."""
    hosts.turn(HEARTBEAT_S + 1, alive=range(3))
    hosts.clock.now += LEASE_S + HEARTBEAT_S  # the database is away
    back = hosts.leases[0]
    back.beat() if first == "beat" else back.sweep(hosts.clock.now)
    back.sweep(hosts.clock.now)
    hosts.turn(2 * LEASE_S, alive=range(3))
    assert hosts.known() == [0, 1, 2]


@pytest.mark.requirement("P2")
def test_who_died_meanwhile_is_buried_within_one_lease(hosts: Hosts) -> None:
    hosts.turn(HEARTBEAT_S + 1, alive=range(3))
    hosts.clock.now += LEASE_S + HEARTBEAT_S
    hosts.turn(LEASE_S, alive=range(2))
    assert hosts.known() == [0, 1]


def test_who_is_silent_while_the_database_is_there_is_dead_when_the_lease_is_over(hosts: Hosts) -> None:
    hosts.turn(LEASE_S - 1, alive=range(1, 3))
    assert hosts.known() == [0, 1, 2]
    hosts.turn(2, alive=range(1, 3))
    assert hosts.known() == [1, 2]


def test_who_has_just_begun_judges_at_once(hosts: Hosts, tmp_path: Path) -> None:
    hosts.clock.now += LEASE_S + 1
    with open_database(f"sqlite:///{tmp_path}/tasks.db", clock=hosts.clock) as hold:
        fresh = Lease(hold.store, hosts.clock, Settings(lease_s=LEASE_S), "default", threaded=False, host="new")
        fresh.sweep(hosts.clock.now)
    assert hosts.known() == []


class Waits(Clock):
    """Says how long is waited, and waits no time."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.waited: list[float | None] = []
        self._count = count

    def wait(self, event: threading.Event, timeout_s: float | None = None) -> bool:
        if threading.current_thread().name != "holdfast-heartbeat":
            return event.wait(5.0)
        self.waited.append(timeout_s)
        return len(self.waited) > self._count or event.is_set()


def test_a_heartbeat_that_failed_is_sent_again_before_the_lease_is_over(tmp_path: Path) -> None:
    """A database that is away for a moment costs no step."""
    clock = Waits(3)
    with open_database(f"sqlite:///{tmp_path}/tasks.db") as hold:
        lease = Lease(hold.store, clock, Settings(lease_s=LEASE_S), "default")
        lease.register(clock.time())
        write: Callable[..., object] = hold.store.write
        failures = iter([StoreAway("it restarts")])

        def away_once(*given: object) -> object:
            for error in failures:
                raise error
            return write(*given)

        hold.store.write = away_once  # type: ignore[assignment,method-assign]
        lease.start(lambda lost: None)
        lease._threads[0].join(30)
        lease.stop()
    assert clock.waited == [HEARTBEAT_S, HEARTBEAT_S / 4, HEARTBEAT_S, HEARTBEAT_S]
