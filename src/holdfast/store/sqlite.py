"""The store over SQLite: one file shared by threads and processes, or one in memory for this process alone.

One connection writes, under store/writer.py; reads have connections of their own, taken from a pool, and see a
snapshot. In memory there is one connection for both. WAL with `synchronous=FULL`: a commit is one append to the log
and one sync. How the file comes to have its tables: store/creation.py.
"""

from __future__ import annotations

import functools
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, TypeVar

from sqlalchemy.dialects.sqlite import dialect, insert

from holdfast.errors import (
    DatabaseUrlInvalid,
    HoldfastClosed,
    StoreBusy,
    StoreFull,
    StoreReplaced,
    UsageError,
    WorldError,
)
from holdfast.store import faults
from holdfast.store.appends import Hot
from holdfast.store.base import Append, Meanwhile, Tx
from holdfast.store.creation import prepare
from holdfast.store.entries import Call
from holdfast.store.front import Front
from holdfast.store.gate import FileGate
from holdfast.store.history import File, begin_anew
from holdfast.store.place import MEMORY
from holdfast.store.statements import Statements
from holdfast.store.transaction import Transaction
from holdfast.store.wakeups import Wakeups
from holdfast.store.writer import Writer

T = TypeVar("T")
Connect = Callable[[str], Any]  # a path -> what behaves as a sqlite3.Connection in autocommit mode
Synchronous = Literal["full", "normal"]

CHECKPOINT_PAGES: Final = 1000  # 4 MiB: a log that no longer grows syncs faster than one that does
CACHE_KIB: Final = 16_384


def connect_file(path: str) -> sqlite3.Connection:
    """The driver, in autocommit mode: transactions are begun and ended by name."""
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=512)


@functools.cache
def hot_statements() -> Hot:
    """One for all the stores of a process: compiling takes longer than opening a database."""
    return Hot(Statements(dialect(), insert))


class SqliteSession:
    """The connection that writes; see writer.Session."""

    __slots__ = ("_connection", "_cursor", "_entered", "_file", "_gate", "_mutex", "_path", "meanwhile", "tx")

    def __init__(self, connection: Any, hot: Hot, path: str, gate: FileGate | None, file: File) -> None:
        self._connection = connection
        self._file = file
        self._cursor = connection.cursor()
        self._path = path
        self._gate = gate
        self._mutex = threading.Lock() if gate is None else None  # in memory reads use this connection too
        self._entered = False
        self.tx = Transaction(connection.cursor(), hot)
        self.meanwhile: Meanwhile | None = None  # nobody else's answer is waited for

    def begin(self) -> None:
        if self._gate is not None:
            self._gate.enter()
        elif self._mutex is not None:
            self._mutex.acquire()
        self._entered = True
        try:
            self._cursor.execute("BEGIN IMMEDIATE")
            self._file.look(self._cursor)
        except sqlite3.Error as error:
            self._leave()
            raise _fatal(error, self._path) from error

    def commit(self) -> None:
        try:
            self._cursor.execute("COMMIT")
        except sqlite3.Error as error:
            raise _fatal(error, self._path) from error
        self._leave()

    def rollback(self) -> None:
        self.tx.forget()
        try:
            if self._connection.in_transaction:
                self._cursor.execute("ROLLBACK")
        except sqlite3.Error:
            pass  # what rolls back by itself came first, and that is told
        finally:
            self._leave()

    def savepoint(self) -> None:
        self.tx.flush()
        self._cursor.execute("SAVEPOINT one")

    def release(self) -> None:
        self._cursor.execute("RELEASE one")

    def rollback_to(self) -> None:
        self.tx.forget()  # what waited when the savepoint was made has been written then
        self._cursor.execute("ROLLBACK TO one")

    def start_over(self) -> None:
        self.tx.forget()
        try:
            self._cursor.execute("ROLLBACK")
            self._cursor.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise _fatal(error, self._path) from error

    def translate(self, error: Exception) -> Exception:
        return faults.translate(error, self._path)

    @property
    def in_transaction(self) -> bool:
        return bool(self._connection.in_transaction)

    @property
    def is_committed(self) -> bool:
        return not self.in_transaction

    def has_raced(self, error: Exception) -> bool:
        return False  # nobody writes beside

    def is_spoilt(self) -> bool:
        return False  # a statement that fails undoes itself only

    def at_once(self, batch: Sequence[Append]) -> bool:
        return False  # no statement of it travels

    def again(self, error: WorldError, tries: int, *, divisible: bool) -> bool:
        return False  # busy_timeout has had its time

    def divides(self, error: WorldError) -> bool:
        return isinstance(error, StoreFull)  # so that one large value hurts nobody else

    def poisons(self, error: WorldError) -> bool:
        return not isinstance(error, StoreFull | StoreBusy)

    def is_ended(self, error: WorldError) -> bool:
        return isinstance(error, StoreReplaced)

    def read(self, fn: Callable[[Tx], T]) -> T:
        """In memory: a read between two transactions. `query_only` would have every statement compiled anew, so a
        write is found out afterwards; it is rolled back as every read is."""
        assert self._mutex is not None
        with self._mutex:
            before = self._connection.total_changes
            found = _read(self._cursor, self.tx.hot, fn, self._path)
            if self._connection.total_changes != before:
                raise UsageError(faults.READ_ONLY)
            return found

    def setting(self, name: str) -> Any:
        """A PRAGMA of the connection that writes, read back."""
        return self._cursor.execute(f"PRAGMA {name}").fetchone()[0]

    def close(self) -> None:
        self._cursor.close()
        self.tx.cursor.close()
        self._connection.close()
        if self._gate is not None:
            self._gate.close()

    def _leave(self) -> None:
        if self._entered and self._gate is not None:
            self._gate.leave()  # may be said twice: an interrupt between these two is followed by another `_leave`
            self._entered = False
        elif self._entered:
            self._entered = False
            if self._mutex is not None:
                self._mutex.release()


def _fatal(error: sqlite3.Error, path: str) -> WorldError:
    told = faults.translate(error, path)
    return told if isinstance(told, WorldError) else WorldError(f"{path}: {error}")


def _read(cursor: Any, hot: Hot, fn: Callable[[Tx], T], path: str) -> T:
    try:
        cursor.execute("BEGIN")
        try:
            return fn(Transaction(cursor, hot))
        finally:
            cursor.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise faults.translate_reading(error, path) from error


class Reader:
    """A connection that only reads."""

    __slots__ = ("connection", "cursor")

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.cursor = connection.cursor()

    def close(self) -> None:
        self.cursor.close()
        self.connection.close()


class SqliteStore(Front):
    """See store/base.py for what each method promises."""

    runs_here = True

    def __init__(
        self,
        path: str,
        *,
        connect: Connect = connect_file,
        synchronous: Synchronous = "full",
        busy_timeout_s: float = 5.0,
        batch_max: int = 1000,
        create: bool = True,
        look_s: float = 0.05,
    ) -> None:
        self.path = path
        self._connect = connect
        self._busy_timeout_s = busy_timeout_s
        self._memory = path == MEMORY
        self._hot = hot_statements()
        self._readers: deque[Reader] = deque()
        self._closed = False
        self._watch: Reader | None = None
        self._folder: Reader | None = None
        self._folding = threading.Lock()
        self._watching = threading.Lock()
        if not create and not self._memory and not os.path.exists(path):
            raise DatabaseUrlInvalid(f"there is no Holdfast database at {path}: check the URL")
        gate = None if self._memory else FileGate(f"{path}-gate", busy_timeout_s)
        try:
            connection = self._open(synchronous)
            self._file = File(path)
            try:
                self._file.generation = prepare(connection, path, gate, create=create)
            except BaseException:
                connection.close()
                raise
        except BaseException as error:
            if gate is not None:
                gate.close()
            if isinstance(error, sqlite3.Error):
                raise faults.translate(error, path) from error
            raise
        self._session = SqliteSession(connection, self._hot, path, gate, self._file)
        self._wakeups = Wakeups(self.changes, look_s=look_s)
        self._writer = Writer(self._session, self._wakeups.committed, batch_max=batch_max)

    @property
    def generation(self) -> str:
        return self._file.generation

    # --- reading --------------------------------------------------------------------------------------------------

    def read(self, fn: Callable[[Tx], T]) -> T:
        self._writer.refuse_inside("read")
        if self._memory:
            return self._session.read(fn)
        reader = self._take_reader()
        try:
            return _read(reader.cursor, self._hot, fn, self.path)
        finally:
            self._readers.append(reader)
            if self._closed:  # it was closed meanwhile: nobody else will
                self._close_readers()

    # --- tidiness -------------------------------------------------------------------------------------------------

    def fold(self) -> None:
        """Write what is in the log into the file, by a connection of its own: a commit that finds the log long does it
        before it returns, and whoever wants to write next waits for thousands of pages and their sync."""
        if self._memory:
            return
        with self._folding:
            if self._closed:
                raise HoldfastClosed
            try:
                if self._folder is None:
                    self._folder = Reader(self._connect(self.path))
                self._folder.cursor.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            except sqlite3.Error as error:
                raise faults.translate(error, self.path) from error

    # --- wake-ups -------------------------------------------------------------------------------------------------

    def changes(self, *, went_on: bool = True) -> int:
        if self._closed:
            raise HoldfastClosed
        if self._memory:
            return self._wakeups.commits
        with self._watching:
            if self._watch is None:
                if self._closed:
                    raise HoldfastClosed
                self._watch = self._open_reader()
            # It counts the commits of every other connection, this store's writer among them.
            return int(self._watch.cursor.execute("PRAGMA data_version").fetchone()[0])

    # --- another generation ---------------------------------------------------------------------------------------

    def begin_anew(self) -> str:
        def work(tx: Any) -> str:
            return begin_anew(tx.cursor, self.path)

        self._file.generation = self._writer.run(Call(work))
        return self._file.generation

    # --- the end --------------------------------------------------------------------------------------------------

    def setting(self, name: str) -> Any:
        """A PRAGMA of the connection that writes, read back: `journal_mode`, `synchronous` …"""
        return self._session.setting(name)

    def close(self) -> None:
        """After what is being written. May be called again."""
        self._closed = True
        self._wakeups.close()
        self._close_readers()
        with self._watching:
            watch, self._watch = self._watch, None
        with self._folding:
            folder, self._folder = self._folder, None
        for each in (watch, folder):
            if each is not None:
                each.close()
        self._writer.close()  # last: the last connection that closes folds the log into the file

    # --- connections ----------------------------------------------------------------------------------------------

    def _open(self, synchronous: Synchronous) -> Any:
        connection = self._connect(self.path)
        try:
            for pragma in (
                f"busy_timeout={int(self._busy_timeout_s * 1000)}",
                f"synchronous={synchronous}",
                f"wal_autocheckpoint={CHECKPOINT_PAGES}",
                f"cache_size=-{CACHE_KIB}",
                "temp_store=memory",
            ):
                connection.cursor().execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _open_reader(self) -> Reader:
        try:
            reader = Reader(self._connect(self.path))
            reader.cursor.execute(f"PRAGMA busy_timeout={int(self._busy_timeout_s * 1000)}")
            reader.cursor.execute("PRAGMA query_only=1")
        except sqlite3.Error as error:
            raise faults.translate(error, self.path) from error
        return reader

    def _take_reader(self) -> Reader:
        if self._closed:
            raise HoldfastClosed
        try:
            return self._readers.pop()
        except IndexError:
            return self._open_reader()

    def _close_readers(self) -> None:
        while True:
            try:
                self._readers.pop().close()
            except IndexError:
                return
