"""Both clients over real sockets: what one does, the other does."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import holdfast.client
from holdfast import errors
from holdfast.client.patience import Patience
from holdfast.client.stream import Event
from tests.client.peer import Answer, Peer, serving
from tests.client.script import sse, task

QUICK = Patience(deadline_s=5, first_s=0.01, most_s=0.02, answer_s=5, connect_s=5)
ACCEPTED = Answer(202, {"task": task("PENDING")}, Task_Tag="t")

Ask = Callable[..., Any]


def _blocking(url: str, part: str, name: str, *args: Any, **kwargs: Any) -> Any:
    with holdfast.client.connect(url, token="t0k3n", patience=QUICK) as client:
        found = getattr(getattr(client, part) if part else client, name)(*args, **kwargs)
        return list(found) if hasattr(found, "__next__") else found


def _awaiting(url: str, part: str, name: str, *args: Any, **kwargs: Any) -> Any:
    async def ask() -> Any:
        async with holdfast.client.connect_async(url, token="t0k3n", patience=QUICK) as client:
            found = getattr(getattr(client, part) if part else client, name)(*args, **kwargs)
            return [each async for each in found] if hasattr(found, "__anext__") else await found

    return asyncio.run(ask())


@pytest.fixture(params=[_blocking, _awaiting], ids=["blocking", "awaiting"])
def ask(request: pytest.FixtureRequest) -> Ask:
    shell: Ask = request.param
    return shell


@pytest.mark.requirement("TAG-13")
def test_a_lost_answer_is_asked_for_again_with_the_same_tag(ask: Ask) -> None:
    with serving(Answer(lost=True), Answer(202, b'{"task"', cut=True), Answer(503), ACCEPTED) as peer:
        accepted = ask(peer.url, "tasks", "submit", "deploy", {"size": 2})
    assert (accepted.task["state"], accepted.replayed) == ("PENDING", False)
    assert peer.tags() == [accepted.tag] * 4
    assert [(method, path) for method, path, _ in peer.seen] == [("POST", "/v3/tasks")] * 4
    assert all(headers["x-auth-token"] == "t0k3n" for _, _, headers in peer.seen)


def test_a_replay_is_told(ask: Ask) -> None:
    body = {"task": task("RUNNING"), "message": "That request is already accepted"}
    with serving(Answer(202, body, Task_Tag="mine", Task_Tag_Replayed="true")) as peer:
        accepted = ask(peer.url, "resources", "reconcile", "server", "7", tag="mine")
    assert (accepted.replayed, accepted.tag) == (True, "mine")


def test_nobody_at_the_address(ask: Ask) -> None:
    with serving() as peer:
        pass
    with pytest.raises(errors.ServiceUnreachable, match=r"127\.0\.0\.1:\d+ gave no answer"):
        _hurried(ask, peer)


def _hurried(ask: Ask, peer: Peer) -> Any:
    before = QUICK._replace(deadline_s=0.2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], "QUICK", before)
        return ask(peer.url, "tasks", "show", "0198")


def test_an_event_stream_over_broken_connections(ask: Ask) -> None:
    kind = "text/event-stream"
    first = b"retry: 1\n\n" + sse((1, "RUNNING"), (2, "SUSPENDING"))
    with serving(
        Answer(200, first, cut=True, kind=kind), Answer(503), Answer(200, sse((3, "SUSPENDED")), kind=kind), Answer(204)
    ) as peer:
        found = ask(peer.url, "tasks", "events", "0198")
    assert [type(event) for event in found] == [Event] * 3
    assert [(event.id, event.data["to"]) for event in found] == [
        ("1", "RUNNING"), ("2", "SUSPENDING"), ("3", "SUSPENDED"),
    ]  # fmt: skip
    assert [headers.get("last-event-id") for _, _, headers in peer.seen] == [None, "2", "2", "3"]


def test_lists_and_refusals(ask: Ask) -> None:
    page = {"tasks": [task()], "links": [{"rel": "next", "href": "/v3/tasks?marker=0198"}]}
    with serving(Answer(200, page), Answer(200, {"tasks": []}), Answer(404, {"code": "not_found"})) as peer:
        assert len(ask(peer.url, "tasks", "list", state="RUNNING")) == 1
        with pytest.raises(errors.NotFound):
            ask(peer.url, "", "version")
    assert [path for _, path, _ in peer.seen] == ["/v3/tasks?state=RUNNING", "/v3/tasks?marker=0198", "/v3"]


def test_a_redirect_is_not_followed_with_the_token(ask: Ask) -> None:
    with serving() as other, serving(Answer(307, location=f"{other.url}/v3")) as peer:
        with pytest.raises(errors.AnswerUnreadable, match="307"):
            ask(peer.url, "", "version")
        assert other.seen == []


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:80", "ftp://127.0.0.1", "http://", "http://u:p@127.0.0.1", "http://127.0.0.1/?a=b"]
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(errors.UsageError):
        holdfast.client.connect(url)
    with pytest.raises(errors.UsageError):
        holdfast.client.connect_async(url)


def test_a_token_that_no_header_can_carry_is_refused_without_being_said() -> None:
    with pytest.raises(errors.UsageError, match="X-Auth-Token") as caught:
        holdfast.client.connect("http://127.0.0.1:1", token="s3cret\r\nX: y")
    assert "s3cret" not in str(caught.value)


def test_a_service_below_a_path(ask: Ask) -> None:
    page = {"tasks": [task()], "links": [{"rel": "next", "href": "/cloud/v3/tasks?marker=0198"}]}
    with serving(Answer(200, page), Answer(200, {"tasks": []})) as peer:
        assert len(ask(f"{peer.url}/cloud/", "tasks", "list")) == 1
    assert [path for _, path, _ in peer.seen] == ["/cloud/v3/tasks", "/cloud/v3/tasks?marker=0198"]


def test_every_call_has_a_sentence_and_both_clients_have_the_same_calls() -> None:
    from holdfast.client.surface import Many, Nodes, One, Resources, Root, Tasks

    for surface in (Root, Tasks, Resources, Nodes):
        for name, call in vars(surface).items():
            if isinstance(call, One | Many):
                assert (call.__doc__ or "").strip(), name
    with holdfast.client.connect("http://127.0.0.1:1") as client:
        assert client.tasks.show.__doc__ == Tasks.show.__doc__


def test_importing_holdfast_loads_no_client_and_the_client_loads_no_store() -> None:
    script = (
        "import sys, holdfast, holdfast.client\n"
        "early = {'httpx', 'asyncio', 'ssl'} & set(sys.modules)\n"
        "holdfast.client.connect('http://127.0.0.1:1').close()\n"
        "late = {name for name in ('httpx', 'sqlalchemy', 'litestar') if name in sys.modules}\n"
        "print(sorted(early), sorted(late))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "[] ['httpx']"


def test_a_proxy_of_the_environment_is_not_asked_for_what_is_on_this_machine(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with serving(Answer(200, {"version": {"id": "v3.0"}})) as peer:
        assert ask(peer.url, "", "version") == {"id": "v3.0"}
