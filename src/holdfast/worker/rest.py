"""How a worker waits with nothing in hand: most of its life, so what it does between two looks is next to nothing.

What it is woken for: loop.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from holdfast.errors import HoldfastClosed, WorldError
from holdfast.store.base import Store

if TYPE_CHECKING:
    from holdfast.clock import Clock


def rest(
    clock: Clock, woken: threading.Event, store: Store, seen: int, end_s: float, look_s: float,
    left_s: Callable[[], float],
) -> None:  # fmt: skip
    """Until it is woken, something is due (`left_s`: in so many seconds), others have committed (`changes` is no longer
    as `seen`) or `end_s` are over. What others commit is looked for every `look_s` where the database doesn't tell."""
    end = clock.monotonic() + end_s
    while True:
        pause_s = min(left_s(), end - clock.monotonic(), look_s if store.runs_here else end_s)
        if pause_s <= 0 or clock.wait(woken, pause_s):
            return
        try:
            if store.changes() != seen:
                return
        except (WorldError, HoldfastClosed):
            return  # the turn finds it too, and knows what it means
