"""What a request for a task asks for: an operation of a kind on a resource, or a flow that was registered.

Import paths are never taken from a request. How an operation is accepted: resources/operate.py; a flow:
tasks/submit.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from holdfast.core.plan import Plan
from holdfast.errors import OperationUnknown, ResourceBusy
from holdfast.flow.compile import check_inputs, compile
from holdfast.flow.registry import registered
from holdfast.resources.operate import Asked, operate
from holdfast.scheduling import check_claims
from holdfast.service import view
from holdfast.service.app import Service
from holdfast.service.policy import may_only_as_agent
from holdfast.service.problems import RequestInvalid
from holdfast.service.requests import Ask
from holdfast.store.base import Tx
from holdfast.tasks.claims import RESOURCE_CHARS_MAX, blocked_by, claims_of, waiting
from holdfast.tasks.row import TaskRow
from holdfast.tasks.submit import Request, Submitted, submit

PRIORITY_MAX: Final = 1_000_000
Submit = Callable[[Tx, float, str], Submitted]


class ClaimAsked(msgspec.Struct, forbid_unknown_fields=True):
    """A resource that the task needs besides its own; mode: exclusive or shared."""

    type: str
    id: str
    mode: str = "exclusive"


class NewTask(msgspec.Struct, forbid_unknown_fields=True):
    """`resource`: one key, the kind, and the id: {"server": "…"}; null as the id of one that is to be made."""

    task: str
    resource: dict[str, str | None] | None = None
    params: dict[str, Any] = {}
    start_after: datetime | None = None
    priority: int = 0
    claims: list[ClaimAsked] = []


class Offer(NamedTuple):
    """A flow that may be asked for. `request`: what all its tasks have in common."""

    plan: Plan
    request: Request


class Admission:
    """Everything that may be asked for."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._hold = service.hold
        self._offers = _offers(service)

    @property
    def names(self) -> list[str]:
        return sorted(self._offers)

    def parameters(self, name: str) -> dict[str, Any]:
        """What a flow takes, as a JSON schema of its params."""
        inputs = self._offers[name].plan.inputs
        return {
            "type": "object",
            "properties": {each: {} for each in inputs},
            "required": [each for each, (required, _step) in inputs.items() if required],
            "additionalProperties": False,
        }

    def schema(self) -> dict[str, Any]:
        """What a request for a task may be, as a JSON schema in which Structs stand: one alternative for everything
        that may be asked for."""
        kinds = list(self._hold.kinds)
        other = {"pattern": "^[a-z]{1,20}$", "not": {"enum": [kind.name for kind in kinds]}}
        any_one = {"type": "object", "propertyNames": other, "maxProperties": 1, "additionalProperties": _ID}
        found = [_alternative(name, self.parameters(name), any_one, needed=False) for name in self.names]
        for kind in kinds:
            for name, operation in kind.operations.items():
                ident: Any = {"anyOf": [_ID, {"type": "null"}]} if operation.creates else _ID
                resource = {"type": "object", "properties": {kind.name: ident}, "required": [kind.name],
                            "additionalProperties": False}  # fmt: skip
                params: Any = operation.params or (kind.fields if operation.desires else None)
                found.append(
                    _alternative(name, params or {"type": "object", "maxProperties": 0}, resource, needed=True)
                )
        return {"oneOf": found}

    def of(self, ask: Ask) -> Submit:
        """What the request is for, checked as far as it can be before the transaction.

        Raises: RequestInvalid, OperationUnknown, MissingInput, UnknownInput, ValueRefused, PolicyForbidden.
        """
        data: NewTask = ask.data
        kind, ident = resource_of(data.resource)
        if kind is not None and kind in self._hold.kinds:
            return self._operation(ask, data, kind, ident)
        if may_only_as_agent(ask.caller):
            raise OperationUnknown("an agent may ask for operations of kinds only")
        return self._flow(ask, data, kind, ident)

    def _operation(self, ask: Ask, data: NewTask, kind: str, ident: str | None) -> Submit:
        name = data.task.removeprefix(f"{kind}.")  # port.wire and wire are one
        hold, operation = self._hold, self._hold.kinds.operation(kind, name)
        whole = operation.desires and operation.params is None  # its parameters are the desired document
        asked = self.asked(
            ask,
            kind,
            name,
            resource_id=ident,
            params={} if whole else data.params,
            desired=data.params if whole else None,
            start_after=_seconds(data.start_after),
            priority=priority_of(data.priority),
            claims=tuple(claims_asked(data.claims)),
        )
        self.check_agent(ask, kind, name)
        if operation.creates:
            ask.check_new(f"a new {kind}")

        def accept(tx: Tx, now: float, uuid: str) -> Submitted:
            found = operate(tx, hold.kinds, asked, now, uuid)
            if asked.claims and not found.replayed:
                check_claims(tx, hold.kinds, claims_of(asked.claims), view.project_seen(ask))
            return Submitted(found.task, found.replayed, found.request)

        return accept

    def asked(self, ask: Ask, kind: str = "", operation: str = "", **more: Any) -> Asked:
        """What every request for an operation has in common, and `more` of what it asks for."""
        caller = ask.caller
        return Asked(
            kind=kind,
            operation=operation,
            if_match=ask.revision(),
            tag=ask.tag,
            fingerprint=ask.fingerprint,
            request=ask.request,
            project_id=caller.project_id,
            user_id=caller.user_id,
            request_id=ask.request_id,
            global_request_id=ask.global_request_id,
            origin=caller.origin,
            fail_if_busy=ask.prefers("fail-if-busy") is not None,
            pool=self._hold.settings.pool,
            limits=self._service.quotas,
            **more,
        )

    def check_agent(self, ask: Ask, kind: str, operation: str) -> None:
        """Raises: PolicyForbidden: an agent asks for what agents may not ask for, or outside its pools."""
        if may_only_as_agent(ask.caller):
            pool = self._hold.settings.pool
            self._hold.kinds.check_agent(kind, operation, ask.caller.pools or (pool,), pool)

    def _flow(self, ask: Ask, data: NewTask, kind: str | None, ident: str | None) -> Submit:
        offer = self.offer(data.task)
        check_inputs(offer.plan, data.params)
        ask.check_new("a new task")
        named = claims_asked(data.claims)
        if kind is not None:
            if not ident:
                raise RequestInvalid('resource needs the id of what the task is for: {"server": "…"}')
            named.append(f"{kind}/{ident}")
        asked = self.asked(ask)
        request = offer.request._replace(
            inputs=self._hold.inputs_text(data.params),
            claims=claims_of(named),
            operation=data.task,
            resource_type=kind,
            resource_id=ident,
            start_after=_seconds(data.start_after),
            priority=priority_of(data.priority),
            **{name: getattr(asked, name) for name in _SHARED},
        )

        def accept(tx: Tx, now: float, uuid: str) -> Submitted:
            found = submit(tx, request, now, uuid)
            if not found.replayed:
                check_claims(tx, self._hold.kinds, request.claims, view.project_seen(ask))
                if asked.fail_if_busy:
                    refuse_to_wait(tx, found.task, view.project_seen(ask))
            return found

        return accept

    def offer(self, name: str) -> Offer:
        """The flow of that name. Raises: OperationUnknown."""
        found = self._offers.get(name)
        if found is None:
            raise OperationUnknown(
                f"there is no task {name[:80]!r} to ask for: {', '.join(self.names) or 'none is registered'}",
                allowed=self.names,
            )
        return found


def refuse_to_wait(tx: Tx, at: TaskRow, project: str | None) -> None:
    """Raises: ResourceBusy: the task, which was just made, would wait for another. It is undone with what made it.
    The other is named if it is of the `project`."""
    before = [] if at.ready else blocked_by(tx, waiting(tx, at.id), limit=1)
    if before:
        is_seen = project in (None, before[0].project_id)
        who = f"task {before[0].uuid}" if is_seen else "another project"
        details = {"task": before[0].uuid} if is_seen else {}
        raise ResourceBusy(f"{who} has what this one needs, or waits for it before this one", **details)


_SHARED: Final = (
    "tag", "fingerprint", "request", "project_id", "user_id", "request_id", "global_request_id", "origin", "limits",
)  # fmt: skip


_ID: Final = {"type": "string", "pattern": "^[!-~]{1,200}$"}
_CLAIM: Final = {
    "type": "object",
    "properties": {
        "type": {"type": "string", "pattern": "^[a-z]{1,20}$"},
        "id": _ID,
        "mode": {"enum": ["exclusive", "shared"]},
    },
    "required": ["type", "id"],
    "additionalProperties": False,
}


def _alternative(name: str, params: Any, resource: dict[str, Any], *, needed: bool) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "task": {"const": name},
            "resource": resource,
            "params": params,
            "start_after": {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]},
            "priority": {"type": "integer", "minimum": -PRIORITY_MAX, "maximum": PRIORITY_MAX},
            "claims": {"type": "array", "items": _CLAIM, "maxItems": 50},
        },
        "required": ["task", *(["resource"] if needed else []), *(["params"] if _needs(params) else [])],
        "additionalProperties": False,
    }


def _needs(params: Any) -> bool:
    if isinstance(params, dict):
        return bool(params.get("required"))
    return any(field.required for field in msgspec.structs.fields(params))


def _offers(service: Service) -> dict[str, Offer]:
    """By `name@version`, and by name where only one version has it. The flows of kinds are not among them: they are
    asked for as operations."""
    hold = service.hold
    own = set(map(id, hold.kinds.flows))
    found: dict[str, Offer] = {}
    versions: dict[str, list[str]] = {}
    for key, flow in registered([flow for flow in hold.flows if id(flow) not in own]).items():
        found[key] = Offer(compile(flow), hold.request(flow))
        versions.setdefault(key.rpartition("@")[0], []).append(key)
    for name, keys in versions.items():
        if len(keys) == 1:
            found.setdefault(name, found[keys[0]])
    return found


def resource_of(given: Mapping[str, str | None] | None) -> tuple[str | None, str | None]:
    if not given:
        return None, None
    if len(given) > 1:
        raise RequestInvalid("a task is for one resource, {kind: id}: name the others in claims")
    ((kind, ident),) = given.items()
    if not _is_name(kind) or (ident and not _is_name(ident)):
        raise RequestInvalid(f"a resource is a kind and an id, each of at most {RESOURCE_CHARS_MAX} visible letters")
    return kind, ident or None


def _is_name(text: str) -> bool:
    return 0 < len(text) <= RESOURCE_CHARS_MAX and text.isprintable() and " " not in text


def claims_asked(given: list[ClaimAsked]) -> list[str | tuple[str, str]]:
    for each in given:
        if not each.id:
            raise RequestInvalid('a claim needs the id of what is claimed: {"type": "port", "id": "…"}')
    return [(f"{each.type}/{each.id}" if each.type else each.id, each.mode) for each in given]


def _seconds(at: datetime | None) -> float | None:
    if at is None:
        return None
    if at.tzinfo is None:
        raise RequestInvalid("start_after needs its offset from UTC, as 2026-01-01T00:00:00Z")
    return at.timestamp()


def priority_of(given: int) -> int:
    if abs(given) > PRIORITY_MAX:
        raise RequestInvalid(f"priority is {-PRIORITY_MAX} to {PRIORITY_MAX}, not {given}")
    return given
