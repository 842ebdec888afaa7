"""The driver of one task: it asks the core what to do, makes it durable through its owner, and then does it.

Theory: the loop of DESIGN.md §4, cut where the owner must act. `advance` folds what user code has done since, asks
`decide`, and hands out facts and decisions; the owner makes them durable; `accepted` folds the decisions and starts
user code, `refused` folds the verbs that lay between, and the next `advance` decides anew. One append is in flight at
a time; outcomes that arrive meanwhile wait in the inbox. Only the owner's thread calls these three; runtimes call
`ended`, `checkpoint` and `progress` from any.

What an outcome means: outcome.py. How long to wait for a stop: patience.py. How to run and stop code is the
runtimes' (base.py). The owners: run.py in memory, worker/loop.py on a store.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from holdfast.core import commands as c
from holdfast.core import events as e
from holdfast.core.decide import decide, next_due
from holdfast.core.machine import apply
from holdfast.core.state import State
from holdfast.core.states import RESTING, S_REVERTING
from holdfast.errors import HoldfastError, LeaseLost, UsageError
from holdfast.runtime.answer import answer_of
from holdfast.runtime.base import Call
from holdfast.runtime.decision import begin_of, decision_of
from holdfast.runtime.launch import call_of, give
from holdfast.runtime.outcome import fact_of
from holdfast.runtime.patience import Patience

if TYPE_CHECKING:
    from holdfast.clock import Clock
    from holdfast.runtime.choice import Runtimes

Keep = Callable[[Any, str], Any]
_STARTS = frozenset((e.Started, e.Reentered, e.RevertStarted))
_BEGINS = (c.Start, c.Reenter, c.Revert)
GRACE_S = 5.0  # how long a step that was asked to stop may take, where neither it nor the settings say


class Drive:
    """See the module. `slots` bounds how many of this task's rows run at once. `keep(value, name)` makes a value
    storable or raises ValueRefused; None keeps it as it is. `wake` tells the owner that the inbox has something.
    `flush(drive, fact, done)` makes one fact durable while the owner's own thread is inside a step."""

    def __init__(
        self,
        state: State,
        *,
        task_id: str,
        keys_of: str | None = None,
        runtimes: Runtimes,
        clock: Clock,
        slots: int,
        wake: Callable[[], None] | None = None,
        keep: Keep | None = None,
        flush: Callable[[Drive, e.Event, Callable[[BaseException | None], None]], None] | None = None,
        reference: str | None = None,
        deadline_at: float | None = None,
        grace_s: float = GRACE_S,
        desk: Any = None,
        fence: int = 0,
    ) -> None:
        self.state = state
        self.fence = fence  # of the owner's right to the task (context.py)
        self.task_id = task_id
        self.owner: Any = None  # who has made it, for the runtimes that ask
        self.desk = desk  # where steps that make child tasks ask for them (flow/child.py); None: nowhere
        self.keys_of = keys_of or task_id
        self.inbox: deque[Any] = deque()
        self.facts: list[e.Event] = []
        self.dones: list[tuple[Call, Callable[[BaseException | None], None]]] = []  # checkpoints that wait to be stored
        self.calls: dict[int, Call] = {}
        self.progress_of: dict[int, tuple[float, str | None]] = {}
        self.progress_is_new = False
        self.deadline_at = deadline_at
        self._runtimes = runtimes
        self.clock = clock
        self._slots = slots
        self._wake = wake
        self._keep = keep
        self._flush = flush
        self._reference = reference
        self._patience = Patience(self.calls, grace_s)
        self._in_start = False
        self.is_dropped = False  # the task is another worker's
        self.halted = False
        self.starved = False  # something could begin, but no thread or process is free

    # --- what runtimes say, from any thread ----------------------------------------------------------------------

    def ended(self, call: Call) -> None:
        if call.placed:
            self._runtimes.places.give_back(call)
        self.inbox.append(call)
        if self._wake is not None and not self._in_start:
            self._wake()

    def checkpoint(self, call: Call, value: Any, done: Callable[[BaseException | None], None]) -> None:
        if call.isolation == "inline" and self._flush is not None:
            self._flush_now(call, value, done)
            return
        self.inbox.append((call, value, done))
        if self.is_dropped:  # looked at after the append, as `drop` looks at the inbox after it has said so
            self._refuse_checkpoints()
        elif call.isolation == "thread" and call.stop_reason == "lease_lost":
            done(LeaseLost())
        elif call.isolation == "inline":
            self._drain(self.clock.time())
            self.settle_checkpoints(None)
        elif self._wake is not None:
            self._wake()

    def _flush_now(self, call: Call, value: Any, done: Callable[[BaseException | None], None]) -> None:
        assert self._flush is not None
        try:
            kept = value if self._keep is None else self._keep(value, f"the checkpoint of {call.step_id}")
        except UsageError as error:
            done(error)
            return
        self._flush(self, e.Checkpointed(call.row, kept, self.clock.time()), done)

    def progress(self, call: Call, fraction: float, message: str | None) -> None:
        if self.calls.get(call.row) is not call:
            return  # it was left behind, and what it does is nobody's
        told = self.progress_of.get(call.row)
        if told is not None and told[0] > fraction:
            fraction = told[0]  # never back within an attempt
        self.progress_of[call.row] = (fraction, message)
        self.progress_is_new = True

    # --- what the owner calls ------------------------------------------------------------------------------------

    def advance(self, now: float) -> tuple[list[e.Event], list[e.Event]]:
        """Fold what has happened and ask what to do: (facts already folded, decisions to be made true). Both empty:
        nothing to do until something ends or `next_at`."""
        if self.inbox:
            self._drain(now)
        for call in self._patience.tick(now):
            self._abandon(call, now)
        if self.deadline_at is not None and now >= self.deadline_at and not self.state.deadline_reached:
            self._fold(e.DeadlineReached(now))
        decisions: list[e.Event] = []
        self.starved = False
        while not self._decide(now, decisions):
            decisions.clear()
        return self.facts, decisions

    def accepted(self, decisions: Iterable[e.Event]) -> None:
        """The append is durable: fold its decisions and act on them."""
        self.facts = []
        for event in decisions:
            apply(self.state, event)
        if self.dones:
            self.settle_checkpoints(None)
        self._in_start = True
        try:
            for event in decisions:
                if type(event) in _STARTS:
                    row: int = event.row  # type: ignore[union-attr]
                    self._launch(row, "revert" if self.state.st[row] == S_REVERTING else "execute")
        finally:
            self._in_start = False

    def refused(self, unseen: Iterable[e.Event]) -> None:
        """The facts are durable, the decisions are not: verbs lay between."""
        self.facts = []
        for event in unseen:
            apply(self.state, event)
        self.settle_checkpoints(None)

    def saw(self, events: Iterable[e.Event]) -> None:
        """Verbs that others appended, before any append of ours met them."""
        for event in events:
            apply(self.state, event)

    def note(self, fact: e.Event) -> None:
        """A fact that the owner knows of."""
        self._fold(fact)

    def facts_now(self, now: float) -> list[e.Event]:
        """What has happened since, folded. Nothing is decided."""
        self._drain(now)
        return self.facts

    def ask_now(self, now: float) -> None:
        """Pass on requests to stop, and nothing else: the owner's thread is inside a step."""
        for command in decide(self.state, now, 0):
            if type(command) is c.Ask:
                self._ask(command, now)

    def next_at(self, advanced_at: float | None = None) -> float | None:
        """When to call `advance` again though nothing has ended, if it was called last at `advanced_at`. Of one that
        rests only its steps' time counts."""
        if self.state.phase in RESTING:
            return self._patience.next_at()
        moments = [at for at in (self._patience.next_at(), next_due(self.state, advanced_at)) if at is not None]
        if self.deadline_at is not None and not self.state.deadline_reached:
            moments.append(self.deadline_at)
        return min(moments) if moments else None

    def leave_behind(self, now: float) -> bool:
        """Its worker leaves, and nothing can end what still runs: that is another's to find out. Whether there is any.
        Agents go on as ever."""
        self._drain(now)
        left = [call for call in self.calls.values() if call.isolation != "agent"]
        for call in left:
            del self.calls[call.row]
            if call.what != "probe":
                why = e.Died(call.row, "left behind", now, ours=True) if call.began else e.Withdrawn(call.row, now)
                self._fold(why)
        return bool(left)

    def drop(self) -> None:
        """Another worker has the task: stop everything and write nothing more."""
        self.is_dropped = True
        self.settle_checkpoints(LeaseLost())
        self._refuse_checkpoints()
        self.stop_steps()

    def _refuse_checkpoints(self) -> None:
        """Let nobody wait for what will never be written."""
        while True:
            try:
                item = self.inbox.popleft()
            except IndexError:
                return
            if type(item) is tuple:
                item[2](LeaseLost())

    def stop_steps(self) -> None:
        """The lease is lost or nearly: whatever runs must stop now, and nothing begins while it is `halted`. From any
        thread. A step that waits for its checkpoint would stop when the database is back, beside its successor."""
        self.halted = True
        self._patience.stop_all()
        waiting = [*self.dones, *((item[0], item[2]) for item in list(self.inbox) if type(item) is tuple)]
        for call, done in waiting:
            if call.isolation == "thread":
                done(LeaseLost())

    def kill_coroutines(self) -> None:
        """Cancel what runs on the event loop, for a cancel that came from there."""
        for call in list(self.calls.values()):
            if call.isolation == "async":
                call.stop_reason = "cancel"
                call.runtime.kill(call)

    def settle_checkpoints(self, error: BaseException | None) -> None:
        dones, self.dones = self.dones, []
        for _, done in dones:
            done(error)

    # --- folding -------------------------------------------------------------------------------------------------

    def _fold(self, fact: e.Event) -> None:
        apply(self.state, fact)
        self.facts.append(fact)

    def _drain(self, now: float) -> None:
        inbox = self.inbox
        while inbox:
            item: Any = inbox.popleft()
            if type(item) is tuple:
                self._note_checkpoint(*item, now=now)
                continue
            row: int = item.row
            held: Call | None = self.calls.get(row)
            if held is None or held is not item:
                continue  # it was abandoned, or is of a lease long lost
            del self.calls[row]
            self._patience.forget(row)
            fact = fact_of(held, self.state, now, self._keep)
            if self.progress_of and type(fact) is not e.Parked:  # a step that polls is not done with what it said
                self.progress_of.pop(row, None)
            if fact is not None:
                apply(self.state, fact)
                self.facts.append(fact)

    def _note_checkpoint(
        self, call: Call, value: Any, done: Callable[[BaseException | None], None], *, now: float
    ) -> None:
        if self.calls.get(call.row) is not call:
            done(HoldfastError("the step is no longer this worker's"))
            return
        try:
            kept = value if self._keep is None else self._keep(value, f"the checkpoint of {call.step_id}")
        except UsageError as error:
            done(error)
            return
        self._fold(e.Checkpointed(call.row, kept, now))
        self.dones.append((call, done))

    # --- deciding ------------------------------------------------------------------------------------------------

    def _decide(self, now: float, decisions: list[e.Event]) -> bool:
        """One round. False: user code or the world has answered at once, so ask again."""
        state = self.state
        folded = False
        for command in decide(state, now, max(0, self._slots - len(self.calls))):
            kind = type(command)
            if isinstance(command, _BEGINS):
                if not self._has_place(command):
                    self.starved = True
                    continue
                if not isinstance(command, c.Reenter) and command.alone:
                    self._runtimes.alone.add((self.task_id, command.row))
                decisions.append(begin_of(command, state, now, self._is_agents(command.row) or None))
            elif kind is c.Decide or kind is c.Expand or kind is c.Expire:
                self._fold(answer_of(command, state, now))
                folded = True
            elif kind is c.Ask:
                self._ask(command, now)
            elif kind is c.Probe:
                if command.row not in self.calls and not self.halted:  # type: ignore[union-attr]
                    self._launch(command.row, "probe")  # type: ignore[union-attr]
                    folded = folded or self._took(now)
            else:
                decisions.append(decision_of(command, state, now, self.clock.random() if kind is c.Schedule else 0.0))
        if self.starved and len(decisions) == 1 and type(decisions[0]) is e.Began:
            decisions.clear()  # it begins with its first step
        return not folded

    def _is_agents(self, row: int) -> bool:
        return self._runtimes.agents is not None and self.state.steps[row].agent is not None  # type: ignore[union-attr]

    def _has_place(self, command: Any) -> bool:
        """Whether a thread or a process is free for it; else it is decided on when one is."""
        step: Any = self.state.steps[command.row]
        undoes = type(command) is c.Revert or self.state.st[command.row] == S_REVERTING
        wanted = step.revert_isolation if undoes else step.isolation
        if self._is_agents(command.row) or (wanted == "thread" and self._runtimes.is_inline):
            return not self._runtimes.places.closed
        return self._runtimes.places.promise(self._runtimes.name_of(wanted, getattr(command, "alone", False)))

    def _ask(self, command: Any, now: float) -> None:
        call = self.calls.get(command.row)
        if call is not None:
            self._patience.ask(call, command.reason, now)

    def _took(self, now: float) -> bool:
        """Whether an inline probe has answered already."""
        took = bool(self.inbox)
        self._drain(now)
        return took

    # --- user code -----------------------------------------------------------------------------------------------

    def _launch(self, row: int, what: str) -> None:
        call = self.calls[row] = self._made(row, what)
        self._runtimes.places.take(call)
        if self.halted:
            call.outcome = ("stopped", "lease_lost")
            self.ended(call)
            return
        try:
            give(self, call)
        except Exception as error:
            call.began = True
            call.outcome = ("raised", error)
            self.ended(call)
            return
        try:
            call.runtime.start(call)
        except (OSError, RuntimeError) as error:  # the system has no process or thread left for it
            call.outcome = ("raised", error)
            self.ended(call)
            return
        if call.deadline_at is not None and call.outcome is None and call.isolation != "agent":
            self._patience.watch(call)

    def _made(self, row: int, what: str) -> Call:
        return call_of(self, row, what, self._runtimes, self._reference)

    # --- what agents run ------------------------------------------------------------------------------------------

    def attach(self, row: int, timeout_s: float | None, since: float) -> Call:
        """The call of a row that an agent has since before this drive. Its time is counted from `since`."""
        call = self._made(row, "revert" if self.state.st[row] == S_REVERTING else "execute")
        call.deadline_at = None if timeout_s is None else since + timeout_s
        self.calls[row] = call
        return call

    def began(self, call: Call) -> None:
        """An agent has begun with it: its time runs."""
        if not call.began:
            call.begin()
        if call.deadline_at is not None and call.outcome is None:
            self._patience.watch(call)

    def _abandon(self, call: Call, now: float) -> None:
        """Its thread heeds nothing: leave it behind. What it still does is nobody's."""
        del self.calls[call.row]
        self._patience.forget(call.row)
        self._runtimes.places.give_back(call)
        abandon = getattr(call.runtime, "abandon", None)
        if abandon is not None:
            abandon(call)
        self._fold(e.Abandoned(call.row, now))
