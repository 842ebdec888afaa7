"""Children: tasks that a step of another task made, and what passes between the two.

Theory: the end of a child is delivered to its parent, as an event, in the transaction that ends the child; so no parent
waits for what has happened. A child is known by the entry of the step that made it (`child_key`): the step's key and
the number of its try. Rows of one family are locked from the youngest up, as the end of a child comes to its parent.

What a child step does: flow/child.py, worker/desk.py. What verbs do to children: tasks/control.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from sqlalchemy import bindparam, exists, literal, null, select, update

from holdfast.core import states
from holdfast.core.events import Delivered
from holdfast.errors import PastPivot, TaskNotFound, VerbRefused
from holdfast.store.base import Tx
from holdfast.store.journal import encode
from holdfast.store.schema import tasks
from holdfast.tasks import claims, row
from holdfast.tasks.row import TaskRow
from holdfast.tasks.submit import Request

EVENTS: Final = "child:"  # what such events are called: nobody else delivers them
_SUSPENDED: Final = states.api_state(states.SUSPENDED_FORWARD)
_undone = tasks.alias("undone")
_LIVING: Final = (
    select(tasks)
    .where(tasks.c.parent_id == bindparam("_parent"), tasks.c.finished_at.is_(null()))
    .order_by(tasks.c.id.desc())
)
_BY_KEY: Final = select(tasks).where(tasks.c.child_key == bindparam("_key"), tasks.c.child_key.is_not(null()))
_OF_STEP: Final = (
    select(tasks)
    .where(
        tasks.c.child_key > bindparam("_from"), tasks.c.child_key < bindparam("_to"), tasks.c.child_key.is_not(null())
    )
    .order_by(tasks.c.id.desc())
)
_PAST_PIVOT: Final = (
    select(tasks.c.id, tasks.c.uuid, tasks.c.past_pivot)
    .where(
        tasks.c.parent_id == bindparam("_parent"),
        tasks.c.rollback_of.is_(null()),
        tasks.c.finished_at.is_(null()) | (tasks.c.effect != "none"),
        ~exists().where(_undone.c.rollback_of == tasks.c.id, _undone.c.state == literal(states.SUCCEEDED)),
    )
    .order_by(tasks.c.id)
)
_RENAME: Final = update(tasks).where(tasks.c.id == bindparam("_task")).values(child_key=bindparam("_key"))
_RING: Final = update(tasks).where(
    tasks.c.id == bindparam("_task"), tasks.c.finished_at.is_(null()), tasks.c.state != literal(_SUSPENDED)
)
_RING_ONLY: Final = _RING.values(due_at=bindparam("_now"))
_RING_AND_SAY: Final = _RING.values(due_at=bindparam("_now"), progress_message=bindparam("_message"))


# --- which they are ----------------------------------------------------------------------------------------------


def event_of(uuid: str) -> str:
    """The name by which a task's end is delivered to its parent."""
    return f"{EVENTS}{uuid}"


def living(tx: Tx, parent: int) -> list[TaskRow]:
    """The task's children that have not ended, the youngest first."""
    return [row.of(found) for found in tx.execute(_LIVING, {"_parent": parent}).all()]


def by_key(tx: Tx, key: str) -> TaskRow | None:
    found = tx.execute(_BY_KEY, {"_key": key}).first()
    return None if found is None else row.of(found)


def key_of(step_key: str, attempt: int) -> str:
    """The key of the child that this try of a step makes. `step_key` is `ctx.forward_key`."""
    return f"{step_key}#{attempt}"


def of_step(tx: Tx, step_key: str) -> list[TaskRow]:
    """What all tries of a step have made, the youngest first."""
    found = tx.execute(_OF_STEP, {"_from": f"{step_key}#", "_to": f"{step_key}$"}).all()  # "$" comes after "#"
    return [row.of(each) for each in found]


def request_of(parent: TaskRow, request: Request, key: str | None) -> Request:
    """The request as its child's: for the same people, and where it says nothing, in the same way."""
    return request._replace(
        parent=parent.id,
        child_key=key,
        project_id=parent.project_id,
        user_id=parent.user_id,
        request_id=parent.request_id,
        global_request_id=parent.global_request_id,
        origin=parent.origin,
    )


def name(tx: Tx, child: TaskRow, key: str) -> TaskRow:
    """Give the child, which was admitted otherwise, its key."""
    tx.execute(_RENAME, {"_task": child.id, "_key": key})
    return row.read(tx, child.id)


def refuse_alone(tx: Tx, at: TaskRow, verb: str) -> None:
    """A child is retried and rolled back by its parent, as long as that lives. Raises: VerbRefused."""
    if at.parent_id is None:
        return
    try:
        parent = row.read(tx, at.parent_id)
    except TaskNotFound:  # it has been purged, and its children will be next
        return
    if parent.finished_at is None:
        raise VerbRefused(
            f"Cannot '{verb}' task {at.uuid} by itself: it is a child of task {parent.uuid}, which is {parent.state}:"
            f" '{verb}' that one",
            state=at.state,
            parent=parent.uuid,
        )


def refuse_past_pivot(tx: Tx, at: TaskRow, verb: str) -> None:
    """What cannot be undone in a child cannot be in its parent. Raises: PastPivot."""
    above = [at.id]
    while above:
        for found in tx.execute(_PAST_PIVOT, {"_parent": above.pop()}).all():
            if found.past_pivot:
                raise PastPivot(
                    f"Cannot '{verb}' task {at.uuid}: its child task {found.uuid} has passed its point of no return",
                    task=found.uuid,
                )
            above.append(found.id)


def let_go(tx: Tx, at: TaskRow, steps: Iterable[str]) -> None:
    """These steps are to be run again by a person's word: what their tries made and has ended is not asked again."""
    for step in steps:
        prefix = f"{at.uuid}:{step}:"
        found = tx.execute(_OF_STEP, {"_from": prefix, "_to": f"{prefix[:-1]};"}).all()  # ";" comes after ":"
        for child in map(row.of, found):
            if child.finished_at is not None and "~" not in (child.child_key or ""):
                tx.execute(_RENAME, {"_task": child.id, "_key": f"{child.child_key}~{child.id}"})


# --- from child to parent ----------------------------------------------------------------------------------------


def tell_end(tx: Tx, child: TaskRow, state: str, now: float) -> None:
    """The child, whose row this was, has ended: deliver that to its parent."""
    if child.parent_id is None:
        return
    parent = row.lock(tx, child.parent_id)
    if parent.finished_at is not None:
        return
    bell = parent.worker_id is not None or parent.state != _SUSPENDED
    columns: dict[str, Any] = {"updated_at": now} | ({"due_at": now} if bell else {})
    payload = {"task": child.uuid, "state": state}
    tx.record(parent.id, [encode(Delivered(event_of(child.uuid), payload, now), ())], columns)
    tx.touched(parent.id)


def tell_rest(tx: Tx, child: TaskRow, now: float) -> None:
    """The child rests, in its row too: a parent that waits for that may go on, and says what it waits for."""
    if child.parent_id is None:
        return
    values: dict[str, Any] = {"_task": child.parent_id, "_now": now}
    if child.reason == "asked":
        tx.execute(_RING_ONLY, values)
    else:
        message = f"the child task {child.uuid} is {child.state}: {child.reason}"
        tx.execute(_RING_AND_SAY, {**values, "_message": message})
    tx.touched(child.parent_id)


# --- from parent to child ----------------------------------------------------------------------------------------


def lock(tx: Tx, task: int) -> TaskRow:
    """The task's row, locked behind those of its descendants that live, and all of them behind the queues in which they
    wait. Raises: TaskNotFound."""
    below: list[int] = []
    above = [task]
    while above:
        found = [child.id for child in living(tx, above.pop())]
        below += found
        above += found
    claims.lock_awaited(tx, [task, *below])
    for each in sorted(below, reverse=True):
        row.lock(tx, each)
    return row.lock(tx, task)


def reach(tx: Tx, parent: TaskRow, verb: Callable[[TaskRow], Any]) -> int:
    """Give the verb to every child that lives, the youngest first; how many took it. What a child's state does not
    allow is left alone: it is on a way of its own to its end, and the parent waits for that."""
    taken = 0
    for child in living(tx, parent.id):
        try:
            verb(child)
            taken += 1
        except (VerbRefused, PastPivot):
            continue
    return taken


def moving(tx: Tx, parent: int) -> bool:
    """Whether a child neither has ended nor rests."""
    return any(child.state != _SUSPENDED for child in living(tx, parent))
