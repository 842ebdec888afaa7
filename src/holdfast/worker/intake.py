"""What a worker takes next, and when it has to look again.

Which tasks those are: tasks/take.py. How many: pace.py. What becomes of them: loop.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from holdfast.store.base import Meanwhile, Store, Tx
from holdfast.tasks import take
from holdfast.tasks.lease import is_known
from holdfast.tasks.row import TaskRow
from holdfast.worker.lease import Lease
from holdfast.worker.load import rest_aside
from holdfast.worker.pace import Pace
from holdfast.worker.taken import Taken

if TYPE_CHECKING:
    from holdfast.clock import Clock

OTHERS_S: Final = 60.0  # until this worker looks again whether a flow is other workers' only


class Intake:
    """Of one worker. `only`: these tasks and their children alone. `waiting`: those that are its own and not loaded;
    `asked`: the inputs and claims of those of which nothing was ever written, and that so have nothing else to be read.
    `next_due`: when the next will be due by time alone. `owed`: that is still to be found out, as of then. `crowded`:
    something is due for which its pool has no place. `more`: there may be more to take, once these have begun."""

    def __init__(
        self, store: Store, clock: Clock, lease: Lease, pace: Pace, *, pool: str, only: Collection[int] | None
    ) -> None:
        self._store = store
        self._clock = clock
        self._lease = lease
        self.pace = pace
        self._pool = pool
        self._only = only
        self._others: dict[str, float] = {}  # references of flows that other workers know, and until when they are left
        self._served = ""  # the project that had its turn last
        self.waiting: deque[TaskRow] = deque()
        self.asked: dict[int, tuple[str, str]] = {}
        self.next_due: float | None = None
        self.owed: float | None = None
        self.crowded = self.more = False
        self._filled = False  # the last time there was no room left: there will be more
        self.told = False  # somebody has said that there may be something
        self._wins = False  # when that was said the last time, this worker was who took it

    def let_go(self, row: TaskRow, error: Exception, now: float) -> None:
        """A task whose flow this worker can't find, or finds another: who was given that flow takes it, and this worker
        takes no more of them for a while; or it rests for a person."""
        reference = row.reference
        if reference in self._lease.flows or not self._store.read(lambda tx: is_known(tx, self._pool, reference)):
            rest_aside(self._store, row, "definition_changed", error, now)
            return
        self._others[reference] = now + OTHERS_S
        self._store.write(partial(_give_back, row, now))

    def is_due(self, now: float) -> bool:
        return self.next_due is not None and self.next_due <= now and self.owed is None

    def take(self, taken: Collection[Taken], now: float, meanwhile: Meanwhile) -> bool:
        """Take what there is room for beside `taken`. Whether anything was taken, or more starts than it could look at.

        Raises: LeaseLost: the worker was taken for dead, or is to drain.
        """
        room = self.pace.room(taken, now, len(self.waiting))
        self.crowded = self.more = False
        if room <= 0:
            self.close()
            return False
        self._lease.register(now)
        self._others = {each: until for each, until in self._others.items() if now < until <= now + OTHERS_S}
        without = tuple(self._others)
        asked: dict[int, tuple[str, str]] = {}
        told, self.told = self.told, False
        filled = self._filled
        is_sure = filled or (told and self._wins)

        def taking(tx: Tx) -> take.Found:
            return take.take(
                tx, self._lease.id, generation=self._store.generation, nonce=self._clock.token_hex(8), now=now,
                limit=room, pool=self._pool, only=self._only, after=self._served, without=without, asked=asked,
            )  # fmt: skip

        got = self._store.write(taking, meanwhile) if is_sure else take.Found(())
        if not got.tasks and self._is_any(now, without):
            got = self._store.write(taking, meanwhile)
        found, self.more = got.tasks, got.start_more
        self._filled = len(found) >= room
        if told:
            self._wins = bool(found)
        self._owe(now, later=bool(found))
        if not found:
            return self.more
        again = {row.id for row in found}  # what was lost in between has another token now
        self.waiting = deque([*(row for row in self.waiting if row.id not in again), *found])
        self._served = found[-1].project_id
        self._lease.figures.taken(found, now)
        kept = {task: said for task, said in self.asked.items() if task not in again}
        self.asked = kept | {row.id: asked[row.id] for row in found if row.seq == 0 and row.rollback_of is None}
        self.more = self.more or self._filled or filled or got.is_cut  # it looks whether it is to hear of a place
        return True

    def _is_any(self, now: float, without: Sequence[str]) -> bool:
        self.crowded = True  # until it is known: what ends meanwhile is heard of
        due = self._store.read(lambda tx: take.peek(tx, now=now, pool=self._pool, only=self._only, without=without))
        self.crowded = due.crowded
        if due.crowded:
            self._store.hear_all()
        return due.any

    def close(self) -> None:
        """When something is due is of no interest before there is room, and then it is looked for."""
        self.next_due = self.owed = None

    def _owe(self, now: float, *, later: bool) -> None:
        """Find out what is due after now. `later`: something was taken, and is begun first."""
        self.next_due = self.owed = now
        if not later:
            self.look_ahead()

    def look_ahead(self) -> None:
        if self.owed is None:
            return
        now, self.owed = self.owed, None
        self.next_due = self._store.read(partial(take.next_due, now=now, pool=self._pool, only=self._only))

    def ends(self, at: float) -> bool:
        """Whether nothing will be due by time alone, rounds that never end left out."""
        self.look_ahead()
        if self.next_due is None:
            return True
        ending = partial(take.next_due, now=at, pool=self._pool, only=self._only, rounds=False)
        return self._store.read(ending) is None


def _give_back(row: TaskRow, now: float, tx: Tx) -> None:
    take.release(tx, row.id, row.token or "", due_at=now, now=now, seen=row.seq)
