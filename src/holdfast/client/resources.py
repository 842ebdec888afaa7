"""Calls about resources: any kind that the service knows, under /v3/resources and under its own plural.

What a call yields, and who does it: protocol.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from holdfast.client.protocol import Call, Ways, ask_json, member, pages, path_of
from holdfast.client.tasks import Accepted, Document, make
from holdfast.errors import UsageError


def kinds(ways: Ways, /) -> Call[Document]:
    """The kinds of resources: for each its plural, the schema of its fields, and its operations with their
    parameters."""
    found = yield from ask_json(ways, path_of("schemas", "actions"))
    return dict(member(found, "kinds"))


def resources(ways: Ways, /, kind: str, *, limit: int | None = None, **filters: Any) -> Call[None]:
    """Every resource of the kind that matches, at most `limit`."""
    query = {**filters, "limit": None if limit is None else max(0, min(limit, 1000))}
    return pages(ways, path_of("resources", kind), "resources", query, limit)


def get(ways: Ways, /, kind: str, id: str) -> Call[Document]:
    """One resource: what is wanted of it, what it is, whether both agree, and who works on it."""
    found = yield from ask_json(ways, path_of("resources", kind, id))
    return dict(member(found, "resource"))


def create(ways: Ways, /, kind: str, fields: Mapping[str, Any], *, tag: str | None = None) -> Call[Accepted]:
    """Ask for a new resource. Two requests without a tag are two resources; each, however often it has to be sent, is
    one."""
    plural = yield from _plural(ways, kind)
    body = {kind: dict(fields)}
    return (yield from make(ways, "POST", path_of(plural), body, tag=tag, kind=kind))


def set(
    ways: Ways,
    /,
    kind: str,
    id: str,
    desired: Mapping[str, Any],
    *,
    tag: str | None = None,
    revision: int | None = None,
) -> Call[Accepted]:
    """Say what is wanted of it. `revision`: only if it is still that one. Raises: PreconditionFailed."""
    return make(ways, "PUT", path_of("resources", kind, id), dict(desired), tag=tag, headers=_if_match(revision))


def delete(ways: Ways, /, kind: str, id: str, *, tag: str | None = None, revision: int | None = None) -> Call[Accepted]:
    """Ask for its end. `revision`: only if it is still that one."""
    return make(ways, "DELETE", path_of("resources", kind, id), None, tag=tag, headers=_if_match(revision))


def operate(
    ways: Ways,
    /,
    kind: str,
    id: str,
    operation: str,
    params: Mapping[str, Any] | None = None,
    *,
    tag: str | None = None,
) -> Call[Accepted]:
    """Ask for one of the kind's operations, as "reboot" with {"type": "SOFT"}."""
    path = path_of("resources", kind, id, "action")
    return make(ways, "POST", path, {operation: dict(params or {}) or None}, tag=tag)


def reconcile(ways: Ways, /, kind: str, id: str, *, tag: str | None = None) -> Call[Accepted]:
    """Ask for what is wanted to be made so, where it is not."""
    return make(ways, "POST", path_of("resources", kind, id, "reconcile"), {}, tag=tag)


def revisions(ways: Ways, /, kind: str, id: str) -> Call[None]:
    """Everything that was ever wanted of it, and the task that brought each."""
    return pages(ways, path_of("resources", kind, id, "revisions"), "revisions")


def tasks_of(ways: Ways, /, kind: str, id: str, *, limit: int | None = None, **filters: Any) -> Call[None]:
    """The tasks on it, the newest first."""
    query = {**filters, "limit": None if limit is None else max(0, min(limit, 1000))}
    return pages(ways, path_of("resources", kind, id, "tasks"), "tasks", query, limit)


def version(ways: Ways, /) -> Call[Document]:
    """What the service is: its versions, how long it keeps tasks, its limits."""
    return dict(member((yield from ask_json(ways, "/v3")), "version"))


def _plural(ways: Ways, kind: str) -> Call[str]:
    """The word that the kind has in paths. Raises: UsageError: there is no such kind."""
    if kind not in ways.plurals:
        known = yield from kinds(ways)
        ways.plurals.update({name: str(member(each, "plural")) for name, each in known.items()})
    if kind not in ways.plurals:
        raise UsageError(f"the service has no kind {kind!r}: it has {', '.join(sorted(ways.plurals)) or 'none'}")
    return ways.plurals[kind]


def _if_match(revision: int | None) -> dict[str, str]:
    return {} if revision is None else {"If-Match": f'"{revision}"'}
