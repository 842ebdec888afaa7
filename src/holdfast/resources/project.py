"""What the end of a task means for its resource, in the transaction that ends it.

Theory: the end is judged by data (`operations`), because whoever ends a task (a worker, a verb, another process) need
not know its kind. What was desired is never taken back: if it was not applied, the resource is OUT_OF_SYNC and says
which task failed. A lifecycle state follows only from an effect: a task that left nothing behind leaves the resource
where it was. Nobody knows what an aborted task left, so the resource is UNKNOWN until a probe has looked.

How a task joined the queue: operate.py. What a probe's answer does: probing.py. Retries and rollbacks: again.py.
"""

from __future__ import annotations

import json
from typing import Any, Final

from sqlalchemy import bindparam, null, select, update

from holdfast.core.states import ABORTED, FAILED, SUCCEEDED
from holdfast.errors import LifecycleChanged
from holdfast.resources import state
from holdfast.resources.rules import Rules, derived
from holdfast.resources.state import ResourceRow
from holdfast.store.base import Tx
from holdfast.store.schema import is_live, journal, operations, tasks
from holdfast.tasks import row, show, submit
from holdfast.tasks.row import TaskRow
from holdfast.tasks.submit import Request

FORCED: Final = "task.force_failed"
_o = operations.c
_READ: Final = select(operations).where(_o.task == bindparam("_task"))
_DONE: Final = update(operations).where(_o.task == bindparam("_task"), _o.live).values(live=False)
_LEAVES: Final = (
    select(_o.ends)
    .where(_o.kind == bindparam("_kind"), _o.id == bindparam("_id"), is_live, _o.ends.is_not(null()))
    .order_by(_o.task.desc())
    .limit(1)
)
_KEEP: Final = update(operations).where(_o.task == bindparam("_task")).values(rules=bindparam("_rules"))
_ASKED: Final = (
    select(journal.c.data)
    .where(journal.c.task == bindparam("_task"), journal.c.kind.in_(("abort_asked", "cancel_asked")))
    .order_by(journal.c.seq.desc())
    .limit(1)
)
_EFFECT: Final = update(tasks).where(tasks.c.id == bindparam("_task")).values(effect=bindparam("_effect"))


def project(tx: Tx, task: TaskRow, end: str, left: tuple[str, str], result: str | None, now: float) -> str | None:
    """For tasks/finish.py's `join`: `task` is the row as it was before."""
    mine = read(tx, task.id)
    if mine is None or not mine.live:
        return None
    found = state.lock(tx, mine.kind, mine.id)
    if found is None:
        return None
    after = row.read(tx, task.id)
    rules = Rules.of(mine.rules)
    at = found if rules.doubted is None else found._replace(doubt=rules.doubted[0])
    failed = _failed(after, mine) if end == FAILED else None
    provided = {} if result is None else json.loads(result)
    effect = _effect(tx, after, left[0], failed, provided)
    columns: dict[str, Any] = {
        "waiting": at.waiting - 1,
        "applying": at.applying - bool(mine.applies),
        "turns": at.turns + 1,
        "doubt": at.doubt,
    }
    if end != SUCCEEDED:
        columns |= _not_done(at, rules, end, effect, now) | _last_seen(tx, at, task, mine, rules, end, effect, failed)
    elif task.rollback_of is not None:
        columns |= _rolled_back(at, mine, rules, now)
    else:
        columns |= _succeeded(tx, at, mine, rules, provided, now)
    if failed is not None:
        columns["last_failed"] = state.text(failed)
    if "lifecycle" in columns:
        columns.setdefault("deleted_at", None)  # one that was deleted may have been made again
    tx.execute(_DONE, {"_task": task.id})
    columns["planned"] = _planned(tx, at, columns, mine, end)
    if task.rollback_of is None:
        back = [None if rules.creates and not at.applied_revision else at.lifecycle, at.applied]
        keep(tx, mine.task, rules._replace(back=[*back, at.applied_revision, at.doubt]))
    state.change(tx, after, found, now, **columns)
    if columns["doubt"] == state.IN_DOUBT and rules.verify is not None and columns.get("deleted_at") is None:
        verify(tx, after, rules.verify, now)
    return effect


def _effect(tx: Tx, after: TaskRow, effect: str, failed: dict[str, Any] | None, provided: dict[str, Any]) -> str:
    """What the task left, by what it failed of, or says itself."""
    if effect == "none":
        return effect
    code = None if failed is None else failed["error"]["code"]
    if code == LifecycleChanged.code or (failed is None and provided.get("effect") == "none"):
        tx.execute(_EFFECT, {"_task": after.id, "_effect": "none"})  # it looked, and did nothing
        return "none"
    return "unknown" if code == FORCED else effect


# --- how a task may end ------------------------------------------------------------------------------------------


def _succeeded(
    tx: Tx, at: ResourceRow, mine: Any, rules: Rules, provided: dict[str, Any], now: float
) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    if mine.ends is not None:
        columns["lifecycle"] = mine.ends
        if mine.ends != at.lifecycle:
            columns["status"] = mine.ends
        if rules.deletes:
            columns["deleted_at"] = now
    seen = provided.get("observed")
    columns |= seen_columns(at, seen if isinstance(seen, dict) else {})
    failed = None if at.last_failed is None else json.loads(at.last_failed)
    if mine.applies:
        number = provided.get("revision")
        number = number if isinstance(number, int) else mine.revision
        columns["doubt"] = None
        if number > at.applied_revision:
            text = at.desired if number == at.revision else state.revision(tx, at.kind, at.id, number)
            columns |= {"applied_revision": number, "applied": text or at.applied}
        if failed is not None and max(number, at.applied_revision) >= failed["revision"]:
            columns["last_failed"] = None
    elif failed is not None and not failed["applies"] and failed["task"] == mine.name:
        columns["last_failed"] = None
    return columns


def _not_done(at: ResourceRow, rules: Rules, end: str, effect: str, now: float) -> dict[str, Any]:
    is_new = rules.creates and not at.applied_revision
    if effect == "none":
        if is_new and end != FAILED:
            return gone(rules, now)
        return _at_fault(rules) if is_new else {}
    columns = _at_fault(rules)
    if effect == "unknown" or end == ABORTED:
        columns["doubt"] = state.IN_DOUBT
    elif at.applied_revision == at.revision and at.doubt is None:
        columns["doubt"] = state.DRIFT  # something was done, in part, to what was as desired
    return columns


def _at_fault(rules: Rules) -> dict[str, Any]:
    return {} if rules.fault is None else {"lifecycle": rules.fault, "status": rules.fault}


def gone(rules: Rules, now: float) -> dict[str, Any]:
    """A resource that came to nothing."""
    if rules.gone is None:
        return _at_fault(rules)
    return {"lifecycle": rules.gone, "status": rules.gone, "deleted_at": now, "doubt": None}


def _last_seen(
    tx: Tx,
    at: ResourceRow,
    task: TaskRow,
    mine: Any,
    rules: Rules,
    end: str,
    effect: str,
    failed: dict[str, Any] | None,
) -> dict[str, Any]:
    """What is known of the resource after what did not succeed, where its kind says so (`left`)."""
    if rules.left is None:
        return {}
    seen: dict[str, Any] = {}
    if effect != "none" or (end == ABORTED and task.ready):
        seen |= rules.left
    if failed is not None:
        seen["last_error"] = failed["error"]["detail"] or failed["error"]["title"]
    elif seen:
        verb = end.lower()
        seen["last_error"] = f"{mine.name} was {verb} by {asker(tx, task.id) or 'nobody'} (task {task.uuid})"
    return seen_columns(at, seen)


def asker(tx: Tx, task: int) -> str | None:
    """Who stopped the task last."""
    data = tx.execute(_ASKED, {"_task": task}).scalar()
    return None if data is None else json.loads(data)["actor"]


def _rolled_back(at: ResourceRow, mine: Any, rules: Rules, now: float) -> dict[str, Any]:
    """The rollback of an ended task has succeeded: the world is as it was before that task."""
    if rules.back is None:
        return {}
    lifecycle, applied, number, doubt = rules.back
    if lifecycle is None:
        return gone(rules, now)
    columns: dict[str, Any] = {"lifecycle": lifecycle, "deleted_at": None}
    if lifecycle != at.lifecycle:
        columns["status"] = lifecycle
    if mine.applies:  # again.py made a revision of what was applied before
        columns |= {"applied_revision": mine.revision, "applied": applied, "doubt": doubt, "last_failed": None}
    else:
        columns["doubt"] = doubt if number == at.applied_revision else state.IN_DOUBT
    return columns


# --- parts -------------------------------------------------------------------------------------------------------


def _planned(tx: Tx, at: ResourceRow, columns: dict[str, Any], mine: Any, end: str) -> str:
    """Where the tasks that are left in the queue will leave it."""
    here: str = columns.get("lifecycle", at.lifecycle)
    if not columns["waiting"]:
        return here
    if mine.ends is None or end == SUCCEEDED:
        return at.planned
    leaves: str | None = tx.execute(_LEAVES, {"_kind": at.kind, "_id": at.id}).scalar()
    return here if leaves is None else leaves


def read(tx: Tx, task: int) -> Any:
    """The task's row of `operations`, or None."""
    return tx.execute(_READ, {"_task": task}).first()


def keep(tx: Tx, task: int, rules: Rules) -> None:
    tx.execute(_KEEP, {"_task": task, "_rules": rules.text})


def _failed(after: TaskRow, mine: Any) -> dict[str, Any]:
    """What is kept of a failure; `revision` and `applies` say what makes it good."""
    error = show.error(after) or {}
    return {
        "uuid": after.uuid,
        "task": mine.name,
        "step": error.get("step"),
        "error": {"code": error.get("code", "step.failed"), "title": error.get("title"), "detail": error.get("detail")},
        "revision": mine.revision,
        "applies": bool(mine.applies),
    }


def seen_columns(at: ResourceRow, seen: dict[str, Any]) -> dict[str, Any]:
    """What an operation or a probe has seen of the resource, as columns."""
    if not seen:
        return {}
    merged = {**json.loads(at.observed), **seen}
    columns: dict[str, Any] = {"observed": state.text(merged)}
    if isinstance(seen.get("status"), str):
        columns["status"] = seen["status"]
    return columns


def verify(tx: Tx, after: TaskRow, flow: list[Any], now: float) -> None:
    """Have somebody look at what a task left behind: a task without claims."""
    name, version, reference, pool = flow
    request = Request(
        flow=name,
        version=version,
        reference=reference,
        inputs=json.dumps({"resource_id": after.resource_id}),
        operation="verify",
        resource_type=after.resource_type,
        resource_id=after.resource_id,
        steps=1,
        weight=1.0,
        pool=pool or after.pool,
        project_id=after.project_id,
        user_id=after.user_id,
        request_id=after.request_id,
        global_request_id=after.global_request_id,
        origin="system",
    )
    submit.submit(tx, request, now, derived(after.uuid, "verify"))
