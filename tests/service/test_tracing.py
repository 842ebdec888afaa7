"""Traces, as a receiver on this machine gets them."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import UUID

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from holdfast.errors import SettingInvalid
from holdfast.service import tracing
from holdfast.settings import Settings
from tests.service.conftest import PATIENCE_S, MakeService

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Receiver:
    """What an OpenTelemetry collector is to a service."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.names: set[str] = set()  # of services
        self.spans: list[Span] = []

    def until(self, *names: str) -> dict[str, Span]:
        """The spans, by name, once all of these have come."""
        end = time.monotonic() + PATIENCE_S
        while not set(names) <= {span.name for span in self.spans}:
            assert time.monotonic() < end, f"there came {sorted(span.name for span in self.spans)}"
            threading.Event().wait(0.02)
        return {span.name: span for span in self.spans}


@contextmanager
def receiving() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
            for of_resource in asked.resource_spans:
                named = [
                    each.value.string_value for each in of_resource.resource.attributes if each.key == "service.name"
                ]
                made.names.update(named)
                for scope in of_resource.scope_spans:
                    made.spans.extend(scope.spans)
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Receiver(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    with receiving() as made:
        yield made


def attributes(span: Span) -> dict[str, str]:
    return {each.key: each.value.string_value for each in span.attributes}


def test_a_task_and_its_steps_are_in_the_trace_of_the_caller(make_service: MakeService, receiver: Receiver) -> None:
    service = make_service(otel_endpoint=receiver.url)
    asker = service.client(traceparent=f"00-{TRACE}-{PARENT}-01")
    task = service.submit("quick", client=asker, params={"number": 1})
    assert task["global_request_id"] == f"req-{UUID(TRACE)}"
    found = receiver.until("POST /v3/tasks", "task quick")
    request, done = found["POST /v3/tasks"], found["task quick"]
    steps = [span for span in receiver.spans if span.name.startswith("step ")]
    assert {span.trace_id.hex() for span in (request, done, *steps)} == {TRACE}
    assert request.parent_span_id.hex() == PARENT
    assert request.kind == Span.SPAN_KIND_SERVER
    assert attributes(request)["http.route"] == "/v3/tasks"
    assert done.parent_span_id == request.span_id
    assert attributes(done)["holdfast.task.id"] == task["uuid"]
    assert steps
    assert {span.parent_span_id for span in steps} == {done.span_id}
    assert done.start_time_unix_nano <= steps[0].start_time_unix_nano <= steps[0].end_time_unix_nano
    assert receiver.names == {"holdfast"}


def test_without_a_caller_s_trace_the_request_s_id_is_the_trace_and_errors_are_marked(
    make_service: MakeService, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "tasks-of-b")
    service = make_service()
    task = service.submit("failing")
    found = receiver.until("POST /v3/tasks", "task failing")
    request, done = found["POST /v3/tasks"], found["task failing"]
    assert UUID(request.trace_id.hex()) == UUID(task["request_id"].removeprefix("req-"))
    assert request.parent_span_id == b""
    assert (done.trace_id, done.parent_span_id) == (request.trace_id, request.span_id)
    assert done.status.code == Status.STATUS_CODE_ERROR
    assert attributes(done)["error.type"]
    steps = {name: span.status.code for name, span in found.items() if name.startswith("step ")}
    assert steps == {"step failing/mark": Status.STATUS_CODE_UNSET, "step failing/fail": Status.STATUS_CODE_ERROR}
    assert receiver.names == {"tasks-of-b"}


def test_what_the_caller_does_not_trace_is_not_traced_nor_is_its_task(
    make_service: MakeService, receiver: Receiver
) -> None:
    service = make_service(otel_endpoint=receiver.url)
    quiet = service.submit("quick", client=service.client(traceparent=f"00-{TRACE}-{PARENT}-00"), params={"number": 1})
    service.until(quiet["uuid"], "SUCCEEDED")
    loud = service.submit("quick", params={"number": 1})
    receiver.until("task quick")
    told = {attributes(span)["holdfast.task.id"] for span in receiver.spans if span.name == "task quick"}
    assert told == {loud["uuid"]}
    assert not [span for span in receiver.spans if span.trace_id.hex() == TRACE]


def test_the_spans_are_the_same_whoever_tells_them(make_service: MakeService) -> None:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from holdfast.service import spans

    service = make_service()
    task = service.submit("quick", params={"number": 1})
    service.until(task["uuid"], "SUCCEEDED")
    told = []
    for _ in range(2):
        kept = InMemorySpanExporter()
        teller = spans.Spans(service.hold, kept)
        teller._tell(0)
        teller._provider.force_flush()
        told.append([(s.name, s.context and s.context.span_id) for s in kept.get_finished_spans()])
        teller._provider.shutdown()
    assert told[0] == told[1]
    assert [name for name, _ in told[0]][-1] == "task quick"


def test_a_service_stops_in_time_though_nobody_takes_its_traces(make_service: MakeService) -> None:
    service = make_service(otel_endpoint="http://127.0.0.1:9")
    service.until(service.submit("quick", params={"number": 1})["uuid"], "SUCCEEDED")
    began = time.monotonic()
    service.serving.stop()
    assert time.monotonic() - began < 4


def test_traces_are_off_unless_they_are_wanted() -> None:
    def to(env: dict[str, str], **given: str) -> str | None:
        return tracing.endpoint(Settings(**given), env)

    assert to({}) is None
    assert to({}, otel_endpoint="http://c:4318/") == "http://c:4318/v1/traces"
    assert to({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}) == ""
    assert to({"OTEL_SDK_DISABLED": "true"}, otel_endpoint="http://c:4318") is None
    assert to({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}) is None


def test_the_library_is_loaded_only_where_traces_are_wanted(make_service: MakeService) -> None:
    script = (
        "import sys\n"
        "from holdfast import local\n"
        "from holdfast.service.app import make_app\n"
        "with local.open('sqlite:///:memory:') as hold:\n"
        "    make_app(hold)\n"
        "    assert not any(name.startswith('opentelemetry.sdk') for name in sys.modules)\n"
        "    sys.modules['opentelemetry.sdk'] = None\n"
        "    make_app(hold, hold.settings.with_changes(otel_endpoint='http://127.0.0.1:9'))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert SettingInvalid.__name__ in done.stderr
    assert "pip install 'holdfast[tracing]'" in done.stderr
