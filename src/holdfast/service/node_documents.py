"""What nodes look like in answers, as Ironic's clients know them, as types. Who makes them: compat/ironic.py.

The schemas of all documents: documents.py.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from holdfast.service.task_documents import Link, Task


class NodeStates(msgspec.Struct):
    """`target_power_state`: what is being done about its power, by the task that has the node now."""

    power_state: str | None
    target_power_state: str | None
    last_error: str | None
    provision_state: str | None
    target_provision_state: str | None
    provision_updated_at: str | None
    console_enabled: bool
    supported_power_states: list[str]


class NodeSummary(msgspec.Struct):
    """A node as a list has it; with `fields`, those only."""

    uuid: str | UnsetType = UNSET
    name: str | UnsetType | None = UNSET
    instance_uuid: str | UnsetType | None = UNSET
    maintenance: bool | UnsetType = UNSET
    power_state: str | UnsetType | None = UNSET
    provision_state: str | UnsetType | None = UNSET
    links: list[Link] | UnsetType = UNSET


class NodeDetail(NodeSummary):
    """A node; with `fields`, those only. The secrets of `driver_info` are never shown."""

    driver: str | UnsetType = UNSET
    driver_info: dict[str, Any] | UnsetType = UNSET
    extra: dict[str, Any] | UnsetType = UNSET
    properties: dict[str, Any] | UnsetType = UNSET
    maintenance_reason: str | UnsetType | None = UNSET
    fault: str | UnsetType | None = UNSET
    reservation: str | UnsetType | None = UNSET
    owner: str | UnsetType = UNSET
    target_power_state: str | UnsetType | None = UNSET
    last_error: str | UnsetType | None = UNSET
    target_provision_state: str | UnsetType | None = UNSET
    provision_updated_at: str | UnsetType | None = UNSET
    console_enabled: bool | UnsetType = UNSET
    supported_power_states: list[str] | UnsetType = UNSET
    created_at: str | UnsetType | None = UNSET
    updated_at: str | UnsetType | None = UNSET
    states: list[Link] | UnsetType = UNSET
    sync_status: str | UnsetType = UNSET
    revision: int | UnsetType = UNSET
    applied_revision: int | UnsetType = UNSET
    last_task: str | UnsetType | None = UNSET
    queue_length: int | UnsetType = UNSET


class NodeAccepted(NodeDetail, kw_only=True):
    """The node, and beside it the task that does what was asked for."""

    task: Task
    message: str | UnsetType = UNSET


class NodeList(msgspec.Struct):
    nodes: list[NodeDetail]
    next: str | UnsetType = UNSET


class SupportedPowerStates(msgspec.Struct):
    supported_power_states: list[str]


class NodeEvent(msgspec.Struct):
    """A task on the node, as an event. `severity`: ERROR if it failed or was aborted. `conductor` is for
    administrators; a list has the first five and the links only, unless it is asked for with `detail`."""

    uuid: str
    created_at: str | None
    severity: str
    event: str
    links: list[Link]
    event_type: str | UnsetType = UNSET
    user: str | UnsetType = UNSET
    project: str | UnsetType = UNSET
    conductor: str | UnsetType | None = UNSET
    state: str | UnsetType = UNSET
    target_provision_state: str | UnsetType | None = UNSET
    duration_seconds: float | UnsetType | None = UNSET


class NodeEventList(msgspec.Struct):
    history: list[NodeEvent]
    next: str | UnsetType = UNSET


class IronicVersion(msgspec.Struct):
    id: str
    status: str
    min_version: str
    version: str
    links: list[Link]


class IronicRoot(msgspec.Struct):
    """Where Ironic's clients begin."""

    id: str
    version: IronicVersion
    links: list[Link]
    nodes: list[Link]
