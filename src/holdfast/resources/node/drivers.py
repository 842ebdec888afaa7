"""Which power drivers there are, by name.

Theory: those of this house are known by where they are, others are found by their entry points; one is imported and
made when it is first asked for, and kept, because a driver holds nothing. What is said of a name that nobody knows
lists the ones that are known.

What a driver is: power.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any, Final, cast

from holdfast.errors import BMCError, DriverInvalid
from holdfast.resources.node import words
from holdfast.resources.node.power import GROUP, Bmc, PowerDriver

#: Where the class of each is, in this package.
OURS: Final = {
    "fake": ("fake", "Fake"),
    "ipmi": ("ipmi", "Ipmi"),
    "irmc": ("irmc", "Irmc"),
    "redfish": ("redfish", "Redfish"),
}
#: Of a driver that says nothing itself, as the proposal has it.
BASE: Final = (
    words.POWER_ON,
    words.POWER_OFF,
    words.REBOOT,
    words.ABORT_SOFT_REBOOT,
    words.ABORT_SOFT_POWER_OFF,
)

_made: Final[dict[str, PowerDriver]] = {}


def names() -> list[str]:
    """The drivers that a node can have."""
    return sorted({*OURS, *_points()})


def get(name: str) -> PowerDriver:
    """Raises: DriverInvalid: there is no such driver, or it can't be loaded."""
    found = _made.get(name)
    if found is None:
        found = _made[name] = _make(name)
    return found


def supported(name: str, info: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """The targets that a node with this driver takes. Raises: as `get`."""
    asked = getattr(get(name), "get_supported_power_states", None)
    return tuple(asked(Bmc("", info or {})) or BASE) if asked is not None else BASE


def check(name: str, info: Mapping[str, Any]) -> None:
    """Have the driver look at a node's `driver_info`, if it has a `check(info)`. Raises: DriverInvalid; as `get`."""
    asked = getattr(get(name), "check", None)
    if asked is None:
        return
    try:
        asked(info)
    except (ValueError, TypeError, KeyError, BMCError) as error:
        raise DriverInvalid(f"driver_info: {error}", field="driver_info") from None


def secrets(name: str) -> tuple[str, ...]:
    """What of a node's `driver_info` is secret: the password, and what the driver says (`secrets`)."""
    try:
        more = getattr(get(name), "secrets", ())
    except DriverInvalid:  # it is refused for that
        more = ()
    return ("password", *more)


def _make(name: str) -> PowerDriver:
    try:
        if name in OURS:
            module, made = OURS[name]
            return cast(PowerDriver, getattr(import_module(f"holdfast.resources.node.{module}"), made)())
        point = _points().get(name)
        if point is not None:
            return cast(PowerDriver, point.load()())
    except Exception as error:
        why = f"the driver {name} can't be loaded: {type(error).__name__}: {error}"
        raise DriverInvalid(why, field="driver") from error
    known = names()
    raise DriverInvalid(f"there is no driver {name[:80]!r}: there is {', '.join(known)}", field="driver", allowed=known)


@cache
def _points() -> dict[str, Any]:
    """The entry points, looked for once: that reads the description of every package there is."""
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=GROUP)}
