"""Quotas: how many tasks of a project may be unended at once, and how many may stand in the queue of one resource.

Theory: a quota keeps one project from filling the house, and costs next to nothing where it is far away. So it is
looked at when the task has its id and its tickets, and is undone with them: a queue is no longer than the range of its
ticket numbers, and no more tasks can have come since the last count than there are new ids. Only where that is not
enough are rows counted, by an index, and hardly more of them than the limit.

Who asks for it: tasks/submit.py, where the request names limits. A library's own submit names none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import bindparam, false, func, select

from holdfast.core import states
from holdfast.errors import QuotaExceeded
from holdfast.store.base import Tx
from holdfast.store.schema import queues, tasks, tickets
from holdfast.tasks.claims import Claim, Place

RETRY_AFTER_S: Final = 5
LIVE: Final = "live_tasks"
QUEUE: Final = "queue_length"
_COUNTED_MAX: Final = 10_000

_UNENDED: Final = tuple(state for state in states.API_STATES if state not in states.FINAL)


def number_of(rows: Any) -> Any:
    """How many rows there are, up to `_max`."""
    return select(func.count()).select_from(rows.limit(bindparam("_max")).subquery())


_LIVE: Final = number_of(
    select(tasks.c.id).where(tasks.c.project_id == bindparam("_project"), tasks.c.state.in_(_UNENDED))
)
_RANGE: Final = select(
    queues.c.next_ticket
    - select(func.min(tickets.c.ticket)).where(tickets.c.resource == bindparam("_r")).scalar_subquery()
).where(queues.c.resource == bindparam("_r"))
_QUEUED: Final = number_of(
    select(tickets.c.ticket).where(tickets.c.resource == bindparam("_r"), tickets.c.granted == false())
)


class Limits:
    """The quotas of one service; make one and give it to every request. None: no limit."""

    __slots__ = ("_counted", "live_max", "queue_max")

    def __init__(self, *, live_max: int | None = None, queue_max: int | None = None) -> None:
        self.live_max = live_max
        self.queue_max = queue_max
        self._counted: dict[tuple[str, str], tuple[int, int]] = {}  # of what -> (its tasks, the last id) when counted

    def is_within(self, limit: int, of: tuple[str, str], task: int, count: Callable[[int], int]) -> bool:
        """Whether there are no more than `limit` tasks of a kind with that one, which was just made. `count`: how many
        there are, up to a number."""
        number, then = self._counted.get(of, (limit, task - 1))
        if then < task and number + (task - then) <= limit:
            return True
        number = count(limit + 1)
        if len(self._counted) >= _COUNTED_MAX:
            self._counted.clear()
        self._counted[of] = (number, task)
        return number <= limit

    def _may_be_near(self, limit: int, of: tuple[str, str], task: int, unseen: int) -> bool:
        number, then = self._counted.get(of, (limit, task - 1))
        return number + (task - then) + unseen > limit

    def allows(self, tx: Tx, project_id: str, task: int) -> bool:
        """Whether the project may have that task too, which was just made."""
        assert self.live_max is not None
        if tx.beside and self._may_be_near(self.live_max, (LIVE, project_id), task, tx.beside):
            tx.hold(f"quota {project_id}")
            self._counted.pop((LIVE, project_id), None)  # others' tasks were not counted before they were there
        return self.is_within(
            self.live_max,
            (LIVE, project_id),
            task,
            lambda at_most: int(tx.execute(_LIVE, {"_project": project_id, "_max": at_most}).scalar()),
        )


def check_project(tx: Tx, limits: Limits, project_id: str, task: int) -> None:
    """Refuse a task, which was just made, where the project has as many as it may.

    Raises: QuotaExceeded: details `quota`, `limit`, `retry_after_s`.
    """
    if limits.live_max is not None and not limits.allows(tx, project_id, task):
        raise QuotaExceeded(
            f"project {project_id} has {limits.live_max} tasks that have not ended, as many as it may: wait for some to"
            " end, or cancel some",
            quota=LIVE,
            limit=limits.live_max,
            retry_after_s=RETRY_AFTER_S,
        )


def check_queues(tx: Tx, limits: Limits, claims: Sequence[Claim], places: Sequence[Place]) -> None:
    """Refuse one task more in the queue of a resource that it claims. `places`: those that it has drawn there already,
    if it has.

    Raises: QuotaExceeded: details `quota`, `limit`, `resource`, `retry_after_s`.
    """
    if limits.queue_max is None or (places and all(place.ticket <= limits.queue_max for place in places)):
        return  # no more than its number can be before it
    for claim in claims:
        if queue_length(tx, claim.resource, limits.queue_max) >= limits.queue_max:
            raise QuotaExceeded(
                f"{limits.queue_max} tasks wait for {claim.resource}, as many as may: wait for some to end, or"
                " cancel some",
                quota=QUEUE,
                limit=limits.queue_max,
                resource=claim.resource,
                retry_after_s=RETRY_AFTER_S,
            )


def queue_length(tx: Tx, resource: str, at_most: int) -> int:
    """Whether `at_most` wait for the resource, as a number: that, if they do; else less, but no less than do."""
    held = tx.execute(_RANGE, {"_r": resource}).scalar()
    if held is None or held < at_most:
        return int(held or 0)
    return int(tx.execute(_QUEUED, {"_r": resource, "_max": at_most}).scalar())
