"""Connections to PostgreSQL that break around a COMMIT: before it, behind it, and with it still on its way."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

import holdfast as hf
from holdfast.errors import HoldfastError, SchemaNewer, StoreUnknown
from holdfast.store.base import Append, Appended, FeedRow, Row, Store, Tx
from holdfast.store.postgres import PostgresStore
from holdfast.store.schema import feed, plans, tasks, writers
from holdfast.tasks import row, tell
from holdfast.testing.conformance.store import add_task, kinds, task_row
from peers.postgres import Postgres
from tests.postgresql import Databases
from tests.service.proxy import PIECE, Proxy
from tests.worker.house import until

SLOW_TO_DISK = "\nwal_writer_delay = 10s\nwal_writer_flush_after = 1GB\n"
_BROKEN = ("before", "behind", "held")
#: An append is a statement that commits by itself, and writes the session's number.
_COMMITS = (b"COMMIT", b"INTO writers")


class Wire(Proxy):
    """A proxy that cuts connections around the next COMMIT. `how`: `before` it has reached the server; `behind` it,
    with its answer on the way; `held`: the server gets it only when `let_go` is called. None: not at all."""

    def __init__(self, port: int) -> None:
        super().__init__(f"http://127.0.0.1:{port}")
        self.how: str | None = None
        self.port = int(self.url.rpartition(":")[2])
        self.shut = False
        self._held: tuple[socket.socket, bytes] | None = None
        self._is_let_go = False
        self._said = b""
        self._has_said = threading.Event()

    def _pump(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        if self.shut:
            self._end(source)
            self._end(target)
            return
        if answers:
            try:
                while data := source.recv(PIECE):
                    if self._takes("lose"):
                        break
                    if self._held is not None and self._held[0] is source:
                        if not self._is_let_go:
                            continue  # of what was asked before it
                        self._said = data
                        self._has_said.set()
                        break
                    try:
                        target.sendall(data)
                    except OSError:
                        if self._held is None or self._held[0] is not source:
                            raise
            except OSError:
                pass
            self._end(source)
            self._end(target)
            return
        try:
            while data := source.recv(PIECE):
                if self.how is not None and any(word in data for word in _COMMITS):
                    how, self.how = self.how, None
                    if how == "held":
                        self._held = (target, data)
                        self._end(source)
                        return
                    if how == "before":
                        break
                    self.lose = 1
                target.sendall(data)
        except OSError:
            pass
        if self._held is None or self._held[0] is not target:
            self._end(target)
        self._end(source)

    def let_go(self) -> bytes:
        """What the server says to it."""
        assert self._held is not None
        far, data = self._held
        self._is_let_go = True
        far.sendall(data if data.startswith(b"Q") else data + b"S\0\0\0\4")  # it waits for a Sync before it answers
        assert self._has_said.wait(10)
        return self._said


@pytest.fixture
def url(postgresql: Databases) -> str:
    return postgresql.fresh()


@pytest.fixture
def wire(postgresql: Databases) -> Iterator[Wire]:
    made = Wire(postgresql.server.port)
    yield made
    made.close()


def wired(url: str, wire: Wire) -> str:
    return f"postgresql://postgres@127.0.0.1:{wire.port}/{url.rpartition('/')[2]}?sslmode=disable&gssencmode=disable"


@pytest.fixture
def store(url: str, wire: Wire) -> Iterator[Store]:
    with PostgresStore(wired(url, wire), away_s=20.0) as made:
        made.write(lambda tx: tx.execute(select(plans)))
        yield made


@pytest.mark.requirement("P2")
@pytest.mark.parametrize("how", _BROKEN)
@pytest.mark.parametrize("tells", [False, True], ids=["quiet", "told"])
def test_what_was_under_way_happens_once(store: Store, wire: Wire, how: str, tells: bool) -> None:
    runs: list[int] = []
    news = FeedRow(1.0, "task.state", "p", None, "tasks/x", None, "{}")

    def add(tx: Tx) -> int:
        runs.append(1)
        if tells:
            tell.write(tx, [news])
        return add_task(tx, uuid="one")

    released: list[bytes] = []
    wire.how = how
    helper = threading.Timer(0.3, lambda: released.append(wire.let_go()) if how == "held" else None)
    helper.start()
    task = store.write(add)
    helper.join()
    assert task_row(store, task).uuid == "one"
    assert len(store.read(lambda tx: tx.execute(select(feed.c.id)).all())) == tells
    assert len(runs) == 1 if how == "behind" else how == "held" or len(runs) >= 2
    if how == "held" and not tells:  # told, it holds a lock by then that the asking waits for, and may be taken
        assert b"22012" in released[0], "the server was told too late, and must not have taken it"


@pytest.mark.parametrize("how", _BROKEN)
def test_an_append_that_broke_is_not_told_its_own_events(store: Store, wire: Wire, how: str) -> None:
    task = store.write(add_task)
    wire.how = how
    helper = threading.Timer(0.3, lambda: wire.let_go() if how == "held" else None)
    helper.start()
    rows = [Row("succeeded", "build/a", None, 2.0)]
    assert store.append([Append(task, "mine", 0, rows, projection={"completed": 1})]) == [Appended(1, True)]
    helper.join()
    assert kinds(store, task) == ["succeeded"]
    assert store.append([Append(task, "mine", 1, rows)]) == [Appended(2, True)]


def test_who_waited_behind_it_is_served(store: Store, wire: Wire) -> None:
    from holdfast.testing.conformance.store_threads import together

    wire.how = "behind"

    def work(number: int) -> None:
        for _ in range(5):
            store.write(add_task)

    together(6, work)
    assert len(store.read(lambda tx: tx.execute(select(tasks.c.id)).all())) == 30
    assert len(store.read(lambda tx: tx.execute(select(writers.c.id)).all())) == 1


def test_a_database_that_stays_away_leaves_it_unknown(url: str, wire: Wire) -> None:
    with PostgresStore(wired(url, wire), away_s=0.3) as store:
        store.write(lambda tx: tx.execute(select(plans)))
        wire.how, wire.shut = "behind", True
        with pytest.raises(StoreUnknown) as caught:
            store.write(lambda tx: add_task(tx, uuid="one"))
        assert isinstance(caught.value, HoldfastError)
        assert not caught.value.retryable
        wire.shut = False
        assert store.write(add_task) == 2, "it was done, and the store goes on"


@pytest.mark.requirement("P2")
def test_what_became_of_a_commit_is_found_out_for_longer_than_a_write_waits(url: str, wire: Wire) -> None:
    with PostgresStore(wired(url, wire), away_s=0.1, doubt_s=30.0) as store:
        store.write(lambda tx: tx.execute(select(plans)))
        wire.how, wire.shut = "behind", True
        opening = threading.Timer(1.0, setattr, (wire, "shut", False))
        opening.start()
        assert store.write(lambda tx: add_task(tx, uuid="one")) == 1
        opening.join()


@pytest.mark.requirement("G1")
@pytest.mark.parametrize("how", ["ctrl-c", "a newer schema"])
def test_who_shares_a_commit_that_is_given_up_is_not_told_that_it_is_done(
    postgresql: Databases, url: str, wire: Wire, how: str
) -> None:
    name = url.rpartition("/")[2]
    told: list[object] = []
    inside, go, lost = threading.Event(), threading.Event(), threading.Event()

    def first(tx: Tx) -> None:
        inside.set()
        go.wait(60)

    def losing(tx: Tx) -> int:
        wire.how, wire.shut = "before", True
        if how == "a newer schema":
            postgresql.server.execute("UPDATE store_info SET works_with = 'zzzz'", name)
            postgresql.server.execute("UPDATE alembic_version SET version_num = 'zzzz'", name)
        lost.set()
        return add_task(tx, uuid="one")

    def break_off() -> None:
        lost.wait(60)
        threading.Event().wait(1.0)  # by then it finds out what became of it
        if how == "ctrl-c":
            os.kill(os.getpid(), signal.SIGINT)
        else:
            wire.shut = False

    with PostgresStore(wired(url, wire), away_s=5.0, doubt_s=30.0) as store:

        def other() -> None:
            until(lambda: len(store._writer._queue) == 1)  # who waits first leads, and hears of an interrupt
            threading.Thread(target=let_go).start()
            try:
                told.append(store.write(lambda tx: add_task(tx, uuid="other")))
            except HoldfastError as error:
                told.append(error)

        def let_go() -> None:
            until(lambda: len(store._writer._queue) == 2)
            go.set()

        store.write(lambda tx: tx.execute(select(plans)))
        beside = [threading.Thread(target=store.write, args=(first,)), threading.Thread(target=break_off)]
        beside[0].start()
        inside.wait(60)
        beside.append(threading.Thread(target=other))
        for thread in beside[1:]:
            thread.start()
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs in the background ignores it
        try:
            with pytest.raises((KeyboardInterrupt, SchemaNewer)):
                store.write(losing)
        finally:
            signal.signal(signal.SIGINT, before)
        for thread in beside:
            thread.join()
    wire.shut = False
    assert postgresql.server.execute("SELECT uuid FROM tasks", name) == []
    assert [type(each) for each in told] == [StoreUnknown]


def test_what_need_not_last_may_be_lost_with_the_server_and_nothing_that_follows(tmp_path: Path) -> None:
    """It is not another database for that."""

    def add(*, lasts: bool) -> int:
        def adding(tx: Tx) -> int:
            if not lasts:
                tx.need_not_last()
            return add_task(tx)

        task: int = opened.write(adding)
        return task

    def there() -> list[int]:
        return list(opened.read(lambda tx: tx.execute(select(tasks.c.id).order_by(tasks.c.id)).scalars()))

    with (
        Postgres(tmp_path / "pg", settings=SLOW_TO_DISK) as server,
        PostgresStore(server.make("lost"), away_s=30.0, look_s=600.0) as opened,
    ):
        generation = opened.generation
        first = add(lasts=True)
        lost = add(lasts=False)
        assert there() == [first, lost]
        server.kill()
        server.start()
        assert there() == [first]
        before, behind = add(lasts=False), add(lasts=True)
        server.kill()
        server.start()
        assert there() == [first, before, behind], "what is behind it in the log"
        mixed = opened.write_all([lambda tx: tx.need_not_last() or add_task(tx), lambda tx: tx.need_not_last()])
        server.kill()
        server.start()
        assert there() == [first, before, behind, mixed[0]], "one of many may need it"
        assert opened.generation == generation


def test_a_taking_that_is_lost_with_the_server_is_made_again(tmp_path: Path) -> None:
    said: list[str] = []
    holders: list[str | None] = []
    flow = hf.linear("said", hf.step(lambda: said.append("said"), name="say"))
    with (
        Postgres(tmp_path / "pg", settings=SLOW_TO_DISK) as server,
        hf.open(server.make("lost"), flows=[flow]) as hold,
    ):
        task = hold.submit(flow)
        worker = hold.worker("threads")
        intake = worker._intake
        take = intake.take

        def take_and_lose(*given: Any) -> bool:
            took = take(*given)
            if took and not holders:
                for _ in range(2):
                    holders.append(hold.store.read(lambda tx: row.read(tx, task._id)).worker_id)
                    server.kill()
                    server.start()
            return took

        intake.take = take_and_lose  # type: ignore[method-assign, assignment]
        worker.run(worker.is_idle)
        worker.close()
        assert (task.state, said) == ("SUCCEEDED", ["said"])
    assert holders == [worker.lease.id, None]
