"""`holdfast drain`: have workers take nothing more, and wait until nothing of theirs runs.

What a worker does about it: worker/loop.py. The mark: the row of the worker (tasks/lease.py).
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from holdfast.cli import exits, options, show
from holdfast.cli.options import DatabaseOption, OutputOption
from holdfast.errors import NotFound

if TYPE_CHECKING:
    from holdfast.local import Holdfast
    from holdfast.store.base import Tx
    from holdfast.tasks.lease import WorkerRow

LOOK_S: Final = 0.2
OWN_POOL: Final = "task "  # of a worker that a command has for its one task


def drain(
    database: DatabaseOption = None,
    worker: Annotated[
        str | None, typer.Option("--worker", metavar="ID", help="Only this one: the beginning of its id.")
    ] = None,
    pool: Annotated[str | None, typer.Option("--pool", metavar="POOL", help="Only those of this pool.")] = None,
    off: Annotated[bool, typer.Option("--off", help="Call it off: they take tasks again.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="SECONDS", help="Wait no longer: exit 124 if any is left.", min=0),
    ] = None,
    output: OutputOption = "table",
) -> int:
    """Have workers take nothing more and hand over what they have, and wait until nothing of theirs runs.

    \b
    holdfast drain                          before maintenance: returns when it is safe to stop every worker
    holdfast drain --timeout 0              only ask for it, and list what still runs and for how long
    holdfast drain --worker 3f2a --timeout 600
    holdfast drain --off                    take tasks again

    A step that runs goes on to its end; the task then stands where it is, and any other worker, or the next one to
    start, goes on with it. No request is lost or refused meanwhile: tasks are accepted and wait. A worker that starts
    later is not drained. Exit 0 if nothing is left, 124 if something still runs.
    """
    with options.opened(database) as hold:
        chosen = _chosen(hold, worker, pool)
        beats = _mark(hold, chosen, None if off else hold.clock.time())
        if off:
            _say(output, f"{len(chosen)} workers take tasks again")
            return exits.OK
        left = _wait(hold, beats, timeout, output)
    _print(left, len(chosen), output)
    return exits.TIMED_OUT if left else exits.OK


def _chosen(hold: Holdfast, worker: str | None, pool: str | None) -> list[WorkerRow]:
    """The living workers that are meant. Raises: NotFound: there is none of that name."""
    from holdfast.cli.findings import is_dead
    from holdfast.tasks import lease

    now = hold.clock.time()
    found = [
        each
        for each in hold.store.read(lease.alive)
        if (worker is None or each.id.startswith(worker)) and pool in (None, each.pool) and not is_dead(each, now)
    ]
    if worker is not None and len(found) != 1:
        raise NotFound(
            f"{len(found) or 'no'} living workers have an id that begins with {worker}: see `holdfast doctor`"
        )
    return found


def _mark(hold: Holdfast, workers: list[WorkerRow], at: float | None) -> dict[str, float]:
    """Tell them. The last heartbeat of each before that."""
    from holdfast.tasks import lease

    def mark(tx: Tx) -> dict[str, float]:
        for each in workers:
            if not each.pool.startswith(OWN_POOL):
                lease.drain(tx, each.id, at)
        known = {each.id: each.heartbeat_at for each in lease.alive(tx)}
        return {each.id: known[each.id] for each in workers if each.id in known}

    return hold.store.write(mark)


def _wait(hold: Holdfast, beats: dict[str, float], timeout_s: float | None, output: str) -> list[dict[str, Any]]:
    """What is left of theirs when nothing is, or the time is over. What still runs is said once each worker has heard
    of it: until then it may begin another step."""
    end = None if timeout_s is None else hold.clock.monotonic() + timeout_s
    pause, told = threading.Event(), None
    while True:
        left = _left(hold, list(beats))
        if not left or (end is not None and hold.clock.monotonic() >= end):
            return left
        if _have_heard(hold, beats) and (names := [each["task"] for each in left]) != told:
            told = names
            _say(output, f"{len(left)} tasks still run: {', '.join(names[:5])}{' …' if len(names) > 5 else ''}")
        hold.clock.wait(pause, LOOK_S)


def _have_heard(hold: Holdfast, beats: dict[str, float]) -> bool:
    """Whether each worker that lives has sent a heartbeat since."""
    from holdfast.tasks import lease

    return all(beats.get(each.id) != each.heartbeat_at for each in hold.store.read(lease.alive))


def _left(hold: Holdfast, workers: list[str]) -> list[dict[str, Any]]:
    """The tasks that these workers still have, each with its steps that run, and for how long they do. A worker that
    has died has none."""
    now = hold.clock.time()

    def read(tx: Tx) -> list[dict[str, Any]]:
        from sqlalchemy import select

        from holdfast.cli.findings import is_dead
        from holdfast.store.schema import tasks
        from holdfast.tasks import lease, query, row

        living = {each.id: each for each in lease.alive(tx) if not is_dead(each, now)}
        found = tx.execute(select(tasks).where(tasks.c.worker_id.in_(workers)).order_by(tasks.c.id)).all()
        return [
            _entry(at, living[at.worker_id], query.latest_steps(tx, at.id, 50), now)
            for at in map(row.of, found)
            if at.worker_id in living
        ]

    return hold.store.read(read)


def _entry(at: Any, worker: WorkerRow, steps: Any, now: float) -> dict[str, Any]:
    running = [step for step in reversed(steps) if step.state in ("RUNNING", "REVERTING")]
    return {
        "task": at.uuid,
        "flow": at.operation or at.flow,
        "state": at.state,
        "running_s": round(now - (at.executed_at or at.created_at), 1),
        "steps": [{"id": step.node, "running_s": round(now - step.started_at, 1)} for step in running],
        "worker": worker.id[:8],
        "host": worker.host,
        "pid": worker.pid,
    }


def _print(left: list[dict[str, Any]], workers: int, output: str) -> None:
    if output == "json":
        show.print_json({"workers": workers, "left": left})
        return
    if not left:
        print(f"{workers} workers are drained: nothing of theirs runs")
        return
    rows = [
        (
            each["task"],
            each["flow"],
            each["state"],
            f"{each['running_s']:.0f} s",
            ", ".join(f"{step['id']} ({step['running_s']:.0f} s)" for step in each["steps"]) or "between two steps",
            f"{each['worker']} ({each['pid']} on {each['host']})",
        )
        for each in left
    ]
    show.print_table(("TASK", "FLOW", "STATE", "FOR", "STEPS THAT RUN", "WORKER"), rows)


def _say(output: str, text: str) -> None:
    print(text, file=sys.stderr if output == "json" else sys.stdout, flush=True)
