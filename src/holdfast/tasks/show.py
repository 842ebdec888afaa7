"""A task as people and programs are shown it: plain data that json can write (the REST contract's section 3).

Everything is read from columns; a Secret is never rendered. A list leaves out what costs more than a row (`COSTLY`),
unless it is asked for it, so that a page of tasks costs the same however much each was given and however many wait
before it. Which tasks: tasks/query.py. The links of a task are the service's.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from holdfast import errors
from holdfast.core import states
from holdfast.store.base import StepRow, Tx
from holdfast.tasks import asking, claims, control, lease, query, row
from holdfast.tasks.lease import WorkerRow
from holdfast.tasks.row import TaskRow

#: What stands for a secret.
HIDDEN: Final = "******"
_NONE: Final = {None}
_ALONE: Final[dict[str, Any]] = {
    "parent_id": None, "root_id": None, "retry_of": None, "rollback_of": None, "attempt": 1
}  # fmt: skip
_OUTCOMES: Final = ("observed", "answer")
#: What is not told by a task's row alone, or may be large.
COSTLY: Final = ("claims", "queue_position", "blocked_by", "params", "result")


def task(
    tx: Tx, at: TaskRow, *, now: float, traceback: bool = False, host: bool = False, project: str | None = None
) -> dict[str, Any]:
    """The whole representation. `traceback`, `host`: an administrator may see where it failed, and where it runs.
    `project`: of the tasks before it, only that project's are named."""
    (shown,) = tasks(tx, [at], now=now, traceback=traceback, host=host, fields=COSTLY, project=project)
    return shown


def new(tx: Tx, at: TaskRow, inputs: str, wanted: Sequence[claims.Claim], *, host: bool = False) -> dict[str, Any]:
    """The representation in the transaction that makes the task, of what is at hand: without its place in the queue
    and who is before it, because looking for those would make a long queue slow to join."""
    shown = summary(at)
    shown |= _relations(tx, at, _names(tx, [at]))
    shown |= {"worker": None, "hostId": host_id(at.project_id, "")}
    if host:
        shown["host"] = at.host
    shown |= {
        "error": None,
        "params": _params(at, value(inputs)),
        "claims": [claim(*each) for each in wanted],
        "result": None,
    }
    return shown


def tasks(
    tx: Tx,
    rows: Sequence[TaskRow],
    *,
    now: float,
    traceback: bool = False,
    host: bool = False,
    fields: Collection[str] = (),
    project: str | None = None,
) -> list[dict[str, Any]]:
    """What a list shows of its tasks: the representation without `COSTLY` but for those among `fields`."""
    costly = [field for field in COSTLY if field in fields]
    needs_result = "result" in costly and len(rows) > 1
    names = _names(tx, rows)
    workers: dict[str, WorkerRow | None] = {}
    found = []
    for at in rows:
        at_whole = row.read(tx, at.id) if needs_result else at
        shown = summary(at) | _relations(tx, at, names) | _whereabouts(tx, at, workers, now, host)
        shown["error"] = error(at, traceback=traceback)
        if costly:
            shown |= _costly(tx, at_whole, costly, project)
        found.append(shown)
    return found


def summary(at: TaskRow) -> dict[str, Any]:
    """What is shown of each task that its row alone tells."""
    created = moment(at.created_at)
    return {
        "uuid": at.uuid,
        "task": at.operation or at.flow,
        "state": at.state,
        "reason": at.reason,
        "tag": at.tag,
        "resource": {} if at.resource_id is None else {at.resource_type or "resource": at.resource_id},
        "resource_id": at.resource_id,
        "resource_type": at.resource_type,
        "request_id": at.request_id,
        "global_request_id": at.global_request_id or None,
        "user_id": at.user_id,
        "project_id": at.project_id,
        "origin": at.origin,
        "created_at": created,
        "start_time": created,
        "executed_at": moment(at.executed_at),
        "last_updated": created if at.updated_at == at.created_at else moment(at.updated_at),
        "finish_time": moment(at.finished_at),
        "expires_at": moment(at.expires_at),
        "priority": at.priority,
        "flow": at.flow,
        "version": at.version,
        "pool": at.pool,
        "progress": {
            "percent": percent(at),
            "completed": at.completed,
            "total": at.total,
            "step": at.progress_step,
            "message": at.progress_message,
            "updated_at": moment(at.progress_at),
        },
        "direction": direction(at),
        "goal": at.goal,
        "effect": at.effect,
        "revert": at.revert,
        "resting": resting(at),
        "supported_verbs": control.supported_verbs(at),
    }


def claim(resource: str, mode: str) -> dict[str, str]:
    """A claim: `network/public` is of the type network, its id public."""
    type, slash, id = resource.partition("/")
    return {"type": type if slash else "", "id": id if slash else resource, "mode": mode, "resource": resource}


def host_id(project_id: str, host: str) -> str:
    """A name for the host that tells a project whether two of its tasks are on one, and nothing else."""
    if not host:
        return ""
    from hashlib import sha224

    return sha224(f"{project_id}{host}".encode()).hexdigest()


def _names(tx: Tx, rows: Sequence[TaskRow]) -> dict[int, str]:
    """The uuids of the tasks that these rows name."""
    linked = {each for at in rows for each in (at.parent_id, at.root_id, at.retry_of, at.rollback_of)}
    return {} if linked == _NONE else query.uuids(tx, sorted(each for each in linked if each is not None))


def _relations(tx: Tx, at: TaskRow, names: dict[int, str]) -> dict[str, Any]:
    if not names and at.retry_of is None:
        return _ALONE
    return {
        "parent_id": _name(names, at.parent_id),
        "root_id": _name(names, at.root_id),
        "retry_of": _name(names, at.retry_of),
        "rollback_of": _name(names, at.rollback_of),
        "attempt": 1 if at.retry_of is None else query.attempt(tx, at),
    }


def _whereabouts(tx: Tx, at: TaskRow, workers: dict[str, WorkerRow | None], now: float, host: bool) -> dict[str, Any]:
    """Whether the worker that has the task still says that it lives (`stale`: not for as long as its lease), and the
    host where it runs, or ran last."""
    shown: dict[str, Any] = {"worker": None, "hostId": host_id(at.project_id, at.host or "")}
    if host:
        shown["host"] = at.host
    if at.worker_id is not None:
        if at.worker_id not in workers:
            workers[at.worker_id] = lease.find(tx, at.worker_id)
        if (found := workers[at.worker_id]) is not None:
            stale = found.dead or found.heartbeat_at + found.lease_s <= now
            shown["worker"] = {"heartbeat_at": moment(found.heartbeat_at), "stale": stale}
    return shown


def _costly(tx: Tx, at: TaskRow, costly: Collection[str], project: str | None) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    waiting = claims.waiting(tx, at.id) if not at.ready and at.finished_at is None else []
    if "params" in costly or "claims" in costly:
        asked, claimed = row.asked_for(tx, at.id)
        shown = {"params": _params(at, value(asked)), "claims": [claim(*each) for each in claims.from_text(claimed)]}
    if "queue_position" in costly:
        shown["queue_position"] = claims.queue_position(tx, waiting)
    if "blocked_by" in costly:
        before = claims.blocked_by(tx, waiting)
        shown["blocked_by"] = [each.uuid for each in before if project in (None, each.project_id)]
    shown["result"] = _result(at, value(at.result))
    return {field: shown[field] for field in costly}


def _params(at: TaskRow, inputs: Any) -> Any:
    """What the task was asked for with: of an operation on a resource its parameters, else the inputs."""
    if at.resource_type is not None and isinstance(inputs, dict) and isinstance(inputs.get("params"), dict):
        return inputs["params"]
    return inputs


def _result(at: TaskRow, provided: Any) -> Any:
    """What it has made: of an operation on a resource what it has found of that, or answers. What else its steps
    provided is between them and the driver: where it keeps things, what there was before."""
    if at.flow == f"{at.resource_type}.{at.operation}" and isinstance(provided, dict):
        return {name: provided[name] for name in _OUTCOMES if name in provided}
    return provided


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
    second, fraction = divmod(round(at * 1_000_000), 1_000_000)
    return f"{_second(second)}.{fraction:06d}Z"


@lru_cache(maxsize=1024)  # what is shown together happened together
def _second(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")[:-6]  # for +00:00


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
    return [{"step": name, "answers": answers} for name in asking.steps_of(at)]


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
    if text is None:
        return None
    found = json.loads(text)
    return _plain(found) if '"$"' in text else found


def _plain(data: Any) -> Any:
    if isinstance(data, list):
        return [_plain(item) for item in data]
    if not isinstance(data, dict):
        return data
    if "$" not in data:
        return {key: _plain(item) for key, item in data.items()}
    if data["$"] == "secret":
        return HIDDEN
    plain = _plain(data.get("v"))
    if data["$"] == "dict" and all(isinstance(key, str) for key, _value in plain):
        return dict(plain)
    return plain


def _name(names: dict[int, str], task: int | None) -> str | None:
    return None if task is None else names.get(task)
