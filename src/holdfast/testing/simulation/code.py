"""User code that never was: runtimes whose calls do what chance says, at moments of the simulated clock.

A call may return, raise, ask to be entered again, wait for an event, leave checkpoints, report progress, die with its
process, be slow to begin, and be deaf to requests to stop. What it did is told to the witness (testing/simulation/
checks.py), who knows nothing of Holdfast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from holdfast.errors import HoldfastClosed, LeaseLost
from holdfast.flow.step import Again, Done, NotDone, Unknown, WaitFor
from holdfast.runtime.base import Call
from holdfast.runtime.choice import Runtimes

if TYPE_CHECKING:
    from holdfast.testing.simulation.process import Process
    from holdfast.testing.simulation.world import World


class Entry:
    """One call while it runs."""

    __slots__ = ("abandoned", "call", "checkpoints", "deaf", "due", "lasts_s", "token", "waiting", "will")

    def __init__(self, call: Call, due: float, will: tuple[str, Any], token: str) -> None:
        self.call = call
        self.due = due  # when it begins or goes on
        self.will = will  # the outcome
        self.token = token  # what its worker writes with
        self.checkpoints = 0
        self.lasts_s = 0.0  # how long it does nothing but run
        self.deaf = False
        self.waiting = False  # for a checkpoint to be durable
        self.abandoned = False


class Code(Runtimes):
    """The runtimes of one process. Only who runs a call is another than in truth; how many may run is not."""

    def __init__(self, world: World, process: Process) -> None:
        super().__init__("inline" if process.inline else "threads", workers_max=world.settings.workers_max)
        self.entries: list[Entry] = []
        self.world = world
        self.process = process
        self.closed = False
        self._gentle = Kind(self, killable=False)
        self._rough = Kind(self, killable=True)

    def of(self, isolation: str, alone: bool) -> tuple[Any, str]:
        if isolation == "process" or (alone and isolation == "thread"):
            return self._rough, "process"
        if isolation == "async":
            return self._rough, "async"
        return self._gentle, "inline" if self.is_inline else "thread"

    def close(self, grace_s: float = 5.0) -> None:
        """Those that listen stop at once; those that don't die with the process."""
        self.closed = True
        for entry in list(self.entries):
            if entry.call.stop_reason is None:
                entry.call.stop_reason = "suspend"
            if not entry.deaf or entry.call.runtime.killable:
                killed = entry.deaf and entry.call.began
                self._end(entry, ("killed", None) if killed else ("stopped", entry.call.stop_reason))

    def next_at(self) -> float | None:
        return min((entry.due for entry in self.entries if not entry.waiting), default=None)

    def run(self, now: float) -> bool:
        """Let every call that has something to do now do it; whether any had."""
        did = False
        for entry in list(self.entries):
            if entry.due <= now and not entry.waiting and entry in self.entries:
                did = True
                self._go_on(entry, now)
        return did

    def _go_on(self, entry: Entry, now: float) -> None:
        call, chance = entry.call, self.world.chance
        if not call.began and not self._begin(entry):
            return
        if entry.lasts_s and entry.will[0] in ("returned", "raised"):
            entry.due, entry.lasts_s = now + entry.lasts_s, 0.0
            return
        if call.what == "execute" and entry.will[0] in ("returned", "raised") and entry.checkpoints:
            entry.checkpoints -= 1
            if chance.random() < 0.3:
                call.host.progress(call, chance.random(), "so far")
            entry.waiting = True
            value = self.world.number()
            call.host.checkpoint(call, value, self._settled(entry, value))
            return
        self._end(entry, entry.will)

    def _begin(self, entry: Entry) -> bool:
        """Whether it has begun, and not been stopped before."""
        call = entry.call
        if call.stop_reason is not None:
            self._end(entry, ("stopped", call.stop_reason))
            return False
        call.began = True
        self.enter(entry)
        return True

    def enter(self, entry: Entry) -> None:
        """User code begins."""
        self.world.witness.begins(entry, self.process)

    def _settled(self, entry: Entry, value: int) -> Callable[[BaseException | None], None]:
        def done(error: BaseException | None) -> None:
            if entry.will[0] == "killed" or not entry.waiting:  # it has been told already
                return
            entry.waiting = False
            entry.due = self.world.now() + self.world.chance.choice((0.0, 0.5))
            if isinstance(error, LeaseLost):
                entry.will = ("stopped", "lease_lost")
            elif error is not None:
                entry.will = ("raised", error)
            else:
                self.world.witness.left(entry, value)
                if entry.call.stop_reason is not None and not entry.deaf:
                    entry.will = ("stopped", entry.call.stop_reason)
                    entry.checkpoints = 0

        return done

    def _end(self, entry: Entry, outcome: tuple[str, Any]) -> None:
        self.entries.remove(entry)
        call = entry.call
        call.outcome = outcome
        self.world.witness.ends(entry)
        call.host.ended(call)

    # --- what calls will do ---------------------------------------------------------------------------------------

    def take(self, call: Call) -> None:
        world, chance = self.world, self.world.chance
        if self.closed:
            raise HoldfastClosed
        now = world.now()
        entry = Entry(call, now, self._will(call), self.process.token_of(call))
        entry.deaf = not world.calm and chance.random() < 0.15
        if chance.random() < 0.4:
            entry.due = now + chance.choice((0.2, 1.0, 4.0))
        if call.what == "execute" and chance.random() < 0.2:
            entry.checkpoints = chance.randint(1, 2)
        self.entries.append(entry)
        world.witness.starts(entry, self.process)
        while call.isolation == "inline" and entry in self.entries:  # it has the worker's thread to itself
            self._go_on(entry, now)

    def _will(self, call: Call) -> tuple[str, Any]:
        world, chance = self.world, self.world.chance
        good = 1.0 if world.calm else world.goodwill
        draw = chance.random()
        if call.what == "probe":
            return "returned", chance.choice((NotDone(), Done(world.number()), Unknown("?")))
        if draw < good:
            if call.what != "probe" and not world.calm and chance.random() < 0.12:
                return "returned", self._later(call)
            return "returned", None if call.what == "revert" else world.number()
        if draw < good + (1 - good) * 0.8 or call.isolation == "thread":
            return "raised", ConnectionError("made up")
        return "died", "signal 9"

    def _later(self, call: Call) -> Any:
        chance = self.world.chance
        if chance.random() < 0.5:
            checkpoint = chance.choice((None, self.world.number()))
            return Again(chance.choice((0.0, 1.0, 3.0)), checkpoint=checkpoint)
        return WaitFor(f"go-{call.step_id}", timeout_s=chance.choice((None, 4.0)))


class Kind:
    """A runtime whose calls can be killed, or can't."""

    def __init__(self, code: Code, *, killable: bool) -> None:
        self._code = code
        self.killable = killable

    def start(self, call: Call) -> None:
        self._code.take(call)

    def ask(self, call: Call, reason: str) -> None:
        call.stop_reason = reason
        entry = self._of(call)
        if entry is not None and (not entry.deaf or not call.began):
            entry.will = ("stopped", reason)
            entry.checkpoints = 0
            entry.due = min(entry.due, self._code.world.now() + self._code.world.chance.choice((0.0, 0.0, 0.7)))

    def kill(self, call: Call) -> bool:
        call.stop_reason = call.stop_reason or "abort"
        entry = self._of(call)
        if entry is not None and self.killable and entry.will[0] != "killed":
            entry.will = ("killed", None)
            entry.waiting = False
            entry.checkpoints = 0
            entry.due = self._code.world.now() + self._code.world.chance.choice((0.0, 0.3))
        return self.killable

    def abandon(self, call: Call) -> bool:
        entry = self._of(call)
        if entry is None:
            return False
        entry.abandoned = True
        return True

    def close(self, grace_s: float = 5.0) -> None: ...

    def _of(self, call: Call) -> Entry | None:
        for entry in self._code.entries:
            if entry.call is call:
                return entry
        return None
