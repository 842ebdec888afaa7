"""What a store promises to functions that share a commit, and of rows that wait for it, as tests; see store.py beside
it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import pytest
from sqlalchemy import bindparam, func, select, update

from holdfast.errors import LeaseLost
from holdfast.store.appends import FEED
from holdfast.store.base import LOCKS, Append, Appended, Conflict, Into, Joint, Store, Tx
from holdfast.store.schema import feed, plans, queues, tasks
from holdfast.testing.conformance.store import Failed, StoreBase, add_one, add_task, rows, task_row, touch_and_fail

_PLANS: Final = Into(plans, "digest", "outline")
_DIGESTS: Final = select(plans.c.digest).order_by(plans.c.digest)
_LOCKED: Final = (
    update(tasks)
    .where(tasks.c.id == bindparam("_task"))
    .values(seq=tasks.c.seq)
    .returning(tasks.c.id)
    .execution_options(**{LOCKS: True})
)


class StoreGroups(StoreBase):
    def test_statements_together_have_an_answer_each(self, store: Store) -> None:
        task = store.write(add_task)
        wanted = select(tasks.c.state).where(tasks.c.id == bindparam("_task"))
        change = update(tasks).where(tasks.c.id == bindparam("_task"))

        def work(tx: Tx) -> list[Any]:
            none, changed, some = tx.execute_all(
                (wanted, {"_task": 0}), (change, {"_task": task, "reason": "r"}), (wanted, {"_task": task})
            )
            return [none.first(), changed.rowcount, some.scalar()]

        assert store.write(work) == [None, 1, "RUNNING"]
        assert store.read(lambda tx: tx.execute_all((wanted, {"_task": task}))[0].scalar()) == "RUNNING"
        assert task_row(store, task).reason == "r"

    def test_many_writes_in_one_commit_each_with_its_own_answer(self, store: Store) -> None:
        heard: list[frozenset[int]] = []
        end = store.subscribe(heard.append)
        asked: list[Callable[[Tx], object]] = [add_task, touch_and_fail, add_one, add_one, add_task]
        answers = store.write_all(asked)
        end()
        assert [type(answer) for answer in answers] == [int, Failed, int, Conflict, int]
        assert heard == [frozenset()]  # one commit, and what failed has touched nothing
        (alone,) = store.write_all([touch_and_fail])
        assert isinstance(alone, Failed)
        assert store.write_all([]) == []
        assert len(store.read(lambda tx: tx.execute(select(tasks.c.id)).all())) == 3

    def test_who_raises_before_he_writes_has_nobody_run_again(self, store: Store) -> None:
        runs: list[str] = []

        def look(tx: Tx) -> None:
            runs.append("look")
            tx.execute(_LOCKED, {"_task": 1})
            raise Failed

        def write(tx: Tx) -> int:
            runs.append("write")
            return add_task(tx)

        asked: list[Callable[[Tx], object]] = [write, look, write]
        answers = store.write_all(asked)
        assert [type(answer) for answer in answers] == [int, Failed, int]
        assert runs == ["write", "look", "write"]
        assert len(store.read(lambda tx: tx.execute(select(tasks.c.id)).all())) == 2

    def test_what_is_held_around_functions_is_let_go_before_their_commit(self, store: Store) -> None:
        told: list[str] = []

        @contextmanager
        def held() -> Iterator[None]:
            told.append("held")
            yield
            told.append("let go")

        def write(tx: Tx) -> None:
            told.append("written")
            add_task(tx)

        end = store.subscribe(lambda tasks: told.append("committed"))
        store.write_all([write, touch_and_fail, write], held())
        end()
        told = [word for place, word in enumerate(told) if told[place - 1 : place] != [word]]
        written = ["written", "committed"]
        assert told in (written, ["held", "written", "let go", "committed"])  # a server's statements run elsewhere

    def test_rows_that_are_gathered(self, store: Store) -> None:
        def add(tx: Tx, *digests: str) -> None:
            for digest in digests:
                tx.add(_PLANS, (digest, digest * 2))

        def look(tx: Tx) -> list[str]:
            add(tx, "a", "b")
            tx.execute(select(func.count()).select_from(tasks))
            return list(tx.execute(_DIGESTS).scalars())

        assert store.write(look) == ["a", "b"]

        def fail(tx: Tx) -> None:
            add(tx, "c")
            raise Failed

        def fail_late(tx: Tx) -> None:
            add(tx, "d")
            tx.execute(_DIGESTS)
            raise Failed

        asked: list[Callable[[Tx], object]] = [
            lambda tx: add(tx, "e"), fail, lambda tx: add(tx, "f", "g"), fail_late, lambda tx: add(tx, "a"), add_task,
        ]  # fmt: skip
        answers = store.write_all(asked)
        assert [type(answer) for answer in answers] == [type(None), Failed, type(None), Failed, Conflict, int]
        for raising in (fail, fail_late):
            with pytest.raises(Failed):
                store.write(raising)
        with pytest.raises(Conflict):
            store.write(lambda tx: add(tx, "h", "a"))
        assert store.read(lambda tx: tx.execute(_DIGESTS).scalars()) == ["a", "b", "e", "f", "g"]

    def test_many_rows_that_are_gathered(self, store: Store) -> None:
        names = [f"{number:03}" for number in range(100)]

        def add(tx: Tx, *some: str) -> None:
            for name in some:
                tx.add(_PLANS, (name, name))
                tx.add(FEED, (1.0, "t", "p", None, name, None, "{}"))

        store.write(lambda tx: add(tx, *names[:50]))
        asked: list[Callable[[Tx], object]] = [lambda tx, name=name: add(tx, name) for name in names[50:]]  # type: ignore[misc]
        answers = store.write_all([*asked[:30], lambda tx: add(tx, names[7]), *asked[30:]])
        assert [place for place, answer in enumerate(answers) if isinstance(answer, Conflict)] == [30]
        assert store.read(lambda tx: tx.execute(_DIGESTS).scalars()) == names
        subjects = select(feed.c.subject).order_by(feed.c.id)
        assert store.read(lambda tx: tx.execute(subjects).scalars()) == names, "in the order in which they were added"

    def test_a_row_that_is_inserted_tells_its_id(self, store: Store) -> None:
        def add(tx: Tx) -> int:
            return tx.insert(feed, {"at": 1.0, "type": "t", "project_id": "p", "subject": "s", "data": "{}"})

        made = store.write(lambda tx: [add(tx), add(tx)])
        assert store.read(lambda tx: tx.execute(select(feed.c.id).order_by(feed.c.id)).scalars()) == made

    def test_rows_gathered_by_the_last_act_of_an_append(self, store: Store, task: int) -> None:
        other = store.write(add_task)

        def end(tx: Tx) -> None:
            tx.add(_PLANS, ("d", "o"))

        batch = [Append(task, "mine", 0, rows("x"), then=end), Append(other, "another", 0, rows("x"), then=end)]
        done, lost = store.append(batch)
        assert done == Appended(1, True)
        assert isinstance(lost, LeaseLost)
        assert store.read(lambda tx: tx.execute(_DIGESTS).scalars()) == ["d"]

    def test_what_appends_do_together_is_done_once_and_again_for_those_that_are_taken(
        self, store: Store, task: int
    ) -> None:
        others = [store.write(add_task) for _ in range(2)]
        done: list[list[int]] = []

        def end(tx: Tx, ones: Sequence[int]) -> None:
            done.append(list(ones))
            for one in ones:
                tx.add(_PLANS, (f"d{one}", "o"))

        batch = [Append(each, "mine", 0, rows("x"), then=Joint(end, each)) for each in (others[1], task, others[0])]
        assert store.append(batch) == [Appended(1, True)] * 3
        assert done == [[task, *others]]
        batch = [one._replace(seen=1, token=token, then=Joint(end, number)) for one, token, number in zip(
            batch, ("mine", "another", "mine"), (7, 8, 9), strict=True)]  # fmt: skip
        first, lost, second = store.append(batch)
        assert (first, second) == (Appended(2, True), Appended(2, True))
        assert isinstance(lost, LeaseLost)
        assert done[1:] == [[9], [7]], "one by one, in the order of their tasks"

    def test_numbers_are_drawn_from_a_row_that_is_made_for_it(self, store: Store) -> None:
        def take(tx: Tx) -> int:
            return tx.draw(queues, {"resource": "r", "next_ticket": 2}, "next_ticket")

        assert store.write(lambda tx: [take(tx), take(tx)]) == [2, 3]
        asked: list[Callable[[Tx], object]] = [take, touch_and_fail, take]
        first, failed, second = store.write_all(asked)
        assert (first, type(failed), second) == (4, Failed, 5)
        assert store.read(lambda tx: tx.execute(select(queues)).all()) == [("r", 5)]
