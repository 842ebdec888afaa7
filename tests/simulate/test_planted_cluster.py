"""The simulated cluster finds what is planted: a rule of leases, limits, tags, schedules or the feed is left out, and
some seed of the first few must be broken by it, in the words of the checker whose business it is.

What is planted on one host: test_planted.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Text, bindparam, func, select, update

from holdfast.feed import log
from holdfast.store.schema import feed, tasks, workers
from holdfast.store.schema import schedules as rota
from holdfast.store.transaction import Transaction
from holdfast.tasks import lease as rows
from holdfast.tasks import pools, schedules, tags, take
from holdfast.testing.simulate import Simulator
from holdfast.testing.simulation import network

SEEDS = 30
Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def _compiled_anew() -> Iterator[None]:
    """Statements are compiled once a process, and some of these change them."""
    network.statements.cache_clear()
    log._kept.clear()
    yield
    network.statements.cache_clear()
    log._kept.clear()


def own_clocks(patch: Patch) -> None:
    """Leases go by each machine's clock."""
    patch.setattr(Transaction, "now", lambda self, given: given)


def undead(patch: Patch) -> None:
    """The heartbeat of a worker that was taken for dead is heard."""
    heard = (
        update(workers)
        .where(workers.c.id == bindparam("_id"))
        .values(heartbeat_at=bindparam("_now"), figures=func.coalesce(bindparam("_figures", type_=Text), None))
    )
    patch.setattr(rows, "_BEAT", heard)


def old_epoch(patch: Patch) -> None:
    """Who takes over does not count on."""
    kept = rows._FREE.values(epoch=tasks.c.epoch)
    patch.setattr(rows, "_FREE", kept)
    patch.setattr(take, "_TAKE", take._TAKE.values(epoch=tasks.c.epoch))


def no_cap(patch: Patch) -> None:
    """A pool's limit is compared with what this worker takes, and not with what others have."""
    patch.setattr(pools, "_room", lambda tx, pool, even_closed: pool.running_max or pools.NO_LIMIT)


def closed_is_open(patch: Patch) -> None:
    """Who drains takes on."""
    patch.setattr(take, "_ALIVE", select(workers.c.id).where(workers.c.id == bindparam("_worker")))


def untagged(patch: Patch) -> None:
    """A tag is not remembered."""
    patch.setattr(tags, "take", lambda *given, **named: None)


def fired_again(patch: Patch) -> None:
    """A schedule stays where it is, and its moments have no key."""
    insert_new = Transaction.insert_new

    def always(self: Transaction, table: Any, values: Any) -> bool:
        return insert_new(self, table, values) or table.name == "firings"

    patch.setattr(schedules, "_MOVE", schedules._CHANGE.values(next_at=rota.c.next_at))
    patch.setattr(Transaction, "insert_new", always)
    patch.setattr(schedules, "_LIVE", select(func.count()).where(bindparam("_id") == "", bindparam("_moment") == 0.0))


def heard_again(patch: Patch) -> None:
    """Who goes on in the feed is told the last event once more."""
    again = (
        select(*log._COLUMNS)
        .where(feed.c.id >= bindparam("_after"), feed.c.id <= bindparam("_until"))
        .order_by(feed.c.id)
        .limit(bindparam("_limit"))
    )
    patch.setattr(log, "_BEHIND", again)


def lost_is_done(patch: Patch) -> None:
    """A commit of which nobody knows is taken for one that did not come to be."""

    def gone(self: network.RemoteSession, error: Exception, came_to_be: bool) -> None:
        raise self.translate(error)

    patch.setattr(network.RemoteSession, "_find_out", gone)


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (own_clocks, r"gone before its time|begins while .* goes on|nothing is in the way"),
        (undead, r"was marked dead and has spoken since"),
        (old_epoch, r"in its old epoch|behind"),
        (no_cap, r"is taken|whose limit is|go on at once"),
        (closed_is_open, r"is taken: "),
        (untagged, r"and now task \d+ too|beside it|tasks.tag"),
        (fired_again, r"and now task \d+ too"),
        (heard_again, r"who reads the feed"),
        (lost_is_done, r"was accepted, and|recorded twice|workers.id|tasks.uuid"),
    ],
    ids=lambda given: getattr(given, "__name__", ""),
)
def test_a_planted_bug_is_found(plant: Callable[[Patch], None], said: str, monkeypatch: Patch) -> None:
    plant(monkeypatch)
    found = Simulator("cluster").first_broken(range(SEEDS))
    assert found is not None, f"{SEEDS} seeds did not find it: {plant.__doc__}"
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(found.broken)
    assert f"--world cluster --seed {found.seed}" in found.report()
