"""A secret of a document, by way of HTTP: whoever asks whatever, no answer has it, nor any file, nor any log."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from holdfast.seal import new_key
from tests.postgresql import only_sqlite
from tests.resources.boxes import make_kind
from tests.service.conftest import MakeService, Service
from tests.service.test_leaks import Asker

PASSWORDS = ("first-password", "second-password", "params-password", "no-password-of-a-box")


def ended(service: Service, answer: Any) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    return service.until(answer.json()["task"]["uuid"], "SUCCEEDED", "FAILED")


@only_sqlite
@pytest.mark.requirement("IRONIC-1")
def test_no_answer_no_file_and_no_log_has_it(
    make_service: MakeService, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    service = make_service(kinds=[make_kind()], secret_key=new_key())
    asker = Asker(service.client(roles="admin"))
    ask = asker.client
    first = {"access": {"password": PASSWORDS[0]}}
    made = ask.post("/v3/boxes", json={"box": first}, headers={"Task-tag": "make", "Prefer": "wait=10"})
    id = made.json()["task"]["resource_id"]
    assert ask.post("/v3/boxes", json={"box": first}, headers={"Task-tag": "make"}).headers["task-tag-replayed"]
    place = f"/v3/resources/box/{id}"
    shown = ask.get(place).json()["resource"]["desired"]
    assert shown["access"]["password"] == "******"
    # What was read is edited and sent back; then a new one; then one by parameters; then what is wrong.
    assert ended(service, ask.put(place, json=shown | {"name": "edited"}))["state"] == "SUCCEEDED"
    ended(service, ask.put(place, json={"access": {"password": PASSWORDS[1]}}, headers={"Task-tag": "again"}))
    rekey = {"access": {"password": PASSWORDS[2]}}
    ended(service, ask.post(f"{place}/action", json={"rekey": rekey}, headers={"Task-tag": "rekey"}))
    ended(service, ask.post("/v3/tasks", json={"task": "rekey", "resource": {"box": id}, "params": rekey}))
    wrong = {"box": {"access": {"password": [PASSWORDS[3]]}}}
    assert ask.post("/v3/boxes", json=wrong, headers={"Task-tag": "bad"}).status_code == 400
    assert ask.put(place, json={"access": {"passphrase": PASSWORDS[3]}}).status_code == 400
    assert service.hold.kinds.kind("box").driver.calls == [
        PASSWORDS[0], PASSWORDS[0], PASSWORDS[1], PASSWORDS[2], PASSWORDS[2],
    ]  # fmt: skip

    tasks = [each["uuid"] for each in ask.get("/v3/tasks").json()["tasks"]]
    names = {"task": tasks, "id": [id], "type": ["box"], "action": ["x"], "code": ["not_found"], "webhook": ["none"],
             "schedule": ["none"]}  # fmt: skip
    asker.look_everywhere([route.path for route in service.core.routes if route.method == "GET"], names)
    assert len({each.asked for each in asker.said}) > 60
    assert asker.found(PASSWORDS) == []
    assert any("******" in each.text for each in asker.said if each.asked.endswith("/log"))
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert not [word for word in PASSWORDS if word.encode() in file.read_bytes()], file
    assert len(list(tmp_path.glob("*.db-wal"))) == 1
    assert not [word for word in PASSWORDS if word in caplog.text]


def test_without_a_key_it_is_refused_with_what_to_do(make_service: MakeService) -> None:
    service = make_service(kinds=[make_kind()])
    body = {"box": {"access": {"password": PASSWORDS[0]}}}
    for headers in ({}, {"Task-tag": "t"}):
        refused = service.client().post("/v3/boxes", json=body, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (400, "secret.key_missing")
        assert "HOLDFAST_SECRET_KEY (`holdfast key new` prints one)" in refused.json()["detail"]
    assert service.client().get("/v3/tasks").json()["tasks"] == []
    assert service.client().get("/v3/boxes").json()["boxes"] == []
