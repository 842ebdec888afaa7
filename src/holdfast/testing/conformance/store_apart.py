"""What two stores on one database promise, as two processes have them: what is read and then written holds between them
too. See store.py beside it.

Each test has a function stop inside its transaction, behind what it has read, until the other has either committed or
is seen to wait (`StoreBase.is_waiting`). Where that can't be seen it stops for a moment: on SQLite the other waits
always, so there it shows that nothing goes wrong with one writer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from holdfast.clock import SYSTEM
from holdfast.core.events import Began
from holdfast.errors import ClaimRefused, LeaseLost, QuotaExceeded
from holdfast.feed import log
from holdfast.store.base import Append, Store, Tx
from holdfast.store.journal import encode
from holdfast.tasks import claims, control, lease, row, submit, take
from holdfast.tasks.quota import Limits
from holdfast.tasks.row import TaskRow
from holdfast.tasks.submit import Request, Submitted
from holdfast.testing.conformance.store import StoreBase
from holdfast.testing.conformance.store_threads import PATIENCE_S, together

OPEN_S = 0.05  # how long one transaction stays open for the other to come as far as it gets, where nobody sees that
LOOK_S = 0.001
REQUEST = Request("build", "demo:build", claims=claims.claims_of(["node/1"]))


class Two:
    """`is_waiting`: whether one waits for the other's lock; None: that can't be seen."""

    def __init__(self, is_waiting: Callable[[], bool | None], *stores: Store) -> None:
        self.stores = stores
        self.can_see = is_waiting() is not None
        self._is_waiting = is_waiting
        self._numbers = iter(range(10_000))

    def submit(self, store: Store, request: Request = REQUEST) -> Submitted:
        return store.write(self.submitting(request))

    def submitting(self, request: Request = REQUEST, now: float = 1.0) -> Callable[[Tx], Submitted]:
        uuid = f"{next(self._numbers):08d}-0000-7000-8000-000000000000"
        return lambda tx: submit.submit(tx, request, now, uuid)

    def tickets_of(self, task: TaskRow) -> list[Any]:
        return self.stores[0].read(lambda tx: claims.tickets_of(tx, task.id))

    def at_once(self, first: Callable[[Tx], Any], second: Callable[[Tx], Any]) -> list[Any]:
        """What each gave or raised."""
        return self.beside(first, lambda: self.stores[1].write(second))

    def beside(self, first: Callable[[Tx], Any], second: Callable[[], Any]) -> list[Any]:
        """What each gave or raised. The first is done, and not committed, when the second begins; it stays open until
        the second is done, or waits for it."""
        begun, ended = threading.Event(), threading.Event()
        found: list[Any] = [None, None]

        def held(tx: Tx) -> Any:
            result = first(tx)
            begun.set()
            self._stay(ended)
            return result

        def work(number: int) -> None:
            try:
                if number:
                    assert begun.wait(PATIENCE_S)
                    found[1] = second()
                else:
                    found[0] = self.stores[0].write(held)
            except Exception as error:
                found[number] = error
            finally:
                if number:
                    ended.set()

        together(2, work)
        return found

    def _stay(self, ended: threading.Event) -> None:
        if not self.can_see:
            ended.wait(OPEN_S)
            return
        end = SYSTEM.monotonic() + PATIENCE_S / 2
        while not ended.wait(LOOK_S) and not self._is_waiting():
            if SYSTEM.monotonic() > end:
                pytest.fail("the second neither ends nor waits for the first")

    def worker(self, number: int, now: float = 1.0) -> str:
        name = f"worker{number}"
        known = lease.WorkerRow(name, "host", "boot", 1, None, "default", now, now, 10.0)
        self.stores[number].write(lambda tx: lease.register(tx, known))
        return name

    def taking(self, number: int, now: float = 5.0, limit: int = 100) -> Callable[[Tx], list[Any]]:
        worker = f"worker{number}"
        return lambda tx: list(
            take.take(tx, worker, generation="g", nonce="n", now=now, limit=limit, pool="default").tasks
        )


class StoreApart(StoreBase):
    @pytest.fixture
    def two(self, store: Store) -> Iterator[Two]:
        other = self.again()
        assert other is not None
        with other:
            yield Two(self.is_waiting, store, other)

    def test_one_tag_is_one_task(self, two: Two) -> None:
        asked = REQUEST._replace(tag="order-17")
        first, second = two.at_once(two.submitting(asked), two.submitting(asked))
        assert (first.replayed, second.replayed) == (False, True)
        assert first.task.id == second.task.id

    def test_a_new_plan_of_two_at_once_is_kept_once(self, two: Two) -> None:
        asked = REQUEST._replace(digest="d", outline="o")
        first, second = two.at_once(two.submitting(asked), two.submitting(asked))
        assert [first.replayed, second.replayed] == [False, False]

    def test_a_quota_holds_over_all_who_admit(self, two: Two) -> None:
        asked = [REQUEST._replace(claims=(), limits=Limits(live_max=1)) for _ in range(2)]
        first, second = two.at_once(*map(two.submitting, asked))
        assert isinstance(first, Submitted)
        assert isinstance(second, QuotaExceeded)

    def test_who_comes_first_is_first_in_every_queue(self, two: Two) -> None:
        """Opposite claims; whoever draws one number first draws the other first."""
        both = [REQUEST._replace(claims=claims.claims_of(names)) for names in (["a", "b"], ["b", "a"])]
        for _ in range(5):
            first, second = two.at_once(*map(two.submitting, both))
            tickets = [two.tickets_of(each.task) for each in (first, second)]
            assert all(mine.ticket < theirs.ticket for mine, theirs in zip(*tickets, strict=True))

    def test_what_two_claim_late_one_of_them_has(self, two: Two) -> None:
        parents = [two.submit(two.stores[0], REQUEST._replace(claims=())).task for _ in range(2)]
        found = two.at_once(*(two.submitting(REQUEST._replace(parent=parent.id)) for parent in parents))
        made, refused = sorted(found, key=lambda each: isinstance(each, ClaimRefused))
        assert isinstance(refused, ClaimRefused)
        held = two.tickets_of(made.task)
        assert [(ticket.resource, ticket.granted) for ticket in held] == [("node/1", True)]

    def test_two_that_free_what_a_third_waits_for_wake_it(self, two: Two) -> None:
        """Each sees the other's ticket still there; the second to look must see the first one's end."""
        sharing = REQUEST._replace(claims=claims.claims_of([("node/1", "shared")]))
        holders = [two.submit(two.stores[0], sharing).task for _ in range(2)]
        waiter = two.submit(two.stores[0]).task
        assert not waiter.ready
        two.at_once(*(lambda tx, of=of: control.abort(tx, of.id, 2.0, actor="me") for of in holders))
        assert two.stores[0].read(lambda tx: row.read(tx, waiter.id)).ready

    def test_who_queues_while_the_holder_ends_is_woken(self, two: Two) -> None:
        holder = two.submit(two.stores[0]).task
        _, second = two.at_once(lambda tx: control.abort(tx, holder.id, 2.0, actor="me"), two.submitting())
        assert two.stores[0].read(lambda tx: row.read(tx, second.task.id)).ready

    def test_who_ends_while_another_queues_wakes_it(self, two: Two) -> None:
        holder = two.submit(two.stores[0]).task
        first, _ = two.at_once(two.submitting(), lambda tx: control.abort(tx, holder.id, 2.0, actor="me"))
        assert two.stores[0].read(lambda tx: row.read(tx, first.task.id)).ready

    def test_no_task_is_taken_twice(self, two: Two) -> None:
        for each in range(20):
            two.submit(two.stores[0], REQUEST._replace(claims=claims.claims_of([f"node/{each}"])))
        for number in range(2):
            two.worker(number)
        first, second = two.at_once(two.taking(0, limit=12), two.taking(1, limit=12))
        taken = [at.id for at in (*first, *second)]
        assert (len(taken), len(set(taken))) == (20, 20)

    def test_a_start_that_has_come_draws_its_tickets_once(self, two: Two) -> None:
        later = two.submit(two.stores[0], REQUEST._replace(start_after=3.0)).task
        two.at_once(lambda tx: submit.draw(tx, [later.id], 5.0), lambda tx: submit.draw(tx, [later.id], 5.0))
        assert len(two.tickets_of(later)) == 1

    def test_a_worker_that_is_marked_dead_meanwhile_keeps_nothing(self, two: Two) -> None:
        task = two.submit(two.stores[0]).task
        two.worker(0)
        first, second = two.at_once(two.taking(0), lambda tx: lease.mark_dead(tx, "worker0", 20.0, seen=1.0))
        held = two.stores[0].read(lambda tx: row.read(tx, task.id)).worker_id
        assert held is None
        assert [at.id for at in first] == second == [task.id]

    def test_a_worker_that_is_marked_dead_takes_nothing(self, two: Two) -> None:
        task = two.submit(two.stores[0]).task
        two.worker(0)
        freed, taken = two.at_once(lambda tx: lease.mark_dead(tx, "worker0", 20.0, seen=1.0), two.taking(0))
        assert freed == []
        assert isinstance(taken, LeaseLost)
        assert two.stores[0].read(lambda tx: row.read(tx, task.id)).worker_id is None

    def test_a_heartbeat_and_a_take_over_have_one_winner(self, two: Two) -> None:
        two.worker(0)

        def beat(tx: Tx) -> Any:
            return lease.heartbeat(tx, "worker0", 20.0, held=[])

        def bury(tx: Tx) -> Any:
            lease.mark_dead(tx, "worker0", 20.0, seen=1.0)
            return lease.find(tx, "worker0")

        _, found = two.at_once(beat, bury)
        assert not found.dead, "it has spoken since it was judged"
        two.stores[0].write(lambda tx: lease.mark_dead(tx, "worker0", 40.0, seen=20.0))
        with pytest.raises(LeaseLost):
            two.stores[1].write(beat)

    def test_a_stale_append_waits_for_the_take_over_and_is_refused(self, two: Two) -> None:
        """A guard that only reads would let it through: it sees the row as it was."""
        task = two.submit(two.stores[0]).task
        two.worker(0)
        (taken,) = two.stores[0].write(two.taking(0))
        stale = Append(task.id, taken.token or "", taken.seq, [encode(Began(5.0), ())])
        _, answers = two.beside(
            lambda tx: lease.mark_dead(tx, "worker0", 20.0, seen=1.0), lambda: two.stores[1].append([stale])
        )
        assert [type(each) for each in answers] == [LeaseLost]
        assert two.stores[0].journal(task.id) == []

    def test_of_two_verbs_at_once_each_sees_the_other(self, two: Two) -> None:
        task = two.submit(two.stores[0]).task
        first, second = two.at_once(
            lambda tx: control.suspend(tx, task.id, 2.0, actor="me"),
            lambda tx: control.suspend(tx, task.id, 2.0, actor="you"),
        )
        assert (first.accepted, second.accepted) == (control.ACCEPTED, control.NO_OP)

    def test_two_retries_at_once_are_one_task(self, two: Two) -> None:
        task = two.submit(two.stores[0]).task
        two.stores[0].write(lambda tx: control.abort(tx, task.id, 2.0, actor="me"))
        uuids = [f"{number}0000000-0000-7000-8000-000000000000" for number in (1, 2)]
        first, second = two.at_once(
            *(lambda tx, uuid=uuid: control.retry(tx, task.id, 3.0, actor="me", uuid=uuid) for uuid in uuids)
        )
        assert (first.accepted, second.accepted) == (control.NEW_TASK, control.REPLAYED)
        assert first.task.id == second.task.id

    def test_the_feed_has_no_gap(self, two: Two) -> None:
        """Who reads behind the last id it saw misses nothing, though a transaction that began earlier commits later."""
        heard: list[int] = []

        def listen() -> None:
            last = heard[-1] if heard else 0
            heard.extend(entry.id for entry in two.stores[1].read(lambda tx: log.read(tx, last)))

        def second() -> None:
            two.stores[1].write(two.submitting())
            listen()

        found = two.beside(two.submitting(), second)
        assert not isinstance(found[1], Exception), found
        listen()
        assert len(heard) == len(set(heard)) == two.stores[0].read(lambda tx: len(log.read(tx))) == 2
        assert heard == sorted(heard)

    def test_opposite_orders_of_locks_end_both(self, two: Two) -> None:
        """Functions of one commit lock in one order each, and not all of them together."""
        tasks = [two.submit(two.stores[0], REQUEST._replace(claims=())).task.id for _ in range(2)]
        met = threading.Barrier(2)

        def locking(task: int, *, meet: bool) -> Callable[[Tx], None]:
            once = iter([meet])

            def lock(tx: Tx) -> None:
                row.lock(tx, task)
                if next(once, False):
                    try:
                        met.wait(PATIENCE_S if two.can_see else OPEN_S)
                    except threading.BrokenBarrierError:
                        assert not two.can_see, "they did not meet"  # else one writes at a time

            return lock

        answers: list[list[Any]] = [[], []]

        def work(number: int) -> None:
            order = tasks if number else tasks[::-1]
            fns = [locking(order[0], meet=True), locking(order[1], meet=False)]
            answers[number] = two.stores[number].write_all(fns)

        together(2, work)
        assert answers == [[None, None], [None, None]]
