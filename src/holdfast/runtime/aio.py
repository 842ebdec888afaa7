"""Steps as coroutines: on a loop that runs already (`run_async`), or on one of our own in a daemon thread.

Theory: whatever thread wants something leaves it in a deque and, if no wake-up is under way, makes one; the loop then
does all of it in one go. So a thousand starts in a row cost the loop one wake-up. A coroutine that swallows its
cancellation and goes on has not been killed: it ends when it ends, and its outcome is what it says then.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextvars import copy_context

from holdfast.errors import HoldfastClosed, Stopping
from holdfast.runtime.base import CURRENT, Call, refuse_while_loading, without_own_frame

#: How long `close` waits for a coroutine that it has cancelled.
CANCEL_S = 1.0

_Act = Callable[[Call], None]


class AsyncRuntime:
    """`loop`: one that runs, in whichever thread. None: a loop of its own, made at the first start. Context variables
    are those of whoever made the runtime; each step has a copy of its own."""

    killable = True

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        refuse_while_loading()
        self._given = loop is not None
        self._loop = loop
        self._thread: threading.Thread | None = None
        self._ident: int | None = None  # the loop's thread, once it has shown itself
        self._context = copy_context()
        self._todo: deque[tuple[_Act, Call]] = deque()
        self._awake = False  # a wake-up of the loop is under way
        self.holding = False  # a batch of starts is being made: `let_go` makes the wake-up
        self._lock = threading.Lock()
        self._open: set[Call] = set()
        self._killed: set[Call] = set()
        self._closed = False

    def start(self, call: Call) -> None:
        if self._loop is None:
            self._make_loop()
        if self._closed:
            raise HoldfastClosed
        self._tell(self._begin, call)

    def ask(self, call: Call, reason: str) -> None:
        call.stop_reason = reason
        if call.outcome is None:
            self._tell(self._wake, call)

    def kill(self, call: Call) -> bool:
        call.stop_reason = call.stop_reason or "abort"
        if call.outcome is None:
            self._tell(self._cancel, call)
        return True

    def close(self, grace_s: float = 5.0) -> None:
        """Called on a given loop's own thread it can't wait: what still runs is cancelled and ends after this."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            loop = self._loop
        if loop is None or loop.is_closed():
            return
        if _running_loop() is loop:
            self._drain()
            for call in list(self._open):
                self._cancel(call)
            return
        ending = asyncio.run_coroutine_threadsafe(self._end_all(grace_s), loop)
        try:
            ending.result(grace_s + 2 * CANCEL_S)
        except TimeoutError:
            return  # a step blocks the loop; its thread is a daemon and is left behind
        if self._thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(1.0)

    # --- any thread -----------------------------------------------------------------------------------------------

    def _make_loop(self) -> None:
        with self._lock:
            if self._loop is not None or self._closed:
                return
            loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=_run_loop, args=(loop,), name="holdfast-async", daemon=True)
            self._thread.start()
            self._loop = loop

    def _tell(self, act: _Act, call: Call) -> None:
        if threading.get_ident() == self._ident:
            act(call)
            return
        self._todo.append((act, call))
        if not self._awake and not self.holding:
            self._wake_loop()

    def let_go(self) -> None:
        """The batch is complete."""
        self.holding = False
        if self._todo and not self._awake:
            self._wake_loop()

    def _wake_loop(self) -> None:
        if self._loop is not None:
            self._awake = True
            try:
                self._loop.call_soon_threadsafe(self._drain)
            except RuntimeError:
                pass  # the loop has been closed, and with it every step on it

    # --- the loop's thread ----------------------------------------------------------------------------------------

    def _drain(self) -> None:
        self._ident = threading.get_ident()
        # The flag goes down first: what is appended after the last look makes a wake-up of its own.
        self._awake = False
        todo = self._todo
        while todo:
            act, call = todo.popleft()
            act(call)

    def _begin(self, call: Call) -> None:
        if call.stop_reason is not None:
            call.outcome = ("stopped", call.stop_reason)
            call.host.ended(call)
            return
        self._open.add(call)
        assert self._loop is not None  # it runs this
        call.handle = self._loop.create_task(self._run(call), context=self._context.copy())

    def _wake(self, call: Call) -> None:
        if call.context is not None:
            call.context._wake()

    def _cancel(self, call: Call) -> None:
        if call not in self._open:
            return  # it has ended, or `_begin` will find the stop reason
        self._killed.add(call)
        call.handle.cancel()
        if not call.began:
            # A task cancelled before its first step never enters its coroutine, so `_run` can't say the end.
            call.outcome = ("killed", None)
            self._ended(call)

    async def _run(self, call: Call) -> None:
        await _enter(call)
        if call in self._killed and call.outcome is not None and isinstance(call.outcome[1], asyncio.CancelledError):
            call.outcome = ("killed", None)
        self._ended(call)

    def _ended(self, call: Call) -> None:
        self._open.discard(call)
        self._killed.discard(call)
        call.handle = None
        call.host.ended(call)

    async def _end_all(self, grace_s: float) -> None:
        self._drain()
        for call in list(self._open):
            if call.stop_reason is None:
                call.stop_reason = "suspend"
            self._wake(call)
        await _wait({call.handle for call in self._open}, grace_s)
        for call in list(self._open):
            self._cancel(call)
        await _wait({call.handle for call in self._open}, CANCEL_S)
        if not self._given:
            # What the steps left behind them on our loop.
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await _wait(others, CANCEL_S)


def run_here(call: Call) -> None:
    """Run the call on a loop of its own on this thread, to its end."""
    asyncio.run(_enter(call))


async def _enter(call: Call) -> None:
    """As base.enter, for a coroutine."""
    if call.stop_reason is not None:
        call.outcome = ("stopped", call.stop_reason)
        return
    call.began = True
    CURRENT.set(call)
    try:
        result = call.function(**call.arguments)
        call.outcome = ("returned", await result if hasattr(result, "__await__") else result)
    except Stopping as stop:
        call.outcome = ("stopped", stop.reason)
    except BaseException as error:
        call.outcome = ("raised", without_own_frame(error))


async def _wait(tasks: set[asyncio.Task[None]], timeout_s: float) -> None:
    if tasks:
        await asyncio.wait(tasks, timeout=timeout_s)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
