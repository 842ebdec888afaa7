"""Steps whose child task is an operation on a resource: `child`.

Theory: as flow/child.py; only the admission is that of an operation. It is one transaction with the making of the
child, so the resource's lifecycle, its desired document and its queue are looked at and changed as if somebody had
asked for the operation by itself. The child uses what its root holds of the resource, so the operation at the top
claims all that its children work on.

How an operation is admitted: operate.py. Where the kinds are found: worker/desk.py (`house`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Unpack

from holdfast.errors import FlowError, UsageError
from holdfast.flow.child import ChildOptions, ChildStep
from holdfast.resources.kind import CREATE
from holdfast.resources.operate import Asked, operate
from holdfast.store.base import Tx
from holdfast.tasks import children
from holdfast.tasks.row import TaskRow

ID: Final = "resource_id"
DESIRED: Final = "desired"


def child(
    name: str,
    kind: str,
    operation: str,
    /,
    *,
    id: str | None = None,
    params: Iterable[str] | Mapping[str, str] = (),
    desired: str | None = None,
    inject: Mapping[str, Any] | None = None,
    provides: str | tuple[str, ...] | set[str] | frozenset[str] | None = None,
    claims: Iterable[str | tuple[str, str]] = (),
    priority: int | None = None,
    pool: str | None = None,
    **options: Unpack[ChildOptions],
) -> ChildStep:
    """A step that makes a task of an operation on a resource, waits for its end, and fails if that isn't SUCCEEDED.

    id: the name of the value that is the resource's id; left out for a `create`, which makes one and provides it as
    `resource_id`. params: the names of values that are its parameters, or {parameter: name}; inject: {parameter: value}
    fixes one. desired: the name of the value that is its desired document. provides: as `hf.child`.
    claims: more than the operation itself needs; all of it is used from the root's, or granted at once, or refused.
    """
    named = dict(params) if isinstance(params, Mapping) else {each: each for each in params}
    fixed = dict(inject or {})
    reserved = sorted({ID, DESIRED} & {*named, *fixed})
    if reserved:
        raise FlowError(f"child {name!r}: {reserved[0]} is no parameter: say id= or desired=")
    if id is None and operation != CREATE:
        raise FlowError(
            f"child {name!r}: {operation} works on a resource: say id=, the name of the value that is its id"
        )
    bind = dict(named)
    if id is not None:
        bind[ID] = id
    if desired is not None:
        bind[DESIRED] = desired
    more = tuple(claims)

    def ask(desk: Any, given: dict[str, Any]) -> Any:
        kinds = getattr(desk.house, "kinds", None)
        if kinds is None:
            raise UsageError(f"child {name!r}: the database was opened without kinds")
        said = {parameter: given[parameter] for parameter in (*named, *fixed)}

        def admit(tx: Tx, parent: TaskRow, key: str, now: float, uuid: str) -> TaskRow:
            asked = Asked(
                kind,
                operation,
                given.get(ID),
                said,
                given.get(DESIRED),
                project_id=parent.project_id,
                user_id=parent.user_id,
                request_id=parent.request_id,
                global_request_id=parent.global_request_id,
                origin=parent.origin,
                priority=parent.priority if priority is None else priority,
                claims=more,
                pool=pool or parent.pool,
                parent=parent.id,
            )
            made = operate(tx, kinds, asked, now, uuid).task
            return children.name(tx, made, key)

        return admit

    wants = tuple((each, True) for each in (*bind, *fixed))
    return ChildStep(name, ask, wants, provides=provides, bind=bind, inject=fixed, **options)
