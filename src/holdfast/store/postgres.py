"""The store over PostgreSQL: one database shared by any number of processes on any number of hosts.

One connection writes, under store/writer.py, in READ COMMITTED: rows are locked by what changes or asks for them. Reads
have connections of their own and see a snapshot. How a connection that broke is replaced, and how it is found out
whether its last COMMIT came to be: store/pg_session.py. Who is told of others' commits: store/pg_bell.py. How a
database comes to have its tables: store/pg_creation.py.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeVar

import psycopg

from holdfast.errors import HoldfastClosed, StoreAway, StoreBusy
from holdfast.store import pg_faults
from holdfast.store.base import Tx
from holdfast.store.entries import Call
from holdfast.store.front import Front
from holdfast.store.pg_bell import Bell
from holdfast.store.pg_driver import Cursor, PgTransaction, Server, reading
from holdfast.store.pg_history import PgHistory, begin_anew
from holdfast.store.pg_session import Patience, PostgresSession
from holdfast.store.pg_silence import SILENCE_S, is_silence
from holdfast.store.pg_within import within
from holdfast.store.place import redacted
from holdfast.store.wakeups import Wakeups
from holdfast.store.writer import Writer

T = TypeVar("T")

READERS_MAX: Final = 16  # at once; the connections of a server are few
READERS_KEPT: Final = 4
_SNAPSHOT: Final = ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",)


class PostgresStore(Front):
    """See store/base.py for what each method promises. `away_s`: how long a write or a read waits for a database that
    is away, before it is StoreAway. `doubt_s`: how long a write that was cut at its commit finds out what became of it,
    before it is StoreUnknown; as long at least. `silence_s`: see store/pg_silence.py."""

    def __init__(
        self,
        url: str,
        *,
        busy_timeout_s: float = 5.0,
        batch_max: int = 1000,
        create: bool = True,
        look_s: float = 1.0,
        away_s: float = 5.0,
        doubt_s: float = 0.0,
        silence_s: float = SILENCE_S,
    ) -> None:
        self.url = url
        self.shown = redacted(url)
        self._busy_timeout_s = busy_timeout_s
        self._away_s = away_s
        self._closed = threading.Event()
        self._places = threading.Semaphore(READERS_MAX)
        self._readers: deque[Cursor] = deque()
        self._server = Server(url, silence_s)
        self._wakeups = Wakeups(self.changes, look_s=60.0)
        self._history = PgHistory(self._wakeups.others_committed, lock_s=busy_timeout_s)
        first = self._first(create)
        self._bell = Bell(self._server, self._wakeups.others_committed, self._history, look_s=look_s)
        self._session = PostgresSession(
            first, self._server, busy_timeout_s=busy_timeout_s, patience=Patience(away_s, self._closed),
            doubt=Patience(max(away_s, doubt_s), self._closed), bell=self._bell,
            history=self._history,
        )  # fmt: skip
        self._writer = Writer(self._session, self._wakeups.committed, batch_max=batch_max)

    def _first(self, create: bool) -> Any:
        """The first connection, and what it finds."""
        try:
            connection = self._server.connect("holdfast writer")
        except psycopg.Error as error:
            raise pg_faults.translate_connecting(error, self.shown) from error
        try:
            cursor = Cursor(connection)
            self._history.open(cursor, self.shown, create=create)
        except BaseException as error:
            connection.close()
            if isinstance(error, psycopg.Error):
                raise pg_faults.translate(error, self.shown) from error
            raise
        return connection

    @property
    def generation(self) -> str:
        return self._history.generation

    # --- reading --------------------------------------------------------------------------------------------------

    def read(self, fn: Callable[[Tx], T]) -> T:
        self._writer.refuse_inside("read")
        if self._history.fault is not None:
            raise self._history.fault
        if not self._places.acquire(timeout=self._busy_timeout_s):
            raise StoreBusy(f"{READERS_MAX} reads of {self.shown} are under way: try again")
        try:
            patience = Patience(self._away_s, self._closed)
            while True:
                try:
                    return self._read(fn)
                except StoreAway as error:
                    if is_silence(error.__cause__) or not patience.lasts():
                        raise
        finally:
            self._places.release()

    def _read(self, fn: Callable[[Tx], T]) -> T:
        reader = self._take_reader()
        try:
            reader.opening = _SNAPSHOT
            try:
                return fn(PgTransaction(reader, reading()))
            finally:
                if not reader.opening and not reader.connection.closed:
                    reader.run("ROLLBACK")
                reader.opening = ()
        except psycopg.Error as error:
            raise pg_faults.translate_reading(error, self.shown) from error
        finally:
            self._put_reader(reader)

    # --- a caller's own transaction -------------------------------------------------------------------------------

    def within(self, connection: Any, fn: Callable[[Tx], T]) -> T:
        return within(connection, fn, generation=self.generation, shown=self.shown)

    # --- wake-ups -------------------------------------------------------------------------------------------------

    def changes(self, *, went_on: bool = True) -> int:
        if self._closed.is_set():
            raise HoldfastClosed
        if went_on:
            self._bell.hear_all()
        else:
            self._bell.listen()
        return self._wakeups.commits

    def hear_others(self, callback: Callable[[bool], None]) -> Callable[[], None]:
        self._bell.listen()
        return super().hear_others(callback)

    def hear_all(self) -> None:
        self._bell.hear_all()

    # --- another generation ---------------------------------------------------------------------------------------

    def begin_anew(self) -> str:
        def work(tx: Any) -> str:
            return begin_anew(tx.cursor)

        self._history.generation = self._writer.run(Call(work))
        return self._history.generation

    # --- the end --------------------------------------------------------------------------------------------------

    def setting(self, name: str) -> Any:
        """A setting of the connection that writes, read back: `synchronous_commit` …"""
        return self._session.setting(name)

    @property
    def pooled(self) -> bool:
        """Whether a pooler of connections stands before the server."""
        return bool(self._server.pooled)

    @property
    def hears(self) -> bool:
        """Whether the server tells of others' commits; else they are looked for."""
        return self._server.hears

    def close(self) -> None:
        """After what is being written. May be called again."""
        self._closed.set()
        self._wakeups.close()
        self._forget_readers()
        self._writer.close()
        self._bell.close()

    # --- connections ----------------------------------------------------------------------------------------------

    def _take_reader(self) -> Cursor:
        if self._closed.is_set():
            raise HoldfastClosed
        try:
            return self._readers.pop()
        except IndexError:
            pass
        try:
            return Cursor(self._server.connect_reading())
        except psycopg.Error as error:
            raise pg_faults.translate_reading(error, self.shown) from error

    def _put_reader(self, reader: Cursor) -> None:
        idle = reader.connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        if idle and len(self._readers) < READERS_KEPT:
            self._readers.append(reader)
            if self._closed.is_set():  # it was closed meanwhile: nobody else will
                self._forget_readers()
        else:
            reader.connection.close()

    def _forget_readers(self) -> None:
        while True:
            try:
                self._readers.pop().connection.close()
            except IndexError:
                return
