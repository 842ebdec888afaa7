"""The worker: takes due tasks and drives them, all on one thread, with one commit for all that is to be written.

Theory: `turn` is one round and never blocks for user code (inline steps excepted): hear verbs, take tasks, let every
drive that has something to say advance, write all of it in one transaction, act on the answers. `run` is the loop
around it, and the only place that waits. Whoever appended meanwhile is heard through `poke` (this process) or by
looking (others). So a simulator can turn many workers on one fake clock.

How a task is loaded: worker/load.py. How the lease is kept: worker/lease.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from holdfast.core import events as e
from holdfast.core.states import api_state, hold
from holdfast.core.values import Stored, encode
from holdfast.errors import FlowNotFound, HoldfastError, LeaseLost, TaskGone, WorldError
from holdfast.runtime.drive import Drive
from holdfast.store.base import Append, Appended, Store, Tx
from holdfast.tasks import finish, rest, take
from holdfast.tasks.row import TaskRow
from holdfast.tasks.row import lock as lock_row
from holdfast.worker import report
from holdfast.worker.lease import Lease
from holdfast.worker.load import DefinitionChanged, fold_verbs, load, rest_aside
from holdfast.worker.record import Recorder

if TYPE_CHECKING:
    from holdfast.clock import Clock
    from holdfast.flow.patterns import Flow
    from holdfast.runtime.choice import Runtimes
    from holdfast.settings import Settings

LINGER_S = 2.0  # a task that waits longer than this for its timer is given back
_RESTING_PREFIX = "SUSPENDED/"


class Job:
    """One task that this worker has."""

    __slots__ = ("batch", "drive", "flushed_at", "recorder", "seen", "task", "token")

    def __init__(self, task: TaskRow, drive: Drive, recorder: Recorder, seen: int) -> None:
        self.task = task
        self.drive = drive
        self.recorder = recorder
        self.seen = seen
        self.token = task.token or ""
        self.batch: tuple[list[e.Event], list[e.Event]] | None = None
        self.flushed_at = 0.0


class Worker:
    """See the module. `flows` are asked first for the flows of tasks; `seal` makes text of secrets. `only`: the ids of
    the tasks that it takes; it leaves all others alone."""

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
    ) -> None:
        self._store = store
        self._runtimes = runtimes
        self._clock = clock
        self._settings = settings
        self._flows = flows
        self._pool = pool
        self._only = only
        self._tasks_max = tasks_max
        self._seal = seal
        self._unseal = unseal
        self._slots = 1 if runtimes.is_inline else settings.workers_max
        self.lease = lease or Lease(store, clock, settings, pool)
        self.jobs: dict[int, Job] = {}
        self.lease.held = lambda: list(self.jobs)
        self._dirty: dict[int, None] = {}
        self._ended: set[int] = set()
        self._woken = threading.Event()
        self._poked = True
        self._changes = -1
        self._looked_at = 0.0
        self._next_due: float | None = None
        self.draining = False
        self._stopped = False
        self._mutex = threading.Lock()

    # --- being told -----------------------------------------------------------------------------------------------

    def poke(self) -> None:
        """Something was submitted, or a verb was accepted. From any thread."""
        self._poked = True
        self._woken.set()

    def stop(self) -> None:
        """Let `run` return after this round. From any thread."""
        self._stopped = True
        self._woken.set()

    # --- the loop -------------------------------------------------------------------------------------------------

    def run(self, until: Callable[[], bool] | None = None) -> None:
        """Work until `stop`, or until `until()` says so while there is nothing to do."""
        self.lease.start(self._lost_lease)
        while not self._stopped:
            now = self._clock.time()
            try:
                did = self.turn(now)
            except WorldError as error:
                if not error.retryable:
                    raise
                did = False  # nothing is lost: all that was not stored is said again
            if did:
                continue
            if until is not None and until():
                return
            self._clock.wait(self._woken, self._pause_s(self._clock.time()))
            self._woken.clear()

    def is_idle(self) -> bool:
        """Whether nothing is left that this worker could do now or after a while: none of its tasks, none due, none
        that time alone will make due."""
        return not self.jobs and self._next_due is None and not self._poked

    def _pause_s(self, now: float) -> float | None:
        moments = [at for job in self.jobs.values() if (at := job.drive.next_at()) is not None]
        if self._next_due is not None:
            moments.append(self._next_due)
        pause = min(moments) - now if moments else self._settings.poll_s
        return max(0.0, min(pause, self._settings.poll_s))

    def turn(self, now: float) -> bool:
        """One round; whether anything was done."""
        did = False
        if self.lease.turn(now):
            self._poked = True
        if self._poked or now - self._looked_at >= self._settings.poll_s or now < self._looked_at:
            did = self._look(now)
        self._flush_progress(now)
        batch = self._advance(now)
        if not batch:
            self._give_back(now)
            return did
        self._append(batch, now)
        return True

    def close(self) -> None:
        """Give everything back: ask steps to stop, record what they say, let others take the tasks."""
        self.lease.stop()
        self._runtimes.close(self._settings.grace_s)
        now = self._clock.time()
        try:
            for job in list(self.jobs.values()):
                facts = job.drive.facts_now(now)
                if facts:
                    self._append_facts(job, facts, now)
            self.lease.leave(now)
        except (LeaseLost, WorldError):
            pass  # whoever sweeps will find that we are gone
        self.jobs.clear()

    # --- hearing and taking ---------------------------------------------------------------------------------------

    def _look(self, now: float) -> bool:
        self._looked_at = now
        poked, self._poked = self._poked, False
        changes = self._store.changes()
        due = self._next_due is not None and self._next_due <= now
        if not poked and changes == self._changes and not due:
            return False
        self._changes = changes
        heard = self._hear(now) if self.jobs else False
        return self._take(now) or heard

    def _hear(self, now: float) -> bool:
        called = self._store.read(lambda tx: take.called(tx, self.lease.id))
        heard = []
        for task, seq in called:
            job = self.jobs.get(task)
            if job is None or job.batch is not None:
                continue
            if seq > job.seen:
                self._fold_new(job)
            heard.append(job)
            self._dirty[task] = None
        if heard:
            self._store.write(lambda tx: _note_heard(tx, heard))
        return bool(heard)

    def _fold_new(self, job: Job) -> None:
        rows = self._store.journal(job.task.id, job.seen)
        if rows:
            job.drive.saw(fold_verbs(job.drive.state, rows, self._unseal))
            job.seen = rows[-1].seq
            job.recorder.forget_columns()

    def _take(self, now: float) -> bool:
        room = self._tasks_max - len(self.jobs)
        if self.draining or room <= 0:
            return False
        self.lease.register(now)
        found: list[TaskRow] = []
        if self._store.read(lambda tx: take.peek(tx, now=now, limit=1, pool=self._pool, only=self._only)):
            found = self._store.write(
                lambda tx: take.take(
                    tx,
                    self.lease.id,
                    generation=self._store.generation,
                    nonce=self._clock.token_hex(8),
                    now=now,
                    limit=room,
                    pool=self._pool,
                    only=self._only,
                )
            )
        for row in found:
            self._start(row, now)
        self._next_due = self._store.read(lambda tx: take.next_due(tx, now, pool=self._pool, only=self._only))
        return bool(found)

    def _start(self, row: TaskRow, now: float) -> None:
        try:
            loaded = load(self._store, row, self._flows, deaths_max=self._settings.deaths_max, unseal=self._unseal)
        except (DefinitionChanged, FlowNotFound, TaskGone) as error:
            rest_aside(self._store, row, "definition_changed", error, now)
            return
        except WorldError:
            raise
        except Exception as error:  # one bad task hurts no other
            rest_aside(self._store, row, "poison", error, now)
            return
        state = loaded.state
        deadline_s = state.plan.options.deadline_s
        job_ref: list[Job] = []

        def wake() -> None:
            self._ended.add(row.id)
            self._woken.set()

        drive = Drive(
            state,
            task_id=row.uuid,
            runtimes=self._runtimes,
            clock=self._clock,
            slots=self._slots,
            wake=wake,
            keep=self._keep,
            flush=lambda drive, fact, done: self._flush(job_ref[0], fact, done),
            reference=row.reference,
            deadline_at=None if deadline_s is None else row.created_at + deadline_s,
            grace_s=self._settings.grace_s,
        )
        loaded.recorder.said = drive.progress_of
        job = Job(row, drive, loaded.recorder, loaded.seq)
        job_ref.append(job)
        if state.running:
            drive.note(e.TakenOver(row.epoch, now))
        self.jobs[row.id] = job
        self._dirty[row.id] = None

    def _keep(self, value: Any, name: str) -> Any:
        return Stored.of(value, self._seal, name=name, bytes_max=self._settings.value_bytes_max)

    # --- writing --------------------------------------------------------------------------------------------------

    def _advance(self, now: float) -> list[tuple[Job, Append]]:
        """What every task that has something to say wants written."""
        while self._ended:
            self._dirty[self._ended.pop()] = None
        for job in self.jobs.values():
            at = job.drive.next_at()
            if at is not None and at <= now:
                self._dirty[job.task.id] = None
        batch = []
        for job in [self.jobs[task] for task in self._dirty if task in self.jobs]:
            try:
                facts, decisions = job.drive.advance(now)
                if facts or decisions:
                    job.batch = (facts, decisions)
                    then = self._then(job, decisions, now)
                    batch.append((job, job.recorder.append(job.token, job.seen, facts, decisions, now, then)))
            except Exception as error:
                self._set_aside(job, error, now)
        self._dirty.clear()
        return batch

    def _then(self, job: Job, decisions: Sequence[e.Event], now: float) -> Callable[[Tx], None] | None:
        """What goes with the end of a task, or with its coming to rest."""
        last = decisions[-1] if decisions else None
        if type(last) is e.Ended:
            return self._finish(job, last, now)
        if type(last) is e.Rested:
            state = job.drive.state
            release_claims = bool(state.release_claims and last.reason == "asked")

            def give_back(tx: Tx) -> None:
                take.release(tx, job.task.id, job.token, due_at=None, now=now)
                if release_claims:
                    rest.at_rest(tx, lock_row(tx, job.task.id), now, never_began=False, release_claims=True)

            return give_back
        return None

    def _finish(self, job: Job, ended: e.Ended, now: float) -> Callable[[Tx], None]:
        columns = job.recorder.end_columns(ended, lambda value: encode(value, self._seal))
        effect, revert = job.recorder.aftermath(ended)

        def end(tx: Tx) -> None:
            finish.ended(
                tx,
                job.task.id,
                ended.state,
                now,
                retention_s=self._settings.retention_s,
                left=(effect, revert),
                **columns,
            )

        return end

    def _append(self, batch: list[tuple[Job, Append]], now: float) -> None:
        try:
            answers = self._store.append([append for _, append in batch])
        except WorldError:
            for job, _ in batch:  # nothing was stored; all of it is still to be said
                job.batch = None
                self._dirty[job.task.id] = None
            raise
        self._runtimes.begin_batch()
        for (job, _), answer in zip(batch, answers, strict=True):
            facts, decisions = job.batch or ([], [])
            job.batch = None
            if isinstance(answer, LeaseLost):
                self._lose(job)
            elif isinstance(answer, Exception):
                self._set_aside(job, answer, now)
            else:
                self._answered(job, answer, facts, decisions)
        self._runtimes.end_batch()

    def _answered(self, job: Job, answer: Appended, facts: list[e.Event], decisions: list[e.Event]) -> None:
        job.recorder.appended(answer, facts, decisions)
        job.seen = answer.seq
        if not answer.accepted:
            job.recorder.forget_columns()
            job.drive.refused(fold_verbs(job.drive.state, answer.unseen, self._unseal))
            self._dirty[job.task.id] = None
            return
        job.drive.accepted(decisions)
        last = decisions[-1] if decisions else None
        if type(last) is e.Ended or type(last) is e.Rested:
            self._forget(job)
            self._poked = True
        else:
            self._dirty[job.task.id] = None

    def _flush(self, job: Job, fact: e.Event, done: Callable[[BaseException | None], None]) -> None:
        """Make one fact durable while this thread is inside the step that reports it."""
        job.drive.note(fact)
        try:
            self._append_facts(job, [fact], self._clock.time())
        except (LeaseLost, HoldfastError) as error:
            done(error)
            return
        job.drive.facts.clear()
        job.drive.ask_now(self._clock.time())
        done(None)

    def _append_facts(self, job: Job, facts: list[e.Event], now: float) -> None:
        append = job.recorder.append(job.token, job.seen, facts, (), now, None)
        answer = self._store.append([append])[0]
        if isinstance(answer, Exception):
            raise answer
        job.recorder.appended(answer, facts, ())
        if answer.unseen:
            job.drive.saw(fold_verbs(job.drive.state, answer.unseen, self._unseal))
            job.recorder.forget_columns()
        job.seen = answer.seq

    # --- letting go -----------------------------------------------------------------------------------------------

    def _give_back(self, now: float) -> None:
        """Tasks that only wait, and long: others may take them when their time has come."""
        for job in list(self.jobs.values()):
            state = job.drive.state
            if job.drive.calls or state.running or job.drive.inbox or job.task.id in self._dirty:
                continue
            at = job.drive.next_at()
            if at is not None and at - now <= LINGER_S and not self.draining:
                continue
            if not (state.phase == "WAITING" or state.phase.startswith(_RESTING_PREFIX) or at is not None):
                continue
            self._store.write(partial(_release, job, at, now))
            self._forget(job)
            self._poked = True

    def _flush_progress(self, now: float) -> None:
        """Write the latest progress of running steps, at most every `progress_interval_s` for a task."""
        for job in self.jobs.values():
            if job.drive.progress_is_new and now - job.flushed_at >= self._settings.progress_interval_s:
                job.flushed_at = now
                job.drive.progress_is_new = False
                said = [report.of(job.recorder, row, *told) for row, told in list(job.drive.progress_of.items())]
                self._store.write(partial(report.write, job.task.id, job.token, job.recorder.done(), said, now))

    def _forget(self, job: Job) -> None:
        self.jobs.pop(job.task.id, None)
        self._dirty.pop(job.task.id, None)

    def _lose(self, job: Job) -> None:
        """Another worker has it."""
        job.drive.drop()
        self._forget(job)

    def _set_aside(self, job: Job, error: Exception, now: float) -> None:
        """This task can't be driven: it rests for a person, and the others go on."""
        job.batch = None
        job.drive.drop()
        self._forget(job)
        try:
            phase = job.drive.state.phase
            at = job.task._replace(seq=job.seen, state=api_state(phase), hold=hold(phase))
            rest_aside(self._store, at, "poison", error, now)
        except LeaseLost:
            pass

    def _lost_lease(self, tasks: Sequence[int] | None) -> None:
        """The lease's thread says: these tasks, or (None) all, are no longer ours."""
        for task in list(self.jobs) if tasks is None else tasks:
            job = self.jobs.get(task)
            if job is not None:
                job.drive.stop_steps()
                self._ended.add(task)
        self._woken.set()


def _note_heard(tx: Tx, jobs: Sequence[Job]) -> None:
    for job in jobs:
        take.heard(tx, job.task.id, job.token, job.seen)


def _release(job: Job, due_at: float | None, now: float, tx: Tx) -> None:
    take.release(tx, job.task.id, job.token, due_at=due_at, now=now, seen=job.seen)
