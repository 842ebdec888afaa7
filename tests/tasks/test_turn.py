"""Who is next: the most urgent, then the projects in turn, then who waits longest; and what that costs."""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.store.sqlite import SqliteStore
from holdfast.tasks import lease, pools, take, turn
from holdfast.tasks.row import TaskRow
from tests.tasks.desk import Desk, take_as


@pytest.fixture
def desk(store: SqliteStore) -> Desk:
    return Desk(store)


def taken(desk: Desk, limit: int = 100, after: str = "", worker: str = "w") -> list[TaskRow]:
    now = desk.tick()
    return desk.store.write(
        lambda tx: take_as(tx, worker, generation="g", nonce="n", now=now, limit=limit, pool="default", after=after)
    )


def projects(found: list[TaskRow]) -> list[str]:
    return [at.project_id for at in found]


def test_a_project_with_many_does_not_hold_up_one_with_few(desk: Desk) -> None:
    for _ in range(30):
        desk.submit(project_id="many")
    few = [desk.submit(project_id="few") for _ in range(2)]
    found = taken(desk, limit=6)
    assert Counter(projects(found)) == {"many": 4, "few": 2}
    assert {at.id for at in found} >= set(few)
    assert projects(taken(desk)) == ["many"] * 26, "and when it has no more, the other has it all"


def test_a_place_goes_to_the_project_with_the_fewest_running(desk: Desk) -> None:
    """However long the tasks of the other take."""
    for _ in range(10):
        desk.submit(project_id="slow")
    first = taken(desk, limit=4)
    assert projects(first) == ["slow"] * 4
    for _ in range(10):
        desk.submit(project_id="quick")
    second = taken(desk, limit=3)
    assert projects(second) == ["quick"] * 3
    desk.end(second[0].id)
    assert projects(taken(desk, limit=1)) == ["quick"]
    desk.end(first[0].id)
    assert projects(taken(desk, limit=1)) == ["quick"], "3 against 3: and then in turn"
    desk.end(first[1].id)
    assert projects(taken(desk, limit=1)) == ["slow"]


def test_equals_take_turns_behind_the_one_that_was_served_last(desk: Desk) -> None:
    for _ in range(3):
        for name in ("a", "b", "c"):
            desk.submit(project_id=name)
    seen, after = "", ""
    for _ in range(9):
        (at,) = taken(desk, limit=1, after=after)
        after = at.project_id
        seen += after
        desk.end(at.id)
    assert seen == "abcabcabc"


@pytest.mark.parametrize("number", [6, 3 * turn.PAGE])
def test_whatever_language_orders_the_names_each_has_its_turn(desk: Desk, number: int) -> None:
    """A server's order of names need not be Python's: `a` comes before `B`, and `team-b` before `teama`."""
    names = [f"{word}{place}" for place in range(number // 6) for word in ("a", "B", "c", "team-a", "teamb", "Z")]
    for name in names:
        desk.submit(project_id=name)
    for after in names:
        (at,) = taken(desk, limit=1, after=after)
        desk.submit(project_id=at.project_id)
        desk.end(at.id)
    seen, after = [], names[0]
    while found := taken(desk, limit=1, after=after):
        after = found[0].project_id
        seen.append(after)
        desk.end(found[0].id)
    assert sorted(seen) == sorted(names)
    last = desk.submit(project_id="a0")
    for after in names:
        (at,) = taken(desk, after=after)
        assert at.id == last
        desk.store.write(lambda tx, at=at: take.release(tx, at.id, at.token or "", due_at=desk.now, now=desk.now))  # type: ignore[misc]


def test_urgency_comes_before_turns(desk: Desk) -> None:
    desk.submit(project_id="a")
    urgent = [desk.submit(project_id="b", priority=7) for _ in range(3)]
    assert [at.id for at in taken(desk, limit=3)] == urgent


def test_what_was_begun_is_gone_on_with_before_another_begins(desk: Desk) -> None:
    old, new = desk.submit(), desk.submit()
    (at,) = taken(desk, limit=1)
    assert (at.id, at.begun) == (old, True)
    desk.store.write(lambda tx: take.release(tx, old, at.token or "", due_at=desk.now + 1, now=desk.now))
    assert [at.id for at in taken(desk, limit=1)] == [old]
    desk.store.write(lambda tx: lease.mark_dead(tx, "w", desk.now))
    assert [at.id for at in taken(desk, worker="v")] == [old, new]


def test_however_many_look_again_and_again_what_is_new_begins(desk: Desk) -> None:
    looking = [desk.submit() for _ in range(10)]
    for at in taken(desk):
        desk.store.write(lambda tx, at=at: take.release(tx, at.id, at.token or "", due_at=desk.now, now=desk.now))  # type: ignore[misc]
    new = [desk.submit() for _ in range(3)]
    assert [at.id for at in taken(desk, limit=4)] == [looking[0], new[0], looking[1], new[1]]
    assert [at.id for at in taken(desk)] == [looking[2], new[2], *looking[3:]]


def test_what_is_due_later_stands_in_nobodys_way(desk: Desk) -> None:
    later = desk.submit(project_id="a", start_after=1e9, priority=9)
    also = desk.submit(project_id="b", start_after=1e9)
    due = desk.submit(project_id="b")
    assert desk.store.read(lambda tx: take.peek(tx, now=desk.now, pool="default").any)
    assert [at.id for at in taken(desk)] == [due]
    assert not desk.store.read(lambda tx: take.peek(tx, now=desk.now, pool="default").any)
    assert (desk.row(later).worker_id, desk.row(also).worker_id) == (None, None)


def test_more_projects_than_are_looked_at_at_once(desk: Desk) -> None:
    """Their number is no multiple of a page or a window."""
    number = turn.WINDOW * 2 + turn.PAGE + 3
    for place in range(number):
        desk.submit(project_id=f"p{place:03}")
        if place % 3 == 0:
            desk.submit(project_id=f"p{place:03}", start_after=1e9)
    seen: list[str] = []
    after = "p100"
    while found := taken(desk, limit=50, after=after):
        seen += projects(found)
        after = seen[-1]
    assert sorted(seen) == [f"p{place:03}" for place in range(number)]
    assert seen[0] == "p101"


@settings(max_examples=40, deadline=None)
@given(
    queued=st.lists(st.tuples(st.sampled_from("abcd"), st.integers(-1, 1)), max_size=30),
    rooms=st.lists(st.integers(1, 9), min_size=1, max_size=12),
)
def test_shares_are_those_of_a_model(queued: list[tuple[str, int]], rooms: list[int]) -> None:
    """Nothing ends. So whenever a place is given, it is to the most urgent, and among those to a project that has no
    more than any other that waits."""
    with SqliteStore(":memory:") as store:
        desk = Desk(store)
        waiting = {desk.submit(project_id=name, priority=priority): (name, priority) for name, priority in queued}
        has: Counter[str] = Counter()
        after = ""
        for room in rooms:
            found = taken(desk, limit=room, after=after)
            assert len(found) == min(room, len(waiting))
            assert [at.priority for at in found] == sorted((at.priority for at in found), reverse=True)
            for at in found:
                del waiting[at.id]
                has[at.project_id] += 1
                after = at.project_id
            for at in found:
                rivals = {name for name, priority in waiting.values() if priority >= at.priority}
                assert all(has[name] >= has[at.project_id] - 1 for name in rivals)
        assert all(
            ids == sorted(ids)
            for ids in [[task for task in waiting if waiting[task] == kind] for kind in set(waiting.values())]
        )


def cost_of_taking(path: Path, number: int) -> int:
    """What one taking costs behind so many others, in steps of the database's machine: the same every time."""
    with SqliteStore(str(path), synchronous="normal") as store:
        desk = Desk(store)
        for name in ("a", "b", "c"):
            desk.submit(project_id=name)
        connection = sqlite3.connect(path)
        # As many rows as the last one, which differ in what has to differ.
        columns = [name for _, name, *_ in connection.execute("PRAGMA table_info(tasks)")]
        new = {"id": "3 + n", "uuid": "'u' || n", "due_at": "due_at + n", "project_id": "substr('aaab', n % 4 + 1, 1)"}
        connection.execute(
            f"WITH RECURSIVE c(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM c WHERE n < {number}) "
            f"INSERT INTO tasks ({', '.join(columns)}) "
            f"SELECT {', '.join(new.get(name, name) for name in columns)} FROM c, tasks WHERE id = 3"
        )
        connection.commit()
        connection.close()
        desk.now += number
        assert len(taken(desk, limit=4)) == 4  # what is prepared once is prepared
        steps = 0

        def step() -> None:
            nonlocal steps
            steps += 1

        def counted(tx: object) -> None:
            tx.cursor.connection.set_progress_handler(step, 1)  # type: ignore[attr-defined]

        store.write(counted)
        assert store.read(lambda tx: take.peek(tx, now=desk.now, pool="default")).any
        assert store.write(lambda tx: take.next_due(tx, desk.now, pool="default")) is None
        found = taken(desk, limit=4)
        assert Counter(projects(found)) == {"a": 2, "b": 2}
        return steps


def test_taking_costs_the_same_however_many_are_queued(tmp_path: Path) -> None:
    few, many = cost_of_taking(tmp_path / "few.db", 100), cost_of_taking(tmp_path / "many.db", 20_000)
    assert few > 1_000
    assert many < 1.1 * few, "twice a hundred times as many"


def test_with_a_limit_too(tmp_path: Path) -> None:
    with SqliteStore(str(tmp_path / "a.db")) as store:
        desk = Desk(store)
        store.write(lambda tx: pools.change(tx, "default", {"running_max": 3}))
        for place in range(20):
            desk.submit(project_id="ab"[place % 2])
        first = taken(desk)
        assert Counter(projects(first)) in ({"a": 2, "b": 1}, {"a": 1, "b": 2})
        assert taken(desk) == []
