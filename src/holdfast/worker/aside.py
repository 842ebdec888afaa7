"""Tasks that this worker can't drive: each rests for a person, if not now, then as soon as the database takes it.

How it rests: worker/load.py. Until it does it is this worker's, and nobody else looks after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.errors import WorldError

if TYPE_CHECKING:
    from holdfast.worker.taken import Taken


class Aside:
    """Of one worker."""

    def __init__(self) -> None:
        self._left: list[tuple[Taken, Exception]] = []

    def put(self, taken: Taken, error: Exception, now: float) -> None:
        try:
            taken.set_aside(error, now)
        except WorldError:
            self._left.append((taken, error))

    def turn(self, now: float) -> None:
        """Raises: WorldError: the database still takes nothing."""
        while self._left:
            taken, error = self._left[0]
            taken.set_aside(error, now)
            del self._left[0]
