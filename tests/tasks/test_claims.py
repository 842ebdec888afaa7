"""Who is granted what, and in which order."""

from __future__ import annotations

import pytest

from holdfast.errors import ClaimRefused, UsageError
from holdfast.store.base import Tx
from holdfast.store.sqlite import SqliteStore
from holdfast.tasks import claims, rest, row
from holdfast.tasks.claims import Claim, claims_of
from holdfast.tasks.submit import UNDRAWN, draw
from tests.tasks.desk import Desk


@pytest.fixture
def desk(store: SqliteStore) -> Desk:
    return Desk(store)


def test_claims_are_ordered_by_bytes_and_named_once() -> None:
    given = claims_of(["b", ("é", "shared"), ("a", "shared"), "a", "Z"])
    assert given == (Claim("Z"), Claim("a", "exclusive"), Claim("b"), Claim("é", "shared"))
    assert claims.from_text(claims.to_text(given)) == given


@pytest.mark.parametrize("wrong", ["", "a b", "x" * 256, "a\n", ("a", "sole")])
def test_what_is_no_claim_is_refused(wrong: str | tuple[str, str]) -> None:
    with pytest.raises(UsageError):
        claims_of([wrong])


def test_who_claims_nothing_waits_for_nobody(desk: Desk) -> None:
    assert desk.ready(desk.submit(), desk.submit()) == [True, True]


def test_first_come_first_served(desk: Desk) -> None:
    one, two, three = desk.submit("r"), desk.submit("r"), desk.submit("r")
    assert desk.ready(one, two, three) == [True, False, False]
    desk.end(one)
    assert desk.ready(two, three) == [True, False]
    desk.end(two)
    assert desk.ready(three) == [True]


def test_those_who_share_go_together_and_never_past_who_waits_alone(desk: Desk) -> None:
    one, two = desk.submit(("r", "shared")), desk.submit(("r", "shared"))
    alone, later = desk.submit("r"), desk.submit(("r", "shared"))
    assert desk.ready(one, two, alone, later) == [True, True, False, False]
    desk.end(two)
    assert desk.ready(alone, later) == [False, False]
    desk.end(one)
    assert desk.ready(alone, later) == [True, False]
    desk.end(alone)
    assert desk.ready(later) == [True]


def test_who_waits_for_two_holds_neither_and_is_not_overtaken(desk: Desk) -> None:
    a, b = desk.submit("a"), desk.submit("b")
    both, next_a = desk.submit("a", "b"), desk.submit("a")
    desk.end(a)
    assert desk.granted() == {"b": [(b, "exclusive")]}
    desk.end(b)
    assert desk.ready(both, next_a) == [True, False]
    desk.end(both)
    assert desk.ready(next_a) == [True]


def test_a_cancelled_waiter_lets_those_behind_it_pass(desk: Desk) -> None:
    holder, waiter, sharer = desk.submit(("r", "shared")), desk.submit("r"), desk.submit(("r", "shared"))
    assert desk.ready(holder, waiter, sharer) == [True, False, False]
    desk.end(waiter, "CANCELLED")
    assert desk.ready(sharer) == [True]


def test_background_work_waits_behind_all_others(desk: Desk) -> None:
    holder = desk.submit("r")
    sync = desk.submit("r", yielding=True)
    person = desk.submit("r")
    desk.end(holder)
    assert desk.ready(sync, person) == [False, True]
    desk.end(person)
    assert desk.ready(sync) == [True]


def test_shared_background_work_waits_for_who_wants_it_alone(desk: Desk) -> None:
    holder = desk.submit("r")
    sync = desk.submit(("r", "shared"), yielding=True)
    other_sync = desk.submit("r", yielding=True)
    person = desk.submit(("r", "shared"))
    desk.end(holder)
    assert desk.ready(sync, other_sync, person) == [True, False, True]


def _draw(tx: Tx, now: float) -> int:
    return draw(tx, tx.execute(UNDRAWN, {"_now": now, "_limit": 9}).scalars(), now)


def test_who_starts_later_is_in_no_queue_until_then(desk: Desk) -> None:
    later = desk.submit("r", start_after=2000.0)
    one = desk.submit("r")
    assert desk.ready(later, one) == [False, True]
    assert desk.store.write(lambda tx: _draw(tx, 1999.0)) == 0
    assert desk.store.write(lambda tx: _draw(tx, 2000.0)) == 1
    assert desk.store.write(lambda tx: _draw(tx, 2001.0)) == 0
    assert desk.ready(later) == [False]
    desk.end(one)
    assert desk.ready(later) == [True]


def test_background_work_that_starts_later_is_background_work_then(desk: Desk) -> None:
    holder = desk.submit("r")
    sync = desk.submit("r", start_after=2000.0, yielding=True)
    desk.store.write(lambda tx: _draw(tx, 2000.0))
    person = desk.submit("r")
    desk.end(holder)
    assert desk.ready(sync, person) == [False, True]


def test_who_is_suspended_before_it_began_is_passed_over_and_keeps_its_place(desk: Desk) -> None:
    first, second, third = desk.submit("r"), desk.submit("r"), desk.submit("r")
    desk.set(first, state="SUSPENDED", hold="pending", due_at=None)
    desk.store.write(lambda tx: rest.at_rest(tx, row.read(tx, first), 2.0, never_began=True, release_claims=False))
    assert desk.ready(first, second, third) == [False, True, False]
    desk.set(first, state="PENDING", hold=None)
    desk.store.write(lambda tx: rest.go_on(tx, row.read(tx, first), 3.0))
    assert desk.ready(first, second) == [False, True]
    desk.end(second)
    assert desk.ready(first, third) == [True, False]


def test_two_that_were_passed_over_in_turn_do_not_wait_for_each_other(desk: Desk) -> None:
    holder = desk.submit("b")
    slept, other = desk.submit("a", "b"), desk.submit("a", "b")
    desk.set(slept, state="SUSPENDED", hold="pending", due_at=None)
    desk.store.write(lambda tx: rest.at_rest(tx, row.read(tx, slept), 2.0, never_began=True, release_claims=False))
    desk.set(slept, state="PENDING", hold=None)
    desk.store.write(lambda tx: rest.go_on(tx, row.read(tx, slept), 3.0))
    desk.end(holder)
    assert desk.ready(slept, other) == [True, False]
    desk.end(slept)
    assert desk.ready(other) == [True]


def test_who_gave_its_claims_up_queues_anew_at_the_end(desk: Desk) -> None:
    first, second = desk.submit("r"), desk.submit("r")
    desk.begin(first)
    desk.set(first, state="SUSPENDED", hold="forward")
    desk.store.write(lambda tx: rest.at_rest(tx, row.read(tx, first), 2.0, never_began=False, release_claims=True))
    third = desk.submit("r")
    assert desk.ready(first, second, third) == [False, True, False]
    desk.set(first, state="RUNNING", hold=None)
    desk.store.write(lambda tx: rest.go_on(tx, row.read(tx, first), 3.0))
    desk.end(second)
    assert desk.ready(first, third) == [False, True]
    desk.end(third)
    assert desk.ready(first) == [True]


def test_a_suspended_task_that_began_keeps_what_it_holds(desk: Desk) -> None:
    first, second = desk.submit("r"), desk.submit("r")
    desk.begin(first)
    desk.set(first, state="SUSPENDED", hold="forward")
    desk.store.write(lambda tx: rest.at_rest(tx, row.read(tx, first), 2.0, never_began=False, release_claims=False))
    assert desk.ready(first, second) == [True, False]


def test_the_sweep_grants_what_a_lost_wake_left(desk: Desk) -> None:
    one, two, three = desk.submit("r"), desk.submit("r"), desk.submit("q")
    desk.store.write(lambda tx: tx.execute(claims._DROP, {"_tasks": [one]}))
    assert desk.ready(two, three) == [False, True]
    assert desk.store.write(lambda tx: claims.sweep(tx, 5.0)) == (1, None)
    assert desk.ready(two) == [True]
    assert desk.store.write(lambda tx: claims.sweep(tx, 5.0)) == (0, None)


def test_a_sweep_goes_on_where_it_stopped(desk: Desk) -> None:
    held = [desk.submit(name) for name in "abc"]
    waiting = [desk.submit(name) for name in "abc"]
    for task in held:
        desk.store.write(lambda tx, task=task: tx.execute(claims._DROP, {"_tasks": [task]}))  # type: ignore[misc]
    assert desk.store.write(lambda tx: claims.sweep(tx, 5.0, limit=2)) == (2, "b")
    assert desk.store.write(lambda tx: claims.sweep(tx, 5.0, after="b", limit=2)) == (1, None)
    assert desk.ready(*waiting) == [True] * 3


def test_a_waiting_task_says_for_whom_it_waits_and_how_many_go_first(desk: Desk) -> None:
    holder, first, shared, last = desk.submit("r"), desk.submit("r"), desk.submit(("r", "shared")), desk.submit("r")

    def told(task: int) -> tuple[int | None, list[int]]:
        def look(tx: Tx) -> tuple[int | None, list[int]]:
            tickets = claims.waiting(tx, task)
            return claims.queue_position(tx, tickets), [each.task for each in claims.blocked_by(tx, tickets)]

        return desk.store.read(look)

    assert told(holder) == (None, [])
    assert told(first) == (1, [holder])
    assert told(shared) == (2, [holder, first])
    assert told(last) == (3, [holder, first, shared])


def test_a_late_claim_is_granted_at_once_or_refused(desk: Desk) -> None:
    root, other = desk.submit("a"), desk.submit("b", ("s", "shared"))
    child = desk.submit("c", ("d", "shared"), ("s", "shared"), parent=root)
    granted = desk.granted()
    assert (granted["c"], granted["d"]) == ([(child, "exclusive")], [(child, "shared")])
    assert sorted(granted["s"]) == [(other, "shared"), (child, "shared")]
    for taken in ("b", ("b", "shared"), "c", ("c", "shared"), "d", "s"):
        with pytest.raises(ClaimRefused):
            desk.submit("e", taken, parent=root)
    assert "e" not in desk.granted()
    desk.end(other)
    second = desk.submit("b", parent=root)
    assert desk.granted()["b"] == [(second, "exclusive")]


def test_a_late_claim_does_not_overtake_a_queue(desk: Desk) -> None:
    root, holder, waiter = desk.submit("a"), desk.submit(("r", "shared")), desk.submit("r")
    with pytest.raises(ClaimRefused):
        desk.submit(("r", "shared"), parent=root)
    desk.end(waiter, "CANCELLED")
    child = desk.submit(("r", "shared"), parent=root)
    assert sorted(desk.granted()["r"]) == [(holder, "shared"), (child, "shared")]


def test_a_child_uses_what_its_root_holds_and_claims_the_rest_late(desk: Desk) -> None:
    root = desk.submit("a", ("b", "shared"))
    desk.begin(root)
    child = desk.submit("a", ("b", "shared"), "c", parent=root)
    assert desk.ready(child) == [True]
    assert desk.granted()["c"] == [(child, "exclusive")]
    grandchild = desk.submit("a", parent=child)
    assert (desk.row(grandchild).root_id, desk.ready(grandchild)) == (root, [True])
    with pytest.raises(ClaimRefused):
        desk.submit("b", parent=root)
    desk.end(child)
    assert set(desk.granted()) == {"a", "b"}
