"""A file that was restored: what a process remembers of the other one is refused, and who has that one still open
writes nothing that would be lost."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from holdfast.clock import Clock
from holdfast.errors import LeaseLost, StoreReplaced
from holdfast.settings import Settings
from holdfast.store import history, open_store
from holdfast.store.base import Append, Row, Store
from holdfast.tasks import lease, row, take
from holdfast.testing.conformance.store import add_task
from holdfast.worker.lease import Lease
from tests.worker.house import until

pytestmark = pytest.mark.requirement("G2")
FACT = Row("progress", None, "{}", 0.0)


def backup(path: Path) -> Path:
    """As `sqlite3 tasks.db ".backup copy.db"` makes it."""
    copy = path.with_name("copy.db")
    source, target = sqlite3.connect(path), sqlite3.connect(copy)
    source.backup(target)
    source.close()
    target.close()
    return copy


def put_back(copy: Path, path: Path) -> None:
    """As a new file, without what is left of the old one."""
    for name in ("-wal", "-shm"):
        path.with_name(path.name + name).unlink(missing_ok=True)
    shutil.copy(copy, path.with_name("restoring.db"))
    os.replace(path.with_name("restoring.db"), path)


def worker_of(store: Store) -> Lease:
    made = Lease(store, Clock(), Settings.load(), "default", threaded=False)
    made.register(Clock().time())
    return made


def taken(store: Store, worker: Lease, task: int) -> row.TaskRow:
    now = Clock().time()
    (found,) = store.write(
        lambda tx: (
            take.take(
                tx, worker.id, generation=store.generation, nonce="n", now=now, limit=1, pool="default", only=[task]
            ).tasks
        )
    )
    return found


def test_a_copy_has_another_generation_and_refuses_the_tokens_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    with open_store(f"sqlite:///{path}") as store:
        task = store.write(lambda tx: add_task(tx, due_at=1.0, ready=True, token=None))
        worker = worker_of(store)
        old, generation = taken(store, worker, task), store.generation
    copy = backup(path)
    put_back(copy, path)
    with open_store(f"sqlite:///{path}") as store:
        assert store.generation != generation
        (answer,) = store.append([Append(task, old.token or "", old.seq, facts=[FACT])])
        assert isinstance(answer, LeaseLost)
        (dead,) = store.read(lease.alive)
        assert dead.id == worker.id
        assert store.write(lambda tx: lease.mark_dead(tx, dead.id, Clock().time())) == [task]
        again = taken(store, worker_of(store), task)
        assert again.epoch >= history.floor(store.generation) > old.epoch
        (stored,) = store.append([Append(task, again.token or "", again.seq, facts=[FACT])])
        assert not isinstance(stored, Exception)
        generation = store.generation
    with open_store(f"sqlite:///{path}") as store:
        assert store.generation == generation, "it is not restored each time that it is opened"


def test_who_has_a_file_open_that_was_replaced_writes_nothing_more(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    with open_store(f"sqlite:///{path}") as store:
        task = store.write(lambda tx: add_task(tx))
        put_back(backup(path), path)
        until(lambda: isinstance(refused(store), StoreReplaced))
        assert store.broken
        with open_store(f"sqlite:///{path}") as restored:
            assert restored.journal(task) == []


def refused(store: Store) -> Exception | None:
    try:
        store.write(lease.alive)
    except StoreReplaced as error:
        return error
    return None


def test_a_worker_hears_that_somebody_has_said_so_and_is_another_then(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/tasks.db"
    with open_store(url) as store, open_store(url) as other:
        task = store.write(lambda tx: add_task(tx, due_at=1.0, ready=True, token=None))
        worker = worker_of(store)
        lost: list[object] = []
        worker._on_lost = lost.append
        old, before = taken(store, worker, task), worker.id
        generation = other.begin_anew()
        (answer,) = store.append([Append(task, old.token or "", old.seq, facts=[FACT])])
        assert isinstance(answer, LeaseLost), "whether or not it has heard of it"
        until(lambda: (store.write(lease.alive), store.generation == generation)[1])
        worker.turn(Clock().time())
        assert lost == [None]
        assert worker.id != before
        worker.register(Clock().time())
        assert {each.id for each in store.read(lease.alive)} == {before, worker.id}
        assert store.read(lambda tx: row.read(tx, task)).worker_id == before, "until its lease has run out"


def test_what_only_grows_goes_on_above_what_was_forgotten(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/tasks.db"
    with open_store(url) as store:
        assert history.floor(store.generation) == 1
        first, second = store.begin_anew(), store.begin_anew()
        assert first != second
        assert 1 < history.floor(first) <= history.floor(second) < 2**31


@pytest.mark.parametrize("seen", [6, 9])
def test_a_worker_that_remembers_more_than_there_is_stores_nothing(tmp_path: Path, seen: int) -> None:
    """Whatever its token: the facts would get numbers that lie behind a hole."""
    with open_store(f"sqlite:///{tmp_path}/tasks.db") as store:
        task = store.write(lambda tx: add_task(tx, token="t", seq=5))
        (answer,) = store.append([Append(task, "t", seen, facts=[FACT])])
        assert isinstance(answer, LeaseLost)
        (behind,) = store.append([Append(task, "t", 4, facts=[FACT])])
        assert getattr(behind, "seq", None) == 6
