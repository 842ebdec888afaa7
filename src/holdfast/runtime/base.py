"""The seam between the machine and user code: `Call` (one entry into it), `Host` (who asked), `Runtime` (who runs it).

Theory: a runtime takes a call and ends it exactly once: it sets `call.outcome` and says `host.ended(call)`. It owns no
policy: what an outcome means, when to stop, how long to wait is the host's (drive.py). What a step sees of all this
is in context.py; a test of these promises that fits every runtime is testing/conformance/runtime.py.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from holdfast.errors import Stopping, UsageError

if TYPE_CHECKING:
    from holdfast.clock import Clock
    from holdfast.core.failure import Failure
    from holdfast.flow.step import Step
    from holdfast.runtime.context import AsyncContext, Context

Outcome = tuple[str, Any]


class Call:
    """One entry into user code.

    what: "execute", "revert" or "probe". arguments: by keyword, `ctx` included where the function has it.
    reference: how another process finds the flow; only process steps need it.
    outcome, once ended: ("returned", value) | ("raised", exception) | ("stopped", reason): it let `Stopping` pass |
    ("killed", None): ended by `kill` and truly gone | ("died", why): its process died by itself, "signal 11", "exit 3".
    began: user code was entered. False beside an outcome: it never ran, and what was recorded as started may be
    withdrawn.
    """

    __slots__ = (
        "arguments",
        "began",
        "clock",
        "context",
        "deadline_at",
        "function",
        "handle",
        "host",
        "isolation",
        "launched_at",
        "outcome",
        "placed",
        "reference",
        "row",
        "runtime",
        "step",
        "step_id",
        "stop_reason",
        "what",
    )

    def __init__(
        self,
        host: Host,
        row: int,
        step_id: str,
        step: Step | None,
        what: str,
        function: Callable[..., Any],
        arguments: dict[str, Any],
        isolation: str = "inline",
        reference: str | None = None,
        deadline_at: float | None = None,
    ) -> None:
        self.host = host
        self.row = row
        self.step_id = step_id
        self.step = step
        self.what = what
        self.function = function
        self.arguments = arguments
        self.isolation = isolation
        self.reference = reference
        self.deadline_at = deadline_at
        self.context: Context | AsyncContext | None = None
        self.stop_reason: str | None = None
        self.outcome: Outcome | None = None
        self.began = False
        self.clock: Clock | None = None  # set by a host that gives a deadline, with the moment of the start
        self.launched_at = 0.0
        self.handle: Any = None  # the runtime's own: its task, child or future
        self.runtime: Any = None  # who runs it; set and used by the host
        self.placed: list[str] = []  # the host's place that it has (places.py); who takes it out gives it back

    def begin(self) -> None:
        """User code is entered now; what the call has waited for a thread is not taken off its time."""
        self.began = True
        if self.clock is not None and self.deadline_at is not None:
            self.deadline_at += max(0.0, self.clock.time() - self.launched_at)

    def __repr__(self) -> str:
        return f"<Call {self.what} {self.step_id} {self.outcome[0] if self.outcome else 'open'}>"


class Host(Protocol):
    """Who makes calls. All three are called from any thread, must not raise and must not block."""

    def ended(self, call: Call) -> None:
        """`call.outcome` is set. Said once a call, also for a thread that was abandoned and ended after all."""

    def checkpoint(self, call: Call, value: Any, done: Callable[[BaseException | None], None]) -> None:
        """Make `value` durable, then call `done(None)`; `done(error)` if that can't be. For an inline call before
        this returns, for there is no other thread that could."""

    def progress(self, call: Call, fraction: float, message: str | None) -> None: ...


class Runtime(Protocol):
    """Who runs calls. All methods may be called from any thread."""

    killable: bool

    def start(self, call: Call) -> None:
        """Take the call. Never blocks for the step, but inline: that runs it to its end before returning."""

    def ask(self, call: Call, reason: str) -> None:
        """Ask the code to stop: suspend, cancel, rollback, abort, timeout, sibling_failed or lease_lost. Wakes
        `ctx.sleep`. Idempotent; of two reasons the later counts. A call that has not begun never will."""

    def kill(self, call: Call) -> bool:
        """End it now. True: it was sent, and `ended` will say when the code is gone; False: this runtime can't."""

    def close(self, grace_s: float = 5.0) -> None:
        """Ask what still runs to stop, wait at most `grace_s`, end what can be ended. Leaves no process behind, and
        no thread but those whose step ignores everything. Idempotent."""


class RemoteError(Exception):
    """What a step raised in another process. `failure` has the types, message and traceback it had there."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(f"{failure.types[0] if failure.types else 'Exception'}: {failure.message}")


_loading: list[str] = []


class Loading:
    """While this is entered the code of a flow is being loaded from `place`, and `refuse_while_loading` refuses."""

    __slots__ = ("_place",)

    def __init__(self, place: str) -> None:
        self._place = place

    def __enter__(self) -> None:
        _loading.append(self._place)

    def __exit__(self, *_: object) -> None:
        _loading.pop()


def refuse_while_loading() -> None:
    """Called by whoever is about to run flows. A script that does so when it is only loaded, to find one of its steps
    in another process, would do all its work again, in every process without end."""
    if _loading:
        raise UsageError(
            f'{_loading[-1]} runs a flow while it is only being loaded: put that below `if __name__ == "__main__":`'
        )


#: The call whose code runs in this context, for logs: whose record is it.
CURRENT: ContextVar[Call | None] = ContextVar("holdfast.call", default=None)


def isolation_of(call: Call) -> str:
    """How whoever runs it runs it: in a thread, a process, or on the event loop. An agent does so too."""
    step: Any = call.step
    if call.isolation != "agent":
        return call.isolation
    if call.what == "execute":
        return str(step.isolation)
    return str(step.revert_isolation if call.what == "revert" else step.probe_isolation)


def enter(call: Call) -> None:
    """Run the call's function to its end on this thread and set the outcome. Nothing gets past it: a thread of a
    pool must survive whatever a step raises, SystemExit and KeyboardInterrupt included."""
    if call.stop_reason is not None:
        call.outcome = ("stopped", call.stop_reason)
        return
    call.begin()
    CURRENT.set(call)  # every runtime gives each call a context of its own
    try:
        call.outcome = ("returned", call.function(**call.arguments))
    except Stopping as stop:
        call.outcome = ("stopped", stop.reason)
    except BaseException as error:
        call.outcome = ("raised", without_own_frame(error))


def without_own_frame(error: BaseException) -> BaseException:
    """Drop the runtime's frame from the traceback: it tells the user nothing, and it refers to the call, which
    refers to the error: a cycle only the garbage collector could free."""
    traceback = error.__traceback__
    if traceback is not None:
        error.__traceback__ = traceback.tb_next
    return error
