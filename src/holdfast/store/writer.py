"""Group commit: many writers, one transaction, one sync.

Theory: whoever finds the writer idle leads: it runs its own function and commits on its own thread, without a
hand-over. Whoever comes meanwhile queues. When the leader is done it wakes the first in the queue, which leads next
and takes everything queued, up to `batch_max`, into its transaction; so while one transaction syncs the next one
forms, with no timer. Each function runs in a savepoint of its own and hears of its own failure only; all are woken
after COMMIT. Nobody's thread works for others more than once. Functions of one thread that come together do without
savepoints, because for each the database copies every page that is changed: if one of them raises when it has written,
all are undone and run again, each in a savepoint.

Whether a transaction that failed is begun again is the session's to say: SQLite's has waited by then, PostgreSQL's
looks for a new connection, or lets functions that met others' locks have a transaction each. A COMMIT of SQLite's that
fails for any reason but a full disk leaves unknown what is on it (a failed fsync is never repeated by the kernel), so
the writer refuses everything from then on: the process must end, and the next one reads what is there.

What is written: store/entries.py, store/appends.py and whatever the functions do. How a transaction begins and commits:
the `Session` of each database, store/sqlite.py, store/pg_session.py.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from holdfast.clock import SYSTEM
from holdfast.errors import HoldfastClosed, StoreUnknown, UsageError, WorldError
from holdfast.store.appends import Savepoints
from holdfast.store.base import Append, Meanwhile
from holdfast.store.entries import Entry, own
from holdfast.store.transaction import Transaction


class Session(Savepoints, Protocol):
    """The one connection that writes. `meanwhile`: what whoever leads has to do while it waits for an answer."""

    tx: Transaction
    meanwhile: Meanwhile | None

    def begin(self) -> None:
        """Raises StoreBusy and other WorldErrors, after which nothing is open."""

    def commit(self) -> None: ...
    def rollback(self) -> None:
        """Raises nothing; harmless where nothing is open."""

    def close(self) -> None: ...
    @property
    def in_transaction(self) -> bool: ...

    @property
    def is_committed(self) -> bool:
        """Whether it is known that what was given to `commit` lasts."""

    def at_once(self, batch: Sequence[Append]) -> bool:
        """Store these and commit, where the database does that in one journey. False: nothing is stored; in a
        transaction of the usual kind it may be, or is told why not. Raises: as `begin` and `commit` do."""

    def again(self, error: WorldError, tries: int, *, divisible: bool) -> bool:
        """Whether the transaction that died of this is to be tried again, now: it was tried so often. `divisible`: it
        could also be done in smaller parts."""

    def divides(self, error: WorldError) -> bool:
        """Whether parts of the transaction that died of this may succeed, each in one of its own."""

    def poisons(self, error: WorldError) -> bool:
        """Whether nothing may be written any more after a COMMIT that failed with this."""

    def is_ended(self, error: WorldError) -> bool:
        """Whether nothing may be written any more, whatever this came of."""


class Writer:
    """Threads may share it. `committed` is called after each commit with the tasks it touched."""

    def __init__(self, session: Session, committed: Callable[[set[int]], None], *, batch_max: int = 1000) -> None:
        self._session = session
        self._committed = committed
        self._batch_max = batch_max
        self._mutex = threading.Lock()
        self._queue: deque[Entry] = deque()
        self._leader: int | None = None  # the thread that leads
        self._closed = False
        self._idle: Any = None  # a lock, held until the last leader is done
        self._poison: WorldError | None = None
        self._interrupt: BaseException | None = None  # it came behind a COMMIT: for the thread that leads
        self._timed: tuple[Callable[[float], None], ...] = ()

    def run(self, entry: Entry, meanwhile: Meanwhile | None = None) -> Any:
        """What the entry returns, once durable; what it raises, once undone."""
        me = threading.get_ident()
        with self._mutex:
            if self._closed:
                raise HoldfastClosed
            if self._leader is None:
                self._leader = me
                leads = True
            else:
                if self._leader == me:
                    raise UsageError("a write inside a write would wait for itself: use the transaction it was given")
                entry.gate = threading.Lock()
                entry.gate.acquire()
                self._queue.append(entry)
                leads = False
        if not leads:
            self._wait(entry)
        if leads or entry.leads:
            self._session.meanwhile = meanwhile
            self._lead(entry, me, fresh=leads)
        if entry.error is not None:
            raise entry.error
        return entry.result

    def time_commits(self, told: Callable[[float], None]) -> Callable[[], None]:
        """What ends it."""
        with self._mutex:
            self._timed = (*self._timed, told)

        def end() -> None:
            with self._mutex:
                self._timed = tuple(kept for kept in self._timed if kept is not told)

        return end

    @property
    def broken(self) -> bool:
        return self._poison is not None

    def refuse_inside(self, what: str) -> None:
        """Raises UsageError on a thread that is inside a write, HoldfastClosed after the end."""
        if self._leader == threading.get_ident():
            raise UsageError(f"a {what} inside a write would not see it: use the transaction it was given")
        if self._closed:
            raise HoldfastClosed

    def close(self) -> None:
        """After what is queued is done. The session is closed with it."""
        with self._mutex:
            if self._closed:
                return
            self._closed = True
            if self._leader is not None:
                self._idle = threading.Lock()
                self._idle.acquire()
        if self._idle is not None:
            self._idle.acquire()
        self._session.close()

    def _wait(self, entry: Entry) -> None:
        try:
            entry.gate.acquire()
        except BaseException:  # a Ctrl-C: the entry must neither lead nor be left in the queue
            with self._mutex:
                if entry in self._queue:
                    self._queue.remove(entry)
                leads = entry.leads
            if leads:
                self._hand_over()
            raise

    def _lead(self, entry: Entry, me: int, *, fresh: bool) -> None:
        entries = [entry]
        if not fresh:
            with self._mutex:
                self._leader = me
                while self._queue and len(entries) < self._batch_max:
                    entries.append(self._queue.popleft())
        commits: list[set[int]] = []  # the tasks that each touched
        done: list[Entry] = []
        try:
            self._commit(entries, commits, done)
        except BaseException as error:
            # Interrupted (a Ctrl-C on this thread). What the others gave is not lost: the next leader runs it.
            with self._mutex:
                self._queue.extendleft(reversed([other for other in entries[1:] if other not in done]))
                entries = [entry, *(other for other in entries[1:] if other in done)]
            entry.error = error
        finally:
            if self._interrupt is not None:
                entry.error, self._interrupt = self._interrupt, None
            self._session.meanwhile = None
            self._hand_over()
            for other in entries[1:]:
                other.gate.release()
        if commits:
            self._committed(commits[0] if len(commits) == 1 else set().union(*commits))

    def _hand_over(self) -> None:
        with self._mutex:
            if self._queue:
                heir = self._queue.popleft()
                heir.leads = True
                self._leader = -1  # whoever the heir is, nobody else may lead
                heir.gate.release()
            else:
                self._leader = None
                if self._idle is not None:
                    self._idle.release()

    def _commit(self, entries: Sequence[Entry], commits: list[set[int]], done: list[Entry]) -> None:
        """One transaction; or one for each part, where the session says so, and then `done` gets those that are."""
        error = self._poison or self._persist(entries, commits)
        if error is not None and self._poison is None and self._session.divides(error):
            for entry in entries:
                parts = entry.parts()
                if len(entries) == len(parts) == 1:
                    entry.error = error
                    return
                for part in parts:
                    part.error = self._persist([part], commits) or part.error
                entry.join(parts)
                done.append(entry)
        elif error is not None:
            for entry in entries:
                entry.error = type(error)(str(error), **error.details)  # each thread raises one of its own
                entry.error.__cause__ = error.__cause__

    def _persist(self, entries: Sequence[Entry], commits: list[set[int]]) -> WorldError | None:
        """The error of the last try, as often as the session wants one."""
        error, tries = self._transact(entries, commits), 1
        while error is not None and self._poison is None:
            divisible = len(entries) > 1 or len(entries[0].parts()) > 1
            if not self._session.again(error, tries, divisible=divisible):
                break
            error, tries = self._transact(entries, commits), tries + 1
        return error

    def _transact(self, entries: Sequence[Entry], commits: list[set[int]]) -> WorldError | None:
        """The error that the whole transaction died of; what an entry itself raised is in the entry."""
        session = self._session
        tx = session.tx
        tx.tasks, tx.quiet, tx.rings, tx.lasts = set(), False, False, True
        tx.seen.clear()
        committing = False
        began = SYSTEM.monotonic()
        try:
            if len(entries) > 1 or not self._at_once(entries[0]):
                session.begin()
                if len(entries) == 1:
                    if not self._alone(entries[0]):
                        return None
                else:
                    is_quiet, lasts = True, False
                    for entry in entries:
                        tx.quiet, tx.lasts = False, True
                        self._in_savepoint(entry)
                        is_quiet, lasts = is_quiet and tx.quiet, lasts or tx.lasts
                    tx.quiet, tx.lasts = is_quiet, lasts
                tx.quiet = tx.quiet and not tx.tasks
                committing = True
                session.commit()
        except WorldError as error:
            session.rollback()
            if (committing and session.poisons(error)) or session.is_ended(error):
                self._poison = error
            return error
        except BaseException as interrupt:
            if not committing or session.in_transaction:
                session.rollback()
                raise
            is_known = session.is_committed
            session.rollback()  # of nothing: what COMMIT takes with it is taken
            self._interrupt = interrupt
            if not is_known:
                return StoreUnknown("interrupted amid a commit: look at what is there before you ask again")
            # It came after COMMIT had returned: all are done, and the others are told so.
        if not tx.quiet:
            commits.append(tx.tasks)
        for told in self._timed:
            told(SYSTEM.monotonic() - began)
        return None

    def _at_once(self, entry: Entry) -> bool:
        """Whether it was stored without a transaction of its own."""
        batch = entry.appends()
        if not batch or not self._session.at_once(batch):
            return False
        entry.error = None
        entry.appended()
        self._session.tx.tasks = {one.task for one in batch}
        return True

    def _alone(self, entry: Entry) -> bool:
        """An entry that has the transaction to itself needs no savepoint. False: it was rolled back."""
        session = self._session
        entry.error = None
        try:
            entry.result = entry.run(session.tx, session, alone=True)
            session.tx.flush()
        except Exception as error:
            told = own(error, session)
            session.rollback()
            entry.error = told
            return False
        return True

    def _in_savepoint(self, entry: Entry) -> None:
        session = self._session
        before = session.tx.tasks
        session.tx.tasks = set()
        entry.error = None  # it may have been run before, in a transaction that was interrupted
        session.savepoint()
        try:
            entry.result = entry.run(session.tx, session, alone=False)
            session.tx.flush()
        except Exception as error:
            told = own(error, session)
            session.rollback_to()
            session.release()
            entry.error = told
            session.tx.tasks = before
        else:
            session.release()
            session.tx.tasks |= before
