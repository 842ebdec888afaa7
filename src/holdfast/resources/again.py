"""What else happens to a task of a resource before it ends for good: it rests in doubt, is aborted, is followed by a
retry or a rollback.

Theory: a retry is the same operation once more, with what is desired now. The rollback of an operation whose revision
was applied brings a new revision, of what was applied before it: so what is desired never changes without a revision,
and revisions are never applied out of their order. It is refused where others have come since, unless it is forced;
then nobody can say what the world is like afterwards, and a probe looks.

The ends: project.py. Who calls: tasks/joined.py.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import bindparam, select

from holdfast.core.states import SUCCEEDED
from holdfast.errors import ResourceImmutable, RollbackSuperseded, VerbUnsupported
from holdfast.resources import project, state
from holdfast.resources.enter import Entering, enter
from holdfast.resources.rules import Rules
from holdfast.resources.state import ResourceRow
from holdfast.store.base import Tx
from holdfast.store.schema import is_live, operations, tasks
from holdfast.tasks import steps
from holdfast.tasks.joined import Joint
from holdfast.tasks.row import TaskRow

#: Reasons for which a task rests that say that nobody knows what its resource is like.
DOUBTFUL: Final = frozenset(("outcome_unknown", "revert_failed", "step_unresponsive", "poison"))
#: This one says so only where a step was in the middle of its work.
CHANGED: Final = "definition_changed"
_o = operations.c
_LATER: Final = (
    select(tasks.c.uuid)
    .select_from(operations.join(tasks, tasks.c.id == _o.task))
    .where(_o.kind == bindparam("_kind"), _o.id == bindparam("_id"), is_live, _o.task > bindparam("_task"))
    .order_by(_o.task)
    .limit(1)
)


def rested(tx: Tx, at: TaskRow, now: float) -> None:
    """The task rests: where nobody knows what it left, nobody knows its resource."""
    if at.resource_type is None or at.executed_at is None:
        return
    if at.reason not in DOUBTFUL and not (at.reason == CHANGED and steps.is_in_flight(tx, at.id)):
        return
    mine = project.read(tx, at.id)
    if mine is None or not mine.live:
        return
    found = state.lock(tx, mine.kind, mine.id)
    rules = Rules.of(mine.rules)
    if found is not None and rules.doubted is None:
        project.keep(tx, at.id, rules._replace(doubted=[found.doubt]))
        state.change(tx, at, found, now, doubt=state.IN_DOUBT)


def aborting(tx: Tx, at: TaskRow) -> None:
    """Raises: VerbUnsupported: the operation can't be stopped in the middle."""
    if at.resource_type is None or at.executed_at is None:
        return
    mine = project.read(tx, at.id)
    if mine is not None and not Rules.of(mine.rules).abortable:
        raise VerbUnsupported(
            f"Cannot 'abort' task {at.uuid}: {mine.name} of a {mine.kind} can't be stopped in the middle",
            alternatives=["cancel"],
        )


def making(tx: Tx, at: TaskRow) -> None:
    """A task is about to be made that does the ended task again, or undoes it: its resource is locked before any
    queue, as in operate.py."""
    mine = None if at.resource_type is None else project.read(tx, at.id)
    if mine is not None:
        state.lock(tx, mine.kind, mine.id)


def made(tx: Tx, at: TaskRow, new: TaskRow, force: bool, now: float) -> None:
    """A task was made that does the ended task `at` again, or undoes it.

    Raises: ResourceImmutable, RollbackSuperseded.
    """
    if at.resource_type is None:
        return
    mine = project.read(tx, at.id)
    found = None if mine is None else state.lock(tx, mine.kind, mine.id)
    if found is None:
        return
    rules = Rules.of(mine.rules)
    if new.rollback_of is None:
        _retry(tx, mine, rules, found, new, now)
    elif at.rollback_of is not None:  # the retry of a rollback
        _roll_back_again(tx, mine, rules, found, new, now)
    else:
        _roll_back(tx, at, mine, rules, found, new, force, now)


def _retry(tx: Tx, mine: Any, rules: Rules, found: ResourceRow, new: TaskRow, now: float) -> None:
    starts = list(rules.starts)
    if rules.creates and not found.applied_revision:
        starts += [each for each in (rules.fault, rules.gone) if each is not None and each not in starts]
        if found.deleted_at is not None:  # it is to be made after all
            back: dict[str, Any] = {
                "lifecycle": starts[0],
                "planned": starts[0],
                "status": starts[0],
                "deleted_at": None,
            }
            found = state.change(tx, new, found, now, **back)
    if found.planned not in starts:
        raise ResourceImmutable(
            f"cannot {mine.name} {found.key} again: it is {found.planned}, and that starts from {' or '.join(starts)}",
            lifecycle=found.lifecycle,
            planned=found.planned,
        )
    fresh = rules._replace(starts=starts, doubted=None, back=None)
    enter(tx, new, found, Entering(mine.name, mine.ends, bool(mine.applies), fresh.text), now)


def _roll_back(
    tx: Tx, at: TaskRow, mine: Any, rules: Rules, found: ResourceRow, new: TaskRow, force: bool, now: float
) -> None:
    if rules.back is None:
        return
    later = tx.execute(_LATER, {"_kind": mine.kind, "_id": mine.id, "_task": at.id}).scalars()
    other = next((uuid for uuid in later if uuid != new.uuid), None)
    changed = found.revision != mine.revision
    if (changed or other is not None) and not force:
        by = f"task {other} is going to change it" if other is not None else f"revision {found.revision} came since"
        raise RollbackSuperseded(
            f"Cannot 'rollback' task {at.uuid}: {by} ({found.key})", task=other, resource=found.key
        )
    lifecycle, applied, _number, _doubt = rules.back
    ends = rules.gone if lifecycle is None else lifecycle
    undoes = bool(mine.applies) and at.state == SUCCEEDED and applied is not None and not changed
    desired = applied if undoes else None
    fresh = rules._replace(creates=False, deletes=lifecycle is None)
    enter(tx, new, found, Entering(mine.name, ends, undoes, fresh.text), now, desired=desired)


def _roll_back_again(tx: Tx, mine: Any, rules: Rules, found: ResourceRow, new: TaskRow, now: float) -> None:
    fresh = rules._replace(doubted=None)
    enter(tx, new, found, Entering(mine.name, mine.ends, bool(mine.applies), fresh.text), now)


JOINT: Final = Joint(making, made, rested, aborting)
