"""The power states and targets of a node, in Ironic's words, and what people and older clients call them.

The rule is the table of the proposal "Task control functions for long running tasks" (Ironic, 2015), with its
predecessor's soft power off, soft reboot and NMI.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

POWER_ON: Final = "power on"
POWER_OFF: Final = "power off"
REBOOT: Final = "rebooting"
SOFT_REBOOT: Final = "soft rebooting"
SOFT_POWER_OFF: Final = "soft power off"
INJECT_NMI: Final = "inject nmi"
ABORT_SOFT_REBOOT: Final = "abort soft rebooting"
ABORT_SOFT_POWER_OFF: Final = "abort soft power off"
ABORT_INJECT_NMI: Final = "abort inject nmi"
#: A state, never a target: the last operation was stopped or timed out, and nobody has looked since.
ERROR: Final = "error"

#: In the order of the proposal's sample.
TARGETS: Final = (
    POWER_ON,
    POWER_OFF,
    REBOOT,
    SOFT_REBOOT,
    SOFT_POWER_OFF,
    INJECT_NMI,
    ABORT_SOFT_REBOOT,
    ABORT_SOFT_POWER_OFF,
    ABORT_INJECT_NMI,
)

#: What a command line calls them.
COMMANDS: Final = MappingProxyType(
    {
        "on": POWER_ON,
        "off": POWER_OFF,
        "reboot": REBOOT,
        "soft_reboot": SOFT_REBOOT,
        "soft_off": SOFT_POWER_OFF,
        "inject_nmi": INJECT_NMI,
        "abort_soft_reboot": ABORT_SOFT_REBOOT,
        "abort_soft_off": ABORT_SOFT_POWER_OFF,
        "abort_inject_nmi": ABORT_INJECT_NMI,
    }
)

#: Which targets an abort stops: the soft ones match what is aimed at now, whichever operation aims at it.
STOPPED_BY: Final = MappingProxyType(
    {
        ABORT_SOFT_REBOOT: SOFT_POWER_OFF,
        ABORT_SOFT_POWER_OFF: SOFT_POWER_OFF,
        ABORT_INJECT_NMI: INJECT_NMI,
    }
)

_ALSO: Final = MappingProxyType(
    {
        "abort power off": ABORT_SOFT_POWER_OFF,  # the proposal's table says ABORT_POWER_OFF and POWER_OFF_SOFT
        "power off soft": SOFT_POWER_OFF,
        "abort soft reboot": ABORT_SOFT_REBOOT,
        "soft reboot": SOFT_REBOOT,
        "reboot": REBOOT,
    }
)


def target(word: str) -> str | None:
    """The target that somebody means: `soft power off`, `SOFT_POWER_OFF` and `POWER_OFF_SOFT` are one; None: none."""
    plain = word.strip().lower().replace("_", " ")
    plain = _ALSO.get(plain, plain)
    return plain if plain in TARGETS else None
