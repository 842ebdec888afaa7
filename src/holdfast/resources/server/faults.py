"""Faults on purpose: what a server's `metadata` may ask the driver to get wrong, so that tests and the demo can show
what becomes of it. Refused unless the setting `server_faults` is 1.

    metadata: {"faults": "reboot=before, rebuild=after, stop=hang, start=block"}

before: the operation fails before it has touched the guest. after: it fails once it has. hang: the guest does not do
what it is asked. block: the driver itself hangs, inside a call into C that nothing but a kill ends.

Where they strike: steps.py, whose steps say at which moments (`trips`).
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any, Final

MOMENTS: Final = ("before", "after", "hang", "block")
KEY: Final = "faults"


class Injected(Exception):
    """The fault that was asked for."""


def faults_of(metadata: dict[str, str]) -> dict[str, str]:
    """Operation -> moment. Raises: ValueError: a sentence that says what is wrong."""
    found: dict[str, str] = {}
    for part in metadata.get(KEY, "").split(","):
        if not part.strip():
            continue
        operation, _, moment = (word.strip() for word in part.partition("="))
        if moment not in MOMENTS or not operation:
            raise ValueError(f"{part.strip()!r} is no fault: write OPERATION=MOMENT, with one of {', '.join(MOMENTS)}")
        found[operation] = moment
    return found


def asked(desired: dict[str, Any], trips: str, moment: str) -> bool:
    """Whether a step with these `trips` ("reboot before block") is to meet the fault of that moment."""
    operation, *moments = trips.split() or [""]
    return moment in moments and faults_of(desired.get("metadata") or {}).get(operation) == moment


def strike(desired: dict[str, Any], trips: str, moment: str) -> None:
    """Do what was asked of this moment, or nothing. Raises: Injected."""
    if not asked(desired, trips, moment):
        return
    if moment == "block":
        libc = ctypes.CDLL(None)
        print(f"the fault that was asked for: {trips.split()[0]} hangs", file=sys.stderr, flush=True)
        while True:  # a signal that is handled ends one sleep; SIGKILL ends them all
            libc.sleep(3600)
    raise Injected(
        f"a fault was asked for {'before' if moment == 'before' else 'after'} the effect of {trips.split()[0]}"
    )
