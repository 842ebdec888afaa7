"""`holdfast db copy`: everything there is, to the other kind of database and back, and it goes on there."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

import holdfast as hf
from holdfast.clock import SYSTEM
from holdfast.errors import CopyRefused, LeaseLost, SchemaOlder
from holdfast.local import Holdfast
from holdfast.seal import new_key
from holdfast.store import is_postgresql, open_store
from holdfast.store.base import Append, Row
from holdfast.tasks import copying, lease, take
from holdfast.tasks.lease import WorkerRow
from tests.postgresql import Databases

DONE: list[str] = []


@hf.step(provides="port")
def make_port(network: str) -> str:
    DONE.append(f"make {network}")
    return f"{network}-1"


@make_port.revert
def drop_port(network: str, port: str | None = None) -> None:
    DONE.append(f"drop {port}")


@hf.step
def approve(ctx: hf.Context) -> hf.WaitFor | None:
    return None if ctx.event else hf.WaitFor("approval")


@hf.step
def use_port(port: str, password: hf.Secret | None = None) -> None:
    DONE.append(f"use {port} {password.reveal() if password else ''}".strip())


build = hf.linear("build", make_port, approve, use_port)
KEY = new_key()


@pytest.fixture(params=["sqlite-sqlite", "sqlite-postgresql", "postgresql-sqlite", "postgresql-postgresql"])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """A database, and where it is to be copied to."""
    DONE.clear()
    kinds = request.param.split("-")
    databases: Databases | None = request.getfixturevalue("postgresql") if "postgresql" in kinds else None
    return tuple(
        databases.fresh() if databases and kind == "postgresql" else f"sqlite:///{tmp_path}/{place}.db"
        for place, kind in zip(("source", "target"), kinds, strict=True)
    )  # type: ignore[return-value]


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    DONE.clear()
    return f"sqlite:///{tmp_path}/source.db", f"sqlite:///{tmp_path}/target.db"


def opened(url: str) -> Holdfast:
    return hf.open(url, secret_key=KEY)


def copy(source: str, target: str, **options: Any) -> dict[str, int]:
    with open_store(source, create=False) as old, open_store(target) as new:
        return copying.copy(
            copying.Side(old, is_postgresql(source)), copying.Side(new, is_postgresql(target)), SYSTEM.time(),
            **{"is_dead": lambda worker: False} | options,
        )  # fmt: skip


def everything(url: str) -> dict[str, list[tuple[Any, ...]]]:
    with open_store(url, create=False) as store:
        return {
            each.name: store.read(
                lambda tx, each=each: [  # type: ignore[misc]
                    tuple(row) for row in tx.execute(select(each).order_by(*each.primary_key.columns)).all()
                ]
            )
            for each in copying.COPIED
        }


def worker_row(now: float, **changes: Any) -> WorkerRow:
    return WorkerRow("w1", "elsewhere", "boot", 1, None, "default", now, now, 60.0)._replace(**changes)


def test_everything_is_there_and_tasks_in_flight_go_on(urls: tuple[str, str]) -> None:
    source, target = urls
    with opened(source) as hold:
        secret = {"network": "a", "password": hf.Secret("s3cret")}
        waiting = hold.submit(build, secret, tag="w", claims=["host/1"])
        queued = hold.submit(build, {"network": "b"}, claims=["host/1"])
        cancelled = hold.submit(build, {"network": "c"})
        hold.schedule("nightly", build, {"network": "e"}, cron="30 2 * * *")
        hold.work(until_idle=True)
        cancelled.cancel()
        hold.work(until_idle=True)
        later = hold.submit(build, {"network": "d"}, start_after=SYSTEM.time() + 3600)
        last = max(task._id for task in hold.tasks())
        views = {task.id: task.view() | {"worker": None} for task in hold.tasks()}
    before = everything(source)
    counts = copy(source, target)
    assert counts == {name: len(rows) for name, rows in before.items() if rows}
    assert everything(source) == before
    assert everything(target) == before  # its workers had left
    with opened(target) as hold:
        assert {task.id: task.view() | {"worker": None} for task in hold.tasks()} == views
        assert hold.submit(build, secret, tag="w", claims=["host/1"]).id == waiting.id
        assert hold.scheduled("nightly").state == "ACTIVE"
        hold.task(waiting.id).deliver("approval")
        hold.task(queued.id).deliver("approval")
        with hold.working():
            hold.task(queued.id).wait(timeout_s=30)
        assert [hold.task(each.id).state for each in (waiting, queued, cancelled, later)] == [
            "SUCCEEDED", "SUCCEEDED", "CANCELLED", "PENDING",
        ]  # fmt: skip
        assert set(DONE[:2]) == {"make a", "make c"}  # side by side
        assert DONE[2:] == ["drop c-1", "use a-1 s3cret", "make b", "use b-1"]
        assert hold.submit(build, {"network": "f"})._id > last


def test_ids_of_tasks_that_are_no_more_are_not_given_again(urls: tuple[str, str]) -> None:
    source, target = urls
    with hf.open(source, retention_s=0.0) as hold:
        gone = [hold.submit(use_port, {"port": "x"}) for _ in range(3)]
        hold.work(until_idle=True)
        assert hold.purge() == 3
    copy(source, target)
    with opened(target) as hold:
        assert hold.submit(use_port, {"port": "y"})._id == gone[-1]._id + 1


def test_what_a_dead_worker_had_is_free_and_its_token_good_for_nothing(urls: tuple[str, str]) -> None:
    source, target = urls
    now = SYSTEM.time()
    with opened(source) as hold:
        hold.submit(make_port, {"network": "a"})
        hold.write(lambda tx, _: lease.register(tx, worker_row(now)))
        (taken,) = hold.write(
            lambda tx, _: (
                take.take(
                    tx, "w1", generation=hold.store.generation, nonce="n", now=now + 1, pool="default", limit=1
                ).tasks
            )
        )
    with pytest.raises(CopyRefused, match="lives: stop it"):
        copy(source, target)
    copy(source, target, is_dead=lambda worker: worker.id == "w1")
    with opened(target) as hold:
        assert taken.token is not None
        said = Append(taken.id, taken.token, taken.seq, facts=[Row("progressed", None, None, now)])
        (answer,) = hold.store.append([said])
        assert isinstance(answer, LeaseLost)
        hold.work(until_idle=True)
        assert [task.state for task in hold.tasks()] == ["SUCCEEDED"]


def test_a_target_that_is_not_empty_is_refused_and_stays_as_it_was(urls: tuple[str, str]) -> None:
    source, target = urls
    for url in urls:
        with opened(url) as hold:
            hold.submit(make_port, {"network": url[:3]})
    before = everything(target)
    with pytest.raises(CopyRefused, match="not empty"):
        copy(source, target)
    assert everything(target) == before


def test_a_drained_worker_that_has_nothing_may_live(files: tuple[str, str]) -> None:
    source, target = files
    now = SYSTEM.time()
    with opened(source) as hold:
        hold.submit(make_port, {"network": "a"})
        hold.write(lambda tx, _: lease.register(tx, worker_row(now, draining_at=now)))
    assert copy(source, target)["tasks"] == 1


def test_what_is_written_meanwhile_is_not_lost_the_copy_is_refused(files: tuple[str, str]) -> None:
    source, target = files
    with opened(source) as hold:
        hold.submit(make_port, {"network": "a"})

        def told(table: str, done: int, total: int) -> None:
            if table == "tasks":
                hold.submit(make_port, {"network": "b"})

        with pytest.raises(CopyRefused, match="somebody wrote"):
            copy(source, target, told=told)
    assert not any(everything(target).values())


def test_many_rows_come_in_their_order_by_parts(files: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = files
    with opened(source) as hold:
        for number in range(25):
            hold.submit(make_port, {"network": str(number)}, tag=f"t{24 - number}")
        hold.work(until_idle=True)
    monkeypatch.setattr(copying, "ROWS", 7)
    seen: list[tuple[str, int, int]] = []
    copy(source, target, told=lambda *said: seen.append(said))
    assert [said for said in seen if said[0] == "tasks"] == [("tasks", done, 25) for done in (7, 14, 21, 25)]
    assert everything(target) == everything(source)


def test_one_of_another_schema_is_refused(files: tuple[str, str]) -> None:
    source, target = files
    opened(source).close()
    with closing(sqlite3.connect(source.removeprefix("sqlite:///"))) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
        connection.commit()
    with pytest.raises(SchemaOlder):
        copy(source, target)
