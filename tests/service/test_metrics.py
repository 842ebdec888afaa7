"""What Prometheus reads of a service, and whether it is ready."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from holdfast.tasks import lease
from tests.service.conftest import ROOT, MakeService, Service
from tests.worker.house import until


def scraped(service: Service, accept: str = "text/plain") -> httpx.Response:
    answer = service.client(roles="admin").get("/metrics", headers={"Accept": accept})
    assert answer.status_code == 200, answer.text
    return answer


def samples(text: str) -> dict[tuple[Any, ...], float]:
    """(name, label's value…) -> value; the labels in the order of their names."""
    return {
        (each.name, *(each.labels[name] for name in sorted(each.labels))): each.value
        for family in parse(text)
        for each in family.samples
    }


def test_requests_are_counted_by_the_pattern_of_their_route(service: Service) -> None:
    task = service.submit("quick", params={"number": 1})
    service.until(task["uuid"], "SUCCEEDED")
    asker = service.client()
    asker.get(f"/v3/tasks/{'0' * 36}")
    asker.get("/there/is/nothing")
    asker.head("/healthz")
    text = scraped(service).text
    found = samples(text)
    assert found["holdfast_http_requests_total", "POST", "/v3/tasks", "2xx"] == 1
    assert found["holdfast_http_requests_total", "GET", "/v3/tasks/{task}", "4xx"] == 1
    assert found["holdfast_http_requests_total", "GET", "none", "4xx"] == 1
    assert found["holdfast_http_requests_total", "HEAD", "/healthz", "2xx"] == 1
    assert found["holdfast_http_request_duration_seconds_count", "POST", "/v3/tasks"] == 1
    assert 0 < found["holdfast_http_request_duration_seconds_sum", "POST", "/v3/tasks"] < 20
    assert found["holdfast_store_commits_total",] > 1
    assert task["uuid"] not in text
    assert "default" not in text


def test_what_workers_count_is_told_as_of_their_last_heartbeats(make_service: MakeService) -> None:
    service = make_service(lease_s=0.3)
    for number in range(3):
        service.until(service.submit("quick", params={"number": number})["uuid"], "SUCCEEDED")
    until(lambda: samples(scraped(service).text)["holdfast_claim_wait_seconds_count",] >= 3)
    found = samples(scraped(service).text)
    assert found["holdfast_claim_wait_seconds_bucket", "3600.0"] == found["holdfast_claim_wait_seconds_bucket", "+Inf"]
    assert 0 <= found["holdfast_claim_wait_seconds_sum",] < 60
    assert found["holdfast_append_tasks_count",] >= 3
    assert found["holdfast_append_tasks_sum",] >= 3
    assert found["holdfast_worker_lease_losses_total",] == 0
    service.hold.write(lambda tx, now: [lease.mark_dead(tx, each.id, now) for each in lease.alive(tx)])
    until(lambda: samples(scraped(service).text)["holdfast_worker_lease_losses_total",] == 1)
    assert samples(scraped(service).text)["holdfast_claim_wait_seconds_count",] >= 3, "of before is not lost"


def test_tasks_queue_workers_and_webhooks_are_told_as_the_database_has_them(make_service: MakeService) -> None:
    service = make_service(worker=False)
    service.submit("quick", params={"number": 1})
    service.submit("quick", params={"number": 1})
    found = samples(scraped(service).text)
    assert found["holdfast_tasks", "pending"] == 2
    assert found["holdfast_tasks", "succeeded"] == 0
    assert found["holdfast_queue_tasks",] == 2
    assert 0 <= found["holdfast_queue_oldest_wait_seconds",] < 20
    assert found["holdfast_workers", "alive"] == 0
    assert found["holdfast_webhooks", "active"] == 0
    assert found["holdfast_webhooks_behind_events",] == 0
    assert found["holdfast_event_streams",] == 0
    assert found["holdfast_event_streams_closed_slow_total",] == 0
    assert found["holdfast_store_up",] == 1
    assert found["process_resident_memory_bytes",] > 1e6

    service.submit("quick", params={"number": 1})
    assert samples(scraped(service).text)["holdfast_tasks", "pending"] == 2, "it is not counted anew within a second"


def test_who_waits_for_a_claim_is_no_queue(make_service: MakeService) -> None:
    service = make_service(worker=False)
    for _ in range(3):
        service.submit("quick", resource={"port": "p"})
    service.submit("quick", resource={"port": "p"}, start_after="2999-01-01T00:00:00Z")
    held = service.submit("quick", resource={"port": "p"})["uuid"]
    service.client().post(f"/v3/tasks/{held}/suspend")
    found = samples(scraped(service).text)
    assert (found["holdfast_queue_tasks",], found["holdfast_tasks_waiting_for_claims",]) == (1, 2)


def test_commits_are_counted_and_timed(make_service: MakeService) -> None:
    service = make_service(worker=False)
    before = samples(scraped(service).text)
    for _ in range(3):
        service.submit("quick")
    after = samples(scraped(service).text)
    for name in ("holdfast_store_commits_total", "holdfast_store_commit_duration_seconds_count"):
        assert after[name,] - before[name,] >= 3
    assert (
        0
        < after["holdfast_store_commit_duration_seconds_sum",] - before["holdfast_store_commit_duration_seconds_sum",]
        < 60
    )


def test_a_worker_that_lives_is_told_with_the_age_of_its_heartbeat(service: Service) -> None:
    service.until(service.submit("quick", params={"number": 1})["uuid"], "SUCCEEDED")
    found = samples(scraped(service).text)
    assert found["holdfast_workers", "alive"] == 1
    assert found["holdfast_workers", "stale"] == 0
    assert 0 <= found["holdfast_worker_heartbeat_age_seconds",] < 15
    assert found["holdfast_queue_tasks",] == 0


def test_an_open_stream_is_told_while_it_is_open(service: Service) -> None:
    with service.client().stream("GET", "/v3/events", headers={"Accept": "text/event-stream"}) as stream:
        coming = stream.iter_bytes()
        assert next(coming)
        assert samples(scraped(service).text)["holdfast_event_streams",] == 1


def test_the_format_is_the_one_that_is_asked_for(service: Service) -> None:
    plain = scraped(service, "text/plain;version=0.0.4")
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    open_ = scraped(service, "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5")
    assert open_.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    families = parse_openmetrics(open_.text)  # type: ignore[no-untyped-call]
    names = {family.name for family in families}
    assert {"holdfast_http_requests", "holdfast_tasks", "process_cpu_seconds"} <= names
    assert service.client().get("/metrics", headers={"Accept": "image/png"}).status_code == 406


def test_who_may_read_them_is_a_rule_of_the_policy(make_service: MakeService, tmp_path: Path) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps({"metrics:read": ["admin"]}), encoding="utf-8")
    service = make_service(worker=False, policy_file=str(policy))
    assert service.client(roles="member").get("/metrics").status_code == 403
    assert service.client(roles="admin").get("/metrics").status_code == 200


def test_each_service_counts_for_itself(make_service: MakeService) -> None:
    one, other = make_service(worker=False), make_service(worker=False)
    one.submit("quick", params={"number": 1})
    assert ("holdfast_http_requests_total", "POST", "/v3/tasks", "2xx") in samples(scraped(one).text)
    assert ("holdfast_http_requests_total", "POST", "/v3/tasks", "2xx") not in samples(scraped(other).text)


def test_a_service_whose_database_cannot_be_read_is_not_ready_and_says_why(
    make_service: MakeService, tmp_path: Path
) -> None:
    service = make_service(worker=False, database=f"sqlite:///{tmp_path}/broken.db")
    asker = service.bare()
    assert asker.get("/readyz").status_code == 200
    with sqlite3.connect(tmp_path / "broken.db") as outside:
        outside.execute("ALTER TABLE tasks RENAME TO lost")
    answer = asker.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["code"] == "not_ready"
    assert "database" in answer.json()["detail"]
    assert asker.get("/healthz").status_code == 200
    found = samples(scraped(service).text)
    assert found["holdfast_store_up",] == 0
    assert ("holdfast_tasks", "pending") not in found


def test_the_how_to_names_every_metric(service: Service) -> None:
    page = (ROOT / "docs" / "how-to" / "observe.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `(holdfast_\w+)`", page, re.MULTILINE))
    told = {
        each.partition(" ")[0] for each in re.findall(r"^# TYPE (holdfast_.*)$", scraped(service).text, re.MULTILINE)
    }
    assert named == {name for name in told if not name.endswith("_created")}
