"""Admission of an operation on a resource: one transaction, in which it is accepted whole or leaves no trace.

Theory: the tag comes first, because a repeated request is answered with its task whatever has become of the resource.
Then the resource's row is locked, and its *planned* state decides: that is where the last task in its queue will leave
it, so a request is judged as if all before it had succeeded. When its turn comes the task looks again (steps.py). The
queues are locked last, as everywhere: a resource's row comes before them, so that nobody waits for each other.
Nothing here depends on the length of the queue.

What the end of the task does: project.py. How it queues: tasks/claims.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from sqlalchemy import bindparam, select

from holdfast.core.canonical import whole
from holdfast.core.values import Seal, encode
from holdfast.errors import DocumentInvalid, KindError, PreconditionFailed, ResourceBusy, ResourceImmutable
from holdfast.resources import sealing, state
from holdfast.resources.enter import Entering, enter
from holdfast.resources.kind import AT_ONCE, UNCLAIMED, Change, Kind, Operation
from holdfast.resources.misfit import misfit
from holdfast.resources.registry import Kinds
from holdfast.resources.rules import Rules, derived
from holdfast.resources.state import ResourceRow
from holdfast.seal import Sealer
from holdfast.store.base import Tx
from holdfast.store.schema import tasks, tickets
from holdfast.tasks import claims, row, tags
from holdfast.tasks.claims import Claim, claims_of
from holdfast.tasks.quota import Limits
from holdfast.tasks.row import TaskRow
from holdfast.tasks.submit import Request, Submitted, submit


class Asked(NamedTuple):
    """A request. `resource_id` of a `create` may be chosen by the asker; None: a new one. `desired`: a whole document.
    `if_match`: the revision that the asker has seen. `fingerprint`, `request`: of the tag, as tasks/submit.py has them;
    without a fingerprint one is made of what is asked for. `claims`: more than the operation needs by itself.
    `fail_if_busy`: refuse it rather than let it wait."""

    kind: str
    operation: str
    resource_id: str | None = None
    params: Mapping[str, Any] = MappingProxyType({})
    desired: Mapping[str, Any] | None = None
    if_match: int | None = None
    tag: str | None = None
    fingerprint: str | None = None
    request: str = ""
    project_id: str = "default"
    user_id: str = ""
    request_id: str = ""
    global_request_id: str = ""
    origin: str = "library"
    start_after: float | None = None
    priority: int = 0
    claims: tuple[str | tuple[str, str], ...] = ()
    fail_if_busy: bool = False
    pool: str = "default"
    parent: int | None = None
    limits: Limits | None = None


class Accepted(NamedTuple):
    """`replayed`: the same request had made the task before; `resource` is as it is now. None: it is no more.
    `request`: what made the task now."""

    task: TaskRow
    resource: ResourceRow | None
    replayed: bool
    request: Request | None = None


_FIRST: Final = (
    select(tasks.c.uuid, tasks.c.project_id)
    .select_from(tickets.join(tasks, tasks.c.id == tickets.c.task))
    .where(tickets.c.resource == bindparam("_r"))
    .order_by(tickets.c.ticket)
    .limit(1)
)


def operate(tx: Tx, kinds: Kinds, asked: Asked, now: float, uuid: str) -> Accepted:
    """Accept an operation: its task, what is desired of the resource now, and its place in the queues. `uuid` is a
    UUIDv7 of the caller's, for the task.

    Raises: KindUnknown, OperationUnknown, DocumentInvalid, ResourceNotFound, PreconditionFailed, ResourceImmutable,
    ResourceBusy, TagInvalid, TagReused, TaskGone, QuotaExceeded, ClaimRefused (a child's), SecretKeyMissing; what a
    pre-commit check raises.
    """
    kind = kinds.kind(asked.kind)
    operation = kind.get(asked.operation)
    sealer = kinds.world.hold.sealer if kind.has_secrets and operation.desires else None
    if sealer is not None:
        asked = _unguessable(tx, sealer, asked)
    if asked.tag is not None:
        known = _replayed(tx, asked, now)
        if known is not None:
            return known
    params = checked(operation.params, asked.params, f"{operation.name}")
    current = _current(tx, kind, operation, asked)
    desired = _desired(kind, operation, asked, params, current)
    if sealer is not None and desired is not None:
        there = {} if current is None else sealing.read(sealer, current.desired)
        params, desired = sealing.guarded(kind, params, there), sealing.guarded(kind, desired, there)
    seal = None if sealer is None else sealer.seal
    text = None if desired is None else encode(desired, seal, name=kind.name)
    resource_id = asked.resource_id or derived(uuid, "resource")
    wanted = desired or _document(current)
    change = Change(kind, operation.name, resource_id, params, wanted, current, tx, asked.project_id)
    for check in kind.checks:
        check(change)
    made = _submit(tx, kinds, kind, operation, asked, change, now, uuid, seal)
    task, is_new = made.task, current is None
    if current is None:
        current = state.new(task, kind.name, resource_id, project_id=asked.project_id, lifecycle=kind.start, now=now)
    entering = operation_of(kinds, kind, operation)
    name = None if desired is None or sealer is not None else desired.get("name")
    after = enter(
        tx, task, current, entering, now, desired=text, name=name if isinstance(name, str) else None, is_new=is_new
    )  # fmt: skip
    return Accepted(task, after, replayed=False, request=made.request)


def operation_of(kinds: Kinds, kind: Kind, operation: Operation) -> Entering:
    """What the operation's tasks bring to a queue."""
    known = kinds.entering.get((kind.name, operation.name))
    if known is not None:
        return known
    ends = operation.ends
    verify = kinds.prepared(kind.name, "verify") if kind.prober is not None and kind.verifies else None
    rules = Rules(
        list(operation.starts),
        operation.creates,
        ends is not None and kind.is_final(ends),
        operation.fault,
        operation.gone,
        None if verify is None else [verify.name, verify.version, verify.reference, verify.pool],
        operation.abortable,
        None if operation.left is None else dict(operation.left),
    )
    made = kinds.entering[kind.name, operation.name] = Entering(operation.name, ends, operation.applies, rules.text)
    return made


# --- the checks --------------------------------------------------------------------------------------------------


def _replayed(tx: Tx, asked: Asked, now: float) -> Accepted | None:
    assert asked.tag is not None
    tags.check(asked.tag)
    known = tags.find(tx, asked.project_id, asked.tag, _fingerprint(asked), now, request=asked.request)
    if known is None:
        return None
    task = row.read(tx, known)
    found = state.find(tx, task.resource_type or asked.kind, task.resource_id or "")
    return Accepted(task, found, replayed=True)


def _unguessable(tx: Tx, sealer: Sealer, asked: Asked) -> Asked:
    """The request, with secrets as text to be checked, and a fingerprint from which none can be guessed."""
    asked = asked._replace(params=sealing.opened(asked.params), desired=sealing.opened(asked.desired))
    return asked if asked.tag is None else asked._replace(fingerprint=tags.marked(tx, sealer, _fingerprint(asked)))


def _fingerprint(asked: Asked) -> str:
    if asked.fingerprint is not None:
        return asked.fingerprint
    claimed = [list(claim) for claim in claims_of(asked.claims)]
    what = [
        asked.kind,
        asked.operation,
        asked.resource_id,
        dict(asked.params),
        asked.desired and dict(asked.desired),
        claimed,
    ]
    return tags.hashed(what)


def checked(struct: type[Any] | None, given: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The document as plain data, with what was left out. Raises: DocumentInvalid."""
    if struct is None:
        if given:
            raise DocumentInvalid(f"{what} takes no parameters, but was given {', '.join(sorted(given))[:200]}")
        return {}
    import msgspec

    plain = dict(given)
    try:
        try:
            struct_made = msgspec.convert(plain, struct)
        except msgspec.ValidationError:
            struct_made = msgspec.convert(whole(plain), struct)
        made: dict[str, Any] = msgspec.to_builtins(struct_made)
    except msgspec.ValidationError as error:
        wrong = misfit(error, struct)
        where = f"{wrong.field}: " if wrong.field else ""
        more = {"allowed": wrong.allowed} if wrong.allowed else {}
        raise DocumentInvalid(f"{what}: {where}{wrong.said}", field=wrong.field, **more) from None
    return made


def _desired(
    kind: Kind, operation: Operation, asked: Asked, params: dict[str, Any], current: ResourceRow | None
) -> dict[str, Any] | None:
    """The desired document from now on; None: as before. An operation that desires something by its parameters
    changes those fields."""
    if not operation.desires:
        if asked.desired is not None:
            raise DocumentInvalid(f"{operation.name} takes no desired document: only parameters")
        return None
    if asked.desired is None and current is not None and operation.params is not None:
        said = _said(operation.params, params)
        known = {name: value for name, value in said.items() if name in kind.fields.__struct_fields__}
        return checked(kind.fields, {**current.document, **known}, kind.name)
    if asked.desired is None:
        raise DocumentInvalid(f"{operation.name} needs the whole desired document of a {kind.name}")
    return checked(kind.fields, asked.desired, kind.name)


def _said(struct: type[Any], params: dict[str, Any]) -> dict[str, Any]:
    """The parameters without those that say nothing: None, where that is what a parameter is if it is left out."""
    from msgspec.structs import fields

    silent = {field.name for field in fields(struct) if field.default is None}
    return {name: value for name, value in params.items() if value is not None or name not in silent}


def _current(tx: Tx, kind: Kind, operation: Operation, asked: Asked) -> ResourceRow | None:
    """The resource, locked, if the operation may be asked of it; None: it is to be made."""
    if operation.creates:
        known = None if asked.resource_id is None else state.lock(tx, kind.name, asked.resource_id)
        if known is None and asked.resource_id is not None:
            # There is no row to lock: who makes it at the same time waits here, and finds it then.
            claims.lock_queue(tx, f"{kind.name}/{asked.resource_id}")
            known = state.find(tx, kind.name, asked.resource_id)
        if known is not None and known.project_id != asked.project_id:
            raise state.missing(kind.name, known.id)  # as whoever asks for another's anything is told
        if known is not None:
            raise ResourceImmutable(f"there is a {kind.name} {known.id} already, or was: choose another id")
        return None
    found = state.lock(tx, kind.name, asked.resource_id or "")
    if found is None or found.deleted_at is not None or found.project_id != asked.project_id:
        return state.read(tx, kind.name, asked.resource_id or "", project_id=asked.project_id)  # says what is wrong
    if asked.if_match is not None and asked.if_match != found.revision:
        raise PreconditionFailed(
            f"{found.key} is at revision {found.revision}, not {asked.if_match}: read it again", revision=found.revision
        )
    check_planned(kind, operation, found)
    waits = asked.fail_if_busy and operation.mode != UNCLAIMED
    first = tx.execute(_FIRST, {"_r": found.key}).first() if waits else None
    if first is not None:
        own = first.project_id == found.project_id  # another's, let in by the kind or an administrator, is not named
        who = f"task {first.uuid}" if own else "another project"
        raise ResourceBusy(f"{who} works on {found.key} or waits for it", **({"task": first.uuid} if own else {}))
    return found


def check_planned(kind: Kind, operation: Operation, found: ResourceRow) -> None:
    """Raises: ResourceImmutable, with the operations that are allowed."""
    at = found.lifecycle if operation.mode == UNCLAIMED else found.planned  # it waits for nobody
    if at not in operation.starts:
        allowed = kind.allowed(at)
        instead = f": allowed then are {', '.join(allowed)}" if allowed else ""
        when = "is" if at == found.lifecycle else "will be"
        raise ResourceImmutable(
            f"cannot {operation.name} {found.key}: it {when} {at}{instead}",
            allowed=allowed,
            lifecycle=found.lifecycle,
            planned=found.planned,
        )


def _document(current: ResourceRow | None) -> dict[str, Any]:
    return {} if current is None else current.document


def _submit(
    tx: Tx, kinds: Kinds, kind: Kind, operation: Operation, asked: Asked, change: Change, now: float, uuid: str,
    seal: Seal | None,
) -> Submitted:  # fmt: skip
    flow = kinds.prepared(kind.name, operation.name)
    unheard = change.current is None and asked.resource_id is None
    request = Request(
        flow=flow.name,
        version=flow.version,
        reference=flow.reference,
        inputs=encode({"resource_id": change.resource_id, "params": change.params}, seal, name="the parameters"),
        claims=_claims(operation, asked, change),
        operation=operation.name,
        resource_type=kind.name,
        resource_id=change.resource_id,
        tag=asked.tag,
        fingerprint=None if asked.tag is None else _fingerprint(asked),
        request=asked.request,
        digest=flow.digest,
        outline=flow.outline,
        deadline_s=flow.deadline_s,
        steps=flow.steps,
        weight=flow.weight,
        start_after=asked.start_after,
        priority=AT_ONCE if operation.mode == UNCLAIMED else asked.priority,
        pool=flow.pool or asked.pool,
        project_id=asked.project_id,
        user_id=asked.user_id,
        request_id=asked.request_id,
        global_request_id=asked.global_request_id,
        origin=asked.origin,
        parent=asked.parent,
        limits=asked.limits,
        unheard=f"{kind.name}/{change.resource_id}" if unheard else None,
    )
    made = submit(tx, request, now, uuid)
    if made.replayed:  # `_replayed` has looked under the same lock
        raise KindError("the tag was taken while the operation was accepted")
    return made


def _claims(operation: Operation, asked: Asked, change: Change) -> tuple[Claim, ...]:
    own = () if operation.mode == UNCLAIMED else (Claim(f"{change.kind.name}/{change.resource_id}", operation.mode),)
    if operation.claims is None and not asked.claims and (change.current is not None or asked.resource_id is None):
        return own  # of what is there, or was named here: a name that may be claimed
    more = () if operation.claims is None else operation.claims(change)
    return claims_of([*own, *more, *asked.claims])
