"""How a worker spares the machine: with nothing in hand, most of its life, what it does between two looks is next to
nothing; and it looks through no memory that is not its own.

What it is woken for: loop.py.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
            if store.changes(went_on=False) != seen:
                return
        except (WorldError, HoldfastClosed):
            return  # the turn finds it too, and knows what it means


@contextmanager
def heap_frozen() -> Iterator[None]:
    """While a worker runs, no collection of garbage looks at what was there before it: many short tasks cause so many
    full ones that they would take a seventh of its time. Where somebody has seen to that already, it is his to end."""
    is_ours = gc.get_freeze_count() == 0
    if is_ours:
        gc.freeze()
    try:
        yield
    finally:
        if is_ours:
            gc.unfreeze()
