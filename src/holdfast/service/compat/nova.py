"""Servers as Nova's clients know them: the server's own shape, its fault, and its instance actions.

Faults and instance actions have no tables: they are views over tasks. A fault is the last task that came to nothing
and has left something, or that should have made the server, shown while the server is in ERROR (or no more). An
instance action is one request on a server, that is one root task; its events are the task's children, or its steps
where it has none. Both are deprecated: the tasks themselves say more (RFC 9745, RFC 8594).

The shapes are those of the Compute API reference, microversion 2.84; keys that somebody may not see are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, select

from holdfast.core import states
from holdfast.errors import TaskNotFound
from holdfast.resources import state
from holdfast.resources.kind import CREATE
from holdfast.resources.state import ResourceRow
from holdfast.service import view
from holdfast.service.paging import next_link
from holdfast.service.problems import RequestInvalid
from holdfast.service.routes import COUNT, Answer, Param, Route
from holdfast.service.tasks import AT
from holdfast.store.base import StepRow, Tx
from holdfast.store.schema import tasks
from holdfast.tasks import params, query, row, show
from holdfast.tasks.finish import STEP_ABORTED
from holdfast.tasks.row import TaskRow

if TYPE_CHECKING:
    from holdfast.service.app import Service
    from holdfast.service.requests import Ask

KIND: Final = "server"
#: Nova's words of actions that are operations of ours under another name.
WORDS: Final = {"os-start": "start", "os-stop": "stop", "pause": "suspend", "unpause": "resume"}
#: libvirt's numbers, as Nova shows them.
POWER: Final = {"NOSTATE": 0, "RUNNING": 1, "PAUSED": 3, "SHUTDOWN": 4, "CRASHED": 6, "SUSPENDED": 7}
DEPRECATED_AT: Final = 1_790_000_000  # 2026-09-21
LIMIT: Final = 1000
FAULTY: Final = frozenset(("ERROR", "DELETED"))
_UNDONE: Final = (states.FAILED, states.ABORTED, states.CANCELLED)

_of_server = (
    (tasks.c.resource_type == KIND)
    & (tasks.c.resource_id == bindparam("_id"))
    & (tasks.c.project_id == bindparam("_project"))
)
_FAULT: Final = (
    select(tasks)
    .where(
        _of_server,
        (tasks.c.state.in_(_UNDONE) & (tasks.c.effect != "none"))
        | ((tasks.c.state == states.FAILED) & (tasks.c.operation == CREATE)),
    )
    .order_by(tasks.c.id.desc())
    .limit(1)
)
_LIVE: Final = select(tasks.c.operation).where(_of_server, tasks.c.finished_at.is_(None)).order_by(tasks.c.id).limit(1)
_ACTIONS: Final = select(tasks).where(_of_server, tasks.c.parent_id.is_(None), tasks.c.origin != "system")
_ACTION: Final = _ACTIONS.where(tasks.c.request_id == bindparam("_request")).order_by(tasks.c.id).limit(1)
_CHILDREN: Final = select(tasks).where(tasks.c.parent_id == bindparam("_parent")).order_by(tasks.c.id)


def server(tx: Tx, ask: Ask, at: ResourceRow, found: dict[str, Any]) -> dict[str, Any]:
    """A server as `GET /servers/{id}` shows it, with our sync status and links beside."""
    desired, observed = found["desired"], found["observed"]
    power = observed.get("power_state", "NOSTATE")
    live = tx.execute(_LIVE, {"_id": at.id, "_project": at.project_id}).scalar()
    shown = {
        "id": at.id,
        "name": at.name,
        "status": at.lifecycle,
        "tenant_id": at.project_id,
        "project_id": at.project_id,
        "created": found["created_at"],
        "updated": found["updated_at"],
        "metadata": desired.get("metadata", {}),
        "addresses": {},
        "image": {"id": observed.get("image", desired.get("image"))},
        "flavor": {"ram": desired.get("memory_mib"), "cpu_s": desired.get("cpu_s"), "files": desired.get("files")},
        "power_state": power,
        "OS-EXT-STS:power_state": POWER.get(power, 0),
        "OS-EXT-STS:vm_state": at.lifecycle.lower(),
        "OS-EXT-STS:task_state": live,
        "sync_status": at.sync_status,
        "operational_status": at.status,
        "revision": at.revision,
        "applied_revision": at.applied_revision,
        "last_task": at.last_task,
        "last_failed_task": found["last_failed_task"],
        "queue": found["queue"],
        "queue_length": found["queue_length"],
        "links": found["links"],
    }
    fault = fault_of(tx, ask, at)
    return shown if fault is None else shown | {"fault": fault}


def fault_of(tx: Tx, ask: Ask, at: ResourceRow) -> dict[str, Any] | None:
    """The last task that did not do what it should and had an effect, as a fault."""
    if at.lifecycle not in FAULTY:
        return None
    found = tx.execute(_FAULT, {"_id": at.id, "_project": at.project_id}).first()
    if found is None:
        return None
    failed = row.of(found)
    may_see = ask.service.policy.allows(ask.caller, "tasks:traceback")
    told = show.error(failed, traceback=may_see) or {}
    fault = {
        "code": 500,
        "created": show.moment(failed.finished_at),
        "message": told.get("detail") or told.get("title") or f"{failed.operation} ended {failed.state}",
        "task_id": failed.uuid,
    }
    return fault | {"details": told["traceback"]} if told.get("traceback") else fault


# --- instance actions --------------------------------------------------------------------------------------------


class Actions:
    """The handlers."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def listed(self, ask: Ask) -> Answer:
        limit = ask.integer("limit", LIMIT, most=LIMIT)
        since, before = _time(ask, "changes-since"), _time(ask, "changes-before")
        if since is not None and before is not None and before < since:
            raise RequestInvalid("changes-before is a time before changes-since", parameter="changes-before")

        def read(tx: Tx) -> dict[str, Any]:
            at = self._server(tx, ask)
            where: dict[str, Any] = {"_id": at.id, "_project": at.project_id}
            statement = _ACTIONS
            if marker := ask.text("marker"):
                behind = tx.execute(_ACTION, where | {"_request": marker}).first()
                if behind is None:
                    raise RequestInvalid(f"the marker {marker[:80]!r} is no request on this server", parameter="marker")
                statement = statement.where(tasks.c.id < behind.id)
            if since is not None:
                statement = statement.where(tasks.c.updated_at >= since - params.HALF)
            if before is not None:
                statement = statement.where(tasks.c.updated_at <= before + params.HALF)
            found = tx.execute(statement.order_by(tasks.c.id.desc()).limit(limit + 1), where).all()
            body: dict[str, Any] = {"instanceActions": [_action(row.of(each)) for each in found[:limit]]}
            if len(found) > limit > 0:
                body["links"] = next_link(ask, found[limit - 1].request_id)
            return body

        return Answer(body=await self._service.bridge.read_json(read), headers=_deprecated(ask.path["id"]))

    async def show(self, ask: Ask) -> Answer:
        def read(tx: Tx) -> dict[str, Any]:
            at, request = self._server(tx, ask), ask.path["action"]
            found = tx.execute(_ACTION, {"_id": at.id, "_project": at.project_id, "_request": request}).first()
            if found is None:
                raise TaskNotFound(f"server {at.id} has no action of the request {request[:80]}")
            root = row.of(found)
            return {"instanceAction": _action(root) | {"events": _events(tx, ask, root)}}

        return Answer(body=await self._service.bridge.read_json(read), headers=_deprecated(ask.path["id"]))

    def _server(self, tx: Tx, ask: Ask) -> ResourceRow:
        """Deleted ones too, as since microversion 2.21."""
        return state.read(tx, KIND, ask.path["id"], project_id=view.project_seen(ask), deleted=True)


def _time(ask: Ask, name: str) -> float | None:
    text = ask.text(name)
    return params.moment(text, parameter=name) if text else None


def _action(at: TaskRow) -> dict[str, Any]:
    return {
        "action": at.operation or at.flow,
        "instance_uuid": at.resource_id,
        "message": None if at.state not in (states.FAILED, states.ABORTED) else "Error",
        "project_id": at.project_id,
        "request_id": at.request_id,
        "start_time": show.moment(at.created_at),
        "updated_at": show.moment(at.updated_at),
        "user_id": at.user_id,
    }


def _events(tx: Tx, ask: Ask, root: TaskRow) -> list[dict[str, Any]]:
    """A traceback and the name of a host are there for those who may see them, and nowhere else."""
    may, caller = ask.service.policy.allows, ask.caller
    traces, hosts = may(caller, "tasks:traceback"), may(caller, "tasks:host")
    children = [row.of(each) for each in tx.execute(_CHILDREN, {"_parent": root.id}).all()]
    if children:
        return [_child_event(each, traces) | _host(each, hosts) for each in children]
    return [_step_event(each, traces) | _host(root, hosts) for each in query.steps_of(tx, root.id)]


def _child_event(at: TaskRow, traces: bool) -> dict[str, Any]:
    name, told = f"{at.resource_type or 'task'}_{at.operation or at.flow}", show.error(at, traceback=traces)
    failed = at.finished_at is not None and at.state != states.SUCCEEDED
    return _event(name, at.created_at, at.finished_at, failed, told)


def _step_event(at: StepRow, traces: bool) -> dict[str, Any]:
    told = show.step(at, traceback=traces)["error"]
    return _event(at.node, at.started_at, at.ended_at, told is not None or at.state == STEP_ABORTED, told)


def _event(
    name: str, began: float, ended: float | None, failed: bool, told: dict[str, Any] | None
) -> dict[str, Any]:  # fmt: skip
    told = told or {}
    shown: dict[str, Any] = {
        "event": name,
        "start_time": show.moment(began),
        "finish_time": show.moment(ended),
        "result": None if ended is None else "Error" if failed else "Success",
        "details": told.get("detail"),
    }
    return shown | {"traceback": told["traceback"]} if told.get("traceback") else shown


def _host(at: TaskRow, named: bool) -> dict[str, Any]:
    """Where the task runs, or ran last."""
    shown: dict[str, Any] = {"hostId": show.host_id(at.project_id, at.host or "")}
    return shown | {"host": at.host} if named else shown


def _deprecated(ident: str) -> list[tuple[str, str]]:
    return [
        ("Deprecation", f"@{DEPRECATED_AT}"),
        ("Link", f'<{view.place("servers", ident, "tasks")}>; rel="successor-version"'),
    ]


def routes(service: Service) -> list[Route]:
    if KIND not in service.hold.kinds:
        return []
    actions, place = Actions(service), "/v3/servers/{id}/os-instance-actions"
    query_of_list = (
        Param("limit", "how many at most", COUNT),
        Param("marker", "the request_id that the page before ended at"),
        Param("changes-since", "changed at this time or later", AT),
        Param("changes-before", "changed at this time or before", AT),
    )
    return [
        Route("GET", place, actions.listed, "tasks:read", "Nova's instance actions: the tasks of a server",
              query=query_of_list, answers={200: "InstanceActionList", 404: "Problem"}),
        Route("GET", f"{place}/{{action}}", actions.show, "tasks:read", "One instance action, with its events",
              answers={200: "InstanceActionOne", 404: "Problem"}),
    ]  # fmt: skip
