"""Appends on PostgreSQL: one journey each, whatever their texts hold, all of a batch or nothing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import bindparam, select, update

from holdfast.errors import LeaseLost
from holdfast.store import schema
from holdfast.store.base import Append, Appended, Conflict, FeedRow, Row, StepRow, Store, Tx
from holdfast.store.pg_driver import array
from holdfast.store.postgres import PostgresStore
from holdfast.testing.conformance.store import add_task, kinds, task_row
from tests.postgresql import Databases
from tests.service.proxy import PIECE, Proxy
from tests.worker.house import until

_AWKWARD = ['"', "\\", "{a,b}", "NULL", "", " ", "a,b", "\n\t", "\\\"'", "ü€𝄞", "$1"]


class Counter(Proxy):
    """`answers`: how often the server has answered on the first connection."""

    answers = 0
    _first: socket.socket | None = None

    def _pump(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        if self._first is None and not answers:
            self._first = source
        try:
            while data := source.recv(PIECE):
                self.answers += answers and target is self._first
                target.sendall(data)
        except OSError:
            pass
        self._end(source)
        self._end(target)


@pytest.fixture
def counter(postgresql: Databases) -> Iterator[Counter]:
    made = Counter(f"http://127.0.0.1:{postgresql.server.port}")
    yield made
    made.close()


@pytest.fixture
def store(postgresql: Databases, counter: Counter) -> Iterator[Store]:
    database, port = postgresql.fresh().rpartition("/")[2], counter.url.rpartition(":")[2]
    options = "sslmode=disable&gssencmode=disable"
    with PostgresStore(f"postgresql://postgres@127.0.0.1:{port}/{database}?{options}", look_s=600.0) as made:
        yield made


def append_to(task: int, seen: int, *, steps: int = 0) -> Append:
    rows = [Row("succeeded", "build/a", None, 2.0), Row("started", "build/b", '{"a": "\\""}', 2)]
    shown = [StepRow(number, f"build/{number}", "RUNNING", 1, 2.0) for number in range(steps)]
    news = [FeedRow(2.0, "task.step", "p", task, f"tasks/{task}", None, each.state) for each in shown]
    columns = {"completed": 1, "updated_at": 2.0}
    return Append(task, "mine", seen, rows[:1], rows[1:], (), shown, columns, news=news)


def test_an_append_is_one_journey(store: Store, counter: Counter) -> None:
    """The first of its kind too, with which it is prepared."""
    tasks = [store.write(add_task) for _ in range(3)]
    store.changes()  # from here on others are told on a connection of its own
    for seen in (0, 2, 4):
        before = counter.answers
        assert store.append([append_to(tasks[0], seen)]) == [Appended(seen + 2, True)]
        assert counter.answers - before == 1
    for seen in (0, 2, 4):
        before = counter.answers
        batch = [append_to(tasks[0], seen + 6, steps=2), append_to(tasks[1], seen), append_to(tasks[2], seen, steps=1)]
        assert store.append(batch) == [Appended(one.seen + 2, True) for one in batch]
        assert counter.answers - before == 1


def test_of_a_batch_with_a_stale_one_the_others_are_taken(store: Store) -> None:
    tasks = [store.write(add_task) for _ in range(3)]
    batch = [append_to(task, 0) for task in tasks]
    batch[1] = batch[1]._replace(token="theirs")
    first, second, third = store.append(batch)
    assert (first, third) == (Appended(2, True), Appended(2, True))
    assert isinstance(second, LeaseLost)
    assert kinds(store, tasks[1]) == []
    assert task_row(store, tasks[1]).completed == 0


def test_what_changes_a_row_while_an_append_waits_for_it_is_found(store: Store, postgresql: Databases) -> None:
    """It had counted the row as its own, and waited for who had it."""
    tasks = [store.write(add_task) for _ in range(3)]
    url, answers = store.url, []  # type: ignore[attr-defined]
    with psycopg.connect(url) as other:
        other.execute("UPDATE tasks SET token = 'theirs' WHERE id = %s", (tasks[1],))
        batch = [append_to(task, 0, steps=1) for task in tasks]
        waiting = threading.Thread(target=lambda: answers.extend(store.append(batch)))
        waiting.start()
        with psycopg.connect(url, autocommit=True) as looking:
            until(lambda: looking.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() == (1,))
    waiting.join(20)
    first, second, third = answers
    assert (first, third) == (Appended(2, True), Appended(2, True))
    assert isinstance(second, LeaseLost)
    assert [kinds(store, task) for task in tasks] == [["succeeded", "started"], [], ["succeeded", "started"]]
    told = store.read(lambda tx: tx.execute(select(schema.feed.c.task).order_by(schema.feed.c.id)).scalars())
    assert told == [tasks[0], tasks[2]]


def test_who_waits_for_an_answer_can_use_the_time(store: Store) -> None:
    tasks = [store.write(add_task) for _ in range(2)]
    url, done = store.url, []  # type: ignore[attr-defined]

    def meanwhile() -> bool:
        """It goes on until the answer is there, which is after the other has let go of the row."""
        done.append(threading.current_thread())
        if len(done) == 100:
            other.rollback()
        return True

    with psycopg.connect(url) as other:
        other.execute("UPDATE tasks SET token = 'theirs' WHERE id = %s", (tasks[0],))
        assert store.append([append_to(task, 0) for task in tasks], meanwhile) == [Appended(2, True)] * 2
    assert len(done) >= 100
    assert set(done) == {threading.current_thread()}
    before = len(done)
    assert store.write(add_task) > tasks[1]
    assert len(done) == before, "it was for that append"
    assert store.write(lambda tx: tx.journal(tasks[0]), meanwhile)
    assert len(done) > before


def test_statements_together_are_one_journey(store: Store, counter: Counter) -> None:
    task = store.write(add_task)
    store.changes()
    asked = [
        (select(schema.tasks.c.state).where(schema.tasks.c.id == bindparam("_task")), {"_task": each})
        for each in (task, 0)
    ]
    for _ in range(5):  # prepared meanwhile
        before = counter.answers
        some, none = store.read(lambda tx: tx.execute_all(*asked))
        assert (some.scalars(), none.scalars()) == (["RUNNING"], [])
        assert counter.answers - before <= 2, "they, with what begins the transaction; and its end"

    def break_off(tx: Tx) -> None:
        tx.execute_all((update(schema.tasks).values(state="FAILED"), {}), asked[0])

    with pytest.raises(Conflict):
        store.write(break_off)
    assert store.write(lambda tx: tx.execute_all(*asked))[0].scalar() == "RUNNING"
    assert store.append([append_to(task, 0)]) == [Appended(2, True)]


def test_two_of_one_task_are_told_apart(store: Store) -> None:
    task = store.write(add_task)
    first, second = store.append([append_to(task, 0), append_to(task, 0)])
    assert first == Appended(2, True)
    assert isinstance(second, Appended)
    assert not second.accepted
    assert kinds(store, task) == ["succeeded", "started", "succeeded"]


@pytest.mark.parametrize("many", [False, True], ids=["one", "many"])
def test_texts_are_stored_as_they_are(store: Store, many: bool) -> None:
    tasks = [store.write(add_task) for _ in range(1 + many)]
    rows = [Row("succeeded", text, text, 2.0) for text in _AWKWARD] + [Row("succeeded", None, None, 2.5)]
    assert store.append([Append(task, "mine", 0, rows) for task in tasks]) == [Appended(len(rows), True)] * len(tasks)
    for task in tasks:
        assert [Row(*row[1:]) for row in store.journal(task)] == rows


def test_rows_that_are_superseded_go(store: Store) -> None:
    tasks = [store.write(add_task) for _ in range(2)]
    store.append([append_to(task, 0) for task in tasks])
    store.append([append_to(task, 2)._replace(folded=(1, 2)) for task in tasks])
    assert [[row.seq for row in store.journal(task)] for task in tasks] == [[3, 4]] * 2


def test_an_array_says_what_is_absent() -> None:
    assert array([1, None, 3], "int8") == "{1,NULL,3}"
    assert array(["NULL", None], "text") == '{"NULL",NULL}'
    assert array([], "text") == "{}"
