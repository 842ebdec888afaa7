"""Webhooks as rows: what somebody wants sent where, how far it has got, and whether it works.

Who sends: feed/sinks.py. HTTP: service/webhooks.py.
"""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

from sqlalchemy import bindparam, delete, func, insert, null, or_, select, update

from holdfast.errors import QuotaExceeded, WebhookNotFound
from holdfast.feed import log
from holdfast.feed.log import Filter
from holdfast.store.base import Tx
from holdfast.store.schema import webhooks
from holdfast.tasks.show import moment

PER_PROJECT_MAX: Final = 100


class Hook(NamedTuple):
    """The columns of schema.webhooks, in its order."""

    id: str
    project_id: str
    user_id: str
    url: str
    secret: str
    wants: str
    delivered: int
    created_at: float
    failing_since: float | None
    failures: int
    next_at: float
    disabled: str | None
    sender: str | None
    sender_until: float

    @property
    def filter(self) -> Filter:
        wants = json.loads(self.wants)
        return Filter(self.project_id, wants.get("task"), wants.get("resource"), frozenset(wants.get("types", ())))

    @property
    def state(self) -> str:
        return "DISABLED" if self.disabled is not None else "FAILING" if self.failures else "ACTIVE"


_t = webhooks.c
_ADD: Final = insert(webhooks)
_COUNT: Final = select(func.count()).where(_t.project_id == bindparam("_project"))
_LIST: Final = select(webhooks).where(_t.project_id == bindparam("_project")).order_by(_t.id)
_ONE: Final = select(webhooks).where(_t.project_id == bindparam("_project"), _t.id == bindparam("_id"))
_DROP: Final = delete(webhooks).where(_t.project_id == bindparam("_project"), _t.id == bindparam("_id"))
_LIVE: Final = select(webhooks).where(_t.disabled.is_(null())).order_by(_t.id)
_mine = (_t.id == bindparam("_id")) & (_t.sender == bindparam("_sender"))
_CLAIM: Final = (
    update(webhooks)
    .where(
        _t.id == bindparam("_id"),
        _t.disabled.is_(null()),
        or_(_t.sender.is_(null()), _t.sender == bindparam("_sender"), _t.sender_until <= bindparam("_now")),
    )
    .values(sender=bindparam("_sender"), sender_until=bindparam("_until"))
    .returning(webhooks)
)
_SENT: Final = (
    update(webhooks)
    .where(_mine)
    .values(
        delivered=bindparam("_delivered"),
        failures=bindparam("_failures"),
        failing_since=bindparam("_since"),
        next_at=bindparam("_next"),
        disabled=bindparam("_why"),
    )
)
_RELEASE: Final = update(webhooks).where(_t.sender == bindparam("_sender")).values(sender=null(), sender_until=0.0)


def add(tx: Tx, hook: Hook) -> Hook:
    """Raises: QuotaExceeded, EventsGone: `delivered` is too old."""
    log.check(tx, hook.delivered)
    if int(tx.execute(_COUNT, {"_project": hook.project_id}).scalar()) >= PER_PROJECT_MAX:
        raise QuotaExceeded(f"a project has {PER_PROJECT_MAX} webhooks at most: delete one", limit=PER_PROJECT_MAX)
    tx.execute(_ADD, hook._asdict())
    return hook


def page(tx: Tx, project: str) -> list[Hook]:
    return [Hook._make(found) for found in tx.execute(_LIST, {"_project": project}).all()]


def get(tx: Tx, project: str, id: str) -> Hook:
    """Raises: WebhookNotFound."""
    found = tx.execute(_ONE, {"_project": project, "_id": id}).first()
    if found is None:
        raise WebhookNotFound(f"there is no webhook {id}", webhook=id)
    return Hook._make(found)


def drop(tx: Tx, project: str, id: str) -> None:
    """Raises: WebhookNotFound."""
    get(tx, project, id)
    tx.execute(_DROP, {"_project": project, "_id": id})


def show(hook: Hook) -> dict[str, Any]:
    """As its owner sees it: never its secret."""
    wants = json.loads(hook.wants)
    return {
        "uuid": hook.id,
        "url": hook.url,
        "types": sorted(wants.get("types", ())),
        "resource_id": wants.get("resource"),
        "task": wants.get("task_uuid"),
        "project_id": hook.project_id,
        "user_id": hook.user_id or None,
        "state": hook.state,
        "reason": hook.disabled,
        "delivered": str(hook.delivered),
        "failures": hook.failures,
        "failing_since": moment(hook.failing_since),
        "next_attempt_at": moment(hook.next_at) if hook.failures and hook.disabled is None else None,
        "created_at": moment(hook.created_at),
        "links": [{"rel": "self", "href": f"/v3/webhooks/{hook.id}"}],
    }


# --- for who sends -----------------------------------------------------------------------------------------------


def live(tx: Tx) -> list[Hook]:
    """Those that are not disabled."""
    return [Hook._make(found) for found in tx.execute(_LIVE).all()]


def claim(tx: Tx, id: str, sender: str, now: float, until: float) -> Hook | None:
    """The webhook, which until then only `sender` serves; None: another does, or it is gone."""
    found = tx.execute(_CLAIM, {"_id": id, "_sender": sender, "_now": now, "_until": until}).first()
    return None if found is None else Hook._make(found)


def sent(
    tx: Tx, id: str, sender: str, delivered: int, *, failures: int = 0, since: float | None = None,
    next_at: float = 0.0, disabled: str | None = None,
) -> bool:  # fmt: skip
    """How far it has got, and how it went; whether it is still the sender's."""
    values = {"_id": id, "_sender": sender, "_delivered": delivered, "_failures": failures, "_since": since}
    return tx.execute(_SENT, {**values, "_next": next_at, "_why": disabled}).rowcount == 1


def release(tx: Tx, sender: str) -> None:
    tx.execute(_RELEASE, {"_sender": sender})
