"""One task that a worker has: its drive, its recorder, its token; and what is written for it.

When it is written, and what follows: worker/loop.py. How it came to be: worker/load.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from holdfast.core import events as e
from holdfast.core.doubt import poisons
from holdfast.core.progress import aftermath
from holdfast.core.states import api_state, hold
from holdfast.core.values import Stored, encode
from holdfast.errors import HoldfastError, LeaseLost, StateError, StoreUnknown
from holdfast.runtime.drive import Drive
from holdfast.store.base import Append, Appended, Joint, Store, Tx
from holdfast.tasks import agents, finish, rest, row, take
from holdfast.tasks.row import TaskRow
from holdfast.worker import report
from holdfast.worker.agents import Agents
from holdfast.worker.desk import held_up, stop
from holdfast.worker.load import STARTS, Loaded, fold_verbs, rest_aside
from holdfast.worker.telling import Telling

if TYPE_CHECKING:
    from holdfast.clock import Clock
    from holdfast.runtime.base import Call
    from holdfast.runtime.choice import Runtimes
    from holdfast.settings import Settings
    from holdfast.tasks.agents import Lease

_RESTING_PREFIX = "SUSPENDED/"
_ELSEWHERE = ("async", "agent")  # where a step needs neither a thread nor a process of this worker's


class Taken:
    """See the module. `wake` tells the worker that its inbox has something."""

    __slots__ = (
        "_batch", "_flushed_at", "_held_up", "_is_alone", "_seal", "_settings", "_store", "_unseal", "drive",
        "entries", "has_more", "leases", "recorder", "seen", "task", "telling", "timer_at", "token",
    )  # fmt: skip

    def __init__(
        self,
        task: TaskRow,
        loaded: Loaded,
        store: Store,
        runtimes: Runtimes,
        *,
        clock: Clock,
        settings: Settings,
        seal: Any,
        unseal: Any,
        wake: Callable[[], None],
        desk: Any = None,
    ) -> None:
        self.task = task
        self.token = task.token or ""
        self.seen = loaded.seq
        self.recorder = loaded.recorder
        self.timer_at: float | None = None
        self._store = store
        self._settings = settings
        self._seal = seal
        self._unseal = unseal
        self._batch: tuple[list[e.Event], list[e.Event]] | None = None
        self._flushed_at = 0.0
        self._is_alone = finish.is_alone(task, has_claims=loaded.has_claims)
        self._held_up = False  # its children must end, or come to rest, before it does
        self.has_more = True  # whether the drive is to be asked again at once
        deadline_s = loaded.state.plan.options.deadline_s
        deadline_at = None if deadline_s is None else task.created_at + deadline_s
        if not task.ready:  # taken because it is late, without its claims: nothing of it may begin, whatever the clock
            deadline_at = 0.0
        self.drive = Drive(
            loaded.state,
            task_id=task.uuid,
            keys_of=loaded.keys_of,
            runtimes=runtimes,
            clock=clock,
            slots=1 if runtimes.is_inline else settings.workers_max,
            wake=wake,
            keep=lambda value, name: Stored.of(value, seal, name=name, bytes_max=settings.value_bytes_max),
            flush=_flush,
            reference=task.reference,
            deadline_at=deadline_at,
            grace_s=settings.grace_s,
            desk=desk,
            fence=task.epoch,
        )
        self.recorder.said = self.drive.progress_of
        self.telling = Telling(task, loaded.state, loaded.recorder, settings.progress_interval_s, clock.time())
        self.drive.owner = self
        self.entries = loaded.entries  # the seqs of the rows that recorded the starts of what is in flight
        self.leases: dict[int, Call] = {}  # what agents run, or are to run
        away = runtimes.agents.attach(self, loaded, clock.time()) if isinstance(runtimes.agents, Agents) else ()
        here = [row for row in loaded.state.running if row not in away]
        if here:
            self.drive.note(e.TakenOver(task.epoch, clock.time(), poisons(loaded.state, here), away or None))

    # --- one append -----------------------------------------------------------------------------------------------

    def advance(self, now: float) -> Append | None:
        """What is to be written now; None: nothing."""
        facts, decisions = self.drive.advance(now)
        self._held_up = self.drive.desk is not None and bool(decisions) and self._waits_for_children(decisions[-1], now)
        if self._held_up:
            decisions = []
        if not facts and not decisions:
            return None
        self._batch = (facts, decisions)
        last = decisions[-1] if decisions else None
        end = self._end(last, now) if type(last) is e.Ended else None
        append = self.recorder.append(self.token, self.seen, facts, decisions, now, self._then(last, end, now))
        if end is not None and end.before is not None:
            append = append._replace(projection={**(append.projection or {}), **finish.columns_of(end)})
        append = self.telling.add(append, decisions, now)
        if end is not None and self._is_alone:
            append = append._replace(news=[*append.news, finish.news_of(end)])
        return append

    def _waits_for_children(self, last: e.Event, now: float) -> bool:
        """Whether this end, or this rest, has to wait for children, which are told so. Their own rings."""
        ends = type(last) is e.Ended
        if not ends and type(last) is not e.Rested:
            return False
        task = self.task
        if not self._store.read(lambda tx: held_up(tx, task.id, ends=ends)):
            return False
        word = "suspend"
        if ends:
            word = "abort" if last.state == "ABORTED" else "cancel"  # type: ignore[union-attr]
        if not ends or word == "abort" or not (self.drive.state.turned or last.state == "SUCCEEDED"):  # type: ignore[union-attr]
            self._store.write(lambda tx: stop(tx, task, now, word))
        return True

    def may_leave(self, now: float, linger_s: float, *, draining: bool = False) -> bool:
        """Whether the task only waits, and for longer than `linger_s`: for a time, an event, a child, a person. Of a
        worker that drains: whether nothing of it runs."""
        drive = self.drive
        state = drive.state
        if drive.calls or state.running or drive.inbox or draining:
            if drive.inbox or len(drive.calls) != len(self.leases) or len(state.running) != len(self.leases):
                return False
            return draining or self._waits_for_agents(now, linger_s)
        if drive.starved:
            return False
        at = drive.next_at()
        if at is not None:
            return at - now > linger_s
        waits = state.phase == "WAITING" or state.phase.startswith(_RESTING_PREFIX)
        return waits or bool(state.parked) or self._held_up

    @property
    def is_running(self) -> bool:
        """Whether a step of it goes on here."""
        return any(call.outcome is None and call.isolation != "agent" for call in self.drive.calls.values())

    @property
    def is_kept_waiting(self) -> bool:
        """Whether the task has not begun, and all that it lacks is a thread or a process."""
        return self.drive.starved and self.drive.state.phase == "PENDING" and not self.drive.inbox

    @property
    def wants_place(self) -> bool:
        """Whether a step of it runs on a thread or in a process, or is about to."""
        drive = self.drive
        if drive.starved or drive.inbox:
            return True
        return any(call.isolation not in _ELSEWHERE for call in drive.calls.values())

    def _waits_for_agents(self, now: float, linger_s: float) -> bool:
        """Whether no agent has begun yet with what is offered, for longer than `linger_s`. Once one has, the task is
        kept, for its progress; but a worker that looks for room (0 s) counts it among those that only wait."""
        offered = [call.handle.offered_at for call in self.leases.values() if linger_s <= 0 or not call.began]
        return len(offered) == len(self.leases) and now - max(offered) >= linger_s

    def is_between_rounds(self, now: float) -> bool:
        """Whether the task never ends by itself, and does nothing now."""
        return take.goes_round(self.task) and self.may_leave(now, 0.0)

    def due_at(self, now: float) -> float | None:
        """When whoever takes it next has something to do. It is starved where this worker begins nothing any more."""
        return now if self.drive.starved else self.drive.next_at()

    def _end(self, last: e.Ended, now: float) -> finish.End:
        columns = self.recorder.end_columns(last, lambda value: encode(value, self._seal))
        left = aftermath(self.drive.state, last.state)
        # Where it is nobody's operation, no more than that is to be known of the row.
        before = None if self.task.resource_type else self.task._replace(state=api_state(self.drive.state.phase))
        return finish.End(
            self.task.id, last.state, now, self._settings.retention_s, left, columns=columns, before=before
        )

    def _then(self, last: e.Event | None, end: finish.End | None, now: float) -> Callable[[Tx], None] | None:
        """What goes with the end of the task, or with its coming to rest."""
        if type(last) is e.Rested:
            return partial(_rested, self.task.id, self.token, now)
        if end is not None and not self._is_alone:
            return Joint(finish.ended_all, end)
        return None

    def answered(self, answer: Appended) -> bool:
        """The append was taken, whole or its facts only; whether the task is off this worker's hands by it."""
        assert self._batch is not None
        facts, decisions = self._batch
        self.recorder.appended(answer, facts, decisions)
        if self.telling.tells is not None:
            self.telling.taken(answer.accepted)
        self.seen = answer.seq
        self.drive.facts = []
        self._batch = None
        self.has_more = True
        if not answer.accepted:
            self.recorder.forget_columns()
            self.drive.refused(fold_verbs(self.drive.state, answer.unseen, self._unseal))
            return False
        if self.drive.state.plan.remote:
            for seq, event in enumerate(decisions, answer.seq - len(decisions) + 1):
                if type(event) in STARTS:
                    self.entries[event.row] = seq  # type: ignore[union-attr]
        self.drive.accepted(decisions)
        # After starts there is nothing more to decide until one of them ends, and that rings.
        self.has_more = bool(self.drive.inbox) or any(type(event) not in STARTS for event in decisions)
        is_over = bool(decisions) and type(decisions[-1]) in (e.Ended, e.Rested)
        if is_over and not self.drive.state.plan.remote:
            self.drive.owner = None  # else the two hold each other, and are freed by a collection of garbage only
        return is_over

    def unanswered(self) -> None:
        """Nothing was stored: all of it is still to be said."""
        self._batch = None
        self.recorder.not_stored()

    # --- facts alone ----------------------------------------------------------------------------------------------

    def saving(self, now: float) -> Append | None:
        """What has happened, to be stored on the way out. None: nothing has."""
        if self._batch is not None:
            return None  # interrupted while it was written: it may be stored, and must not be twice
        facts = self.drive.facts_now(now)
        if not facts:
            return None
        self._batch = (facts, [])
        return self.recorder.append(self.token, self.seen, facts, (), now, None)

    def saved(self, answer: Appended | Exception) -> None:
        """Raises: LeaseLost, WorldError."""
        if isinstance(answer, StoreUnknown):  # it may be stored, and must not be twice; what runs is left behind
            self.drive.settle_checkpoints(LeaseLost())
            self.drive.stop_steps()
            return
        self._batch = None
        self._stored(self.drive.facts, answer)
        self.drive.facts = []
        self.drive.settle_checkpoints(None)

    def append_facts(self, facts: list[e.Event], now: float) -> None:
        """Store what has happened and decide nothing. Raises: LeaseLost, WorldError."""
        append = self.recorder.append(self.token, self.seen, facts, (), now, None)
        self._stored(facts, self._store.append([append])[0])

    def _stored(self, facts: list[e.Event], answer: Appended | Exception) -> None:
        if isinstance(answer, Exception):
            raise answer
        self.recorder.appended(answer, facts, ())
        self.telling.untold = True
        if answer.unseen:
            self.drive.saw(fold_verbs(self.drive.state, answer.unseen, self._unseal))
            self.recorder.forget_columns()
        self.seen = answer.seq

    def hear(self) -> None:
        """Fold the verbs that others have appended. Raises: LeaseLost: what is new may be another worker's."""
        task, seen = self.task.id, self.seen
        token, rows = self._store.read(lambda tx: (row.read(tx, task).token, tx.journal(task, seen)))
        if token != self.token:
            raise LeaseLost(task=task)
        if rows:
            self.drive.saw(fold_verbs(self.drive.state, rows, self._unseal))
            self.seen = rows[-1].seq
            self.recorder.forget_columns()

    def progress(self, now: float) -> report.Report | None:
        """The latest progress of running steps, to be written and told to the feed, at most every
        `progress_interval_s`; None: there is nothing new."""
        is_new = self.drive.progress_is_new and now - self._flushed_at >= self._settings.progress_interval_s
        if not is_new and not self.telling.is_overdue(now):
            return None
        self._flushed_at = now
        self.drive.progress_is_new = False
        done, said = self.recorder.done(), self._said()
        tells, told = self.telling.apart(self.token, done, said, now)
        if not said and not tells:
            told()
            return None
        writes = partial(report.write, self.task.id, self.token, done, said, now)
        return report.Report(partial(_report, writes, tells), told)

    def leaving(self, now: float) -> Callable[[Tx], None]:
        """What gives the task back; what is untold of it is told first, because nobody else knows."""
        tells = None
        if self.telling.untold:
            tells, _ = self.telling.apart(self.token, self.recorder.done(), self._said(), now)
        return partial(_report, partial(_give_back, self, self.due_at(now), now), tells)

    def _said(self) -> list[report.Said]:
        return [report.of(self.recorder, row, *told) for row, told in list(self.drive.progress_of.items())]

    def set_aside(self, error: Exception, now: float) -> None:
        """This task can't be driven: it rests for a person."""
        self.drive.drop()
        phase = self.drive.state.phase
        at = self.task._replace(seq=self.seen, state=api_state(phase), hold=hold(phase))
        try:
            rest_aside(self._store, at, "poison", error, now)
        except (LeaseLost, StateError):
            pass  # it is another's, or stands where nothing more can be said of it


def _flush(drive: Drive, fact: e.Event, done: Callable[[BaseException | None], None]) -> None:
    """Make one fact durable while the worker's thread is inside the step that reports it."""
    drive.note(fact)
    try:
        drive.owner.append_facts([fact], drive.clock.time())
    except HoldfastError as error:
        done(error)
        return
    drive.facts.clear()
    drive.ask_now(drive.clock.time())
    done(None)


def _report(writes: Callable[[Tx], None], tells: Callable[[Tx], None] | None, tx: Tx) -> None:
    if tells is not None:
        tells(tx)
    writes(tx)


def _rested(task: int, token: str, now: float, tx: Tx) -> None:
    rest.rested(tx, task, token, now)


def note_heard(heard: Sequence[Taken], tx: Tx) -> list[tuple[Taken, list[Lease]]]:
    """Stop their bells; what agents have said is read after that, so that it rings again for what is said later."""
    for taken in heard:
        take.heard(tx, taken.task.id, taken.token, taken.seen)
    return [(taken, agents.of_task(tx, taken.task.id)) for taken in heard if taken.leases]


def _give_back(taken: Taken, due_at: float | None, now: float, tx: Tx) -> None:
    take.release(tx, taken.task.id, taken.token, due_at=due_at, now=now, seen=taken.seen)
