"""Calls about tasks: the routes of the REST contract, sections 5 and 6, that begin with /v3/tasks.

What a call yields, and who does it: protocol.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from holdfast.client import stream
from holdfast.client.protocol import Call, Ways, ask, ask_json, document, member, next_link, pages, path_of
from holdfast.errors import TaskNotFound, UsageError, WaitTimeout

Document = dict[str, Any]
Answers = Mapping[str, "str | tuple[str, Any]"]

LONG_POLL_S: Final = 25.0


class Accepted(NamedTuple):
    """What was asked for is a task now. `tag` names the request: asked again with it, it is the same task, and
    `replayed` says that it was so this time. `resource`: what the task is about, where it is about one."""

    task: Document
    tag: str
    replayed: bool
    resource: Document | None = None


# --- asking for one ----------------------------------------------------------------------------------------------


def make(
    ways: Ways, /, method: str, path: str, body: Any, *, tag: str | None, kind: str = "resource",
    headers: Mapping[str, str] | None = None,
) -> Call[Accepted]:  # fmt: skip
    """A request that makes a task. It has a tag, its own where none is given, for as often as it has to be sent."""
    named = {"Task-tag": ways.uuid() if tag is None else tag, **(headers or {})}
    reply = yield from ask(ways, method, path, body=body, headers=named)
    found = document(reply)
    replayed = reply.headers.get("task-tag-replayed", "").lower() == "true"
    resource = found.get(kind)
    return Accepted(member(found, "task"), named["Task-tag"], replayed, resource)


def submit(
    ways: Ways,
    /,
    task: str,
    params: Mapping[str, Any] | None = None,
    *,
    tag: str | None = None,
    claims: Iterable[str | tuple[str, str]] | None = None,
    start_after: str | float | None = None,
    priority: int | None = None,
) -> Call[Accepted]:
    """Ask for a task of a flow that the service knows by name.

    tag: names the request, so that asking twice is asking once; without one it has a new one. claims, start_after
    (RFC 3339, or seconds since the epoch), priority: as `Holdfast.submit`.
    """
    asked = {
        "task": task,
        "params": dict(params or {}),
        "claims": None if claims is None else claims_sent(claims),
        "start_after": _moment(start_after),
        "priority": priority,
    }
    body = {name: value for name, value in asked.items() if value is not None}
    return make(ways, "POST", path_of("tasks"), body, tag=tag)


def claims_sent(claims: Iterable[str | tuple[str, str]]) -> list[Document]:
    """Claims as the service takes them."""
    found = []
    for claim in claims:
        resource, mode = (claim, "exclusive") if isinstance(claim, str) else claim
        kind, _, name = resource.partition("/")
        found.append({"type": kind, "id": name, "mode": mode})
    return found


def _moment(at: str | float | None) -> str | None:
    if at is None or isinstance(at, str):
        return at
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


# --- looking -----------------------------------------------------------------------------------------------------


def show(ways: Ways, /, task: str) -> Call[Document]:
    """The task of that id, as it is now. Raises: NotFound, Gone."""
    found = yield from ask_json(ways, path_of("tasks", task))
    return _task(found)


def find(ways: Ways, /, ref: str) -> Call[Document]:
    """The task of that id or that tag; or whose id alone begins so (4 letters at least). Raises: NotFound,
    Gone, UsageError: several begin so."""
    path_of("tasks", ref)  # nothing at all would ask for every task, of which one is the newest
    tagged = yield from ask_json(ways, path_of("tasks"), {"tag": ref, "limit": 1})
    if member(tagged, "tasks"):
        return (yield from show(ways, tagged["tasks"][0]["uuid"]))
    letters = ref.replace("-", "").lower()
    if len(letters) == 32 or len(letters) < 4 or set(letters) - set("0123456789abcdef"):
        return (yield from show(ways, ref))
    return (yield from _begins(ways, ref, letters))


def _begins(ways: Ways, ref: str, letters: str) -> Call[Document]:
    """The task whose id begins so: an id's first twelve letters are the time of its making in milliseconds
    (RFC 9562 §5.7), so only tasks of that time are asked for."""
    first, last = (int(letters[:12].ljust(12, end), 16) / 1000 for end in "0f")
    found: list[Document] = []
    marker = None
    while len(found) < 2:
        query = {"created_at": f"lt:{_moment(min(last + 2, 2.5e11))}", "limit": 200, "marker": marker}
        listed = member((yield from ask_json(ways, path_of("tasks"), query)), "tasks")
        found += [dict(each) for each in listed if str(each["uuid"]).replace("-", "").startswith(letters)]
        if not listed or listed[-1]["created_at"] < (_moment(max(first - 2, 0)) or ""):
            break
        marker = listed[-1]["uuid"]
    if len(found) > 1:
        raise UsageError(f"several tasks begin with {ref}: {found[0]['uuid']}, {found[1]['uuid']} …")
    if not found:
        raise TaskNotFound(f"there is no task {ref}", task=ref)
    return (yield from show(ways, found[0]["uuid"]))


def tasks(ways: Ways, /, *, limit: int | None = None, **filters: Any) -> Call[None]:
    """Every task that matches, the newest first, at most `limit`. Filters are the contract's: state, tag, task,
    resource_id, resource_type, request_id, user_id, parent_id, origin, created_at="gt:…", all_projects=True, …"""
    query = {**filters, "limit": None if limit is None else max(0, min(limit, 1000))}
    return pages(ways, path_of("tasks"), "tasks", query, limit)


def steps(ways: Ways, /, task: str) -> Call[list[Document]]:
    """Its steps that ever began, in that order."""
    found: list[Document] = []
    link: str | None = path_of("tasks", task, "steps")
    while link is not None:
        page = yield from ask_json(ways, link)
        found += member(page, "steps")
        link = next_link(page, ways.url)
    return found


def children(ways: Ways, /, task: str) -> Call[None]:
    """The tasks that it has made on other resources."""
    return pages(ways, path_of("tasks", task, "tasks"), "tasks")


def graph(ways: Ways, /, task: str) -> Call[Document]:
    """Its flow, as the steps and what each waits for."""
    found = yield from ask_json(ways, path_of("tasks", task, "graph"))
    return dict(member(found, "graph"))


def log(ways: Ways, /, task: str) -> Call[None]:
    """Its journal; for administrators."""
    return pages(ways, path_of("tasks", task, "log"), "log")


def events(ways: Ways, /, task: str, *, after: str | int | None = None, follow: bool = True) -> Call[None]:
    """What happens to it: each event once and in order, from the beginning or from behind the event `after`, until it
    has ended. A connection that breaks is taken up where it was. `follow=False`: what has happened so far."""
    read = stream.follow if follow else stream.past
    return read(ways, path_of("tasks", task, "events"), {}, _after(after))


def all_events(ways: Ways, /, *, after: str | int | None = None, follow: bool = True, **filters: Any) -> Call[None]:
    """What happens to all tasks and resources; filters: resource_id, task, type."""
    read = stream.follow if follow else stream.past
    return read(ways, path_of("events"), filters, _after(after))


def _after(after: str | int | None) -> str | None:
    return None if after is None else str(after)


def wait(ways: Ways, /, task: str, timeout_s: float | None = None) -> Call[Document]:
    """The task once it has ended or rests for a person. Raises: WaitTimeout: it goes on."""
    end = None if timeout_s is None else ways.now() + timeout_s
    etag: str | None = None
    found: Document = {}
    while True:
        left_s = LONG_POLL_S if end is None else end - ways.now()
        wait_s = 0.0 if etag is None else max(0.0, min(left_s, LONG_POLL_S))
        # The service counts in whole seconds: the last of them may be late, never missing.
        query = {"wait": int(wait_s) + 1} if wait_s else None
        reply = yield from ask(
            ways, "GET", path_of("tasks", task), query=query, answer_s=ways.patience.answer_s + wait_s,
            headers={} if etag is None else {"If-None-Match": etag},
        )  # fmt: skip
        if reply.status != 304:
            found = _task(document(reply))
            etag = reply.headers.get("etag", "*")
        if at_rest(found):
            return found
        if end is not None and ways.now() >= end:
            raise WaitTimeout(f"task {task} is still {found['state']} after {timeout_s:g} s; it goes on", task=task)


def at_rest(found: Mapping[str, Any]) -> bool:
    """Whether it has ended, or rests for a person."""
    return found["finish_time"] is not None or found["state"] == "SUSPENDED"


# --- verbs -------------------------------------------------------------------------------------------------------


def cancel(ways: Ways, /, task: str, *, revert: bool = True) -> Call[Document]:
    """Stop at the next safe point and undo what was done; `revert=False` leaves it. Raises: VerbRefused."""
    return verb(ways, task, "cancel", {} if revert else {"revert": False})


def abort(ways: Ways, /, task: str) -> Call[Document]:
    """Stop now and undo nothing. Raises: VerbRefused."""
    return verb(ways, task, "abort")


def suspend(ways: Ways, /, task: str, *, release_claims: bool = False) -> Call[Document]:
    """Stop at the next safe point and hold. Raises: VerbRefused."""
    return verb(ways, task, "suspend", {"release_claims": True} if release_claims else {})


def resume(ways: Ways, /, task: str, answers: Answers | None = None) -> Call[Document]:
    """Go on. `answers`: step id -> "done", "rerun", "undo" or "skip", or ("done", result). Raises: AnswerNeeded."""
    said = {
        step: {"as": answer} if isinstance(answer, str) else {"as": answer[0], "result": answer[1]}
        for step, answer in (answers or {}).items()
    }
    return verb(ways, task, "resume", {"steps": said} if said else {})


def rollback(ways: Ways, /, task: str, *, force: bool = False) -> Call[Document]:
    """Undo: a moving task once it has stopped; an ended one by a new task, which is returned. Raises: VerbRefused."""
    return verb(ways, task, "rollback", {"force": True} if force else {})


def retry(ways: Ways, /, task: str) -> Call[Document]:
    """The same request again, as a new task, which is returned. Raises: VerbRefused."""
    return verb(ways, task, "retry")


def force_fail(ways: Ways, /, task: str, reason: str) -> Call[Document]:
    """FAILED now, whatever its steps still do; for administrators. Raises: VerbRefused."""
    return verb(ways, task, "force-fail", {"reason": reason})


def adopt(ways: Ways, /, task: str, *, dry_run: bool = False) -> Call[Document]:
    """Let a task that rests as definition_changed take its flow as it is now; `dry_run`: only say what that would
    mean. For administrators. Raises: VerbRefused, FlowNotFound."""
    path = path_of("tasks", task, "adopt")
    reply = yield from ask(ways, "POST", path, query={"dry_run": True} if dry_run else None, body={})
    return dict(document(reply)) if dry_run else _task(document(reply))


def deliver(ways: Ways, /, task: str, event: str, payload: Any = None) -> Call[Document]:
    """Deliver an event that a step of it waits for, or will."""
    reply = yield from ask(
        ways, "POST", path_of("tasks", task, "events", event), body={} if payload is None else {"payload": payload}
    )
    return _task(document(reply))


def verb(ways: Ways, /, task: str, name: str, body: Mapping[str, Any] | None = None) -> Call[Document]:
    """Any verb. The answer is the task, or the new one that the verb made. Repeating a verb changes nothing, so it
    needs no tag to be sent twice."""
    reply = yield from ask(ways, "POST", path_of("tasks", task, name), body=dict(body or {}))
    return _task(document(reply))


def verbs(
    ways: Ways, /, name: str, filters: Mapping[str, Any], options: Mapping[str, Any] | None = None
) -> Call[Document]:
    """A verb for every task that matches, with an answer for each. `options`: what the verb takes."""
    asked = {"verb": name, "filter": dict(filters), "options": dict(options or {})}
    reply = yield from ask(ways, "POST", path_of("tasks", "verbs"), body=asked)
    return dict(document(reply))


def _task(found: Any) -> Document:
    """The task of an answer, whether it stands alone or in a member `task`."""
    if isinstance(found, dict) and isinstance(found.get("task"), dict):
        found = found["task"]
    member(found, "uuid")
    return dict(found)
