"""The core and the drive under a script: a runtime that ends calls as the test says, a clock that it sets, and a list
for a journal, with the store's rules for verbs that nobody has seen."""

from __future__ import annotations

from typing import Any

import holdfast as hf
from holdfast.clock import Clock
from holdfast.core import events as e
from holdfast.core.doubt import poisons
from holdfast.core.machine import replay
from holdfast.core.plan import Plan
from holdfast.core.state import State
from holdfast.core.states import TASK
from holdfast.flow.compile import compile
from holdfast.runtime.base import Call
from holdfast.runtime.drive import Drive
from holdfast.runtime.places import Places


class ScriptedClock(Clock):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000_000.0

    def time(self) -> float:
        return self.now

    def random(self) -> float:
        return 0.5


class ScriptedRuntime:
    """Holds calls until the test ends them."""

    killable = True
    is_inline = False

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.alone: set[tuple[str, int]] = set()
        self.places = Places({})
        self.agents = None

    def name_of(self, isolation: str, alone: bool) -> str:
        return "process" if alone else isolation

    def of(self, isolation: str, alone: bool) -> tuple[Any, str]:
        return self, "process" if alone else isolation

    def start(self, call: Call) -> None:
        call.began = True
        self.calls.append(call)

    def ask(self, call: Call, reason: str) -> None:
        call.stop_reason = reason

    def kill(self, call: Call) -> bool:
        call.stop_reason = call.stop_reason or "abort"
        return True

    def close(self, grace_s: float = 5.0) -> None:
        for call in list(self.calls):
            call.stop_reason = call.stop_reason or "suspend"
            self.end(call, "stopped", call.stop_reason)

    def end(self, call: Call, how: str, what: Any = None) -> None:
        self.calls.remove(call)
        call.outcome = (how, what)
        call.host.ended(call)


class Script:
    """One task under a script."""

    def __init__(self, plan: Plan, inputs: dict[str, Any], *, slots: int = 4, deaths_max: int = 10**9) -> None:
        self.plan = plan
        self.inputs = inputs
        self.slots = slots
        self.deaths_max = deaths_max
        self.clock = ScriptedClock()
        self.journal: list[e.Event] = []
        self.unseen: list[e.Event] = []
        self.phase = "PENDING"
        self._boot()

    def _boot(self) -> None:
        self.runtime = ScriptedRuntime()
        self.state = State(self.plan, self.inputs, deaths_max=self.deaths_max)
        replay(self.state, self.journal)
        runtimes: Any = self.runtime
        self.drive = Drive(
            self.state, task_id="t", runtimes=runtimes, clock=self.clock, slots=self.slots, reference="x"
        )
        if self.state.running:
            self.drive.note(e.TakenOver(2, self.clock.now, poisons(self.state, self.state.running)))

    def crash(self) -> None:
        """The worker dies: what was not in the journal is gone."""
        self.unseen.clear()
        self._boot()

    def verb(self, event: e.Event) -> None:
        """Append a verb, which the drive has not seen yet."""
        self.journal.append(event)
        self.unseen.append(event)

    def turn(self) -> bool:
        """One append; whether there was anything to write."""
        facts, decisions = self.drive.advance(self.clock.now)
        if not facts and not decisions and not self.unseen:
            return False
        if self.unseen:
            self.journal += facts
            seen, self.unseen = self.unseen, []
            self.drive.refused(seen)
        else:
            self.journal += facts
            self.journal += decisions
            self.drive.accepted(decisions)
        return True

    def settle(self) -> None:
        """Turn until there is nothing to write."""
        for _ in range(10_000):
            if not self.turn():
                return
        raise AssertionError("the drive never comes to rest")

    def replayed(self) -> State:
        state = State(self.plan, self.inputs, deaths_max=self.deaths_max)
        replay(state, self.journal)
        return state


COMPARED = (
    "phase", "goal", "reason", "st", "settled", "attempt", "left", "need", "completed", "total", "done_weight",
    "done_extra", "failures", "turned", "undo_need", "undo_left", "undo_of", "incarnation", "checkpoints", "tries",
    "failing", "doubts", "wake_at", "parked", "events", "events_taken", "delivered",
    "results", "lengths", "reverted", "revert_began", "pivots", "suspects",
)  # fmt: skip


def differences(one: State, other: State) -> list[str]:
    """The columns in which two states differ."""
    found = [name for name in COMPARED if getattr(one, name) != getattr(other, name)]
    if set(one.running) != set(other.running):
        found.append("running")
    if sorted(one.ready) != sorted(other.ready):
        found.append("ready")
    if sorted(one.undo_heap) != sorted(other.undo_heap):
        found.append("undo_heap")
    if set(one.failed) != set(other.failed):
        found.append("failed")
    return found


def is_final(state: State) -> bool:
    return TASK.rows[state.phase].kind == "final"


def ok() -> int:
    return 1


def undo() -> None: ...


def step(name: str, **options: Any) -> Any:
    made = hf.step(ok, name=name, **options)
    made.revert(undo)
    return made


def script(flow: Any, inputs: dict[str, Any] | None = None, **options: Any) -> Script:
    plan = compile(flow)
    if options:
        plan.options = plan.options._replace(**options)
    made = Script(plan, inputs or {})
    made.settle()
    return made


def end(of: Script, name: str, how: str = "returned", what: Any = 1, began: bool = True) -> None:
    (call,) = [each for each in of.runtime.calls if each.step_id.rpartition("/")[2] == name]
    call.began = began
    of.runtime.end(call, how, what)
    of.settle()
    assert differences(of.state, of.replayed()) == []


def say(of: Script, verb: e.Event) -> None:
    of.verb(verb)
    of.settle()


def running(of: Script) -> list[str]:
    return sorted(f"{call.what} {call.step_id.rpartition('/')[2]}" for call in of.runtime.calls)
