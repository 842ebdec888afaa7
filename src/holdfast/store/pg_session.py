"""The connection to PostgreSQL that writes, and what becomes of a transaction when it breaks.

Theory: whatever breaks before COMMIT is sent has not happened, and is done again on a new connection. Of a COMMIT that
was sent and not answered nobody knows. So each transaction of a session has a number, which it writes into the
session's row of `writers` as it commits. The next connection asks that row: it sets `fence` to the number, behind
whatever still holds the row, and reads what number is there. If it is the one in doubt, that was committed; if not, it
never will be, because a transaction whose number is fenced fails as it commits (a server that was frozen may still have
it in a socket). All this holds across a fail-over, as far as what was acknowledged does.

Appends that nothing else belongs to need no transaction around them: store/pg_append.py.

Functions of one transaction lock rows in one order each, but not all of them together. So a transaction of several
waits only a moment for a lock; then each gets a transaction of its own, and all the time there is.

A transaction begins with its first statement, in one journey.

What happened is told in the order of commits: the rows of `feed` wait for the end of their transaction, and draw their
ids behind a lock that is held until it is committed. So who has seen an id has missed none before it.

What a Session is: store/writer.py. The statements: store/pg_driver.py.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.pq import TransactionStatus

from holdfast.clock import SYSTEM
from holdfast.errors import StoreAway, StoreFull, StoreUnknown, WorldError
from holdfast.store import pg_faults
from holdfast.store.base import FeedRow
from holdfast.store.pg_append import FEED_KINDS, FEED_LOCK, Writing, arrays
from holdfast.store.pg_bell import QUIET_BITS, ring_apart
from holdfast.store.pg_driver import Cursor, PgTransaction, writing
from holdfast.store.pg_faults import Contended
from holdfast.store.pg_silence import Connection, is_silence
from holdfast.store.place import redacted
from holdfast.store.schema import feed
from holdfast.store.transaction import Transaction

if TYPE_CHECKING:
    from holdfast.store.appends import Hot
    from holdfast.store.base import Append, Into, Meanwhile
    from holdfast.store.pg_bell import Bell
    from holdfast.store.pg_driver import Server
    from holdfast.store.pg_history import PgHistory

LOCK_MS: Final = 250  # for which a transaction waits that can be done in parts
IDLE_S: Final = 10  # for which a process may hang inside a transaction, and hold its locks
TRIES_MAX: Final = 12  # of a transaction that meets others'
BESIDE: Final = 1000  # tasks that other processes may be admitting at one moment
PAUSE_MIN_S: Final = 0.005
PAUSE_MAX_S: Final = 0.25
RESTED_S: Final = 0.01  # after which it is worth a look whether the connection is still there
FORGET_S: Final = 86_400  # after which a session that commits nothing is taken for gone

_NUMBER: Final = (
    "INSERT INTO writers (id, number, fence, at) VALUES ('{id}', {number}, 0, extract(epoch FROM now()))"
    " ON CONFLICT (id) DO UPDATE SET at = excluded.at, number ="
    # The division fails, on purpose: somebody has found out that this was never committed; or what was is no more.
    " CASE WHEN writers.fence < excluded.number AND writers.number >= {acked}"
    " THEN excluded.number ELSE 1 / (writers.fence - writers.fence) END"
)
_COMMIT: Final = f"{_NUMBER}; COMMIT"
#: For which nobody waits until it is on disk. It is there before all that is committed after it.
_COMMIT_UNWAITED: Final = f"SET LOCAL synchronous_commit = off; {_COMMIT}"
_NUMBER_APART: Final = _NUMBER.format(id="$1", number="$2", acked="$3").replace("'$1'", "$1")
#: The lock is taken before the first id is drawn.
_TELL: Final = (
    "WITH turn AS MATERIALIZED (SELECT pg_advisory_xact_lock({lock})) INSERT INTO feed ({columns})"
    " SELECT told.* FROM turn, unnest({arrays}) AS told"
)
_FENCE: Final = (
    "INSERT INTO writers (id, number, fence, at) VALUES ('{id}', 0, {number}, extract(epoch FROM now()))"
    " ON CONFLICT (id) DO UPDATE SET fence = greatest(writers.fence, {number}) RETURNING number"
)
_FORGET: Final = f"DELETE FROM writers WHERE at < extract(epoch FROM now()) - {FORGET_S}"


class Patience:
    """Pauses that grow, as long as the time lasts or until it is closed."""

    def __init__(self, seconds: float, closed: threading.Event) -> None:
        self._seconds = seconds
        self._closed = closed
        self._until: float | None = None
        self._pause_s = PAUSE_MIN_S

    def lasts(self) -> bool:
        """Whether to try again, after a pause."""
        now = SYSTEM.monotonic()
        if self._until is None:
            self._until = now + self._seconds
        if self._closed.is_set() or now >= self._until:
            return False
        SYSTEM.wait(self._closed, self._pause_s * (0.5 + SYSTEM.random()))
        self._pause_s = min(PAUSE_MAX_S, self._pause_s * 2)
        return True

    def is_over(self) -> None:
        """What it was needed for: it begins anew."""
        self._until = None
        self._pause_s = PAUSE_MIN_S


class _Telling(PgTransaction):
    """A transaction whose rows of `feed` wait. `told`: those, and `marks` how many there were at each savepoint."""

    beside = BESIDE
    __slots__ = ("marks", "told")

    def __init__(self, cursor: Any, hot: Hot) -> None:
        super().__init__(cursor, hot)
        self.told: list[Sequence[Any]] = []
        self.marks: list[int] = []

    def add(self, into: Into, values: Sequence[Any]) -> None:
        if into.table is feed:
            self.written += 1
            self.told.append([values[into.columns.index(name)] for name in FeedRow._fields])
        else:
            super().add(into, values)

    def hold(self, name: str) -> None:
        self.cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", (name,))


@functools.cache
def _tell() -> str:
    given = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(FEED_KINDS, 1))
    return _TELL.format(lock=FEED_LOCK, columns=", ".join(FeedRow._fields), arrays=given)


def _setting(settings: Mapping[str, str], *, local: bool = True) -> str:
    return ", ".join(f"set_config('{name}', '{value}', {local})" for name, value in settings.items())


class PostgresSession:
    """See writer.Session."""

    def __init__(
        self, connection: Connection, server: Server, *, busy_timeout_s: float, patience: Patience,
        doubt: Patience, bell: Bell, history: PgHistory,
    ) -> None:  # fmt: skip
        self._server = server
        self._shown = redacted(server.url)
        self._id = SYSTEM.token_hex(16)
        self._number = 0
        self._acked = 0  # that of the last commit that was made; it is there, or this is another database
        self._acked_at = 0.0
        self._history = history
        self._lock_ms: int | None = LOCK_MS  # for which an append waits for a lock; None: as the connection does
        self._alone_ms = max(int(busy_timeout_s * 1000), 1)
        self._patience = patience
        self._doubt = doubt
        self._bell = bell
        bell.own = self._id
        self.is_committed = False
        self._alone = False  # the next transaction can't be done in parts: it may wait for locks
        self.meanwhile: Meanwhile | None = None
        self._connection = connection
        connection.meanwhile = self._meanwhile
        self._cursor = Cursor(connection)
        self._telling = _Telling(self._cursor, writing())
        self.tx: Transaction = self._telling
        self._settle()

    def _settle(self) -> None:
        """What holds for each transaction: said once, or behind a pooler with each. COMMIT must mean on disk, whatever
        the server's settings say."""
        self._cursor.execute("SELECT current_setting('synchronous_commit')")
        ((durable,),) = self._cursor.fetchall()
        always = {"synchronous_commit": "on"} if durable in ("off", "local") else {}
        usual = {"idle_in_transaction_session_timeout": f"{IDLE_S}s", "lock_timeout": f"{LOCK_MS}ms"} | always
        alone = {"lock_timeout": f"{self._alone_ms}ms"}
        self._begin: tuple[str, ...] = ("BEGIN",)
        if self._server.pooled:
            self._lock_ms = LOCK_MS
            self._begin += (f"SELECT {_setting(usual)}",)
        else:
            self._lock_ms = None
            # An append's plan is kept from the first on, not from the sixth. What else is asked may want another for
            # other values: a LIMIT.
            usual["plan_cache_mode"] = "force_generic_plan"
            self._begin += ("SET LOCAL plan_cache_mode = auto",)
            self._cursor.run(f"SELECT {_setting(usual, local=False)}")
        self._begin_alone = (*self._begin, f"SELECT {_setting(alone)}")
        self._writing = Writing(self._id, "".join(f", {_setting(always)}" for _ in always))

    # --- a transaction --------------------------------------------------------------------------------------------

    def begin(self) -> None:
        self._be_connected()
        self._cursor.opening = self._begin_alone if self._alone else self._begin

    def _be_connected(self) -> None:
        """Raises: WorldError: nothing was sent."""
        if self._history.fault is not None:
            raise self._history.fault
        try:
            rested = SYSTEM.monotonic() - self._acked_at > RESTED_S
            if self._connection.closed or (rested and self._connection.is_cut()):
                self._connect()
        except psycopg.Error as error:
            raise self._fatal(error) from error

    def commit(self) -> None:
        self.is_committed = False
        self._count(quiet=self.tx.quiet)
        try:
            if self._telling.told:
                self._tell_and_commit()
            else:
                commit = _COMMIT if self.tx.lasts else _COMMIT_UNWAITED
                self._cursor.run(commit.format(id=self._id, number=self._number, acked=self._acked))
        except psycopg.errors.DivisionByZero as error:
            self._connection.close()  # the next one finds out what became of the database
            raise pg_faults.away(error, self._shown) from error
        except psycopg.Error as error:
            if not pg_faults.is_lost(error):
                raise self._fatal(error) from error
            self._find_out(error)
        self.is_committed = True
        lasts = self.tx.lasts or bool(self._telling.told)
        self._telling.told.clear()
        self._note_commit(rings=self.tx.rings or bool(self.tx.tasks), lasts=lasts)

    def _count(self, *, quiet: bool) -> None:
        """The number of the next commit. One that others are to be told of grows the part of it that they look at."""
        self._number = self._number + 1 if quiet else ((self._number >> QUIET_BITS) + 1) << QUIET_BITS

    def _note_commit(self, *, rings: bool, went_on: bool = False, lasts: bool = True) -> None:
        if lasts:
            self._acked, self._acked_at = self._number, SYSTEM.monotonic()
        self._alone = False
        self._patience.is_over()
        if rings and not self._bell.ring(went_on=went_on):
            self._ring(went_on=went_on)

    def at_once(self, batch: Sequence[Append]) -> bool:
        if len(batch) > 1 and len(batch) != len({one.task for one in batch}):
            return False
        self._be_connected()
        self._count(quiet=False)
        try:
            lock_ms = self._alone_ms if self._alone else self._lock_ms
            if not self._cursor.at_once(*self._writing.of(batch, self._number, lock_ms)):
                return False
        except psycopg.Error as error:
            if not pg_faults.is_lost(error):
                told = self.translate(error)
                if isinstance(told, WorldError):
                    raise told from error
                return False
            self._find_out(error)
        except UnicodeError:
            return False
        self._note_commit(rings=True, went_on=True)
        return True

    def _tell_and_commit(self) -> None:
        """In one journey: whoever freezes meanwhile, the server goes on to the end and frees the lock."""
        number = _NUMBER_APART, (self._id, self._number, self._acked)
        self._cursor.execute_all([(_tell(), arrays(self._telling.told, FEED_KINDS)), number, ("COMMIT", ())])

    def _ring(self, *, went_on: bool) -> None:
        try:
            self._cursor.run(ring_apart(went_on=went_on))
        except psycopg.Error:
            pass  # the next transaction sees to it, and others look by themselves

    def rollback(self) -> None:
        self._forget()
        self._cursor.opening = ()
        try:
            if self._connection.info.transaction_status != TransactionStatus.IDLE:
                self._cursor.run("ROLLBACK")
        except psycopg.Error:
            self._connection.close()

    def savepoint(self) -> None:
        self.tx.flush()
        self._run("SAVEPOINT one")  # it may be what the transaction begins with
        self._telling.marks.append(len(self._telling.told))

    def release(self) -> None:
        self._run("RELEASE one")
        self._telling.marks.pop()

    def rollback_to(self) -> None:
        self.tx.forget()  # what waited when the savepoint was made has been written then
        del self._telling.told[self._telling.marks[-1] :]
        self._run("ROLLBACK TO one")

    def _forget(self) -> None:
        self.tx.forget()
        self._telling.told.clear()
        self._telling.marks.clear()

    def start_over(self) -> None:
        self._forget()
        if not self._cursor.opening:
            self._run("ROLLBACK")
        self._cursor.opening = self._begin_alone if self._alone else self._begin

    def _run(self, script: str) -> None:
        try:
            self._cursor.run(script)
        except psycopg.Error as error:
            raise self._fatal(error) from error

    def translate(self, error: Exception) -> Exception:
        return pg_faults.translate(error, self._shown)

    def has_raced(self, error: Exception) -> bool:
        return isinstance(error, psycopg.errors.UniqueViolation)

    def is_spoilt(self) -> bool:
        return not self._cursor.opening and self._connection.info.transaction_status != TransactionStatus.INTRANS

    @property
    def in_transaction(self) -> bool:
        return self._connection.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR)

    # --- what breaks ----------------------------------------------------------------------------------------------

    def again(self, error: WorldError, tries: int, *, divisible: bool) -> bool:
        if isinstance(error, StoreAway):
            return not is_silence(error.__cause__) and self._patience.lasts()
        if isinstance(error, Contended) and not divisible and tries < TRIES_MAX:
            self._alone = True
            return self._patience.lasts()
        return False

    def divides(self, error: WorldError) -> bool:
        return isinstance(error, StoreFull | Contended)

    def poisons(self, error: WorldError) -> bool:
        return False  # the next transaction begins behind a fence

    def is_ended(self, error: WorldError) -> bool:
        return False

    def _find_out(self, error: psycopg.Error) -> None:
        """Return if the last COMMIT came to be. Raises: StoreAway: it did not; StoreUnknown."""
        try:
            while self._doubt.lasts():
                try:
                    self._connect()
                    self._cursor.run(_FENCE.format(id=self._id, number=self._number))
                    ((number,),) = self._cursor.fetchall()
                except psycopg.Error:
                    continue
                if number == self._number:
                    return
                raise pg_faults.away(error, self._shown)
        finally:
            self._doubt.is_over()
        told = f"{self._shown} went away during a commit: look at what is there before you ask again"
        raise StoreUnknown(told) from error

    def _connect(self) -> None:
        self._connection.close()
        connection = self._server.connect("holdfast writer")
        connection.meanwhile = self._meanwhile
        self._connection = connection
        self._cursor = self.tx.cursor = Cursor(connection)
        self._settle()
        if SYSTEM.monotonic() - self._acked_at > FORGET_S / 2:
            self._acked = 0  # its row may have been taken for that of somebody who is gone
        if self._history.look(self._cursor, self._id, self._acked):
            self._acked = 0
        self.tx.known.clear()  # it may have been told by a commit that did not last

    def _meanwhile(self) -> bool:
        return self.meanwhile is not None and self.meanwhile()

    def _fatal(self, error: psycopg.Error) -> WorldError:
        told = self.translate(error)
        return told if isinstance(told, WorldError) else WorldError(f"{self._shown}: {error}")

    # --- the end --------------------------------------------------------------------------------------------------

    def setting(self, name: str) -> Any:
        self._cursor.execute("SELECT current_setting($1)", (name,))
        return self._cursor.fetchall()[0][0]

    def close(self) -> None:
        try:
            if self._number:
                self._cursor.run(f"{_FORGET} OR id = '{self._id}'")
        except psycopg.Error:
            pass
        self._connection.close()
