"""LISTEN and NOTIFY: how the processes on one PostgreSQL database hear of each other's commits.

Theory: a NOTIFY tells that something was committed, and not what: who hears it looks. That tasks only went on has a
channel of its own: workers have nothing to look for then, unless they wait for room, so they do not listen to it until
they do. They are coalesced on both ways: after one was sent, or heard, the next waits a moment. So a quiet database
tells at once, and a busy one PAUSE_S later what all of that time came to; later still where there are many processes,
because each of them reads then. But PostgreSQL wakes all who listen in a database for each NOTIFY, whatever the
channel: with as many who tell as who listen, most of their time would be that. So that tasks went on is told once in
WENT_ON_S, and who hears of it looks by itself until then, how many commits of others there were. They are sent outside
the transactions they tell of, because a commit with a NOTIFY in it waits for all others of its kind. A connection may
break, and then nobody hears anything; so each process looks so every `look_s` in any case: a net below and no more, but
through a pooler all there is.

Who is told then: store/wakeups.py.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import psycopg

from holdfast.clock import SYSTEM
from holdfast.errors import SchemaNewer
from holdfast.store.pg_driver import Cursor, Server
from holdfast.store.pg_silence import Connection

if TYPE_CHECKING:
    from holdfast.store.pg_history import PgHistory

CHANNEL: Final = "holdfast"
CHANNEL_WENT_ON: Final = "holdfast_went_on"
RING: Final = f"NOTIFY {CHANNEL}"
RING_WENT_ON: Final = f"NOTIFY {CHANNEL_WENT_ON}"
PAUSE_S: Final = 0.02
WENT_ON_S: Final = 1.0  # between two that say no more than that tasks went on
LOOKS_S: Final = 0.1  # at most, between two looks of who has heard that
QUIET_BITS: Final = 20  # of a commit's number: they grow with the commits that nobody has to be told of
HEARD_MAX: Final = 2000  # times a second that all processes together hear something, however many they are
_LIVES_S: Final = 60.0  # a process that has not committed for so long is no worker
_COMMITS: Final = (
    f"SELECT coalesce(sum(number >> {QUIET_BITS}), 0),"
    f" count(*) FILTER (WHERE at > extract(epoch FROM now()) - {_LIVES_S}) FROM writers WHERE id <> $1"
)


def ring_apart(*, went_on: bool) -> str:
    """By itself it is a commit, and would wait for the disk, though it has nothing to lose."""
    return f"BEGIN; SET LOCAL synchronous_commit = off; {RING_WENT_ON if went_on else RING}; COMMIT"


class Bell:
    """Its thread runs once somebody listens. `heard`: called on it when others have committed; whether tasks only went
    on, which is heard of once somebody wants it."""

    def __init__(self, server: Server, heard: Callable[[bool], None], history: PgHistory, *, look_s: float) -> None:
        self._server = server
        self._heard = heard
        self._history = history
        self._look_s = look_s
        self.own = ""  # the session of this process, of whose commits nobody has to be told
        self._mutex = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wake_r = self._wake_w = -1
        self._owed = False  # something was committed here that nobody else was told of
        self._owed_more = False  # and tasks did not only go on by it
        self._rang_at = self._rang_went_on_at = float("-inf")
        self._wants_all = self._hears_all = False  # that tasks went on, too
        self._goes_on_until = float("-inf")  # and until then nobody need tell it
        self._look_again_s = PAUSE_S
        self._looks_at = float("inf")
        self._closed = False
        self._connection: Connection | None = None
        self._commits = self._commits_heard = -1  # of others: at the last look, and at the last between two such
        self._others = 0  # processes, besides this one

    # --- called by others -----------------------------------------------------------------------------------------

    def ring(self, *, went_on: bool = False) -> bool:
        """This process has committed, and others will be told. False: there is nobody here to tell them. `went_on`:
        tasks did, and that is all."""
        if self._thread is None:
            return False
        if not went_on and not self._owed_more:
            self._owed_more = self._owed = True
            self._wake()
        elif not self._owed:
            self._owed = True
            self._wake()
        return True

    def listen(self) -> None:
        """From now on. What others commit after this returned is heard of."""
        if self._thread is not None:
            return
        with self._mutex:
            if self._thread is not None or self._closed:
                return
            self._wake_r, self._wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            self._try_connecting()
            self._thread = threading.Thread(target=self._run, name="holdfast-bell", daemon=True)
            self._thread.start()

    def hear_all(self) -> None:
        """That tasks of others went on too, from some moment on; what was missed until then is heard at that moment."""
        if not self._wants_all:
            self._wants_all = True
            self.listen()
            self._wake()

    def close(self) -> None:
        with self._mutex:
            self._closed = True
            thread = self._thread
        if thread is not None:
            self._wake()
            if thread is not threading.current_thread():
                thread.join()
            with self._mutex:
                os.close(self._wake_r)
                os.close(self._wake_w)
                self._wake_r = self._wake_w = -1
                self._thread = None

    def _wake(self) -> None:
        with self._mutex:  # else it might be closed by now, and another's
            try:
                if self._wake_w >= 0:
                    os.write(self._wake_w, b"!")
            except BlockingIOError:
                pass  # it is woken as it is

    # --- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        looked_at = SYSTEM.monotonic()
        heard_at = float("-inf")
        told = more = False
        while not self._closed:
            ends = [looked_at + self._look_s]
            if told:
                ends.append(heard_at + self._quiet_s)
            if self._connection is not None:
                ends += self._rings_at, self._looks_at
            self._pause(min(ends) - SYSTEM.monotonic(), hears=not told)
            now = SYSTEM.monotonic()
            is_overdue = now - looked_at >= self._look_s
            if is_overdue:
                looked_at = now
            try:
                if self._connection is None:
                    more = (is_overdue and self._try_connecting()) or more  # nobody knows what was missed
                else:
                    if now >= self._rings_at:
                        self._tell(self._connection, now)
                    if self._wants_all and not self._hears_all:
                        self._subscribe(self._connection)
                        told = self._look() or told  # what was missed
                    more = (is_overdue and self._look()) or more
                    if now >= self._looks_at:
                        told = self._look_again(now) or told
                    if channels := self._told(now):  # the last: what came with another answer wakes nobody
                        told, more = True, more or CHANNEL in channels
            except psycopg.Error:
                self._drop()
                continue
            except SchemaNewer:  # everybody who asks the store for anything is told
                self._heard(False)
                break
            told = told or more
            if told and now - heard_at >= self._quiet_s:
                heard_at = now
                self._heard(not more)
                told = more = False
        if self._connection is not None:
            self._tell_the_rest(self._connection)
            self._drop()

    @property
    def _rings_at(self) -> float:
        if not self._owed:
            return float("inf")
        return self._rang_at + PAUSE_S if self._owed_more else self._rang_went_on_at + WENT_ON_S

    def _tell(self, connection: psycopg.Connection[Any], now: float) -> None:
        """Others, of all that is owed."""
        self._owed = False  # before: what is committed from here on is told by the next
        went_on = not self._owed_more
        if went_on:
            self._rang_went_on_at = now
        else:
            self._owed_more = False
            self._rang_at = now
        try:
            connection.execute(ring_apart(went_on=went_on))
        except psycopg.Error:
            self._owed = True
            if not went_on:
                self._owed_more = True
            raise

    def _tell_the_rest(self, connection: psycopg.Connection[Any]) -> None:
        try:
            now = SYSTEM.monotonic()
            if self._owed_more or now >= self._rings_at:  # else who has heard that tasks go on still looks
                self._tell(connection, now)
        except psycopg.Error:
            pass  # others look by themselves

    @property
    def _quiet_s(self) -> float:
        """After something was heard, until the next is."""
        return max(PAUSE_S, self._others / HEARD_MAX)

    def _pause(self, left_s: float, *, hears: bool) -> None:
        """Until something is to be done, or the time is up. `hears`: what others ring is to be heard at once."""
        waited = [self._wake_r]
        if hears and self._connection is not None:
            waited.append(self._connection.fileno())
        found, _, _ = select.select(waited, [], [], max(0.0, left_s))
        if self._wake_r in found:
            try:
                os.read(self._wake_r, 4096)
            except BlockingIOError:
                pass

    def _told(self, now: float) -> set[str]:
        """By which channels others have rung."""
        channels = self._rung()
        if CHANNEL_WENT_ON in channels:
            self._expect_more(now)
            channels |= self._rung()  # what came with that answer
        return channels

    def _rung(self) -> set[str]:
        assert self._connection is not None
        me = self._connection.info.backend_pid  # each is told of its own too
        return {each.channel for each in self._connection.notifies(timeout=0) if each.pid != me}

    def _expect_more(self, now: float) -> None:
        """Tasks go on somewhere, or might, and for a while nobody tells it again."""
        if now >= self._goes_on_until:
            self._look_again_s, self._looks_at = PAUSE_S, now + PAUSE_S
        self._goes_on_until = now + WENT_ON_S
        self._commits_heard, _ = self._count()  # what is told now is not to be found again

    def _look_again(self, now: float) -> bool:
        """Whether others have committed since the last time. It is no look: who wants to hear more than that tasks went
        on has that."""
        self._look_again_s = max(min(2 * self._look_again_s, LOOKS_S), self._quiet_s)
        self._looks_at = now + self._look_again_s if now < self._goes_on_until else float("inf")
        before = self._commits_heard
        self._commits_heard, _ = self._count()
        return self._commits_heard != before

    def _look(self) -> bool:
        """Whether others have committed since the last look."""
        assert self._connection is not None
        self._history.look(Cursor(self._connection))
        before = self._commits
        self._commits, self._others = self._count()
        return before >= 0 and self._commits != before

    def _count(self) -> tuple[int, int]:
        """The commits of others, and those. By the driver: it keeps what was rung meanwhile for `notifies`."""
        assert self._connection is not None
        ((commits, others),) = psycopg.RawCursor(self._connection).execute(_COMMITS, (self.own,)).fetchall()
        return int(commits), others

    def _try_connecting(self) -> bool:
        try:
            self._connection = self._server.connect("holdfast bell", direct=True)
            self._subscribe(self._connection)
            self._look()
            return True
        except (psycopg.Error, SchemaNewer):
            self._drop()
            return False

    def _subscribe(self, connection: psycopg.Connection[Any]) -> None:
        hears_all = self._wants_all
        if self._server.hears:
            wanted = (CHANNEL, CHANNEL_WENT_ON) if hears_all else (CHANNEL,)
            connection.execute("; ".join(f"LISTEN {channel}" for channel in wanted))
        self._hears_all = hears_all
        if hears_all:
            self._expect_more(SYSTEM.monotonic())

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
