"""Webhooks: what happens is sent to a real receiver, in order, signed, again until it is taken."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from holdfast.feed import sinks, turns
from holdfast.seal import new_key
from tests.service.conftest import MakeServed, MakeService, Service

KEY = new_key()
ALLOWED = {"webhook_networks": "127.0.0.0/8", "secret_key": KEY}
PATIENCE_S = 20.0


class Receiver:
    """`answers`: the statuses to give, in turn; 204 behind them. `got`: (headers, body) of every request."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        self._changed = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = self.rfile.read(length)
                if len(body) < length:
                    return  # who sent it has been killed in the middle, and says all of it again
                with receiver._changed:
                    receiver.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                    status = receiver.answers.pop(0) if receiver.answers else 204
                    receiver._changed.notify_all()
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", f"{receiver.url}/elsewhere")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def until(self, wanted: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """The events that came, once they are as wanted."""
        with self._changed:
            assert self._changed.wait_for(lambda: wanted(self.events), PATIENCE_S), self.events
        return self.events

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def service(make_service: MakeService, monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.setattr(sinks, "BACK_OFF_S", (0.05, 0.2))
    return make_service(**ALLOWED)


def subscribe(client: httpx.Client, url: str, **body: Any) -> dict[str, Any]:
    answer = client.post("/v3/webhooks", json={"url": url, **body})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()["webhook"]
    return made


def ended(events: list[dict[str, Any]], number: int = 1) -> bool:
    return len([event for event in events if event["data"].get("to") in ("SUCCEEDED", "FAILED")]) >= number


def until_state(client: httpx.Client, hook: dict[str, Any], *states: str) -> dict[str, Any]:
    end = time.monotonic() + PATIENCE_S
    while True:
        found: dict[str, Any] = client.get(f"/v3/webhooks/{hook['uuid']}").json()["webhook"]
        if found["state"] in states:
            return found
        assert time.monotonic() < end, found
        threading.Event().wait(0.02)


def test_events_come_signed_and_in_order(service: Service, receiver: Receiver) -> None:
    client = service.client()
    service.until(service.submit()["uuid"], "SUCCEEDED")  # before anybody subscribed
    hook = subscribe(client, f"{receiver.url}/hook")
    for _ in range(3):
        service.submit()
    events = receiver.until(lambda events: ended(events, 3))
    assert events == client.get("/v3/events", params={"after": hook["delivered"]}).json()["events"]
    key = base64.b64decode(hook["secret"].removeprefix("whsec_"))
    for headers, body in receiver.got:
        assert headers["content-type"] == "application/cloudevents+json"
        said = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        wanted = "v1," + base64.b64encode(hmac.new(key, said, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == wanted
        assert headers["webhook-id"] == f"evt_{json.loads(body)['id']}"


def test_what_was_not_taken_comes_again_before_what_is_behind_it(service: Service, receiver: Receiver) -> None:
    client = service.client()
    hook = subscribe(client, receiver.url, types=["task.state"])
    receiver.answers = [204, 500, 302, 429]
    service.submit()
    ids = [event["id"] for event in receiver.until(ended)]
    assert ids == [ids[0], *[ids[1]] * 4, ids[-1]]
    assert len(set(ids)) == 3
    assert all(not body.startswith(b"GET") for _, body in receiver.got)
    shown = until_state(client, hook, "ACTIVE")
    assert (shown["failures"], shown["failing_since"], shown["reason"]) == (0, None, None)


def test_one_that_fails_for_long_is_disabled_and_says_why(
    make_service: MakeService, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "BACK_OFF_S", (0.02, 0.05))
    service = make_service(webhook_give_up_s=0.2, **ALLOWED)
    client = service.client()
    receiver.answers = [503] * 1000
    hook = subscribe(client, receiver.url)
    service.submit()
    failing = until_state(client, hook, "FAILING")
    assert failing["failures"] >= 1
    found = until_state(client, hook, "DISABLED")
    assert found["reason"].startswith("it has failed since 20")
    assert found["reason"].endswith("it answered 503")
    receiver.answers = []
    again = subscribe(client, receiver.url, after=found["delivered"])
    assert receiver.until(ended)[-1]["id"] > again["delivered"]


def test_a_receiver_may_say_that_it_wants_no_more(service: Service, receiver: Receiver) -> None:
    client = service.client()
    receiver.answers = [410]
    hook = subscribe(client, receiver.url)
    service.submit()
    assert "410" in until_state(client, hook, "DISABLED")["reason"]
    assert len(receiver.got) == 1


def test_one_that_hangs_does_not_hold_up_another(service: Service, receiver: Receiver) -> None:
    client = service.client()
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        subscribe(client, f"http://127.0.0.1:{deaf.getsockname()[1]}/")
        subscribe(client, receiver.url)
        service.submit()
        assert ended(receiver.until(ended))


def test_many_that_hang_do_not_hold_up_one_that_works(make_service: MakeService, receiver: Receiver) -> None:
    """More of them than threads, in several projects and each at an address of its own; and none is given up."""
    service = make_service(**ALLOWED, webhook_timeout_s=60.0)
    client = service.client()
    subscribe(client, receiver.url)
    service.submit(client=client)
    assert ended(receiver.until(ended))
    with ExitStack() as closing:
        deaf = [closing.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(48)]
        others = [service.client(f"deaf-{place}") for place in range(6)]
        for place, each in enumerate(deaf):
            subscribe(others[place % 6], f"http://127.0.0.1:{each.getsockname()[1]}/")
        for other in others:
            service.submit(client=other)
        ready = closing.enter_context(selectors.DefaultSelector())
        for each in deaf:
            ready.register(each, selectors.EVENT_READ)
        held: list[socket.socket] = []
        while len(held) < turns.NEW:
            for key, _ in ready.select(PATIENCE_S):
                held.append(closing.enter_context(key.fileobj.accept()[0]))  # type: ignore[union-attr]
        service.submit(client=client)
        assert ended(receiver.until(lambda events: ended(events, 2)), 2)
        assert len(held) == turns.NEW
        assert ready.select(0) == [], "no more than these are tried at once"


def test_each_gets_what_it_asked_for(service: Service, receiver: Receiver) -> None:
    ann, ben = service.client("ann"), service.client("ben")
    subscribe(ann, f"{receiver.url}/ann")
    subscribe(ann, f"{receiver.url}/steps", types=["task.step"])
    subscribe(ben, f"{receiver.url}/r", resource_id="s1")
    service.submit(client=ann)
    bens = service.submit(client=ben, resource={"server": "s1"})
    service.submit(client=ben)
    receiver.until(lambda events: ended(events, 2) and any(event["type"] == "task.step" for event in events))
    service.until(bens["uuid"], "SUCCEEDED", client=ben)
    subjects = {event["subject"] for event in receiver.events}
    of_ann = {event["subject"] for event in ann.get("/v3/events").json()["events"]}
    assert subjects == of_ann | {f"tasks/{bens['uuid']}"}


def test_a_project_sees_and_deletes_its_own_only(service: Service, receiver: Receiver) -> None:
    ann, ben, reader = service.client("ann"), service.client("ben"), service.client("ann", "reader")
    hook = subscribe(ann, receiver.url)
    path = f"/v3/webhooks/{hook['uuid']}"
    assert [each["uuid"] for each in ann.get("/v3/webhooks").json()["webhooks"]] == [hook["uuid"]]
    assert "secret" not in ann.get(path).text.replace("whsec", "secret")
    assert ben.get("/v3/webhooks").json()["webhooks"] == []
    assert (ben.get(path).status_code, ben.delete(path).status_code) == (404, 404)
    assert reader.post("/v3/webhooks", json={"url": receiver.url}).status_code == 403
    assert ann.delete(path).status_code == 204
    assert ann.delete(path).status_code == 404
    service.submit(client=ann)
    other = subscribe(ann, f"{receiver.url}/other")
    service.until(service.submit(client=ann)["uuid"], "SUCCEEDED", client=ann)
    assert {headers["host"] for headers, _ in receiver.got} <= {receiver.url.removeprefix("http://")}
    assert all(int(event["id"]) > int(other["delivered"]) for event in receiver.until(ended))


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"url": "http://10.0.0.1/"}, 400, "webhook.refused"),
        ({"url": "http://169.254.169.254/latest/meta-data"}, 400, "webhook.refused"),
        ({"url": "file:///etc/passwd"}, 400, "webhook.refused"),
        ({"url": "http://127.0.0.1:9/", "types": ["x"]}, 400, "request.invalid"),
        ({"url": "http://127.0.0.1:9/", "secret": "x"}, 400, "request.invalid"),
        ({"url": "http://127.0.0.1:9/", "after": "x"}, 400, "request.invalid"),
        ({"url": "http://127.0.0.1:9/", "after": "999"}, 410, "gone"),
        ({"url": "http://127.0.0.1:9/", "task": "none"}, 404, "not_found"),
        ({"url": "http://127.0.0.1:9/", "more": 1}, 400, "request.invalid"),
        ({}, 400, "request.invalid"),
    ],
)
def test_what_is_asked_wrongly(service: Service, body: dict[str, Any], status: int, code: str) -> None:
    answer = service.client().post("/v3/webhooks", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_without_a_key_no_secret_is_stored(make_service: MakeService, receiver: Receiver) -> None:
    client = make_service(webhook_networks="127.0.0.0/8").client()
    answer = client.post("/v3/webhooks", json={"url": receiver.url})
    assert (answer.status_code, answer.json()["code"]) == (400, "secret.key_missing")


def test_a_secret_is_sealed_where_it_is_stored(service: Service, receiver: Receiver) -> None:
    from sqlalchemy import select

    from holdfast.store.schema import webhooks

    hook = subscribe(service.client(), receiver.url)
    stored = service.hold.store.read(lambda tx: tx.execute(select(webhooks.c.secret)).scalar())
    assert hook["secret"] not in stored
    assert service.hold.sealer.unseal(stored) == hook["secret"]


@pytest.mark.requirement("TF-7")
def test_a_killed_process_leaves_out_no_event(make_served: MakeServed, receiver: Receiver) -> None:
    served = make_served(lease_s="1", heartbeat_s="0.3", webhook_timeout_s="1", **ALLOWED)
    client = served.client()
    hook = subscribe(client, receiver.url)
    for _ in range(5):
        served.submit(client=client)
    receiver.until(lambda events: len(events) >= 4)
    served.kill()
    served.start()
    client = served.client()
    receiver.until(lambda events: len({event["subject"] for event in events if ended([event])}) == 5)
    log = client.get("/v3/events", params={"after": hook["delivered"], "limit": 1000}).json()["events"]
    came = list(dict.fromkeys(event["id"] for event in receiver.events))
    assert came == [event["id"] for event in log][: len(came)]
