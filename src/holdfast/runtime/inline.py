"""Steps on the caller's own thread, one after another. The fastest, and cooperative only: a step that does not look
at its context is neither stopped nor timed out."""

from __future__ import annotations

from contextvars import copy_context

from holdfast.errors import HoldfastClosed
from holdfast.runtime.base import Call, enter, refuse_while_loading


class InlineRuntime:
    """`start` runs the step to its end. Verbs come from other threads, or from what the step itself calls.

    passes_interrupts: a Ctrl-C in a step stops the step and is raised to the caller; else it is the step's failure.
    """

    killable = False

    __slots__ = ("_closed", "_passes_interrupts")

    def __init__(self, *, passes_interrupts: bool = True) -> None:
        refuse_while_loading()
        self._closed = False
        self._passes_interrupts = passes_interrupts

    def start(self, call: Call) -> None:
        if self._closed:
            raise HoldfastClosed
        # A copy: what one step sets in its context variables is not the next one's.
        copy_context().run(enter, call)
        outcome = call.outcome
        if (
            self._passes_interrupts
            and outcome is not None
            and outcome[0] == "raised"
            and isinstance(outcome[1], KeyboardInterrupt)
        ):
            # It is meant for whoever runs the flow, not for the step: the step was only stopped by it.
            call.stop_reason = call.stop_reason or "suspend"
            call.outcome = ("stopped", call.stop_reason)
            call.host.ended(call)
            raise outcome[1]
        call.host.ended(call)

    def ask(self, call: Call, reason: str) -> None:
        call.stop_reason = reason
        if call.context is not None:
            call.context._wake()

    def kill(self, call: Call) -> bool:
        call.stop_reason = call.stop_reason or "abort"
        return False

    def close(self, grace_s: float = 5.0) -> None:
        self._closed = True
