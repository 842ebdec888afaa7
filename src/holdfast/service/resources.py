"""The routes of resources, made from the kinds that are registered: nothing here knows any kind by name.

Every kind has the paths of `/v3/resources/{type}/…` and those under its own plural (`/v3/servers/…`), which say what
compatible clients expect. How a resource is shown there: compat/. How an operation is accepted: resources/operate.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import msgspec

from holdfast.errors import PolicyForbidden, ResourceNotFound, TaskNotFound
from holdfast.resources import state
from holdfast.resources.kind import CREATE, DELETE, RECONCILE, UPDATE, Kind
from holdfast.resources.operate import Asked, operate
from holdfast.resources.state import ResourceRow
from holdfast.service import compat, view
from holdfast.service.app import Service
from holdfast.service.problems import RequestInvalid
from holdfast.service.requests import Ask
from holdfast.service.routes import INTEGER, Answer, Param, Route
from holdfast.service.tasks import LIST_PARAMS, Tasks, next_link
from holdfast.store.base import Tx
from holdfast.tasks import query, show
from holdfast.tasks.row import TaskRow

_PARAMS: Final = (
    Param("name", "of that name"),
    Param("status", "whether it is up"),
    Param("sync_status", "whether it is as desired", {"type": "string", "enum": ["", *state.SYNC_STATES]}),
    Param("limit", "how many at most", INTEGER),
    Param("marker", "the id of the last resource of the page before"),
    Param("project_id", "of another project (administrators)"),
    Param("all_projects", "of all projects (administrators)", {"type": "boolean"}),
)
_OWN_PARAMS: Final = tuple(each for each in LIST_PARAMS if each.name not in ("resource_id", "resource_type"))
_TIMES: Final = ("created_at", "updated_at", "deleted_at")
_REFUSALS: Final = {404: "Problem", 409: "Problem", 410: "Problem", 412: "Problem"}
_ACCEPTED: Final[Mapping[int, Any]] = {202: "ResourceAccepted", 200: "ResourceAccepted", **_REFUSALS}


class NewAction(msgspec.Struct, forbid_unknown_fields=True):
    """An operation by its name, in any case."""

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
        project = self._project(ask)

        def read(tx: Tx) -> tuple[list[dict[str, Any]], str | None]:
            rows = state.page(
                tx, kind.name, project_id=project, name=ask.text("name") or None, status=ask.text("status") or None,
                sync_status=ask.text("sync_status").upper() or None, limit=limit + 1, marker=ask.text("marker") or None,
            )  # fmt: skip
            shown = [self._shown(tx, ask, kind, row, plain=plain) for row in rows[:limit]]
            return shown, rows[limit - 1].id if len(rows) > limit > 0 else None

        found, marker = await self._service.bridge.read_long(read)
        name = "resources" if plain else kind.plural
        return Answer(body={name: found, "links": next_link(ask, ask.url, marker)})

    async def show(self, kind: Kind | None, ask: Ask) -> Answer:
        kind, plain = kind or self._kind(ask), kind is None

        def read(tx: Tx) -> tuple[ResourceRow, dict[str, Any]]:
            row = self._row(tx, ask, kind)
            return row, self._shown(tx, ask, kind, row, plain=plain)

        row, shown = self._service.bridge.read(read)
        etag = f'"{row.revision}"'
        if ask.has_seen(etag):
            return Answer(304, None, [("ETag", etag)])
        return Answer(body={"resource" if plain else kind.name: shown}, headers=[("ETag", etag)])

    async def revisions(self, ask: Ask) -> Answer:
        kind = self._kind(ask)
        limit = ask.integer("limit", state.LIMIT, most=state.LIMIT_MAX)
        before = ask.integer("marker", 0) or None

        def read(tx: Tx) -> list[dict[str, Any]]:
            row = self._row(tx, ask, kind, deleted=True)
            return state.revisions_of(tx, row, limit=limit + 1, before=before)

        found = self._service.bridge.read(read)
        shown = [each | {"created_at": show.moment(each["created_at"])} for each in found[:limit]]
        marker = str(shown[-1]["revision"]) if len(found) > limit > 0 else None
        return Answer(body={"revisions": shown, "links": next_link(ask, ask.url, marker)})

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

        project, name, value = self._service.bridge.read(read)
        pairs = [*ask.pairs, (name, value), ("resource_type", kind.name)]
        return await self._tasks.page(ask, pairs, ask.url, project=project)

    async def task(self, kind: Kind, ask: Ask) -> Answer:
        def read(tx: Tx) -> tuple[TaskRow, dict[str, Any]]:
            at = view.find(tx, ask, ask.path["task"])
            row = self._known(tx, ask, kind, ask.path["id"])
            if row is None or (at.resource_type, at.resource_id) != (kind.name, row.id):
                raise TaskNotFound(f"{kind.name} {ask.path['id'][:80]} has no task {at.uuid}", task=at.uuid)
            return at, view.task(tx, ask, at)

        at, shown = self._service.bridge.read(read)
        return Answer(body={"task": shown}, headers=view.headers(at))

    # --- asking ---------------------------------------------------------------------------------------------------

    async def create(self, kind: Kind, ask: Ask) -> Answer:
        given = ask.data
        if list(given) != [kind.name] or not isinstance(given[kind.name], dict):
            raise RequestInvalid(f'the body is {{"{kind.name}": {{…}}}}, with the fields of /v3/schemas/actions')
        return await self._operate(ask, kind, CREATE, None, desired=given[kind.name])

    async def put(self, ask: Ask) -> Answer:
        """Say what is desired; of one that is not there yet, too."""
        kind, ident = self._kind(ask), ask.path["id"]
        known = self._service.bridge.read(lambda tx: state.find(tx, kind.name, ident))
        name = CREATE if known is None and CREATE in kind.operations else UPDATE
        if name == CREATE and "if-match" in ask.headers:
            raise ResourceNotFound(f"there is no {kind.name} {ident[:80]}", kind=kind.name, id=ident[:80])
        return await self._operate(ask, kind, name, ident, desired=ask.data)

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
        name = asked.action.lower()
        return await self._by_name(ask, kind, compat.operation(kind, name), asked.params)

    async def _by_name(self, ask: Ask, kind: Kind, name: str, params: dict[str, Any]) -> Answer:
        operation = kind.get(name)
        if operation.creates:
            raise RequestInvalid(f"{name} is asked for with POST /v3/{kind.plural}")
        if operation.desires and operation.params is None:
            return await self._operate(ask, kind, name, ask.path["id"], desired=params)
        return await self._operate(ask, kind, name, ask.path["id"], params=params)

    async def _operate(
        self, ask: Ask, kind: Kind, name: str, ident: str | None, *, params: Mapping[str, Any] | None = None,
        desired: Mapping[str, Any] | None = None,
    ) -> Answer:  # fmt: skip
        asked: Asked = self._tasks.admission.asked(ask)._replace(
            kind=kind.name, operation=kind.get(name).name, resource_id=ident, params=params or {}, desired=desired
        )
        self._tasks.admission.check_agent(ask, kind.name, name)
        hold, uuid = self._hold, self._hold.clock.uuid7()
        plain = ask.route.path.startswith("/v3/resources/")

        def write(tx: Tx, now: float) -> tuple[TaskRow, bool, dict[str, Any], dict[str, Any] | None]:
            # An administrator acts in the project of the resource, whoever he is.
            above = None if ident is None or name == CREATE else self._known(tx, ask, kind, ident)
            mine = asked if above is None else asked._replace(project_id=above.project_id)
            found = operate(tx, hold.kinds, mine, now, uuid)
            beside = None
            if desired is not None and found.resource is not None:  # who desires something sees it at once
                beside = self._shown(tx, ask, kind, found.resource, plain=plain)
            return found.task, found.replayed, view.task(tx, ask, found.task), beside

        at, replayed, shown, beside = await self._service.bridge.write(write)
        place = f"/v3/{kind.plural}/{at.resource_id}"
        location = view.location(at) if plain or ident is None else f"{place}/tasks/{at.uuid}"
        what = {} if beside is None else {"resource" if plain else kind.name: beside}
        return await view.accepted(
            ask, at, shown, replayed=replayed, location=location, beside=what,
            more=[("Link", f'<{place}>; rel="related"')],
        )  # fmt: skip

    # --- parts ----------------------------------------------------------------------------------------------------

    def _kind(self, ask: Ask) -> Kind:
        return self._hold.kinds.kind(ask.path["type"])

    def _sees_all(self, ask: Ask) -> bool:
        return self._service.policy.allows(ask.caller, "tasks:all_projects")

    def _project(self, ask: Ask) -> str | None:
        given, every = ask.text("project_id"), ask.boolean("all_projects")
        if not every and given in ("", ask.caller.project_id):
            return ask.caller.project_id
        if not self._sees_all(ask):
            raise PolicyForbidden("another project's resources are for administrators", rule="tasks:all_projects")
        return None if every else given

    def _known(self, tx: Tx, ask: Ask, kind: Kind, ident: str) -> ResourceRow | None:
        """The resource, there or gone, if the asker may know of it."""
        row = state.find(tx, kind.name, ident)
        mine = row is not None and (row.project_id == ask.caller.project_id or self._sees_all(ask))
        return row if mine else None

    def _row(self, tx: Tx, ask: Ask, kind: Kind, *, deleted: bool = False) -> ResourceRow:
        project = None if self._sees_all(ask) else ask.caller.project_id
        return state.read(tx, kind.name, ask.path["id"], project_id=project, deleted=deleted)

    def _shown(self, tx: Tx, ask: Ask, kind: Kind, row: ResourceRow, *, plain: bool) -> dict[str, Any]:
        """`plain`: as /v3/resources has it; else as clients know that kind."""
        found = state.show(tx, row)
        found |= {name: show.moment(found[name]) for name in _TIMES}
        found["links"] = links(kind, row)
        return found if plain else compat.shape(tx, ask, kind, row, found)


def links(kind: Kind, row: ResourceRow) -> list[dict[str, str]]:
    place = f"/v3/{kind.plural}/{row.id}"
    return [
        {"rel": "self", "href": place},
        {"rel": "bookmark", "href": f"/v3/resources/{kind.name}/{row.id}"},
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
    limit = (Param("limit", "how many at most", INTEGER), Param("marker", "the revision that the page before ended at"))
    return [
        Route("GET", many, partial(of.listed, None), "resources:read", "Resources of a kind, by id", query=_PARAMS,
              answers={200: "ResourceList", 404: "Problem"}),
        Route("GET", one, partial(of.show, None), "resources:read", "What is desired of it, what it is, and whether "
              "both agree", answers={200: "ResourceOne", 304: None, 404: "Problem"}),
        Route("PUT", one, of.put, "resources:write", "Say what is desired of it", body=dict[str, Any], tagged=True,
              answers=_ACCEPTED),
        Route("DELETE", one, partial(of.delete, None), "resources:write", "Ask for its end", tagged=True,
              answers=_ACCEPTED),
        Route("POST", f"{one}/action", partial(of.action, None), "resources:write", "Ask for an operation",
              body=dict[str, Any], tagged=True, answers=_ACCEPTED),
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
        Route("GET", one, partial(of.show, kind), "resources:read", f"One {name}",
              answers={200: {"type": "object"}, 304: None, 404: "Problem"}),
        Route("GET", f"{one}/tasks", partial(of.tasks, kind), "tasks:read",
              f"The tasks of a {name}, or the one with that tag", query=_OWN_PARAMS,
              answers={200: "TaskList", 404: "Problem", 410: "Problem"}),
        Route("GET", f"{one}/tasks/{{task}}", partial(of.task, kind), "tasks:read", f"One task of a {name}",
              answers={200: "TaskOne", 404: "Problem"}),
        Route("POST", f"{one}/tasks", partial(of.new_task, kind), "resources:write", f"Operate on a {name}",
              body=NewAction, tagged=True, answers=_ACCEPTED),
    ]  # fmt: skip
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


def _actions(kind: Kind) -> dict[str, Any]:
    """One key, the operation, with its parameters."""
    found = []
    for name, operation in kind.operations.items():
        if operation.creates:
            continue
        whole = operation.desires and operation.params is None
        params = kind.fields if whole else operation.params
        nothing = {"anyOf": [{"type": "null"}, {"type": "object", "maxProperties": 0}]}
        found.append(_closed(name, nothing if params is None else params))
    return {"anyOf": found}
