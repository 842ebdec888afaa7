"""Telling what happened: rows of the event feed, written in the transaction of what they tell of.

Theory: an event exists exactly if its change does, so nobody has to ask whether one was lost. A row is enough to show
the event when its task has been purged, and holds nothing that only an administrator may see (no traceback, no host).
The order of ids is the order of commits, because one writer at a time draws them. (PostgreSQL has many: there a
reader must stop below the oldest transaction that is still open.)

Who reads the feed: feed/. What a worker tells of a task while it runs, and how often: worker/telling.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import bindparam, delete, select

from holdfast.core import compact
from holdfast.core.states import FINAL, REVERTED, SUCCEEDED
from holdfast.store.appends import FEED
from holdfast.store.base import FeedRow, Tx
from holdfast.store.schema import untold
from holdfast.tasks import row
from holdfast.tasks.row import TaskRow

STATE: Final = "task.state"
CONTROL: Final = "task.control"
PROGRESS: Final = "task.progress"
STEP: Final = "task.step"
SYNC: Final = "resource.sync"
STATUS: Final = "resource.status"
TYPES: Final = (STATE, CONTROL, PROGRESS, STEP, SYNC, STATUS)

WORKER: Final = "worker"  # the actor of what no person asked for

_encode: Final = compact.writer(ascii=True)  # what a failure says may be no Unicode
_WELL: Final = (SUCCEEDED, REVERTED)


_CATCH_UP_MAX: Final = 1000
UNTOLD: Final = select(untold).order_by(untold.c.id).limit(_CATCH_UP_MAX).with_for_update(skip_locked=True)
_TOLD: Final = delete(untold).where(untold.c.id == bindparam("_id"))


def tell(
    tx: Tx,
    type: str,
    *,
    task: TaskRow | int,
    data: Mapping[str, Any],
    now: float,
    project_id: str | None = None,
    subject: str | None = None,
    resource: str | None = None,
) -> None:
    """Write one event of a task; what is about a resource says so (`subject`, as `servers/<id>`, and its id)."""
    at = row.read(tx, task) if isinstance(task, int) else task
    if subject is None:
        write(tx, [news(at, type, data, now)])
    else:
        write(tx, [FeedRow(now, type, project_id or at.project_id, at.id, subject, resource, _encode(data))])


def state(
    tx: Tx, at: TaskRow, before: str | None, to: str, now: float, *, actor: str, reason: str | None = None
) -> None:
    """The task's state has changed, in its row too. `at`: the row, of before or after."""
    write(tx, [state_news(at, before, to, now, actor, reason)])


def end_news(before: TaskRow, to: str, now: float, *, actor: str, left: tuple[str, str], error: str | None) -> FeedRow:
    """The task has ended. `before`: its row as it was; `error`: the failure, as the row has it now."""
    shown = brief(before, to) | {"effect": left[0], "revert": left[1], "error": _shown(before, to, error)}
    data = {"from": before.state, "to": to, "actor": actor, "reason": None, "task": shown}
    return news(before, STATE, data, now)


def control(tx: Tx, at: TaskRow, verb: str, now: float, *, actor: str, **more: Any) -> None:
    """A verb was accepted. `more`: what there is to know beside it."""
    write(tx, [news(at, CONTROL, {"verb": verb, "actor": actor, **more, "task": brief(at, at.state)}, now)])


def state_news(at: TaskRow, before: str | None, to: str, now: float, actor: str, reason: str | None = None) -> FeedRow:
    data = {"from": before, "to": to, "actor": actor, "reason": reason, "task": brief(at, to)}
    return news(at, STATE, data, now)


def news(at: TaskRow, type: str, data: Mapping[str, Any], now: float) -> FeedRow:
    return FeedRow(now, type, at.project_id, at.id, f"tasks/{at.uuid}", at.resource_id, _encode(data))


def write(tx: Tx, told: Sequence[FeedRow]) -> None:
    """Rows of the feed, in this order."""
    for each in told:
        tx.add(FEED, each)


def catch_up(tx: Tx, untold: Sequence[Any]) -> None:
    """Tell what transactions have left to be told that were a caller's own, and have committed: what UNTOLD gave."""
    for each in untold:
        tx.execute(_TOLD, {"_id": each.id})
        tx.add(FEED, [each.at, each.type, each.project_id, each.task, each.subject, each.resource, each.data])


def brief(at: TaskRow, state: str) -> dict[str, Any]:
    """The task, as every event names it."""
    return {
        "uuid": at.uuid,
        "task": at.operation or at.flow,
        "state": state,
        "tag": at.tag,
        "resource_type": at.resource_type,
        "resource_id": at.resource_id,
        "request_id": at.request_id or None,
        "user_id": at.user_id or None,
    }


def is_end(type: str, data: Mapping[str, Any]) -> bool:
    """Whether this is the last that happens to a task itself."""
    return type == STATE and data.get("to") in FINAL


def _shown(before: TaskRow, to: str, error: str | None) -> dict[str, Any] | None:
    if to in _WELL:
        return None
    from holdfast.tasks import show  # it needs the verbs, which need this module

    return show.error(before._replace(state=to, error=error))
