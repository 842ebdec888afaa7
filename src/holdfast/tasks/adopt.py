"""Adopting a changed plan: an operator lets a task that rests as `definition_changed` go on with the flow as it is now.

Theory: a changed flow never goes on by itself at a step that may not be the one it was. An operator who has looked at
the difference may say that it is. What was recorded must still have a place in the new plan, because the journal is
read with it; what it is bound to may differ. When this is needed: worker/load.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from sqlalchemy import bindparam, select, update

from holdfast.core import states
from holdfast.core.events import Adopted
from holdfast.core.plan import STEP, Plan
from holdfast.errors import VerbRefused
from holdfast.store.base import Tx
from holdfast.store.journal import encode
from holdfast.store.schema import journal, tasks
from holdfast.tasks import control, row, steps
from holdfast.tasks.row import TaskRow
from holdfast.tasks.submit import remember_plan


class Adoption(NamedTuple):
    """`missing`: recorded steps that the new plan has not; with any, it can't be adopted. `to_run`: its steps that
    have not succeeded, in its order."""

    task: TaskRow
    adopted: bool
    missing: list[str]
    to_run: list[str]


_NODES: Final = (
    select(journal.c.node).where(journal.c.task == bindparam("_task"), journal.c.node.is_not(None)).distinct()
)
_DONE: Final = states.STEP_STATES[states.S_SUCCEEDED]
_PLAN: Final = update(tasks).where(tasks.c.id == bindparam("_task")).values(digest=bindparam("_digest"))


def adopt(
    tx: Tx, task: int, plan: Plan, now: float, *, digest: str, outline: str, actor: str, dry_run: bool = False
) -> Adoption:
    """Let the task take `plan` (whose `digest` and `outline` these are) and go on. With `dry_run` only say what that
    would mean.

    Raises: VerbRefused: it does not rest for a changed definition, or the plan lacks steps it has recorded.
    """
    at = row.lock(tx, task)
    if at.reason != "definition_changed":
        raise VerbRefused(
            f"Cannot 'adopt' task {at.uuid}: it does not rest for a changed definition",
            state=at.state,
            allowed=control.supported_verbs(at),
        )
    missing = [node for node in tx.execute(_NODES, {"_task": task}).scalars() if not has_node(plan, node)]
    done = {step.node for step in steps.of(tx, task) if step.state == _DONE}
    to_run = [step for place, step in enumerate(plan.ids) if plan.kind[place] == STEP and step not in done]
    if dry_run:
        return Adoption(at, False, missing, to_run)
    if missing:
        raise VerbRefused(
            f"Cannot 'adopt' task {at.uuid}: it has recorded {_some(missing)}, which the flow has no more; put the old"
            " definition back, or abort the task",
            missing=missing,
            allowed=control.supported_verbs(at),
        )
    remember_plan(tx, digest, outline)
    tx.record(task, [encode(Adopted(digest, now), ())])
    tx.execute(_PLAN, {"_task": task, "_digest": digest})
    return Adoption(control.resume(tx, task, now, actor=actor).task, True, [], to_run)


def has_node(plan: Plan, node: str) -> bool:
    """Whether the plan has a place for a recorded node; those of a map's elements are in its template."""
    if node in plan.ids:
        return True
    for place, spec in plan.maps.items():
        prefix = f"{plan.ids[place]}["
        if node.startswith(prefix):
            index, closed, inside = node[len(prefix) :].partition("]")
            if closed and index.isdigit() and has_node(spec.template, inside.removeprefix("/")):
                return True
    return False


def _some(names: Iterable[str]) -> str:
    every = list(names)
    return ", ".join(every[:5]) + (f" and {len(every) - 5} more" if len(every) > 5 else "")
