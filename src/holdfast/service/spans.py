"""Traces: a span for each request, each task and each of its steps.

Theory: nothing is kept for the sake of traces. A request's span is made when it has been answered, those of a task and
its steps when it has ended, by a thread that follows the log; so no request and no step waits for them. What binds them
together is derived from ids that the task's row has anyway. The trace: the caller's (X-OpenStack-Request-Id, else the
trace of `traceparent`, which stands in the row as global_request_id), else the request's own id, else the task's. A
span: the last 64 bits of the request's or the task's id. So the span of a task finds its parent after any restart, and
two services that tell of one task tell the same ids.

Traces are a help and no ledger: of a task that ends while no service runs nothing is told.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections import OrderedDict
from hashlib import blake2b
from typing import Any, Final, NamedTuple
from uuid import UUID

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)  # fmt: skip

from holdfast import __version__
from holdfast.core.states import ABORTED, FAILED
from holdfast.errors import HoldfastClosed, TaskNotFound, WorldError
from holdfast.feed import log
from holdfast.feed.log import Filter
from holdfast.local import Holdfast
from holdfast.service.requests import Marks, traceparent
from holdfast.service.routes import SAFE, Route
from holdfast.store.base import StepRow, Tx
from holdfast.tasks import query, row
from holdfast.tasks.row import TaskRow
from holdfast.tasks.tell import STATE

STOP_S: Final = 1.0  # how long what is still to be sent may keep the service from stopping
LOOK_S: Final = 0.25
DECISIONS_MAX: Final = 10_000
_ENDS: Final = Filter(types=frozenset((STATE,)))
_LOW: Final = (1 << 64) - 1
_ILL: Final = (FAILED, ABORTED)


def exporter(to: str) -> SpanExporter:
    """`to` "": as OpenTelemetry's variables say."""
    return OTLPSpanExporter(endpoint=to or None)


class Ended(NamedTuple):
    """A task, and what is told with it. `parent`, `root`: the uuids of the tasks above it."""

    task: TaskRow
    steps: list[StepRow]
    parent: str | None
    root: str | None


class Ids(IdGenerator):
    """Gives the ids that this thread has been told to give next."""

    def __init__(self) -> None:
        self.next = threading.local()
        self._chance = RandomIdGenerator()

    def generate_trace_id(self) -> int:
        return getattr(self.next, "trace", 0) or self._chance.generate_trace_id()

    def generate_span_id(self) -> int:
        return getattr(self.next, "span", 0) or self._chance.generate_span_id()


class Spans:
    """Of one service."""

    def __init__(self, hold: Holdfast, to: SpanExporter) -> None:
        self._hold = hold
        self._ids = Ids()
        named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        given = {"service.version": __version__} | ({} if named else {"service.name": "holdfast"})
        self._provider = TracerProvider(
            id_generator=self._ids, resource=Resource.create(given), shutdown_on_exit=False
        )  # fmt: skip
        self._provider.add_span_processor(BatchSpanProcessor(to))
        self._tracer = self._provider.get_tracer("holdfast", __version__)
        # Whether the traces of requests that may have made tasks are told: the caller may have said no.
        self._decided: OrderedDict[str, bool] = OrderedDict()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="holdfast-traces", daemon=True)

    def start(self) -> None:
        self._thread.start()

    async def stop(self) -> None:
        """Send what is left, if that goes quickly."""
        self._stopping.set()
        last = threading.Thread(target=self._close, daemon=True)
        last.start()
        await asyncio.to_thread(last.join, STOP_S)

    def _close(self) -> None:
        if self._thread.is_alive():
            self._thread.join()
        self._provider.shutdown()

    # --- requests -------------------------------------------------------------------------------------------------

    def seen(self, route: Route | None, scope: Any, status: int, seconds: float) -> None:
        """One request has been answered. Those for health and metrics would be most of them, and tell nothing."""
        if route is not None and not route.limited:
            return
        marks: Marks = scope["holdfast"]
        now = self._hold.clock.time()
        trace, came = _trace_of(marks.request_id, marks.global_request_id), traceparent(marks.headers)
        parent, links = None, []
        if came is not None:
            theirs = SpanContext(came.trace, came.span, is_remote=True, trace_flags=TraceFlags(came.flags))
            if came.trace == trace:
                parent = theirs
            else:
                links.append(Link(theirs))
        method = scope["method"]
        span = self._begin(
            method if route is None else f"{method} {route.path}", now - seconds, trace, _low(marks.request_id),
            parent, SpanKind.SERVER, links,
        )  # fmt: skip
        if method not in SAFE:
            self._decided[marks.request_id] = span.get_span_context().trace_flags.sampled
            if len(self._decided) > DECISIONS_MAX:
                self._decided.popitem(last=False)
        if span.is_recording():
            span.set_attribute("http.request.method", method)
            span.set_attribute("http.response.status_code", status)
            if route is not None:
                span.set_attribute("http.route", route.path)
            span.set_attribute("holdfast.request_id", marks.request_id)
            if status >= 500:
                span.set_status(Status(StatusCode.ERROR))
            span.end(_ns(now))

    # --- tasks ----------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        place: int | None = None
        while not self._stopping.is_set():
            try:
                changes = self._hold.store.changes()
                if place is None:
                    place = self._hold.store.read(log.newest)
                place, is_all = self._tell(place)
                if is_all:
                    self._hold.store.wait(changes, LOOK_S)
            except HoldfastClosed:
                return
            except WorldError:
                self._stopping.wait(LOOK_S)  # the next time

    def _tell(self, place: int) -> tuple[int, bool]:
        """Of the tasks whose end the log has behind `place`. Up to where it was read, and whether that is all."""

        def read(tx: Tx) -> tuple[list[log.Entry], int]:
            return log.behind(tx, place, limit=log.LIMIT, filter=_ENDS), log.newest(tx)

        found, newest = self._hold.store.read(read)
        for entry in found:
            if entry.is_end and entry.task is not None:
                ended = self._hold.store.read(lambda tx, task=entry.task: _ended(tx, task))  # type: ignore[misc]
                if ended is not None:
                    self.task(ended)
        is_all = len(found) < log.LIMIT
        return (max(newest, place) if is_all else found[-1].id), is_all

    def task(self, ended: Ended) -> None:
        """The spans of one task."""
        at, end = ended.task, ended.task.finished_at or ended.task.updated_at
        trace = _trace_of(at.request_id, at.global_request_id) or _bits(ended.root or at.uuid)
        above = _low(ended.parent or at.request_id)
        parent = None
        if above:
            sampled = self._decided.get(at.request_id)
            if sampled is None:
                sampled = (
                    self._provider.sampler.should_sample(None, trace, "task").decision is Decision.RECORD_AND_SAMPLE
                )
            parent = SpanContext(trace, above, is_remote=True, trace_flags=TraceFlags(int(sampled)))
        span = self._begin(f"task {at.operation or at.flow}", at.created_at, trace, _low(at.uuid), parent)
        if not span.is_recording():
            return
        span.set_attributes({name: value for name, value in _attributes(at).items() if value not in (None, "")})
        if at.executed_at is not None:
            span.add_event("executing", timestamp=_ns(at.executed_at))
        _judge(span, at.state in _ILL, at.error)
        for step in ended.steps:
            self._step(at, step, span.get_span_context(), end)
        span.end(_ns(end))

    def _step(self, at: TaskRow, step: StepRow, parent: SpanContext, end: float) -> None:
        number = int.from_bytes(blake2b(f"{at.uuid}/{step.ord}".encode(), digest_size=8).digest())
        span = self._begin(f"step {step.node}", step.started_at, parent.trace_id, number, parent)
        span.set_attribute("holdfast.step.id", step.node)
        span.set_attribute("holdfast.step.state", step.state)
        span.set_attribute("holdfast.step.attempt", step.attempt)
        _judge(span, step.error is not None, step.error)
        span.end(_ns(max(step.started_at, end if step.ended_at is None else step.ended_at)))

    def _begin(
        self,
        name: str,
        at: float,
        trace: int,
        number: int,
        parent: SpanContext | None,
        kind: SpanKind = SpanKind.INTERNAL,
        links: list[Link] | None = None,
    ) -> Span:
        self._ids.next.trace, self._ids.next.span = trace, number
        above = Context() if parent is None else set_span_in_context(NonRecordingSpan(parent), Context())
        return self._tracer.start_span(name, above, kind, links=links, start_time=_ns(at))


def _ended(tx: Tx, task: int) -> Ended | None:
    try:
        at = row.read(tx, task)
    except TaskNotFound:  # purged
        return None
    names = query.uuids(tx, [each for each in (at.parent_id, at.root_id) if each is not None])
    return Ended(at, query.steps_of(tx, task), names.get(at.parent_id or 0), names.get(at.root_id or 0))


def _attributes(at: TaskRow) -> dict[str, Any]:
    return {
        "holdfast.task.id": at.uuid,
        "holdfast.task.flow": at.flow,
        "holdfast.task.state": at.state,
        "holdfast.task.effect": at.effect,
        "holdfast.task.revert": at.revert,
        "holdfast.resource.type": at.resource_type,
        "holdfast.resource.id": at.resource_id,
        "holdfast.project_id": at.project_id,
        "holdfast.request_id": at.request_id,
        "holdfast.tag": at.tag,
    }


def _judge(span: Span, is_ill: bool, error: str | None) -> None:
    """What went wrong, by its type alone: what a failure says may be of any length, and about anything."""
    if not is_ill:
        return
    span.set_status(Status(StatusCode.ERROR))
    types = json.loads(error).get("types") if error is not None else None
    if types:
        span.set_attribute("error.type", types[0])


def _trace_of(request_id: str, global_request_id: str) -> int:
    """0: neither is known."""
    return _bits(global_request_id) or _bits(request_id)


def _bits(id: str) -> int:
    """Of an id that is, or has, a UUID; 0: it has none. A library may give any text for a request's id."""
    try:
        return UUID(id.removeprefix("req-")).int
    except ValueError:
        return 0


def _low(id: str) -> int:
    return _bits(id) & _LOW


def _ns(at: float) -> int:
    return int(at * 1e9)
