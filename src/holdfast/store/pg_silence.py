"""Connections to PostgreSQL that give up a server which says nothing.

Theory: a server that was frozen (a virtual machine that is moved, a disk that hangs) keeps its connections open, and
its kernel acknowledges what it is sent; so no timer of TCP's ever runs out. After a silence, another connection asks
whether the server lives. If it does, what was asked takes long, and is waited for. If it doesn't, this connection is of
no use, and nobody knows what the server will do with what it was sent.
"""

from __future__ import annotations

import select
from collections.abc import Generator, Mapping
from typing import Any, Final

import psycopg
from psycopg import generators
from psycopg.pq.abc import PGconn, PGresult
from psycopg.waiting import Wait

from holdfast.clock import SYSTEM
from holdfast.store.base import Meanwhile

SILENCE_S: Final = 5.0
TICK_S: Final = 0.1  # between two looks, while nothing comes
ASK_S: Final = 3  # for which it may take to connect, once a connection was silent


class Silent(psycopg.OperationalError):
    """The server has said nothing for too long."""


def is_silence(error: BaseException | None) -> bool:
    """Whether the server has had its time: who asks again at once would wait as long again."""
    return isinstance(error, Silent | psycopg.errors.ConnectionTimeout)


class Connection(psycopg.Connection[Any]):
    """`silence_s`: after so long without a word it is found out whether the server at `place` lives. None: then it is
    taken for gone at once. `nul`: what stands for a NUL in a text; None: there may be none. `named`: what is prepared
    on it, whoever did that (store/pg_direct.py)."""

    silence_s: float = SILENCE_S
    place: Mapping[str, Any] | None = None
    meanwhile: Meanwhile | None = None
    nul: str | None = None
    _polled: select.poll | None = None

    def __init__(self, pgconn: PGconn, *more: Any, **others: Any) -> None:
        super().__init__(pgconn, *more, **others)
        self.named: dict[Any, bytes] = {}

    def wait(self, gen: Any, interval: float = TICK_S, *more: Any, **others: Any) -> Any:
        return super().wait(self._heard(gen), min(interval, self.silence_s), *more, **others)

    def answer(self) -> list[PGresult]:
        """To what was sent by libpq's own calls. The driver has it from the first silence on. Raises psycopg.Error."""
        server = self.pgconn
        results: list[PGresult] = []
        silent = bool(server.flush())  # there is more to send
        if not silent and self.meanwhile is not None and server.is_busy() and self.meanwhile():
            self._spend(self.meanwhile)
        answer = self._poll()
        while not silent:
            if not server.is_busy():
                result = server.get_result()
                if result is None:
                    return results
                results.append(result)
            elif answer.poll(TICK_S * 1000):
                server.consume_input()
            else:
                silent = True
        return [*results, *self.wait(generators.execute(server))]

    def is_cut(self) -> bool:
        """Whether the server has closed it, as far as has been heard: what is sent now would be in doubt."""
        try:
            while self._poll().poll(0):
                self.pgconn.consume_input()
        except psycopg.Error:
            return True
        return False

    def _heard(self, gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """What the driver does, told each tick whether anything came; `meanwhile` has the time before that."""
        silent_since: float | None = None
        ready = None
        try:
            while True:
                wanted = gen.send(ready)
                if self.meanwhile is not None and wanted == Wait.R and self.meanwhile():
                    self._spend(self.meanwhile)
                ready = yield wanted
                if ready:
                    silent_since = None
                elif silent_since is None:
                    silent_since = SYSTEM.monotonic()
                elif SYSTEM.monotonic() - silent_since >= self.silence_s:
                    if self.place is None or not lives(self.place, self.silence_s):
                        self.close()
                        raise Silent(f"no answer for {self.silence_s:g} s")
                    silent_since = None
        except StopIteration as end:
            return end.value

    def _spend(self, meanwhile: Meanwhile) -> None:
        """Until the answer is there."""
        answer = self._poll()
        while not answer.poll(0) and meanwhile():
            pass

    def _poll(self) -> select.poll:
        if self._polled is None:
            self._polled = select.poll()
            self._polled.register(self.fileno(), select.POLLIN)
        return self._polled


def lives(place: Mapping[str, Any], within_s: float) -> bool:
    """Whether a server answers there, be it that it wants nobody."""
    asked: dict[str, Any] = {**place, "connect_timeout": str(ASK_S)}
    try:
        with Connection.connect(**asked, application_name="holdfast", autocommit=True) as connection:
            connection.silence_s = within_s
            connection.execute("SELECT 1")  # a pooler lets in whoever comes
            return True
    except psycopg.Error as error:
        return "FATAL" in str(error) and not str(error.sqlstate).startswith("08")
