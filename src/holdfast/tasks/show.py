"""A task as people and programs are shown it: plain data that json can write (the REST contract's section 3).

Everything is read from columns; a Secret is never rendered. Which tasks: tasks/query.py.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

from holdfast import errors
from holdfast.core import states
from holdfast.store.base import StepRow, Tx
from holdfast.tasks import claims, control, lease, query, row
from holdfast.tasks.row import TaskRow

HIDDEN: Final = "***"


def task(tx: Tx, at: TaskRow, *, now: float, traceback: bool = False) -> dict[str, Any]:
    """The whole representation. `traceback`: an administrator may see where it failed."""
    asked, claimed = row.asked_for(tx, at.id)
    waits = not at.ready and at.finished_at is None
    blockers = claims.blocked_by(tx, at.id) if waits else []
    linked = [at.parent_id, at.root_id, at.retry_of, at.rollback_of, *blockers]
    names = query.uuids(tx, [each for each in linked if each is not None])
    return summary(at) | {
        "version": at.version,
        "claims": [{"resource": claim.resource, "mode": claim.mode} for claim in claims.from_text(claimed)],
        "request_id": at.request_id or None,
        "user_id": at.user_id or None,
        "origin": at.origin,
        "parent_id": _name(names, at.parent_id),
        "root_id": _name(names, at.root_id),
        "retry_of": _name(names, at.retry_of),
        "rollback_of": _name(names, at.rollback_of),
        "executed_at": moment(at.executed_at),
        "expires_at": moment(at.expires_at),
        "priority": at.priority,
        "pool": at.pool,
        "worker": _worker(tx, at, now),
        "queue_position": claims.queue_position(tx, at.id) if waits else None,
        "blocked_by": [names[each] for each in blockers if each in names],
        "direction": direction(at),
        "goal": at.goal,
        "effect": at.effect,
        "revert": at.revert,
        "resting": resting(at),
        "params": value(asked),
        "result": value(at.result),
        "error": error(at, traceback=traceback),
        "supported_verbs": control.supported_verbs(at),
    }


def _worker(tx: Tx, at: TaskRow, now: float) -> dict[str, Any] | None:
    """Whether the worker that has the task still says that it lives. `stale`: not for as long as its lease."""
    found = None if at.worker_id is None else lease.find(tx, at.worker_id)
    if found is None:
        return None
    stale = found.dead or found.heartbeat_at + found.lease_s <= now
    return {"heartbeat_at": moment(found.heartbeat_at), "stale": stale}


def summary(at: TaskRow) -> dict[str, Any]:
    """What a list shows of each task: no further query is needed for it."""
    return {
        "uuid": at.uuid,
        "task": at.flow,
        "state": at.state,
        "reason": at.reason,
        "tag": at.tag,
        "project_id": at.project_id,
        "created_at": moment(at.created_at),
        "start_time": moment(at.created_at),
        "last_updated": moment(at.updated_at),
        "finish_time": moment(at.finished_at),
        "progress": {
            "percent": percent(at),
            "completed": at.completed,
            "total": at.total,
            "step": at.progress_step,
            "message": at.progress_message,
            "updated_at": moment(at.progress_at),
        },
    }


def step(at: StepRow, *, traceback: bool = False) -> dict[str, Any]:
    """One step that ever began."""
    return {
        "id": at.node,
        "state": at.state,
        "attempt": at.attempt,
        "started_at": moment(at.started_at),
        "ended_at": moment(at.ended_at),
        "progress": at.progress,
        "message": at.message,
        "error": _failure(at.error, traceback=traceback),
    }


def moment(at: float | None) -> str | None:
    """RFC 3339, UTC, to the microsecond."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def percent(at: TaskRow) -> int:
    """How far it is, forward; 100 only when it has succeeded."""
    if at.state == states.SUCCEEDED:
        return 100
    return min(99, int(100 * at.progress_done / at.progress_total)) if at.progress_total else 0


def direction(at: TaskRow) -> str:
    """`forward`, or `back`: it undoes, or will when it goes on."""
    held = at.hold in (None, "forward", "pending")
    goes_forward = at.goal is None and at.rollback_of is None and held
    return "forward" if goes_forward else "back"


def resting(at: TaskRow) -> list[dict[str, Any]]:
    """The steps that a person has to say something about, and what may be said of each."""
    answers = list(states.REASONS[at.reason].answers) if at.reason in states.REASONS else []
    return [{"step": name, "answers": answers} for name in control.steps_to_answer(at)]


def error(at: TaskRow, *, traceback: bool = False) -> dict[str, Any] | None:
    """Why it failed."""
    if at.error is None and at.state == states.ABORTED:
        return {"code": "task.aborted", "title": "Aborted", "detail": "The task was aborted.", "step": None,
                "retryable": False, "cause": []}  # fmt: skip
    return _failure(at.error, traceback=traceback)


def _failure(text: str | None, *, traceback: bool) -> dict[str, Any] | None:
    if text is None:
        return None
    data = json.loads(text)
    code, retryable = _kind(data["types"])
    name = data["types"][0].rpartition(".")[2] if data["types"] else "Exception"
    shown = {
        "code": code,
        "title": name,
        "detail": data["message"],
        "step": data.get("step"),
        "retryable": retryable,
        "cause": [f"{cause['types'][0].rpartition('.')[2]}: {cause['message']}" for cause in data.get("causes", ())],
    }
    return shown | {"traceback": data.get("traceback")} if traceback else shown


def _kind(types: list[str]) -> tuple[str, bool]:
    """The code of an error of ours, and whether it may go better next time; user code's own are `step.failed`."""
    for name in types:
        room, _, word = name.rpartition(".")
        found = getattr(errors, word, None) if room in ("", errors.__name__) else None
        if isinstance(found, type) and issubclass(found, errors.HoldfastError):
            return found.code, found.retryable
    if types == ["ForceFailed"]:
        return "task.force_failed", False
    return "step.failed", False


def value(text: str | None) -> Any:
    """A stored value for the eye: types that JSON lacks are shown as what they are made of, secrets not at all."""
    return None if text is None else _plain(json.loads(text))


def _plain(data: Any) -> Any:
    if isinstance(data, list):
        return [_plain(item) for item in data]
    if not isinstance(data, dict):
        return data
    if "$" not in data:
        return {key: _plain(item) for key, item in data.items()}
    if data["$"] == "secret":
        return HIDDEN
    return _plain(data.get("v"))


def _name(names: dict[int, str], task: int | None) -> str | None:
    return None if task is None else names.get(task)
