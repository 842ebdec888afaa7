"""A PostgreSQL that was restored or promoted in the middle of tasks: what a worker remembers is refused, and the tasks
go on as the database has them."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import holdfast as hf
from holdfast.errors import LeaseLost, StoreAway, TaskNotFound
from holdfast.local import Holdfast, Task
from holdfast.local import open as open_database
from holdfast.store.base import Append, Row, Tx
from holdfast.store.postgres import PostgresStore
from holdfast.tasks import lease, row, take
from peers.postgres import Postgres
from tests.worker.house import until

pytestmark = pytest.mark.requirement("G2", "P2")


class Steps:
    """A flow whose steps wait until they may end, and what was entered, with its fence."""

    def __init__(self) -> None:
        self.entered: list[tuple[str, str]] = []
        self.fences: list[int] = []
        self._may: set[str] = set()
        self.flow = hf.linear("copied", *map(self._step, ("first", "second", "third")))

    def _step(self, name: str) -> hf.Step:
        def execute(ctx: hf.Context, task: str) -> None:
            self.entered.append((task, name))
            self.fences.append(ctx.fence)
            while not {name, "all"} & self._may:
                ctx.sleep(0.01)

        return hf.step(execute, name=name)

    def let(self, name: str) -> None:
        self._may.add(name)

    def until_in(self, task: str, name: str, times: int = 1) -> None:
        until(lambda: self.entered.count((task, name)) >= times, lambda: (task, name, times, self.entered))


@pytest.fixture
def place() -> Iterator[Path]:
    """A socket's path may not be long."""
    directory = Path(tempfile.mkdtemp(prefix="hf-pg-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def steps() -> Steps:
    return Steps()


def held(hold: Holdfast, task: Task) -> Any:
    return hold.store.read(lambda tx: row.read(tx, task._id))


def one(tx: Tx) -> object:
    return lease.alive(tx)


def is_refused_all(hold: Holdfast, at: Any, seen: int) -> None:
    """Whoever has that token writes nothing: neither what has happened, nor that it gives the task back."""
    before = hold.store.journal(at.id)
    fact = Row("progress", None, "{}", 0.0)
    for behind in (0, seen, seen + 5):
        (answer,) = hold.store.append([Append(at.id, at.token, behind, facts=[fact])])
        assert isinstance(answer, LeaseLost)
    assert not hold.store.write(lambda tx: take.release(tx, at.id, at.token, due_at=None, now=0.0))
    assert hold.store.journal(at.id)[: len(before)] == before


def goes_on(hold: Holdfast, steps: Steps, task: Task, old: Any) -> None:
    """The task goes on where the database has it, under a greater fence than any before."""
    steps.until_in("a", "second", 2)
    assert steps.fences[-1] > old.epoch + 1000
    steps.let("all")
    assert task.wait(60).state == "SUCCEEDED"
    assert Counter(steps.entered)["a", "first"] == 1
    seqs = [each.seq for each in hold.store.journal(task._id)]
    assert seqs == sorted(set(seqs))
    assert hold.submit(steps.flow, {"task": "later"}).wait(60).state == "SUCCEEDED"


@pytest.mark.parametrize("version", [15, 18])
def test_to_a_point_in_time_with_tasks_at_work(place: Path, steps: Steps, version: int) -> None:
    archive = place / "archive"
    archive.mkdir()
    keeps = f"archive_mode = on\narchive_command = 'cp %p {archive}/%f'\n"
    finds = (
        f"archive_mode = off\nrestore_command = 'cp {archive}/%f %p'\nrecovery_target_name = 'here'\n"
        "recovery_target_action = 'promote'\nhot_standby = off\n"
    )
    with Postgres(place / "pg", version=version, settings=keeps) as server:
        url = server.make("tasks")
        open_database(url).close()
        copy = server.copy(place / "copy", settings=finds)
        (place / "copy" / "data" / "recovery.signal").touch()
        with open_database(url, flows=[steps.flow], lease_s=4.0, heartbeat_s=1.0) as hold, hold.working():
            steps.let("first")
            task = hold.submit(steps.flow, {"task": "a"})
            steps.until_in("a", "second")
            old, generation = held(hold, task), hold.store.generation
            server.execute("SELECT pg_create_restore_point('here')")
            steps.let("second")
            steps.until_in("a", "third")
            lost = hold.submit(steps.flow, {"task": "lost"})
            steps.until_in("lost", "third")
            seen = held(hold, task).seq
            steps._may.discard("second")
            server.execute("SELECT pg_switch_wal()")
            until(lambda: server.execute("SELECT last_archived_wal FROM pg_stat_archiver WHERE failed_count = 0")[0][0])
            server.kill()
            copy.port = server.port
            with copy:
                until(lambda: hold.store.generation != generation)
                is_refused_all(hold, old, seen)
                with pytest.raises(TaskNotFound):
                    hold.task(lost.id)
                goes_on(hold, steps, task, old)


@pytest.mark.parametrize("loses", [False, True], ids=["nothing-lost", "commits-lost"])
def test_a_standby_is_promoted_with_tasks_at_work(place: Path, steps: Steps, loses: bool) -> None:
    with Postgres(place / "pg") as server:
        server.make("tasks")
        standby = server.copy(place / "copy", standby=True)
        with standby:
            url = (
                f"postgresql://postgres@127.0.0.1:{server.port},127.0.0.1:{standby.port}/tasks"
                "?target_session_attrs=read-write"
            )
            with open_database(url, flows=[steps.flow], lease_s=4.0, heartbeat_s=1.0) as hold, hold.working():
                steps.let("first")
                task = hold.submit(steps.flow, {"task": "a"})
                steps.until_in("a", "second")
                old, generation = held(hold, task), hold.store.generation
                caught_up(server)
                if loses:
                    standby.execute("ALTER SYSTEM SET primary_conninfo = ''")
                    standby.execute("SELECT pg_reload_conf()")
                    until(lambda: not server.execute("SELECT 1 FROM pg_stat_replication"))
                    steps.let("second")
                    steps.until_in("a", "third")
                    lost = hold.submit(steps.flow, {"task": "lost"})
                    steps.until_in("lost", "third")
                    steps._may.discard("second")
                seen = held(hold, task).seq
                server.kill()
                standby.promote()
                until(lambda: hold.store.generation != generation)
                is_refused_all(hold, old, seen)
                if loses:
                    with pytest.raises(TaskNotFound):
                        hold.task(lost.id)
                goes_on(hold, steps, task, old)


def caught_up(server: Postgres) -> None:
    until(
        lambda: server.execute(
            "SELECT 1 FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_lsn() AND state = 'streaming'"
        )
    )


@pytest.mark.parametrize("asks", [PostgresStore.write, PostgresStore.read])
def test_a_disk_that_was_set_back_is_found_by_the_numbers_of_commits(place: Path, asks: Callable[..., object]) -> None:
    """Its server, its timeline and its tables are the same; but it lacks what a process was told it has."""
    with Postgres(place / "pg") as server, PostgresStore(server.make("tasks")) as store:
        store.write(one)
        server.stop()
        shutil.copytree(server.data, place / "snapshot")
        server.start()
        generation = store.generation
        for _ in range(3):
            store.write(one)
        assert store.generation == generation, "a server that was only started again has lost nothing"
        server.kill()
        shutil.rmtree(server.data)
        shutil.move(place / "snapshot", server.data)
        server.start()
        asks(store, one)
        store.write(one)
        assert store.generation != generation
        with PostgresStore(server.url("tasks")) as other:
            assert other.generation == store.generation


def test_a_dump_that_is_read_in_is_another_database(place: Path) -> None:
    with Postgres(place / "pg") as server:
        url = server.make("tasks")
        with PostgresStore(url) as store:
            generation = store.generation
        copied = server.make("copied", template="tasks")
        with PostgresStore(copied) as store:
            assert store.generation != generation
        with PostgresStore(url) as store:
            assert store.generation == generation


def test_what_a_managed_server_does_not_tell_is_left_out(place: Path) -> None:
    with Postgres(place / "pg") as server:
        server.make("tasks")
        for function in ("pg_control_system()", "pg_walfile_name(pg_lsn)"):
            server.execute(f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC", "tasks")
        server.execute("CREATE ROLE tenant LOGIN; GRANT ALL ON SCHEMA public TO tenant", "tasks")
        url = server.url("tasks").replace("postgres@", "tenant@")
        with PostgresStore(url) as store, PostgresStore(url, look_s=0.05) as other:
            store.write(one)
            assert server.execute("SELECT place LIKE '-/-/%' FROM store_info", "tasks") == [(True,)]
            generation = store.begin_anew()
            other.changes()
            until(lambda: other.generation == generation)
        with PostgresStore(server.url("tasks")) as told, PostgresStore(url) as store:
            assert told.generation == store.generation == generation, "who is told more has nothing to compare it with"


def test_nobody_works_on_a_standby(place: Path) -> None:
    with Postgres(place / "pg") as server:
        url = server.make("tasks")
        PostgresStore(url).close()
        with server.copy(place / "copy", standby=True) as standby:
            with pytest.raises(StoreAway):
                PostgresStore(standby.url("tasks"))
            standby.promote()
            until(lambda: standby.execute("SELECT pg_is_in_recovery()") == [(False,)])
            with PostgresStore(url) as before, PostgresStore(standby.url("tasks")) as after:
                assert before.generation != after.generation
