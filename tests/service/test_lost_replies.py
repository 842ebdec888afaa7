"""Answers that never arrive: the client asks again with the same tag, and there is one task."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from holdfast import errors
from holdfast.client import connect, connect_async
from holdfast.client.client import Client
from holdfast.client.patience import Patience
from holdfast.resources.registry import Kinds
from tests.postgresql import database_at
from tests.service.conftest import MakeServed, MakeService, Service
from tests.service.proxy import between

QUICK = Patience(deadline_s=30, first_s=0.01, most_s=0.1)
NEVER = Patience(deadline_s=0)


def _client(url: str, patience: Patience = QUICK) -> Client:
    return connect(url, project="default", roles="member", user="u1", patience=patience)


@pytest.mark.requirement("TAG-13")
def test_three_lost_answers_make_one_task(service: Service) -> None:
    with between(service.url) as proxy, _client(proxy.url) as client:
        proxy.lose = 3
        accepted = client.tasks.submit("quick", {"number": 4})
        assert (proxy.lost, accepted.replayed) == (3, True)
        assert client.tasks.wait(accepted.task["uuid"], 20)["result"] == {"sum": 5}
        assert [task["tag"] for task in client.tasks.list()] == [accepted.tag]


@pytest.mark.requirement("TAG-13")
def test_the_client_that_awaits_does_the_same(service: Service) -> None:
    async def ask(url: str) -> tuple[bool, int]:
        async with connect_async(url, project="default", roles="member", user="u1", patience=QUICK) as client:
            accepted = await client.tasks.submit("quick")
            await client.tasks.wait(accepted.task["uuid"], 20)
            return accepted.replayed, len([task async for task in client.tasks.list()])

    with between(service.url) as proxy:
        proxy.lose = 2
        assert asyncio.run(ask(proxy.url)) == (True, 1)


@pytest.mark.requirement("TAG-8")
def test_whoever_got_no_answer_at_all_finds_the_task_by_its_tag(make_service: MakeService, tmp_path: Path) -> None:
    service = make_service(kinds=Kinds.load(), server_dir=str(tmp_path), worker=False)
    with between(service.url) as proxy, _client(proxy.url, NEVER) as client:
        assert "server" in client.resources.kinds()
        client.ways.plurals["server"] = "servers"
        proxy.lose = 1
        with pytest.raises(errors.ServiceUnreachable) as caught:
            client.resources.create("server", {"name": "web"})
        tag = str(caught.value.details["tag"])
        assert tag in str(caught.value)
        found = client.tasks.find(tag)
        assert (found["task"], found["tag"]) == ("create", tag)
        assert client.resources.get("server", found["resource"]["server"])["name"] == "web"
        assert len(list(client.resources.list("server"))) == 1


@pytest.mark.requirement("TAG-13", "TAG-14")
def test_ten_answers_lost_by_three_servers_in_turn_are_one_task_and_one_resource(
    make_service: MakeService, tmp_path: Path
) -> None:
    """garm#79, CAPO#2181: a 503 or a reset after the commit made another server with each retry."""
    database = database_at(tmp_path / "shared.db")
    made = [
        make_service(database=database, kinds=Kinds.load(), server_dir=str(tmp_path), worker=False) for _ in range(3)
    ]
    with between(*(service.url for service in made)) as proxy, _client(proxy.url) as client:
        client.ways.plurals["server"] = "servers"
        proxy.lose, proxy.busy = 5, 5
        accepted = client.resources.create("server", {"name": "web"})
        assert (proxy.lost, accepted.replayed) == (10, True)
        assert [task["uuid"] for task in client.tasks.list()] == [accepted.task["uuid"]]
        assert len(list(client.resources.list("server"))) == 1


def test_a_request_without_its_tag_is_another_request(service: Service) -> None:
    with between(service.url) as proxy, _client(proxy.url) as client:
        made = {client.tasks.submit("quick").task["uuid"] for _ in range(3)}
        assert len(made) == len(list(client.tasks.list())) == 3


@pytest.mark.requirement("TAG-13")
def test_verbs_whose_answers_are_lost_are_done_once(service: Service) -> None:
    with between(service.url) as proxy, _client(proxy.url) as client:
        task = client.tasks.submit("waiting").task["uuid"]
        proxy.lose = 2
        assert client.tasks.suspend(task)["state"] in ("SUSPENDING", "SUSPENDED")
        assert client.tasks.wait(task, 20)["state"] == "SUSPENDED"
        proxy.lose = 1
        client.tasks.cancel(task)
        assert client.tasks.wait(task, 20)["state"] == "CANCELLED"
        proxy.lose = 1
        again = client.tasks.retry(task)
        assert again["retry_of"] == task
        assert len(list(client.tasks.list())) == 2


@pytest.mark.requirement("TF-7")
def test_events_over_connections_that_are_cut_come_once_and_in_order(service: Service) -> None:
    with between(service.url) as proxy, _client(proxy.url) as client:
        task = client.tasks.submit("waiting").task["uuid"]
        proxy.cut = 3
        seen = []
        for event in client.tasks.events(task):
            seen.append(event)
            if event.type == "task.state" and event.data["to"] == "WAITING":
                client.tasks.deliver(task, "go")
        assert proxy.lost == 3
        ids = [int(event.id) for event in seen]
        assert ids == sorted(set(ids))
        assert ids == [int(event.id) for event in client.tasks.events(task, follow=False)]
        states = [event.data["to"] for event in seen if event.type == "task.state"]
        assert (states[0], states[-1]) == ("PENDING", "SUCCEEDED")


@pytest.mark.requirement("TAG-13", "TAG-8")
def test_the_service_is_killed_while_the_client_asks(make_served: MakeServed) -> None:
    served = make_served()
    with between(served.url) as proxy, _client(proxy.url) as client:
        proxy.lose = 1
        before = client.tasks.submit("quick", tag="first")
        served.kill()
        served.start()
        after = client.tasks.submit("quick", tag="first")
        assert (after.replayed, after.task["uuid"]) == (True, before.task["uuid"])
        assert client.tasks.wait(after.task["uuid"], 20)["state"] == "SUCCEEDED"


def test_refusals_are_the_errors_of_the_library(make_service: MakeService) -> None:
    service = make_service()
    with _client(service.url) as client, connect(service.url, project="other", roles="reader") as reader:
        task = client.tasks.submit("quick", tag="mine").task["uuid"]
        client.tasks.wait(task, 20)
        with pytest.raises(errors.VerbRefused) as refused:
            client.tasks.suspend(task)
        assert refused.value.details["allowed"] is not None
        with pytest.raises(errors.TagReused):
            client.tasks.submit("quick", {"number": 9}, tag="mine")
        with pytest.raises(errors.NotFound):
            reader.tasks.show(task)
        with pytest.raises(errors.PolicyForbidden):
            reader.tasks.submit("quick")
        with pytest.raises(errors.UsageError):
            client.tasks.submit("nothing of that name")
        with pytest.raises(errors.UsageError):
            list(client.tasks.list(colour="red"))


def test_looking_at_everything_there_is_of_a_task(service: Service) -> None:
    with connect(service.url) as client:
        task = client.tasks.submit("quick").task["uuid"]
        client.tasks.wait(task, 20)
        assert [step["id"] for step in client.tasks.steps(task)] == ["quick/add"]
        assert [node["id"] for node in client.tasks.graph(task)["nodes"] if node["kind"] == "step"] == ["quick/add"]
        assert list(client.tasks.log(task))
        assert list(client.tasks.children(task)) == []
        assert client.tasks.find(task[:13])["uuid"] == task
        assert client.version()["status"] == "CURRENT"
        done = client.tasks.verbs("retry", {"state": "SUCCEEDED"})
        assert [(each["uuid"], each["status"]) for each in done["tasks"]] == [(task, 409)]
        assert [event.data["to"] for event in client.events(after=0, follow=False, type="task.state")][
            -1
        ] == "SUCCEEDED"


def test_the_pages_of_a_long_list(service: Service) -> None:
    with connect(service.url) as client:
        made = [client.tasks.submit("quick").task["uuid"] for _ in range(7)]
        found = [task["uuid"] for task in client.tasks.list(limit=1000, fields="uuid")]
        assert found == made[::-1]
        assert [task["uuid"] for task in client.tasks.list(limit=3)] == made[:3:-1]
