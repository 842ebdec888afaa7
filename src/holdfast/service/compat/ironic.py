"""Nodes as Ironic's clients know them: /v1/nodes, a node's states, its power, its maintenance and its history.

Theory: nothing here does anything to a node. What is asked for is an operation of the kind `node`, accepted as those
of any kind are (resources/operate.py), so it has a task, takes a tag and waits for its turn; it is not refused because
the node is busy. An answer has what Ironic's has and the task beside it, which Ironic's clients don't look at. A
target that Ironic never had, an abort, is one more operation.

A node is named by its id or by its name. How it looks: ironic_shapes.py. What is sent: ironic_bodies.py. Which
versions: service/microversion.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import msgspec
from sqlalchemy import bindparam, select

from holdfast.errors import ResourceNotFound, TaskNotFound
from holdfast.resources import state
from holdfast.resources.kind import CREATE, DELETE, UPDATE
from holdfast.resources.node import views, words
from holdfast.resources.operate import Accepted, Asked, operate
from holdfast.resources.registry import Kinds
from holdfast.resources.state import ResourceRow
from holdfast.service import microversion, paging, view
from holdfast.service.admission import Admission
from holdfast.service.compat import ironic_bodies as bodies
from holdfast.service.compat import ironic_shapes as shapes
from holdfast.service.problems import RequestInvalid
from holdfast.service.routes import Answer, Route
from holdfast.store.base import Tx
from holdfast.store.schema import tasks
from holdfast.tasks import query, row
from holdfast.tasks.row import TaskRow

if TYPE_CHECKING:
    from holdfast.service.app import Service
    from holdfast.service.requests import Ask

KIND: Final = "node"
MANY: Final = "/v1/nodes"
ONE: Final = "/v1/nodes/{node}"
LIMIT: Final = 1000

_of_node = (
    (tasks.c.resource_type == KIND)
    & (tasks.c.resource_id == bindparam("_id"))
    & (tasks.c.project_id == bindparam("_project"))
)
_TASKS: Final = select(tasks).where(_of_node).order_by(tasks.c.id.desc())

Desire = Callable[[dict[str, Any]], dict[str, Any]]


class Nodes:
    """The handlers."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._hold = service.hold
        self._admission = Admission(service)

    # --- reading --------------------------------------------------------------------------------------------------

    async def root(self, ask: Ask) -> Answer:
        """Where clients find out which versions there are."""
        own = [{"rel": "self", "href": "/v1/"}]
        version = {
            "id": "v1",
            "status": "CURRENT",
            "min_version": microversion.dotted(microversion.MIN),
            "version": microversion.dotted(microversion.MAX),
            "links": own,
        }
        nodes = [{"rel": "self", "href": f"{MANY}/"}, {"rel": "bookmark", "href": "/nodes/"}]
        return Answer(body={"id": "v1", "version": version, "links": own, "nodes": nodes})

    async def listed(self, ask: Ask) -> Answer:
        fields = bodies.fields_of(ask.text("fields"))
        detail = ask.boolean("detail") or ask.url.rstrip("/").endswith("/detail")
        fields = fields or (shapes.FIELDS if detail else shapes.SUMMARY)
        limit = ask.integer("limit", LIMIT, least=1, most=LIMIT)
        wanted = bodies.wanted(ask)
        project = paging.project(ask)

        def read(tx: Tx) -> dict[str, Any]:
            rows: list[ResourceRow] = []
            marker: str | None = ask.text("marker") or None
            while len(rows) <= limit:  # what is not a column is looked at here
                found = state.page(tx, KIND, project_id=project, limit=state.LIMIT_MAX, marker=marker)
                rows += [each for each in found if wanted(each)]
                if len(found) < state.LIMIT_MAX:
                    break
                marker = found[-1].id
            body: dict[str, Any] = {"nodes": [self._shown(tx, each, fields) for each in rows[:limit]]}
            for link in paging.next_link(ask, rows[limit - 1].id if len(rows) > limit else None):
                body["next"] = link["href"]
            return body

        return Answer(body=await self._service.bridge.read_json(read))

    async def show(self, ask: Ask) -> Answer:
        fields = bodies.fields_of(ask.text("fields")) or shapes.FIELDS

        def read(tx: Tx) -> tuple[ResourceRow, dict[str, Any]]:
            at = self._node(tx, ask)
            return at, self._shown(tx, at, fields)

        at, shown = await self._service.bridge.read(read)
        body = msgspec.json.encode(shown)
        etag = f'"{at.revision}.{blake2b(body, digest_size=8).hexdigest()}"'
        if ask.has_seen(etag):
            return Answer(304, None, [("ETag", etag)])
        return Answer(body=body, headers=[("ETag", etag)])

    async def states(self, ask: Ask) -> Answer:
        return Answer(body=await self._states(ask))

    async def supported(self, ask: Ask) -> Answer:
        return Answer(body={"supported_power_states": (await self._states(ask))["supported_power_states"]})

    async def _states(self, ask: Ask) -> dict[str, Any]:
        return await self._service.bridge.read(lambda tx: shapes.states(views.node_states(tx, self._node(tx, ask))))

    async def history(self, ask: Ask) -> Answer:
        limit = ask.integer("limit", LIMIT, least=1, most=LIMIT)
        marker, detail = ask.text("marker"), ask.boolean("detail")
        host = self._service.policy.allows(ask.caller, "tasks:host")

        def read(tx: Tx) -> dict[str, Any]:
            at = self._node(tx, ask)
            statement = _TASKS
            if marker:
                statement = statement.where(tasks.c.id < self._task(tx, at, marker).id)
            where = {"_id": at.id, "_project": at.project_id}
            found = [row.of(each) for each in tx.execute(statement.limit(limit + 1), where).all()]
            body: dict[str, Any] = {
                "history": [shapes.event(each, at.id, host=host, detail=detail) for each in found[:limit]]
            }
            for link in paging.next_link(ask, found[limit - 1].uuid if len(found) > limit else None):
                body["next"] = link["href"]
            return body

        return Answer(body=await self._service.bridge.read_json(read))

    async def event(self, ask: Ask) -> Answer:
        host = self._service.policy.allows(ask.caller, "tasks:host")

        def read(tx: Tx) -> dict[str, Any]:
            at = self._node(tx, ask)
            return shapes.event(self._task(tx, at, ask.path["event"]), at.id, host=host, detail=True)

        return Answer(body=await self._service.bridge.read(read))

    # --- asking ---------------------------------------------------------------------------------------------------

    async def enrol(self, ask: Ask) -> Answer:
        """The node is there at once, and its task looks whether it can be controlled."""
        given = dict(ask.plain)
        given.pop("uuid", None)
        ident = ask.data.uuid and ask.data.uuid.lower()
        wanted = bodies.wanted_of(given)
        return await self._operate(ask, CREATE, new=ident, desire=lambda known: wanted)

    async def change(self, ask: Ask) -> Answer:
        changes: list[bodies.NodeChange] = ask.data
        return await self._operate(ask, UPDATE, desire=lambda known: bodies.patched(known, changes))

    async def delete(self, ask: Ask) -> Answer:
        return await self._operate(ask, DELETE)

    async def maintain(self, ask: Ask) -> Answer:
        said = {"maintenance": True, "maintenance_reason": ask.data.reason}
        return await self._operate(ask, UPDATE, desire=lambda known: {**known, **said})

    async def maintain_no_more(self, ask: Ask) -> Answer:
        said = {"maintenance": False, "maintenance_reason": None}
        return await self._operate(ask, UPDATE, desire=lambda known: {**known, **said})

    async def provision(self, ask: Ask) -> Answer:
        return await self._operate(ask, ask.data.target, location="states")

    async def power(self, ask: Ask) -> Answer:
        asked: bodies.NodePower = ask.data
        target = words.target(asked.target)
        if target is None:
            raise RequestInvalid(
                f"{asked.target[:40]!r} is no power state to ask for: there is {', '.join(words.TARGETS)}",
                allowed=list(words.TARGETS),
            )
        params = {} if asked.timeout is None else {"timeout": asked.timeout}
        return await self._operate(ask, views.OPERATIONS[target], params=params, location="states")

    async def nmi(self, ask: Ask) -> Answer:
        return await self._operate(ask, views.OPERATIONS[words.INJECT_NMI], location="states")

    async def _operate(
        self, ask: Ask, name: str, *, params: Mapping[str, Any] | None = None, desire: Desire | None = None,
        new: str | None = None, location: str = "",
    ) -> Answer:  # fmt: skip
        """Ask for an operation. `desire`: what is wanted, of what was wanted before. `new`: the id of one that is to be
        made. `location`: what of the node the answer names; else the node itself, or the task of its end."""
        common = self._admission.asked(ask, KIND, name, params=params or {}, resource_id=new)
        hold, uuid = self._hold, self._hold.clock.uuid7()

        def write(tx: Tx, now: float) -> tuple[TaskRow, bool, dict[str, Any], dict[str, Any]]:
            self._admission.check_agent(ask, KIND, name)
            asked, known, wrong = common, {}, None
            if name != CREATE:
                above = self._known(tx, ask)
                asked = asked._replace(resource_id=ask.path["node"])
                if above is not None:  # an administrator acts in the project of the node, whoever he is
                    asked = asked._replace(resource_id=above.id, project_id=above.project_id)
                    locked = state.lock(tx, KIND, above.id)  # what is wanted is made of what is wanted now
                    known = (locked or above).document
            if desire is not None:
                try:
                    asked = asked._replace(desired=desire(known))
                except RequestInvalid as error:  # a request that was accepted before is known by its tag, first
                    wrong, asked = error, asked._replace(desired=known)
            found = _accepted(tx, hold.kinds, asked, now, uuid, wrong)
            beside = {}
            if desire is not None and found.resource is not None:
                beside = self._shown(tx, found.resource, shapes.FIELDS)
            return found.task, found.replayed, view.new(tx, ask, found.task, found.request), beside

        at, replayed, shown, beside = await self._service.bridge.write(write)
        ident = at.resource_id or ""  # its name may be another now
        place = shapes.place(ask.path["node"], location) if location else shapes.place(ident)
        answer = await view.accepted(
            ask, at, shown, replayed=replayed, location=view.location(at) if name == DELETE else place, beside=beside,
            more=[("Link", f'<{view.location(at)}>; rel="monitor"')],
        )  # fmt: skip
        if beside and answer.status == 200:  # the task has ended meanwhile
            answer.body.update(await self._service.bridge.read(lambda tx: self._anew(tx, ident)))
        return answer

    def _anew(self, tx: Tx, ident: str) -> dict[str, Any]:
        return self._shown(tx, state.read(tx, KIND, ident, deleted=True), shapes.FIELDS)

    # --- parts ----------------------------------------------------------------------------------------------------

    def _known(self, tx: Tx, ask: Ask) -> ResourceRow | None:
        """The node of that id, there or gone, else the one of that name, if the asker may know of it. Raises:
        RequestInvalid: there are several."""
        ident, project = ask.path["node"], view.project_seen(ask)
        found = state.find(tx, KIND, ident)
        if found is not None and project in (None, found.project_id):
            return found
        named = state.page(tx, KIND, project_id=ask.caller.project_id, name=ident, limit=2)
        if not named and project is None:
            named = state.page(tx, KIND, name=ident, limit=2)
        if len(named) > 1:
            raise RequestInvalid(f"several nodes have the name {ident[:80]}: say which by its id")
        return named[0] if named else None

    def _node(self, tx: Tx, ask: Ask) -> ResourceRow:
        """Raises: ResourceNotFound."""
        found = self._known(tx, ask)
        if found is None or found.deleted_at is not None:
            raise ResourceNotFound(f"there is no node {ask.path['node'][:80]}", kind=KIND, id=ask.path["node"][:80])
        return found

    def _task(self, tx: Tx, at: ResourceRow, uuid: str) -> TaskRow:
        """Of the node's. Raises: TaskNotFound."""
        found = query.get(tx, uuid)
        if (found.resource_type, found.resource_id, found.project_id) != (KIND, at.id, at.project_id):
            raise TaskNotFound(f"node {at.id} has no task {uuid}", task=uuid)
        return found

    def _shown(self, tx: Tx, at: ResourceRow, fields: tuple[str, ...]) -> dict[str, Any]:
        if set(fields) <= set(shapes.SUMMARY):
            return shapes.only(shapes.summary(at), fields)
        return shapes.only(shapes.node(state.show(tx, at), shapes.states(views.node_states(tx, at))), fields)


def _accepted(
    tx: Tx, kinds: Kinds, asked: Asked, now: float, uuid: str, wrong: RequestInvalid | None
) -> Accepted:  # fmt: skip
    """The operation, unless the request was `wrong`: then it was accepted before, or is refused."""
    found = operate(tx, kinds, asked, now, uuid)
    if wrong is not None and not found.replayed:
        raise wrong  # what was made is undone with what made it
    return found


# --- the routes --------------------------------------------------------------------------------------------------

_REFUSALS: Final = {404: "Problem", 409: "Problem", 410: "Problem", 412: "Problem"}
_TASK: Final = {202: "TaskAccepted", 200: "TaskAccepted", **_REFUSALS}
_NODE: Final = {202: "NodeAccepted", 200: "NodeAccepted", **_REFUSALS}


def routes(service: Service) -> list[Route]:
    if KIND not in service.hold.kinds:
        return []
    nodes = Nodes(service)
    return [
        Route("GET", "/v1", nodes.root, None, "Ironic's API, as far as it is served", answers={200: "IronicRoot"},
              limited=False),
        *_of_nodes(nodes),
        *_of_power(nodes),
    ]  # fmt: skip


def _of_nodes(nodes: Nodes) -> list[Route]:
    read, write = "resources:read", "resources:write"
    listed = Route("GET", MANY, nodes.listed, read, "Nodes, by id", query=bodies.LIST, answers={200: "NodeList"})
    return [
        listed,
        listed._replace(path=f"{MANY}/detail", summary="Nodes, by id, and all there is to show of each"),
        Route("POST", MANY, nodes.enrol, write, "Enrol a machine", body=bodies.NewNode, tagged=True, answers=_NODE),
        Route("GET", ONE, nodes.show, read, "One node, by its id or its name", query=(bodies.SHOWN,),
              answers={200: "NodeDetail", 304: None, 404: "Problem"}),
        Route("PATCH", ONE, nodes.change, write, "Change what is known of a node, by a JSON Patch",
              body=list[bodies.NodeChange], body_schema=bodies.PATCH, tagged=True, answers=_NODE),
        Route("DELETE", ONE, nodes.delete, write, "Forget a node: the machine is left as it is", tagged=True,
              answers=_TASK),
        Route("PUT", f"{ONE}/maintenance", nodes.maintain, write, "Somebody works at the machine",
              body=bodies.NodeMaintenance, body_needed=False, tagged=True, answers=_NODE),
        Route("DELETE", f"{ONE}/maintenance", nodes.maintain_no_more, write, "Nobody does any more", tagged=True,
              answers=_NODE),
        Route("PUT", f"{ONE}/states/provision", nodes.provision, write, "Try whether it can be controlled",
              body=bodies.NodeProvision, tagged=True, answers=_TASK),
        Route("GET", f"{ONE}/history", nodes.history, "tasks:read", "What was done to a node, the newest first",
              query=bodies.HISTORY, answers={200: "NodeEventList", 404: "Problem", 410: "Problem"}),
        Route("GET", f"{ONE}/history/{{event}}", nodes.event, "tasks:read", "One thing that was done to a node",
              answers={200: "NodeEvent", 404: "Problem", 410: "Problem"}),
    ]  # fmt: skip


def _of_power(nodes: Nodes) -> list[Route]:
    read, write = "resources:read", "resources:write"
    return [
        Route("GET", f"{ONE}/states", nodes.states, read, "The states of a node, its power's among them",
              answers={200: "NodeStates", 404: "Problem"}),
        Route("PUT", f"{ONE}/states/power", nodes.power, write, "Ask for a power state, or for the end of what is "
              "being done about it", body=bodies.NodePower, body_schema=bodies.POWER, tagged=True, answers=_TASK),
        Route("GET", f"{ONE}/states/power/supported", nodes.supported, read, "What may be asked of its power",
              answers={200: "SupportedPowerStates", 404: "Problem"}),
        Route("PUT", f"{ONE}/management/inject_nmi", nodes.nmi, write, "Interrupt it, so that it shows where it is",
              body=bodies.NoMembers, body_needed=False, tagged=True, answers=_TASK),
    ]  # fmt: skip
