"""What the service's documents look like, as types, and from them as JSON Schema (2020-12).

A Struct here says what an answer has; answers are made by tasks/show.py and the like as plain data, and the tests hold
the two together. `GET /v3/schemas/…` serves the schemas, the operations of kinds, and the state machines.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType, field

from holdfast.core import states
from holdfast.core.table import ANEW, IGNORE, REFUSE, Machine
from holdfast.service.app import Service
from holdfast.service.requests import Ask
from holdfast.service.routes import Answer, Route

REF: Final = "#/components/schemas/{name}"


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
    """What became of the verb for one task: `status` as its own answer would have been."""

    uuid: str
    status: int
    state: str
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
    VersionList, Health, Machines, Actions,
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


def task_schema() -> dict[str, Any]:
    """Of one task, by itself."""
    _, named = components([Task])
    text = msgspec.json.encode(named).decode().replace("#/components/schemas/", "#/$defs/")
    found: dict[str, Any] = msgspec.json.decode(text)
    task = found.pop("Task")
    found.pop("TaskListed", None)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "/v3/schemas/task",
        **task,
        "$defs": found,
    }


def machine(of: Machine) -> dict[str, Any]:
    """A state machine as data: its states, its edges, and what each state answers to each verb."""
    edges = [
        {"from": state, "event": event, "to": target}
        for state, row in of.rows.items()
        for event, target in row.moves.items()
        if target in of.rows
    ]
    answers = {state: {verb: _word(row.moves.get(verb, REFUSE)) for verb in of.verbs} for state, row in of.rows.items()}
    kinds = [{"name": state, "kind": row.kind} for state, row in of.rows.items()]
    return {"states": kinds, "edges": edges, "verbs": answers}


def _word(answer: str) -> str:
    return {IGNORE: "no-op", REFUSE: "refused", ANEW: "new task"}.get(answer, answer)


class Schemas:
    """The handlers."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._task = msgspec.json.encode(task_schema())

    async def task(self, ask: Ask) -> Answer:
        return Answer(body=self._task, media="application/schema+json")

    async def machines(self, ask: Ask) -> Answer:
        found = {name: machine(each) for name, each in states.MACHINES.items()}
        found |= {f"kind:{kind.name}": machine(kind.machine(check=False)) for kind in self._service.hold.kinds}
        return Answer(body={"machines": found})

    async def actions(self, ask: Ask) -> Answer:
        return Answer(body=actions(self._service))


def actions(service: Service) -> dict[str, Any]:
    """Everything that may be asked for: the operations of kinds, the flows that were registered, the verbs."""
    from holdfast.resources.describe import describe
    from holdfast.service.admission import Admission
    from holdfast.service.verbs import BODIES

    _, named = components(list(BODIES.values()))
    offers = Admission(service)
    return {
        "kinds": describe(service.hold.kinds),
        "flows": {name: offers.parameters(name) for name in offers.names},
        "verbs": {verb: named[kind.__name__] for verb, kind in BODIES.items()},
    }


def routes(service: Service) -> list[Route]:
    schemas = Schemas(service)
    media = ("application/schema+json", "application/json")
    return [
        Route("GET", "/v3/schemas/task", schemas.task, "schemas:read", "The JSON Schema of a task", media=media,
              answers={200: {"type": "object"}}),
        Route("GET", "/v3/schemas/actions", schemas.actions, "schemas:read", "Everything that may be asked for",
              answers={200: "Actions"}),
        Route("GET", "/v3/schemas/state-machines", schemas.machines, "schemas:read",
              "States, edges and what each verb does, of tasks, steps and kinds", answers={200: "Machines"}),
    ]  # fmt: skip
