"""What is shown of a node, and what its operations aim at.

Theory: `target_power_state` is nowhere stored. It follows from the task that holds the node, and from the step that it
is in; so there is none without a task, and no crash can leave one behind. `power_state` is what was seen last, or
`error` where an operation was stopped or failed in the middle and nobody has looked since.

The words: words.py. The shapes of Ironic's API around these: service/compat/.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from sqlalchemy import bindparam, select, true

from holdfast.core import states
from holdfast.core.values import decode
from holdfast.errors import DriverInvalid
from holdfast.resources import state
from holdfast.resources.node import drivers, words
from holdfast.resources.probing import by_uuid
from holdfast.resources.state import ResourceRow
from holdfast.resources.steps import READ
from holdfast.store.base import Tx
from holdfast.store.schema import tasks, tickets
from holdfast.tasks import control, show
from holdfast.tasks.row import TaskRow

KIND: Final = "node"
#: What an operation on the power is called in Ironic's API, and back.
TARGETS: Final = MappingProxyType(
    {
        "power_on": words.POWER_ON,
        "power_off": words.POWER_OFF,
        "reboot": words.REBOOT,
        "soft_reboot": words.SOFT_REBOOT,
        "soft_power_off": words.SOFT_POWER_OFF,
        "inject_nmi": words.INJECT_NMI,
        "abort_soft_reboot": words.ABORT_SOFT_REBOOT,
        "abort_soft_power_off": words.ABORT_SOFT_POWER_OFF,
        "abort_inject_nmi": words.ABORT_INJECT_NMI,
    }
)
OPERATIONS: Final = MappingProxyType({target: operation for operation, target in TARGETS.items()})
#: The commands that make up an operation, in their order. A step has the name of its command.
COMMANDS: Final = MappingProxyType(
    {
        "power_on": ("power_on",),
        "power_off": ("power_off",),
        "reboot": ("power_off", "power_on"),
        "soft_reboot": ("soft_power_off", "power_on"),
        "soft_power_off": ("soft_power_off",),
        "inject_nmi": ("inject_nmi",),
    }
)
#: Where an undo leads.
_BACK: Final = MappingProxyType({"power_on": words.POWER_OFF, "inject_nmi": None})
_HOLDER: Final = (
    select(tasks)
    .select_from(tickets.join(tasks, tasks.c.id == tickets.c.task))
    .where(tickets.c.resource == bindparam("_r"), tickets.c.granted == true())
    .limit(1)
)


def node_states(tx: Tx, row: ResourceRow) -> dict[str, Any]:
    """The `NodeStates` of the proposal; times in seconds since the epoch."""
    observed = json.loads(row.observed)
    held = holder(tx, row.id)
    enrols = held is not None and held.operation in ("create", "manage")
    return {
        "console_enabled": False,
        "last_error": observed.get("last_error"),
        "power_state": observed.get("power_state"),
        "provision_state": row.lifecycle,
        "provision_updated_at": observed.get("provision_updated_at"),
        "target_power_state": None if held is None else target_of(held),
        "target_provision_state": "manageable" if enrols and row.lifecycle != "manageable" else None,
        "supported_power_states": supported(row),
    }


def supported(row: ResourceRow) -> list[str]:
    """The targets that the node takes, by its driver; none if that is not known here any more."""
    document = row.document
    try:
        return list(drivers.supported(str(document.get("driver")), document.get("driver_info")))
    except DriverInvalid:
        return []


def power_state(tx: Tx, node: str) -> str | None:
    """What was seen last."""
    row = state.find(tx, KIND, node)
    return None if row is None else json.loads(row.observed).get("power_state")


def has_failed(tx: Tx, node: str) -> bool:
    """Whether the last change of what is known of the node has failed."""
    row = state.find(tx, KIND, node)
    return row is not None and row.last_failed is not None


def holder(tx: Tx, node: str) -> TaskRow | None:
    """The task that works on the node, or is the next to."""
    found = tx.execute(_HOLDER, {"_r": f"{KIND}/{node}"}).first()
    return None if found is None else TaskRow._make(found)


def target_of(task: TaskRow) -> str | None:
    """What a task that holds a node aims at now."""
    commands = COMMANDS.get(task.operation)
    if commands is None:
        return None
    if task.goal != states.FAILED and show.direction(task) == "back":  # what has failed is not undone
        return _BACK.get(task.operation, words.POWER_ON)
    step = (task.progress_step or "").rpartition("/")[2]
    return TARGETS[step if step in commands else commands[0]]


# --- aborts ------------------------------------------------------------------------------------------------------


def aiming(tx: Tx, node: str, target: str) -> TaskRow | None:
    """The task that an abort of `target` is to stop: that holds the node and aims at it now, unless the node is in
    error already."""
    found = holder(tx, node)
    if found is None or target_of(found) != target or power_state(tx, node) == words.ERROR:
        return None
    return found


def stop(tx: Tx, node: str, target: str, uuid: str, by: TaskRow, now: float) -> bool:
    """Abort the task with that uuid, if it still aims at `target`, in the name of the task `by`, which is held. True:
    it is being aborted, or was."""
    found = by_uuid(tx, uuid)
    if found.state in (states.ABORTED, states.api_state(states.ABORTING)):
        return True
    if found.finished_at is not None:
        return False
    now_aiming = aiming(tx, node, target)
    if now_aiming is None or now_aiming.uuid != uuid:
        return False
    control.abort(tx, found.id, now, actor=by.user_id or by.origin)
    return True


def end_of(tx: Tx, uuid: str) -> str | None:
    """The state in which the task has ended; None: it has not."""
    found = by_uuid(tx, uuid)
    return found.state if found.finished_at is not None else None


class Left(NamedTuple):
    """What a BMC was left to do: what was desired of the node then, and where to ask for it (`Follow.monitor`)."""

    desired: dict[str, Any]
    monitor: Any


def worked_on(tx: Tx, uuid: str, unseal: Callable[[str], str]) -> Left | None:
    """What the BMC worked on for that task, as far as it has said where to ask; None: nothing."""
    desired: dict[str, Any] | None = None
    memory: dict[str, Any] = {}
    for row in tx.journal(by_uuid(tx, uuid).id):
        if row.kind == "succeeded" and str(row.node).endswith(f"/{READ}"):
            desired = decode(row.data or "null", unseal)["desired"]
        elif row.kind in ("checkpointed", "parked"):
            said = json.loads(row.data or "{}")
            memory = (said["checkpoint"] if row.kind == "parked" else said) or {}
    monitor = memory.get("monitor")
    return None if desired is None or monitor is None else Left(desired, monitor)
