"""Schedules: what is asked for again and again, at the moments of a cron expression.

Theory: a schedule's row says what is asked for and when next; whoever looks first at that moment asks for it, in one
transaction: the row is locked, the moment is written down under a key that no second row can have, the task is admitted
as any other, and the row moves on to the next moment. So any number of workers look, and a moment makes one task or
none, whoever dies when. The row comes before all others in the order of locks.

Moments that passed while nobody looked are caught up with as `catch_up` says: `one` of them, the latest; `all`, at most
ALL_MAX of the latest; `none` that is more than LATE_S old. While a task of the schedule has not ended, the next moment
is passed over (`overlap` skip), or its task waits for the one before (queue), at most QUEUED_MAX of them.

The moments: tasks/cron.py. Who looks: worker/rota.py. How a task is asked for: scheduling.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import bindparam, delete, exists, func, insert, null, or_, select, update

from holdfast.core.failure import Failure
from holdfast.errors import QuotaExceeded, ScheduleExists, ScheduleInvalid, ScheduleNotFound
from holdfast.store.base import Tx
from holdfast.store.schema import firings, schedules, tasks
from holdfast.tasks import cron
from holdfast.tasks.row import TaskRow

CATCH_UP: Final = ("one", "all", "none")
OVERLAP: Final = ("skip", "queue")
FIRED, SKIPPED, MISSED, REFUSED = "FIRED", "SKIPPED", "MISSED", "REFUSED"
OUTCOMES: Final = (FIRED, SKIPPED, MISSED, REFUSED)
ACTIVE, PAUSED, OVER = "ACTIVE", "PAUSED", "OVER"

PER_PROJECT_MAX: Final = 1000
NAME_CHARS_MAX: Final = 100
ALL_MAX: Final = 100  # moments that are caught up with
LATE_S: Final = 60.0  # a worker that was busy so long has missed nothing
QUEUED_MAX: Final = 100  # unended tasks of one schedule
KEPT: Final = 100  # firings of a schedule that are remembered
LOOK_MAX: Final = 100  # schedules that are looked at together


class Schedule(NamedTuple):
    """The columns of schema.schedules, in its order."""

    id: str
    project_id: str
    user_id: str
    name: str
    cron: str
    timezone: str
    catch_up: str
    overlap: str
    what: str
    inputs: str
    next_at: float | None
    paused_at: float | None
    created_at: float
    updated_at: float

    @property
    def asked(self) -> dict[str, Any]:
        """What it asks for, as scheduling.py wrote it."""
        found: dict[str, Any] = json.loads(self.what)
        return found

    @property
    def state(self) -> str:
        return PAUSED if self.paused_at is not None else OVER if self.next_at is None else ACTIVE

    @property
    def claim(self) -> str:
        """What its tasks queue for where one waits for the other."""
        return f"schedule/{self.id}"


class Firing(NamedTuple):
    """The columns of schema.firings, in its order. `at`: when somebody looked at the moment."""

    schedule: str
    moment: float
    at: float
    outcome: str
    task: str | None = None
    why: str | None = None


class Coming(NamedTuple):
    """A schedule that waits for its next moment."""

    id: str
    at: float


#: (tx, the schedule, the moment, now, the new task's uuid): ask for its task. What it raises is why there is none.
Admit = Callable[[Tx, Schedule, float, float, str], TaskRow]

_s, _f = schedules.c, firings.c
_ADD: Final = insert(schedules)
_COUNT: Final = select(func.count()).where(_s.project_id == bindparam("_project"))
_LIST: Final = select(schedules).order_by(_s.id).limit(bindparam("_limit"))
_LIST_OF: Final = _LIST.where(_s.project_id == bindparam("_project"), _s.id > bindparam("_after"))
_LIST_ALL: Final = _LIST.where(_s.id > bindparam("_after"))
_ONE: Final = select(schedules).where(_s.id == bindparam("_id"))
_NAMED: Final = select(schedules).where(_s.project_id == bindparam("_project"), _s.name == bindparam("_name"))
_LOCK: Final = _ONE.with_for_update()
_LOCK_FREE: Final = _ONE.with_for_update(skip_locked=True)
_DROP: Final = delete(schedules).where(_s.id == bindparam("_id"))
_DROP_FIRINGS: Final = delete(firings).where(_f.schedule == bindparam("_id"))
_CHANGE: Final = update(schedules).where(_s.id == bindparam("_id"))
_MOVE: Final = _CHANGE.values(next_at=bindparam("_next"))
_COMING: Final = (
    select(_s.id, _s.next_at.label("at"))
    .where(_s.next_at.is_not(null()), _s.paused_at.is_(null()))
    .order_by(_s.next_at, _s.id)
    .limit(bindparam("_limit"))
)
_unended = exists().where(tasks.c.uuid == _f.task, tasks.c.finished_at.is_(null()))
_LIVE: Final = select(func.count()).where(_f.schedule == bindparam("_id"), _f.moment != bindparam("_moment"), _unended)
_LAST: Final = (
    select(firings).where(_f.schedule == bindparam("_id")).order_by(_f.moment.desc()).limit(bindparam("_limit"))
)
_OUTCOME: Final = (
    update(firings)
    .where(_f.schedule == bindparam("_id"), _f.moment == bindparam("_moment"))
    .values(outcome=bindparam("_outcome"), task=null())
)
_OLD: Final = (
    select(_f.moment).where(_f.schedule == bindparam("_id")).order_by(_f.moment.desc()).offset(KEPT).limit(1)
)  # fmt: skip
#: A firing whose task has not ended is remembered: it is what the next one is judged by.
_FORGET: Final = delete(firings).where(
    _f.schedule == bindparam("_id"), _f.moment <= bindparam("_old"), or_(_f.task.is_(null()), ~_unended)
)


# --- rows ---------------------------------------------------------------------------------------------------------


def check(at: Schedule) -> None:
    """Raises: ScheduleInvalid."""
    if not 0 < len(at.name) <= NAME_CHARS_MAX or not at.name.isprintable() or at.name != at.name.strip():
        raise ScheduleInvalid(f"a schedule's name is 1 to {NAME_CHARS_MAX} visible characters: {at.name[:40]!r} is not")
    if at.catch_up not in CATCH_UP:
        raise ScheduleInvalid(f"catch_up is {', '.join(CATCH_UP)}, not {at.catch_up!r}")
    if at.overlap not in OVERLAP:
        raise ScheduleInvalid(f"overlap is {' or '.join(OVERLAP)}, not {at.overlap!r}")
    if at.catch_up == "all" and at.overlap == "skip":
        raise ScheduleInvalid(
            "catch_up all needs overlap queue: of moments that are caught up with together, skip would pass over all "
            "but the first"
        )
    cron.check(at.cron, at.timezone)


def add(tx: Tx, at: Schedule, now: float, *, replace: bool = False) -> tuple[Schedule, bool]:
    """The schedule, first due after now; and whether it is new. One of that name that asks for the same is left as it
    is; one that asks for something else is changed if `replace` says so, and stays paused if it was.

    Raises: ScheduleInvalid, ScheduleExists, QuotaExceeded.
    """
    check(at)
    at = at._replace(next_at=cron.after(at.cron, at.timezone, now), created_at=now, updated_at=now)
    if tx.insert_new(schedules, at._asdict()):
        if int(tx.execute(_COUNT, {"_project": at.project_id}).scalar()) > PER_PROJECT_MAX:
            raise QuotaExceeded(f"a project has {PER_PROJECT_MAX} schedules at most: remove one", limit=PER_PROJECT_MAX)
        return at, True
    known = lock(tx, named(tx, at.project_id, at.name).id)
    if _wanted(known) == _wanted(at):
        return known, False
    if not replace:
        raise ScheduleExists(f"there is a schedule {at.name!r} that asks for something else", schedule=known.id)
    moves = (known.cron, known.timezone) != (at.cron, at.timezone)
    changed = at._replace(
        id=known.id, created_at=known.created_at, paused_at=known.paused_at,
        next_at=at.next_at if moves else known.next_at,
    )  # fmt: skip
    values = {name: value for name, value in changed._asdict().items() if name != "id"}
    tx.execute(_CHANGE, {**values, "_id": known.id})
    return changed, False


def _wanted(at: Schedule) -> tuple[Any, ...]:
    return at.cron, at.timezone, at.catch_up, at.overlap, at.asked, json.loads(at.inputs)


def page(tx: Tx, project: str | None, *, after: str = "", limit: int = LOOK_MAX) -> list[Schedule]:
    """Schedules by id, those behind `after`. project: None: of all."""
    where = {"_after": after, "_limit": limit}
    if project is not None:
        found = tx.execute(_LIST_OF, {**where, "_project": project})
    else:
        found = tx.execute(_LIST_ALL, where)
    return [Schedule._make(row) for row in found.all()]


def get(tx: Tx, ref: str, project: str, *, every: bool = False) -> Schedule:
    """The project's with that id, or else that name. every: of any project, by its id. Raises: ScheduleNotFound."""
    found = tx.execute(_ONE, {"_id": ref}).first()
    if found is not None and (every or found.project_id == project):
        return Schedule._make(found)
    return named(tx, project, ref)


def named(tx: Tx, project: str, name: str) -> Schedule:
    """Raises: ScheduleNotFound."""
    found = tx.execute(_NAMED, {"_project": project, "_name": name}).first()
    if found is None:
        raise ScheduleNotFound(f"there is no schedule {name[:NAME_CHARS_MAX]!r}", schedule=name[:NAME_CHARS_MAX])
    return Schedule._make(found)


def lock(tx: Tx, id: str) -> Schedule:
    """Raises: ScheduleNotFound."""
    found = tx.execute(_LOCK, {"_id": id}).first()
    if found is None:
        raise ScheduleNotFound(f"there is no schedule {id}", schedule=id)
    return Schedule._make(found)


def pause(tx: Tx, id: str, now: float) -> Schedule:
    """From this commit on it asks for nothing. Paused already, it stays so. Raises: ScheduleNotFound."""
    at = lock(tx, id)
    if at.paused_at is None:
        at = _set(tx, at, now, paused_at=now)
    return at


def resume(tx: Tx, id: str, now: float) -> Schedule:
    """It goes on with its next moment; those of the pause are not caught up with. Raises: ScheduleNotFound."""
    at = lock(tx, id)
    if at.paused_at is not None:
        at = _set(tx, at, now, paused_at=None, next_at=cron.after(at.cron, at.timezone, now))
    return at


def remove(tx: Tx, id: str) -> None:
    """It asks for nothing more; its tasks go on. Raises: ScheduleNotFound."""
    lock(tx, id)
    tx.execute(_DROP_FIRINGS, {"_id": id})
    tx.execute(_DROP, {"_id": id})


def _set(tx: Tx, at: Schedule, now: float, **columns: Any) -> Schedule:
    tx.execute(_CHANGE, {**columns, "updated_at": now, "_id": at.id})
    return at._replace(**columns, updated_at=now)


def history(tx: Tx, id: str, *, limit: int = KEPT) -> list[Firing]:
    """Its moments that have come, the latest first."""
    return [Firing._make(row) for row in tx.execute(_LAST, {"_id": id, "_limit": limit}).all()]


# --- firing -------------------------------------------------------------------------------------------------------


def coming(tx: Tx, *, limit: int = LOOK_MAX) -> list[Coming]:
    """The schedules that are due next, the first of them first."""
    return [Coming(*row) for row in tx.execute(_COMING, {"_limit": limit}).all()]


def fire(tx: Tx, id: str, now: float, uuid: str, admit: Admit) -> str | None:
    """Do what is due of the schedule: one moment at a time. What became of that moment; None: nothing is due, or
    another is just doing it.

    Raises: what `admit` does, and then nothing has happened: `refuse` writes it down. ScheduleInvalid: this machine
    does not know its time zone.
    """
    found = _begin(tx, id, now)
    if found is None:
        return None
    at, moment = found
    if moment is None:
        return MISSED
    if not tx.insert_new(firings, Firing(id, moment, now, FIRED, uuid)._asdict()):
        return None
    live = int(tx.execute(_LIVE, {"_id": id, "_moment": moment}).scalar())
    if live and (at.overlap == "skip" or live >= QUEUED_MAX):
        tx.execute(_OUTCOME, {"_id": id, "_moment": moment, "_outcome": SKIPPED})
        return SKIPPED
    admit(tx, at, moment, now, uuid)
    return FIRED


def refuse(tx: Tx, id: str, now: float, error: Exception) -> None:
    """Write down that what is due was not accepted, and go on to the next moment."""
    found = _begin(tx, id, now)
    if found is not None and found[1] is not None:
        why = json.dumps(Failure.of(error, with_traceback=False).to_json())
        tx.insert_new(firings, Firing(id, found[1], now, REFUSED, None, why)._asdict())


def _begin(tx: Tx, id: str, now: float) -> tuple[Schedule, float | None] | None:
    """The schedule, locked and moved on to its next moment, and the moment that is due; None: it is too late for it.
    None at all: nothing is due."""
    row = tx.execute(_LOCK_FREE, {"_id": id}).first()
    at = None if row is None else Schedule._make(row)
    if at is None or at.paused_at is not None or at.next_at is None or at.next_at > now:
        return None
    due = cron.passed(at.cron, at.timezone, at.next_at, now, limit=ALL_MAX if at.catch_up == "all" else 1)
    moment = due[0] if due else at.next_at
    then = due[1] if len(due) > 1 else cron.after(at.cron, at.timezone, now)
    tx.execute(_MOVE, {"_id": id, "_next": then})
    old = tx.execute(_OLD, {"_id": id}).scalar()
    if old is not None:
        tx.execute(_FORGET, {"_id": id, "_old": old})
    if at.catch_up == "none" and now - moment > LATE_S:
        tx.insert_new(firings, Firing(id, moment, now, MISSED)._asdict())
        return at, None
    return at, moment


# --- showing ------------------------------------------------------------------------------------------------------


def show(at: Schedule, last: Sequence[Firing]) -> dict[str, Any]:
    """As its owner sees it. `last`: its last firings, the latest first."""
    from holdfast.tasks import claims
    from holdfast.tasks.show import claim, moment, value

    asked = at.asked
    return {
        "uuid": at.id,
        "name": at.name,
        "cron": at.cron,
        "timezone": at.timezone,
        "catch_up": at.catch_up,
        "overlap": at.overlap,
        "state": at.state,
        "task": asked["task"],
        "resource": asked["resource"],
        "params": value(at.inputs),
        "claims": [claim(*each) for each in claims.from_text(asked["claims"])],
        "priority": asked["priority"],
        "project_id": at.project_id,
        "user_id": at.user_id or None,
        "next_at": None if at.paused_at is not None else moment(at.next_at),
        "paused_at": moment(at.paused_at),
        "created_at": moment(at.created_at),
        "updated_at": moment(at.updated_at),
        "firings": [_firing(each) for each in last],
    }


def _firing(at: Firing) -> dict[str, Any]:
    from holdfast.tasks.show import moment

    return {
        "moment": moment(at.moment),
        "at": moment(at.at),
        "outcome": at.outcome,
        "task": at.task,
        "why": None if at.why is None else Failure.from_json(json.loads(at.why)).summary,
    }
