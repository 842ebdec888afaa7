"""The database was away for all: nobody's silence says that he is dead, before he had the time to be heard again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.clock import Clock
from holdfast.errors import StoreAway, StoreFull
from holdfast.local import Holdfast
from holdfast.local import open as open_database
from holdfast.settings import Settings
from holdfast.tasks import lease as rows
from holdfast.worker.lease import SWEEP_S, Lease
from tests.worker.scripted import MovedClock

LEASE_S, HEARTBEAT_S = 15.0, 5.0


class Hosts:
    """Workers of as many hosts, by number. Any of them may be silent."""

    def __init__(self, hold: Holdfast, clock: MovedClock, count: int, **settings: float) -> None:
        self.clock = clock
        self._hold = hold
        self._settings = Settings(**{"lease_s": LEASE_S, **settings})
        self.leases: list[Lease] = []
        for _ in range(count):
            self.join()

    def join(self) -> Lease:
        host = f"host{len(self.leases)}"
        lease = Lease(self._hold.store, self.clock, self._settings, "default", threaded=False, host=host)
        lease.register(self.clock.now)
        self.leases.append(lease)
        return lease

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


def test_who_has_just_begun_lets_others_be_heard_first(hosts: Hosts) -> None:
    """It may be the first that is there again after the database was."""
    hosts.turn(HEARTBEAT_S + 1, alive=range(3))
    hosts.clock.now += LEASE_S + HEARTBEAT_S
    fresh = hosts.join()
    fresh.sweep(hosts.clock.now)
    assert (hosts.known(), fresh.expects) == ([0, 1, 2, 3], True)
    hosts.turn(2 * HEARTBEAT_S + 2 * SWEEP_S, alive=range(1, 4))
    assert hosts.known() == [1, 2, 3]


def test_while_nothing_can_be_written_nobody_is_dead(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, a standby that is not promoted yet: it can be read, and no heartbeat is stored."""
    hosts.turn(HEARTBEAT_S + 1, alive=range(3))
    write = hosts.leases[0]._store.write

    def refuse(*_: object) -> None:
        raise StoreFull("there is no room")

    with monkeypatch.context() as full:
        full.setattr(hosts.leases[0]._store, "write", refuse)
        hosts.turn(2 * LEASE_S, alive=range(3))
    assert hosts.leases[0]._store.write == write
    hosts.turn(SWEEP_S, alive=range(1))
    hosts.turn(LEASE_S, alive=range(3))
    assert hosts.known() == [0, 1, 2]


@pytest.mark.parametrize("heartbeat_s", [LEASE_S / 2, LEASE_S / 3, LEASE_S / 10])
def test_a_heartbeat_that_comes_in_its_time_is_no_gap(tmp_path: Path, heartbeat_s: float) -> None:
    clock = MovedClock()
    with open_database(f"sqlite:///{tmp_path}/tasks.db", clock=clock, lease_s=LEASE_S) as hold:
        hosts = Hosts(hold, clock, 2, heartbeat_s=heartbeat_s)
        hosts.turn(2 * LEASE_S, alive=range(2))
        hosts.turn(LEASE_S + SWEEP_S, alive=range(1))
        assert hosts.known() == [0]


def test_who_is_slow_to_store_his_heartbeats_judges_all_the_same(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    beat = rows.heartbeat

    def late(*given: Any, **more: Any) -> list[int]:
        hosts.clock.now += 0.3 * HEARTBEAT_S
        return beat(*given, **more)

    monkeypatch.setattr(rows, "heartbeat", late)
    slow = hosts.leases[0]
    for _ in range(10):
        hosts.clock.now += HEARTBEAT_S
        slow.beat()
    slow.sweep(hosts.clock.now)
    assert hosts.known() == [0]


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
