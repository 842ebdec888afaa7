"""What Ironic's clients send: bodies as types, the parameters of lists, and what is meant by them as we have it.

How nodes look to them: ironic_shapes.py. What becomes of a request: ironic.py.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec

from holdfast.resources.node import words
from holdfast.resources.node.kind import NodeFields, Seconds
from holdfast.resources.state import ResourceRow
from holdfast.service.compat.ironic_shapes import FIELDS
from holdfast.service.problems import RequestInvalid
from holdfast.service.routes import BOOLEAN, Param

if TYPE_CHECKING:
    from holdfast.service.requests import Ask

#: What a patch may change.
CHANGEABLE: Final = tuple(NodeFields.__struct_fields__)
ABSENT: Final = object()


Uuid = Annotated[str, msgspec.Meta(pattern="^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$", max_length=36)]


class NewNode(NodeFields, forbid_unknown_fields=True, kw_only=True):
    """A machine to enrol. `uuid`: its id, if it is to have a certain one."""

    uuid: Uuid | None = None


class NodePower(msgspec.Struct, forbid_unknown_fields=True):
    """`timeout`: seconds that the machine may take; else what the service is set to."""

    target: str
    timeout: Seconds | None = None


class NodeProvision(msgspec.Struct, forbid_unknown_fields=True):
    """`manage`: look at the machine, whether it can be controlled; what else Ironic has is not done here."""

    target: Literal["manage"]


class NodeMaintenance(msgspec.Struct, forbid_unknown_fields=True):
    reason: str | None = None


class NoMembers(msgspec.Struct, forbid_unknown_fields=True):
    """An empty object."""


class NodeChange(msgspec.Struct, forbid_unknown_fields=True):
    """One of JSON Patch's."""

    op: Literal["add", "replace", "remove"]
    path: str
    value: Any = None


# --- the parameters of lists -------------------------------------------------------------------------------------

_COUNT: Final = {"type": "integer", "minimum": 1}
_FIELD: Final = f"({'|'.join(FIELDS)})"
SHOWN: Final = Param(
    "fields", "these only, with commas between", {"type": "string", "pattern": f"^({_FIELD}(,{_FIELD})*)?$"}
)
LIST: Final = (
    SHOWN,
    Param("limit", "how many at most", _COUNT),
    Param("marker", "the uuid that the page before ended at"),
    Param("detail", "all there is to show of each", BOOLEAN),
    Param("driver", "with that driver"),
    Param("maintenance", "in maintenance, or not", BOOLEAN),
    Param("provision_state", "in that state"),
    Param("project_id", "of another project (administrators)"),
    Param("all_projects", "of all projects (administrators)", BOOLEAN),
)
HISTORY: Final = (LIST[1], LIST[2], LIST[3])
POWER: Final = {
    "type": "object",
    "properties": {
        "target": {"enum": list(words.TARGETS)},
        "timeout": msgspec.json.schema(Seconds | None),
    },
    "required": ["target"],
    "additionalProperties": False,
}
PATCH: Final = {"type": "array", "items": NodeChange}


def fields_of(text: str) -> tuple[str, ...]:
    """The parameter `fields`: words with commas between. (): none is named. Raises: RequestInvalid."""
    named = tuple(dict.fromkeys(text.split(","))) if text else ()
    for name in named:
        if name not in FIELDS:
            raise RequestInvalid(
                f"a node has no {name[:40]!r}: it has {', '.join(FIELDS)}", parameter="fields", allowed=list(FIELDS)
            )
    return named


def wanted(ask: Ask) -> Callable[[ResourceRow], bool]:
    """Which nodes the query means."""
    driver, lifecycle = ask.text("driver"), ask.text("provision_state")
    maintenance = ask.boolean("maintenance") if ask.text("maintenance") else None
    if not driver and not lifecycle and maintenance is None:
        return lambda at: True

    def fits(at: ResourceRow) -> bool:
        document = at.document
        return (
            driver in ("", document.get("driver"))
            and lifecycle in ("", at.lifecycle)
            and maintenance in (None, document.get("maintenance", False))
        )

    return fits


# --- documents ---------------------------------------------------------------------------------------------------


def wanted_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """The desired document that a client means."""
    found = dict(document)
    if isinstance(found.get("driver_info"), dict):
        found["driver_info"] = _driver_info(str(found.get("driver", "")), found["driver_info"])
    return found


def _driver_info(driver: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Ironic has `ipmi_address` and `ipmi_password`, each driver with words of its own; here they are one word for
    all. Raises: RequestInvalid: one is given in both ways."""
    made: dict[str, Any] = {}
    for name, value in given.items():
        plain = _plain(driver, name)
        if plain in made:
            raise RequestInvalid(f"driver_info has both {plain} and {driver}_{plain}: they are the same")
        made[plain] = value
    return made


def _plain(driver: str, name: str) -> str:
    return name.removeprefix(f"{driver}_") or name


def patched(document: Mapping[str, Any], changes: Sequence[NodeChange]) -> dict[str, Any]:
    """The desired document after a JSON Patch (RFC 6902), of which clients send `add`, `replace` and `remove`.

    Raises: RequestInvalid.
    """
    made = copy.deepcopy(dict(document))
    for change in changes:
        at, *names = (part.replace("~1", "/").replace("~0", "~") for part in change.path.split("/"))
        if at or not names or names[0] not in CHANGEABLE:
            raise RequestInvalid(f"path is /{', /'.join(CHANGEABLE)}, or beneath one, not {change.path[:80]!r}")
        if names[0] == "driver_info" and len(names) > 1:
            names[1] = _plain(str(made.get("driver", "")), names[1])
        inside: Any = made
        for name in names[:-1]:
            inside = inside.get(name) if isinstance(inside, dict) else None
        if not isinstance(inside, dict):
            raise RequestInvalid(f"there is nothing that {change.path[:80]} could be in")
        if change.op != "remove":
            inside[names[-1]] = change.value
        elif inside.pop(names[-1], ABSENT) is ABSENT:
            raise RequestInvalid(f"there is no {change.path[:80]} to remove")
    return wanted_of(made)
