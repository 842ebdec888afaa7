"""What others join to the life of tasks: functions that are called inside the transaction of a change.

Theory: tasks know nothing of resources; but a change of a task and what it means for a resource must be one
transaction. So whoever knows what it means says so here, once a process. What such a function raises undoes the change.

The end of a task has its own door: tasks/finish.py, `join`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from holdfast.store.base import Tx
from holdfast.tasks.row import TaskRow


class Joint(NamedTuple):
    """making: (tx, the ended task that is about to be retried or rolled back): lock what that changes, because it comes
    before the queues. made: (tx, the ended task, the task that retries it or rolls it back, whether by force, now).
    rested: (tx, the row of a task that has come to rest, now). aborting: (tx, the row of a task that is to be aborted);
    it may raise VerbUnsupported."""

    making: Callable[[Tx, TaskRow], None]
    made: Callable[[Tx, TaskRow, TaskRow, bool, float], None]
    rested: Callable[[Tx, TaskRow, float], None]
    aborting: Callable[[Tx, TaskRow], None]


_JOINTS: Final[list[Joint]] = []


def join(joint: Joint) -> None:
    """Joined twice, it is called once."""
    if joint not in _JOINTS:
        _JOINTS.append(joint)


def making(tx: Tx, at: TaskRow) -> None:
    for joint in _JOINTS:
        joint.making(tx, at)


def made(tx: Tx, at: TaskRow, new: TaskRow, force: bool, now: float) -> None:
    for joint in _JOINTS:
        joint.made(tx, at, new, force, now)


def rested(tx: Tx, at: TaskRow, now: float) -> None:
    for joint in _JOINTS:
        joint.rested(tx, at, now)


def aborting(tx: Tx, at: TaskRow) -> None:
    for joint in _JOINTS:
        joint.aborting(tx, at)
