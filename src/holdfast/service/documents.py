"""What the service's documents look like, as types, and from them as JSON Schema (2020-12).

A Struct here says what an answer has; answers are made by tasks/show.py and the like as plain data, and the tests hold
the two together. Those of tasks: task_documents.py; of nodes: node_documents.py. Where the schemas are served:
schemas.py, openapi.py.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType, field

from holdfast.core import states
from holdfast.service.node_documents import (
    IronicRoot,
    NodeAccepted,
    NodeDetail,
    NodeEvent,
    NodeEventList,
    NodeList,
    NodeStates,
    SupportedPowerStates,
)
from holdfast.service.task_documents import (
    Adopted,
    GraphOne,
    Link,
    LogList,
    StepList,
    Task,
    TaskAccepted,
    TaskList,
    TaskOne,
    VerbsDone,
)

REF: Final = "#/components/schemas/{name}"


class ErrorEntry(msgspec.Struct):
    request_id: str
    code: str
    status: int
    title: str
    detail: str
    links: list[Link]


class Problem(msgspec.Struct):
    """An error, as RFC 9457 and the API-SIG's guideline have it. Some have more members, which say what is allowed."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    errors: list[ErrorEntry]


class ErrorPage(msgspec.Struct):
    code: str
    status: int
    title: str
    detail: str
    retryable: bool


class QueuedTask(msgspec.Struct):
    uuid: str
    task: str
    state: str


class FailedTask(msgspec.Struct):
    """The task whose failure nothing has made good yet."""

    uuid: str
    task: str
    step: str | None
    error: dict[str, Any] | None


class Resource(msgspec.Struct):
    """`status`: whether it is up. `sync_status`: whether it is as desired. `lifecycle`: where it stands."""

    id: str
    type: str
    project_id: str
    name: str
    status: str
    sync_status: str
    lifecycle: str
    revision: int
    applied_revision: int
    desired: dict[str, Any]
    applied: dict[str, Any] | None
    observed: dict[str, Any]
    last_task: str | None
    last_failed_task: FailedTask | None
    queue: list[QueuedTask]
    queue_length: int
    created_at: str | None
    updated_at: str | None
    deleted_at: str | None
    links: list[Link]


class ResourceOne(msgspec.Struct):
    resource: Resource


class ResourceAccepted(msgspec.Struct):
    """The task, and beside it the resource: as `resource`, or under the name of its kind."""

    task: Task
    resource: Resource | UnsetType = UNSET
    message: str | UnsetType = UNSET


class ResourceList(msgspec.Struct):
    resources: list[Resource]
    links: list[Link]


class Revision(msgspec.Struct):
    """`task_id`: the task that brought it."""

    revision: int
    desired: dict[str, Any]
    task_id: str
    created_at: str | None
    applied: bool


class RevisionList(msgspec.Struct):
    revisions: list[Revision]
    links: list[Link]


class InstanceEvent(msgspec.Struct):
    event: str
    start_time: str | None
    finish_time: str | None
    result: str | None
    details: str | None
    traceback: str | UnsetType = UNSET
    host: str | UnsetType | None = UNSET
    host_id: str | UnsetType = field(name="hostId", default=UNSET)


class InstanceAction(msgspec.Struct):
    """As Nova has it; `message` is Error, or null."""

    action: str
    instance_uuid: str
    message: str | None
    project_id: str
    request_id: str
    start_time: str | None
    updated_at: str | None
    user_id: str
    events: list[InstanceEvent] | UnsetType = UNSET


class InstanceActionOne(msgspec.Struct, rename="camel"):
    instance_action: InstanceAction


class InstanceActionList(msgspec.Struct, rename={"instance_actions": "instanceActions"}):
    instance_actions: list[InstanceAction]
    links: list[Link] | UnsetType = UNSET


class Version(msgspec.Struct):
    id: str
    status: str
    min_version: str
    max_version: str
    version: str
    links: list[Link]
    holdfast: str
    retention: dict[str, float]
    limits: dict[str, Any]


class VersionOne(msgspec.Struct):
    version: Version


class VersionList(msgspec.Struct):
    versions: list[Version]


class Health(msgspec.Struct):
    status: str


class Machines(msgspec.Struct):
    machines: dict[str, Any]


class Actions(msgspec.Struct):
    kinds: dict[str, Any]
    flows: dict[str, Any]
    verbs: dict[str, Any]


ANSWERS: Final = (
    TaskOne, TaskAccepted, TaskList, StepList, LogList, GraphOne, VerbsDone, Adopted, Problem, ErrorPage, VersionOne,
    VersionList, Health, Machines, Actions, ResourceOne, ResourceAccepted, ResourceList, RevisionList,
    InstanceActionOne, InstanceActionList, IronicRoot, NodeDetail, NodeStates, NodeAccepted, NodeList, NodeEvent,
    NodeEventList, SupportedPowerStates,
)  # fmt: skip
#: By name, for routes.
BY_NAME: Final[dict[str, Any]] = {kind.__name__: kind for kind in ANSWERS}


def components(kinds: list[Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The schemas of these types, and what they refer to, by name. What is closed in Python's words is in JSON
    Schema's too."""
    made, named = msgspec.json.schema_components(kinds, ref_template=REF)
    listed = named.get("Task")
    if listed is not None:
        _say_more(listed)
        named["TaskListed"] = {**listed, "required": [], "title": "TaskListed"}
    if "TaskList" in named:
        named["TaskList"]["properties"]["tasks"] = {"type": "array", "items": {"$ref": REF.format(name="TaskListed")}}
    return list(made), dict(named)


def _say_more(task: dict[str, Any]) -> None:
    """What the types can't say of a task."""
    properties = task["properties"]
    properties["uuid"] |= {"format": "uuid"}
    properties["state"] |= {"enum": list(states.API_STATES)}
    properties["effect"] |= {"enum": ["none", "partial", "applied", "unknown"]}
    properties["revert"] |= {"enum": ["none", "partial", "done", "failed"]}
    for name in ("created_at", "start_time", "last_updated"):
        properties[name] |= {"format": "date-time"}
    for name in ("executed_at", "finish_time", "expires_at"):
        properties[name] = {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]}
