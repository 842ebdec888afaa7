"""Tasks as answers of the service: who sees what of them, their links, their revision, and the headers beside them.

What is shown to everybody who may see the task at all: tasks/show.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from holdfast.core import states
from holdfast.errors import TaskNotFound
from holdfast.service.routes import Answer
from holdfast.store.base import Tx
from holdfast.tasks import query, show
from holdfast.tasks.row import TaskRow

if TYPE_CHECKING:
    from holdfast.service.requests import Ask
    from holdfast.tasks.submit import Request

RETRY_AFTER_S = 1
_AS_IT_IS = re.compile(r"[A-Za-z0-9_.~-]+").fullmatch
REPLAYED_MESSAGE = "That request is already accepted"


def find(tx: Tx, ask: Ask, uuid: str) -> TaskRow:
    """The task, if the asker may know of it. Raises: TaskNotFound, for one of another project too."""
    at = query.get(tx, uuid)
    if project_seen(ask) not in (None, at.project_id):
        raise TaskNotFound(f"there is no task {uuid}", task=uuid)
    return at


def project_seen(ask: Ask) -> str | None:
    """The only project that the asker may know of; None: he may know of all."""
    return None if ask.service.policy.allows(ask.caller, "tasks:all_projects") else ask.caller.project_id


def task(tx: Tx, ask: Ask, at: TaskRow) -> dict[str, Any]:
    """The whole representation, as this asker may see it."""
    may, caller = ask.service.policy.allows, ask.caller
    shown = show.task(
        tx, at, now=ask.service.hold.clock.time(), traceback=may(caller, "tasks:traceback"),
        host=may(caller, "tasks:host"), project=project_seen(ask),
    )  # fmt: skip
    shown["links"] = links(at, shown["supported_verbs"])
    return shown


def new(tx: Tx, ask: Ask, at: TaskRow, request: Request | None) -> dict[str, Any]:
    """The representation in the transaction that accepts the request: of the task that it makes, or (None) of the one
    that it made before."""
    if request is None:
        return task(tx, ask, at)
    host = ask.service.policy.allows(ask.caller, "tasks:host")
    shown = show.new(tx, at, request.inputs, request.claims, host=host)
    shown["links"] = links(at, shown["supported_verbs"])
    return shown


def listed(tx: Tx, ask: Ask, rows: Sequence[TaskRow], fields: Sequence[str] = ()) -> list[dict[str, Any]]:
    """As a list shows them; with `fields`, those only."""
    may, caller = ask.service.policy.allows, ask.caller
    found = show.tasks(
        tx, rows, now=ask.service.hold.clock.time(), traceback=may(caller, "tasks:traceback"),
        host=may(caller, "tasks:host"), fields=fields, project=project_seen(ask),
    )  # fmt: skip
    for at, shown in zip(rows, found, strict=True):
        shown["links"] = links(at, ())
    return [{name: each[name] for name in fields if name in each} for each in found] if fields else found


def place(*parts: str) -> str:
    """The address of something below /v3. An id is any text, of which a link and a header can hold only some letters as
    they are."""
    return "/".join(("/v3", *(part if _AS_IT_IS(part) else quote(part, safe="") for part in parts)))


def links(at: TaskRow, verbs: Any) -> list[dict[str, str]]:
    self = f"/v3/tasks/{at.uuid}"
    found = [{"rel": "self", "href": self}]
    if at.resource_type and at.resource_id:
        found.append({"rel": "resource", "href": place("resources", at.resource_type, at.resource_id)})
    found += [{"rel": "steps", "href": f"{self}/steps"}, {"rel": "events", "href": f"{self}/events"}]
    found += [{"rel": verb, "href": f"{self}/{verb}"} for verb in verbs]
    return found


def is_final(at: TaskRow) -> bool:
    return at.state in states.FINAL


def etag(at: TaskRow) -> str:
    """Its revision: differs whenever something of the task itself has changed."""
    moments = f"{round(at.updated_at * 1e6):x}.{round((at.progress_at or 0) * 1e6):x}"
    return f'"{at.seq}.{moments}"'


def headers(at: TaskRow, *, location: str | None = None, replayed: bool = False) -> list[tuple[str, str]]:
    found = [("ETag", etag(at))]
    if at.tag is not None:
        found.append(("Task-tag", at.tag))
    if location is not None:
        found.append(("Location", location))
    if replayed:
        found.append(("Task-Tag-Replayed", "true"))
    if not is_final(at):
        found.append(("Retry-After", str(RETRY_AFTER_S)))
    return found


def location(at: TaskRow) -> str:
    return f"/v3/tasks/{at.uuid}"


async def accepted(
    ask: Ask, at: TaskRow, shown: dict[str, Any], *, replayed: bool = False, location: str | None = None,
    beside: dict[str, Any] | None = None, more: list[tuple[str, str]] | None = None,
) -> Answer:  # fmt: skip
    """The answer to a request that made a task, or found the one it had made: 202; or 200 once the task has ended, if
    the asker wanted to wait for that and it did in time. `beside`: what else is in the body; `more` headers."""
    found_at = location or f"/v3/tasks/{at.uuid}"
    body: dict[str, Any] = {"message": REPLAYED_MESSAGE} if replayed else {}
    extra = list(more or ())
    status = 202
    wait_s = ask.wait_s()
    if wait_s > 0:
        latest, ended = await ended_within(ask, at, wait_s)
        if ended:
            at, status = latest, 200
            shown = await ask.service.bridge.read(lambda tx: task(tx, ask, latest))
            extra.append(("Preference-Applied", f"wait={wait_s:g}"))
    body |= {**(beside or {}), "task": shown}
    return Answer(status, body, [*headers(at, location=found_at, replayed=replayed), *extra])


async def ended_within(ask: Ask, at: TaskRow, wait_s: float) -> tuple[TaskRow, bool]:
    """The task as it is once it has ended, or the time is up; whether it has ended."""
    latest = [at]

    async def ended() -> bool:
        latest[0] = await ask.service.bridge.read(lambda tx: query.get(tx, at.uuid))
        return is_final(latest[0])

    done = await ask.service.waiting.until(at.id, ended, wait_s, ask.gone)
    return latest[0], done
