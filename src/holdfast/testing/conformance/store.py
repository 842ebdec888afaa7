"""What every store promises (store/base.py), as tests.

    class TestMine(StoreConformance):
        def make(self) -> Store:
            return MyStore(...)

        def again(self) -> Store | None:       # a second one on the same database; None where there is none
            return MyStore(...)

        def is_waiting(self) -> bool | None:   # whether anybody waits for a lock there; None: that can't be seen
            return ...

`StoreGroups` (store_groups.py) too: what it promises to functions that share a commit; `StoreThreads`
(store_threads.py): to many threads; and `StoreApart` (store_apart.py): to two stores on one database.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Final

import pytest
from sqlalchemy import bindparam, delete, func, insert, select, update

from holdfast.errors import HoldfastClosed, LeaseLost, TaskNotFound, UsageError
from holdfast.store.base import Append, Appended, Conflict, FeedRow, Row, StepRow, Store, Tx
from holdfast.store.schema import feed, journal, plans, steps, tasks

_ADD: Final = insert(tasks).returning(tasks.c.id)
_STEPS: Final = select(steps.c.ord, steps.c.node, steps.c.state, steps.c.ended_at).where(
    steps.c.task == bindparam("_task")
)
_numbers = itertools.count(1)


def add_task(tx: Tx, **columns: Any) -> int:
    """A task that somebody holds with the token "mine"; its id."""
    values = {
        "uuid": f"uuid-{next(_numbers)}",
        "state": "RUNNING",
        "token": "mine",
        "flow": "build",
        "reference": "demo:build",
        "created_at": 1.0,
        "updated_at": 1.0,
    }
    return int(tx.execute(_ADD, values | columns).scalar())


def task_row(store: Store, task: int) -> Any:
    return store.read(lambda tx: tx.execute(select(tasks).where(tasks.c.id == task)).one())


def step_rows(store: Store, task: int) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in store.read(lambda tx: tx.execute(_STEPS, {"_task": task}).all())]


def kinds(store: Store, task: int) -> list[str]:
    return [row.kind for row in store.journal(task)]


def rows(*words: str) -> list[Row]:
    return [Row(word, "build/a", None, 2.0) for word in words]


class Failed(Exception):
    """What a function of a test raises."""


class StoreBase:
    """What the suites share: a store for each test, closed at its end."""

    def make(self) -> Store:
        raise AssertionError("say how to make a store")

    def again(self) -> Store | None:
        return None

    def is_waiting(self) -> bool | None:
        """Whether any transaction in the database waits for another's lock; None: that can't be seen."""
        return None

    @pytest.fixture
    def store(self) -> Iterator[Store]:
        with self.make() as made:
            yield made

    @pytest.fixture
    def task(self, store: Store) -> int:
        return store.write(add_task)


class StoreConformance(StoreBase):
    # --- append ---------------------------------------------------------------------------------------------------

    def test_an_append_is_stored_whole(self, store: Store, task: int) -> None:
        append = Append(
            task, "mine", 0, rows("succeeded"), rows("started"), steps_all=[StepRow(1, "build/a", "RUNNING", 1, 2.0)],
            projection={"state": "WAITING", "completed": 1, "past_pivot": True},
        )  # fmt: skip
        assert store.append([append]) == [Appended(2, True)]
        assert [tuple(row) for row in store.journal(task)] == [
            (1, "succeeded", "build/a", None, 2.0),
            (2, "started", "build/a", None, 2.0),
        ]
        row = task_row(store, task)
        assert (row.seq, row.state, row.completed, row.past_pivot, row.ready) == (2, "WAITING", 1, True, False)
        assert step_rows(store, task) == [(1, "build/a", "RUNNING", None)]

    def test_a_step_row_replaces_the_one_of_its_order(self, store: Store, task: int) -> None:
        for state, ended_at in (("RUNNING", None), ("SUCCEEDED", 3.0)):
            step = StepRow(1, "build/a", state, 1, 2.0, ended_at)
            store.append([Append(task, "mine", task_row(store, task).seq, rows("x"), steps_all=[step])])
        assert step_rows(store, task) == [(1, "build/a", "SUCCEEDED", 3.0)]

    def test_a_stale_token_changes_nothing(self, store: Store, task: int) -> None:
        step = StepRow(1, "build/a", "RUNNING", 1, 2.0)
        stale = Append(task, "another", 0, rows("succeeded"), rows("started"), [step], [step], {"state": "WAITING"})
        for seen in (0, 7):
            (answer,) = store.append([stale._replace(seen=seen)])
            assert isinstance(answer, LeaseLost)
        assert store.journal(task) == []
        assert step_rows(store, task) == []
        assert (task_row(store, task).seq, task_row(store, task).state) == (0, "RUNNING")

    def test_a_task_without_a_token_takes_no_append(self, store: Store) -> None:
        task = store.write(lambda tx: add_task(tx, token=None))
        answers = [store.append([Append(task, token, 0, rows("x"))])[0] for token in ("", "None", "mine")]
        assert all(isinstance(answer, LeaseLost) for answer in answers)

    def test_an_append_to_no_task_is_a_lost_lease(self, store: Store) -> None:
        (answer,) = store.append([Append(999_999, "mine", 0, rows("x"))])
        assert isinstance(answer, LeaseLost)

    def test_what_an_append_tells_is_told_in_order_if_it_is_taken(self, store: Store) -> None:
        ids = [store.write(add_task) for _ in range(3)]
        store.write(lambda tx: tx.record(ids[1], rows("cancel_asked")))

        def news(task: int, *words: str) -> list[FeedRow]:
            return [FeedRow(1.0, word, "p", task, f"tasks/{task}", None, "{}") for word in words]

        store.append([Append(ids[0], "mine", 0, rows("x"), news=news(ids[0], "a", "b"))])
        store.append([Append(task, "mine", 0, rows("x"), rows("y"), news=news(task, "c", "d")) for task in ids[1:]])
        store.append([Append(ids[2], "another", 2, rows("x"), news=news(ids[2], "e"))])
        told = store.read(lambda tx: tx.execute(select(feed.c.task, feed.c.type).order_by(feed.c.id)).all())
        assert [tuple(each) for each in told] == [(ids[0], "a"), (ids[0], "b"), (ids[2], "c"), (ids[2], "d")]

    def test_a_verb_between_keeps_the_facts_and_refuses_the_decisions(self, store: Store, task: int) -> None:
        store.write(
            lambda tx: tx.record(task, [Row("cancel_asked", None, '{"revert": true}', 1.5)], {"reason": "asked"})
        )
        called: list[str] = []
        ended, begun = StepRow(1, "build/a", "SUCCEEDED", 1, 1.0, 2.0), StepRow(2, "build/b", "RUNNING", 1, 2.0)
        append = Append(
            task, "mine", 0, rows("succeeded", "parked"), rows("started"), [ended], [ended, begun],
            {"state": "WAITING"}, [1], then=lambda tx: called.append("then"),
        )  # fmt: skip
        (answer,) = store.append([append])
        assert isinstance(answer, Appended)
        assert (answer.seq, answer.accepted) == (3, False)
        assert [tuple(row) for row in answer.unseen] == [(1, "cancel_asked", None, '{"revert": true}', 1.5)]
        assert kinds(store, task) == ["cancel_asked", "succeeded", "parked"]
        assert step_rows(store, task) == [(1, "build/a", "SUCCEEDED", 2.0)]
        assert (task_row(store, task).state, task_row(store, task).seq, called) == ("RUNNING", 3, [])
        assert store.append([Append(task, "mine", 3, (), rows("turned"))]) == [Appended(4, True)]

    def test_a_verb_between_and_no_facts(self, store: Store, task: int) -> None:
        store.write(lambda tx: tx.record(task, rows("suspend_asked", "resume_asked")))
        (answer,) = store.append([Append(task, "mine", 1, (), rows("started"))])
        assert isinstance(answer, Appended)
        assert (answer.seq, answer.accepted, [row.seq for row in answer.unseen]) == (2, False, [2])

    def test_each_of_a_batch_has_its_own_answer(self, store: Store) -> None:
        ids = [store.write(add_task) for _ in range(6)]
        ids.reverse()
        store.write(lambda tx: tx.record(ids[1], rows("cancel_asked")))

        def fail(tx: Tx) -> None:
            tx.execute(update(tasks).where(tasks.c.id == ids[0]).values(reason="never"))
            raise Failed

        batch = [
            Append(task, "mine", 0, rows("succeeded"), rows("started"), projection={"completed": 1}) for task in ids
        ]
        batch[2] = batch[2]._replace(token="another")
        batch[3] = batch[3]._replace(projection={"state": "SUCCEEDED"})  # without finished_at: breaks a constraint
        batch[4] = batch[4]._replace(then=fail)
        answers = store.append(batch)
        assert answers[0] == answers[5] == Appended(2, True)
        assert isinstance(answers[1], Appended)
        assert not answers[1].accepted
        assert [type(answers[place]) for place in (2, 3, 4)] == [LeaseLost, Conflict, Failed]
        stored = [["succeeded", "started"], ["cancel_asked", "succeeded"], [], [], [], ["succeeded", "started"]]
        assert [kinds(store, task) for task in ids] == stored
        assert [task_row(store, task).completed for task in ids] == [1, 0, 0, 0, 0, 1]
        assert task_row(store, ids[0]).reason is None

    def test_what_fails_alone_is_answered_the_same(self, store: Store, task: int) -> None:
        (answer,) = store.append([Append(task, "mine", 0, rows("x"), projection={"state": "SUCCEEDED"})])
        assert isinstance(answer, Conflict)
        (answer,) = store.append([Append(task, "mine", 0, [Row("x", "\ud800", None, 1.0)])])  # no UTF-8 for it
        assert isinstance(answer, Exception)
        assert store.journal(task) == []
        assert store.append([Append(task, "mine", 0, rows("x"))]) == [Appended(1, True)]

    def test_columns_may_differ_within_a_batch(self, store: Store) -> None:
        ids = [store.write(add_task) for _ in range(4)]
        wanted: list[dict[str, Any] | None] = [None, {"reason": "r"}, {"completed": 3}, {"completed": 4, "reason": "s"}]
        batch = [
            Append(task, "mine", 0, rows("x"), projection=columns) for task, columns in zip(ids, wanted, strict=True)
        ]
        assert store.append(batch) == [Appended(1, True)] * 4
        found = [task_row(store, task) for task in ids]
        assert [(row.completed, row.reason) for row in found] == [(0, None), (0, "r"), (3, None), (4, "s")]

    def test_folded_rows_are_gone(self, store: Store, task: int) -> None:
        store.append([Append(task, "mine", 0, rows("began", "parked", "reentered"))])
        assert store.append([Append(task, "mine", 3, rows("parked"), folded=[2, 3])]) == [Appended(4, True)]
        assert [row.seq for row in store.journal(task)] == [1, 4]

    def test_the_last_act_is_in_the_same_transaction(self, store: Store, task: int) -> None:
        def end(tx: Tx) -> None:
            assert [row.kind for row in tx.journal(task)] == ["ended"]
            tx.execute(insert(plans), {"digest": "d", "outline": "o"})

        columns = {"state": "SUCCEEDED", "finished_at": 2.0, "token": None}
        assert store.append([Append(task, "mine", 0, (), rows("ended"), projection=columns, then=end)])
        assert store.read(lambda tx: tx.execute(select(plans.c.outline)).scalars()) == ["o"]
        (answer,) = store.append([Append(task, "mine", 1, rows("succeeded"))])
        assert isinstance(answer, LeaseLost)

    def test_nothing_to_append(self, store: Store) -> None:
        assert store.append([]) == []

    def test_a_large_value_comes_back(self, store: Store, task: int) -> None:
        data = '"' + "ü" * 300_000 + '"'
        store.append([Append(task, "mine", 0, [Row("succeeded", "build/a", data, 2.0)])])
        assert store.journal(task)[0].data == data

    def test_a_journal_is_read_from_any_place(self, store: Store, task: int) -> None:
        other = store.write(add_task)
        store.append([Append(task, "mine", 0, rows("a", "b", "c")), Append(other, "mine", 0, rows("z"))])
        assert [row.kind for row in store.journal(task, 1)] == ["b", "c"]
        assert store.journal(task, 3) == store.journal(999_999) == []

    # --- write ----------------------------------------------------------------------------------------------------

    def test_a_write_gives_what_its_function_gives(self, store: Store) -> None:
        assert store.write(lambda tx: ("some", tx.execute(select(func.count()).select_from(tasks)).scalar())) == (
            "some",
            0,
        )

    def test_a_write_that_raises_is_undone(self, store: Store) -> None:
        def fail(tx: Tx) -> None:
            add_task(tx)
            raise Failed

        with pytest.raises(Failed):
            store.write(fail)
        with pytest.raises(Conflict):
            store.write(lambda tx: [add_task(tx, uuid="one") for _ in range(2)])
        assert store.read(lambda tx: tx.execute(select(tasks.c.id)).all()) == []

    def test_a_verb_draws_the_next_number(self, store: Store, task: int) -> None:
        assert store.write(lambda tx: tx.record(task, rows("suspend_asked"), {"due_at": 5.0})) == 1
        assert store.write(lambda tx: tx.record(task, rows("resume_asked", "cancel_asked"))) == 3
        assert kinds(store, task) == ["suspend_asked", "resume_asked", "cancel_asked"]
        assert (task_row(store, task).due_at, task_row(store, task).seq) == (5.0, 3)
        with pytest.raises(TaskNotFound):
            store.write(lambda tx: tx.record(999_999, rows("cancel_asked")))

    def test_an_append_inside_a_write(self, store: Store, task: int) -> None:
        assert store.write(lambda tx: tx.append(Append(task, "mine", 0, rows("x")))) == Appended(1, True)
        with pytest.raises(LeaseLost):
            store.write(lambda tx: tx.append(Append(task, "another", 1, rows("x"))))
        assert kinds(store, task) == ["x"]

    def test_insert_new_leaves_what_is_there(self, store: Store) -> None:
        answers = [
            store.write(lambda tx, outline=outline: tx.insert_new(plans, {"digest": "d", "outline": outline}))  # type: ignore[misc]
            for outline in ("first", "second")
        ]
        assert answers == [True, False]
        assert store.read(lambda tx: tx.execute(select(plans)).all()) == [("d", "first")]

    def test_statements_say_how_many_rows_they_changed(self, store: Store) -> None:
        ids = [store.write(add_task) for _ in range(3)]
        change = update(tasks).where(tasks.c.id.in_(bindparam("ids", expanding=True))).values(reason="r")
        assert store.write(lambda tx: tx.execute(change, {"ids": ids[:2]}).rowcount) == 2
        assert store.write(lambda tx: tx.execute(change, {"ids": ids}).rowcount) == 3
        assert store.write(lambda tx: tx.execute(change, {"ids": []}).rowcount) == 0
        back = (
            delete(tasks).where(tasks.c.id == bindparam("_id")).returning(tasks.c.id, tasks.c.past_pivot.label("past"))
        )
        (gone,) = store.write(lambda tx: tx.execute(back, {"_id": ids[0]}).all())
        assert (gone.id, gone.past) == (ids[0], False)
        new = [{"digest": name, "outline": name * 2} for name in "abc"]
        assert store.write(lambda tx: tx.executemany(insert(plans), new)) == 3
        assert store.write(lambda tx: tx.executemany(insert(plans), [])) == 0

    def test_a_write_inside_a_write_is_refused(self, store: Store) -> None:
        with pytest.raises(UsageError, match="inside a write"):
            store.write(lambda tx: store.write(add_task))
        with pytest.raises(UsageError, match="inside a write"):
            store.write(lambda tx: store.journal(1))
        assert store.write(add_task) > 0

    # --- read -----------------------------------------------------------------------------------------------------

    def test_a_read_changes_nothing(self, store: Store) -> None:
        with pytest.raises(UsageError, match="use write"):
            store.read(add_task)
        assert store.read(lambda tx: tx.execute(select(tasks.c.id)).first()) is None
        store.write(add_task)

    def test_rows_have_names(self, store: Store, task: int) -> None:
        count = select(func.count().label("number"), func.max(tasks.c.id)).select_from(tasks)
        row = store.read(lambda tx: tx.execute(count).one())
        assert (row.number, row[1]) == (1, task)
        found = store.read(lambda tx: tx.execute(select(tasks.c.ready, tasks.c.due_at)).first())
        assert found.ready is False
        assert found.due_at is None
        with pytest.raises(ValueError, match="not enough values"):
            store.read(lambda tx: tx.execute(select(journal.c.seq)).one())

    def test_the_same_statement_with_other_values(self, store: Store) -> None:
        ids = [store.write(add_task) for _ in range(4)]
        some = select(tasks.c.id).where(tasks.c.id.in_(bindparam("ids", expanding=True))).order_by(tasks.c.id)
        found = [store.read(lambda tx, n=n: tx.execute(some, {"ids": ids[:n]}).scalars()) for n in range(5)]  # type: ignore[misc]
        assert found == [ids[:n] for n in range(5)]

    # --- who hears of it ------------------------------------------------------------------------------------------

    def test_changes_tells_of_commits(self, store: Store, task: int) -> None:
        seen = store.changes()
        assert store.changes() == seen
        store.append([Append(task, "mine", 0, rows("x"))])
        assert store.changes() != seen

    def test_subscribers_hear_of_the_tasks_touched(self, store: Store, task: int) -> None:
        heard: list[frozenset[int]] = []
        end = store.subscribe(heard.append)
        other = store.write(add_task)
        store.append([Append(task, "mine", 0, rows("x")), Append(other, "mine", 0, rows("x"))])
        store.write(lambda tx: tx.touched(other))
        store.write(lambda tx: tx.record(task, rows("cancel_asked")))
        store.append([Append(task, "another", 1, rows("x"))])
        with pytest.raises(Failed):
            store.write(touch_and_fail)
        end()
        store.write(lambda tx: tx.touched(task))
        assert [touched for touched in heard if touched] == [{task, other}, {other}, {task}]

    def test_a_wait_ends_with_the_time(self, store: Store) -> None:
        seen = store.changes()
        assert store.wait(seen, 0.0) == seen
        assert store.wait(seen, 0.01) == seen
        assert store.wait(seen - 1, 60.0) == seen

    # --- the end --------------------------------------------------------------------------------------------------

    def test_a_closed_store_says_so(self, store: Store, task: int) -> None:
        store.close()
        store.close()
        for call in (
            lambda: store.append([Append(task, "mine", 0, rows("x"))]),
            lambda: store.write(add_task),
            lambda: store.read(add_task),
            lambda: store.journal(task),
        ):
            with pytest.raises(HoldfastClosed):
                call()

    def test_what_was_acknowledged_is_there_again(self, store: Store, task: int) -> None:
        store.append([Append(task, "mine", 0, rows("succeeded"), projection={"completed": 1})])
        second = self.again()
        if second is not None:
            with second:
                assert kinds(second, task) == ["succeeded"]
                assert second.generation == store.generation
                seen = second.changes()
                store.append([Append(task, "mine", 1, rows("ended"))])
                assert second.wait(seen, 60.0) != seen
                (answer,) = second.append([Append(task, "mine", 1, rows("late"))])
                assert isinstance(answer, Appended)
                assert not answer.accepted
        else:
            assert kinds(store, task) == ["succeeded"]


def add_one(tx: Tx) -> int:
    """Once; the second time it breaks a constraint."""
    return add_task(tx, uuid="one")


def touch_and_fail(tx: Tx) -> None:
    tx.touched(1)
    raise Failed
