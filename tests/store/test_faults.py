"""A world that fails: each error has a name and says what to do, and what was acknowledged stays."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from holdfast.errors import StoreBusy, StoreCorrupt, StoreFull, StoreUnwritable, WorldError
from holdfast.store import open_store
from holdfast.store.base import Append, Appended, Row, Tx
from holdfast.store.schema import tasks
from holdfast.store.sqlite import SqliteStore
from holdfast.testing.conformance.store import add_task, kinds, rows, task_row
from holdfast.testing.conformance.store_threads import PATIENCE_S
from tests.store.faulty import Faulty, driver_error

IOERR_FSYNC = 1034
FULL = 13
BUSY = 5


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "tasks.db")


def failing(code: int, *, at: str, armed: list[bool]) -> Callable[[str], None]:
    def before(sql: str) -> None:
        if armed and sql.startswith(at):
            raise driver_error(code, f"CODE_{code}")

    return before


# --- a full disk -------------------------------------------------------------------------------------------------


def test_a_full_disk_loses_nothing_and_goes_on_when_there_is_room(path: str) -> None:
    faulty = Faulty(lambda sql: None)
    with SqliteStore(path, connect=faulty) as store:
        task = store.write(add_task)
        store.append([Append(task, "mine", 0, rows("began"))])
        writer = faulty.opened[0]
        (pages,) = writer.execute("PRAGMA page_count").fetchone()
        writer.execute(f"PRAGMA max_page_count={pages + 10}")
        large = Append(task, "mine", 1, [Row("succeeded", "a", "x" * 500_000, 1.0)])
        with pytest.raises(StoreFull, match="make room"):
            store.append([large])
        with pytest.raises(StoreFull):
            store.append([large, large])
        assert kinds(store, task) == ["began"]
        assert store.append([Append(task, "mine", 1, rows("started"))]) == [Appended(2, True)]
        writer.execute("PRAGMA max_page_count=1000000")
        assert store.append([large._replace(seen=2)]) == [Appended(3, True)]
        assert kinds(store, task) == ["began", "started", "succeeded"]


@pytest.mark.parametrize("divided", [False, True])
def test_a_ctrl_c_behind_a_commit_is_raised_and_others_may_write(path: str, divided: bool) -> None:
    armed: list[None] = []

    def interrupt(sql: str) -> None:
        if armed and sql == "COMMIT":
            armed.clear()
            raise KeyboardInterrupt

    faulty = Faulty(lambda sql: None, after=interrupt)
    with SqliteStore(path, connect=faulty) as store, open_store(f"sqlite:///{path}") as other:
        made = [store.write(add_task) for _ in range(2)]
        writer = faulty.opened[0]
        (pages,) = writer.execute("PRAGMA page_count").fetchone()
        writer.execute(f"PRAGMA max_page_count={pages + 10}")
        large = [Row("succeeded", "a", "x" * 500_000, 1.0)]
        armed.append(None)
        with pytest.raises(KeyboardInterrupt):
            store.append(
                [Append(task, "mine", 0, large if divided and task == made[1] else rows("began")) for task in made]
            )
        assert not armed
        assert kinds(store, made[0]) == ["began"]
        assert other.append([Append(made[0], "mine", 1, rows("started"))]) == [Appended(2, True)]


@pytest.mark.parametrize("at", ["behind the commit of another", "at the beginning of another"])
def test_a_ctrl_c_amid_others_writes_is_told_to_the_thread_that_does_them(path: str, at: str) -> None:
    """b does the writes of c and d with its own; they do not fit together, because d's is too large."""
    armed, said = threading.Event(), dict[str, object]()
    commits: list[str] = []

    def before(sql: str) -> None:
        if armed.is_set() and at.startswith("at") and sql.startswith("BEGIN") and len(commits) == 3:
            armed.clear()
            raise KeyboardInterrupt

    def after(sql: str) -> None:
        if armed.is_set() and sql == "COMMIT":
            commits.append(sql)
            if at.startswith("behind") and len(commits) == 3:
                armed.clear()
                raise KeyboardInterrupt

    faulty = Faulty(before, after=after)
    inside, queued = threading.Event(), threading.Event()

    def hold(tx: Tx) -> None:
        inside.set()
        assert queued.wait(PATIENCE_S)
        armed.set()

    def work(name: str, fn: Callable[[Tx], object]) -> None:
        try:
            said[name] = store.write(fn)
        except BaseException as error:
            said[name] = type(error)

    with SqliteStore(path, connect=faulty) as store:
        writer = faulty.opened[0]
        (pages,) = writer.execute("PRAGMA page_count").fetchone()
        writer.execute(f"PRAGMA max_page_count={pages + 10}")
        fns: dict[str, Callable[[Tx], object]] = {
            "a": hold, "b": add_task, "c": add_task, "d": lambda tx: add_task(tx, flow="x" * 500_000),
        }  # fmt: skip
        threads = [threading.Thread(target=work, args=each) for each in fns.items()]
        for count, thread in enumerate(threads):
            thread.start()
            assert inside.wait(PATIENCE_S)
            while len(store._writer._queue) < count:
                inside.wait()
        queued.set()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert (said["b"], said["d"]) == (KeyboardInterrupt, StoreFull)
        stored = store.read(lambda tx: tx.execute(select(tasks.c.id).order_by(tasks.c.id)).scalars())
        assert said["c"] in stored
        assert len(stored) == 2


@pytest.mark.requirement("G10")
def test_one_large_value_on_a_full_disk_hurts_no_other(path: str) -> None:
    faulty = Faulty(lambda sql: None)
    with SqliteStore(path, connect=faulty) as store:
        ids = [store.write(add_task) for _ in range(3)]
        (pages,) = faulty.opened[0].execute("PRAGMA page_count").fetchone()
        faulty.opened[0].execute(f"PRAGMA max_page_count={pages + 10}")
        batch = [Append(task, "mine", 0, rows("x")) for task in ids]
        batch[1] = batch[1]._replace(facts=[Row("succeeded", "a", "x" * 500_000, 1.0)])
        answers = store.append(batch)
        assert answers[0] == answers[2] == Appended(1, True)
        assert isinstance(answers[1], StoreFull)
        assert [kinds(store, task) for task in ids] == [["x"], [], ["x"]]


def test_a_disk_that_is_full_at_commit_is_no_disaster(path: str) -> None:
    armed: list[bool] = []
    with SqliteStore(path, connect=Faulty(failing(FULL, at="COMMIT", armed=armed))) as store:
        task = store.write(add_task)
        armed.append(True)
        with pytest.raises(StoreFull):
            store.append([Append(task, "mine", 0, rows("x"))])
        armed.clear()
        assert store.append([Append(task, "mine", 0, rows("y"))]) == [Appended(1, True)]
        assert kinds(store, task) == ["y"]


# --- a disk that fails -------------------------------------------------------------------------------------------


@pytest.mark.requirement("G1")
def test_after_a_failed_sync_nothing_is_acknowledged_any_more(path: str) -> None:
    """A second fsync says yes although the first one's pages are lost, so the process must end."""
    armed: list[bool] = []
    with SqliteStore(path, connect=Faulty(failing(IOERR_FSYNC, at="COMMIT", armed=armed))) as store:
        task = store.write(add_task)
        store.append([Append(task, "mine", 0, rows("x"))])
        armed.append(True)
        with pytest.raises(StoreUnwritable, match="start again"):
            store.append([Append(task, "mine", 1, rows("y"))])
        armed.clear()
        for _ in range(2):
            with pytest.raises(StoreUnwritable, match="start again"):
                store.append([Append(task, "mine", 1, rows("z"))])
            with pytest.raises(StoreUnwritable):
                store.write(add_task)
        assert kinds(store, task) == ["x"]
    with SqliteStore(path) as store:
        assert kinds(store, task) == ["x"]
        assert store.append([Append(task, "mine", 1, rows("y"))]) == [Appended(2, True)]


def test_a_failure_before_the_commit_is_over_with_it(path: str) -> None:
    armed: list[bool] = []
    with SqliteStore(path, connect=Faulty(failing(IOERR_FSYNC, at="INSERT INTO journal", armed=armed))) as store:
        ids = [store.write(add_task) for _ in range(2)]
        armed.append(True)
        with pytest.raises(StoreUnwritable):
            store.append([Append(task, "mine", 0, rows("x")) for task in ids])
        armed.clear()
        assert store.append([Append(task, "mine", 0, rows("x")) for task in ids]) == [Appended(1, True)] * 2


# --- other programs ----------------------------------------------------------------------------------------------


def test_a_file_that_another_program_holds_is_busy(path: str) -> None:
    with SqliteStore(path, busy_timeout_s=0.02) as store:
        task = store.write(add_task)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy, match="another program"):
            store.append([Append(task, "mine", 0, rows("x"))])
        assert task_row(store, task).seq == 0  # reading goes on
        with pytest.raises(StoreBusy):
            open_store(f"sqlite:///{path}", busy_timeout_s=0.02)
        other.execute("ROLLBACK")
        other.close()
        assert store.append([Append(task, "mine", 0, rows("x"))]) == [Appended(1, True)]


def test_busy_within_a_batch_fails_all_of_it(path: str) -> None:
    armed: list[bool] = []
    with SqliteStore(path, connect=Faulty(failing(BUSY, at="INSERT INTO journal", armed=armed))) as store:
        task = store.write(add_task)
        armed.append(True)
        with pytest.raises(StoreBusy):
            store.append([Append(task, "mine", 0, rows("x")), Append(task, "mine", 0, rows("x"))])
        armed.clear()
        assert store.append([Append(task, "mine", 0, rows("x"))]) == [Appended(1, True)]


# --- files -------------------------------------------------------------------------------------------------------


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreUnwritable, match="directory"):
        open_store(f"sqlite:///{tmp_path}/missing/tasks.db")


def test_a_directory_in_the_files_place(tmp_path: Path) -> None:
    (tmp_path / "tasks.db").mkdir()
    with pytest.raises(StoreUnwritable, match=r"tasks\.db"):
        open_store(f"sqlite:///{tmp_path}/tasks.db")


def test_a_file_that_may_not_be_written(path: str) -> None:
    SqliteStore(path).close()

    def read_only(path: str) -> sqlite3.Connection:
        """What a file without the right to write is to the driver; root would have the right."""
        return sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None, check_same_thread=False)

    with SqliteStore(path, connect=read_only) as store:
        assert store.journal(1) == []
        for _ in range(2):
            with pytest.raises(StoreUnwritable, match="permissions"):
                store.write(add_task)


def test_a_file_that_is_no_database(path: str) -> None:
    Path(path).write_bytes(b"Dear Sir or Madam, " * 1000)
    with pytest.raises(StoreCorrupt, match="restore it from a copy"):
        open_store(f"sqlite:///{path}")
    assert Path(path).read_bytes().startswith(b"Dear Sir")


def test_a_database_with_damaged_pages(path: str) -> None:
    with SqliteStore(path) as store:
        ids = [store.write(add_task) for _ in range(40)]
        for task in ids:
            store.append([Append(task, "mine", 0, rows(*"abcdefgh"))])
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole[:4096] + b"\xa5" * (len(whole) - 4096))
    with pytest.raises(StoreCorrupt, match="restore it from a copy"):
        look_at_all(path)


def test_a_cut_file_is_told(path: str) -> None:
    with SqliteStore(path) as store:
        for _ in range(40):
            store.append([Append(store.write(add_task), "mine", 0, rows(*"abcdefgh"))])
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole[: len(whole) // 3])
    with pytest.raises(StoreCorrupt, match="restore it from a copy"):
        look_at_all(path)


def look_at_all(path: str) -> None:
    with SqliteStore(path) as store:
        for task in range(1, 41):
            store.journal(task)
            store.append([Append(task, "mine", 8, rows("x"))])


def test_every_fault_says_what_to_do(path: str) -> None:
    from holdfast.store import faults

    for code in (
        faults.BUSY,
        faults.FULL,
        faults.CORRUPT,
        faults.NOTADB,
        faults.CANTOPEN,
        faults.READONLY,
        faults.IOERR,
    ):
        told = faults.translate(driver_error(code | 256, "NAME"), path)
        assert isinstance(told, WorldError)
        assert path in str(told)
        assert str(told).count(":") >= 1
    assert isinstance(faults.translate(ValueError("mine"), path), ValueError)
    unknown = driver_error(1, "SQLITE_ERROR")
    assert faults.translate(unknown, path) is unknown
