"""What no lease of an agent and no schedule may be. How it is looked for: examine.py."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import and_, bindparam, exists, func, not_, null, or_, select

from holdfast.store.schema import firings, leases, schedules, tasks, workers
from holdfast.tasks.claims import SUSPENDED
from holdfast.tasks.fault import Fault
from holdfast.tasks.schedules import FIRED

#: For which a lease may be over, or a moment passed, though there is who looks: once a heartbeat and once a second.
LATE_S: Final = 300.0
_l, _s, _f, _t = leases.c, schedules.c, firings.c, tasks.c
_since: Any = bindparam("_now") - LATE_S
_open = _l.closed_at.is_(null())
_leased = (_l.token, _l.holder, _l.agent, _l.leased_at)
_report: Final = "report it, with a copy of the database"

FAULTS: Final = (
    Fault(
        "lease_of_no_task", select(_l.id).where(_open, ~exists().where(_t.id == _l.task)).order_by(_l.id),
        "lease {it} of an agent is of a task that there is not: " + _report,
    ),
    Fault(
        "lease_of_half_an_agent",
        select(_l.id)
        .where(_open, or_(*(each.is_(null()) for each in _leased)), not_(and_(*(each.is_(null()) for each in _leased))))
        .order_by(_l.id),
        "lease {it} says in part that an agent has it, so none can end its step and none is given it: " + _report,
    ),
    Fault(
        "lease_without_end",
        select(_l.id)
        .where(_open, _l.token.is_not(null()), (_l.ended_at.is_(null())) == (_l.expires_at.is_(null())))
        .order_by(_l.id),
        "lease {it} of an agent never runs out, or has ended and runs out: " + _report,
    ),
    Fault(
        "lease_over_and_left", select(_l.id).where(_open, _l.expires_at < _since).order_by(_l.id),
        "lease {it} is over, its agent is dead, and no worker has looked: start a `holdfast worker` for the pool of"
        " its task; if one lives, report it",
    ),
    Fault(
        "lease_that_nobody_hears",
        select(_t.uuid, _l.id)
        .where(
            _open, _l.ended_at < _since, _t.id == _l.task, _t.finished_at.is_(null()), _t.due_at.is_(null()),
            _t.state != SUSPENDED,  # it came to rest by that, and its worker died before it could say so here
            or_(_t.worker_id.is_(null()), ~exists().where(workers.c.id == _t.worker_id)),
        )
        .order_by(_l.id),
        "an agent has done a step of task {it}, and nobody is to hear of it: `holdfast task suspend {it}` and resume"
        " it; report it",
    ),
    Fault(
        "schedule_left",
        select(_s.name).where(_s.paused_at.is_(null()), _s.next_at < _since).order_by(_s.id),
        "the moment of schedule {it} has long passed and no worker has looked: start a `holdfast worker`, or"
        " `holdfast schedule pause {it}`; if one lives that knows its flow, report it",
    ),
    Fault(
        "firing_of_no_schedule",
        select(_f.schedule).where(~exists().where(_s.id == _f.schedule)).distinct().order_by(_f.schedule),
        "schedule {it} is gone, and what became of its moments is not: " + _report,
    ),
    Fault(
        "fired_without_task",
        select(_s.name, func.count())
        .where(_f.schedule == _s.id, (_f.outcome == FIRED) == _f.task.is_(null())).group_by(_s.id, _s.name)
        .order_by(_s.id),
        "of a moment of schedule {it} it is said that it made a task, and not which, or the other way round: "
        + _report,
    ),
)  # fmt: skip
