"""Run a flow in memory: the same engine as everywhere, with a story in memory as its journal.

No store, no tasks, no worker; nothing survives the process. Durable runs: local.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast.clock import Clock
from holdfast.core import events as e
from holdfast.core.failure import Failure
from holdfast.core.plan import Plan, steps_of
from holdfast.core.progress import Aftermath, aftermath, final_failure
from holdfast.core.state import State
from holdfast.core.states import FINAL, PENDING, RESTING, RUNNING, STEP_STATES, WAITING, api_state
from holdfast.core.trace import Story
from holdfast.errors import FlowNotFound, TaskFailed, UsageError
from holdfast.flow.compile import check_inputs, compile
from holdfast.runtime.choice import Runtimes
from holdfast.runtime.drive import Drive

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from holdfast.flow.patterns import Child as Runnable


class StepEnd(NamedTuple):
    """How a step ended. `attempts`: how often it was tried."""

    id: str
    state: str
    attempts: int
    failure: Failure | None


class Outcome:
    """How a run ended. `state` is a task state (SUCCEEDED, FAILED, SUSPENDED …), `reason` why it is SUSPENDED."""

    def __init__(self, state: State, story: Story) -> None:
        self._state = state
        self._story = story

    @property
    def state(self) -> str:
        return api_state(self._state.phase)

    @property
    def reason(self) -> str | None:
        return self._state.reason

    @property
    def results(self) -> dict[str, Any]:
        """What the steps provided, by name."""
        return self._state.outputs()

    @property
    def failure(self) -> Failure | None:
        """The failure that ended or held the flow."""
        return final_failure(self._state)

    @property
    def aftermath(self) -> Aftermath:
        """What the run left behind: `effect` and `revert`."""
        return aftermath(self._state)

    @property
    def steps(self) -> list[StepEnd]:
        """Every step, in the flow's order."""
        state = self._state
        return [
            StepEnd(state.ids[row], STEP_STATES[state.st[row]], state.attempt[row], state.failures.get(row))
            for row in range(len(state.ids))
            if state.kind[row] == 0
        ]

    @property
    def trace(self) -> list[str]:
        """What happened, a line a change: `boot RUNNING`, `boot SUCCEEDED`."""
        return self._story.lines(self._state.ids)

    def raise_for_state(self) -> Outcome:
        """Itself if SUCCEEDED. Raises: TaskFailed, which says which step failed and why."""
        if self.state != "SUCCEEDED":
            failure = self.failure
            why = f": {failure.summary}" if failure is not None else ""
            raise TaskFailed(f"the flow {self._state.plan.name!r} ended {self.state}{why}")
        return self

    def __repr__(self) -> str:
        return f"<Outcome {self.state}>"


def run(
    flow: Runnable,
    inputs: Mapping[str, Any] | None = None,
    *,
    runtime: str | Executor = "inline",
    at_once: int = 32,
    clock: Clock | None = None,
) -> Outcome:
    """Run the flow to its end and say how it went; what its steps raise does not get out.

    runtime: "inline" (this thread, one step after another), "threads", or any concurrent.futures.Executor; `async
    def` steps and process steps run where they belong in each. at_once: steps that may run side by side.
    Raises: FlowError, MissingInput, UnknownInput: before anything has run. KeyboardInterrupt: once what was done is
    undone; a second one leaves at once.
    """
    from threading import Event

    clock = clock or Clock()
    runtimes = Runtimes(runtime, workers_max=at_once)
    woken = Event()
    slots = 1 if runtimes.is_inline else at_once
    drive, story = _drive(flow, inputs, runtimes, clock, slots, woken.set, given_away=not isinstance(runtime, str))

    def finish() -> None:
        for advanced_at in _turns(drive, story, clock, runtimes):
            due = drive.next_at(advanced_at)
            clock.wait(woken, None if due is None else max(0.0, due - clock.time()))
            woken.clear()

    try:
        finish()
    except KeyboardInterrupt:
        _cancel(drive, story, clock)
        finish()
        raise
    finally:
        runtimes.close()
    return Outcome(drive.state, story)


async def run_async(
    flow: Runnable,
    inputs: Mapping[str, Any] | None = None,
    *,
    at_once: int = 32,
    clock: Clock | None = None,
) -> Outcome:
    """As `run`, for callers in an event loop: `async def` steps run in it, plain functions in threads. Cancelling
    the caller's task undoes what was done, and then it is cancelled; a second time, at once."""
    import asyncio

    clock = clock or Clock()
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()
    runtimes = Runtimes("threads", workers_max=at_once, loop=loop)

    def wake() -> None:
        loop.call_soon_threadsafe(woken.set)

    drive, story = _drive(flow, inputs, runtimes, clock, at_once, wake)

    async def finish() -> None:
        for advanced_at in _turns(drive, story, clock, runtimes):
            due = drive.next_at(advanced_at)
            try:
                await asyncio.wait_for(woken.wait(), None if due is None else max(0.0, due - clock.time()))
            except TimeoutError:
                pass
            woken.clear()

    try:
        await finish()
    except asyncio.CancelledError:
        _cancel(drive, story, clock)
        drive.kill_coroutines()  # a plain await hears of it too, as asyncio's users expect
        await finish()
        raise
    finally:
        drive.drop()
        await loop.run_in_executor(None, runtimes.close)
    return Outcome(drive.state, story)


def _drive(
    flow: Runnable,
    inputs: Mapping[str, Any] | None,
    runtimes: Runtimes,
    clock: Clock,
    slots: int,
    wake: Any,
    *,
    given_away: bool = False,
) -> tuple[Drive, Story]:
    plan = compile(flow)
    given = dict(inputs or {})
    check_inputs(plan, given)
    if plan.parental:
        from holdfast.flow.child import NEEDS_DATABASE

        raise UsageError(NEEDS_DATABASE.format(f"a step of {plan.name}"))
    now = clock.time()
    deadline_s = plan.options.deadline_s
    drive = Drive(
        State(plan, given),
        task_id=clock.uuid7(),
        runtimes=runtimes,
        clock=clock,
        slots=slots,
        wake=wake,
        reference=_reference(flow, plan, given_away=given_away),
        deadline_at=None if deadline_s is None else now + deadline_s,
    )
    return drive, Story()


def _reference(flow: Runnable, plan: Plan, *, given_away: bool) -> str | None:
    """How another process finds the flow; asked only where a step needs one. `given_away`: to an executor, which may
    need none (threads), or find a step by its function."""
    needed = any(step is not None and step.isolation == "process" for step in steps_of(plan))
    if not needed and not given_away:
        return None
    from holdfast.flow.registry import reference_of

    try:
        return reference_of(flow)
    except FlowNotFound:
        if needed:
            raise
        return None


def _cancel(drive: Drive, story: Story, clock: Clock) -> None:
    """The caller wants out: undo, unless the run has come to an end or a rest."""
    if drive.state.phase in _CANCELLABLE:
        asked = e.CancelAsked(True, "caller", clock.time())
        story.tell([asked])
        drive.saw([asked])


def _turns(drive: Drive, story: Story, clock: Clock, runtimes: Runtimes) -> Iterator[float]:
    """Drive until the task has ended or rests, or waits for an event that nobody can deliver here; yield the time
    whenever there is nothing to do but wait."""
    state = drive.state
    inline = runtimes.is_inline
    places = runtimes.places
    while True:
        if places.is_used:
            places.new_round()
        now = clock.time()
        facts, decisions = drive.advance(now)
        if facts or decisions:
            story.tell(facts)
            story.tell(decisions)
            if inline:
                drive.accepted(decisions)
            else:
                runtimes.begin_batch()
                drive.accepted(decisions)
                runtimes.end_batch()
        elif not drive.inbox:
            if not drive.calls and (state.phase in _STILL or drive.next_at() is None):
                return
            yield now


_CANCELLABLE = frozenset((PENDING, RUNNING, WAITING))
_STILL = RESTING | FINAL
