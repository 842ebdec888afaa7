"""What is SQLite's own: the settings, the cost of an append, the file and its neighbours."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import bindparam, select, update

from holdfast.errors import DatabaseUrlInvalid, HoldfastClosed
from holdfast.store import open_store, sqlite_path
from holdfast.store.base import Append, Appended, StepRow, Tx
from holdfast.store.schema import tasks
from holdfast.store.sqlite import SqliteStore, connect_file
from holdfast.testing.conformance.store import add_task, rows, task_row
from tests.store.faulty import Faulty

COUNT = update(tasks).where(tasks.c.id == bindparam("_task")).values(completed=tasks.c.completed + 1)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "tasks.db")


def sequential(store: SqliteStore, task: int, step: int) -> Append:
    """What a flow of one step after the other appends: the end of one and the start of the next."""
    return Append(
        task, "mine", 2 * step, rows("succeeded"), rows("started"),
        steps_all=[StepRow(step, "a", "SUCCEEDED", 1, 1.0, 2.0), StepRow(step + 1, "b", "RUNNING", 1, 2.0)],
        projection={"completed": step, "progress_done": float(step), "progress_step": "b", "updated_at": 2.0 + step},
    )  # fmt: skip


# --- settings ----------------------------------------------------------------------------------------------------


@pytest.mark.requirement("G1")
def test_a_commit_is_on_the_disk_before_it_is_acknowledged(path: str) -> None:
    """Power loss: read back from the connection that writes, not from what we asked for."""
    with SqliteStore(path) as store:
        assert store.setting("journal_mode") == "wal"
        assert store.setting("synchronous") == 2  # FULL: the log is synced at every commit
        assert store.setting("wal_autocheckpoint") == 1000
        assert store.setting("locking_mode") == "normal"


def test_less_durable_only_when_asked(path: str) -> None:
    with SqliteStore(path, synchronous="normal", busy_timeout_s=1.5) as store:
        assert store.setting("synchronous") == 1
        assert store.setting("busy_timeout") == 1500


def test_the_log_is_folded_into_the_file_at_the_end(path: str) -> None:
    with SqliteStore(path) as store:
        store.write(add_task)
        store.read(lambda tx: None)
        store.changes()
    assert sorted(os.listdir(os.path.dirname(path))) == ["tasks.db", "tasks.db-gate"]


# --- cost --------------------------------------------------------------------------------------------------------


def test_a_sequential_step_costs_one_update_and_four_rows(path: str) -> None:
    with SqliteStore(path) as store:
        task = store.write(add_task)
        store.append([sequential(store, task, 0)])
        said: list[str] = []
        store._session._connection.set_trace_callback(said.append)
        assert store.append([sequential(store, task, 1)]) == [Appended(4, True)]
    words = [" ".join(line.split()[:2]) for line in said]
    assert words == ["BEGIN IMMEDIATE", "UPDATE tasks", *["INSERT INTO"] * 4, "COMMIT"]


def test_a_sequential_step_dirties_three_pages(path: str) -> None:
    """Each frame of the log is written and synced: one of tasks, the last of journal, the last of steps."""
    with SqliteStore(path) as store:
        task = store.write(add_task)
        before = os.path.getsize(path + "-wal")
        for step in range(200):
            store.append([sequential(store, task, step)])
        frames = (os.path.getsize(path + "-wal") - before) / (4096 + 24)
    assert frames / 200 < 3.3  # where a page is split, more


def test_large_inputs_do_not_make_steps_dear(path: str) -> None:
    from sqlalchemy import insert

    from holdfast.store.schema import inputs

    with SqliteStore(path) as store:
        task = store.write(add_task)
        store.write(lambda tx: tx.execute(insert(inputs), {"task": task, "inputs": "x" * 1_000_000}))
        before = os.path.getsize(path + "-wal")
        for step in range(50):
            store.append([sequential(store, task, step)])
        frames = (os.path.getsize(path + "-wal") - before) / (4096 + 24)
    assert frames / 50 < 4


def test_many_writers_share_a_commit(path: str) -> None:
    commits: list[str] = []
    with SqliteStore(path, connect=Faulty(lambda sql: commits.append(sql) if sql == "COMMIT" else None)) as store:
        task = store.write(add_task)
        commits.clear()
        many_writers(store, task, 20)
        assert task_row(store, task).completed == 21
    assert len(commits) == 2  # the first alone, all who came meanwhile together


def test_a_commit_takes_no_more_than_its_share(path: str) -> None:
    commits: list[str] = []
    counting = Faulty(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
    with SqliteStore(path, connect=counting, batch_max=8) as store:
        task = store.write(add_task)
        commits.clear()
        many_writers(store, task, 20)
        assert task_row(store, task).completed == 21
    assert len(commits) == 1 + 3


def many_writers(
    store: SqliteStore, task: int, count: int, first: Callable[[Tx], object] = lambda tx: None
) -> list[BaseException]:
    """One writer holds the transaction until all others have queued; what was raised."""
    inside, queued = threading.Event(), threading.Event()
    raised: list[BaseException] = []

    def slow(tx: Tx) -> None:
        inside.set()
        assert queued.wait(30.0)
        tx.execute(COUNT, {"_task": task})
        first(tx)

    def work(fn: Callable[[Tx], Any]) -> None:
        try:
            store.write(fn)
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=work, args=(slow,))]
    threads[0].start()
    assert inside.wait(30.0)
    quick = lambda tx: tx.execute(COUNT, {"_task": task})  # noqa: E731
    threads += [threading.Thread(target=work, args=(quick,)) for _ in range(count)]
    for thread in threads[1:]:
        thread.start()
    while len(store._writer._queue) < count:
        inside.wait()
    queued.set()
    for thread in threads:
        thread.join(30.0)
    return raised


def test_an_interrupt_of_one_thread_loses_no_other_write(path: str) -> None:
    def interrupted(tx: Tx) -> None:
        raise KeyboardInterrupt

    with SqliteStore(path) as store:
        task = store.write(add_task)
        raised = many_writers(store, task, 5, first=interrupted)
        assert [type(error) for error in raised] == [KeyboardInterrupt]
        assert task_row(store, task).completed == 5
        store.write(lambda tx: tx.execute(COUNT, {"_task": task}))


# --- several processes -------------------------------------------------------------------------------------------

WRITER = """
import sys
from sqlalchemy import insert
from holdfast.store import open_store
from holdfast.testing.conformance.store import add_task
with open_store("sqlite:///" + sys.argv[1], busy_timeout_s=60.0) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(int(sys.argv[3])):
        store.write(lambda tx: add_task(tx, uuid=f"{sys.argv[2]}-{number}"))
        print(number, flush=True)
"""


def start_writer(path: str, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, path, name, str(count)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def test_processes_share_a_file(path: str, processes: list[subprocess.Popen[str]]) -> None:
    with SqliteStore(path) as store:
        processes += [start_writer(path, name, 40) for name in "abc"]
        seen = store.changes()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        assert store.wait(seen, 60.0) != seen
        assert [process.wait(60.0) for process in processes] == [0, 0, 0]
        uuids = store.read(lambda tx: tx.execute(select(tasks.c.uuid)).scalars())
        assert sorted(uuids) == sorted(f"{name}-{number}" for name in "abc" for number in range(40))


@pytest.mark.requirement("G1")
def test_what_a_killed_process_acknowledged_is_there(path: str, processes: list[subprocess.Popen[str]]) -> None:
    processes.append(start_writer(path, "a", 100_000))
    (process,) = processes
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    for _ in range(100):
        process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    acknowledged = 100 + len(process.stdout.read().splitlines())
    process.wait()
    with SqliteStore(path) as store:
        stored = len(store.read(lambda tx: tx.execute(select(tasks.c.id)).all()))
        assert stored in (acknowledged - 1, acknowledged, acknowledged + 1)  # the last line may be cut, the last unsaid
        store.write(add_task)


# --- addresses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///tasks.db", "tasks.db"),
        ("sqlite:////var/lib/tasks.db", "/var/lib/tasks.db"),
        ("sqlite:///:memory:", ":memory:"),
        ("sqlite://", ":memory:"),
    ],
)
def test_a_url_names_a_file(url: str, path: str) -> None:
    assert sqlite_path(url) == path


@pytest.mark.parametrize("url", ["", "tasks.db", "sqlite:tasks.db", "sqlite://host/x.db?mode=ro", "mysql://x/y"])
def test_another_url_is_refused(url: str) -> None:
    with pytest.raises(DatabaseUrlInvalid, match="sqlite:///FILE"):
        open_store(url)


def test_a_database_that_must_be_there(path: str) -> None:
    with pytest.raises(DatabaseUrlInvalid, match="no Holdfast database"):
        open_store(f"sqlite:///{path}", create=False)
    assert not os.path.exists(path)
    SqliteStore(path).close()
    open_store(f"sqlite:///{path}", create=False).close()


def test_connections_are_in_autocommit_mode(path: str) -> None:
    connection = connect_file(path)
    assert connection.isolation_level is None
    assert isinstance(connection, sqlite3.Connection)
    connection.close()


# --- the log -----------------------------------------------------------------------------------------------------


def test_what_is_folded_is_in_the_file_and_whoever_writes_goes_on_meanwhile(path: str, tmp_path: Path) -> None:
    def in_the_file() -> int:
        """Without the log."""
        alone = tmp_path / "alone.db"
        alone.write_bytes(Path(path).read_bytes())
        with sqlite3.connect(alone) as copy:
            found: int = copy.execute("SELECT count(*) FROM tasks").fetchone()[0]
        for each in tmp_path.glob("alone.db*"):
            each.unlink()
        return found

    with SqliteStore(path) as store:
        store.fold()
        before = in_the_file()
        store.write(add_task)
        assert in_the_file() == before
        store.write(lambda tx: fold_beside(store, add_task(tx)))
        assert in_the_file() == before + 1  # what was committed by then, and no commit waited for it
        store.fold()
        assert in_the_file() == before + 2
    with pytest.raises(HoldfastClosed):
        store.fold()


def fold_beside(store: SqliteStore, task: int) -> int:
    """On another thread, to its end."""
    thread = threading.Thread(target=store.fold)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    return task
