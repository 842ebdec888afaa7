"""The worker: takes due tasks and drives them, all on one thread, with one commit for all that is to be written.

Theory: `turn` is one round and never blocks for user code (inline steps excepted): hear verbs, take tasks, let every
drive that has something to say advance, write all of it in one transaction, act on the answers. `run` is the loop
around it, and the only place that waits. Whoever appended meanwhile is heard through `poke` (this process) or by
looking (others). So a simulator can turn many workers on one fake clock.

How a task is loaded: worker/load.py. What is written for one: worker/taken.py. How the lease is kept: worker/lease.py.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from holdfast.errors import HoldfastClosed, LeaseLost, StoreUnknown, TaskNotFound, WorldError
from holdfast.store.base import SIZE_MAX, Append, Appended, Store
from holdfast.tasks import take
from holdfast.tasks.row import TaskRow
from holdfast.worker.agents import Agents
from holdfast.worker.aside import Aside
from holdfast.worker.desk import Desk
from holdfast.worker.house import House
from holdfast.worker.intake import Intake
from holdfast.worker.lease import SWEEP_S, Lease
from holdfast.worker.leave import close_beside, give_back, save_all, starving
from holdfast.worker.load import Loaded, load
from holdfast.worker.loader import Loader
from holdfast.worker.pace import Pace, whose_turn
from holdfast.worker.report import write_reports
from holdfast.worker.rest import heap_frozen, rest
from holdfast.worker.rota import LOOK_S, Rota
from holdfast.worker.taken import Taken, note_heard
from holdfast.worker.timers import Timers

if TYPE_CHECKING:
    from holdfast.clock import Clock
    from holdfast.flow.patterns import Flow
    from holdfast.runtime.choice import Runtimes
    from holdfast.settings import Settings
    from holdfast.tasks.schedules import Admit

LINGER_S = 2.0  # a task that waits longer than this for its timer is given back


class Worker:
    """See the module. `flows` are asked first for those of tasks; `seal` makes text of secrets. `only`: the ids of the
    tasks that it takes, with their children. `house`: whose worker it is. `admit`: asks for the tasks of schedules."""

    def __init__(
        self,
        store: Store,
        runtimes: Runtimes,
        *,
        clock: Clock,
        settings: Settings,
        flows: Sequence[Flow] = (),
        pool: str = "default",
        only: Collection[int] | None = None,
        tasks_max: int = 256,
        seal: Any = None,
        unseal: Any = None,
        lease: Lease | None = None,
        house: Any = None,
        admit: Admit | None = None,
    ) -> None:
        self._store, self._runtimes = store, runtimes
        self._clock, self._settings = clock, settings
        self._flows, self._seal, self._unseal = flows, seal, unseal
        self._desk = partial(
            Desk, store, flows=flows, clock=clock, settings=settings, seal=seal, unseal=unseal, poke=self.poke,
            house=house,
        )  # fmt: skip
        self._agents = runtimes.agents = Agents(store, settings, seal, unseal)
        self.lease = lease or Lease(store, clock, settings, pool)
        threads = None if runtimes.is_inline else min(settings.workers_max, runtimes.places.free("thread"))
        self._intake = Intake(store, clock, self.lease, Pace(threads, tasks_max), pool=pool, only=only)
        loads = partial(load, store, flows=flows, deaths_max=settings.deaths_max, unseal=unseal)
        self._loader = Loader(store, self._intake, runtimes.places, loads, self._have)
        self.taken: dict[int, Taken] = {}
        self._timers = Timers(self.taken)
        self.lease.held = lambda: list(self.taken)
        self.lease.extends = runtimes.extend
        self.lease.runs = lambda: any(taken.is_running for taken in self.taken.values())
        self._dirty: dict[int, None] = {}
        self._ended: set[int] = set()
        self._lost: deque[int] = deque()  # tasks that may be another's by now
        self._woken = threading.Event()
        self._poked = self._called = True  # something may be due; somebody may want something of a task
        self._changes, self._looked_at, self._heard_at = -1, 0.0, 0.0
        self._look_s = settings.poll_s if store.runs_here else max(settings.poll_s, LOOK_S)  # others are heard of
        self.draining = self._stopped = False
        self._starved: dict[int, float] = {}  # since when
        self._house = House(store, settings, clock)
        self._rota = Rota(store, clock, admit)
        self._aside = Aside()

    # --- being told -----------------------------------------------------------------------------------------------

    def poke(self, went_on: bool = False) -> None:
        """Something was submitted, or a verb was accepted; or tasks of others `went_on`. From any thread."""
        if went_on and not self._intake.crowded:
            return
        self._poked = self._called = self._intake.told = True
        self._woken.set()

    def stop(self) -> None:
        """Let `run` return after this round. From any thread."""
        self._stopped = True
        self._woken.set()

    # --- the loop -------------------------------------------------------------------------------------------------

    @heap_frozen()
    def run(self, until: Callable[[], bool] | None = None) -> None:
        """Work until `stop`, or until `until()` says so while there is nothing to do."""
        self.lease.start(self._lost_lease)
        while not self._stopped:
            now = self._clock.time()
            try:
                did = self.turn(now)
            except WorldError as error:
                if isinstance(error, StoreUnknown):
                    self.lease.unsure = True
                elif not error.retryable:
                    raise
                # Nothing is lost: all that was not stored is said again.
                self._clock.wait(self._woken, self._settings.poll_s)
                self._woken.clear()
                continue
            except HoldfastClosed:
                if self._stopped:
                    return
                raise
            if did:
                continue
            if until is not None and until():
                return
            if until is None and not self.taken and not self._poked:
                rest(self._clock, self._woken, self._store, self._changes, SWEEP_S, self._settings.poll_s, self._left_s)
            else:
                self._clock.wait(self._woken, min(self._left_s(), self._settings.poll_s))
            self._woken.clear()

    def is_idle(self) -> bool:
        """Whether nothing is left that this worker could do now or after a while, nor of a worker that has died and
        whose steps are just leaving. Rounds that never end don't count between two of them."""
        now = self._clock.time()
        waits = all(taken.is_between_rounds(now) for taken in self.taken.values())
        if not waits or self._poked or self._intake.waiting or self._intake.crowded:
            return False
        return not self.lease.expects and self._rota.due_at > now and self._intake.ends(self._looked_at)

    def _left_s(self) -> float:
        """Until something is due by time alone."""
        moments = (self._timers.first, self._intake.next_due, self._house.due_at, self._rota.due_at)
        return max(0.0, min(each for each in moments if each is not None) - self._clock.time())

    def turn(self, now: float) -> bool:
        """One round; whether anything was done."""
        did = False
        self._aside.turn(now)
        if self.lease.turn(now) or self._rota.turn(now):
            self._poked = self._called = True
        self.draining = self._runtimes.places.closed = self.lease.draining
        if self._poked or self._intake.is_due(now) or not self._looked_at <= now < self._looked_at + self._look_s:
            did = self._look(now)
        else:
            self._intake.look_ahead()
        did = self._loader.turn(now, len(self._starved), draining=self.draining) or did
        self._let_go_of_lost()
        for taken, error in write_reports(self._store, self.taken.values(), now):
            self._set_aside(taken, error, now)
        batch = self._advance(now)
        if not batch:
            if self._loader.load(now):
                return True
            self._agents.flush(now)
            did = self._give_back(now) or did
            self._house.turn(now)
            return did
        self._append(batch, now)
        self._agents.flush(now)
        return True

    def close(self) -> None:
        """Give everything back: ask steps to stop, record what they say, let others take the tasks."""
        if self.lease.threaded and any(taken.drive.calls for taken in self.taken.values()):
            close_beside(self._runtimes, self._settings.grace_s, self._woken, self._settings.poll_s, self._save)
        else:
            self._runtimes.close(self._settings.grace_s)
        self.lease.stop()
        now = self._clock.time()
        behind = [task for task, taken in self.taken.items() if taken.drive.leave_behind(now)]
        self._save()
        with suppress(LeaseLost, WorldError, HoldfastClosed):  # whoever sweeps will find that we are gone
            self.lease.leave(now, behind)
        while self.taken:
            self.taken.popitem()[1].drive.drop()

    def _save(self) -> None:
        for taken in save_all(self._store, list(self.taken.values()), self._clock.time()):
            self._forget(taken)

    # --- hearing and taking ---------------------------------------------------------------------------------------

    def _look(self, now: float) -> bool:
        self._looked_at, poked, self._poked = now, self._poked, False
        changes = self._store.changes(went_on=False)
        due = self._intake.is_due(now)
        if not poked and changes == self._changes and not due:
            return False
        self._changes = changes
        try:
            heard = self._hear(now) if self.taken else False
            return self._take(now) or heard
        except WorldError:
            self._poked = self._called = True  # look again: what changed is not heard yet
            raise

    def _hear(self, now: float) -> bool:
        if not self._called and not self._store.runs_here and self._heard_at <= now < self._heard_at + self._look_s:
            return False  # who wants something tells
        self._called, self._heard_at = False, now
        heard = []
        for task, seq in self._store.read(lambda tx: take.called(tx, self.lease.id)):
            taken = self.taken.get(task)
            if taken is None or (seq > taken.seen and not self._listen(taken)):
                if self._intake.waiting:  # it may be one of those
                    self._poked = self._called = True
                continue
            heard.append(taken)
            self._dirty[task] = None
        if heard:
            for taken, leases in self._store.write(partial(note_heard, heard)):
                self._agents.see(taken, leases)
        return bool(heard)

    def _listen(self, taken: Taken) -> bool:
        """Hear what others have said of the task. False: it is not this worker's any more."""
        try:
            taken.hear()
            return True
        except WorldError:
            raise
        except Exception as error:
            self._set_aside(taken, error, self._clock.time())
        return False

    def _take(self, now: float) -> bool:
        if self.draining:
            self._intake.close()
            return False
        try:
            did = self._intake.take(self.taken.values(), now, self._loader.load_meanwhile)
        except LeaseLost:  # or it is to drain: the next heartbeat says so too; taking can't wait for it
            self.lease.beat()
            self._poked = True
            return False
        self._poked = self._poked or self._intake.more
        return did

    def _have(self, row: TaskRow, loaded: Loaded) -> None:
        taken = Taken(
            row, loaded, self._store, self._runtimes, clock=self._clock, settings=self._settings, seal=self._seal,
            unseal=self._unseal, wake=partial(self._note_end, row.id),
            desk=self._desk(row) if loaded.state.plan.parental else None,
        )  # fmt: skip
        self.taken[row.id] = taken
        self._dirty[row.id] = None

    def _note_end(self, task: int) -> None:
        self._ended.add(task)
        if not self._woken.is_set():  # who waits clears it before looking at what has ended
            self._woken.set()

    # --- writing --------------------------------------------------------------------------------------------------

    def _advance(self, now: float) -> list[tuple[Taken, Append]]:
        """What every task that has something to say wants written."""
        while self._ended:
            self._dirty[self._ended.pop()] = None
        for task in self._timers.due(now):
            self._dirty[task] = None
        self._runtimes.places.new_round()
        again: dict[int, float] = {}
        for task in whose_turn(self._starved, self.taken, self._runtimes.places.free_of_any()) if self._starved else ():
            again[task], self._dirty[task] = self._starved.pop(task), None
        batch: list[tuple[Taken, Append]] = []
        todo, size = deque(self._dirty), 0
        while todo and size < SIZE_MAX:
            if (taken := self.taken.get(todo.popleft())) is None:
                continue
            try:
                append = taken.advance(now)
            except WorldError:
                for each, _ in batch:
                    each.unanswered()
                raise
            except Exception as error:
                self._set_aside(taken, error, now)
                continue
            if append is not None:
                batch.append((taken, append))
                size += append.size if todo else 0  # nobody asks behind the last
            else:
                self._timers.watch(taken, now)
            if taken.drive.starved:
                self._starved.setdefault(taken.task.id, again.get(taken.task.id, now))
        self._dirty = dict.fromkeys(todo)
        if again:
            self._starved.update((task, since) for task, since in again.items() if task in self._dirty)
        self._loader.fresh = 0
        return batch

    def _append(self, batch: list[tuple[Taken, Append]], now: float) -> None:
        try:
            answers: Sequence[Any] = self._store.append([append for _, append in batch], self._loader.load_meanwhile)
            self.lease.figures.batches.note(len(batch))
            self._called = self._called or any(append.then for _, append in batch)  # a parent may be ours
            if not self.lease.holds():  # the answer may have come long after the commit
                self._lost_lease(None)
        except WorldError as error:
            answers = [error] * len(batch)
        self._runtimes.begin_batch()
        try:
            for (taken, _), answer in zip(batch, answers, strict=True):
                self._answered(taken, answer, now)
        finally:
            self._runtimes.end_batch()
        if failed := [answer for answer in answers if isinstance(answer, WorldError)]:
            raise min(failed, key=lambda error: not isinstance(error, StoreUnknown))  # a doubt hides behind no other

    def _answered(self, taken: Taken, answer: Appended | Exception, now: float) -> None:
        try:
            if isinstance(answer, WorldError):
                if not isinstance(answer, StoreUnknown):  # that may be stored, and must not be twice
                    taken.unanswered()
                self._dirty[taken.task.id] = None
            elif isinstance(answer, Exception):
                raise answer
            elif taken.answered(answer):
                self._intake.pace.ended(now)
                self._forget(taken)
                self._poked = True
            elif taken.has_more:
                self._dirty[taken.task.id] = None
            else:
                self._timers.watch(taken, now)
        except WorldError:
            raise
        except Exception as error:
            self._set_aside(taken, error, now)

    # --- letting go -----------------------------------------------------------------------------------------------

    def _give_back(self, now: float) -> bool:
        """Tasks that only wait, and long: others may take them when their time has come. Whether there were any: for
        what has rung meanwhile it has come."""
        linger_s = 0.0 if self._intake.crowded else LINGER_S
        idle = {task: taken for task, taken in self.taken.items() if task not in self._dirty}
        leaving = [each for each in idle.values() if each.may_leave(now, linger_s, draining=self.draining)]
        if leaving := leaving or starving(idle, self._starved, self._intake.pace, now):
            self._poked = True
            give_back(self._store, leaving, now, self._forget, self._set_aside)
        return bool(leaving)

    def _set_aside(self, taken: Taken, error: Exception, now: float) -> None:
        """One bad task hurts no other. With one that is another's by now, or nobody's, nothing is wrong."""
        self._forget(taken)
        if isinstance(error, (LeaseLost, TaskNotFound)) and error.details.get("task") == taken.task.id:
            taken.drive.drop()
        else:
            self._aside.put(taken, error, now)

    def _forget(self, taken: Taken) -> None:
        if self.taken.get(taken.task.id) is taken:  # else it was lost, and taken again
            for held in (self.taken, self._dirty, self._starved):
                held.pop(taken.task.id, None)

    def _lost_lease(self, tasks: Sequence[int] | None) -> None:
        """The lease's thread says: these tasks, or (None) all, are no longer ours."""
        for task in list(self.taken) if tasks is None else tasks:
            if (taken := self.taken.get(task)) is not None:
                taken.drive.stop_steps()
                self._lost.append(task)
        self._poked = self._poked or tasks is None  # as a new incarnation it is known again, with nothing to do too
        self._woken.set()

    def _let_go_of_lost(self) -> None:
        """See which of the tasks that the lease's thread named are another's by now, and forget them."""
        while self._lost:
            if (taken := self.taken.get(self._lost[0])) is not None and self._listen(taken):
                taken.drive.halted = False
                self._dirty[taken.task.id] = None
            self._lost.popleft()
