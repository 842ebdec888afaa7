"""The network: a database on a host of its own, which a process may lose sight of, also in the middle of a commit.

Theory: as on PostgreSQL (store/pg_session.py). A transaction whose connection breaks is undone by the server; the
process tries again for a while (AWAY_S), in which others go on, and then says StoreAway. Where the connection breaks at
COMMIT it finds out what became of it, if it gets through in that time; else it says StoreUnknown. The moment is the
database's (`tx.now`), which is the world's clock; every process has its own. Nothing here is true of a file: the other
line is in testing/simulation/disk.py.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy.dialects.sqlite import dialect, insert

from holdfast.clock import Clock
from holdfast.errors import StoreAway, StoreUnknown, WorldError
from holdfast.store.appends import Hot
from holdfast.store.base import Tx
from holdfast.store.history import File
from holdfast.store.sqlite import SqliteSession
from holdfast.store.statements import Statements
from holdfast.store.writer import Writer
from holdfast.testing.simulation.disk import NOW, Disk, Killed, Line, Store

if TYPE_CHECKING:
    from random import Random

    from holdfast.testing.clock import FakeClock

T = TypeVar("T")

AWAY_S: Final = 4.0  # how long a process tries before it says that the database is away
TRY_S: Final = 0.5


class Cut(sqlite3.OperationalError):
    """The connection is broken."""


class _Asking(Statements):
    clock = f"SELECT {NOW}()"


@functools.cache
def statements() -> Hot:
    """One for all, as store/sqlite.py has one."""
    return Hot(_Asking(dialect(), insert))


class HostClock(Clock):
    """The clock of one host: off the true one by `skew_s`, faster by `drift`, and with a boot of its own. `set_by`
    sets it, as it sets the real one."""

    __slots__ = ("_boot", "_drift", "_true", "skew_s")

    real = False

    def __init__(self, true: FakeClock, chance: Random) -> None:
        super().__init__()
        self._true = true
        self._boot = chance.uniform(0.0, 1e6)
        self._drift = chance.choice((0.0, 1e-3, -1e-3))
        self.skew_s = 0.0

    def time(self) -> float:
        passed = self._true.monotonic()
        return round(self._true.time() + passed * self._drift + self.skew_s + self.off_s, 6)

    def monotonic(self) -> float:
        return self._boot + self._true.monotonic() * (1.0 + self._drift)

    def random_bytes(self, count: int) -> bytes:
        return self._true.random_bytes(count)


class Link(Line):
    """The connection of a process on another host. `cut_until`: the database is out of reach. What can go wrong at a
    statement, beside those of a line: cut; at a COMMIT: cut_before, cut_after, and then for `cut_s`. `wait` lets others
    go on for a while."""

    __slots__ = ("cut_s", "cut_until", "known", "since", "wait")

    def __init__(self, disk: Disk, name: str, wait: Callable[[float], None]) -> None:
        super().__init__(disk, name)
        self.wait = wait
        self.cut_until = 0.0
        self.cut_s = 0.0
        self.known = 0  # commits that it has heard of
        self.since: float | None = None  # when it was first tried in vain

    @property
    def is_cut(self) -> bool:
        return self.cut_until > self.disk.now()

    def calm(self) -> None:
        super().calm()
        self.cut_until = 0.0

    def before(self, sql: str) -> None:
        super().before(sql)
        if self.is_cut and sql != "ROLLBACK":
            self._break(0.0)

    def _burn(self) -> None:
        if self.fault == "cut":
            self.fault = ""
            self._break(self.cut_s)
        super()._burn()

    def _break(self, for_s: float) -> None:
        self.cut_until = max(self.cut_until, self.disk.now() + for_s)
        raise Cut("made by the simulator")

    def commit(self, cursor: sqlite3.Cursor) -> None:
        what = self.at_commit
        if what not in ("cut_before", "cut_after"):
            super().commit(cursor)
            return
        self.at_commit = ""
        if what == "cut_after":
            super().commit(cursor)
        else:
            self.disk.recover()
        self._break(self.cut_s)

    def lasts(self) -> bool:
        """Let some time pass; False: it has been tried for long enough."""
        now = self.disk.now()
        if self.since is None:
            self.since = now
        elif now - self.since >= AWAY_S:
            self.since = None
            return False
        self.wait(TRY_S)
        if self.dead:
            raise Killed(self.name)
        return True


class RemoteSession(SqliteSession):
    """Of a process on another host."""

    __slots__ = ("link",)

    def __init__(self, connection: Any, hot: Hot, path: str, link: Link) -> None:
        super().__init__(connection, hot, path, None, File(path))
        self.link = link

    def translate(self, error: Exception) -> Exception:
        if isinstance(error, Cut):
            told = StoreAway("the database is out of reach")
            told.__cause__ = error
            return told
        return super().translate(error)

    def begin(self) -> None:
        try:
            super().begin()
        except WorldError as error:
            if isinstance(error.__cause__, Cut):
                raise self.translate(error.__cause__) from error
            raise
        except Cut as error:
            raise self.translate(error) from error
        while self.meanwhile is not None and self.meanwhile():
            pass

    def commit(self) -> None:
        before = self.link.commits
        try:
            self._cursor.execute("COMMIT")
        except Cut as error:
            self._find_out(error, self.link.commits > before)
        self.link.since = None
        self._leave()

    def _find_out(self, error: Cut, came_to_be: bool) -> None:
        """Return if the last COMMIT came to be. Raises: StoreAway: it did not; StoreUnknown."""
        while self.link.lasts():
            if not self.link.is_cut:
                if came_to_be:
                    return
                raise self.translate(error)
        raise StoreUnknown("the connection broke at COMMIT, and the database is out of reach") from error

    def again(self, error: WorldError, tries: int, *, divisible: bool) -> bool:
        return isinstance(error, StoreAway) and self.link.lasts()

    def poisons(self, error: WorldError) -> bool:
        return False

    def read(self, fn: Callable[[Tx], T]) -> T:
        while True:
            try:
                found = super().read(fn)
            except (Cut, WorldError) as error:
                cut = error if isinstance(error, Cut) else error.__cause__
                if not isinstance(cut, Cut):
                    raise
                if not self.link.lasts():
                    raise self.translate(cut) from error
            else:
                self.link.since = None
                return found


class RemoteStore(Store):
    """A store on the simulator's disk as a process on another host has it: with the database's clock, and out of reach
    at times. It hears of others' commits while it is in reach."""

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self._link = link
        connection = self._session._connection
        self._session = RemoteSession(connection, statements(), self.path, link)
        self._writer = Writer(self._session, self._wakeups.committed)

    def changes(self, *, went_on: bool = True) -> int:
        if not self._link.is_cut:
            self._link.known = super().changes(went_on=went_on)
        return self._link.known
