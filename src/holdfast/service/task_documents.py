"""What tasks look like in answers, as types: one task, lists, steps, the log, the graph, what became of a verb.

The other documents, and the schemas of all: documents.py.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType, field


class Link(msgspec.Struct):
    rel: str
    href: str


class Claimed(msgspec.Struct):
    type: str
    id: str
    mode: str
    resource: str


class Progress(msgspec.Struct):
    percent: int
    completed: int
    total: int
    step: str | None
    message: str | None
    updated_at: str | None


class TaskError(msgspec.Struct):
    code: str
    title: str
    detail: str
    step: str | None
    retryable: bool
    cause: list[str]
    traceback: str | UnsetType | None = UNSET


class RestingStep(msgspec.Struct):
    step: str
    answers: list[str]


class WorkerSeen(msgspec.Struct):
    heartbeat_at: str | None
    stale: bool


class Task(msgspec.Struct):
    """A task. What a list leaves out unless it is asked for with `fields` may be absent; `host` and tracebacks are for
    administrators."""

    uuid: str
    task: str
    state: str
    reason: str | None
    tag: str | None
    resource: dict[str, str]
    resource_id: str | None
    resource_type: str | None
    request_id: str
    global_request_id: str | None
    user_id: str
    project_id: str
    origin: str
    parent_id: str | None
    root_id: str | None
    retry_of: str | None
    rollback_of: str | None
    attempt: int
    created_at: str
    start_time: str
    executed_at: str | None
    last_updated: str
    finish_time: str | None
    expires_at: str | None
    priority: int
    flow: str
    version: str
    pool: str
    worker: WorkerSeen | None
    progress: Progress
    direction: str
    goal: str | None
    effect: str
    revert: str
    resting: list[RestingStep]
    error: TaskError | None
    supported_verbs: list[str]
    host_id: str = field(name="hostId")
    links: list[Link]
    host: str | UnsetType | None = UNSET
    claims: list[Claimed] | UnsetType = UNSET
    queue_position: int | UnsetType | None = UNSET
    blocked_by: list[str] | UnsetType = UNSET
    params: Any | UnsetType = UNSET
    result: Any | UnsetType = UNSET


TASK_FIELDS: Final = tuple(Task.__struct_encode_fields__)


class TaskOne(msgspec.Struct):
    task: Task


class TaskAccepted(msgspec.Struct):
    """`message` says that the same request had been accepted before."""

    task: Task
    message: str | UnsetType = UNSET


class TaskList(msgspec.Struct):
    tasks: list[Any]
    links: list[Link]


class Step(msgspec.Struct):
    id: str
    number: int
    state: str
    attempt: int
    started_at: str | None
    ended_at: str | None
    progress: float | None
    message: str | None
    error: TaskError | None


class StepList(msgspec.Struct):
    steps: list[Step]
    links: list[Link]


class LogEntry(msgspec.Struct):
    seq: int
    kind: str
    step: str | None
    at: str | None
    data: Any


class LogList(msgspec.Struct):
    log: list[LogEntry]
    links: list[Link]


class Node(msgspec.Struct):
    id: str
    kind: str
    state: str | None
    body: int | UnsetType = UNSET


class Edge(msgspec.Struct, rename={"source": "from", "target": "to"}):
    source: str
    target: str


class Element(msgspec.Struct):
    id: str
    state: str


class Body(msgspec.Struct):
    nodes: list[Node]
    edges: list[Edge]


class Graph(msgspec.Struct):
    nodes: list[Node]
    edges: list[Edge]
    bodies: list[Body]
    elements: list[Element]


class GraphOne(msgspec.Struct):
    graph: Graph


class VerbDone(msgspec.Struct):
    """What became of the verb for one task: `status` as its own answer would have been. `state` is null where the task
    is no more: it was purged after it was found to match."""

    uuid: str
    status: int
    state: str | None
    new_task: str | None
    error: dict[str, Any] | None


class VerbsDone(msgspec.Struct):
    """`more`: others match that were not reached; ask again."""

    tasks: list[VerbDone]
    more: bool


class Adopted(msgspec.Struct):
    task: Task
    adopted: bool
    missing: list[str]
    to_run: list[str]
