"""The disk: one SQLite database in memory that all simulated processes share, each by a line of its own which fails
when it is told to.

Theory: the SQL is the real one, and so are the store, its writer and its transactions; only the connection is ours.
One thread runs everything and no transaction stays open between two calls, so one real connection serves every
process. A process that dies in the middle of a transaction leaves it open, and the disk rolls it back, as SQLite does
for the next one that opens the file. What was committed without `synchronous=FULL` is forgotten by a power cut.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, Final

from holdfast.store.place import MEMORY
from holdfast.store.schema import metadata
from holdfast.store.sqlite import SqliteStore, connect_file

BEGIN: Final = "BEGIN IMMEDIATE"
READ: Final = "BEGIN"
_FULL: Final = "PRAGMA synchronous=full"
#: The function of SQL that says what the moment is by the database's clock.
NOW: Final = "database_now"
_CODES: Final = {"busy": (5, "SQLITE_BUSY"), "ioerr": (10, "SQLITE_IOERR"), "full": (13, "SQLITE_FULL")}


class Killed(BaseException):
    """The simulated process is gone. A BaseException, because nothing may go on after it."""


class Line:
    """One process's connection, and what will go wrong with it.

    `fuse` statements from now `fault` happens: kill, busy, ioerr, full. `at_commit` happens at the next COMMIT:
    kill_before, kill_after, lost (an I/O error, nothing stored), done (an I/O error, all stored), full, busy.
    `pause` is called before each transaction: other processes may have their turn.
    """

    __slots__ = ("at_commit", "commits", "dead", "disk", "fault", "fuse", "name", "pause")

    def __init__(self, disk: Disk, name: str) -> None:
        self.disk = disk
        self.name = name
        self.pause: Callable[[], None] | None = None
        self.dead = False
        self.fuse = 0
        self.fault = ""
        self.at_commit = ""
        self.commits = 0

    def connect(self, _path: str) -> Connection:
        return Connection(self)

    def calm(self) -> None:
        self.fuse, self.fault, self.at_commit = 0, "", ""

    def before(self, sql: str) -> None:
        """Something may happen before the statement."""
        if self.pause is not None and sql in (BEGIN, READ):
            self.pause()
        if sql == "ROLLBACK":
            return  # what the system does for a process that is gone
        if self.dead:
            raise Killed(self.name)
        if self.fuse:
            self.fuse -= 1
            if not self.fuse:
                self._burn()

    def _burn(self) -> None:
        fault, self.fault = self.fault, ""
        if fault == "kill":
            self.dead = True
            raise Killed(self.name)
        raise driver_error(*_CODES[fault])

    def commit(self, cursor: sqlite3.Cursor) -> None:
        what, self.at_commit = self.at_commit, ""
        if what in ("full", "busy"):
            raise driver_error(*_CODES[what])
        if what == "lost":
            raise driver_error(*_CODES["ioerr"])
        if what == "kill_before":
            self.dead = True
            raise Killed(self.name)
        cursor.execute("COMMIT")
        self.commits += 1
        self.disk.committed(self)
        if what == "kill_after":
            self.dead = True
            raise Killed(self.name)
        if what == "done":
            raise driver_error(*_CODES["ioerr"])


def driver_error(code: int, name: str) -> sqlite3.OperationalError:
    """An error as SQLite gives it."""
    error = sqlite3.OperationalError("made by the simulator")
    error.sqlite_errorcode = code
    error.sqlite_errorname = name
    return error


class Connection:
    """What a store takes for a sqlite3.Connection."""

    __slots__ = ("_line",)

    def __init__(self, line: Line) -> None:
        self._line = line

    @property
    def in_transaction(self) -> bool:
        return self._line.disk.real.in_transaction

    @property
    def total_changes(self) -> int:
        """Others change it in the middle of a read."""
        return 0

    def cursor(self) -> Cursor:
        return Cursor(self._line)

    def close(self) -> None:
        """The database stays."""


class Cursor:
    __slots__ = ("_line", "_real", "fetchall", "fetchone")

    def __init__(self, line: Line) -> None:
        self._line = line
        self._real = line.disk.cursor()
        self.fetchall = self._real.fetchall
        self.fetchone = self._real.fetchone

    @property
    def description(self) -> Any:
        return self._real.description

    @property
    def rowcount(self) -> int:
        return self._real.rowcount

    @property
    def lastrowid(self) -> Any:
        return self._real.lastrowid

    def execute(self, sql: str, parameters: Any = ()) -> Cursor:
        line = self._line
        if sql == "COMMIT":
            if line.dead:
                raise Killed(line.name)
            line.commit(self._real)
            return self
        line.before(sql)
        if sql.startswith("PRAGMA synchronous="):
            line.disk.syncs = sql == _FULL
        self._real.execute(sql, parameters)
        return self

    def executemany(self, sql: str, parameters: Any) -> Cursor:
        self._line.before(sql)
        self._real.executemany(sql, parameters)
        return self

    def close(self) -> None:
        self._real.close()


class Disk:
    """The database, and who is told of each commit."""

    def __init__(self) -> None:
        self.real = connect_file(MEMORY)
        self.now: Callable[[], float] = float
        self.real.create_function(NOW, 0, lambda: self.now())
        self._cursors: list[sqlite3.Cursor] = []
        self.commits = 0
        self.syncs = True
        self.watch: Callable[[Line], None] | None = None
        self._image: bytes | None = None  # what has been synced, where commits are not
        self.store(Line(self, "maker")).close()

    def store(self, line: Line) -> Store:
        return Store(line)

    def cursor(self) -> sqlite3.Cursor:
        """Kept until the disk is wiped, whoever dies. One that is collected resets the statement that it ran last by
        `executemany`, which others share; the collector runs on any thread, and so in the middle of their use of it
        (https://github.com/python/cpython/issues/94028, mended in 3.11 for `execute` only)."""
        made = self.real.cursor()
        self._cursors.append(made)
        return made

    def wipe(self) -> None:
        """As new, with a generation that is always the same."""
        real = self.real
        while self._cursors:
            self._cursors.pop().close()
        real.execute("BEGIN")
        for table in metadata.tables:
            real.execute(f"DELETE FROM {table}")
        real.execute("DELETE FROM sqlite_sequence")
        real.execute("INSERT INTO store_info (id, generation, created_at) VALUES (1, 'simulated', 0)")
        real.execute("COMMIT")
        self.commits = 0
        self.watch = None
        self._image = None

    def recover(self) -> None:
        """What the next process does that opens the file."""
        if self.real.in_transaction:
            self.real.execute("ROLLBACK")

    def cut_power(self) -> bool:
        """Forget what was not synced; whether anything was."""
        self.recover()
        if self._image is None:
            return False
        self.real.deserialize(self._image)
        self._image = None
        return True

    def committed(self, line: Line) -> None:
        if not self.syncs and self._image is None:
            self._image = self.real.serialize()  # this much is on the disk; what follows is not until it is synced
        self.commits += 1
        if self.watch is not None:
            self.watch(line)


class Store(SqliteStore):
    """A process's store. It sees the commits of all."""

    def __init__(self, line: Line) -> None:
        self._disk = line.disk
        super().__init__(MEMORY, connect=line.connect)

    def changes(self, *, went_on: bool = True) -> int:
        return self._disk.commits
