"""The API's own document where there are kinds of resources: schemathesis finds nothing in it that is not so."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis.errors import Unsatisfiable

from tests.service.conftest import Service
from tests.service.nodes import Metal, _idle, idle
from tests.service.servers import Cloud, _still, still
from tests.service.test_openapi import CHECKS, MEANT, MEANT_PARAMETERS, ends_in_a_line

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import schemathesis
    from schemathesis.specs.openapi.checks import negative_data_rejection

__all__ = ["_idle", "_still", "idle", "still"]

EXAMPLES = 12
#: What kind a resource has is said by its path, so no schema can say what that kind takes.
OF_ANY_KIND = ("PUT /v3/resources/{type}/{id}", "POST /v3/resources/{type}/{id}/action")
#: What a node's driver is given only that driver knows, and a patch is about what there is.
OF_ANY_DRIVER = ("POST /v1/nodes", "PATCH /v1/nodes/{node}")
BY_KIND = ("document.invalid", "operation.unknown", "request.invalid")


def operations(service: Service, *paths: str) -> list[Any]:
    schema: Any = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
    found = [each.ok() for each in schema.get_all_operations()]
    return [each for each in found if each.path.startswith(paths)]


def fuzzed(service: Service, mode: str, real: dict[str, str], *paths: str) -> tuple[int, set[int]]:
    """How many operations were tried, and with what they answered. `real`: what there is, for parameters of paths."""
    headers = {"X-Project-Id": service.project, "X-Roles": "member"}
    modes = {"positive": schemathesis.GenerationMode.POSITIVE, "negative": schemathesis.GenerationMode.NEGATIVE}
    tried, seen = 0, set()
    for operation in operations(service, *paths):
        strategy = operation.as_strategy(generation_mode=modes[mode])

        @settings(
            max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=strategy)
        def one(case: Any) -> None:
            for name, value in real.items():  # mostly what there is: what there is not is soon refused
                if name in case.path_parameters and len(str(case.path_parameters[name])) % 4:
                    case.path_parameters[name] = value
            assume(mode == "negative" or not ends_in_a_line(case))
            answer = case.call(headers=headers)
            seen.add(answer.status_code)
            case.validate_response(answer, checks=CHECKS + ([negative_data_rejection] if mode == "negative" else []))
            if mode == "positive" and answer.status_code in (400, 413, 415, 422):
                told = json.loads(answer.content)
                meant = told["code"] in MEANT or told.get("parameter") in MEANT_PARAMETERS
                meant = meant or (case.operation.label in OF_ANY_KIND + OF_ANY_DRIVER and told["code"] in BY_KIND)
                assert meant, (case.as_curl_command(), told)

        try:
            one()
            tried += 1
        except Unsatisfiable:
            assert mode == "negative"  # nothing can be wrong with a request that takes nothing
    return tried, seen


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_schemathesis_finds_nothing(still: Cloud, mode: str) -> None:
    real = {"id": still.make(), "task": still.tasks()[0]["uuid"], "type": "server"}
    real["action"] = still.tasks()[0]["request_id"]
    tried, seen = fuzzed(still, mode, real, "/v3/servers", "/v3/resources")
    assert tried > 10
    assert seen >= ({200, 202, 404, 409} if mode == "positive" else {400}), seen


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_schemathesis_finds_nothing_of_nodes(idle: Metal, mode: str) -> None:
    node = idle.enrol("there")
    real = {"node": node, "event": idle.tasks()[0]["uuid"]}
    tried, seen = fuzzed(idle, mode, real, "/v1")
    assert tried > 10
    assert seen >= ({200, 202, 404} if mode == "positive" else {400}), seen
