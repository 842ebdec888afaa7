"""Ironic's version headers, and its way to tell of errors: on every answer below /v1, and nowhere else."""

from __future__ import annotations

import json

import pytest

from holdfast.service.microversion import MAX, MIN, dotted
from tests.service.conftest import Service

NAME = "X-OpenStack-Ironic-API-Version"
LEAST, MOST = "X-OpenStack-Ironic-API-Minimum-Version", "X-OpenStack-Ironic-API-Maximum-Version"


@pytest.mark.parametrize(
    ("asked", "status", "answered"),
    [(None, 404, dotted(MIN)), ("1.29", 404, "1.29"), ("latest", 404, dotted(MAX)), (dotted(MAX), 404, dotted(MAX)),
     ("1.109", 406, None), ("1.0", 406, None), ("2.1", 406, None), ("new", 400, None), ("1.2.3", 400, None)],
)  # fmt: skip
def test_the_version_is_negotiated(shared: Service, asked: str | None, status: int, answered: str | None) -> None:
    with shared.client() as client:
        answer = client.get("/v1/nothing", headers={} if asked is None else {NAME: asked})
    assert answer.status_code == status, answer.text
    assert answer.headers.get(NAME) == answered
    assert (answer.headers[LEAST], answer.headers[MOST]) == (dotted(MIN), dotted(MAX))
    assert NAME in answer.headers["vary"]
    if status == 406:
        told = answer.json()
        assert told["code"] == "api.version"
        assert (told["min_version"], told["max_version"]) == (dotted(MIN), dotted(MAX))


def test_the_sentence_is_where_clients_of_ironic_look_for_it(shared: Service) -> None:
    with shared.client() as client:
        body = client.get("/v1/nothing").json()
        told = json.loads(body["error_message"])
        assert told == {"faultcode": "Client", "faultstring": body["detail"], "debuginfo": None}
        other = client.get("/v3/nothing", headers={NAME: "1.109"})
    assert other.status_code == 404
    assert "error_message" not in other.json()
    assert not [name for name in other.headers if "ironic" in name]
