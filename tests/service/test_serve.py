"""`holdfast serve` as a process, and what its sockets bear: kills, signals, slow and many connections, a busy store."""

from __future__ import annotations

import json
import logging
import os
import pty
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from holdfast.errors import SettingInvalid
from holdfast.service.serve import listen, raise_file_limit, url_of
from tests.postgresql import database_at, only_sqlite
from tests.service.conftest import ROOT, MakeServed, MakeService, Served, Service
from tests.service.test_requests import problem


def address(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("http://").rpartition(":")
    return host, int(port)


def dial(url: str) -> socket.socket:
    return socket.create_connection(address(url), timeout=20)


def heard(connection: socket.socket) -> bytes:
    """Everything until the other end closes."""
    parts = []
    try:
        while part := connection.recv(65_536):
            parts.append(part)
    except ConnectionResetError:
        pass
    connection.close()
    return b"".join(parts)


def told(raw: bytes) -> dict[str, Any]:
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head.lower()
    found: dict[str, Any] = json.loads(body)
    return found


@only_sqlite
@pytest.mark.requirement("NOVA-6", "TAG-8", "P5", "G1")
def test_killed_between_commit_and_answer(served: Served) -> None:
    tag, body = {"Task-tag": "order-17", "Prefer": "wait=30"}, {"task": "waiting", "resource": {"thing": "t-1"}}
    lost: list[Exception] = []

    def ask() -> None:
        try:
            served.client().post("/v3/tasks", json=body, headers=tag)
        except httpx.TransportError as error:
            lost.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    database = sqlite3.connect(served.database)
    while not database.execute("SELECT 1 FROM tasks WHERE tag = 'order-17'").fetchone():  # committed, not answered
        asking.join(0.01)
        assert asking.is_alive()
    database.close()
    served.kill()
    asking.join(20)
    assert len(lost) == 1
    served.start()
    client = served.client()
    (found,) = client.get("/v3/tasks", params={"tag": "order-17"}).json()["tasks"]
    assert found["resource"] == {"thing": "t-1"}
    again = client.post("/v3/tasks", json=body, headers={"Task-tag": "order-17"})
    assert (again.status_code, again.headers["task-tag-replayed"]) == (202, "true")
    assert again.json()["task"]["uuid"] == found["uuid"]
    assert len(client.get("/v3/tasks").json()["tasks"]) == 1
    client.post(f"/v3/tasks/{found['uuid']}/events/go")
    served.until(found["uuid"], "SUCCEEDED")
    with closing(sqlite3.connect(served.database)) as database:
        ((begun,),) = database.execute("SELECT count(*) FROM journal WHERE kind = 'started' AND node LIKE '%mark'")
    assert served.witnessed() in (["mark"], ["mark"] * begun)  # it may have been killed in the step, too


def test_it_stops_in_time_whatever_is_open(served: Served) -> None:
    client = served.client()
    waiting, hanging = served.submit("waiting")["uuid"], served.submit("hanging")["uuid"]
    served.until(hanging, "RUNNING")
    served.until(waiting, "WAITING")
    polls = [dial(served.url) for _ in range(5)]
    for poll in polls:
        lines = (f"GET /v3/tasks/{waiting}?wait=60 HTTP/1.1", "Host: localhost", "X-Roles: member", "", "")
        poll.sendall("\r\n".join(lines).encode())
    silent = [dial(served.url) for _ in range(5)]
    half = dial(served.url)
    half.sendall(b"POST /v3/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
    for _ in range(3):  # what was sent before has been read by then
        assert client.get("/healthz").status_code == 200
    assert served.terminate() < 5
    assert served.process.returncode == 0
    for poll in polls:
        assert heard(poll).startswith(b"HTTP/1.1 200 ")
    for connection in (*silent, half):
        connection.close()
    served.start()
    assert served.until(hanging, "RUNNING")["state"] == "RUNNING"


def test_it_says_where_it_listens_and_serves_without_a_worker(make_served: MakeServed) -> None:
    alone = make_served("--no-worker")
    uuid = alone.submit("quick")["uuid"]
    assert alone.client().get(f"/v3/tasks/{uuid}").json()["task"]["state"] == "PENDING"
    assert alone.client().get(f"/v3/tasks/{uuid}?wait=0.2").json()["task"]["state"] == "PENDING"


@pytest.mark.parametrize(("streams", "times"), [("terminal", 1), ("pipe", 2)])
def test_it_says_its_address_once_to_one_terminal(tmp_path: Path, streams: str, times: int) -> None:
    """To a program on stdout and to people on stderr; on a terminal both are read by the same."""
    ours, theirs = pty.openpty() if streams == "terminal" else os.pipe()
    words = ["serve", "--port", "0", "--no-worker", "--database", database_at(tmp_path / "t.db")]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen([sys.executable, "-m", "holdfast", *words], env=env, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        said = b""
        while b" on http" not in said or not said.endswith(b"\n"):
            said += os.read(ours, 4096)
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        os.close(ours)
    assert said.count(b"http://127.0.0.1:") == times, said


def test_a_file_limit_that_is_too_low_is_said() -> None:
    assert raise_file_limit(1) is None
    assert "ulimit" in str(raise_file_limit(1 << 40))


def test_addresses() -> None:
    with listen("127.0.0.1", 0) as four:
        assert url_of(four).startswith("http://127.0.0.1:")
        assert four.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    try:
        six = listen("::1", 0)
    except OSError:
        return  # a machine without IPv6
    with six:
        assert url_of(six).startswith("http://[::1]:")


# --- what comes slowly, too large, or not at all -------------------------------------------------------------------


@pytest.fixture
def strict(make_service: MakeService) -> Service:
    return make_service(worker=False, request_timeout_s=0.3, header_bytes_max=2048, connections_max=20)


def test_who_sends_too_slowly_is_told_and_let_go(strict: Service) -> None:
    silent = dial(strict.url)
    head = dial(strict.url)
    head.sendall(b"GET /v3 HTTP/1.1\r\nHost:")
    body = dial(strict.url)
    body.sendall(b"POST /v3/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
    began = time.monotonic()
    assert heard(silent) == b""
    for slow in (head, body):
        raw = heard(slow)
        assert raw.startswith(b"HTTP/1.1 408 ")
        assert told(raw)["code"] == "request.timeout"
    assert time.monotonic() - began < 5
    assert strict.client().get("/v3/tasks").json()["tasks"] == []


def test_a_head_has_a_size(strict: Service) -> None:
    for request in (
        b"GET /v3?" + b"x" * 4096 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v3 HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 4096 + b"\r\n\r\n",
        b"GET /v3 HTTP/1.1\r\nHost: localhost\r\nX-Endless: " + b"x" * 4096,
        b"GET /v3 HTTP/1.1\r\nHost: localhost\r\n" + b"X-Many: x\r\n" * 1000 + b"\r\n",
    ):
        connection = dial(strict.url)
        connection.sendall(request)
        raw = heard(connection)
        assert raw.startswith(b"HTTP/1.1 431 "), raw[:100]
        assert told(raw)["code"] == "headers.too_large"
    head = b"POST /v3/tasks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 8192\r\n\r\n"
    large = head + b" " * 8192
    connection = dial(strict.url)
    connection.sendall(large)
    assert heard(connection).startswith(b"HTTP/1.1 400 ")  # the size of a head is not that of a body


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET /v3 HTTP/9.9\r\n\r\n",
        b"POST /v3/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /v3/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx",
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_no_http_is_told_so(strict: Service, request_: bytes) -> None:
    connection = dial(strict.url)
    connection.sendall(request_)
    raw = heard(connection)
    assert raw.startswith(b"HTTP/1.1 400 "), raw[:200]
    assert told(raw)["code"] == "request.invalid"


def test_who_sends_no_more_is_answered(make_service: MakeService, caplog: pytest.LogCaptureFixture) -> None:
    """A client may close its way out as soon as it has asked, as netcat does."""
    service = make_service(worker=False)
    task = service.submit("quick")["uuid"]
    get = b"GET /v3/tasks/%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % task.encode()
    body = b'{"task": "quick"}'
    post = b"POST /v3/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s"
    waits = b"GET /v3/tasks/%s?wait=60 HTTP/1.1\r\nHost: localhost\r\n\r\n" % task.encode()
    stream = b"GET /v3/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
    began = time.monotonic()
    for asked, answers in (
        (get, [b"200"]), (post % (len(body), body), [b"202"]), (get * 3, [b"200"] * 3),
        (waits, [b"200"]),  # nothing has changed, and nobody is there any more, for all that is known
        (get + waits + get, [b"200"] * 3),
        (get[:-4], []), (post % (100, body), []), (b"", []),
    ):  # fmt: skip
        connection = dial(service.url)
        connection.sendall(asked)
        connection.shutdown(socket.SHUT_WR)
        raw = heard(connection)
        assert [part.partition(b" ")[0] for part in raw.split(b"HTTP/1.1 ")[1:]] == answers, asked
    connection = dial(service.url)
    connection.sendall(stream)
    connection.shutdown(socket.SHUT_WR)
    assert b"500" not in heard(connection)[:20]
    assert time.monotonic() - began < 30, "nobody waited for a minute"
    assert len(service.client().get("/v3/tasks").json()["tasks"]) == 2
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []


def test_what_is_no_http_fills_no_log(strict: Service, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(20):
        connection = dial(strict.url)
        connection.sendall(b"nonsense\r\n\r\n")
        assert heard(connection).startswith(b"HTTP/1.1 400 ")
    assert len([each for each in caplog.records if each.name == "uvicorn.error"]) <= 1


OFFERS = [
    b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    b"connection: keep-alive\r\nConnection: UPGRADE\r\nupgrade: TLS/1.0\r\n",
]


@pytest.mark.parametrize("pieces", [1, 2, 10_000])
@pytest.mark.parametrize("offer", OFFERS, ids=["h2c", "websocket", "tls"])
def test_an_offer_of_another_protocol_is_passed_over(strict: Service, offer: bytes, pieces: int) -> None:
    """Java's and curl's clients make one with each first request. What is behind its head is its body."""
    post, body = b"POST /v3/tasks HTTP/1.1\r\nHost: localhost\r\n", b'{"task": "quick", "params": {"number": 1}}'
    whole = post + offer + b"Task-tag: t\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    inner = post + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    hidden = post + offer + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(inner), inner)
    ends = offer.replace(b"onnection: ", b"onnection: close, ", 1)
    last = b"GET /v3 HTTP/1.1\r\nHost: localhost\r\n%s\r\n" % ends
    connection = dial(strict.url)
    size = -(-len(whole + hidden + last) // pieces)
    for at in range(0, len(whole + hidden + last), size):
        connection.sendall((whole + hidden + last)[at : at + size])
    said = heard(connection)
    assert re.findall(rb"HTTP/1.1 (\d+)", said) == [b"202", b"400", b"200"], said
    assert [task["tag"] for task in strict.client().get("/v3/tasks").json()["tasks"]] == ["t"]


def test_a_tunnel_leads_nowhere(strict: Service) -> None:
    for target in (b"example.org:80", b"/v3/tasks"):
        connection = dial(strict.url)
        connection.sendall(b"CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\nGET /v3 HTTP/1.1\r\nHost: x\r\n\r\n" % target)
        assert re.findall(rb"HTTP/1.1 (\d+)", heard(connection)) == [b"400"]


def test_connections_are_counted(strict: Service) -> None:
    kept = [dial(strict.url) for _ in range(20)]
    over = dial(strict.url)
    raw = heard(over)
    assert raw.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After:" in raw
    assert told(raw)["code"] == "busy"
    for connection in kept:
        connection.close()
    end = time.monotonic() + 10
    while True:
        try:
            if strict.client().get("/healthz").status_code == 200:
                break
        except httpx.TransportError:
            pass
        assert time.monotonic() < end


def test_half_open_connections_stop_nobody(make_service: MakeService) -> None:
    service = make_service(worker=False)
    half = [dial(service.url) for _ in range(300)]
    for connection in half:
        connection.sendall(b"GET /v3 HTTP/1.1\r\nHost: localhost\r\nX-")
    began = time.monotonic()
    client = service.client()
    for _ in range(20):
        assert client.get("/v3").status_code == 200
    assert time.monotonic() - began < 5
    for connection in half:
        connection.close()


def test_requests_in_a_row_on_one_connection(strict: Service) -> None:
    connection = dial(strict.url)
    connection.sendall(b"GET /v3 HTTP/1.1\r\nHost: x\r\n\r\n" * 3 + b"GET /v3 HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert heard(connection).count(b"HTTP/1.1 200 ") == 4


def test_a_connection_is_kept_for_a_while_and_then_let_go(strict: Service) -> None:
    used = dial(strict.url)
    early = dial(strict.url)
    early.sendall(b"POST /v3/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n")
    assert early.recv(65_536).startswith(b"HTTP/1.1 413 ")  # and its body does not come
    for _ in range(3):
        used.sendall(b"GET /v3 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert used.recv(65_536).startswith(b"HTTP/1.1 200 ")
        used.settimeout(0.4)  # longer than a request may take to come
        with pytest.raises(TimeoutError):
            used.recv(1)
        used.settimeout(20)
    began = time.monotonic()
    assert heard(used) == b""
    assert time.monotonic() - began < 5
    heard(early)


def test_an_answer_is_one_packet(strict: Service) -> None:
    with dial(strict.url) as connection:
        for method, body in ((b"GET", True), (b"HEAD", False)):
            connection.sendall(method + b" /v3 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head, _, rest = connection.recv(65_536).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            assert (len(rest) > 0) == body
            assert not body or b"content-length: %d" % len(rest) in head


def test_the_head_of_a_second_request_has_a_size_too(strict: Service) -> None:
    connection = dial(strict.url)
    connection.sendall(b"GET /v3 HTTP/1.1\r\nHost: localhost\r\n\r\nGET /v3 HTTP/1.1\r\nX-Long: " + b"x" * 1500)
    assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
    connection.sendall(b"x" * 1500 + b"\r\n\r\n")
    assert heard(connection).startswith(b"HTTP/1.1 431 ")


# --- the store -----------------------------------------------------------------------------------------------------


@only_sqlite
@pytest.mark.requirement("P5")
def test_a_store_that_is_busy_says_when_to_come_again(make_service: MakeService) -> None:
    service = make_service(worker=False, busy_timeout_s=0.2)
    client = service.client()
    task = service.submit("quick", client=client)
    other = sqlite3.connect(service.hold.url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    answer = client.post("/v3/tasks", json={"task": "quick"}, headers={"Task-tag": "t"})
    problem(answer, 503, "store.busy")
    assert int(answer.headers["retry-after"]) >= 1
    assert client.get(f"/v3/tasks/{task['uuid']}").status_code == 200
    other.execute("ROLLBACK")
    other.close()
    answer = client.post("/v3/tasks", json={"task": "quick"}, headers={"Task-tag": "t"})
    assert (answer.status_code, answer.headers.get("task-tag-replayed")) == (202, None)


def test_one_that_fails_hurts_nobody_in_its_commit(make_service: MakeService) -> None:
    service = make_service(worker=False)
    statuses: list[int] = []

    def ask(place: int) -> None:
        body: dict[str, Any] = {"task": "quick"}
        if place % 2:
            body["priority"] = place  # another request under the same tag
        headers = {"Task-tag": "one" if place % 2 else f"own {place}".replace(" ", "-")}
        statuses.append(service.client().post("/v3/tasks", json=body, headers=headers).status_code)

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [202] * 11 + [422] * 9
    assert len(service.client().get("/v3/tasks").json()["tasks"]) == 11


def test_ready_is_not_stopping(make_service: MakeService) -> None:
    service = make_service(worker=False)
    client = service.bare()
    assert client.get("/readyz").json() == {"status": "ok"}
    service.core.stopping = True
    problem(client.get("/readyz"), 503, "not_ready")
    assert client.get("/healthz").status_code == 200
    service.core.stopping = False


def test_a_line_for_each_request(make_service: MakeService, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "holdfast.access")
    quiet = make_service(worker=False)
    quiet.client().get("/v3/tasks")
    assert caplog.records == []
    service = make_service(worker=False, access_log="on")
    answer = service.client("p1").get("/v3/tasks?state=failed&secret=x")
    end = time.monotonic() + 10
    while not (lines := [record.getMessage() for record in caplog.records if record.name == "holdfast.access"]):
        assert time.monotonic() < end  # it is written once the answer has gone out
    (line,) = lines
    assert f"p1 {answer.headers['x-openstack-request-id']} GET /v3/tasks 400 " in line
    assert "secret" not in line
    with pytest.raises(SettingInvalid, match="access_log"):
        make_service(access_log="loud")
