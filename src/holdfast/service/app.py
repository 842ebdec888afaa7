"""The application: what happens to every request before and after its handler.

In order: it gets an id; its version is looked at; it is routed; who asks is found out, and whether he may; then the
rate, the query, the tag and the body. Whatever is raised on the way becomes a problem (problems.py). Every answer has
the request's id and the version. The routes are made of one table (routes.py): Litestar finds the one that is meant.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any, Final

import msgspec
from litestar import Litestar, Request
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from holdfast.clock import SYSTEM
from holdfast.errors import AuthRequired, SettingInvalid, StoreSilent
from holdfast.feed.hub import Hub
from holdfast.local import Holdfast
from holdfast.service import identity, logs, microversion, problems, reply
from holdfast.service.bridge import Bridge
from holdfast.service.limits import Rates, Strangers
from holdfast.service.policy import Policy
from holdfast.service.problems import MethodNotAllowed, PageNotFound, RequestInvalid
from holdfast.service.reply import Answered, Whole
from holdfast.service.requests import (
    SERVICE_TYPE,
    Ask,
    Marks,
    address,
    marks_of,
    segments,
    takes_plain_json,
    version_of,
)
from holdfast.service.routes import JSON, PROBLEM, SAFE, Answer, Route
from holdfast.service.waiting import Waiting
from holdfast.settings import Settings
from holdfast.tasks.quota import Limits

#: Where routes are: each has `routes(service) -> list[Route]`.
MODULES: Final = (
    "about", "tasks", "verbs", "bulk", "leases", "resources", "compat.nova", "compat.ironic", "feed", "webhooks",
    "schedules", "fleet", "metrics", "tracing", "schemas", "openapi",
)  # fmt: skip

# What we add to a request's scope.
MARKS: Final = "holdfast"  # what is known before it is routed: requests.Marks
ROUTE: Final = "holdfast.route"
HEAD: Final = "holdfast.head"
CALLER: Final = "holdfast.caller"
access: Final = logging.getLogger("holdfast.access")


class Service:
    """What all handlers share. `seen`: told of every answer, for metrics and logs: (route or None, scope, status,
    seconds)."""

    def __init__(self, hold: Holdfast, settings: Settings | None = None) -> None:
        self.hold = hold
        self.settings = settings or hold.settings
        self.identify = identity.make(self.settings)
        self.policy = Policy.load(self.settings.policy_file)
        self.rates = Rates(self.settings.rate_limit)
        self.strangers = Strangers() if self.settings.identity in identity.GUESSABLE else None
        self.quotas = Limits(
            live_max=self.settings.quota_live_tasks, queue_max=self.settings.quota_queue_length
        )  # fmt: skip
        self.bridge = Bridge(hold)
        self.waiting = Waiting(self.bridge)
        self.hub = Hub(hold.store)
        self.stopping = False
        self.seen: list[Callable[[Route | None, Any, int, float], None]] = []
        if self.settings.access_log not in ("off", "on"):
            raise SettingInvalid(f"access_log is {self.settings.access_log!r}, but has to be off or on")
        if self.settings.access_log == "on":
            self.seen.append(log_access)
        self._at_start: list[Callable[[], Any]] = []
        self._at_stop: list[Callable[[], Any]] = []
        self.routes: list[Route] = []
        for name in MODULES:
            self.routes += import_module(f"holdfast.service.{name}").routes(self)

    # --- its life -------------------------------------------------------------------------------------------------

    def at_start(self, fn: Callable[[], Any]) -> None:
        """Call it on the loop when the service starts; it may be a coroutine function."""
        self._at_start.append(fn)

    def at_stop(self, fn: Callable[[], Any]) -> None:
        """Call it on the loop when the service is about to stop: what waits or streams ends itself then."""
        self._at_stop.append(fn)

    async def start(self) -> None:
        self.bridge.start()
        self.waiting.start()
        await asyncio.to_thread(lambda: self.hold.store.changes())  # the first time it may have to connect
        if len(self.hold.kinds):
            await asyncio.to_thread(self.hold.watch_drift)
        self.hub.start()
        for fn in self._at_start:
            await _maybe(fn())

    async def stop(self) -> None:
        """Let everything that waits or streams end: the requests in flight answer, and no stream holds the process."""
        if self.stopping:
            return
        self.stopping = True
        self.waiting.stop()
        await self.hub.stop()
        for fn in self._at_stop:
            await _maybe(fn())

    async def close(self) -> None:
        await self.stop()
        await asyncio.to_thread(self.bridge.close)

    # --- one request ----------------------------------------------------------------------------------------------

    async def answer(self, route: Route, scope: Any, receive: Receive) -> ASGIApp:
        try:
            return reply.of(await self._answer(route, scope, receive), head=HEAD in scope)
        except Exception as error:
            return problem(error, scope)
        except asyncio.CancelledError:
            if not self.stopping:
                raise
            return problem(StoreSilent(), scope)  # the time to stop in is over, and who asked is still there

    async def _answer(self, route: Route, scope: Any, receive: Receive) -> Answer:
        marks: Marks = scope[MARKS]
        caller = NOBODY
        if route.rule is not None:
            caller = scope[CALLER] = await self._caller(marks)
            self.policy.check(caller, route.rule)
            if route.limited:
                self.rates.count(caller.project_id)
        ask = Ask(self, route, scope, receive, caller, marks)
        if route.method not in SAFE:
            await ask.read()
        return await route.handler(ask)

    async def _caller(self, marks: Marks) -> identity.Caller:
        if self.strangers is None:
            return await self.identify(marks.headers, marks.peer)
        self.strangers.check(marks.peer, marks.headers)
        try:
            found = await self.identify(marks.headers, marks.peer)
        except AuthRequired:
            self.strangers.bad(marks.peer, marks.headers)
            raise
        self.strangers.good(marks.peer, marks.headers)
        return found


NOBODY: Final = identity.Caller("", "", frozenset())


def log_access(route: Route | None, scope: Any, status: int, seconds: float) -> None:
    """A line for each request to the logger holdfast.access."""
    caller: identity.Caller = scope.get(CALLER, NOBODY)
    access.info(
        "%s %s %s %s %s %d %.1f ms", scope[MARKS].peer or "-", caller.project_id or "-", scope[MARKS].request_id,
        scope["method"], scope["path"], status, seconds * 1000,
    )  # fmt: skip


async def _maybe(found: Any) -> None:
    if asyncio.iscoroutine(found):
        await found


def problem(error: Exception, scope: Any) -> Whole:
    """The answer that tells of an error."""
    told = problems.known(error)
    marks: Marks = scope[MARKS]
    if isinstance(told, problems.Internal):
        problems.log.error("%s %s %s", marks.request_id, scope["method"], scope["path"], exc_info=error)
    body = problems.of(told, request_id=marks.request_id, instance=address(scope))
    media = PROBLEM
    if takes_plain_json(marks.headers):
        body["message"] = body["detail"]
        media = JSON
    if microversion.is_spoken_at(scope["path"]):
        body |= microversion.fault(told.status, body["detail"])
    return Whole(told.status, msgspec.json.encode(body), problems.headers_of(told), media)


# --- the application ---------------------------------------------------------------------------------------------


def make_app(hold: Holdfast, settings: Settings | None = None) -> Front:
    """The ASGI application. It neither opens nor closes `hold`."""
    return Front(Service(hold, settings))


class Front:
    """What is done for every request, whether there is a route for it or not."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._allowed = _Allowed(service.routes)
        self.app = _litestar(service, self._allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ours: Any = dict(scope)  # the server's own must stay as it is
        if ours["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = SYSTEM.monotonic()
        marks = ours[MARKS] = marks_of(ours)
        logs.REQUEST.set(marks.request_id)
        sender = _Sender(send, marks, head=ours["method"] == "HEAD")
        try:
            if sender.head:
                ours["method"] = "GET"
                ours[HEAD] = True
            sender.version = version_of(marks.headers)
            if microversion.is_spoken_at(ours["path"]):
                sender.also = microversion.RANGE  # an error is told with them, too
                sender.also = microversion.negotiated(marks.headers)
            _make_routable(ours)
            if ours["method"] == "OPTIONS" and (methods := self._allowed.methods(ours["path"])) != ["OPTIONS"]:
                await Whole(204, headers=[("Allow", ", ".join(methods))])(ours, receive, sender)
                return
            await self.app(ours, receive, sender)
        except Exception as error:
            if sender.status:
                raise
            await problem(error, ours)(ours, receive, sender)
        finally:
            seconds = SYSTEM.monotonic() - began
            for fn in self.service.seen:
                fn(ours.get(ROUTE), ours, sender.status, seconds)


class _Sender:
    """The way back: adds the headers that every answer has; a HEAD has no body."""

    __slots__ = ("_marks", "_send", "also", "head", "status", "version")

    def __init__(self, send: Send, marks: Marks, *, head: bool) -> None:
        self._send = send
        self._marks = marks
        self.head = head
        self.status = 0
        self.version = "1.0"
        self.also: Sequence[tuple[str, str]] = ()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            request_id = self._marks.request_id.encode()
            headers: Any = list(message["headers"])
            headers += (
                (b"x-openstack-request-id", request_id),
                (b"x-compute-request-id", request_id),
                (b"openstack-api-version", f"{SERVICE_TYPE} {self.version}".encode()),
                (b"vary", b"OpenStack-API-Version, Accept, X-Auth-Token"),
                (b"x-content-type-options", b"nosniff"),
            )
            headers += ((name.lower().encode(), value.encode()) for name, value in self.also)
            message["headers"] = headers
        elif self.head and message["type"] == "http.response.body":
            message["body"] = b""
        await self._send(message)


def _make_routable(scope: Any) -> None:
    """A slash inside a name (%2F) must not look like a border to the router. Names are read from the raw path."""
    raw: bytes = scope.get("raw_path") or b""
    if b"%2f" in raw.lower() or b"%00" in raw:
        scope["path"] = "/".join(part.replace("/", "%2F").replace("\0", "%00") for part in segments(scope))


def _litestar(service: Service, allowed: _Allowed) -> Litestar:
    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        await service.start()
        try:
            yield
        finally:
            await service.close()

    def refuse(request: Request[Any, Any, Any], error: Exception) -> Any:
        """What the router could not do, and what went wrong in it."""
        if isinstance(error, HTTPException):
            path = request.scope["path"]
            if error.status_code == 405:
                methods = allowed.methods(path)
                error = MethodNotAllowed(
                    f"{path} takes {', '.join(methods)}", allowed=methods, headers={"Allow": ", ".join(methods)}
                )
            elif error.status_code == 404:
                error = PageNotFound(f"there is nothing at {path}")
            elif error.status_code < 500:
                error = RequestInvalid(str(error.detail))
        return Answered(problem(error, request.scope))

    return Litestar(
        [_handler(service, route) for route in service.routes],
        exception_handlers={Exception: refuse, HTTPException: refuse},
        lifespan=[lifespan],
        openapi_config=None,
        logging_config=None,
        debug=False,
    )


def _handler(service: Service, route: Route) -> HTTPRouteHandler:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        ours: Any = scope
        ours[ROUTE] = route
        sent = await service.answer(route, ours, receive)
        await sent(scope, receive, send)

    async def handle() -> None:
        """Never called: `answer` stands before it, as a middleware that answers by itself. Litestar would make objects
        of the request and of the answer, which takes longer than finding the route."""

    path = route.path
    for name, place in route.places.items():
        path = path.replace(f"{{{name}}}", f"{{part{place}:str}}")  # some names mean something to Litestar
    method: Any = route.method
    made = HTTPRouteHandler(path, http_method=[method], status_code=200, middleware=[lambda app: answer])
    return made(handle)


class _Allowed:
    """Which methods an address takes, for those who used another."""

    def __init__(self, routes: list[Route]) -> None:
        self._methods: dict[tuple[str, ...], set[str]] = {}
        for route in routes:
            pattern = tuple("" if part.startswith("{") else part for part in route.path.strip("/").split("/"))
            self._methods.setdefault(pattern, {"OPTIONS"}).add(route.method)

    def methods(self, path: str) -> list[str]:
        parts = path.strip("/").split("/")
        fitting = [
            pattern
            for pattern in self._methods
            if len(pattern) == len(parts) and all(want in ("", part) for want, part in zip(pattern, parts, strict=True))
        ]
        # As the router does: a word that is meant goes before one that may be any.
        best = min(fitting, key=lambda pattern: [not part for part in pattern], default=None)
        found = {"OPTIONS"} if best is None else set(self._methods[best])
        return sorted(found | {"HEAD"} if "GET" in found else found)
