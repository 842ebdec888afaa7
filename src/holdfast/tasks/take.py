"""Taking: how a worker gets a task, hears that somebody wants something of it, and gives it back.

Theory: `due_at` says when a worker has something to do with a task; NULL: not before somebody asks for it. Taking
clears it, so while a worker has the task, `due_at` is set only by verbs, events, children and agents: it is the bell
that `called` listens for. A bell that nobody has heard outlasts the taking. Each taking makes a new token; an append
with an older one is refused (store/appends.py).

Whose lease has ended: tasks/lease.py. What makes a task ready: tasks/claims.py.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import Integer, Text, bindparam, case, cast, false, func, literal, null, or_, select, true, update

from holdfast.errors import LeaseLost
from holdfast.store.base import Tx
from holdfast.store.history import floor
from holdfast.store.schema import tasks, workers
from holdfast.tasks import claims, pools, row, submit, tell, turn
from holdfast.tasks.row import TaskRow

if TYPE_CHECKING:
    from sqlalchemy.sql import Executable

_untaken = (tasks.c.ready == true()) & tasks.c.worker_id.is_(null())
_free = (tasks.c.pool == bindparam("_pool")) & _untaken
#: For who works for certain tasks only, and their descendants.
_only = or_(*(column.in_(bindparam("_only", expanding=True)) for column in (tasks.c.id, tasks.c.root_id)))
_SOME: Final = (
    select(tasks.c.id, tasks.c.pool).where(_only, _untaken, tasks.c.due_at <= bindparam("_now")).order_by(tasks.c.id)
)
_TAKE_SOME: Final = _SOME.with_for_update(skip_locked=True)
_unbegun = (
    tasks.c.deadline_at.is_not(null()) & tasks.c.executed_at.is_(null()) & tasks.c.finished_at.is_(null())
)  # the index's own words
_waits = (
    _unbegun & (tasks.c.ready == false()) & tasks.c.worker_id.is_(null()) & (tasks.c.state != literal(claims.SUSPENDED))
)
_late = _waits & (tasks.c.deadline_at <= bindparam("_now"))
_ours = tasks.c.pool == bindparam("_pool")
_LATE: Final = (
    select(tasks.c.id).where(_ours, _late).order_by(tasks.c.deadline_at, tasks.c.id).limit(bindparam("_limit"))
)
_TAKE_LATE: Final = _LATE.with_for_update(skip_locked=True)
_LATE_OURS: Final = _LATE.where(turn.ours)
_TAKE_LATE_OURS: Final = _LATE_OURS.with_for_update(skip_locked=True)
_LATE_SOME: Final = select(tasks.c.id, tasks.c.pool).where(_only, _late).order_by(tasks.c.id)
_TAKE_LATE_SOME: Final = _LATE_SOME.with_for_update(skip_locked=True)
_NEXT_LATE: Final = select(func.min(tasks.c.deadline_at)).where(_ours, _waits, tasks.c.deadline_at > bindparam("_now"))
_NEXT_LATE_SOME: Final = select(func.min(tasks.c.deadline_at)).where(
    _only, _waits, tasks.c.deadline_at > bindparam("_now")
)
_next = case((tasks.c.epoch < bindparam("_floor"), bindparam("_floor", type_=Integer)), else_=tasks.c.epoch + 1)
_TAKE: Final = (
    update(tasks)
    .where(tasks.c.id.in_(bindparam("_tasks", expanding=True)))
    .values(
        worker_id=bindparam("_worker"),
        host=select(workers.c.host).where(workers.c.id == bindparam("_worker")).scalar_subquery(),
        epoch=_next,
        token=bindparam("_before", type_=Text) + cast(_next, Text) + bindparam("_after", type_=Text),
        due_at=null(),
        begun=true(),
    )
    .returning(tasks)
)
_ALIVE: Final = (
    select(workers.c.id)
    .where(workers.c.id == bindparam("_worker"), workers.c.dead == false(), workers.c.draining_at.is_(null()))
    .with_for_update()
)
_DUE: Final = select(func.min(tasks.c.due_at)).where(_free, tasks.c.due_at > bindparam("_now"))
_DUE_SOME: Final = select(func.min(tasks.c.due_at)).where(_only, _untaken, tasks.c.due_at > bindparam("_now"))
_CALLED: Final = select(tasks.c.id, tasks.c.seq).where(
    tasks.c.worker_id == bindparam("_worker"), tasks.c.due_at.is_not(null())
)
_HEARD: Final = (
    update(tasks)
    .where(tasks.c.id == bindparam("_task"), tasks.c.token == bindparam("_token"), tasks.c.seq <= bindparam("_seen"))
    .values(due_at=null())
)
_RELEASE: Final = (
    update(tasks)
    .where(tasks.c.id == bindparam("_task"), tasks.c.token == bindparam("_token"))
    .values(worker_id=null(), token=null(), due_at=bindparam("_due"), updated_at=bindparam("_now"))
    .returning(tasks.c.due_at)
)
_is_called = or_(tasks.c.seq > bindparam("_seen"), tasks.c.due_at.is_not(null()))
_RELEASE_UNLESS_CALLED: Final = _RELEASE.values(due_at=case((_is_called, bindparam("_now")), else_=bindparam("_due")))
#: The origin of what nobody asked for at that moment.
SCHEDULE: Final = "schedule"
#: The project of the house's own tasks: none, so that only administrators see them.
HOUSE: Final = ""
_not_round = or_(tasks.c.origin != literal(SCHEDULE), tasks.c.project_id != literal(HOUSE))
_DUE_ENDING: Final = _DUE.where(_not_round)
_DUE_SOME_ENDING: Final = _DUE_SOME.where(_not_round)


class Call(NamedTuple):
    """Somebody has written into the journal of a task that a worker has."""

    task: int
    seq: int


class Found(NamedTuple):
    """What was taken. `is_cut`: no more, because the limit of a pool does not let it, though more may be due.
    `start_more`: more tasks start by now than may enter their queues at once."""

    tasks: Sequence[TaskRow]
    is_cut: bool = False
    start_more: bool = False


def take(
    tx: Tx,
    worker: str,
    *,
    generation: str,
    nonce: str,
    now: float,
    limit: int,
    pool: str,
    only: Collection[int] | None = None,
    after: str = "",
    without: Sequence[str] = (),
    asked: dict[int, tuple[str, str]] | None = None,
) -> Found:
    """Take up to `limit` tasks of the pool that are due, and no more than its limit lets run at once; the most urgent
    first, the projects in turn, behind `after` (tasks/turn.py). Their rows, with the new tokens. Tasks whose
    `start_after` has come enter their queues first. One that is not `ready` still waits for its claims or its start,
    and is late: its flow's deadline has passed, and all that may be done is to end it. `only`: these alone, whatever
    their pools, whose limits hold; that one of these is paused doesn't. `without`: none of these flows, by reference.
    `asked`: is given their inputs and claims, as they are stored.

    Locked in this order: the row of the pool (it decides how many: tasks/pools.py), those of the tasks (each decides
    who has it: a row that another holds is passed over), that of the worker (it decides whether this worker may take
    any: who marks it dead meanwhile waits, and then finds these too).

    Raises: LeaseLost: the worker was taken for dead; nobody would find the tasks of a dead worker a second time. Or it
    is to take no more.
    """
    found: list[int]
    undrawn = submit.UNDRAWN, {"_now": now, "_limit": submit.DRAWN_MAX}
    if only is None:
        pools.make_known(tx, pool)
        untold, starting, urgent, are_late, *told = tx.execute_all(
            (tell.UNTOLD, {}), undrawn, (turn.MOST_URGENT, {"_pool": pool}), _late_of(pool, now, without),
            *pools.entrance(pool),
        )  # fmt: skip
        tell.catch_up(tx, untold.all())
        nothing_else = not untold.all() and not starting.all()
        room = min(limit, pools.entered(tx, pool, told))
        drawn = submit.draw(tx, starting.scalars(), now)
        if drawn:
            found = turn.choose(tx, pool, now, room, after=after, without=without)
        else:
            found = turn.choose_from(tx, urgent, pool, now, room, after=after, without=without)
        if len(found) < room and are_late.first() is not None:
            late = {"_pool": pool, "_now": now, "_limit": room - len(found), "_without": without}
            found += tx.execute(_TAKE_LATE_OURS if without else _TAKE_LATE, late).scalars()
        is_cut = len(found) == room < limit
    else:
        tell.catch_up(tx, tx.execute(tell.UNTOLD).all())
        nothing_else = False
        which = {"_only": list(only), "_now": now}
        rooms = {name: pools.enter(tx, name, even_closed=True) for name in pools.names_of(tx, _waiting(tx, which))}
        starting = tx.execute(*undrawn)
        drawn = submit.draw(tx, starting.scalars(), now)
        due = tx.execute(_TAKE_SOME, which).all() + tx.execute(_TAKE_LATE_SOME, which).all()
        within = _within(due, rooms)
        found = within[:limit]
        is_cut = len(within) < min(len(due), limit)
    mine = _give(tx, worker, found, generation=generation, nonce=nonce, asked=asked)
    if nothing_else and all(each.seq == 0 for each in mine):
        # Nothing has been done for these, and nothing will be before an append that lasts; with it, so does this. Of a
        # task that was begun somebody may have seen a token, and none may be given twice.
        tx.need_not_last()
        if not found:
            tx.keep_quiet()
    # Where others were faster with all of them, they go on.
    return Found(mine, is_cut, start_more=bool(drawn) and len(starting.all()) == submit.DRAWN_MAX)


def _give(
    tx: Tx, worker: str, found: list[int], *, generation: str, nonce: str, asked: dict[int, tuple[str, str]] | None
) -> list[TaskRow]:
    """Make these the worker's, if it lives."""
    alive = _ALIVE, {"_worker": worker}
    mine: dict[int, TaskRow] = {}
    if found:
        values = {"_worker": worker, "_before": f"{generation}.", "_after": f".{nonce}", "_floor": floor(generation)}
        taken, theirs, living = tx.execute_all((_TAKE, {**values, "_tasks": found}), row.asked_of(found), alive)
        mine = {each.id: row.of(each) for each in taken.all()}
        if asked is not None:
            asked.update(row.all_asked_for(theirs, found))
    else:
        living = tx.execute(*alive)
    if living.first() is None:
        raise LeaseLost(worker=worker)
    return [mine[task] for task in found]


class Due(NamedTuple):
    """What `take` would find. `crowded`: there is something, and the pool has no place for it now."""

    any: bool
    crowded: bool = False


def peek(tx: Tx, *, now: float, pool: str, only: Collection[int] | None = None, without: Sequence[str] = ()) -> Due:
    """Whether `take` would find anything to do, without a write or a lock."""
    which = {"_pool": pool}
    more = ((turn.MOST_URGENT, which), (pools.OF, which), _late_of(pool, now, without)) if only is None else ()
    starting, *others = tx.execute_all((submit.UNDRAWN, {"_now": now, "_limit": 1}), *more)
    if starting.first() is not None:
        return Due(True)
    if only is None:
        urgent, told, are_late = others
        if pools.room(tx, told) <= 0:
            is_due = turn.is_any_due(tx, urgent, pool, now)
            return Due(False, crowded=is_due and not pools.find(tx, pool).is_closed)
        return Due(are_late.first() is not None or turn.is_any_due(tx, urgent, pool, now, without=without))
    some = {"_only": list(only), "_now": now}
    rows = tx.execute(_SOME, some).all() + tx.execute(_LATE_SOME, some).all()
    rooms = {name: pools.look(tx, name, even_closed=True) for name in {name for _, name in rows}}
    return Due(bool(_within(rows, rooms)), crowded=any(room <= 0 for room in rooms.values()))


def _late_of(pool: str, now: float, without: Sequence[str]) -> tuple[Executable, dict[str, Any]]:
    """Whether any are."""
    return _LATE_OURS if without else _LATE, {"_pool": pool, "_now": now, "_limit": 1, "_without": without}


def _waiting(tx: Tx, which: dict[str, Any]) -> list[int]:
    return [task for task, _ in tx.execute(_SOME, which).all() + tx.execute(_LATE_SOME, which).all()]


def _within(rows: list[Any], rooms: dict[str, int]) -> list[int]:
    """The tasks for which their pools have room. One of a pool that came only now is left for the next time."""
    left, found = dict(rooms), []
    for task, pool in rows:
        if left.get(pool, 0) > 0:
            left[pool] -= 1
            found.append(task)
    return found


def goes_round(at: TaskRow) -> bool:
    """Whether the task is one of the house's own that never end by themselves (resources/sync.py)."""
    return at.origin == SCHEDULE and at.project_id == HOUSE


def next_due(
    tx: Tx, now: float, *, pool: str, only: Collection[int] | None = None, rounds: bool = True
) -> float | None:
    """When, after now, the next task becomes due by time alone: taken by nobody, and it has its claims or is late.
    `rounds`: those that never end count too."""
    if only is None:
        where: dict[str, Any] = {"_pool": pool, "_now": now}
        due, late = _DUE if rounds else _DUE_ENDING, _NEXT_LATE
    else:
        where = {"_only": list(only), "_now": now}
        due, late = _DUE_SOME if rounds else _DUE_SOME_ENDING, _NEXT_LATE_SOME
    answers = tx.execute_all((due, where), (late, where), (submit.NEXT_START, {"_now": now}))
    moments = (answer.scalar() for answer in answers)
    return min((each for each in moments if each is not None), default=None)


def called(tx: Tx, worker: str) -> list[Call]:
    """The worker's tasks that somebody wants something of, and up to where their journals go by now."""
    return [Call(*found) for found in tx.execute(_CALLED, {"_worker": worker}).all()]


def heard(tx: Tx, task: int, token: str, seen: int) -> None:
    """The worker has folded the journal up to `seen`; if there is no more, nobody calls."""
    tx.execute(_HEARD, {"_task": task, "_token": token, "_seen": seen})


def release(tx: Tx, task: int, token: str, *, due_at: float | None, now: float, seen: int | None = None) -> bool:
    """Give a task back: it waits for a time (`due_at`), or for a verb or an event (None). Whether it was still the
    worker's.

    `seen` is the last seq that the worker has folded: what came behind it, or rang since the worker heard the bell,
    makes the task due at once. Without it nothing does: of a task that has come to rest in the same transaction, or
    is due now as it is.
    """
    values = {"_task": task, "_token": token, "_due": due_at, "_now": now, "_seen": seen}
    released = tx.execute(_RELEASE if seen is None else _RELEASE_UNLESS_CALLED, values).first()
    if released is not None and released.due_at is not None and released.due_at <= now:
        tx.touched(task)
    return released is not None
