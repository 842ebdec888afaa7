"""The routes of resources, made from the kinds that are registered: nothing here knows any kind by name.

Every kind has the paths of `/v3/resources/{type}/…` and those under its own plural (`/v3/servers/…`), which say what
compatible clients expect. How a resource is shown there: compat/. How an operation is accepted: resources/operate.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from hashlib import blake2b
from typing import Any, Final

import msgspec

from holdfast.errors import PreconditionFailed, ResourceImmutable, ResourceNotFound, TaskNotFound
from holdfast.resources import state
from holdfast.resources.kind import CREATE, DELETE, RECONCILE, UPDATE, Kind
from holdfast.resources.operate import operate
from holdfast.resources.state import ResourceRow
from holdfast.service import compat, paging, view
from holdfast.service.app import Service
from holdfast.service.problems import RequestInvalid
from holdfast.service.requests import Ask
from holdfast.service.routes import BOOLEAN, COUNT, Answer, Param, Route
from holdfast.service.tasks import LIST_PARAMS, Tasks
from holdfast.store.base import Tx
from holdfast.tasks import query, show
from holdfast.tasks.row import TaskRow

_ANY_OPERATION: Final = {
    "type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": {"type": ["object", "null"]}
}  # fmt: skip
_PARAMS: Final = (
    Param("name", "of that name"),
    Param("status", "whether it is up"),
    Param("sync_status", "whether it is as desired", {"type": "string", "enum": ["", *state.SYNC_STATES]}),
    Param("limit", "how many at most", COUNT),
    Param("marker", "the id of the last resource of the page before"),
    Param("project_id", "of another project (administrators)"),
    Param("all_projects", "of all projects (administrators)", BOOLEAN),
)
_GONE: Final = (Param("deleted", "one that is no more, too", BOOLEAN),)
_OWN_PARAMS: Final = tuple(each for each in LIST_PARAMS if each.name not in ("resource_id", "resource_type"))
_TIMES: Final = ("created_at", "updated_at", "deleted_at")
_REFUSALS: Final = {404: "Problem", 409: "Problem", 410: "Problem", 412: "Problem"}
_ACCEPTED: Final[Mapping[int, Any]] = {202: "ResourceAccepted", 200: "ResourceAccepted", **_REFUSALS}
_REVISION_MAX: Final = 1 << 53


class NewAction(msgspec.Struct, forbid_unknown_fields=True):
    """An operation by its name, in small letters or in capitals."""

    action: str
    params: dict[str, Any] = {}


class Resources:
    """The handlers, and what they share."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._hold = service.hold
        self._tasks = Tasks(service)

    # --- reading --------------------------------------------------------------------------------------------------

    async def listed(self, kind: Kind | None, ask: Ask) -> Answer:
        kind, plain = kind or self._kind(ask), kind is None
        limit = ask.integer("limit", state.LIMIT, most=state.LIMIT_MAX)
        project, sync_status = paging.project(ask), ask.text("sync_status").upper()
        if sync_status and sync_status not in state.SYNC_STATES:
            raise RequestInvalid(f"sync_status is one of {', '.join(state.SYNC_STATES)}", parameter="sync_status")

        def read(tx: Tx) -> dict[str, Any]:
            rows = state.page(
                tx, kind.name, project_id=project, name=ask.text("name") or None, status=ask.text("status") or None,
                sync_status=sync_status or None, limit=limit + 1, marker=ask.text("marker") or None,
            )  # fmt: skip
            shown = [self._shown(tx, ask, kind, row, plain=plain) for row in rows[:limit]]
            marker = rows[limit - 1].id if len(rows) > limit > 0 else None
            return {"resources" if plain else kind.plural: shown, "links": paging.next_link(ask, marker)}

        return Answer(body=await self._service.bridge.read_json(read))

    async def show(self, kind: Kind | None, ask: Ask) -> Answer:
        kind, plain = kind or self._kind(ask), kind is None

        def read(tx: Tx) -> tuple[ResourceRow, dict[str, Any]]:
            row = self._row(tx, ask, kind, deleted=ask.boolean("deleted"))
            return row, self._shown(tx, ask, kind, row, plain=plain)

        row, shown = await self._service.bridge.read(read)
        body = msgspec.json.encode({"resource" if plain else kind.name: shown})
        # The revision, which If-Match is about; and what else is shown, which changes without one.
        etag = f'"{row.revision}.{blake2b(body, digest_size=8).hexdigest()}"'
        if ask.has_seen(etag):
            return Answer(304, None, [("ETag", etag)])
        return Answer(body=body, headers=[("ETag", etag)])

    async def revisions(self, ask: Ask) -> Answer:
        kind = self._kind(ask)
        limit = ask.integer("limit", state.LIMIT, most=state.LIMIT_MAX)
        before = ask.integer("marker", 0, most=_REVISION_MAX) or None

        def read(tx: Tx) -> dict[str, Any]:
            row = self._row(tx, ask, kind, deleted=True)
            found = state.revisions_of(tx, row, limit=limit + 1, before=before)
            shown = [each | {"created_at": show.moment(each["created_at"])} for each in found[:limit]]
            marker = str(shown[-1]["revision"]) if len(found) > limit > 0 else None
            return {"revisions": shown, "links": paging.next_link(ask, marker)}

        return Answer(body=await self._service.bridge.read_json(read))

    async def tasks(self, kind: Kind | None, ask: Ask) -> Answer:
        """Of a resource; or the one with that tag, where no resource of the project has that id."""
        kind, ident = kind or self._kind(ask), ask.path["id"]

        def read(tx: Tx) -> tuple[str, str, str]:
            row = self._known(tx, ask, kind, ident)
            if row is not None:
                return row.project_id, "resource_id", row.id
            tagged = query.find_by_tag(tx, ask.caller.project_id, ident)
            if tagged is None or tagged.resource_type != kind.name:
                raise ResourceNotFound(f"there is no {kind.name} {ident[:80]}, and no task of yours is tagged so")
            return tagged.project_id, "tag", ident

        project, name, value = await self._service.bridge.read(read)
        pairs = [*ask.pairs, (name, value), ("resource_type", kind.name)]
        answer = await self._tasks.page(ask, pairs, project=project)
        return answer._replace(headers=[("Task-tag", ident)]) if name == "tag" else answer

    async def task(self, kind: Kind, ask: Ask) -> Answer:
        def read(tx: Tx) -> tuple[TaskRow, dict[str, Any]]:
            at = view.find(tx, ask, ask.path["task"])
            ident = ask.path["id"]
            row = self._known(tx, ask, kind, ident)
            known = at.resource_id == row.id if row is not None else at.tag == ident
            if not known or at.resource_type != kind.name:
                raise TaskNotFound(f"{kind.name} {ident[:80]} has no task {at.uuid}", task=at.uuid)
            return at, view.task(tx, ask, at)

        at, shown = await self._service.bridge.read(read)
        return Answer(body={"task": shown}, headers=view.headers(at))

    # --- asking ---------------------------------------------------------------------------------------------------

    async def create(self, kind: Kind, ask: Ask) -> Answer:
        given = ask.data
        if list(given) != [kind.name] or not isinstance(given[kind.name], dict):
            raise RequestInvalid(f'the body is {{"{kind.name}": {{…}}}}, with the fields of /v3/schemas/actions')
        return await self._operate(ask, kind, CREATE, None, desired=given[kind.name])

    async def put(self, ask: Ask) -> Answer:
        """Say what is desired; of one that is not there yet, too."""
        return await self._operate(ask, self._kind(ask), None, ask.path["id"], desired=ask.data)

    async def delete(self, kind: Kind | None, ask: Ask) -> Answer:
        return await self._operate(ask, kind or self._kind(ask), DELETE, ask.path["id"])

    async def reconcile(self, ask: Ask) -> Answer:
        return await self._operate(ask, self._kind(ask), RECONCILE, ask.path["id"])

    async def action(self, kind: Kind | None, ask: Ask) -> Answer:
        """`{"reboot": {"type": "SOFT"}}`: one key, the operation; null or {} where it takes nothing."""
        kind, given = kind or self._kind(ask), ask.data
        if len(given) != 1:
            raise RequestInvalid('the body has one key, the operation: {"reboot": {"type": "SOFT"}}')
        ((name, params),) = given.items()
        if params is not None and not isinstance(params, dict):
            raise RequestInvalid(f"{name[:80]} takes an object of parameters, or null")
        return await self._by_name(ask, kind, compat.operation(kind, name), params or {})

    async def new_task(self, kind: Kind, ask: Ask) -> Answer:
        asked: NewAction = ask.data
        name = asked.action.lower() if asked.action.isupper() else asked.action
        return await self._by_name(ask, kind, compat.operation(kind, name), asked.params)

    async def _by_name(self, ask: Ask, kind: Kind, name: str, params: dict[str, Any]) -> Answer:
        operation = kind.get(name)
        if operation.creates:
            raise RequestInvalid(f"{name} is asked for with POST /v3/{kind.plural}")
        if operation.desires and operation.params is None:
            return await self._operate(ask, kind, name, ask.path["id"], desired=params)
        return await self._operate(ask, kind, name, ask.path["id"], params=params)

    async def _operate(
        self, ask: Ask, kind: Kind, name: str | None, ident: str | None, *, params: Mapping[str, Any] | None = None,
        desired: Mapping[str, Any] | None = None,
    ) -> Answer:  # fmt: skip
        """`name` None: create or update it, as it needs."""
        admission = self._tasks.admission
        common = admission.asked(ask, kind.name, resource_id=ident, params=params or {}, desired=desired)
        if name == CREATE:
            ask.check_new(f"a new {kind.name}")
        hold, uuid = self._hold, self._hold.clock.uuid7()
        plain = ask.route.path.startswith("/v3/resources/")

        def write(tx: Tx, now: float) -> tuple[TaskRow, bool, dict[str, Any], dict[str, Any] | None]:
            word = name or self._put_as(tx, ask, kind, ident or "")
            try:
                return accept(tx, now, word)
            except ResourceImmutable:
                if name is not None or self._put_as(tx, ask, kind, ident or "") == word:
                    raise
            return accept(tx, now, UPDATE)  # another has made it since we looked; nothing is written yet

        def accept(tx: Tx, now: float, word: str) -> tuple[TaskRow, bool, dict[str, Any], dict[str, Any] | None]:
            admission.check_agent(ask, kind.name, word)
            # An administrator acts in the project of the resource, whoever he is.
            above = None if ident is None or word == CREATE else self._known(tx, ask, kind, ident)
            asked = common._replace(operation=kind.get(word).name)
            found = operate(
                tx, hold.kinds, asked if above is None else asked._replace(project_id=above.project_id), now, uuid
            )
            if word == UPDATE and not found.replayed and ask.headers.get("if-none-match", "").strip() == "*":
                raise PreconditionFailed(f"there is a {kind.name} {(ident or '')[:80]} already")
            beside = None
            if desired is not None and found.resource is not None:  # who desires something sees it at once
                beside = self._shown(tx, ask, kind, found.resource, plain=plain)
            return found.task, found.replayed, view.new(tx, ask, found.task, found.request), beside

        at, replayed, shown, beside = await self._service.bridge.write(write)
        place = view.place(kind.plural, at.resource_id or "")
        location = view.location(at) if plain or ident is None else f"{place}/tasks/{at.uuid}"
        what = {} if beside is None else {"resource" if plain else kind.name: beside}
        answer = await view.accepted(
            ask, at, shown, replayed=replayed, location=location, beside=what,
            more=[("Link", f'<{place}>; rel="related"')],
        )  # fmt: skip
        if what and answer.status == 200:  # the task has ended meanwhile
            answer.body.update(await self._service.bridge.read(lambda tx: self._anew(tx, ask, kind, at, plain=plain)))
        return answer

    def _put_as(self, tx: Tx, ask: Ask, kind: Kind, ident: str) -> str:
        """Whether a PUT creates or updates. Raises: PreconditionFailed."""
        if CREATE not in kind.operations or self._known(tx, ask, kind, ident) is not None:
            return UPDATE
        ask.check_new(f"{kind.name} {ident[:80]}")
        return CREATE  # which another project's id refuses

    def _anew(self, tx: Tx, ask: Ask, kind: Kind, at: TaskRow, *, plain: bool) -> dict[str, Any]:
        """What is shown beside a task, as it is now."""
        row = state.find(tx, kind.name, at.resource_id or "")
        assert row is not None
        return {"resource" if plain else kind.name: self._shown(tx, ask, kind, row, plain=plain)}

    # --- parts ----------------------------------------------------------------------------------------------------

    def _kind(self, ask: Ask) -> Kind:
        return self._hold.kinds.kind(ask.path["type"])

    def _known(self, tx: Tx, ask: Ask, kind: Kind, ident: str) -> ResourceRow | None:
        """The resource, there or gone, if the asker may know of it."""
        row = state.find(tx, kind.name, ident)
        return row if row is not None and view.project_seen(ask) in (None, row.project_id) else None

    def _row(self, tx: Tx, ask: Ask, kind: Kind, *, deleted: bool = False) -> ResourceRow:
        return state.read(tx, kind.name, ask.path["id"], project_id=view.project_seen(ask), deleted=deleted)

    def _shown(self, tx: Tx, ask: Ask, kind: Kind, row: ResourceRow, *, plain: bool) -> dict[str, Any]:
        """`plain`: as /v3/resources has it; else as clients know that kind."""
        found = state.show(tx, row)
        found |= {name: show.moment(found[name]) for name in _TIMES}
        found["links"] = links(kind, row)
        return found if plain else compat.shape(tx, ask, kind, row, found)


def links(kind: Kind, row: ResourceRow) -> list[dict[str, str]]:
    place = view.place(kind.plural, row.id)
    return [
        {"rel": "self", "href": place},
        {"rel": "bookmark", "href": view.place("resources", kind.name, row.id)},
        {"rel": "tasks", "href": f"{place}/tasks"},
    ]


def routes(service: Service) -> list[Route]:
    resources = Resources(service)
    found = _generic(resources)
    for kind in service.hold.kinds:
        found += _own(resources, kind)
    return found


def _generic(of: Resources) -> list[Route]:
    many, one = "/v3/resources/{type}", "/v3/resources/{type}/{id}"
    limit = (Param("limit", "how many at most", COUNT), Param("marker", "the revision of the page's end before", COUNT))
    return [
        Route("GET", many, partial(of.listed, None), "resources:read", "Resources of a kind, by id", query=_PARAMS,
              answers={200: "ResourceList", 404: "Problem"}),
        Route("GET", one, partial(of.show, None), "resources:read", "What is desired of it, what it is, and whether "
              "both agree", query=_GONE, answers={200: "ResourceOne", 304: None, 404: "Problem"}),
        Route("PUT", one, of.put, "resources:write", "Say what is desired of it", body=dict[str, Any], tagged=True,
              answers=_ACCEPTED),
        Route("DELETE", one, partial(of.delete, None), "resources:write", "Ask for its end", tagged=True,
              answers=_ACCEPTED),
        Route("POST", f"{one}/action", partial(of.action, None), "resources:write", "Ask for an operation",
              body=dict[str, Any], body_schema=_ANY_OPERATION, tagged=True, answers=_ACCEPTED),
        Route("POST", f"{one}/reconcile", of.reconcile, "resources:reconcile", "Make it what is desired, where it is "
              "not", body=dict[str, Any], body_needed=False, tagged=True, answers=_ACCEPTED),
        Route("GET", f"{one}/revisions", of.revisions, "resources:read", "What was ever desired of it, and by which "
              "task", query=limit, answers={200: "RevisionList", 404: "Problem"}),
        Route("GET", f"{one}/tasks", partial(of.tasks, None), "tasks:read", "Its tasks, the newest first",
              query=_OWN_PARAMS, answers={200: "TaskList", 404: "Problem", 410: "Problem"}),
    ]  # fmt: skip


def _own(of: Resources, kind: Kind) -> list[Route]:
    many, name = f"/v3/{kind.plural}", kind.name
    one = f"{many}/{{id}}"
    found = [
        Route("GET", many, partial(of.listed, kind), "resources:read", f"{kind.title}s, by id", query=_PARAMS,
              answers={200: {"type": "object"}}),
        Route("GET", one, partial(of.show, kind), "resources:read", f"One {name}", query=_GONE,
              answers={200: _closed(name, {"type": "object"}), 304: None, 404: "Problem"}),
        Route("GET", f"{one}/tasks", partial(of.tasks, kind), "tasks:read",
              f"The tasks of a {name}, or the one with that tag", query=_OWN_PARAMS,
              answers={200: "TaskList", 404: "Problem", 410: "Problem"}),
        Route("GET", f"{one}/tasks/{{task}}", partial(of.task, kind), "tasks:read", f"One task of a {name}",
              answers={200: "TaskOne", 404: "Problem"}),
        Route("POST", f"{one}/tasks", partial(of.new_task, kind), "resources:write", f"Operate on a {name}",
              body=NewAction, body_schema=_new_action(kind), tagged=True, answers=_ACCEPTED),
    ]  # fmt: skip
    if kind.name in compat.DETAILED:
        found.insert(0, found[0]._replace(path=f"{many}/detail"))
    found += [
        Route("POST", f"{one}/{word}", partial(of.action, kind), "resources:write", f"Ask for an operation on a {name}",
              body=dict[str, Any], body_schema=_actions(kind), tagged=True, answers=_ACCEPTED)
        for word in ("action", "actions")
    ]  # fmt: skip
    if CREATE in kind.operations:
        found.append(
            Route("POST", many, partial(of.create, kind), "resources:write", f"Ask for a new {name}",
                  body=dict[str, Any], body_schema=_closed(kind.name, kind.fields), tagged=True, answers=_ACCEPTED)
        )  # fmt: skip
    if DELETE in kind.operations:
        found.append(
            Route("DELETE", one, partial(of.delete, kind), "resources:write", f"Ask for the end of a {name}",
                  tagged=True, answers=_ACCEPTED)
        )  # fmt: skip
    return found


def _closed(name: str, schema: Any) -> dict[str, Any]:
    """An object with that key and no other."""
    return {"type": "object", "properties": {name: schema}, "required": [name], "additionalProperties": False}


def _operations(kind: Kind) -> list[tuple[str, Any, bool]]:
    """What may be asked of one that is there: each word, what it takes, and whether it can do without."""
    found: list[tuple[str, Any, bool]] = []
    for name, operation in kind.operations.items():
        if operation.creates:
            continue
        takes = kind.fields if operation.desires and operation.params is None else operation.params
        if takes is None:
            found.append((name, {"type": "object", "maxProperties": 0}, True))
        else:
            found.append((name, takes, not any(field.required for field in msgspec.structs.fields(takes))))
    words = [(word, name) for word, name in compat.words(kind).items() if name in kind.operations]
    return found + [(word, takes, free) for word, name in words for same, takes, free in found if same == name]


def _actions(kind: Kind) -> dict[str, Any]:
    """One key, the operation, with its parameters."""
    return {
        "anyOf": [
            _closed(word, {"anyOf": [{"type": "null"}, takes]} if free else takes)
            for word, takes, free in _operations(kind)
        ]
    }


def _new_action(kind: Kind) -> dict[str, Any]:
    found = []
    for word, takes, free in _operations(kind):
        one = _closed("action", {"enum": [word, word.upper()]})
        one["properties"]["params"] = takes
        found.append(one if free else one | {"required": ["action", "params"]})
    return {"anyOf": found}
