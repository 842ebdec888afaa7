"""Leases: which workers are alive, and what becomes of the tasks of one that isn't.

Theory: a worker's row is one incarnation of one process; its id is never used again. It is alive while it says so
often enough. Who finds that it has stopped marks it dead, in an update that holds only if it has not spoken
meanwhile, and frees its tasks under new epochs: whatever it still writes carries stale tokens. A dead row stays dead;
its process, if it lives, is refused and registers anew.

How a worker on the same host is known to be dead at once, by its file lock: worker/lease.py.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Final, NamedTuple

from sqlalchemy import Text, bindparam, case, delete, exists, false, func, insert, null, select, true, update

from holdfast.errors import LeaseLost
from holdfast.store.base import Tx
from holdfast.store.schema import pools as pools_table
from holdfast.store.schema import tasks, workers
from holdfast.tasks import figures, overdue, pools

OWN_POOL: Final = "task "  # how the pool of a worker begins that a command has for its one task: it is none


class WorkerRow(NamedTuple):
    """The columns of schema.workers, in its order. `lease_s`: how long after a heartbeat it counts as alive."""

    id: str
    host: str
    boot: str
    pid: int
    lock_path: str | None
    pool: str
    started_at: float
    heartbeat_at: float
    lease_s: float
    dead: bool = False
    draining_at: float | None = None
    version: str | None = None
    figures: str | None = None
    flows: str | None = None


class Around(NamedTuple):
    """`workers`: those alive on one host, and those whose leases have run out. `others`: how many are alive.
    `others_at`: when the lease of the first of them runs out if it says no more; `agents_at`: that of an agent."""

    workers: list[WorkerRow]
    others: int
    others_at: float | None
    agents_at: float | None


_ADD: Final = insert(workers)
_BEAT: Final = (
    update(workers)
    .where(workers.c.id == bindparam("_id"), workers.c.dead == false())
    .values(heartbeat_at=bindparam("_now"), figures=func.coalesce(bindparam("_figures", type_=Text), workers.c.figures))
)
_HELD: Final = select(tasks.c.id).where(tasks.c.worker_id == bindparam("_id"))
_ALIVE: Final = select(workers).where(workers.c.dead == false()).order_by(workers.c.started_at, workers.c.id)
#: Those that a worker of the host can judge: it sees their locks, or their time is over.
_AROUND: Final = _ALIVE.where(
    (workers.c.host == bindparam("_host")) | (workers.c.heartbeat_at + workers.c.lease_s <= bindparam("_now"))
)
_OTHERS: Final = select(func.count(), func.min(workers.c.heartbeat_at + workers.c.lease_s)).where(
    workers.c.dead == false(), workers.c.id != bindparam("_id")
)
_DRAINING: Final = (
    select(func.coalesce(workers.c.draining_at, pools_table.c.draining_at))
    .select_from(workers.outerjoin(pools_table, pools_table.c.name == workers.c.pool))
    .where(workers.c.id == bindparam("_id"))
)
_DRAIN: Final = (
    update(workers)
    .where(workers.c.id == bindparam("_id"), workers.c.dead == false())
    .values(draining_at=bindparam("_at"))
)
_OF: Final = select(workers).where(workers.c.id == bindparam("_id"))
_BURY: Final = (
    update(workers)
    .where(workers.c.id == bindparam("_id"), workers.c.dead == false(), workers.c.heartbeat_at <= bindparam("_seen"))
    .values(dead=true(), figures=func.coalesce(bindparam("_figures", type_=Text), workers.c.figures))
)
_last = select(workers.c.heartbeat_at).where(workers.c.id == bindparam("_id")).scalar_subquery()
#: Due since then, not since now: who takes by a clock that is a moment behind this one would pass them over, and what
#: is new would have their places.
_since = case((_last < bindparam("_now"), _last), else_=bindparam("_now"))
_FREE: Final = (
    update(tasks)
    .where(tasks.c.worker_id == bindparam("_id"))
    .values(worker_id=null(), token=null(), epoch=tasks.c.epoch + 1, due_at=_since)
    .returning(tasks.c.id)
)
_LET_GO: Final = _FREE.where(tasks.c.id.not_in(bindparam("_but", expanding=True)))
_gone = (
    (workers.c.dead == true())
    & (workers.c.heartbeat_at < bindparam("_before"))
    & ~exists().where(tasks.c.worker_id == workers.c.id)
)
_POOLS_OF_GONE: Final = select(workers.c.pool).where(_gone, workers.c.figures.is_not(null())).distinct()
_LOCK_FIGURES: Final = select(pools_table.c.figures).where(pools_table.c.name == bindparam("_pool")).with_for_update()
_ADD_FIGURES: Final = update(pools_table).where(pools_table.c.name == bindparam("_pool"))
_KNOWN: Final = select(workers.c.flows).where(
    workers.c.pool == bindparam("_pool"), workers.c.dead == false(), workers.c.flows.is_not(null())
)
_FORGET: Final = delete(workers).where(_gone).returning(workers.c.pool, workers.c.figures)


def register(tx: Tx, worker: WorkerRow) -> None:
    """Make the worker known, and its pool, before it takes its first task."""
    if not worker.pool.startswith(OWN_POOL):
        pools.make_known(tx, worker.pool)
    tx.execute(_ADD, worker._asdict())


def heartbeat(tx: Tx, worker: str, now: float, *, held: Collection[int], figures: str | None = None) -> list[int]:
    """Renew the lease. Which of the tasks `held` are the worker's no more: it must stop those. `figures`: what it has
    counted, by now (figures.py).

    Raises: LeaseLost: the worker was taken for dead. It must stop all its tasks and register anew.
    """
    tx.keep_quiet()
    if tx.execute(_BEAT, {"_id": worker, "_now": now, "_figures": figures}).rowcount != 1:
        raise LeaseLost(worker=worker)
    return sorted(set(held).difference(tx.execute(_HELD, {"_id": worker}).scalars()))


def is_draining(tx: Tx, worker: str) -> bool:
    """Whether the worker, or its whole pool, is to take no more, and to hand over what it has."""
    return tx.execute(_DRAINING, {"_id": worker}).scalar() is not None


def drain(tx: Tx, worker: str, at: float | None) -> bool:
    """Tell the worker to take no task from this commit on, and to hand over each that it has when the step that runs
    has ended (`at`: now); or to go on as ever (None). Whether it is alive."""
    return tx.execute(_DRAIN, {"_id": worker, "_at": at}).rowcount == 1


def alive(tx: Tx) -> list[WorkerRow]:
    """The workers that nobody has marked dead, the oldest first."""
    return [WorkerRow._make(found) for found in tx.execute(_ALIVE).all()]


def around(tx: Tx, worker: str, host: str, now: float) -> Around:
    """What that worker, of that host, has to know of the others."""
    found, counted, leased = tx.execute_all(
        (_AROUND, {"_host": host, "_now": now}), (_OTHERS, {"_id": worker}), (overdue.FIRST, {})
    )
    count, first = counted.first()
    return Around([WorkerRow._make(row) for row in found.all()], int(count), first, leased.scalar())


def is_known(tx: Tx, pool: str, reference: str) -> bool:
    """Whether a worker of the pool that is not known to be dead was given the flow of that reference."""
    return any(reference in json.loads(flows) for flows in tx.execute(_KNOWN, {"_pool": pool}).scalars())


def find(tx: Tx, worker: str) -> WorkerRow | None:
    """The worker of that id, alive or dead; None: forgotten."""
    found = tx.execute(_OF, {"_id": worker}).first()
    return None if found is None else WorkerRow._make(found)


def expired(tx: Tx, now: float) -> list[WorkerRow]:
    """The workers whose leases have run out."""
    return [worker for worker in alive(tx) if worker.heartbeat_at + worker.lease_s <= now]


def mark_dead(tx: Tx, worker: str, now: float, *, seen: float | None = None, figures: str | None = None) -> list[int]:
    """Take the worker's tasks away: anybody may take them now. Their ids; none if the worker was marked before.

    `seen` is its `heartbeat_at` when it was judged: if it has spoken since, nothing happens. None: it is known to be
    gone, or says so itself, and with its last `figures`.
    """
    values = {"_id": worker, "_seen": float("1e300") if seen is None else seen, "_figures": figures}
    if tx.execute(_BURY, values).rowcount != 1:
        return []
    return _freed(tx, sorted(tx.execute(_FREE, {"_id": worker, "_now": now}).scalars()))


def let_go(tx: Tx, worker: str, now: float, *, but: Collection[int]) -> list[int]:
    """Let anybody take the worker's tasks, but for these; their ids."""
    return _freed(tx, sorted(tx.execute(_LET_GO, {"_id": worker, "_now": now, "_but": list(but)}).scalars()))


def _freed(tx: Tx, tasks: list[int]) -> list[int]:
    for task in tasks:
        tx.touched(task)
    return tasks


def forget(tx: Tx, *, before: float) -> int:
    """Delete the rows of workers that were last heard of before then and have no tasks left; how many. What they had
    counted is added to their pools' rows, which are locked first: nobody adds the same twice."""
    had = {}
    for pool in sorted(tx.execute(_POOLS_OF_GONE, {"_before": before}).scalars(), key=str.encode):
        had[pool] = tx.execute(_LOCK_FIGURES, {"_pool": pool}).scalar()
    rows = tx.execute(_FORGET, {"_before": before}).all()
    for pool, text in had.items():
        counted = [found.figures for found in rows if found.pool == pool]
        tx.execute(_ADD_FIGURES, {"_pool": pool, "figures": figures.summed([text, *counted]).to_text()})
    return len(rows)
