"""Bytes that nobody should send: in the request's line, its headers, its path, its query and its body. Each is answered
with a 4xx in the one shape, or not at all; nothing is stored and nothing breaks."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.service.conftest import Service
from tests.service.storms import size
from tests.service.test_serve import dial

EXAMPLES = size("FUZZ", 150)
FIELDS = {"type", "title", "status", "detail", "instance", "code", "request_id", "errors"}
PATHS = [
    b"/v3/tasks",
    b"/v3/tasks/x",
    b"/v3/events",
    b"/v3/resources/server/x",
    b"/tasks",
    b"/v3",
    b"/nothing",
    b"/v3/webhooks",
]
HEADERS = [
    b"Task-tag", b"Idempotency-Key", b"OpenStack-API-Version", b"Prefer", b"If-Match", b"If-None-Match", b"Accept",
    b"Content-Type", b"X-Project-Id", b"X-Roles", b"X-User-Id", b"X-OpenStack-Request-ID", b"Last-Event-ID", b"Host",
    b"Content-Length", b"Transfer-Encoding", b"Connection", b"Expect", b"Upgrade", b"traceparent", b"Cookie",
]  # fmt: skip
QUERIES = [
    b"limit", b"marker", b"state", b"task_state", b"tag", b"created_at", b"last_updated", b"changes-since", b"fields",
    b"sort", b"wait", b"all_projects", b"project_id", b"after", b"resource_id", b"depth", b"type", b"nonsense",
]  # fmt: skip
BODY = b'{"task": "quick", "params": {"number": 1}}'


def asked(service: Service, raw: bytes) -> bytes:
    """Everything that comes back until the other end has nothing more to say."""
    with dial(service.url) as connection:
        try:
            connection.sendall(raw)
        except OSError:
            pass  # it has heard enough
        parts: list[bytes] = []
        try:
            while part := connection.recv(65_536):
                parts.append(part)
                if b"text/event-stream" in parts[0]:
                    break
        except OSError:
            pass
    return b"".join(parts)


def answers(raw: bytes) -> list[tuple[int, dict[str, str], bytes]]:
    """The answers in what came, with an interim one left out."""
    found = []
    while raw:
        head, gap, raw = raw.partition(b"\r\n\r\n")
        assert gap, f"half an answer: {head!r}"
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status, *_ = first.split(" ")
        assert version == "HTTP/1.1", first
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        if status == "100":
            continue
        if "content-length" in headers:
            body, raw = raw[: int(headers["content-length"])], raw[int(headers["content-length"]) :]
        else:
            body, raw = raw, b""
        found.append((int(status), headers, body))
    return found


def check(raw: bytes, *, refused: bool = False) -> None:
    """Each answer is what was asked for, or a problem that is the asker's fault."""
    found = answers(raw)
    for status, headers, body in found:
        assert status < 500, body
        assert not refused or status >= 400, (status, headers, body)
        if status >= 400 and body:
            assert headers["content-type"] in ("application/problem+json", "application/json")  # as it is asked for
            told: dict[str, Any] = json.loads(body)
            assert set(told) >= FIELDS
            assert (told["status"], told["code"]) == (status, told["errors"][0]["code"])
            assert "Traceback" not in body.decode()


def patiently(client: httpx.Client, path: str) -> Any:
    """Asked again where this process was silent for longer than the service bears here (`still`)."""
    for _ in range(20):
        with suppress(httpx.RemoteProtocolError):
            return client.get(path).json()
    return client.get(path).json()


def tasks(service: Service) -> list[dict[str, Any]]:
    client, found = service.client(roles="admin"), []
    path: str | None = "/v3/tasks?all_projects=true&limit=1000"
    while path is not None:
        page = patiently(client, path)
        found += page["tasks"]
        path = next((link["href"] for link in page["links"] if link["rel"] == "next"), None)
    return found


fuzzed = settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
junk = st.binary(max_size=40)
line_of_bytes = junk.map(lambda raw: raw.replace(b"\r", b"").replace(b"\n", b""))
targets = st.builds(
    lambda path, rest: path + rest,
    st.sampled_from(PATHS),
    st.one_of(st.just(b""), line_of_bytes, line_of_bytes.map(lambda raw: b"/" + raw)),
)
queries = st.lists(st.tuples(st.sampled_from(QUERIES), line_of_bytes), max_size=3)
headers = st.lists(st.tuples(st.sampled_from(HEADERS), line_of_bytes), max_size=4)
percent = st.binary(min_size=1, max_size=6).map(lambda raw: b"".join(b"%%%02X" % byte for byte in raw))


@pytest.fixture
def still(make_service: Any) -> Service:
    service: Service = make_service(worker=False, request_timeout_s=0.2)
    return service


def request(method: bytes, target: bytes, lines: list[tuple[bytes, bytes]], body: bytes = b"") -> bytes:
    given = {b"X-Roles": b"member", b"Host": b"localhost", b"Connection": b"close"}
    if body:
        given |= {b"Content-Type": b"application/json", b"Content-Length": b"%d" % len(body)}
    told = [*given.items(), *lines]
    return b"%s %s HTTP/1.1\r\n%s\r\n%s" % (method, target, b"".join(b"%s: %s\r\n" % each for each in told), body)


def test_any_bytes_at_all(still: Service) -> None:
    @fuzzed
    @given(st.binary(max_size=300))
    def one(raw: bytes) -> None:
        check(asked(still, raw))

    one()
    assert tasks(still) == []


def test_any_path_and_query(still: Service) -> None:
    @fuzzed
    @given(st.sampled_from([b"GET", b"HEAD", b"POST", b"DELETE", b"PUT", b"OPTIONS", b"PATCH", b"x"]), targets, queries)
    def raw(method: bytes, target: bytes, query: list[tuple[bytes, bytes]]) -> None:
        asks = b"&".join(b"%s=%s" % each for each in query)
        check(asked(still, request(method, target + (b"?" + asks if asks else b""), [])))

    @fuzzed
    @given(st.sampled_from(PATHS), percent, st.sampled_from(QUERIES), percent)
    def encoded(path: bytes, segment: bytes, name: bytes, value: bytes) -> None:
        for target in (b"%s/%s" % (path, segment), b"%s?%s=%s" % (path, name, value)):
            check(asked(still, request(b"GET", target, [(b"Accept", b"application/json")])))

    raw()
    encoded()
    assert tasks(still) == []


def test_any_headers(still: Service) -> None:
    """With a body that is right: what is refused stores nothing, what is taken is one task."""
    taken: set[str] = set()

    @fuzzed
    @given(headers, st.booleans())
    def one(lines: list[tuple[bytes, bytes]], posts: bool) -> None:
        heard = asked(still, request(b"POST" if posts else b"GET", b"/v3/tasks", lines, BODY if posts else b""))
        check(heard)
        taken.update(told["location"] for status, told, _ in answers(heard) if posts and status == 202)

    one()
    assert taken
    assert {f"/v3/tasks/{task['uuid']}" for task in tasks(still)} == taken


def test_any_body(still: Service) -> None:
    text = st.text(max_size=10)
    scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), text)
    keys = st.sampled_from(["task", "resource", "params", "start_after", "priority", "claims", "verb", "filter", "x"])
    values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3))
    bodies = st.one_of(
        junk,
        st.dictionaries(keys, values, max_size=4).map(lambda value: json.dumps(value).encode()),
        st.tuples(st.just(BODY), junk).map(lambda pair: pair[0][: len(pair[1])] + pair[1]),
        st.integers(1, 3000).map(lambda depth: b"[" * depth),
        st.integers(1, 3000).map(lambda depth: b'{"task":' * depth),
        st.integers(12, 400).map(lambda digits: b'{"task":"quick","priority":1' + b"0" * digits + b"}"),
    )

    @fuzzed
    @given(st.sampled_from([b"/v3/tasks", b"/v3/tasks/verbs", b"/v3/webhooks", b"/v3/tasks/x/cancel"]), bodies)
    def one(path: bytes, body: bytes) -> None:
        check(asked(still, request(b"POST", path, [], body or b" ")), refused=path != b"/v3/tasks/verbs")

    one()
    assert tasks(still) == []
