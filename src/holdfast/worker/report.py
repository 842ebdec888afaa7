"""Progress that steps report while they run: the latest, written beside the journal and never in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import bindparam, update

from holdfast.errors import WorldError
from holdfast.store.base import Store, Tx
from holdfast.store.schema import steps, tasks
from holdfast.tasks.steps import settle

if TYPE_CHECKING:
    from holdfast.worker.record import Recorder
    from holdfast.worker.taken import Taken


class Said(NamedTuple):
    """What a step said of itself. `share`: what that adds to the task's weight done."""

    ord: int
    node: str
    fraction: float
    message: str | None
    share: float


class Report(NamedTuple):
    """What is to be written of a task while it runs, and what to call once it is stored."""

    writes: Callable[[Tx], None]
    told: Callable[[], None]


_TASK: Final = (
    update(tasks)
    .where(tasks.c.id == bindparam("_task"), tasks.c.token == bindparam("_token"))
    .values(
        progress_done=bindparam("_done"),
        progress_step=bindparam("_step"),
        progress_message=bindparam("_message"),
        progress_at=bindparam("_now"),
    )
)
_STEP: Final = (
    update(steps)
    .where(steps.c.task == bindparam("_task"), steps.c.ord == bindparam("_ord"))
    .values(progress=bindparam("_fraction"), message=bindparam("_text"))
)


def of(recorder: Recorder, row: int, fraction: float, message: str | None) -> Said:
    return Said(recorder.ord_of(row), recorder.id_of(row), fraction, message, recorder.weight_of(row) * fraction)


def write(task: int, token: str, done: float, said: Sequence[Said], now: float, tx: Tx) -> None:
    """`done`: the weight of the steps that are done. A stale token writes nothing."""
    if not said:
        return
    last = said[-1]
    values = {"_done": done + sum(each.share for each in said), "_step": last.node, "_message": last.message}
    if tx.execute(_TASK, {"_task": task, "_token": token, "_now": now, **values}).rowcount != 1:
        return
    settle(tx, task)  # there may be no row yet of a step that has just begun
    for each in said:
        tx.execute(_STEP, {"_task": task, "_ord": each.ord, "_fraction": each.fraction, "_text": each.message})


def write_reports(store: Store, tasks: Iterable[Taken], now: float) -> list[tuple[Taken, Exception]]:
    """Write what is new of the steps that run: of all tasks in one commit, because each is a sync of the disk. Those
    for which it can't be written, and why; for want of a database nothing is: what comes next says more."""
    reports = [(taken, report) for taken in tasks if (report := taken.progress(now)) is not None]
    bad: list[tuple[Taken, Exception]] = []
    if not reports:
        return bad
    answers = store.write_all([report.writes for _, report in reports])
    for (taken, report), answer in zip(reports, answers, strict=True):
        if isinstance(answer, WorldError):
            continue
        if isinstance(answer, Exception):  # one bad task hurts no other
            bad.append((taken, answer))
        else:
            report.told()
    return bad
