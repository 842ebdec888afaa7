"""What a store promises to many threads, as tests; see store.py beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

import pytest
from sqlalchemy import bindparam, select, update

from holdfast.errors import HoldfastClosed, LeaseLost
from holdfast.store.base import Append, Appended, Store, Tx
from holdfast.store.schema import tasks
from holdfast.testing.conformance.store import StoreBase, add_task, kinds, rows, task_row

#: How long a test waits for what must happen. Long, for slow machines: only a test that fails waits for it.
PATIENCE_S: Final = 30.0

_COUNT = update(tasks).where(tasks.c.id == bindparam("_task")).values(completed=tasks.c.completed + 1)


def together(count: int, work: Callable[[int], None]) -> None:
    """Run `work(0)` … on threads that begin at once. Raises what the first that failed has raised."""
    ready = threading.Barrier(count)
    failed: list[BaseException] = []

    def body(number: int) -> None:
        try:
            ready.wait(PATIENCE_S)
            work(number)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=body, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert not any(thread.is_alive() for thread in threads), "a thread waits for ever"
    if failed:
        raise failed[0]


class StoreThreads(StoreBase):
    def test_every_write_happens_once(self, store: Store, task: int) -> None:
        def work(number: int) -> None:
            for _ in range(25):
                store.write(lambda tx: tx.execute(_COUNT, {"_task": task}))

        together(8, work)
        assert task_row(store, task).completed == 200

    def test_one_that_fails_hurts_no_other(self, store: Store, task: int) -> None:
        told: list[int] = []

        def fail(tx: Tx) -> None:
            tx.execute(_COUNT, {"_task": task})
            raise ValueError("mine alone")

        def work(number: int) -> None:
            for _ in range(20):
                if number % 2:
                    store.write(lambda tx: tx.execute(_COUNT, {"_task": task}))
                else:
                    with pytest.raises(ValueError, match="mine alone"):
                        store.write(fail)
                    told.append(number)

        together(6, work)
        assert (task_row(store, task).completed, len(told)) == (60, 60)

    def test_each_commit_is_timed_and_nothing_else(self, store: Store, task: int) -> None:
        seconds: list[float] = []
        end = store.time_commits(seconds.append)

        def fail(tx: Tx) -> None:
            tx.execute(_COUNT, {"_task": task})
            raise ValueError("undone")

        for _ in range(3):
            store.write(lambda tx: tx.execute(_COUNT, {"_task": task}))
        with pytest.raises(ValueError, match="undone"):
            store.write(fail)
        store.read(lambda tx: tx.journal(task))
        assert len(seconds) == 3
        assert all(each > 0 for each in seconds)
        end()
        store.write(lambda tx: tx.execute(_COUNT, {"_task": task}))
        assert len(seconds) == 3

    def test_appends_of_many_threads_keep_each_journal_whole(self, store: Store) -> None:
        ids = [store.write(add_task) for _ in range(6)]

        def work(number: int) -> None:
            for seen in range(0, 40, 2):
                assert store.append([Append(ids[number], "mine", seen, rows("a"), rows("b"))]) == [
                    Appended(seen + 2, True)
                ]

        together(6, work)
        assert all(kinds(store, task) == ["a", "b"] * 20 for task in ids)

    def test_of_verb_and_end_one_wins(self, store: Store) -> None:
        """G7: for each task either the end was accepted and the verb finds it final, or the end was refused."""
        ids = [store.write(add_task) for _ in range(20)]
        accepted: dict[int, bool] = {}
        in_time: dict[int, bool] = {}

        def cancel(tx: Tx, task: int) -> bool:
            state = tx.execute(select(tasks.c.state).where(tasks.c.id == task).with_for_update()).scalar()
            if state == "RUNNING":
                tx.record(task, rows("cancel_asked"))
            return bool(state == "RUNNING")

        def work(number: int) -> None:
            for task in ids:
                if number:
                    in_time[task] = store.write(lambda tx, task=task: cancel(tx, task))  # type: ignore[misc]
                else:
                    end = {"state": "SUCCEEDED", "finished_at": 2.0}
                    (answer,) = store.append([Append(task, "mine", 0, (), rows("ended"), projection=end)])
                    assert isinstance(answer, Appended)
                    accepted[task] = answer.accepted

        together(2, work)
        assert [accepted[task] for task in ids] == [not in_time[task] for task in ids]

    def test_a_take_over_fences_the_appends_on_their_way(self, store: Store, task: int) -> None:
        """G2: after the take-over's commit nothing of the old token is stored."""
        length: list[int] = []

        def work(number: int) -> None:
            if number:
                store.write(lambda tx: tx.execute(update(tasks).values(token="theirs", epoch=1)))
                length.append(len(store.journal(task)))
                return
            for seen in range(500):
                (answer,) = store.append([Append(task, "mine", seen, rows("a"))])
                if isinstance(answer, LeaseLost):
                    return
            raise AssertionError("it was never fenced")

        together(2, work)
        assert [len(store.journal(task))] == length

    def test_a_read_sees_one_snapshot(self, store: Store, task: int) -> None:
        """A write that comes meanwhile is either not seen or waits; the read's two looks agree."""
        looked, written = threading.Event(), threading.Event()
        found: list[int] = []

        def look(tx: Tx) -> None:
            found.append(tx.execute(select(tasks.c.completed)).scalar())
            looked.set()
            written.wait(0.2)  # in memory the write waits for us instead
            found.append(tx.execute(select(tasks.c.completed)).scalar())

        def work(number: int) -> None:
            if number:
                assert looked.wait(PATIENCE_S)
                store.write(lambda tx: tx.execute(_COUNT, {"_task": task}))
                written.set()
            else:
                store.read(look)

        together(2, work)
        assert found == [0, 0]
        assert task_row(store, task).completed == 1

    def test_a_waiting_thread_is_woken_by_a_commit(self, store: Store, task: int) -> None:
        seen = store.changes()

        def work(number: int) -> None:
            if number:
                store.write(lambda tx: tx.execute(_COUNT, {"_task": task}))
            else:
                assert store.wait(seen, PATIENCE_S) != seen

        together(2, work)

    def test_closing_wakes_who_waits(self, store: Store) -> None:
        waiting = threading.Event()

        def work(number: int) -> None:
            if number:
                assert waiting.wait(PATIENCE_S)
                store.close()
                return
            seen = store.changes()
            waiting.set()
            with pytest.raises(HoldfastClosed):
                store.wait(seen, PATIENCE_S)

        together(2, work)
        with pytest.raises(HoldfastClosed):
            store.changes()

    def test_closing_waits_for_what_is_being_written(self, store: Store, task: int) -> None:
        inside, ended = threading.Event(), threading.Event()
        order: list[str] = []

        def slow(tx: Tx) -> None:
            inside.set()
            ended.wait(0.05)
            tx.execute(_COUNT, {"_task": task})
            order.append("written")

        def work(number: int) -> None:
            if number:
                assert inside.wait(PATIENCE_S)
                store.close()
                order.append("closed")
            else:
                store.write(slow)

        together(2, work)
        assert order == ["written", "closed"]
        with pytest.raises(HoldfastClosed):
            store.write(add_task)
