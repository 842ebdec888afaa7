"""What Prometheus is told, at GET /metrics: how requests, tasks, workers, streams and webhooks are.

Theory: what happens in this process is counted when it happens; what the database knows is read when somebody asks, by
index, on a thread, and kept for a second, or for twenty times as long as reading it took, so that a scrape of a large
house costs it a twentieth of one core at most. Every label has few values: patterns of routes, states, classes of
statuses; never an id, a project or a pool. Several services that share a database tell the same of its tasks: take the
maximum, not the sum.

Who may ask: `metrics:read` of policy.py. Traces: tracing.py. Logs: logs.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any, Final, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from sqlalchemy import bindparam, func, null, select, union_all

from holdfast import __version__
from holdfast.clock import SYSTEM
from holdfast.core import states
from holdfast.feed import log
from holdfast.service.app import Service
from holdfast.service.problems import log as log_of_service
from holdfast.service.requests import Ask
from holdfast.service.routes import STREAM, Answer, Route
from holdfast.store.base import Tx
from holdfast.store.schema import pools, tasks, webhooks, workers
from holdfast.tasks import lease
from holdfast.tasks.figures import Figures, Tally, summed

PLAIN: Final = "text/plain"
OPENMETRICS: Final = "application/openmetrics-text"
KEPT_S: Final = 1.0
SHARE: Final = 20.0  # of the time between two readings, one part at most is spent on reading
BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
COMMIT_BUCKETS_S: Final = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
NO_ROUTE: Final = "none"

_BY_STATE: Final = select(tasks.c.state, func.count()).group_by(tasks.c.state)
_UNTAKEN: Final = (
    select(tasks.c.ready, func.count(), func.min(tasks.c.due_at))
    .where(tasks.c.worker_id.is_(null()), tasks.c.due_at <= bindparam("_now"))
    .group_by(tasks.c.ready)
)
_FIGURES: Final = union_all(
    select(pools.c.figures).where(pools.c.figures.is_not(null())),
    select(workers.c.figures).where(workers.c.figures.is_not(null())),
)
_HOOKS: Final = select(webhooks.c.disabled, webhooks.c.failures, webhooks.c.delivered)


class Facts(NamedTuple):
    """What the database knows, at one moment."""

    now: float
    by_state: dict[str, int]
    queued: int
    oldest_due: float | None
    claimless: int
    workers: list[lease.WorkerRow]
    hooks: list[tuple[str, int]]  # state, last event delivered
    newest_event: int
    figures: Figures  # of all workers, as of their last heartbeats


def read(tx: Tx, now: float) -> Facts:
    untaken = {bool(ready): (count, oldest) for ready, count, oldest in tx.execute(_UNTAKEN, {"_now": now}).all()}
    (queued, oldest), (claimless, _) = untaken.get(True, (0, None)), untaken.get(False, (0, None))
    hooks = []
    for disabled, failures, delivered in tx.execute(_HOOKS).all():
        hooks.append(("disabled" if disabled is not None else "failing" if failures else "active", delivered))
    by_state = dict(map(tuple, tx.execute(_BY_STATE).all()))
    counted = summed(tx.execute(_FIGURES).scalars())
    return Facts(now, by_state, queued, oldest, claimless, lease.alive(tx), hooks, log.newest(tx), counted)


class _Answers:
    """How many there were of one kind. `seconds`: of all of their method and route."""

    __slots__ = ("number", "seconds")

    def __init__(self, seconds: Tally) -> None:
        self.number = 0
        self.seconds = seconds


class Metrics:
    """The registry of one service, and the handler that shows it."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.registry: Final = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self._commits = Counter(
            "holdfast_store_commits", "Transactions that this process has committed.", registry=self.registry
        )
        self._commit_seconds = Histogram(
            "holdfast_store_commit_duration_seconds",
            "How long these took, from asking for the database until what they wrote was durable.",
            buckets=COMMIT_BUCKETS_S, registry=self.registry,
        )  # fmt: skip
        self.registry.register(self)
        # Counted on the loop alone, where Prometheus' own counters, which lock, would take as long as a header.
        self._answers: dict[tuple[str, str, int], _Answers] = {}  # by method, route, class of status
        self._seconds: dict[tuple[str, ...], Tally] = {}  # by method, route
        self._facts: Facts | None = None
        self._read_at = float("-inf")
        self._keep_s = KEPT_S
        self._reading = asyncio.Lock()
        service.seen.append(self.seen)
        service.at_stop(service.hold.store.time_commits(self._committed))

    # --- counting -------------------------------------------------------------------------------------------------

    def seen(self, route: Route | None, scope: Any, status: int, seconds: float) -> None:
        """One request has been answered; status 0: its client had gone."""
        method = "HEAD" if "holdfast.head" in scope else scope["method"]
        key = (method if method in METHODS else "other", NO_ROUTE if route is None else route.path, status // 100)
        found = self._answers.get(key)
        if found is None:
            found = self._answers[key] = _Answers(self._seconds.setdefault(key[:2], Tally(BUCKETS_S)))
        found.number += 1
        if route is None or STREAM not in route.media or not _is_stream(scope):
            found.seconds.note(seconds)

    def _committed(self, seconds: float) -> None:
        """On the thread that committed."""
        self._commits.inc()
        self._commit_seconds.observe(seconds)

    # --- showing --------------------------------------------------------------------------------------------------

    async def show(self, ask: Ask) -> Answer:
        async with self._reading:
            body, media = await asyncio.to_thread(self._written, ask.headers.get("accept", ""))
        return Answer(200, body, [("Cache-Control", "no-store")], media)

    def _written(self, accept: str) -> tuple[bytes, str]:
        began = SYSTEM.monotonic()
        if began - self._read_at >= self._keep_s:
            now = self.service.hold.clock.time()
            try:
                self._facts = self.service.hold.store.read(lambda tx: read(tx, now))
            except Exception as error:  # what is counted here is told all the same, and that the rest is missing
                log_of_service.error("the metrics of the database can't be read", exc_info=error)
                self._facts = None
            self._read_at = SYSTEM.monotonic()
            self._keep_s = max(KEPT_S, SHARE * (self._read_at - began))
        encoder, media = choose_encoder(accept)
        return encoder(self.registry), media

    def describe(self) -> Iterator[Metric]:
        """Asked for by the registry, which would collect to learn the names."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """What is known without having been counted here."""
        yield _gauge("holdfast_build_info", "Which Holdfast this is; always 1.", {__version__: 1}, "version")
        requests = CounterMetricFamily(
            "holdfast_http_requests", "Requests that were answered, by the pattern of their route.",
            labels=("method", "route", "status"),
        )  # fmt: skip
        for (method, path, status), found in list(self._answers.items()):
            requests.add_metric((method, path, f"{status}xx" if status else "gone"), found.number)
        yield requests
        yield _histogram(
            "holdfast_http_request_duration_seconds",
            "How long requests took, the time that they asked to wait for a task among it; event streams not.",
            dict(self._seconds), ("method", "route"),
        )  # fmt: skip
        hub = self.service.hub
        yield _gauge("holdfast_event_streams", "Event streams that are open.", hub.streams)
        slow = CounterMetricFamily(
            "holdfast_event_streams_closed_slow", "Event streams that were ended because nobody kept up with them."
        )
        slow.add_metric((), hub.closed_slow)
        yield slow
        readable = self._facts is not None
        yield _gauge("holdfast_store_up", "1: the database could be read; 0: it could not.", int(readable))
        if self._facts is not None:
            yield from _told(self._facts)


def _told(facts: Facts) -> Iterator[Metric]:
    now = facts.now
    yield _gauge(
        "holdfast_tasks", "Tasks that are kept, by state.",
        {state.lower(): facts.by_state.get(state, 0) for state in states.API_STATES}, "state",
    )  # fmt: skip
    yield _gauge("holdfast_queue_tasks", "Tasks that could go on and that no worker has taken.", facts.queued)
    waits = 0.0 if facts.oldest_due is None else max(0.0, now - facts.oldest_due)
    yield _gauge("holdfast_queue_oldest_wait_seconds", "How long the first of these has waited.", waits)
    yield _gauge(
        "holdfast_tasks_waiting_for_claims", "Tasks that could go on but for a resource that others have.",
        facts.claimless,
    )  # fmt: skip
    ages = [max(0.0, now - worker.heartbeat_at) for worker in facts.workers]
    stale = sum(age > worker.lease_s for age, worker in zip(ages, facts.workers, strict=True))
    yield _gauge(
        "holdfast_workers", "Workers that have not left: alive, or stale, whose lease has run out.",
        {"alive": len(ages) - stale, "stale": stale}, "state",
    )  # fmt: skip
    yield _gauge(
        "holdfast_worker_heartbeat_age_seconds", "How long ago the worker that is silent longest said that it lives.",
        max(ages, default=0.0),
    )  # fmt: skip
    counted = facts.figures
    yield _histogram(
        "holdfast_claim_wait_seconds",
        "How long tasks could have been taken, with their claims and their start come, until a worker first had them.",
        {(): counted.waits},
    )  # fmt: skip
    yield _histogram(
        "holdfast_append_tasks", "For how many tasks workers wrote with one commit.", {(): counted.batches}
    )
    losses = CounterMetricFamily(
        "holdfast_worker_lease_losses", "How often a worker found that it had been taken for dead."
    )
    losses.add_metric((), counted.lease_losses)
    yield losses
    kinds = [state for state, _ in facts.hooks]
    yield _gauge(
        "holdfast_webhooks", "Webhooks, by how it goes with them.",
        {state: kinds.count(state) for state in ("active", "failing", "disabled")}, "state",
    )  # fmt: skip
    behind = max((facts.newest_event - delivered for state, delivered in facts.hooks if state != "disabled"), default=0)
    yield _gauge("holdfast_webhooks_behind_events", "How many events the webhook that is furthest behind is.", behind)


def _gauge(name: str, help: str, values: float | dict[str, int], label: str | None = None) -> GaugeMetricFamily:
    made = GaugeMetricFamily(name, help, labels=() if label is None else (label,))
    for key, value in values.items() if isinstance(values, dict) else [("", values)]:
        made.add_metric(() if label is None else (key,), value)
    return made


def _histogram(
    name: str, help: str, tallies: Mapping[tuple[str, ...], Tally], labels: tuple[str, ...] = ()
) -> HistogramMetricFamily:
    made = HistogramMetricFamily(name, help, labels=labels)
    for of, tally in tallies.items():
        counts = accumulate(tally.counts)
        bounds = [*(str(float(bound)) for bound in tally.bounds), "+Inf"]
        made.add_metric(of, list(zip(bounds, counts, strict=True)), tally.total)
    return made


def _is_stream(scope: Any) -> bool:
    return STREAM in scope["holdfast"].headers.get("accept", "").lower()


def routes(service: Service) -> list[Route]:
    metrics = Metrics(service)
    return [
        Route("GET", "/metrics", metrics.show, "metrics:read", "What Prometheus reads",
              answers={200: {"type": "string"}}, media=(PLAIN, OPENMETRICS), limited=False),
    ]  # fmt: skip
