"""Pools: what holds for all workers of a pool together. How many of its tasks may be taken at once, how many may wait
to be begun, and whether any is taken at all.

Theory: no counter is kept that could go wrong. Who takes locks the pool's row first; under that lock the taken tasks
are counted, by index, so no two find the same free place. What frees a place (an end, a release, the tasks of a dead
worker) needs no lock: it only makes room. A task counts from its taking until it is given back or its worker is marked
dead; so neither a killed worker nor a frozen one makes room before it can write no more.

The row's lock decides, and comes before all others (quota, tag, resources, tasks, worker). A taker that finds a limit
has the row alone (FOR UPDATE); one that finds none shares it (FOR SHARE), so that takers of a pool without a limit
don't wait for each other. Who sets a limit, pauses or drains updates the row: he waits for the takers that have it, and
those that come wait for him, and then read what he wrote.

Who of a pool is next: tasks/turn.py. Quotas of projects and resources: tasks/quota.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import bindparam, func, null, select, true, update

from holdfast.errors import NotFound, QuotaExceeded, UsageError
from holdfast.store.base import Tx
from holdfast.store.schema import pools, tasks, workers
from holdfast.tasks.quota import RETRY_AFTER_S, Limits, number_of

if TYPE_CHECKING:
    from sqlalchemy.sql import Executable

    from holdfast.store.base import Result

NO_LIMIT: Final = 1 << 30
QUEUED: Final = "pool_queued"
LIMIT_MOST: Final = 1_000_000
NAME_CHARS_MAX: Final = 255


class Pool(NamedTuple):
    """The columns of schema.pools, in its order. `running_max`, `queued_max`: None: no limit. `paused_at`: since when
    none of its tasks is taken; `draining_at`: and its workers hand over what they have."""

    name: str
    running_max: int | None = None
    queued_max: int | None = None
    paused_at: float | None = None
    draining_at: float | None = None
    figures: str | None = None

    @property
    def is_closed(self) -> bool:
        return self.paused_at is not None or self.draining_at is not None


class Usage(NamedTuple):
    """A pool at this moment. `running`: its tasks that a worker has; `queued`: those that have not begun; `due`: those
    that could be taken at once, and since when the first of them could; `workers`: those not marked dead."""

    pool: Pool
    running: int
    queued: int
    due: int
    oldest_due_at: float | None
    workers: int


_p = pools.c
OF: Final = select(pools).where(_p.name == bindparam("_pool"))
_ALONE: Final = OF.with_for_update()
_ALONE_IF_LIMITED: Final = _ALONE.where(_p.running_max.is_not(null()))
_SHARED_IF_NOT: Final = OF.where(_p.running_max.is_(null())).with_for_update(read=True)
_of_pool = tasks.c.pool == bindparam("_pool")
_held = _of_pool & tasks.c.worker_id.is_not(null())
_unbegun = _of_pool & tasks.c.executed_at.is_(null()) & tasks.c.finished_at.is_(null())  # the index's own words
_HELD: Final = number_of(select(tasks.c.id).where(_held))
_QUEUED: Final = number_of(select(tasks.c.id).where(_unbegun))
_DUE: Final = select(func.count(), func.min(tasks.c.due_at)).where(
    _of_pool,
    tasks.c.ready == true(),
    tasks.c.worker_id.is_(null()),
    tasks.c.due_at.is_not(null()),
    tasks.c.due_at <= bindparam("_now"),
)
_QUEUED_MAX: Final = (
    select(_p.queued_max).where(_p.name == bindparam("_pool"), _p.queued_max.is_not(null())).with_for_update()
)
_ALL: Final = select(pools).order_by(_p.name)
_WORKERS: Final = select(func.count()).where(workers.c.pool == bindparam("_pool"), workers.c.dead.is_(False))
_POOLS_OF: Final = select(tasks.c.pool).where(tasks.c.id.in_(bindparam("_ids", expanding=True))).distinct()
_DRAINS: Final = select(_p.draining_at).where(_p.name == bindparam("_pool"))
_SET: Final = update(pools).where(_p.name == bindparam("_pool"))


# --- rows ---------------------------------------------------------------------------------------------------------


def make_known(tx: Tx, name: str) -> None:
    """Have a row for the pool, without limits where it is new. Rows of pools are never deleted."""
    key = ("pool", name)
    if key not in tx.known:
        tx.insert_new(pools, {"name": name})
        tx.known.add(key)


def find(tx: Tx, name: str) -> Pool:
    """Raises: NotFound: no task was ever asked for in it, no worker has served it, and nobody has set it a limit."""
    found = tx.execute(OF, {"_pool": name}).first()
    if found is None:
        raise NotFound(f"there is no pool {name}: `holdfast pool set {name}` makes it, and so does its first task")
    return Pool._make(found)


def each(tx: Tx) -> list[Pool]:
    """All pools, by name."""
    return [Pool._make(found) for found in tx.execute(_ALL).all()]


def usage(tx: Tx, pool: Pool, now: float, *, at_most: int = LIMIT_MOST) -> Usage:
    """What is going on in the pool; no number is greater than `at_most`, but for `due`."""
    where = {"_pool": pool.name, "_max": at_most}
    due, oldest = tx.execute(_DUE, {"_pool": pool.name, "_now": now}).first()
    return Usage(
        pool,
        int(tx.execute(_HELD, where).scalar()),
        int(tx.execute(_QUEUED, where).scalar()),
        int(due),
        oldest,
        int(tx.execute(_WORKERS, {"_pool": pool.name}).scalar()),
    )


def change(tx: Tx, name: str, values: Mapping[str, Any]) -> Pool:
    """Set columns of the pool's row, under its lock: what takes after this commit goes by them.

    A lower limit takes nothing away: nothing more is taken until fewer run than it says.

    Raises: UsageError: a limit or a name that none can be; NotFound: no such pool, where only its pause or drain is
    set.
    """
    for limit in ("running_max", "queued_max"):
        number = values.get(limit)
        if number is not None and not 1 <= number <= LIMIT_MOST:
            raise UsageError(f"{limit} is {number}, but has to be 1 to {LIMIT_MOST}; to take nothing, pause the pool")
    if not 1 <= len(name) <= NAME_CHARS_MAX or not name.isprintable() or "/" in name or " " in name:
        raise UsageError(
            f"a pool has a name of 1 to {NAME_CHARS_MAX} visible characters without a slash: {name[:40]!r} isn't one"
        )
    if "running_max" in values or "queued_max" in values:
        make_known(tx, name)
    if values:
        tx.execute(_SET, {"_pool": name, **values})
        tx.seen.pop((QUEUED, name), None)
    return find(tx, name)


def is_draining(tx: Tx, name: str) -> bool:
    return tx.execute(_DRAINS, {"_pool": name}).scalar() is not None


# --- limits -------------------------------------------------------------------------------------------------------


def enter(tx: Tx, name: str, *, even_closed: bool = False) -> int:
    """Lock the pool's row for a taker; how many more of its tasks may be taken in this transaction.

    `even_closed`: by who works for certain tasks alone, whose pool may be paused.
    """
    make_known(tx, name)
    return entered(tx, name, tx.execute_all(*entrance(name)), even_closed=even_closed)


def entrance(name: str) -> tuple[tuple[Executable, dict[str, Any]], ...]:
    """What `entered` has to be told. The pool is known."""
    which = {"_pool": name}
    return (_SHARED_IF_NOT, which), (_ALONE_IF_LIMITED, which)


def entered(tx: Tx, name: str, told: Sequence[Result], *, even_closed: bool = False) -> int:
    """`enter`, with what `entrance` gave."""
    found = next((answer.first() for answer in told if answer.first() is not None), None)
    if found is None:  # a limit was set, or taken away, between the two
        found = tx.execute(_ALONE, {"_pool": name}).one()
    return _room(tx, Pool._make(found), even_closed)


def look(tx: Tx, name: str, *, even_closed: bool = False) -> int:
    """As `enter`, without a lock: what there was room for a moment ago."""
    return room(tx, tx.execute(OF, {"_pool": name}), even_closed=even_closed)


def room(tx: Tx, told: Result, *, even_closed: bool = False) -> int:
    """`look`, with what OF gave."""
    found = told.first()
    return NO_LIMIT if found is None else _room(tx, Pool._make(found), even_closed)


def _room(tx: Tx, pool: Pool, even_closed: bool) -> int:
    if pool.is_closed and not even_closed:
        return 0
    if pool.running_max is None:
        return NO_LIMIT
    return pool.running_max - int(tx.execute(_HELD, {"_pool": pool.name, "_max": pool.running_max}).scalar())


def names_of(tx: Tx, ids: Collection[int]) -> list[str]:
    """The pools of these tasks, in the order in which their rows are locked."""
    return sorted(tx.execute(_POOLS_OF, {"_ids": list(ids)}).scalars(), key=str.encode) if ids else []


def lock_queue(tx: Tx, name: str) -> int | None:
    """How many of the pool's tasks may wait to be begun; its row is then locked, so no other comes in meanwhile. None:
    any number, and nothing is locked. All that one transaction admits are admitted at once: it is asked once."""
    key = (QUEUED, name)
    if key not in tx.seen:
        make_known(tx, name)
        tx.seen[key] = tx.execute(_QUEUED_MAX, {"_pool": name}).scalar()
    limit: int | None = tx.seen[key]
    return limit


def check_queue(tx: Tx, name: str, limit: int, task: int, limits: Limits | None) -> None:
    """Refuse a task, which was just made, where the pool has `limit` others that have not begun. `limits` remembers
    what was counted.

    Raises: QuotaExceeded: details `quota`, `limit`, `pool`, `retry_after_s`.
    """

    def count(at_most: int) -> int:
        return int(tx.execute(_QUEUED, {"_pool": name, "_max": at_most}).scalar())

    if (limits or Limits()).is_within(limit, (QUEUED, name), task, count):
        return
    raise QuotaExceeded(
        f"{limit} tasks of the pool {name} wait to be begun, as many as may: wait for some to begin, or cancel some",
        quota=QUEUED,
        limit=limit,
        pool=name,
        retry_after_s=RETRY_AFTER_S,
    )
