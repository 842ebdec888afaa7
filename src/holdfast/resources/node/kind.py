"""The kind `node`: a machine whose power is controlled through its BMC.

The words are Ironic's. Enrolling a node checks the credentials against the BMC; a node whose check fails stays
`enroll`. Whatever else fails does not move it: what is known of the power is in `observed` (views.py).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from holdfast.errors import DocumentInvalid, NameTaken, PowerUnsupported
from holdfast.resources import sealing, state
from holdfast.resources.kind import UNCLAIMED, Change, Kind, Seen, final, resting
from holdfast.resources.node import drivers, views, watch, words
from holdfast.resources.node.flows import Nodes
from holdfast.settings import Settings

_UUID: Final = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}", re.IGNORECASE)
ENROLL = "enroll"
MANAGEABLE = "manageable"
Text = Annotated[str, Meta(max_length=255)]
Name = Annotated[str, Meta(min_length=1, max_length=255)]
Key = Annotated[str, Meta(min_length=1, max_length=255)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]

# `left`: a change that fails leaves its `last_error`, and what moves the machine this, too.
#: What is known of the power after an operation that was stopped, or failed in the middle: nothing.
UNKNOWN = {"power_state": words.ERROR, "status": words.ERROR}
SUMMARIES = {
    "power_on": "Switch the machine on.",
    "power_off": "Switch the machine off, at once.",
    "reboot": "Switch the machine off, at once, and on.",
    "soft_reboot": "Ask the machine to shut down, wait until it is off, and switch it on.",
    "soft_power_off": "Ask the machine to shut down, and wait until it is off.",
    "inject_nmi": "Send the machine a non-maskable interrupt.",
    "abort_soft_reboot": "Stop a soft reboot, or a soft power off, that waits for the machine to go off.",
    "abort_soft_power_off": "Stop a soft power off, or a soft reboot, that waits for the machine to go off.",
    "abort_inject_nmi": "Stop the sending of an interrupt.",
}


class NodeFields(Struct, forbid_unknown_fields=True, kw_only=True):
    """What is desired of a node. `driver_info`: what its driver needs: address, username, password and others."""

    name: Name
    driver: Name
    driver_info: Annotated[dict[Key, Any], Meta(max_length=64)] = {}
    maintenance: bool = False
    maintenance_reason: Text | None = None
    extra: Annotated[dict[Key, Any], Meta(max_length=128)] = {}


class Patience(Struct, forbid_unknown_fields=True, kw_only=True):
    """For how many seconds each command is waited for, or the end of what is aborted; null: as long as the service does
    (node_timeout_s)."""

    timeout: Seconds | None = None


node = Kind(
    "node",
    fields=NodeFields,
    lifecycle={ENROLL: resting(), MANAGEABLE: resting(), "deleted": final()},
    driver=Nodes(),
    title="Node",
    secrets=lambda document: [f"driver_info.{key}" for key in drivers.secrets(str(document.get("driver")))],
)


@node.operation("create", ends=MANAGEABLE, left={}, summary="Enrol a machine: its BMC is asked who is there.")
def create(kind: Kind) -> Any:
    return kind.driver.enrol()


@node.operation(
    "manage",
    starts=(ENROLL, MANAGEABLE),
    ends=MANAGEABLE,
    applies=True,
    left={},
    summary="Check the way to the BMC once more.",
)
def manage(kind: Kind) -> Any:
    return kind.driver.enrol()


@node.operation(
    "update",
    starts=(ENROLL, MANAGEABLE),
    left={},
    summary="Change what is known of the machine; another way to its BMC is checked.",
)
def update(kind: Kind) -> Any:
    return kind.driver.update()


@node.operation(
    "reconcile",
    starts=(ENROLL, MANAGEABLE),
    applies=True,
    left={},
    summary="Check what is known of the machine.",
)
def reconcile(kind: Kind) -> Any:
    return kind.driver.enrol()


@node.operation(
    "delete", starts=(ENROLL, MANAGEABLE), ends="deleted", summary="Forget the machine, which is left as it is."
)
def delete(kind: Kind) -> Any:
    return kind.driver.delete()


def _declare_power() -> None:
    for name in views.COMMANDS:
        node.operation(name, starts=(MANAGEABLE,), params=Patience, left=UNKNOWN, summary=SUMMARIES[name])(
            lambda kind, name=name: kind.driver.power(name)
        )
    for name, target in views.TARGETS.items():
        if target in words.STOPPED_BY:
            options: dict[str, Any] = {"mode": UNCLAIMED, "starts": (ENROLL, MANAGEABLE), "params": Patience}
            node.operation(name, summary=SUMMARIES[name], **options)(lambda kind, name=name: kind.driver.abort(name))


_declare_power()


@node.precommit
def check_driver(change: Change) -> None:
    """Raises: DriverInvalid: no such driver, or not what it needs; PowerUnsupported."""
    driver, info = str(change.desired.get("driver")), change.desired.get("driver_info") or {}
    if change.kind.get(change.operation).desires:
        drivers.check(driver, sealing.opened(info))
    target = views.TARGETS.get(change.operation)
    if target is not None and target not in drivers.supported(driver, info):
        raise PowerUnsupported(f"The driver {driver} does not support the power state, {target}")


@node.precommit
def check_name(change: Change) -> None:
    """People and Ironic's clients name a node by its name, so it is the only one of its project, and looks like no id.

    Raises: DocumentInvalid; NameTaken.
    """
    name = change.desired.get("name")
    if not isinstance(name, str) or (change.current is not None and name == change.current.name):
        return
    if not name.isprintable() or name != name.strip() or _UUID.fullmatch(name) or name == "detail":
        raise DocumentInvalid(
            "name: it is of characters that can be printed, without blanks around them, no UUID and not `detail`",
            field="name",
        )
    for other in state.page(change.tx, change.kind.name, project_id=change.project_id, name=name, limit=2):
        if other.id != change.resource_id:
            raise NameTaken(f"node {other.id} has the name {name} already", id=other.id)


def probe(
    driver: Nodes, resource_id: str, desired: dict[str, Any], revision: int, before: str, observed: dict[str, Any]
) -> Seen:
    """Where the machine is. One that was never let in, or is in maintenance, is left alone."""
    if before == ENROLL or desired.get("maintenance"):
        return Seen(None)
    return watch.look(driver, resource_id, desired, revision, observed)


node.probe(probe, verifies=False, at_once=lambda nodes: nodes.settings.node_calls_max)


def make_node(settings: Settings | None = None) -> Kind:
    """The kind, with the settings of one Holdfast; None: those of the environment, or of its database."""
    return node.using(Nodes(settings))
