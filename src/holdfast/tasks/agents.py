"""Steps that agents run: the leases of executors that have no access to the database.

Theory: a worker drives the task and records every start; where a step says `agent=`, it offers the entry here instead
of entering user code. An agent leases it, by way of any API server, and speaks for it with the lease's token: it
lives, it comes on, it has got so far, it has ended. What it says is kept in the lease's row, durable before it is
acknowledged, and the task's bell is rung (`due_at`), so that whoever drives the task folds it into the journal. So
neither the death of a worker nor that of an API server is an agent's business: the next one finds the row.

A row is one entry of one step, known by the seq of the journal's row that recorded its start. It is ended once: by its
agent, by who finds that its lease has run out (overdue.py), or by its worker, who takes it back. After that its token
is good for nothing but to hear the same answer again. Locks are taken in the order task, lease.

Who offers and folds: worker/agents.py. Who asks over HTTP: service/leases.py. Why so: docs/why/adr.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from hmac import compare_digest
from typing import Final, NamedTuple

from sqlalchemy import bindparam, delete, exists, func, insert, null, or_, select, update

from holdfast.errors import LeaseLost
from holdfast.store.base import Tx
from holdfast.store.schema import leases, pools, tasks

#: How long the row of a lease is kept that has ended, for an agent that lost the answer and asks again.
KEPT_S: Final = 3_600.0


class Lease(NamedTuple):
    """The columns of schema.leases, in its order."""

    id: int
    task: int
    node: str
    what: str
    entry: int
    pool: str
    priority: int
    work: str
    timeout_s: float | None
    offered_at: float
    token: str | None
    holder: str | None
    agent: str | None
    leased_at: float | None
    expires_at: float | None
    stop: str | None
    killed: bool
    revision: int
    progress: float | None
    message: str | None
    told_at: float | None
    checkpoint: str | None
    checkpoints: int
    outcome: str | None
    said: str | None
    ended_at: float | None
    closed_at: float | None

    @property
    def is_begun(self) -> bool:
        """Whether its step may have been begun. An executor that says its name has a heartbeat answered first; one
        that doesn't was given a name with a space in it (service/leases.py), and has promised nothing."""
        has_said = self.told_at is not None or self.progress is not None or self.checkpoints or self.said is not None
        return self.agent is not None and bool(has_said or " " in self.agent)


class Offer(NamedTuple):
    """What a worker offers. `entry`: 0 for a probe."""

    node: str
    what: str
    entry: int
    pool: str
    work: str
    timeout_s: float | None


class Speaker(NamedTuple):
    """Who speaks for a lease, and with what. `task`: the uuid that he names."""

    token: str
    holder: str
    task: str


_OFFER: Final = insert(leases).returning(leases.c.id)
_OFFERED: Final = select(leases.c.id).where(
    leases.c.task == bindparam("_task"), leases.c.entry == bindparam("_entry"), leases.c.closed_at.is_(null())
)
_open = leases.c.token.is_(null()) & leases.c.closed_at.is_(null())
_lives = exists().where(tasks.c.id == leases.c.task, tasks.c.finished_at.is_(null()))
_TAKE: Final = (
    select(leases.c.id)
    .where(leases.c.pool == bindparam("_pool"), _open, _lives)
    .order_by(leases.c.priority.desc(), leases.c.id)
    .limit(bindparam("_limit"))
    .with_for_update(skip_locked=True)
)
_POOL: Final = select(pools).where(pools.c.name == bindparam("_pool")).with_for_update()
_held = leases.c.token.is_not(null()) & leases.c.ended_at.is_(null()) & leases.c.closed_at.is_(null())
_RUNNING: Final = select(func.count()).select_from(leases).where(leases.c.pool == bindparam("_pool"), _held)
_LEASE: Final = (
    update(leases)
    .where(leases.c.id == bindparam("_id"), _open)
    .values(
        token=bindparam("_token"), holder=bindparam("_holder"), agent=bindparam("_agent"), leased_at=bindparam("_now"),
        expires_at=bindparam("_expires"), revision=leases.c.revision + 1,
    )
    .returning(leases)
)  # fmt: skip
_OF_AGENT: Final = (
    select(leases)
    .where(leases.c.agent == bindparam("_agent"), leases.c.holder == bindparam("_holder"), _held, _lives)
    .order_by(leases.c.id)
)
_WAITING: Final = select(leases.c.pool).where(_open, _lives).distinct()
_with_task = select(leases, tasks.c.uuid.label("uuid"), tasks.c.finished_at.label("finished_at")).join(
    tasks, tasks.c.id == leases.c.task
)
_BY_ID: Final = _with_task.where(leases.c.id == bindparam("_id"))
_PAGE: Final = (
    _with_task.where(leases.c.closed_at.is_(null()), leases.c.id > bindparam("_after"))
    .order_by(leases.c.id)
    .limit(bindparam("_limit"))
)
_PAGE_OF_POOL: Final = _PAGE.where(leases.c.pool == bindparam("_pool"))
_ours = (leases.c.id == bindparam("_id")) & (leases.c.token == bindparam("_token")) & _held
_BEAT: Final = update(leases).where(_ours).values(expires_at=bindparam("_expires"), told_at=bindparam("_told"))
_PROGRESS: Final = (
    update(leases)
    .where(_ours)
    .values(progress=bindparam("_progress"), message=bindparam("_message"), revision=leases.c.revision + 1)
)
_CHECKPOINT: Final = (
    update(leases)
    .where(_ours, leases.c.checkpoints < bindparam("_number"))
    .values(checkpoint=bindparam("_value"), checkpoints=bindparam("_number"), revision=leases.c.revision + 1)
)
_END: Final = (
    update(leases)
    .where(_ours)
    .values(
        outcome=bindparam("_outcome"), said=bindparam("_said"), ended_at=bindparam("_now"), expires_at=null(),
        revision=leases.c.revision + 1,
    )
)  # fmt: skip
_OF_TASK: Final = (
    select(leases).where(leases.c.task == bindparam("_task"), leases.c.closed_at.is_(null())).order_by(leases.c.id)
)
_WITHDRAW: Final = (
    update(leases).where(leases.c.id == bindparam("_id"), _open).values(closed_at=bindparam("_now"), work="")
)
_STOP: Final = (
    update(leases)
    .where(leases.c.id == bindparam("_id"), _held)
    .values(stop=bindparam("_stop"), killed=bindparam("_killed"))
)
_CLOSE: Final = (
    update(leases)
    .where(leases.c.id == bindparam("_id"), leases.c.closed_at.is_(null()))
    .values(closed_at=bindparam("_now"), expires_at=null(), work="", outcome=null(), checkpoint=null())
)
_mine = or_(
    tasks.c.token == bindparam("_token"), tasks.c.epoch == bindparam("_fence"), tasks.c.finished_at.is_not(null())
)
_DONE: Final = _CLOSE.where(exists().where(tasks.c.id == leases.c.task, _mine))
_FENCE_OF: Final = select(tasks.c.epoch).where(tasks.c.id == bindparam("_task"), tasks.c.token == bindparam("_token"))
_RING: Final = (
    update(tasks)
    .where(tasks.c.id == bindparam("_task"), tasks.c.finished_at.is_(null()))
    .values(due_at=bindparam("_now"))
)
_TOUCH: Final = (
    update(tasks).where(tasks.c.id == bindparam("_task"), tasks.c.token == bindparam("_token"))
    .values(updated_at=bindparam("_now"))
)  # fmt: skip
_OF_ENDED: Final = select(leases.c.id).where(leases.c.closed_at.is_(null()), ~_lives).limit(bindparam("_limit"))
_OLD: Final = (
    select(leases.c.id)
    .where(leases.c.closed_at < bindparam("_before"), leases.c.closed_at.is_not(null()))
    .limit(bindparam("_limit"))
)
_DELETE: Final = delete(leases).where(leases.c.id.in_(bindparam("_ids", expanding=True)))


def outcome_text(word: str, text: str) -> str:
    """An end as it is stored: a word of runtime/base.py, and the JSON of its value."""
    return f'{{"outcome": {json.dumps(word)}, "value": {text}}}'


def read_outcome(text: str) -> tuple[str, str]:
    """What `outcome_text` made."""
    word = str(json.loads(text)["outcome"])
    return word, text[text.index('"value": ') + 9 : -1]


# --- the worker's side -------------------------------------------------------------------------------------------


def offer(tx: Tx, task: int, token: str, priority: int, offers: Sequence[Offer], now: float) -> list[int]:
    """Offer entries of a task's steps; their leases' ids. Raises: LeaseLost: the task is another worker's."""
    if tx.execute(_TOUCH, {"_task": task, "_token": token, "_now": now}).rowcount != 1:
        raise LeaseLost(task=task)
    tx.touched(task)
    made = []
    for each in offers:
        # There is one if nobody knew whether an earlier commit was stored.
        found = tx.execute(_OFFERED, {"_task": task, "_entry": each.entry}).scalar() if each.entry else None
        values = {"task": task, "priority": priority, "offered_at": now, **each._asdict()}
        made.append(tx.execute(_OFFER, values).scalar() if found is None else found)
    return made


def of_task(tx: Tx, task: int) -> list[Lease]:
    """The task's leases that its worker has not done with, the oldest first."""
    return [Lease._make(found) for found in tx.execute(_OF_TASK, {"_task": task}).all()]


def fence_of(tx: Tx, task: int, token: str) -> int | None:
    """The task's fencing number; None: it is another worker's. Those of its agents that were lost before are in it."""
    found: int | None = tx.execute(_FENCE_OF, {"_task": task, "_token": token}).scalar()
    return found


def stop(tx: Tx, task: int, token: str, lease: int, reason: str, now: float, *, kill: bool) -> bool:
    """Ask whoever runs it to stop, or end it at once (`kill`); whether it was taken back before anybody ran it.

    Raises: LeaseLost: the task is another worker's.
    """
    if tx.execute(_TOUCH, {"_task": task, "_token": token, "_now": now}).rowcount != 1:
        raise LeaseLost(task=task)
    tx.touched(task)  # whoever waits with a heartbeat looks
    if tx.execute(_WITHDRAW, {"_id": lease, "_now": now}).rowcount == 1:
        return True
    tx.execute(_STOP, {"_id": lease, "_stop": reason, "_killed": kill})
    return False


def done(tx: Tx, lease: int, token: str, fence: int, now: float) -> None:
    """Its end is recorded, or what it is for is over: nobody speaks for it any more. `token`, `fence`: of the worker
    that says so; where another has taken the task since, it is that one's to say. Who has just given it back may."""
    tx.execute(_DONE, {"_id": lease, "_token": token, "_fence": fence, "_now": now})


def ring(tx: Tx, task: int, now: float) -> None:
    """Let whoever drives the task look at its leases."""
    tx.execute(_RING, {"_task": task, "_now": now})
    tx.touched(task)


def purge(tx: Tx, now: float, *, limit: int) -> int:
    """Close leases of tasks that were ended by force, and delete those that were closed long ago; how many."""
    for lease in tx.execute(_OF_ENDED, {"_limit": limit}).scalars():
        tx.execute(_CLOSE, {"_id": lease, "_now": now})
    old = tx.execute(_OLD, {"_before": now - KEPT_S, "_limit": limit}).scalars()
    return tx.execute(_DELETE, {"_ids": old}).rowcount if old else 0


# --- the agent's side --------------------------------------------------------------------------------------------


def waiting(tx: Tx) -> set[str]:
    """The pools in which something is offered."""
    return set(tx.execute(_WAITING).scalars())


def page(tx: Tx, pool: str | None, after: int, limit: int) -> list[tuple[Lease, str]]:
    """What is offered, leased, or ended and not recorded yet, by number, behind `after`; each with its task's uuid."""
    values = {"_after": after, "_limit": limit}
    found = tx.execute(_PAGE, values) if pool is None else tx.execute(_PAGE_OF_POOL, values | {"_pool": pool})
    return [(Lease._make(each[: len(Lease._fields)]), each.uuid) for each in found.all()]


def take(
    tx: Tx, pool: str, limit: int, *, holder: str, agent: str, generation: str, nonce: str, now: float, lease_s: float
) -> list[Lease]:
    """Lease up to `limit` of what the pool offers, by priority and age; nothing while the pool is paused or drained,
    and no more than its limit of what may run at once."""
    known = tx.execute(_POOL, {"_pool": pool}).first()
    if known is not None:
        if known.paused_at is not None or known.draining_at is not None:
            return []
        if known.running_max is not None:
            limit = min(limit, known.running_max - tx.execute(_RUNNING, {"_pool": pool}).scalar())
    if limit <= 0:
        return []
    taken = []
    for lease in tx.execute(_TAKE, {"_pool": pool, "_limit": limit}).scalars():
        values = {
            "_id": lease, "_token": f"{generation}.{lease}.{nonce}", "_holder": holder, "_agent": agent, "_now": now,
            "_expires": tx.now(now) + lease_s,
        }  # fmt: skip
        taken.append(Lease._make(tx.execute(_LEASE, values).one()))
    return taken


def unheard(tx: Tx, *, holder: str, agent: str, held: Collection[str]) -> list[Lease]:
    """Leases that the agent has and does not know of, because the answer that told it was lost."""
    found = [Lease._make(each) for each in tx.execute(_OF_AGENT, {"_agent": agent, "_holder": holder}).all()]
    return [lease for lease in found if lease.token not in held]


def find(tx: Tx, speaker: Speaker, generation: str) -> Lease:
    """The lease that he may speak for, ended or not. Raises: LeaseLost."""
    epoch, _, rest = speaker.token.partition(".")
    number = rest.partition(".")[0]
    if epoch == generation and number.isascii() and number.isdigit() and len(number) < 19:
        found = tx.execute(_BY_ID, {"_id": int(number)}).first()
        if found is not None:
            lease = Lease._make(found[: len(Lease._fields)])
            known = lease.token is not None and compare_digest(lease.token.encode(), speaker.token.encode())
            known = known and lease.holder == speaker.holder and found.uuid == speaker.task
            # Of a task that has ended he only asks again what he said of his end.
            if known and (found.finished_at is None or lease.said is not None):
                return lease
    raise LeaseLost("this is nobody's lease, or not yours, or no more: stop the step, and say no more of it")


def beat(tx: Tx, speaker: Speaker, generation: str, now: float, lease_s: float) -> Lease:
    """The agent lives. What it is asked is in the answer. Raises: LeaseLost."""
    lease = find(tx, speaker, generation)
    if lease.told_at is None:
        ring(tx, lease.task, now)  # its worker counts the step's time from when it has begun
    values = {"_id": lease.id, "_token": lease.token, "_expires": tx.now(now) + lease_s, "_told": lease.told_at or now}
    _only(tx.execute(_BEAT, values).rowcount)
    return find(tx, speaker, generation)


def progress(tx: Tx, speaker: Speaker, generation: str, fraction: float, message: str | None, now: float) -> None:
    """Raises: LeaseLost."""
    lease = find(tx, speaker, generation)
    ring(tx, lease.task, now)
    values = {"_id": lease.id, "_token": lease.token, "_progress": fraction, "_message": message}
    _only(tx.execute(_PROGRESS, values).rowcount)


def checkpoint(tx: Tx, speaker: Speaker, generation: str, value: str, number: int | None, now: float) -> None:
    """The `number`-th of this lease, from 1; one that is not behind the last was said before. Raises: LeaseLost."""
    lease = find(tx, speaker, generation)
    ring(tx, lease.task, now)
    number = lease.checkpoints + 1 if number is None else number
    values = {"_id": lease.id, "_token": lease.token, "_value": value, "_number": number}
    if tx.execute(_CHECKPOINT, values).rowcount != 1:
        again = find(tx, speaker, generation)
        _only(int(again.checkpoints >= number and again.ended_at is None and again.closed_at is None))


def end(tx: Tx, speaker: Speaker, generation: str, outcome: str, said: str, now: float) -> None:
    """It has ended, once: the same said again changes nothing. Raises: LeaseLost: another end is recorded."""
    lease = find(tx, speaker, generation)
    ring(tx, lease.task, now)
    values = {"_id": lease.id, "_token": lease.token, "_outcome": outcome, "_said": said, "_now": now}
    if tx.execute(_END, values).rowcount != 1:
        _only(int(find(tx, speaker, generation).said == said))


def _only(count: int) -> None:
    if count != 1:
        raise LeaseLost("the lease has run out or was taken back: stop the step, and say no more of it")
