"""A call, made ready to be started: which runtime runs it, until when, with which arguments and which context.

Who starts it, and when: drive.py. How arguments are bound: bind.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.core.state import opened
from holdfast.runtime.base import Call
from holdfast.runtime.bind import revert_arguments, step_arguments
from holdfast.runtime.context import AsyncContext, Context

if TYPE_CHECKING:
    from holdfast.runtime.choice import Runtimes
    from holdfast.runtime.drive import Drive


def call_of(drive: Drive, row: int, what: str, runtimes: Runtimes, reference: str | None) -> Call:
    """The call of a row, without its arguments. `what`: execute, revert or probe."""
    state, clock = drive.state, drive.clock
    step: Any = state.steps[row]
    alone = False
    if runtimes.alone:
        key = (drive.task_id, row)
        alone = key in runtimes.alone
        runtimes.alone.discard(key)
    if what == "execute":
        function, wanted = step.execute, step.isolation
    elif what == "revert":
        function, wanted = step.undo, step.revert_isolation
    else:
        function, wanted = step.probing, step.probe_isolation
    if runtimes.agents is not None and step.agent is not None:
        runtime, isolation = runtimes.agents, "agent"
    else:
        if alone and wanted == "thread":
            from holdfast.runtime.locate import can_run_elsewhere

            alone = can_run_elsewhere(reference, state.ids[row], function)
        runtime, isolation = runtimes.of(wanted, alone)
    call = Call(drive, row, state.ids[row], step, what, function, {}, isolation, reference)
    if what == "execute":
        call.deadline_at = state.deadlines.get(row) if step.timeout_s is not None else None
        if isolation == "inline" and drive.deadline_at is not None:  # nobody else could tell it of the flow's
            call.deadline_at = min(drive.deadline_at, call.deadline_at or drive.deadline_at)
    elif what == "revert" and step.revert_timeout_s is not None:
        call.deadline_at = clock.time() + step.revert_timeout_s
    call.runtime = runtime
    if call.deadline_at is not None:
        call.clock, call.launched_at = clock, clock.time()
    return call


def give(drive: Drive, call: Call) -> None:
    """Bind the call's arguments. Raises what user values raise when they are read."""
    state, row, step = drive.state, call.row, call.step
    assert step is not None
    if call.what == "execute":
        if state.bindings[row]:
            call.arguments = step_arguments(state, row)
        if step.wants_ctx:
            call.arguments["ctx"] = _context(drive, call)
        return
    if call.what == "revert":
        call.arguments = revert_arguments(state, row)
        wants = step.revert_wants
    else:
        wants = step.probe_wants
        call.arguments = step_arguments(state, row, {name for name, _ in wants})
    if any(name == "ctx" for name, _ in wants):
        call.arguments["ctx"] = _context(drive, call)


def _context(drive: Drive, call: Call) -> Context | AsyncContext:
    state, row = drive.state, call.row
    forward = f"{drive.keys_of}:{state.ids[row]}:{state.incarnation.get(row, 0)}"
    key = f"{forward}:revert" if call.what == "revert" else forward
    tried = state.revert_tries.get(row, 1) if call.what == "revert" else state.attempt[row]
    last = state.checkpoints.get(row)
    made = AsyncContext if call.isolation == "async" else Context
    call.context = made(call, key, forward, tried, drive.task_id, opened(last), drive.clock)
    call.context.event = opened(state.delivered.get(row))
    call.context.fence = drive.fence
    return call.context
