"""When what a worker has taken is loaded.

Theory: a task can begin only when a thread is free for it, and to load it takes about as long as to write what begins
it. So no more are loaded than can begin, and the others while the database is busy with something else. That asks the
database nothing: only tasks of which nothing was written before, and of a flow of which one was loaded before.

How one is loaded: load.py. Which are taken: intake.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from holdfast.errors import TaskGone, WorldError
from holdfast.store.base import Store
from holdfast.tasks.row import TaskRow
from holdfast.worker.load import DefinitionChanged, Loaded, rest_aside

if TYPE_CHECKING:
    from holdfast.runtime.places import Places
    from holdfast.worker.intake import Intake

ALL: Final = 1 << 30


class Loader:
    """`load`: see load.load; `have` is given what was loaded. `fresh`: how many that were, since the worker looked at
    what it has."""

    def __init__(
        self, store: Store, intake: Intake, places: Places,
        load: Callable[[TaskRow, Mapping[int, tuple[str, str]]], Loaded], have: Callable[[TaskRow, Loaded], None],
    ) -> None:  # fmt: skip
        self._store = store
        self._intake = intake
        self._places = places
        self._load = load
        self._have = have
        self._plain: set[tuple[str, str | None]] = set()  # flows and plans of which one was loaded
        self.fresh = 0

    def turn(self, now: float, starved: int, *, draining: bool) -> bool:
        """Load what could begin now beside those that lack a thread; all, if they are to be given back. Whether there
        was anything.

        Raises: WorldError: as `load` does.
        """
        if not self._intake.waiting:
            return False
        if draining:
            return self.load(now)
        self._places.new_round()
        return self.load(now, self._places.free_of_any() - starved - self.fresh)

    def load(self, now: float, most: int = ALL) -> bool:
        """Load so many of those that wait. Whether there were any.

        Raises: WorldError: the first that could not be read still waits.
        """
        waiting = self._intake.waiting
        did = bool(waiting) and most > 0
        while waiting and most > 0:
            self._one(waiting[0], now)
            self._intake.asked.pop(waiting.popleft().id, None)
            most -= 1
        return did

    def _one(self, row: TaskRow, now: float) -> None:
        try:
            loaded = self._load(row, self._intake.asked)
        except (DefinitionChanged, TaskGone) as error:
            self._intake.let_go(row, error, now)
        except WorldError:
            raise
        except Exception as error:  # one bad task hurts no other
            rest_aside(self._store, row, "poison", error, now)
        else:
            self._plain.add((row.reference, row.digest))
            self._is_loaded(row, loaded)

    def load_meanwhile(self) -> bool:
        """Load one, on the thread that waits for the database. Whether another may follow."""
        waiting, asked = self._intake.waiting, self._intake.asked
        if not waiting:
            return False
        row = waiting[0]
        if row.id not in asked or (row.reference, row.digest) not in self._plain:
            return False
        try:
            loaded = self._load(row, asked)
        except Exception:  # when its turn comes it fails again, and something can be done about it
            self._plain.discard((row.reference, row.digest))
            return False
        self._is_loaded(row, loaded)
        del asked[waiting.popleft().id]
        return True

    def _is_loaded(self, row: TaskRow, loaded: Loaded) -> None:
        self.fresh += 1
        self._have(row, loaded)
