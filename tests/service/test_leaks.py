"""What no answer tells but to an administrator: where code failed, on which host, secrets, and other projects."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from sqlalchemy import update

import holdfast as hf
from holdfast.seal import new_key
from holdfast.store.schema import workers
from holdfast.tasks.submit import submit
from tests.service import told
from tests.service.conftest import MakeService
from tests.service.flows import FLOWS
from tests.service.servers import Cloud, kinds
from tests.worker.house import until

HOST = "rack-17.dc-of-nobody.example"
RIVAL = "rival-project-of-somebody"
SECRET = "hunter2-and-a-half"
TRACES = ("Traceback (most recent call last)", '\\", line ', ".py", "traceback")


class Said(NamedTuple):
    """One answer: what was asked, and everything that came back."""

    asked: str
    status: int
    text: str


class Asker:
    """A client that keeps everything that it is answered."""

    def __init__(self, client: httpx.Client) -> None:
        self.said: list[Said] = []
        client.event_hooks["response"].append(self._keep)
        self.client = client

    def _keep(self, answer: httpx.Response) -> None:
        answer.read()
        headers = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
        asked = f"{answer.request.method} {answer.request.url.path}"
        self.said.append(Said(asked, answer.status_code, f"{headers}\n\n{answer.text}"))

    def look_everywhere(self, routes: list[str], names: dict[str, list[str]]) -> None:
        """Every GET there is, of everything that has a name here."""
        for path in routes:
            for filled in _filled(path, names):
                self.client.get(filled)
                if filled.endswith("/events") and "tasks" in filled:
                    self.client.get(filled, headers={"Accept": "text/event-stream"})
        self.client.get("/v3/tasks", params={"depth": "all", "fields": "uuid,error,params,result,claims,blocked_by"})
        for query in ("all_projects=true", f"project_id={RIVAL}"):
            for path in ("/v3/tasks", "/v3/servers", "/v3/resources/server", "/v3/events"):
                self.client.get(f"{path}?{query}")

    def found(self, words: tuple[str, ...]) -> list[tuple[str, str]]:
        """Which answers hold which of the words; those apart that say what answers are made of."""
        heard = [each for each in self.said if "/schemas/" not in each.asked and "openapi" not in each.asked]
        return [(each.asked, word) for each in heard for word in words if word in each.text]


def _filled(path: str, names: dict[str, list[str]]) -> list[str]:
    found = [path]
    for name, values in names.items():
        if f"{{{name}}}" in path:
            found = [each.replace(f"{{{name}}}", value) for each in found for value in values]
    return found


@hf.step
def log_in(password: Any) -> None:
    try:
        raise LookupError("no such user")
    except LookupError as error:
        raise ConnectionError("the switch refused us") from error


LOGIN = hf.linear("login", log_in)


@pytest.mark.requirement("NOVA-3", "TAG-10")
def test_a_whole_run_tells_a_member_nothing_that_is_not_his(
    make_service: MakeService, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    made = make_service(offered=[*FLOWS, LOGIN], kinds=kinds(tmp_path / "servers"), secret_key=new_key())
    hold = made.hold
    until(lambda: hold.write(lambda tx, now: tx.execute(update(workers).values(host=HOST)).rowcount))
    cloud, rival = Cloud(made.serving, works=True), Cloud(made.serving, works=True)
    for each in (cloud, rival):
        request.addfinalizer(each.close_clients)
    rival.project = RIVAL
    rival.member = rival.client(user="user-of-the-rival")
    member, admin = Asker(cloud.member), Asker(cloud.client(roles="admin"))
    reader = Asker(cloud.client(roles="reader"))

    theirs = rival.make(name="server-of-the-rival")
    their_task = rival.act(theirs, "reboot", {}, **{"Task-tag": "tag-of-the-rival"})["uuid"]
    ident = cloud.make(metadata={"faults": "reboot=after, stop=before"})
    for word in ("stop", "reboot"):
        assert cloud.do(ident, word)["state"] == "FAILED"
    failed = cloud.submit("failing", client=cloud.member)["uuid"]
    asked = hold.request(LOGIN)._replace(
        inputs=hold.inputs_text({"password": hf.Secret(SECRET)}), project_id=cloud.project
    )
    login = hold.write(lambda tx, now: submit(tx, asked, now, hold.clock.uuid7())).task.uuid
    for uuid in (failed, login):
        assert cloud.ended(uuid)["state"] == "FAILED"
    for client, name in ((cloud.member, "mine"), (rival.member, "theirs")):
        hourly = {"name": name, "cron": "* * * * *", "task": "reboot", "resource": {"server": theirs}}
        assert client.post("/v3/schedules", json=hourly).status_code == 201
    cloud.member.post(f"/v3/servers/{ident}/action", json={"explode": {}})
    cloud.member.post(f"/v3/tasks/{failed}/retry", headers={"Task-tag": "tag-of-the-rival"})
    cloud.ended(cloud.tasks()[0]["uuid"])

    routes = [route.path for route in made.core.routes if route.method == "GET"]
    tasks = [task["uuid"] for task in cloud.tasks(depth="all")]
    names = {
        "task": [*tasks, their_task], "id": [ident, theirs, "tag-of-the-rival"], "type": ["server"],
        "action": [task["request_id"] for task in cloud.tasks()], "code": ["not_found"], "webhook": ["none"],
        "schedule": ["mine", "theirs"],
    }  # fmt: skip
    for asker in (member, reader, admin):
        asker.look_everywhere(routes, names)
    for method, path in (("POST", f"/v3/servers/{theirs}/action"), ("DELETE", f"/v3/servers/{theirs}"),
                         ("POST", f"/v3/tasks/{their_task}/cancel")):  # fmt: skip
        cloud.member.request(method, path, json={"reboot": {}} if path.endswith("action") else None)

    secret = (HOST, SECRET, str(tmp_path), RIVAL, "user-of-the-rival", "server-of-the-rival")
    for asker in (member, reader):
        assert len({each.asked for each in asker.said}) > 100
        assert {each.status for each in asker.said} >= {200, 403, 404}
        assert not {each.status for each in asker.said if each.status >= 500}
        assert asker.found(secret) == []
        assert asker.found(TRACES) == []
        assert not [each for each in asker.said if their_task in each.text and each.status == 200]
    assert {word for _, word in admin.found((HOST, RIVAL, *TRACES))} >= {HOST, RIVAL, TRACES[0]}  # the search finds
    assert admin.found((SECRET,)) == []


MINE = {"X-Project-Id": "mine", "X-Roles": "member"}
TOLD: list[tuple[dict[str, str], str]] = [
    (MINE, '{"detail": "Traceback (most recent call last)"}'),
    (MINE, '{"log": ["File \\"x.py\\", line 7"]}'),
    (MINE, '{"task": {"host": "rack-17"}}'),
    (MINE, '{"tasks": [{"error": {"traceback": ""}}]}'),
    (MINE, '{"servers": [{"tenant_id": "mine"}, {"tenant_id": "theirs"}]}'),
    ({}, '{"project_id": "mine"}'),
    (MINE | {"X-Roles": "admin"}, "hunter2-and-more"),
    ({"X-Auth-Token": "t"}, "was token-of-many-letters"),
]


@pytest.mark.requirement("NOVA-3")
@pytest.mark.parametrize(("headers", "text"), TOLD, ids=[str(place) for place in range(len(TOLD))])
def test_what_the_whole_run_looks_for_is_found(headers: dict[str, str], text: str) -> None:
    told.asked({"Authorization": "Bearer token-of-many-letters"}, {"access": [{"password": "hunter2-and-more"}]})
    with pytest.raises(told.Leak):
        told.look("/v3/tasks", headers, text)
    told.look("/v3/tasks", MINE, '{"project_id": "mine", "host": null, "access": {"password": "******"}}')
    told.look(
        "/v3/tasks", MINE | {"X-Roles": "admin"}, '{"traceback": "Traceback (most recent call last)", "host": "a"}'
    )
