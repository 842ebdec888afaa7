"""What a step sees of the world that runs it: `Context`, and `AsyncContext` for `async def`.

Theory: a stop request is a word in `call.stop_reason`, written first, and then a wake-up for whoever sleeps. The code
meets it at its next safe point. A deadline is met there too, whoever runs the code, because inline nobody else could.

Who writes that word and wakes: the runtimes beside this file. What becomes of a checkpoint: `Host` (base.py).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from holdfast.clock import WAIT_S_MAX
from holdfast.core.failure import MESSAGE_CHARS_MAX, clean
from holdfast.errors import LeaseLost, Stopping

if TYPE_CHECKING:
    import asyncio

    from holdfast.clock import Clock
    from holdfast.runtime.base import Call


_making = threading.Lock()


class _Shared:
    """What both contexts have. Made for every entry of every step, so it makes nothing it may not need."""

    __slots__ = (
        "_call",
        "_clock",
        "_stop_event",
        "attempt",
        "event",
        "fence",
        "forward_key",
        "idempotency_key",
        "last_checkpoint",
        "task_id",
    )

    def __init__(
        self, call: Call, key: str, forward_key: str, attempt: int, task_id: str, last_checkpoint: Any, clock: Clock
    ) -> None:
        self._call = call
        self._clock = clock
        self._stop_event: threading.Event | asyncio.Event | None = None  # made by the first sleep
        self.idempotency_key = key
        self.forward_key = forward_key
        self.attempt = attempt
        self.task_id = task_id
        self.last_checkpoint = last_checkpoint
        self.event: Any = None
        self.fence = 0

    @property
    def step_id(self) -> str:
        """The step's path: `build/prepare/make_port`."""
        return self._call.step_id

    @property
    def deadline_at(self) -> float | None:
        """When this entry's `timeout_s` is over, in seconds since the epoch (UTC)."""
        return self._call.deadline_at

    def _deadline_here(self) -> float | None:
        """`deadline_at` by the system's own clock, which is what another process of this machine has."""
        at = self._call.deadline_at
        return None if at is None else at - self._clock.off_s

    @property
    def stopping(self) -> str | None:
        """Why this step is asked to stop (suspend, cancel, rollback, abort, timeout, sibling_failed, lease_lost), or
        None."""
        reason = self._call.stop_reason
        if reason is None and self._call.deadline_at is not None and self._clock.time() >= self._call.deadline_at:
            return "timeout"
        return reason

    def raise_if_stopping(self) -> None:
        """Raise `holdfast.Stopping` if this step is asked to stop."""
        reason = self.stopping
        if reason is not None:
            raise Stopping(reason)

    def progress(self, fraction: float, message: str | None = None) -> None:
        """Say how far the step is, 0 to 1. Cheap to call often: of many, the latest is kept."""
        if message is not None:
            message = clean(str(message)[:MESSAGE_CHARS_MAX])
        self._call.host.progress(self._call, min(1.0, max(0.0, float(fraction))), message)

    def _bounded(self, seconds: float) -> tuple[float, bool]:
        """How long to sleep, and whether the deadline will be what ends it."""
        seconds = max(0.0, seconds)
        if self._call.deadline_at is not None:
            left = self._call.deadline_at - self._clock.time()
            if left <= seconds:
                return max(0.0, left), True
        return seconds, False

    def _woken(self, by_deadline: bool) -> None:
        """A sleep is over; the clock may be a hair short of the deadline that ended it."""
        if by_deadline and self._call.stop_reason is None:
            raise Stopping("timeout")
        self.raise_if_stopping()

    def _recorded(self, value: Any, error: BaseException | None) -> None:
        """A checkpoint is durable, or was refused."""
        if isinstance(error, LeaseLost):
            raise Stopping("lease_lost")
        if error is not None:
            raise error
        self.last_checkpoint = value
        self.raise_if_stopping()

    def _wake(self) -> None:
        """Let whoever sleeps look at `stop_reason`. Of an AsyncContext on the loop's thread only."""
        if self._stop_event is not None:
            self._stop_event.set()


class Context(_Shared):
    """The parameter `ctx` of a step.

    `idempotency_key` is the same for every attempt of this step; in a revert it is the revert's own, and
    `forward_key` is the one that the step had. `last_checkpoint` is what an earlier entry left, or None;
    `event` what came with the event that the step waited for (`WaitFor`), or None. `fence` is a number that grows
    whenever another worker takes the task, or the same one again, and when an agent that runs a step of it is lost:
    what a device has seen a greater one of for `task_id` is late, and to be refused. Where agents run one of several
    steps that use the device at once, let it compare those of the same `step_id` only. 0 where nobody could take over
    (`hf.run`).
    """

    __slots__ = ()

    def sleep(self, seconds: float) -> None:
        """Sleep. A stop request ends it at once with `holdfast.Stopping`."""
        self.raise_if_stopping()
        seconds, is_last = self._bounded(seconds)
        event = self._stop_event
        if event is None:
            with _making:  # a step may sleep in threads of its own, and all of them wait for the same event
                event = self._stop_event = self._stop_event or threading.Event()
        assert isinstance(event, threading.Event)
        # Who asks writes the reason and then looks for the event; here the event is shown first and the reason looked
        # for after. So one of the two sees the other.
        while self._call.stop_reason is None and not self._clock.wait(event, min(seconds, WAIT_S_MAX)):
            seconds -= WAIT_S_MAX
            if seconds <= 0:
                break
        self._woken(is_last)

    def checkpoint(self, value: Any) -> None:
        """Store `value` for the next entry. Durable when this returns, and also when it raises `holdfast.Stopping`
        because a stop is asked; not when it says `lease_lost`."""
        settled = threading.Event()
        errors: list[BaseException] = []

        def done(error: BaseException | None) -> None:
            if error is not None:
                errors.append(error)
            settled.set()

        self._call.host.checkpoint(self._call, value, done)
        settled.wait()
        self._recorded(value, errors[0] if errors else None)


class AsyncContext(_Shared):
    """The parameter `ctx` of an `async def` step: as `Context`, but `sleep` and `checkpoint` are awaited.

    An `await` of anything else is interrupted only by an abort or a timeout, by cancelling the coroutine.
    """

    __slots__ = ()

    async def sleep(self, seconds: float) -> None:
        """Sleep. A stop request ends it at once with `holdfast.Stopping`."""
        import asyncio

        self.raise_if_stopping()
        seconds, is_last = self._bounded(seconds)
        event = self._stop_event
        if event is None:
            event = self._stop_event = asyncio.Event()
        assert isinstance(event, asyncio.Event)
        await self._clock.wait_async(event, seconds)
        self._woken(is_last)

    async def checkpoint(self, value: Any) -> None:
        """Store `value` for the next entry. Durable when this returns, and also when it raises `holdfast.Stopping`
        because a stop is asked; not when it says `lease_lost`."""
        import asyncio

        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[BaseException | None] = loop.create_future()

        def done(error: BaseException | None) -> None:
            try:
                loop.call_soon_threadsafe(_settle, waiter, error)
            except RuntimeError:
                pass  # the loop has been closed meanwhile, and the step with it

        self._call.host.checkpoint(self._call, value, done)
        self._recorded(value, await waiter)


def _settle(waiter: asyncio.Future[Any], value: Any) -> None:
    if not waiter.done():
        waiter.set_result(value)
