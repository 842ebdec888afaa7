"""How long user code may take: who was asked to stop, whose time is over, and what follows.

Theory: asking is always possible and proves nothing. On a timeout or an abort, what can be killed is killed at once;
what can't is asked, and abandoned when its grace is over. On a cancel a process is killed after its grace, everything
else is waited for, so that CANCELLED is never said while code still runs. A suspend only asks.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count
from typing import Any

from holdfast.runtime.base import Call, isolation_of

KILL_EARLY = 0.9  # of the grace, so that the process is gone when it is over
AT_ONCE = frozenset(("timeout", "abort", "lease_lost"))


class Patience:
    """For the calls of one drive. `grace_s`: where a step does not say."""

    def __init__(self, calls: dict[int, Call], grace_s: float) -> None:
        self._calls = calls
        self._grace_s = grace_s
        self._asked: dict[int, str] = {}
        self._timers: list[tuple[float, int, str]] = []
        self._open: dict[int, Call] = {}  # by the timer's number: a timer that is far off must not keep a call alive
        self._numbers: dict[int, list[int]] = {}  # the timers of each row
        self._count = count()

    def next_at(self) -> float | None:
        timers = self._timers
        while timers and timers[0][1] not in self._open:
            heappop(timers)
        return timers[0][0] if timers else None

    def forget(self, row: int) -> None:
        """The row's call has ended."""
        if self._asked:
            self._asked.pop(row, None)
        if self._numbers:
            for number in self._numbers.pop(row, ()):
                self._open.pop(number, None)

    def watch(self, call: Call) -> None:
        """Hold the call to its deadline."""
        assert call.deadline_at is not None
        self._later(call.deadline_at, call, "timeout")

    def ask(self, call: Call, reason: str, now: float) -> None:
        """Ask the call to stop; once for each reason."""
        if self._asked.get(call.row) in (reason, "timeout", "abort"):
            return
        self._asked[call.row] = reason
        if reason in AT_ONCE and call.runtime.killable:
            call.stop_reason = reason
            if call.runtime.kill(call):
                return
        call.runtime.ask(call, reason)
        if reason in AT_ONCE:
            self._later(now + self._grace_of(call), call, "abandon")
        elif reason != "suspend" and _is_process(call):
            self._later(now + KILL_EARLY * self._grace_of(call), call, "kill")

    def tick(self, now: float) -> list[Call]:
        """Act on what is over; the calls to be abandoned."""
        abandoned = []
        while self._timers and self._timers[0][0] <= now:
            _, number, what = heappop(self._timers)
            call = self._open.pop(number, None)
            if call is None or self._calls.get(call.row) is not call or call.outcome is not None:
                continue
            if what == "timeout":
                self._time_is_over(call, now)
            elif what == "kill":
                call.runtime.kill(call)
            elif call.isolation != "inline":  # that one runs on this very thread
                abandoned.append(call)
        return abandoned

    def _time_is_over(self, call: Call, now: float) -> None:
        """Unless it has waited for a thread, or still does: its time begins when it does."""
        assert call.deadline_at is not None
        if call.isolation == "thread" and not call.began:
            self._later(now + max(1.0, call.deadline_at - call.launched_at), call, "timeout")
        elif now < call.deadline_at:
            self.watch(call)
        else:
            self.ask(call, "timeout", now)

    def stop_all(self) -> None:
        """Everything must stop now: the lease is lost. But what agents run has leases of its own. From any thread."""
        for call in [each for each in self._calls.values() if each.isolation != "agent"]:
            call.stop_reason = call.stop_reason or "lease_lost"
            if not (call.runtime.killable and call.runtime.kill(call)):
                call.runtime.ask(call, "lease_lost")

    def _grace_of(self, call: Call) -> float:
        step: Any = call.step
        return self._grace_s if step is None or step.grace_s is None else float(step.grace_s)

    def _later(self, at: float, call: Call, what: str) -> None:
        number = next(self._count)
        self._open[number] = call
        self._numbers.setdefault(call.row, []).append(number)
        heappush(self._timers, (at, number, what))


def _is_process(call: Call) -> bool:
    return call.isolation == "process" or (call.isolation == "agent" and isolation_of(call) == "process")
