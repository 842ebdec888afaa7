"""What no task, ticket or tag may be: for `holdfast doctor`, and for tests after any chaos. What is around them:
examine_around.py.

Theory: each transaction leaves these as they must be, so none of this should ever be seen. Who sees one has found a
defect, or a database that somebody has edited. Each fault is a statement that finds the rows, and says what they are
and what to do; a test makes each of them.

Resources: resources/examine.py. Workers that have died, and what else is no fault but worth a word: cli/findings.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from sqlalchemy import Select, Text, and_, bindparam, cast, exists, false, func, literal, not_, null, or_, select, true

from holdfast.core import states
from holdfast.core.events import Delivered, Parked, Turned
from holdfast.store.base import Tx
from holdfast.store.journal import KINDS
from holdfast.store.schema import journal, leases, queues, tags, tasks, tickets, workers
from holdfast.tasks import claims, examine_around
from holdfast.tasks import row as task_rows
from holdfast.tasks.fault import Fault

FOUND_MAX: Final = 20  # of each fault

_t = tasks.c
_final = _t.state.in_([state for state in states.API_STATES if state in states.FINAL])
_ended = _t.finished_at.is_not(null())
_report: Final = "report it, with the output of `holdfast task show {it}`"
_end_it: Final = "`holdfast task force-fail {it}` ends it; " + _report


def _of_tasks(*conditions: Any) -> Select[Any]:
    return select(_t.uuid, _t.id, _t.state, _t.hold).where(*conditions).order_by(_t.id)


def _known_phase() -> Any:
    found = []
    for phase in states.TASK.rows:
        found.append(
            and_(_t.state == states.api_state(phase), func.coalesce(_t.hold, "") == (states.hold(phase) or ""))
        )
    return or_(*found)


def _is_held_by_nobody(tx: Tx, at: Any) -> bool:
    return not claims.blocked_by(tx, claims.waiting(tx, at.id))


def _waits_for_no_event(tx: Tx, at: Any) -> bool:
    """Whether none of its steps, or of its undoing where it has turned back, waits for an event that has not come."""
    waits: dict[str | None, str] = {}
    for each in tx.journal(at.id):
        waits.pop(each.node, None)
        if each.kind == _TURNED:
            waits.clear()
        elif each.kind in (_PARKED, _DELIVERED):
            said = json.loads(each.data or "{}")
            if each.kind == _DELIVERED:
                waits = {node: event for node, event in waits.items() if event != said["name"]}
            elif "event" in said and "until" not in said:
                waits[each.node] = said["event"]
    return not waits


def _is_of_later_taking(tx: Tx, at: Any) -> bool:
    found = task_rows.read(tx, at.id)
    return task_rows.epoch_of(found.token or "") > found.epoch


def _has_ticket(*conditions: Any) -> Any:
    return exists().where(tickets.c.task == _t.id, *conditions)


_moves = _t.state.in_(sorted({states.api_state(phase) for phase in states.MOVING}))
_untaken = _t.worker_id.is_(null())
_started = or_(_t.start_after.is_(null()), _t.start_after <= bindparam("_now"))
#: What starts later does when a worker finds that it is time.
_queues = or_(_t.start_after.is_(null()), _t.executed_at.is_not(null()), _has_ticket())
_other = tickets.alias()
_child = tasks.alias()
_PARKED, _DELIVERED, _TURNED = (KINDS[kind].word for kind in (Parked, Delivered, Turned))
_park, _behind = journal.alias(), journal.alias()
_waits_for_event = exists().where(  # for sure: a time would stand first. Who else does, the whole journal tells
    _park.c.task == _t.id, _park.c.kind == literal(_PARKED), _park.c.data.like(literal('{"event": %')),
    ~exists().where(
        _behind.c.task == _park.c.task, _behind.c.seq > _park.c.seq,
        or_(_behind.c.node == _park.c.node, _behind.c.kind.in_([_DELIVERED, _TURNED])),
    ),
)  # fmt: skip
_rung_for = or_(  # by an agent, a child, or who delivers
    exists().where(leases.c.task == _t.id, leases.c.closed_at.is_(null())),
    exists().where(_child.c.parent_id == _t.id, _child.c.finished_at.is_(null())),
    _waits_for_event,
)

FAULTS: Final = (
    Fault(
        "no_state", _of_tasks(not_(_known_phase())), "task {it} is {phase}, which is no state: " + _end_it,
    ),
    Fault(
        "ended_and_not", _of_tasks(or_(and_(_final, not_(_ended)), and_(_ended, not_(_final)))),
        "task {it} is {phase}, and its row says otherwise of when it ended: " + _report,
    ),
    Fault(
        "no_reason",
        _of_tasks(_t.state == claims.SUSPENDED, or_(_t.reason.is_(null()), _t.reason.not_in(sorted(states.REASONS)))),
        "task {it} rests and says no reason: `holdfast task resume {it}`",
    ),
    Fault(
        "claims_of_nobody", _of_tasks(_moves, _untaken, _queues, not_(_ended), _t.ready == false()),
        "task {it} waits for claims that nobody holds: `holdfast task suspend {it}` and resume it",
        _is_held_by_nobody,
    ),
    Fault(
        "due_for_nobody",
        _of_tasks(_moves, _untaken, _started, not_(_ended), _t.ready == true(), _t.due_at.is_(null()), not_(_rung_for)),
        "task {it} is {phase} and due for nobody: `holdfast task suspend {it}` and resume it",
        _waits_for_no_event,
    ),
    Fault(
        "ended_and_taken", _of_tasks(_ended, or_(_t.worker_id.is_not(null()), _t.token.is_not(null()))),
        "task {it} has ended, and a worker has it: " + _report,
    ),
    Fault("ended_and_due", _of_tasks(_ended, _t.due_at.is_not(null())), "task {it} has ended, and is due: " + _report),
    Fault(
        "ended_and_kept_for_ever", _of_tasks(_ended, _t.expires_at.is_(null())),
        "task {it} has ended, and would never be purged: " + _report,
    ),
    Fault(
        "purged_while_it_runs", _of_tasks(not_(_ended), _t.expires_at.is_not(null())),
        "task {it} has not ended, and would be purged: " + _end_it,
    ),
    Fault(
        "taken_by_nobody",
        _of_tasks(_t.worker_id.is_not(null()), ~exists().where(workers.c.id == _t.worker_id)),
        "task {it} is taken by a worker that there is not, so nobody takes it over: " + _end_it,
    ),
    Fault(
        "taken_by_the_dead",
        _of_tasks(exists().where(workers.c.id == _t.worker_id, workers.c.dead == true())),
        "task {it} is taken by a worker whose tasks were set free already: " + _end_it,
    ),
    Fault(
        "taken_without_token",
        _of_tasks(not_(_ended), _untaken != _t.token.is_(null())),
        "task {it} has a worker and no token, or a token and no worker: " + _end_it,
    ),
    Fault(
        "token_of_another_epoch",
        _of_tasks(_t.token.is_not(null()), _t.token.not_like(literal("%.") + cast(_t.epoch, Text) + literal(".%"))),
        "task {it} has the token of another taking, and its number may be given a second time: " + _end_it,
        _is_of_later_taking,
    ),
    Fault(
        "journal_behind_its_end",
        _of_tasks(not_(_ended), exists().where(journal.c.task == _t.id, journal.c.seq > _t.seq)),
        "task {it} has events in its journal behind the last that it knows of: " + _end_it,
    ),
    Fault(
        "journal_without_its_end",
        _of_tasks(not_(_ended), _t.seq > 0, ~exists().where(journal.c.task == _t.id, journal.c.seq == _t.seq)),
        "task {it} lacks the last events of its journal, so it would go on from an older state: " + _end_it,
    ),
    Fault(
        "steps_ahead", _of_tasks(_t.steps_seq > _t.seq), "task {it} shows steps that it has no events of: " + _end_it
    ),
    Fault(
        "claims_of_the_ended", _of_tasks(_ended, _has_ticket()),
        "task {it} has ended and still claims what others wait for: " + _report,
    ),
    Fault(
        "claims_in_part",
        _of_tasks(_has_ticket(tickets.c.granted == true()), _has_ticket(tickets.c.granted == false())),
        "task {it} has some of its claims and waits for others, so tasks may wait for each other for ever: " + _end_it,
    ),
    Fault(
        "claims_of_no_task",
        select(tickets.c.resource).where(~exists().where(_t.id == tickets.c.task)).distinct()
        .order_by(tickets.c.resource),
        "{it} is claimed by a task that there is not: report it, with a copy of the database",
    ),
    Fault(
        "claimed_twice",
        select(tickets.c.resource)
        .where(
            tickets.c.granted == true(), tickets.c.mode == claims.EXCLUSIVE,
            exists().where(
                _other.c.resource == tickets.c.resource, _other.c.granted == true(), _other.c.task != tickets.c.task,
                # What a root holds, its children may use.
                ~exists().where(_t.id == _other.c.task, _t.root_id == tickets.c.task),
                ~exists().where(_t.id == tickets.c.task, _t.root_id == _other.c.task),
            ),
        )
        .distinct().order_by(tickets.c.resource),
        "{it} is granted to one task alone and to another beside it: abort one of those that `holdfast task list"
        " --resource {it}` shows as RUNNING; report it",
    ),
    Fault(
        "numbers_given_twice",
        select(tickets.c.resource)
        .select_from(tickets.outerjoin(queues, queues.c.resource == tickets.c.resource))
        .where(or_(queues.c.resource.is_(null()), tickets.c.ticket >= queues.c.next_ticket))
        .distinct().order_by(tickets.c.resource),
        "the queue of {it} would give a number a second time, and refuse who comes next: report it, with a copy of the"
        " database",
    ),
    Fault(
        "tag_of_no_task",
        select(func.coalesce(tags.c.tag, ""))
        .where(tags.c.task.is_not(null()), ~exists().where(_t.id == tags.c.task)).order_by(tags.c.tag),
        "the tag {it} names a task that there is not: ask with another tag; report it",
    ),
    *examine_around.FAULTS,
)  # fmt: skip


def faults(tx: Tx, now: float) -> Iterator[tuple[str, str]]:
    """The name of each fault that is found, and a sentence that says of what and what to do; at most `FOUND_MAX` of
    each."""
    for fault in FAULTS:
        rows = tx.execute(fault.find, {"_now": now}).all()
        real = (row for row in rows if fault.holds is None or fault.holds(tx, row))
        for row in islice(real, FOUND_MAX):
            state, hold = getattr(row, "state", None), getattr(row, "hold", None)
            yield fault.name, fault.says.format(it=row[0], phase=f"{state}/{hold}" if hold else state)
