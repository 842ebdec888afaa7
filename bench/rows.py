"""The rows of the table and their bars, each bar in one place.

A row says what it makes of the medians of its measures (measures.py): Holdfast's figure, the other side's where there
is one, and the bar for their ratio, or for the figure alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

KIB = 1024


class Side(NamedTuple):
    """One figure and where it comes from. `of` gets the medians of `measures`, in their order."""

    who: str
    of: Callable[..., float]
    measures: tuple[str, ...]


class Row(NamedTuple):
    name: str
    title: str
    unit: str
    ours: Side
    peer: Side | None  # None: the bar is for our figure itself
    bar: float
    at_least: bool  # else at most
    beside: tuple[Side, ...] = ()  # what else is printed, below the table


def rate(figures: dict[str, Any]) -> float:
    """Steps a second, by the wall clock."""
    return float(figures["steps"]) / float(figures["wall_s"])


def best_rate(*sides: dict[str, Any]) -> float:
    return max(rate(figures) for figures in sides)


def cost_us(figures: dict[str, Any]) -> float:
    """Microseconds of CPU a step: a linear cost is to be seen on a busy machine too, which wall time hides."""
    return 1e6 * float(figures["cpu_s"]) / float(figures["steps"])


def bytes_a_step(figures: dict[str, Any], bare: dict[str, Any]) -> float:
    return (float(figures["peak_bytes"]) - float(bare["peak_bytes"])) / float(figures["steps"])


def field_ms(name: str) -> Callable[..., float]:
    """The largest of the measures' `name`, in milliseconds."""
    return lambda *sides: 1e3 * max(float(figures[name]) for figures in sides)


def requests(figures: dict[str, Any]) -> float:
    return float(figures["requests"]) / float(figures["wall_s"])


def lower(constant: dict[str, Any], sqlite: dict[str, Any]) -> float:
    """A quarter of the web stack's rate or what SQLite writes of the same rows, whichever is lower."""
    return min(requests(constant) / 4, requests(sqlite))


def lists_ms(figures: dict[str, Any]) -> float:
    """The slowest of the lists."""
    return 1e3 * max(float(figures[f"{name}_p50_s"]) for name in ("resource", "state", "tag"))


def reads_ms(figures: dict[str, Any]) -> float:
    """One task and each of the lists."""
    return 1e3 * sum(float(figures[f"{name}_p50_s"]) for name in ("task", "resource", "state", "tag"))


def flat(shape: str, few: int, many: int, title: str) -> Row:
    return Row(
        f"flat-{shape}",
        title,
        "µs/step",
        Side("Holdfast", cost_us, (f"{shape}/{many}",)),
        Side(f"at {few:,}", cost_us, (f"{shape}/{few}",)),
        1.4,
        at_least=False,
    )


def stops(name: str, title: str, field: str, bar_ms: float, *measures: str) -> Row:
    ours = Side("Holdfast", field_ms(field), tuple(f"stop/{measure}" for measure in measures))
    return Row(name, title, "ms", ours, None, bar_ms, at_least=False)


LINEAR = Side("Holdfast", rate, ("linear/1000/once",))
SINGLE = Side("Holdfast", rate, ("durable/1",))
MANY_ASYNC = Side("Holdfast", rate, ("durable/32/async",))
MANY_THREADS = Side("Holdfast", rate, ("durable/32/threads",))
DBOS_MANY = Side("DBOS", best_rate, ("durable/32/dbos/async", "durable/32/dbos/threads"))
PG_SINGLE = Side("Holdfast", rate, ("pg/1",))
PG_MANY = Side("Holdfast", rate, ("pg/32",))
PG_DRAIN = Side("Holdfast", rate, ("pg/drain/1",))
PG_TWO = Side("Holdfast", rate, ("pg/drain/2",))
CONSTANT = Side("a constant", field_ms("p50_s"), ("get/constant",))
TASKFLOW_RESUME = Side("TaskFlow, 1,000", field_ms("to_first_step_s"), ("resume/1000/taskflow",))

ROWS: tuple[Row, ...] = (
    Row(
        "linear",
        "linear, 1,000 no-op steps, in memory, inline",
        "steps/s",
        LINEAR,
        Side("TaskFlow", rate, ("linear/1000/taskflow",)),
        400,
        at_least=True,
    ),
    flat("linear", 1000, 100_000, "linear, 100,000"),
    flat("unordered", 1000, 100_000, "unordered, 100,000"),
    flat("graph", 1000, 10_000, "random graph with data flow, 10,000"),
    flat("barriers", 1000, 10_000, "1,000 barriers of 10"),
    flat("failure", 1000, 10_000, "failure after 10,000, all undone"),
    Row(
        "memory-linear",
        "peak memory, linear, 100,000 steps",
        "bytes/step",
        Side("Holdfast", bytes_a_step, ("linear/100000", "bare")),
        None,
        2 * KIB,
        at_least=False,
    ),
    Row(
        "memory-unordered",
        "peak memory, unordered, 100,000 steps",
        "bytes/step",
        Side("Holdfast", bytes_a_step, ("unordered/100000", "bare")),
        None,
        2 * KIB,
        at_least=False,
    ),
    Row(
        "durable",
        "durable, one sequential flow, inline",
        "steps/s",
        SINGLE,
        Side("bare sqlite3", rate, ("durable/bare",)),
        0.7,
        at_least=True,
    ),
    Row(
        "durable-dbos",
        "the same",
        "steps/s",
        SINGLE,
        Side("DBOS", rate, ("durable/1/dbos",)),
        5,
        at_least=True,
    ),
    Row("many", "durable, 32 flows at once, asyncio", "steps/s", MANY_ASYNC, SINGLE._replace(who="one flow"), 5, True),
    Row("many-dbos", "the same", "steps/s", MANY_ASYNC, DBOS_MANY, 40, True),
    Row(
        "many-threads",
        "durable, 32 flows at once, threads",
        "steps/s",
        MANY_THREADS,
        SINGLE._replace(who="one flow"),
        4,
        at_least=True,
    ),
    Row(
        "resume",
        "resume of a half-done task of 1,000, to its first step",
        "ms",
        Side("Holdfast", field_ms("to_first_step_s"), ("resume/1000",)),
        TASKFLOW_RESUME,
        1 / 50,
        at_least=False,
    ),
    Row(
        "resume-long",
        "the same, of 10,000",
        "ms",
        Side("Holdfast", field_ms("to_first_step_s"), ("resume/10000",)),
        TASKFLOW_RESUME,
        1 / 5,
        at_least=False,
    ),
    Row(
        "first-step",
        "submit to first step, idle worker in the process, p99",
        "ms",
        Side("Holdfast", field_ms("p99_s"), ("first-step",)),
        None,
        5,
        at_least=False,
    ),
    Row("pg-one", "PostgreSQL: one sequential flow, inline", "steps/s", PG_SINGLE,
        Side("bare autocommit", rate, ("pg/bare",)), 0.6, True),
    Row("pg-one-dbos", "the same", "steps/s", PG_SINGLE, Side("DBOS", rate, ("pg/1/dbos",)), 5, True),
    Row("pg-many", "PostgreSQL: 32 flows at once, asyncio", "steps/s", PG_MANY, PG_SINGLE._replace(who="one flow"), 4,
        True),
    Row("pg-many-dbos", "the same", "steps/s", PG_MANY,
        Side("DBOS", best_rate, ("pg/32/dbos/async", "pg/32/dbos/threads")), 15, True),
    Row("pg-drain", "PostgreSQL: 5,000 one-step tasks, one worker", "tasks/s", PG_DRAIN,
        Side("Procrastinate", best_rate, ("pg/drain/procrastinate/1", "pg/drain/procrastinate/10")), 5, True),
    Row("pg-drain-dbos", "the same", "tasks/s", PG_DRAIN, Side("DBOS", rate, ("pg/drain/dbos",)), 2.5, True),
    Row("pg-two", "the same, two worker processes", "tasks/s", PG_TWO, PG_DRAIN._replace(who="one"), 1.3, True),
    Row("pg-eight", "the same, eight worker processes", "tasks/s", Side("Holdfast", rate, ("pg/drain/8",)),
        PG_TWO._replace(who="two"), 1, True),
    Row("pg-start", "PostgreSQL: submit to first step, idle worker elsewhere, p50", "ms",
        Side("Holdfast", field_ms("p50_s"), ("pg/start",)), None, 10, False),
    Row("pg-start-p99", "the same, p99", "ms", Side("Holdfast", field_ms("p99_s"), ("pg/start",)), None, 50, False),
    Row("pg-claim", "PostgreSQL: a task taken of 1,000,000 queued, p50", "ms",
        Side("Holdfast", field_ms("p50_s"), ("pg/claim/1000000",)),
        Side("of 1,000", field_ms("p50_s"), ("pg/claim/1000",)), 1.5, False),
    stops("stop-async", "cancel, suspend: async step stopped, worst", "worst_s", 100,
          "async/cancel/inside", "async/suspend/inside"),
    stops("stop-thread", "cancel, suspend: thread step stopped, worst", "worst_s", 100,
          "thread/cancel/inside", "thread/suspend/inside"),
    stops("stop-process", "cancel, suspend: process step stopped, worst", "worst_s", 100,
          "process/cancel/inside", "process/suspend/inside"),
    stops("stop-outside", "the same, asked by another process, worst", "worst_s", 1000,
          "async/cancel/outside", "thread/suspend/outside", "process/cancel/outside"),
    stops("stop-hung", "hung process step gone, of its grace_s of 1 s, worst", "worst_s", 1000, "hung/cancel/inside"),
    Row(
        "import",
        "import holdfast over a bare interpreter",
        "ms",
        Side("Holdfast", field_ms("import_s"), ("import",)),
        None,
        40,
        at_least=False,
    ),
    Row(
        "post",
        "POST accepted durably, 32 connections",
        "requests/s",
        Side("Holdfast", requests, ("post/holdfast",)),
        Side("the lower of both", lower, ("post/constant", "post/sqlite")),
        1,
        at_least=True,
        beside=(
            Side("the web stack's constant", requests, ("post/constant",)),
            Side("bare sqlite3, 32 to a commit", requests, ("post/sqlite",)),
        ),
    ),
    Row("get", "GET of one task, p50", "ms", Side("Holdfast", field_ms("task_p50_s"), ("get/1000",)), CONSTANT, 3,
        False),
    Row("list", "list of 50 by resource, state, tag, slowest p50", "ms", Side("Holdfast", lists_ms, ("get/1000",)),
        CONSTANT, 15, False),
    Row("get-flat", "these with 1,000,000 tasks", "ms", Side("Holdfast", reads_ms, ("get/1000000",)),
        Side("with 1,000", reads_ms, ("get/1000",)), 1.4, False),
    Row("queue", "POST on a resource with 10,000 queued tasks, p50", "ms",
        Side("Holdfast", field_ms("p50_s"), ("queue/10000",)), Side("with none", field_ms("p50_s"), ("queue/0",)), 1.3,
        False),
    Row("streams", "one change on all of 1,000 event streams, median of 20", "ms",
        Side("Holdfast", field_ms("median_s"), ("streams",)), None, 100, False),
    Row("purge", "POST while 1,000,000 ended tasks are purged, p99", "ms",
        Side("Holdfast", field_ms("p99_s"), ("purge/1000000",)), Side("without", field_ms("p99_s"), ("purge/none",)), 2,
        False),
    Row("power", "power of 500 nodes at 50 calls at once, 0.1 s each", "ms",
        Side("Holdfast's sync", field_ms("wall_s"), ("power/sync",)),
        Side("the bare driver", field_ms("wall_s"), ("power/bare",)), 1.2, False),
    Row("idle", "idle service, 1,000 nodes, power sync off", "% of a core",
        Side("Holdfast", lambda figures: 100 * float(figures["core"]), ("idle/1000",)), None, 1, False),
    Row("idle-memory", "the same: resident memory", "MB",
        Side("Holdfast", lambda figures: float(figures["resident_bytes"]) / 1e6, ("idle/1000",)), None, 150, False),
)  # fmt: skip
