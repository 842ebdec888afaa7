"""What all lists have in common: whose things they are of, the link to the next page, and that a long one holds nobody
up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from holdfast.errors import HoldfastClosed
from holdfast.feed import log
from holdfast.service import bridge
from holdfast.store.base import Tx
from holdfast.tasks import params
from tests.service.conftest import MakeService, Service
from tests.service.servers import Cloud, _still, still
from tests.service.test_requests import problem

__all__ = ["_still", "still"]

#: A list -> the servers that it tells of.
LISTS: dict[str, Callable[[Any], set[str]]] = {
    "/v3/tasks": lambda body: {each["resource_id"] for each in body["tasks"]},
    "/v3/resources/server": lambda body: {each["id"] for each in body["resources"]},
    "/v3/events": lambda body: {
        each["data"]["task"]["resource_id"] for each in body["events"] if each["type"] == "task.state"
    },
}


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    ("query", "member", "admin"),
    [
        ({}, "own", "own"),
        ({"project_id": "", "all_projects": ""}, "own", "own"),
        ({"project_id": "own"}, "own", "own"),
        ({"all_projects": "false"}, "own", "own"),
        ({"all_projects": "no", "project_id": "own"}, "own", "own"),
        ({"project_id": "other"}, 403, "other"),
        ({"project_id": "other", "all_projects": "0"}, 403, "other"),
        ({"all_projects": "true"}, 403, "own other"),
        ({"all_projects": "ON"}, 403, "own other"),
        ({"all_projects": "true", "project_id": "own"}, 403, "own"),
        ({"all_projects": "true", "project_id": "other"}, 403, "other"),
        ({"all_projects": "maybe"}, 400, 400),
    ],
)
def test_whose_things_a_list_is_of(still: Cloud, path: str, query: dict[str, str], member: Any, admin: Any) -> None:
    names = {"own": still.project, "other": f"other-of-{still.project}"}
    before = still.hold.store.read(log.newest)
    made = {word: still.make(client=still.client(project)) for word, project in names.items()}
    asked = {name: names.get(value, value) for name, value in query.items()} | {"limit": "1000"}
    asked |= {"after": str(before)} if path == "/v3/events" else {}
    for roles, wanted in (("member", member), ("admin", admin)):
        answer = still.client(roles=roles).get(path, params=asked)
        if isinstance(wanted, int):
            problem(answer, wanted, "policy.forbidden" if wanted == 403 else "request.invalid")
            continue
        found = LISTS[path](answer.json())
        if wanted == "own other":
            assert found >= set(made.values())
        else:
            assert found == {made[wanted]}


def test_a_word_for_yes_is_one_everywhere() -> None:
    for word in ("true", "True", "1", "yes", "on"):
        assert params.read([("all_projects", word)]).all_projects
    for word in ("false", "0", "NO", "off", ""):
        assert not params.read([("all_projects", word)]).all_projects


@pytest.mark.parametrize("ident", ["rack-7/u?x=1&y#z", "50%25", "a;=+", '"<>^`{|}'])
def test_the_next_page_of_any_name_is_found(still: Cloud, ident: str) -> None:
    path = f"/v3/resources/server/{quote(f'{still.project}{ident}', safe='')}"
    for place in range(3):
        answer = still.member.put(path, json={"name": f"web{place}"})
        assert answer.status_code == 202, answer.text
    for what in ("tasks", "revisions"):
        seen: list[Any] = []
        link = f"{path}/{what}?limit=1"
        while link:
            page = still.member.get(link).json()
            assert len(page[what]) == 1
            seen += page[what]
            link = page["links"][0]["href"] if page["links"] else ""
            assert link.isascii()
            assert " " not in link
        assert len(seen) == 3


def test_a_problem_says_where_as_an_address_can(shared: Service) -> None:
    for path in ("/v3/tasks/a%20b%2Fc", "/v3/none%C3%A4", "/v3/tasks/x%00", "/v3/tasks/a'(b)"):
        assert shared.client().get(path).json()["instance"] == path


def test_many_long_lists_hold_nobody_up(make_service: MakeService) -> None:
    """A hundred ask for long pages, while those that were asked for before take for ever to read."""
    service = make_service(worker=False)
    client = service.client()
    task = service.submit("quick", client=client)["uuid"]
    gate, at_work = threading.Event(), threading.Semaphore(0)

    def slow(tx: Tx) -> None:
        at_work.release()
        gate.wait()

    loop = service.core.bridge._loop
    assert loop is not None
    slow_ones = [
        asyncio.run_coroutine_threadsafe(service.core.bridge.read_long(slow), loop) for _ in range(bridge.READERS)
    ]
    try:
        for _ in slow_ones:
            at_work.acquire()
        paths = ["/v3/tasks?limit=1000", f"/v3/tasks/{task}/steps", f"/v3/tasks/{task}/graph", "/v3/events?limit=1000"]
        with ThreadPoolExecutor(20) as crowd:
            asked = [crowd.submit(get, service, path) for path in paths for _ in range(5)]
            for path in ("/healthz", "/readyz", f"/v3/tasks/{task}", "/v3/tasks?limit=10"):
                assert client.get(path).status_code == 200, "what is short is not behind what is long"
            assert service.submit("quick", client=client)["state"] == "PENDING"
            assert not any(each.done() for each in asked)
            gate.set()
            assert {each.result().status_code for each in asked} == {200}
    finally:
        gate.set()


def test_who_waits_for_a_long_list_does_not_hold_up_the_end(make_service: MakeService) -> None:
    ours = make_service(worker=False).core.bridge
    gate, at_work = threading.Event(), threading.Semaphore(0)

    def slow(tx: Tx) -> None:
        at_work.release()
        gate.wait()

    assert ours._loop is not None
    for _ in range(bridge.READERS):
        asyncio.run_coroutine_threadsafe(ours.read_long(slow), ours._loop)
        at_work.acquire()
    queued = asyncio.run_coroutine_threadsafe(ours.read_long(slow), ours._loop)
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0), ours._loop).result(20)  # it queues
    closing = threading.Thread(target=ours.close)
    closing.start()
    try:
        with pytest.raises(CancelledError):
            queued.result(20)
    finally:
        gate.set()
        closing.join()
    with pytest.raises(HoldfastClosed):
        asyncio.run_coroutine_threadsafe(ours.read_long(slow), ours._loop).result(20)
    assert not at_work.acquire(blocking=False), "it was never begun"


def get(service: Service, path: str) -> httpx.Response:
    return service.client().get(path)


def test_a_long_list_is_made_json_where_it_is_read(service: Service) -> None:
    """Else the loop would do it, which everybody shares."""
    read_by: list[str] = []

    def read(tx: Tx) -> dict[str, str]:
        read_by.append(threading.current_thread().name)
        return {"some": "thing"}

    loop = service.core.bridge._loop
    assert loop is not None
    found = asyncio.run_coroutine_threadsafe(service.core.bridge.read_json(read), loop).result()
    assert found == b'{"some":"thing"}'
    assert read_by[0].startswith("holdfast-reads")
