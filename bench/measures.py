"""What is measured: every case that a row may need, with its arguments and how often it is run.

A measure is one program of cases/, which is run in a fresh interpreter and prints its figures as JSON. What a row
makes of the figures: rows.py. How they are run side by side: run.py.
"""

from __future__ import annotations

from typing import NamedTuple


class Measure(NamedTuple):
    """`repeats` runs of `program`. One that `needs_directory` gets an empty one on the measured disk for each run; one
    that `prepares` is first run once with `--prepare`, and each run gets a copy of what that left behind. Those with
    the same `shares` share one preparation. One that `needs_postgresql` gets the URL of an empty database, all on one
    server with the durability that it comes with."""

    program: str
    arguments: tuple[str, ...] = ()
    repeats: int = 5
    needs_directory: bool = False
    prepares: bool = False
    shares: str | None = None
    needs_postgresql: bool = False


def shape(name: str, steps: int) -> Measure:
    arguments = ("--shape", name, "--steps", str(steps), "--warm", "1000")
    return Measure("shapes_holdfast", arguments, repeats=9 if steps == 1000 else 5 if steps < 100_000 else 3)


def durable(program: str, *arguments: str, repeats: int = 5) -> Measure:
    return Measure(program, arguments, repeats, needs_directory=True)


def resume(program: str, steps: int, repeats: int = 5) -> Measure:
    return Measure(program, ("--steps", str(steps)), repeats, needs_directory=True, prepares=True)


def stop(how: str, verb: str, asked_from: str) -> Measure:
    return durable("stop_holdfast", "--how", how, "--verb", verb, "--from", asked_from, repeats=1)


def prepared(program: str, *arguments: str, repeats: int = 3) -> Measure:
    return Measure(program, arguments, repeats, needs_directory=True, prepares=True)


def postgresql(program: str, *arguments: str, repeats: int = 3) -> Measure:
    return Measure(program, arguments, repeats, needs_postgresql=True)


MEASURES: dict[str, Measure] = {
    "bare": Measure("bare", repeats=3),
    "import": Measure("imports", ("--pairs", "41"), repeats=1),
    # in memory
    "linear/1000/once": Measure("shapes_holdfast", ("--shape", "linear", "--steps", "1000"), repeats=9),
    "linear/1000/taskflow": Measure("linear_taskflow", ("--steps", "1000"), repeats=3),
    "linear/1000": shape("linear", 1000),
    "linear/100000": shape("linear", 100_000),
    "unordered/1000": shape("unordered", 1000),
    "unordered/100000": shape("unordered", 100_000),
    "graph/1000": shape("graph", 1000),
    "graph/10000": shape("graph", 10_000),
    "barriers/1000": shape("barriers", 1000),
    "barriers/10000": shape("barriers", 10_000),
    "failure/1000": shape("failure", 1000),
    "failure/10000": shape("failure", 10_000),
    # durable, SQLite
    "durable/bare": durable("durable_sqlite", "--steps", "2000"),
    "durable/1": durable("durable_holdfast", "--how", "inline", "--steps", "2000"),
    "durable/1/dbos": durable("durable_dbos", "--how", "sync", "--steps", "2000", repeats=3),
    "durable/32/async": durable("durable_holdfast", "--how", "async", "--flows", "32", "--steps", "200"),
    "durable/32/threads": durable("durable_holdfast", "--how", "threads", "--flows", "32", "--steps", "200"),
    "durable/32/dbos/async": durable("durable_dbos", "--how", "async", "--flows", "32", "--steps", "50", repeats=3),
    "durable/32/dbos/threads": durable("durable_dbos", "--how", "threads", "--flows", "32", "--steps", "50", repeats=3),
    "resume/1000": resume("resume_holdfast", 1000),
    "resume/10000": resume("resume_holdfast", 10_000),
    "resume/1000/taskflow": resume("resume_taskflow", 1000, repeats=3),
    "first-step": durable("first_step_holdfast", "--tasks", "1000", repeats=3),
    # durable, PostgreSQL
    "pg/bare": postgresql("durable_postgresql", "--steps", "2000", repeats=5),
    "pg/1": postgresql("durable_holdfast", "--how", "inline", "--steps", "2000", repeats=5),
    "pg/1/dbos": postgresql("durable_dbos", "--how", "sync", "--steps", "500"),
    "pg/32": postgresql("durable_holdfast", "--how", "async", "--flows", "32", "--steps", "200"),
    "pg/32/dbos/async": postgresql("durable_dbos", "--how", "async", "--flows", "32", "--steps", "25"),
    "pg/32/dbos/threads": postgresql("durable_dbos", "--how", "threads", "--flows", "32", "--steps", "25"),
    "pg/drain/1": postgresql("drain_holdfast", "--tasks", "5000", "--workers", "1"),
    "pg/drain/2": postgresql("drain_holdfast", "--tasks", "5000", "--workers", "2"),
    "pg/drain/8": postgresql("drain_holdfast", "--tasks", "5000", "--workers", "8"),
    "pg/drain/procrastinate/1": postgresql("drain_procrastinate", "--tasks", "5000", "--concurrency", "1"),
    "pg/drain/procrastinate/10": postgresql("drain_procrastinate", "--tasks", "5000", "--concurrency", "10"),
    "pg/drain/dbos": postgresql("drain_dbos", "--tasks", "5000"),
    "pg/start": postgresql("start_holdfast", "--tasks", "500"),
    "pg/claim/1000": postgresql("claim_holdfast", "--queued", "1000"),
    "pg/claim/1000000": postgresql("claim_holdfast", "--queued", "1000000", repeats=1),
    # verbs
    "stop/async/cancel/inside": stop("async", "cancel", "inside"),
    "stop/async/suspend/inside": stop("async", "suspend", "inside"),
    "stop/thread/cancel/inside": stop("thread", "cancel", "inside"),
    "stop/thread/suspend/inside": stop("thread", "suspend", "inside"),
    "stop/process/cancel/inside": stop("process", "cancel", "inside"),
    "stop/process/suspend/inside": stop("process", "suspend", "inside"),
    "stop/async/cancel/outside": stop("async", "cancel", "outside"),
    "stop/thread/suspend/outside": stop("thread", "suspend", "outside"),
    "stop/process/cancel/outside": stop("process", "cancel", "outside"),
    "stop/hung/cancel/inside": stop("hung", "cancel", "inside"),
    # the service
    "post/constant": durable("service_post", "--who", "constant", "--requests", "4000", repeats=3),
    "post/holdfast": durable("service_post", "--who", "holdfast", "--requests", "4000", repeats=3),
    "post/sqlite": durable("service_post", "--who", "sqlite", "--requests", "4000", repeats=3),
    "get/constant": durable("service_read", "--who", "constant", repeats=3),
    "get/1000": prepared("service_read", "--tasks", "1000"),
    "get/1000000": prepared("service_read", "--tasks", "1000000"),
    "queue/0": prepared("service_queue", "--queued", "0"),
    "queue/10000": prepared("service_queue", "--queued", "10000"),
    "streams": durable("service_streams", "--streams", "1000", repeats=3),
    "purge/none": prepared("service_purge")._replace(shares="purge"),
    "purge/1000000": prepared("service_purge", "--expired")._replace(shares="purge"),
    # nodes
    "power/bare": durable("power_sync", "--who", "bare", repeats=3),
    "power/sync": durable("power_sync", "--who", "sync", repeats=3),
    "idle/1000": prepared("idle_nodes", "--nodes", "1000"),
}
