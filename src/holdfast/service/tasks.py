"""The routes of tasks: ask for one, list them, look at one, at its steps, its children, its flow and its log.

The verbs: verbs.py. What a list takes: tasks/params.py.
"""

from __future__ import annotations

from math import inf
from typing import Any, Final

import msgspec

from holdfast.core import states
from holdfast.service import graph, view
from holdfast.service.admission import Admission, NewTask
from holdfast.service.app import Service
from holdfast.service.paging import next_link, project_of
from holdfast.service.requests import Ask
from holdfast.service.routes import BOOLEAN, Answer, Param, Route
from holdfast.service.task_documents import TASK_FIELDS
from holdfast.store.base import Tx
from holdfast.tasks import listing, params, query, show
from holdfast.tasks.row import TaskRow

INLINE_MAX: Final = 100  # a longer page is always read on another thread
INLINE_CHARS_MAX: Final = 100_000  # a longer result, too
LOG_MAX: Final = 1000
SEQ_MAX: Final = 1 << 53
_COUNT: Final = {"type": "integer", "minimum": 0}
WAIT: Final = Param("wait", "seconds to wait for a change", {"type": "number", "minimum": 0})
_DATE: Final = "20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])"
_MOMENT: Final = f"{_DATE}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]{{1,6}})?Z"
AT: Final = {"type": "string", "pattern": f"^({_MOMENT})?$", "description": "a time, ISO 8601"}
_TIME: Final = {
    "type": "string", "pattern": f"^(((gt|gte|lt|lte|eq):)?{_MOMENT})?$",
    "description": "a time, or gt:, gte:, lt:, lte: and a time; may be given more than once",
}  # fmt: skip
WORD: Final = {
    "type": "string",
    "pattern": f"^{params.VALUE.pattern}$",
    "maxLength": params.VALUE_CHARS_MAX,
}
_ANY_STATE: Final = f"({'|'.join(states.API_STATES)})"
STATE: Final = {"type": "string", "pattern": f"^(in:)?{_ANY_STATE}(,{_ANY_STATE})*$"}
_STATE: Final = {"anyOf": [STATE, {"const": ""}]}
_FIELDS: Final = {"type": "string", "pattern": f"^(({'|'.join(TASK_FIELDS)})(,({'|'.join(TASK_FIELDS)}))*)?$"}
_ONE_SORT: Final = f"({'|'.join(listing.SORTS)})(:(asc|desc))?"

LIST_PARAMS: Final = (
    Param("state", "states, with commas, in any case", _STATE),
    Param("task_state", "the same as state", _STATE),
    Param("task", "the name of the operation or flow", WORD),
    Param("tag", "the tag it was asked for with", WORD),
    Param("resource_id", "what it is for", WORD),
    Param("resource_type", "the kind of what it is for", WORD),
    Param("user_id", "who asked for it", WORD),
    Param("request_id", "the request that made it", WORD),
    Param("origin", "api, agent:<name>, schedule or system", WORD),
    Param("parent_id", "the children of this task", WORD),
    Param("root_id", "all that is below this task", WORD),
    Param("depth", "all: children too", {"type": "string", "enum": ["", "roots", "all"]}),
    Param("created_at", "when it was asked for", _TIME, repeats=True),
    Param("start_time", "the same as created_at", _TIME, repeats=True),
    Param("last_updated", "when it last changed", _TIME, repeats=True),
    Param("updated_at", "the same as last_updated", _TIME, repeats=True),
    Param("changes-since", "changed at this time or later", AT),
    Param("changes-before", "changed at this time or before", AT),
    Param("limit", "how many at most", _COUNT),
    Param("marker", "the uuid of the last task of the page before"),
    Param(
        "sort",
        "created_at, last_updated or uuid, with :asc or :desc",
        {"type": "string", "pattern": f"^({_ONE_SORT})?$"},
    ),
    Param("fields", "which fields to show, with commas", _FIELDS),
    Param("project_id", "of another project (administrators)", WORD),
    Param("all_projects", "of all projects (administrators)", BOOLEAN),
)
_CHILD_PARAMS: Final = tuple(each for each in LIST_PARAMS if each.name not in ("parent_id", "root_id", "depth"))


class Tasks:
    """The handlers, and what they share."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.admission = Admission(service)

    # --- asking for one -------------------------------------------------------------------------------------------

    async def create(self, ask: Ask) -> Answer:
        submit = self.admission.of(ask)
        uuid = self.service.hold.clock.uuid7()

        def write(tx: Tx, now: float) -> tuple[TaskRow, bool, dict[str, Any]]:
            found = submit(tx, now, uuid)
            return found.task, found.replayed, view.new(tx, ask, found.task, found.request)

        task, replayed, shown = await self.service.bridge.write(write)
        return await view.accepted(ask, task, shown, replayed=replayed)

    # --- lists ----------------------------------------------------------------------------------------------------

    async def listed(self, ask: Ask) -> Answer:
        return await self.page(ask, ask.pairs)

    async def children(self, ask: Ask) -> Answer:
        above = await self.service.bridge.read(lambda tx: view.find(tx, ask, ask.path["task"]))
        pairs = [*ask.pairs, ("parent_id", above.uuid)]
        return await self.page(ask, pairs, project=above.project_id)

    async def page(self, ask: Ask, pairs: list[tuple[str, str]], *, project: str | None = None) -> Answer:
        asked = params.read(pairs, fields=TASK_FIELDS)
        wanted = asked.filter._replace(
            project_id=project or project_of(ask, asked.project_id, every=asked.all_projects)
        )

        def read(tx: Tx) -> dict[str, Any]:
            page = listing.page(tx, wanted, sort=asked.sort, limit=asked.limit, marker=asked.marker)
            shown = view.listed(tx, ask, page.tasks, asked.fields)
            return {"tasks": shown, "links": next_link(ask, page.marker)}

        bridge = self.service.bridge
        return Answer(body=await (bridge.read_some if asked.limit <= INLINE_MAX else bridge.read_json)(read))

    # --- one ------------------------------------------------------------------------------------------------------

    async def show(self, ask: Ask) -> Answer:
        service, uuid, wait_s = self.service, ask.path["task"], ask.wait_s()
        at, body = await self._shown(ask, uuid)
        seen = view.etag(at)
        if wait_s > 0 and not view.is_final(at) and (ask.has_seen(seen) or "if-none-match" not in ask.headers):
            latest = [at]

            async def changed() -> bool:
                latest[0] = await service.bridge.read(lambda tx: query.get(tx, uuid))
                return view.etag(latest[0]) != seen

            if await service.waiting.until(at.id, changed, wait_s, ask.gone):
                at, body = await self._shown(ask, uuid)
        headers = view.headers(at)
        if ask.prefers("wait") and wait_s > 0:
            headers.append(("Preference-Applied", f"wait={wait_s:g}"))
        if ask.has_seen(view.etag(at)):
            return Answer(304, None, headers)
        return Answer(200, body, headers)

    async def _shown(self, ask: Ask, uuid: str) -> tuple[TaskRow, Any]:
        """The task, and the body that shows it; what is large is read and written on another thread."""

        def read(tx: Tx, most: float) -> tuple[TaskRow, Any]:
            at = view.find(tx, ask, uuid)
            return at, {"task": view.task(tx, ask, at)} if len(at.result or "") <= most else None

        def read_whole(tx: Tx) -> tuple[TaskRow, bytes]:
            at, body = read(tx, inf)
            return at, msgspec.json.encode(body)

        at, body = await self.service.bridge.read(lambda tx: read(tx, INLINE_CHARS_MAX))
        return (at, body) if body is not None else await self.service.bridge.read_long(read_whole)

    async def steps(self, ask: Ask) -> Answer:
        limit = ask.integer("limit", listing.LIMIT_MAX, most=listing.LIMIT_MAX)
        behind = ask.integer("marker", -1, most=SEQ_MAX)
        traceback = self.service.policy.allows(ask.caller, "tasks:traceback")

        def read(tx: Tx) -> dict[str, Any]:
            rows = query.steps_page(tx, view.find(tx, ask, ask.path["task"]).id, behind, limit + 1)
            marker = str(rows[limit - 1].ord) if len(rows) > limit > 0 else None
            shown = [show.step(row, traceback=traceback) | {"number": row.ord} for row in rows[:limit]]
            return {"steps": shown, "links": next_link(ask, marker)}

        return Answer(body=await self.service.bridge.read_json(read))

    async def graph(self, ask: Ask) -> Answer:
        def read(tx: Tx) -> dict[str, Any]:
            at = view.find(tx, ask, ask.path["task"])
            reached = {step.node: step.state for step in query.steps_of(tx, at.id)}
            return {"graph": graph.of(query.outline_of(tx, at), reached)}

        return Answer(body=await self.service.bridge.read_json(read))

    async def log(self, ask: Ask) -> Answer:
        after = ask.integer("after", 0, most=SEQ_MAX)
        limit = ask.integer("limit", LOG_MAX, most=LOG_MAX)

        def read(tx: Tx) -> dict[str, Any]:
            found = query.journal_page(tx, view.find(tx, ask, ask.path["task"]).id, after, limit + 1)
            marker = str(found[limit - 1].seq) if len(found) > limit > 0 else None
            entries = [
                {"seq": each.seq, "kind": each.kind, "step": each.node, "at": show.moment(each.at),
                 "data": show.value(each.data) if each.data else None}
                for each in found[:limit]
            ]  # fmt: skip
            return {"log": entries, "links": next_link(ask, marker, name="after")}

        return Answer(body=await self.service.bridge.read_json(read))


def routes(service: Service) -> list[Route]:
    tasks = Tasks(service)
    one = "/v3/tasks/{task}"
    found = []
    for path in ("/v3/tasks", "/tasks"):
        found += [
            Route("GET", path, tasks.listed, "tasks:read", "List tasks, the newest first", query=LIST_PARAMS,
                  answers={200: "TaskList"}),
            Route("POST", path, tasks.create, "tasks:create", "Ask for a task", body=NewTask,
                  body_schema=tasks.admission.schema(), tagged=True,
                  answers={202: "TaskAccepted", 200: "TaskAccepted", 404: "Problem", 409: "Problem", 410: "Problem",
                           412: "Problem"}),
        ]  # fmt: skip
    found += [
        Route("GET", one, tasks.show, "tasks:read", "One task; with wait, once it has changed", query=(WAIT,),
              answers={200: "TaskOne", 304: None, 404: "Problem"}),
        Route("GET", f"{one}/steps", tasks.steps, "tasks:read", "Its steps that ever began, in that order",
              query=(Param("limit", "how many at most", _COUNT), Param("marker", "the last step's number", _COUNT)),
              answers={200: "StepList", 404: "Problem"}),
        Route("GET", f"{one}/tasks", tasks.children, "tasks:read", "Its children", query=_CHILD_PARAMS,
              answers={200: "TaskList", 404: "Problem"}),
        Route("GET", f"{one}/graph", tasks.graph, "tasks:read", "Its flow as a graph, and how far each step is",
              answers={200: "GraphOne", 404: "Problem"}),
        Route("GET", f"{one}/log", tasks.log, "tasks:log", "Its journal, for administrators",
              query=(Param("after", "the seq of the last entry", _COUNT), Param("limit", "how many at most", _COUNT)),
              answers={200: "LogList", 404: "Problem"}),
    ]  # fmt: skip
    return found
