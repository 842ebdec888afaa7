"""Workers and pools, as people are shown them: whose lease holds until when, what each does now, what waits.

Leases: tasks/lease.py. Limits: tasks/pools.py.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import bindparam, select

from holdfast.core import states
from holdfast.store.base import Tx
from holdfast.store.schema import tasks
from holdfast.tasks import lease, pools, row, show, steps
from holdfast.tasks.lease import WorkerRow
from holdfast.tasks.pools import Usage
from holdfast.tasks.row import TaskRow

ALIVE, DRAINING, STALE = "ALIVE", "DRAINING", "STALE"
WORKER_STATES: Final = (ALIVE, DRAINING, STALE)
OPEN, PAUSED, DRAINED = "OPEN", "PAUSED", "DRAINED"
POOL_STATES: Final = (OPEN, PAUSED, DRAINING, DRAINED)
VERBS: Final = ("pause", "resume", "drain")
TASKS_SHOWN: Final = 100
_STEPS_LOOKED_AT: Final = 50
_RUNS: Final = frozenset(states.STEP_STATES[state] for state in (states.S_RUNNING, states.S_REVERTING))
_HELD: Final = (
    select(tasks).where(tasks.c.worker_id == bindparam("_worker")).order_by(tasks.c.id).limit(bindparam("_limit"))
)


def workers(tx: Tx, now: float, *, pool: str | None = None) -> list[dict[str, Any]]:
    """Those that nobody has found dead, the oldest first."""
    return [_worker(tx, each, now) for each in lease.alive(tx) if pool in (None, each.pool)]


def _worker(tx: Tx, at: WorkerRow, now: float) -> dict[str, Any]:
    held = [row.of(each) for each in tx.execute(_HELD, {"_worker": at.id, "_limit": TASKS_SHOWN}).all()]
    state = DRAINING if lease.is_draining(tx, at.id) else ALIVE
    return {
        "id": at.id,
        "pool": at.pool,
        "state": STALE if at.heartbeat_at + at.lease_s <= now else state,
        "host": at.host,
        "pid": at.pid,
        "version": at.version,
        "started_at": show.moment(at.started_at),
        "heartbeat_at": show.moment(at.heartbeat_at),
        "heartbeat_age_s": round(max(0.0, now - at.heartbeat_at), 3),
        "lease_s": at.lease_s,
        "tasks": [_held(tx, task, now) for task in held],
    }


def _held(tx: Tx, at: TaskRow, now: float) -> dict[str, Any]:
    """A task of a worker, with its steps that run, and for how long."""
    running = [each for each in steps.latest(tx, at.id, _STEPS_LOOKED_AT) if each.state in _RUNS]
    return {
        "uuid": at.uuid,
        "task": at.operation or at.flow,
        "state": at.state,
        "project_id": at.project_id,
        "running_s": round(max(0.0, now - (at.executed_at or now)), 1),
        "steps": [{"id": each.node, "running_s": round(max(0.0, now - each.started_at), 1)} for each in running],
    }


def pool(use: Usage, now: float) -> dict[str, Any]:
    """One pool."""
    at = use.pool
    return {
        "name": at.name,
        "state": state_of(use),
        "running_max": at.running_max,
        "queued_max": at.queued_max,
        "paused_at": show.moment(at.paused_at),
        "draining_at": show.moment(at.draining_at),
        "workers": use.workers,
        "running": use.running,
        "queued": use.queued,
        "due": use.due,
        "oldest_wait_s": None if use.oldest_due_at is None else round(max(0.0, now - use.oldest_due_at), 3),
    }


def state_of(use: Usage) -> str:
    if use.pool.draining_at is not None:
        return DRAINING if use.running else DRAINED
    return OPEN if use.pool.paused_at is None else PAUSED


def all_pools(tx: Tx, now: float) -> list[dict[str, Any]]:
    """Every pool that was ever used, by name."""
    return [pool(pools.usage(tx, each, now), now) for each in pools.each(tx)]


def one_pool(tx: Tx, name: str, now: float) -> dict[str, Any]:
    """Raises: NotFound."""
    return pool(pools.usage(tx, pools.find(tx, name), now), now)


def give(tx: Tx, name: str, verb: str, now: float) -> dict[str, Any]:
    """Pause, resume or drain a pool; what it is then. The same again changes nothing.

    Raises: NotFound: there is no such pool."""
    at = pools.find(tx, name)
    if verb == "resume":
        pools.change(tx, name, {"paused_at": None, "draining_at": None})
        tx.ring()
    elif verb == "pause" and not at.is_closed:
        pools.change(tx, name, {"paused_at": now})
    elif verb == "drain" and at.draining_at is None:
        pools.change(tx, name, {"draining_at": now})
    return one_pool(tx, name, now)


def limit(tx: Tx, name: str, limits: dict[str, int | None], now: float) -> dict[str, Any]:
    """Set the limits that are named, of a pool that is made if it isn't there; what it is then.

    Raises: UsageError: a limit or a name that none can be."""
    pools.change(tx, name, limits)
    return one_pool(tx, name, now)
