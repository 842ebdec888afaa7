"""The simulator finds what is planted: for each thing that it watches a bug is put in, and some seed of the first few
must be broken by it, and say so in the words of the checker whose business it is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from heapq import heappush
from typing import Any

import pytest
from sqlalchemy import Text, bindparam, false, null, update

from holdfast.core import decide, undo
from holdfast.core import events as e
from holdfast.core.state import State
from holdfast.core.states import S_INTERRUPTED
from holdfast.runtime import outcome
from holdfast.runtime.drive import Drive
from holdfast.store import appends, sqlite
from holdfast.store.schema import tasks
from holdfast.store.transaction import Transaction
from holdfast.tasks import claims, control, tell
from holdfast.testing.simulate import Simulator
from holdfast.testing.simulation.world import World
from holdfast.worker import lease, loop, taken, telling

SEEDS = 200
Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def _compiled_anew() -> Iterator[None]:
    """Statements are compiled once a process, and some of these change them."""
    sqlite.hot_statements.cache_clear()
    yield
    sqlite.hot_statements.cache_clear()


def no_fence(patch: Patch) -> None:
    """The guard of an append no longer looks at the token."""
    anything = bindparam("_token", type_=Text).is_not(None)
    behind = (
        update(tasks)
        .where(tasks.c.id == bindparam("_task"), anything, tasks.c.seq >= bindparam("_seen"))
        .values(seq=tasks.c.seq + bindparam("_count"))
        .returning(tasks.c.seq)
    )
    patch.setattr(appends, "FENCED", (tasks.c.id == bindparam("_task"), anything))
    patch.setattr(appends, "BEHIND", behind)


def eldest_first(patch: Patch) -> None:
    """Reverts in the order of start."""

    def may_revert(state: State, row: int, undone: list[int]) -> None:
        if undo.is_trivial(state, row):
            undone.append(row)
        elif row not in state.running:
            heappush(state.undo_heap, (state.began[row], row))

    patch.setattr(undo, "_may_revert", may_revert)


def forgotten_effect(patch: Patch) -> None:
    """Undo passes over what was interrupted, as if that could have done nothing."""
    is_trivial = undo.is_trivial

    def careless(state: State, row: int) -> bool:
        return is_trivial(state, row) or state.st[row] == S_INTERRUPTED

    patch.setattr(undo, "is_trivial", careless)


def edges_unturned(patch: Patch) -> None:
    """A revert waits for nothing."""
    turn = undo.turn

    def unturned(state: State, scope: int, whole: bool) -> None:
        succ, state.succ = state.succ, [()] * len(state.succ)
        turn(state, scope, whole)
        state.succ = succ

    patch.setattr(undo, "turn", unturned)


def no_conflicts(patch: Patch) -> None:
    """Claims are granted whatever stands in the way."""
    patch.setattr(claims, "_is_blocked", lambda tx, ticket: False)


def out_of_turn(patch: Patch) -> None:
    """Who waits is not looked at, only who holds."""
    patch.setattr(claims, "_BLOCKED", {key: claims._blocked(key[0], false()) for key in claims._BLOCKED})


def dropped_ticket(patch: Patch) -> None:
    """The last of several claims gets no ticket."""
    occupy = claims.occupy

    def short(tx: Any, task: int, places: Any, **how: Any) -> None:
        occupy(tx, task, places[:-1] or places, **how)

    patch.setattr(claims, "occupy", short)


def no_wake(patch: Patch) -> None:
    """Nobody is told that a resource is free."""
    patch.setattr(claims, "wake", lambda tx, names, now: 0)


def unheard_verb(patch: Patch) -> None:
    """The worker drops the verbs that it had not seen."""
    patch.setattr(taken, "fold_verbs", lambda state, journal, unseal: [])


def unwritten_verb(patch: Patch) -> None:
    """Every third verb changes the task and is not in its journal."""
    record = Transaction.record
    count = iter(range(1 << 30))

    def forgetful(self: Transaction, task: int, rows: Any, projection: Any = None) -> int:
        return record(self, task, () if next(count) % 3 == 2 else rows, projection)

    patch.setattr(Transaction, "record", forgetful)


def told_twice(patch: Patch) -> None:
    """Facts that were stored beside an unseen verb are stored again."""
    answered = taken.Taken.answered

    def forgets(self: taken.Taken, answer: Any) -> bool:
        assert self._batch is not None
        facts = self._batch[0]
        off = answered(self, answer)
        if not answer.accepted:
            self.drive.facts = list(facts)
        return off

    patch.setattr(taken.Taken, "answered", forgets)


def early_word(patch: Patch) -> None:
    """A step is told that its checkpoint is stored before it is."""
    note = Drive._note_checkpoint

    def hasty(self: Drive, *told: Any, **how: Any) -> None:
        note(self, *told, **how)
        self.settle_checkpoints(None)

    patch.setattr(Drive, "_note_checkpoint", hasty)


def no_sync(patch: Patch) -> None:
    """A commit is not on the disk when it returns."""
    made = sqlite.SqliteStore._open
    patch.setattr(sqlite.SqliteStore, "_open", lambda self, synchronous: made(self, "normal"))


def no_sweep(patch: Patch) -> None:
    """Nobody looks for dead workers."""
    patch.setattr(lease.Lease, "sweep", lambda self, now: False)


def untold_move(patch: Patch) -> None:
    """A worker does not tell that a task waits."""
    patch.delitem(telling._MOVES, e.Waited)


def told_behind_the_end(patch: Patch) -> None:
    """The end of a task is told before what its last append has to say of its steps."""
    advance = taken.Taken.advance

    def hasty(self: Any, now: float) -> Any:
        append = advance(self, now)
        return append and append._replace(news=append.news[::-1])

    patch.setattr(taken.Taken, "advance", hasty)


def untold_verb(patch: Patch) -> None:
    """Nobody who listens hears of a cancel."""
    control = tell.control

    def deaf(tx: Any, at: Any, verb: str, now: float, **how: Any) -> None:
        if verb != "cancel":
            control(tx, at, verb, now, **how)

    patch.setattr(tell, "control", deaf)


def unrung(patch: Patch) -> None:
    """What is delivered to a task that no worker has rings for nobody; and the doctor is away."""
    deliver = control.deliver

    def silent(tx: Any, task: int, *how: Any) -> Any:
        answer = deliver(tx, task, *how)
        tx.execute(update(tasks).where(tasks.c.id == task, tasks.c.worker_id.is_(null())).values(due_at=null()))
        return answer

    patch.setattr(control, "deliver", silent)
    patch.setattr(World, "_examine", lambda self: None)


def only_poked(patch: Patch) -> None:
    """A worker that nobody pokes does not look: not when something is due by time, nor at what others commit."""
    look = loop.Worker._look
    patch.setattr(loop.Worker, "_look", lambda self, now: self._poked and look(self, now))


def shared_guilt(patch: Patch) -> None:
    """What a step has outlived is counted for those beside it."""

    def poisons(state: State, in_flight: Collection[int]) -> bool:
        return sum(state.suspects.values()) + len(in_flight) >= state.deaths_max

    _say_whether_poison(patch, poisons)


def forgiven(patch: Patch) -> None:
    """However often a step dies, it is tried again."""
    _say_whether_poison(patch, lambda state, in_flight: False)


def _say_whether_poison(patch: Patch, poisons: Callable[[State, Collection[int]], bool]) -> None:
    for where in (taken, outcome):
        patch.setattr(where, "poisons", poisons)


def company(patch: Patch) -> None:
    """A suspect begins beside others."""

    patch.setattr(decide, "_apart", lambda state, found: found)


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (shared_guilt, r"deaths, as poison"),
        (forgiven, r"was in flight at \d deaths, and begins again"),
        (company, r"one was in flight at a death"),
        (only_poked, r"nothing is in the way any more"),
        (unrung, r"had something to do, and nobody had rung for it"),
        (no_fence, r"has written to it"),
        (eldest_first, r"is undone before .*, which began later"),
        (forgotten_effect, r"nothing is left of it, but .* was not undone"),
        (edges_unturned, r"is undone before .*, which depends on it"),
        (no_conflicts, r"is granted to tasks|was granted before"),
        (out_of_turn, r"was granted before"),
        (dropped_ticket, r"has begun something without its claims|which nobody holds up"),
        (no_wake, r"which nobody holds up"),
        (unheard_verb, r"(by|than) its journal|was told as \w+, and now as|set aside|does not answer|in the way"),
        (unwritten_verb, r"by its journal|was accepted, and|says that its journal"),
        (told_twice, r"is recorded twice"),
        (early_word, r"was told that its checkpoint is stored, and it is not"),
        (no_sync, r"was accepted, and is lost|gone before its time"),
        (no_sweep, r"nothing is in the way any more"),
        (untold_move, r"and told as RUNNING|was told as RUNNING, and now as WAITING"),
        (told_behind_the_end, r"behind it|and now as PENDING"),
        (untold_verb, r"has had \d verbs, and \d are told"),
    ],
    ids=lambda given: getattr(given, "__name__", ""),
)
def test_a_planted_bug_is_found(plant: Callable[[Patch], None], said: str, monkeypatch: Patch) -> None:
    plant(monkeypatch)
    found = Simulator().first_broken(range(SEEDS))
    assert found is not None, f"{SEEDS} seeds did not find it: {plant.__doc__}"
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(found.broken)
    assert f"--seed {found.seed}" in found.report()
