"""The API's own document: schemathesis finds nothing in it that is not so."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis.errors import Unsatisfiable

from tests.service.conftest import Asker, Served, Service

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        negative_data_rejection,
        response_headers_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

#: Refused for what is so in the database or for what two parts of a request mean together, which no schema can say.
MEANT = (
    "tag.reused", "tag.not_supported", "gone", "precondition.failed", "webhook.refused", "schedule.invalid",
    "secret.key_missing", "driver.invalid", "power.unsupported",
)  # fmt: skip
MEANT_PARAMETERS = ("marker", "task_state", "state", "start_time", "updated_at", "changes-before", "changes-since")
EXAMPLES = 6
CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_headers_conformance,
    response_schema_conformance,
]  # fmt: skip


def operations(service: Asker) -> list[Any]:
    schema: Any = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
    found = [each.ok() for each in schema.get_all_operations()]
    return [each for each in found if "/events" not in each.path]  # streams: tests of their own


def ends_in_a_line(case: Any) -> bool:
    """Whether a parameter ends in a new line: `$` of a pattern lets one pass where values are made (Python's `re`), not
    where they are judged (ECMA-262, which OpenAPI names), so such a value is no example of a right one."""
    given = [*case.path_parameters.values(), *case.query.values(), *case.headers.values()]
    return any(isinstance(value, str) and value.endswith("\n") for value in given)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_schemathesis_finds_nothing(served: Served, mode: str) -> None:
    """The service is a process of its own: CPython before 3.11.5 can't parse in two threads at once (gh-106905), which
    hypothesis and the service both do."""
    headers = {"X-Project-Id": "default"}
    real = [served.submit(flow)["uuid"] for flow in ("waiting", "failing", "quick", "hanging")]
    modes = {"positive": schemathesis.GenerationMode.POSITIVE, "negative": schemathesis.GenerationMode.NEGATIVE}
    tried = 0
    for operation in operations(served):
        strategy = operation.as_strategy(generation_mode=modes[mode])

        @settings(
            max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=strategy)
        def one(case: Any) -> None:
            task = case.path_parameters.get("task")
            if task is not None and len(task) % 5:  # mostly one that there is
                case.path_parameters["task"] = real[len(task) % 5 - 1]
            if isinstance(case.body, dict) and "wait" in case.body and mode == "positive":
                case.body["wait"] = 0.01
            if "wait" in case.query:
                case.query["wait"] = 0.01 if mode == "positive" else case.query["wait"]
            assume(mode == "negative" or not ends_in_a_line(case))
            answer = case.call(headers=headers)
            case.validate_response(answer, checks=CHECKS + ([negative_data_rejection] if mode == "negative" else []))
            if mode == "positive" and answer.status_code in (400, 413, 415, 422):
                told = json.loads(answer.content)
                assert told["code"] in MEANT or told.get("parameter") in MEANT_PARAMETERS, (
                    case.as_curl_command(),
                    told,
                )

        try:
            one()
            tried += 1
        except Unsatisfiable:
            assert mode == "negative"  # nothing can be wrong with a request that takes nothing
    assert tried > 20


def test_every_route_is_in_the_document(shared: Service) -> None:
    paths = shared.bare().get("/openapi.json").json()["paths"]
    for route in shared.core.routes:
        if not route.hidden:
            described = paths[route.path][route.method.lower()]
            assert described["summary"]
            assert all(str(status) in described["responses"] for status in route.answers)
            assert "500" in described["responses"]
            assert ("401" in described["responses"]) == (route.rule is not None)
