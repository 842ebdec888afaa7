"""Lines to BMCs: how many calls of drivers run at once, which comes first, and how one that hangs is left behind.

Theory: a driver blocks, and may block for ever; so each call has a thread of its own, which nobody but its caller waits
for. A BMC is called by one at a time. At most `calls_max` calls run; those for users go before those that only look
around (`background`), and take the line of one of these if there is no other; while there are any, few of the others
begin. Who stops a call has the driver's own
hooks called (`Bmc.on_stop`: kill the child, close the socket); a call that has not ended shortly after is left behind:
its thread goes on, its line is free, and what it returns is nobody's.

What a driver is: power.py. Who calls: steps.py and the kind's probe.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from holdfast.clock import SYSTEM
from holdfast.errors import BMCUnreachable, Stopping
from holdfast.resources.node.power import Bmc

if TYPE_CHECKING:
    import asyncio

    from holdfast.runtime.context import AsyncContext

T = TypeVar("T")

GRACE_S: Final = 0.3  # for a call that was stopped
FINISH_S: Final = 2.0  # for a call whose step is asked to stop, but not at once: most end by themselves in that time
MARGIN_S: Final = 1.0  # for a driver to say itself that its time is over
LOOK_S: Final = 1.0  # how often who waits for a line looks whether it has one
USERS_S: Final = 1.0  # after the last call of a user, others may be on their way
AROUND: Final = 4  # so many times fewer calls of the background run at once while users are there


class Yielded(Exception):
    """The line was given to a user: look again later."""


class Calling:
    """A call on its way: queued, running, and ended by itself or left behind."""

    __slots__ = ("_hooks", "_lock", "_result", "_stopped", "_when_ended", "background", "begun_at", "bmc", "ended",
                 "fn", "key", "lines", "yields")  # fmt: skip

    def __init__(self, lines: Lines, bmc: Bmc, fn: Callable[[Bmc], Any], background: bool) -> None:
        self.lines = lines
        self.key = key_of(bmc)
        self.bmc = bmc._replace(on_stop=self._on_stop)
        self.fn = fn
        self.background = background
        self.begun_at: float | None = None
        self.ended = threading.Event()
        self.yields = False
        self._lock = threading.Lock()
        self._hooks: list[Callable[[], object]] = []
        self._stopped = False
        self._result: tuple[bool, Any] | None = None
        self._when_ended: Callable[[], object] | None = None

    def result(self, timeout_s: float | None = None) -> Any:
        """What the driver returned or raised, once it has. Raises: TimeoutError; Yielded (in the background)."""
        if not self.ended.wait(timeout_s):
            raise TimeoutError
        assert self._result is not None
        is_good, value = self._result
        if self.yields and not is_good:
            raise Yielded
        if is_good:
            return value
        raise value

    def stop(self) -> None:
        """End it: at once if it has not begun; else by its own hooks, and left behind if they don't help."""
        with self._lock:
            if self._stopped or self._result is not None:
                return
            self._stopped = True
        if self.lines.withdraw(self):
            self.end(False, BMCUnreachable("it was not called: there was no line to it"))
        else:
            threading.Thread(target=self._stop, name="holdfast-bmc-stop", daemon=True).start()

    def when_ended(self, told: Callable[[], object]) -> None:
        """Have somebody told, on whichever thread; at once if it has ended."""
        with self._lock:
            if self._result is None:
                self._when_ended = told
                return
        told()

    def end(self, is_good: bool, value: Any) -> bool:
        """False: it had ended before."""
        with self._lock:
            if self._result is not None:
                return False
            self._result = (is_good, value)
            self._hooks.clear()
        self.ended.set()
        if self._when_ended is not None:
            self._when_ended()
        return True

    def seconds_over(self) -> float | None:
        """For how long its time has been over (less than 0: it has some left); None: it has not begun."""
        if self.begun_at is None:
            return None
        return SYSTEM.monotonic() - self.begun_at - self.bmc.timeout_s - MARGIN_S

    def _on_stop(self, how: Callable[[], object]) -> None:
        with self._lock:
            if not self._stopped:
                self._hooks.append(how)
                return
        how()

    def _stop(self) -> None:
        with self._lock:
            hooks = list(self._hooks)
        for how in hooks:
            try:
                how()
            except Exception:
                pass  # it only makes the end come sooner
        if not self.ended.wait(GRACE_S) and self.end(False, BMCUnreachable("its driver did not come back")):
            self.lines.leave(self)


class Lines:
    """The lines of one process. Safe to use from any thread."""

    def __init__(self, calls_max: int) -> None:
        self.calls_max = calls_max
        self._lock = threading.Lock()
        self._queues: tuple[deque[Calling], deque[Calling]] = (deque(), deque())  # of users, of the background
        self._running: dict[Any, Calling] = {}  # by BMC, the oldest first
        self._around = 0  # how many of them are the background's
        self._user_at = float("-inf")  # when a user's was asked for last

    @property
    def running(self) -> int:
        """How many calls run now, without those that were left behind."""
        return len(self._running)

    def begin(self, bmc: Bmc, fn: Callable[[Bmc], Any], *, background: bool = False) -> Calling:
        """Have `fn` called with the BMC, as soon as there is a line to it."""
        calling = Calling(self, bmc, fn, background)
        yielding = None
        with self._lock:
            self._queues[background].append(calling)
            if not background:
                self._user_at = SYSTEM.monotonic()
            self._start()
            if calling.begun_at is None and not background:
                yielding = self._in_the_way(calling)
        if yielding is not None:
            yielding.yields = True
            yielding.stop()
        return calling

    def call(self, bmc: Bmc, fn: Callable[[Bmc], T], *, background: bool = False) -> T:
        """`fn(bmc)`, waited for by this thread. Raises: what `fn` does; BMCUnreachable: its time was over; Yielded."""
        calling = self.begin(bmc, fn, background=background)
        while not calling.ended.wait(_patience(calling)):
            if (calling.seconds_over() or -1) >= 0:
                calling.stop()
                raise late(bmc)
        return calling.result()  # type: ignore[no-any-return]

    async def call_for(self, ctx: AsyncContext, bmc: Bmc, fn: Callable[[Bmc], T], *, background: bool = False) -> T:
        """`fn(bmc)` for a step, which is given no result once it is asked to stop at once: then the call is stopped. If
        it is asked to stop at the next safe point, a call that ends soon still counts. Raises: as `call`; Stopping."""
        import asyncio

        ctx.raise_if_stopping()
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        bmc = bmc._replace(task_id=ctx.task_id, fence=ctx.fence)
        calling = self.begin(bmc, fn, background=background)
        calling.when_ended(lambda: _tell(loop, ended))
        try:
            while not await _ended(ctx, ended, _patience(calling)):
                if (calling.seconds_over() or -1) >= 0:
                    raise late(bmc)
        except Stopping:
            if not await _within(ended, FINISH_S):
                raise
        finally:
            if not calling.ended.is_set():
                calling.stop()
                await _within(ended, 2 * GRACE_S)  # so that what is said to have stopped has, where it can be stopped
        return calling.result()  # type: ignore[no-any-return]

    def withdraw(self, calling: Calling) -> bool:
        """Take back one that has not begun."""
        with self._lock:
            try:
                self._queues[calling.background].remove(calling)
            except ValueError:
                return False
            return True

    def leave(self, calling: Calling) -> None:
        """Its line is free, though it has not come back."""
        with self._lock:
            self._free(calling)
            self._start()

    def _in_the_way(self, calling: Calling) -> Calling | None:
        """The background's call that this one waits for: the one to its BMC, else the oldest. The lock is held."""
        same = self._running.get(calling.key)
        if same is not None:
            return same if same.background else None
        return next((each for each in self._running.values() if each.background and not each.yields), None)

    def _start(self) -> None:
        """Begin what there are lines for. The lock is held."""
        while (calling := self._next()) is not None:
            thread = threading.Thread(target=self._work, args=(calling,), name="holdfast-bmc", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system has no thread left
                self._free(calling)
                calling.end(False, BMCUnreachable("it was not called: the system has no thread left"))

    def _next(self) -> Calling | None:
        """The next call that may run, which now does. The lock is held."""
        if len(self._running) >= self.calls_max:
            return None
        now = SYSTEM.monotonic()
        for queue in self._queues:
            for calling in queue:
                if calling.background and self._around >= self._around_max(now):
                    return None
                if calling.key not in self._running:
                    queue.remove(calling)
                    self._running[calling.key] = calling
                    self._around += calling.background
                    calling.begun_at = now
                    return calling
        return None

    def _around_max(self, now: float) -> int:
        """How many calls of the background may run. While users are there, few: not for the lines alone, but for the
        interpreter, which a look needs for a millisecond, and a user's operation at each of its hops."""
        if now - self._user_at < USERS_S:
            return max(1, self.calls_max // AROUND)
        return self.calls_max

    def _free(self, calling: Calling) -> bool:
        if self._running.get(calling.key) is not calling:
            return False
        del self._running[calling.key]
        self._around -= calling.background
        return True

    def _work(self, calling: Calling) -> None:
        following: Calling | None = calling
        while following is not None:
            calling = following
            try:
                is_good, value = True, calling.fn(calling.bmc)
            except BaseException as error:
                is_good, value = False, error
            with self._lock:
                following = self._next() if self._free(calling) else None
                self._start()
            calling.end(is_good, value)


def key_of(bmc: Bmc) -> Any:
    """What two calls have in common that may not run at once."""
    address = bmc.info.get("address")
    return bmc.node if address is None else (str(address), bmc.info.get("port"))


def late(bmc: Bmc) -> BMCUnreachable:
    return BMCUnreachable(f"the BMC gave no answer within {bmc.timeout_s:g} s")


def _patience(calling: Calling) -> float:
    over = calling.seconds_over()
    return LOOK_S if over is None else max(0.0, -over)


def _tell(loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    try:
        loop.call_soon_threadsafe(ended.set)
    except RuntimeError:
        pass  # the loop has been closed, and the step with it


async def _ended(ctx: AsyncContext, ended: asyncio.Event, seconds: float) -> bool:
    """Wait; whether it has ended. Raises: Stopping: the step is asked to stop."""
    import asyncio

    if ended.is_set():
        return True
    waiter = asyncio.ensure_future(ended.wait())
    sleeper = asyncio.ensure_future(ctx.sleep(seconds))
    try:
        await asyncio.wait({waiter, sleeper}, return_when=asyncio.FIRST_COMPLETED)
        if not ended.is_set():
            sleeper.result()
    finally:
        waiter.cancel()
        if not sleeper.done():
            sleeper.cancel()
        elif not sleeper.cancelled():
            sleeper.exception()  # it is not to be told as one that nobody looked at
    return ended.is_set()


async def _within(ended: asyncio.Event, seconds: float) -> bool:
    import asyncio

    try:
        async with asyncio.timeout(seconds):
            await ended.wait()
    except TimeoutError:
        pass
    return ended.is_set()
