"""How nodes and their tasks look to Ironic's clients, as plain data.

The types: service/node_documents.py. What clients send: ironic_bodies.py. Who asks, and for what: ironic.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from holdfast.core import states as task_states
from holdfast.resources.state import ResourceRow
from holdfast.service.node_documents import NodeDetail, NodeSummary
from holdfast.tasks import show
from holdfast.tasks.row import TaskRow

#: What a list shows of a node: all of it stands in the node's row.
SUMMARY: Final = tuple(NodeSummary.__struct_fields__)
#: What may be asked for with `fields`.
FIELDS: Final = tuple(NodeDetail.__struct_fields__)
BAD: Final = frozenset((task_states.FAILED, task_states.ABORTED))
LEAST: Final = ("uuid", "created_at", "severity", "event", "links")


def place(*parts: str) -> str:
    """The address of something below /v1/nodes."""
    return "/".join(("/v1/nodes", *(quote(part, safe="") for part in parts)))


def states(found: Mapping[str, Any]) -> dict[str, Any]:
    """A node's states, with their time as people and programs are told it."""
    return {**found, "provision_updated_at": show.moment(found["provision_updated_at"])}


def summary(at: ResourceRow) -> dict[str, Any]:
    """A node, as far as its row goes."""
    return {
        "uuid": at.id,
        "name": at.name or None,
        "instance_uuid": None,
        "maintenance": at.document.get("maintenance", False),
        "power_state": json.loads(at.observed).get("power_state"),
        "provision_state": at.lifecycle,
        "links": links(at.id),
    }


def node(found: Mapping[str, Any], states: Mapping[str, Any]) -> dict[str, Any]:
    """A node, of the document that /v3/resources shows, and its states."""
    wanted, ident = found["desired"], found["id"]
    return {
        "uuid": ident,
        "name": found["name"] or None,
        "driver": wanted.get("driver", ""),
        "driver_info": wanted.get("driver_info", {}),
        "extra": wanted.get("extra", {}),
        "properties": {},
        "maintenance": wanted.get("maintenance", False),
        "maintenance_reason": wanted.get("maintenance_reason"),
        **{name: states[name] for name in states if name in FIELDS},
        "fault": None,
        "instance_uuid": None,
        "reservation": None,  # nobody locks a node: what is asked of it meanwhile takes its turn
        "owner": found["project_id"],
        "created_at": show.moment(found["created_at"]),
        "updated_at": show.moment(found["updated_at"]),
        "sync_status": found["sync_status"],
        "revision": found["revision"],
        "applied_revision": found["applied_revision"],
        "last_task": found["last_task"],
        "queue_length": found["queue_length"],
        "links": links(ident),
        "states": [{"rel": "self", "href": place(ident, "states")}],
    }


def links(ident: str) -> list[dict[str, str]]:
    return [
        {"rel": "self", "href": place(ident)},
        {"rel": "bookmark", "href": f"/nodes/{quote(ident, safe='')}"},
        {"rel": "tasks", "href": f"/v3/nodes/{quote(ident, safe='')}/tasks"},
    ]


def only(shown: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    return {name: shown[name] for name in fields if name in shown}


# --- the history -------------------------------------------------------------------------------------------------


def event(at: TaskRow, ident: str, *, host: bool, detail: bool) -> dict[str, Any]:
    """A task on the node, as an entry of its history."""
    failed = show.error(at)
    why = f": {failed['detail']}" if failed is not None and at.state in BAD else ""
    name = at.operation or at.flow
    shown: dict[str, Any] = {
        "uuid": at.uuid,
        "created_at": show.moment(at.created_at),
        "severity": "ERROR" if at.state in BAD else "INFO",
        "event": f"{name} {task_states.api_state(at.state)}{why}",
        "event_type": name,
        "user": at.user_id,
        "project": at.project_id,
        "conductor": at.host if host else None,
        "state": task_states.api_state(at.state),
        "target_provision_state": None,
        "duration_seconds": None if at.finished_at is None else round(at.finished_at - at.created_at, 6),
        "links": [
            {"rel": "self", "href": place(ident, "history", at.uuid)},
            {"rel": "task", "href": f"/v3/tasks/{at.uuid}"},
        ],
    }
    return shown if detail else only(shown, LEAST)
