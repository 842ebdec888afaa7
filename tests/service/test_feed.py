"""The event feed over HTTP: pages and streams of one log, for those who may see it."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from holdfast.feed import hub
from holdfast.tasks import query, tell
from tests.postgresql import database_at
from tests.service import told
from tests.service.conftest import MakeServed, MakeService, Service

Event = dict[str, Any]


def frames(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    """The fields of each frame of a stream; comments are under ""."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif fields:
            yield fields
            fields = {}


class Listener:
    """A stream that is open. `events` goes on where it left off."""

    def __init__(self, client: httpx.Client, path: str, after: int | str | None = None, **params: Any) -> None:
        headers = {"Accept": "text/event-stream"} | ({} if after is None else {"Last-Event-ID": str(after)})
        self._opened = client.stream("GET", path, headers=headers, params=params)
        self.answer = self._opened.__enter__()
        self._frames = frames(self.answer.iter_lines()) if self.answer.status_code == 200 else iter(())
        if self.answer.status_code == 200:
            assert next(self._frames) == {"retry": "2000"}
            if after is None and path == "/v3/events" and "after" not in params:
                self.began_at = next(self._frames)["id"]

    def events(self, number: int | None = None) -> list[Event]:
        found: list[Event] = []
        while number is None or len(found) < number:
            fields = next(self._frames, None)
            if fields is None:
                break
            if "data" in fields:
                told.look(str(self.answer.request.url), self.answer.request.headers, fields["data"])
                data = json.loads(fields["data"])
                assert (fields["id"], fields["event"]) == (data["id"], data["type"])
                found.append(data)
        return found

    def close(self) -> None:
        self._opened.__exit__(None, None, None)


@pytest.fixture
def listen() -> Iterator[Any]:
    opened: list[Listener] = []

    def begin(*args: Any, **params: Any) -> Listener:
        opened.append(Listener(*args, **params))
        return opened[-1]

    yield begin
    for each in opened:
        each.close()


def poll(client: httpx.Client, path: str = "/v3/events", **params: Any) -> list[Event]:
    """The whole log, page by page, by the links."""
    found: list[Event] = []
    answer = client.get(path, params=params)
    while answer.status_code == 200 and answer.json()["events"]:
        found += answer.json()["events"]
        answer = client.get(answer.json()["links"][0]["href"])
    assert answer.status_code == 200, answer.text
    return found


@pytest.mark.requirement("TF-7")
def test_a_page_a_stream_and_a_listener_tell_the_same(service: Service, listen: Any) -> None:
    client = service.client()
    live = listen(client, "/v3/events", 0)
    for name in ("quick", "failing", "quick"):
        service.until(service.submit(name)["uuid"], "SUCCEEDED", "FAILED", client=client)
    polled = poll(client, limit=3)
    assert len([event for event in polled if event["type"] == "task.state"]) >= 9
    assert live.events(len(polled)) == polled
    assert listen(client, "/v3/events", 0).events(len(polled)) == polled
    listened = [(str(entry.id), entry.type, entry.data) for entry in service.hold.events()]
    assert [(event["id"], event["type"], event["data"]) for event in polled] == listened


def test_who_is_answered_misses_nothing_that_he_does_then(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    join = hub.Hub.join

    async def slowly(self: hub.Hub, *given: Any) -> Any:
        await asyncio.sleep(0.3)
        return await join(self, *given)

    monkeypatch.setattr(hub.Hub, "join", slowly)
    client = service.client()
    with client.stream("GET", "/v3/events", headers={"Accept": "text/event-stream"}) as answer:
        task = service.submit("quick", client=service.client())
        place = next(each["id"] for each in frames(answer.iter_lines()) if "id" in each)
    assert int(place) < int(poll(client, f"/v3/tasks/{task['uuid']}/events")[0]["id"])


def test_an_event_is_a_cloud_event(service: Service) -> None:
    task = service.submit("quick")
    service.until(task["uuid"], "SUCCEEDED")
    first = service.client().get("/v3/events", params={"limit": 1}).json()["events"][0]
    assert {name: first[name] for name in ("specversion", "source", "type", "subject", "datacontenttype")} == {
        "specversion": "1.0",
        "source": "/v3",
        "type": "task.state",
        "subject": f"tasks/{task['uuid']}",
        "datacontenttype": "application/json",
    }
    assert first["time"].endswith("Z")
    data = first["data"]
    assert (data["from"], data["to"], data["actor"], data["task"]["uuid"]) == (None, "PENDING", "u1", task["uuid"])


def test_who_says_nothing_hears_what_comes_and_can_come_back(service: Service, listen: Any) -> None:
    client = service.client()
    service.until(service.submit()["uuid"], "SUCCEEDED")
    before = poll(client)
    live = listen(client, "/v3/events")
    assert live.began_at == before[-1]["id"]
    task = service.submit()
    assert live.events(1)[0]["subject"] == f"tasks/{task['uuid']}"


@pytest.mark.requirement("TF-7")
def test_a_stream_goes_on_where_it_was_cut(service: Service, listen: Any) -> None:
    client = service.client()
    heard: list[Event] = []
    for _ in range(4):
        service.submit()
        stream = listen(client, "/v3/events", heard[-1]["id"] if heard else 0)
        heard += stream.events(2)
        stream.close()
    everything = poll(client)
    assert heard == everything[: len(heard)]


@pytest.mark.requirement("TF-7")
def test_a_tasks_stream_ends_with_it_and_then_says_that_there_is_no_more(service: Service, listen: Any) -> None:
    client = service.client()
    task = service.submit("failing")
    path = f"/v3/tasks/{task['uuid']}/events"
    events = listen(client, path).events()
    assert [event["data"]["to"] for event in events if event["type"] == "task.state"][-1] == "FAILED"
    assert events[-1]["type"] == "task.state"
    again = listen(client, path, events[-1]["id"])
    assert again.answer.status_code == 204
    assert listen(client, path, events[-2]["id"]).events() == events[-1:]
    assert listen(client, path, type="task.progress").events() == []
    assert client.get(path).json()["events"] == events


def test_a_verb_on_an_ended_task_does_not_open_its_stream_again(service: Service, listen: Any) -> None:
    client = service.client()
    task = service.submit("failing")
    path = f"/v3/tasks/{task['uuid']}/events"
    end = listen(client, path).events()[-1]
    assert client.post(f"/v3/tasks/{task['uuid']}/retry").status_code == 202
    assert poll(client, path)[-1]["data"]["verb"] == "retry"
    assert listen(client, path, end["id"]).answer.status_code == 204


@pytest.mark.requirement("NOVA-3")
def test_events_tell_no_traceback_and_no_host(service: Service) -> None:
    service.until(service.submit("failing")["uuid"], "FAILED")
    for roles in ("reader", "admin"):
        text = service.client(roles=roles).get("/v3/events").text
        assert "no such luck" in text
        assert "raceback" not in text
        assert '"host"' not in text


def test_a_project_hears_nothing_of_another(service: Service, listen: Any) -> None:
    ann, ben = service.client("ann"), service.client("ben")
    admin = service.client("ops", "admin")
    of_ann = listen(ann, "/v3/events", 0)
    of_all = listen(admin, "/v3/events", 0, all_projects="true")
    bens = service.submit(client=ben)
    anns = service.submit(client=ann)
    assert {event["subject"] for event in of_ann.events(3)} == {f"tasks/{anns['uuid']}"}
    assert len({event["subject"] for event in of_all.events(6)}) == 2
    assert {event["subject"] for event in poll(ben)} == {f"tasks/{bens['uuid']}"}
    assert poll(admin) == []
    assert poll(admin, project_id="ben") == poll(ben)
    assert ann.get("/v3/events", params={"all_projects": "true"}).status_code == 403
    assert ann.get("/v3/events", params={"project_id": "ben"}).status_code == 403
    assert ann.get("/v3/events", params={"task": bens["uuid"]}).status_code == 404
    assert ann.get(f"/v3/tasks/{bens['uuid']}/events").status_code == 404


def test_filters(service: Service) -> None:
    client = service.client()
    one = service.submit("quick", resource={"server": "s1"})
    service.until(one["uuid"], "SUCCEEDED")
    service.until(service.submit("quick")["uuid"], "SUCCEEDED")
    assert {event["subject"] for event in poll(client, resource_id="s1")} == {f"tasks/{one['uuid']}"}
    assert poll(client, task=one["uuid"]) == poll(client, f"/v3/tasks/{one['uuid']}/events")
    assert {event["type"] for event in poll(client, type="task.step")} == {"task.step"}
    assert poll(client, resource_id="s2") == []


@pytest.mark.parametrize(
    ("params", "headers", "status"),
    [
        ({"after": "x"}, {}, 400),
        ({"after": "-1"}, {}, 400),
        ({"limit": "0"}, {}, 400),
        ({"limit": "x"}, {}, 400),
        ({"type": "task.stat"}, {}, 400),
        ({"befor": "1"}, {}, 400),
        ({"after": "9" * 18}, {}, 410),
        ({}, {"Last-Event-ID": "9" * 18, "Accept": "text/event-stream"}, 410),
        ({}, {"Last-Event-ID": "٣", "Accept": "text/event-stream"}, 400),
        ({}, {"Accept": "image/png"}, 406),
        ({"task": "nothing"}, {}, 404),
        ({"limit": "100000"}, {}, 200),
    ],
)
def test_what_is_asked_wrongly(service: Service, params: Any, headers: dict[str, str], status: int) -> None:
    raw = {name.encode(): value.encode() for name, value in headers.items()}
    answer = service.client().get("/v3/events", params=params, headers=raw)
    assert answer.status_code == status, answer.text
    if status != 200:
        assert answer.headers["content-type"] == "application/problem+json"


def test_what_is_too_old_is_gone(make_service: MakeService) -> None:
    from holdfast.tasks import retention

    service = make_service()
    client = service.client()
    service.until(service.submit()["uuid"], "SUCCEEDED", client=client)
    last = poll(client)[-1]["id"]
    retention.purge_feed(service.hold.store, service.hold.clock.time() + 1, 0.0)
    for accept in ("application/json", "text/event-stream"):
        answer = client.get("/v3/events", params={"after": 1}, headers={"Accept": accept})
        assert (answer.status_code, answer.json()["code"]) == (410, "gone")
    assert [event["id"] for event in poll(client)] == [last]


def test_an_idle_stream_is_kept_alive(service: Service) -> None:
    service.core.hub.heartbeat_s = 0.05
    with service.client().stream("GET", "/v3/events", headers={"Accept": "text/event-stream"}) as answer:
        comments = [line for line, _ in zip(answer.iter_lines(), range(8), strict=False) if line.startswith(":")]
    assert len(comments) >= 1
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"


def test_who_goes_away_leaves_nothing_behind(service: Service, listen: Any) -> None:
    streams = [listen(service.client(), "/v3/events") for _ in range(3)]
    assert service.core.hub.streams == 3
    for each in streams:
        each.close()
    end = time.monotonic() + 10
    while service.core.hub.streams and time.monotonic() < end:
        service.submit()
    assert service.core.hub.streams == 0


def test_a_stream_does_not_hold_up_the_service_that_stops(service: Service, listen: Any) -> None:
    stream = listen(service.client(), "/v3/events", 0)
    stopping = threading.Thread(target=service.serving.stop)
    stopping.start()
    assert stream.events() == []
    stopping.join(10)
    assert not stopping.is_alive()


def test_who_does_not_read_holds_nobody_up_and_finds_the_rest_in_the_log(
    make_service: MakeService, listen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "QUEUE_MAX", 20)
    service = make_service(worker=False, request_timeout_s=3600)  # he is not to be cut off before he has read the rest
    service.submit()
    ((at,),) = [service.hold.store.read(lambda tx: query.page(tx, query.Filter())).tasks]
    news = [tell.news(at, tell.PROGRESS, {"message": "x" * 20_000}, 1.0)] * 10
    brisk = listen(service.client(), "/v3/events", 0)
    host, _, port = service.url.removeprefix("http://").rpartition(":")
    heard = brisk.events(1)
    with socket.socket() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect((host, int(port)))
        lazy.sendall(
            b"GET /v3/events?after=0 HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
            b"X-Project-Id: default\r\nX-Roles: member\r\nConnection: close\r\n\r\n"
        )
        said = lazy.recv(100)
        for _ in range(40):  # 8 MB: more than lies between the two
            service.hold.store.write(lambda tx: tell.write(tx, news))
            heard += brisk.events(10)
        while chunk := lazy.recv(1 << 20):
            said += chunk
    seen = [line.removeprefix("id: ") for line in said.decode().splitlines() if line.startswith("id: ")]
    rest = poll(service.client(), after=seen[-1])
    assert len(seen) < len(heard) == 401
    assert heard[len(seen) :] == rest
    assert service.core.hub.closed_slow == 1


@pytest.mark.timeout(120)
@pytest.mark.requirement("TF-7")
def test_a_killed_process_leaves_neither_gap_nor_repeat(make_served: MakeServed, listen: Any) -> None:
    """The listener's process and the worker are the same, and it is killed again and again while events are written."""
    served = make_served(lease_s="1", heartbeat_s="0.3", deaths_max="100")
    heard: list[Event] = []
    uuids = []
    for round_number in range(3):
        client = served.client()
        stream = listen(client, "/v3/events", heard[-1]["id"] if heard else 0)
        uuids += [served.submit("undoable", client=client)["uuid"] for _ in range(5)]
        heard += stream.events(3 + round_number)
        served.kill()
        served.start()
    client = served.client()
    for uuid in uuids:
        served.until(uuid, "SUCCEEDED", client=client)
    everything = poll(client)
    stream = listen(client, "/v3/events", heard[-1]["id"])
    heard += stream.events(len(everything) - len(heard))
    assert heard == everything
    assert sorted(event["subject"] for event in heard if event["data"].get("to") == "SUCCEEDED") == sorted(
        f"tasks/{uuid}" for uuid in uuids
    )


def test_another_processs_commits_are_heard(make_served: MakeServed, make_service: MakeService, listen: Any) -> None:
    served = make_served()
    here = make_service(database=database_at(served.database), worker=False)
    stream = listen(here.client(), "/v3/events", 0)
    task = served.submit()
    events = stream.events(3)
    assert {event["subject"] for event in events} == {f"tasks/{task['uuid']}"}
