"""`GET /v3/schemas/…`: the schema of a task, the operations of kinds, and the state machines, as JSON.

The documents themselves: documents.py.
"""

from __future__ import annotations

from typing import Any

import msgspec

from holdfast.core import states
from holdfast.core.table import ANEW, IGNORE, REFUSE, Machine
from holdfast.service.app import Service
from holdfast.service.documents import components
from holdfast.service.requests import Ask
from holdfast.service.routes import Answer, Route
from holdfast.service.task_documents import Task


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
