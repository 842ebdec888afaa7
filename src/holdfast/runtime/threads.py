"""Steps on a pool of threads.

Theory: calls wait in one queue, and the threads come up in a chain: whoever takes a call and leaves others behind wakes
(or makes) the next thread before it begins. So short steps are done by few threads without a switch between any two,
and one that takes long holds up nobody. The threads are daemons: one whose step never comes back can't keep the
interpreter from leaving (`concurrent.futures` joins its threads at exit, whatever they do). Nothing can end a thread
from outside: a step that ignores every request is left behind by `abandon`, and its place in the pool is filled anew.
"""

from __future__ import annotations

import errno
import threading
from collections import deque
from contextvars import copy_context
from queue import SimpleQueue

from holdfast.errors import HoldfastClosed
from holdfast.runtime.base import Call, enter, refuse_while_loading


class ThreadRuntime:
    """At most `max_workers` threads, made when first needed and kept until `close`. Context variables are those of
    the thread that made the runtime; each step has a copy of its own."""

    killable = False

    def __init__(self, max_workers: int = 32, name: str = "holdfast-step") -> None:
        refuse_while_loading()
        if max_workers < 1:
            raise ValueError(f"max_workers={max_workers}: a pool has at least one thread")
        self._max = max_workers
        self._name = name
        self._queue: deque[Call] = deque()
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._context = copy_context()
        self._lock = threading.Lock()
        self._idle = 0  # threads that wait for the bell and have not been rung for
        self._coming = 0  # threads rung for, or made, that have not looked at the queue yet
        self._made = 0
        self._threads: set[threading.Thread] = set()
        self._running: dict[Call, threading.Thread] = {}
        self._closed = False
        self._empty = threading.Event()

    def start(self, call: Call) -> None:
        with self._lock:
            if self._closed:
                raise HoldfastClosed
            self._queue.append(call)
            self._call_up()
            starved = not self._threads
            if starved:
                self._queue.remove(call)
        if starved:
            call.outcome = ("raised", OSError(errno.EAGAIN, "the system has no thread left for this step"))
            call.host.ended(call)

    def ask(self, call: Call, reason: str) -> None:
        call.stop_reason = reason
        if call.context is not None:
            call.context._wake()

    def kill(self, call: Call) -> bool:
        call.stop_reason = call.stop_reason or "abort"
        return False

    def abandon(self, call: Call) -> bool:
        """Give up on the thread that runs `call` and fill its place. When the step ends after all, `ended` is said
        as ever. False: it does not run here (any more)."""
        with self._lock:
            thread = self._running.pop(call, None)
            if thread is None:
                return False
            self._threads.discard(thread)
            if self._queue:
                self._call_up()
            if self._closed and not self._threads:
                self._empty.set()
            return True

    def close(self, grace_s: float = 5.0) -> None:
        with self._lock:
            self._closed = True
            threads = list(self._threads)
            calls = [*self._running, *self._queue]
        for call in calls:
            if call.stop_reason is None:
                self.ask(call, "suspend")
        for _ in threads:
            self._bell.put(None)
        if threads and threading.current_thread() not in threads and self._empty.wait(grace_s):
            for thread in threads:
                thread.join()  # each has said its last word

    def _call_up(self) -> None:
        """See that somebody looks at the queue. The lock is held."""
        if self._coming:
            return
        if self._idle:
            self._idle -= 1
            self._coming += 1
            self._bell.put(None)
        elif len(self._threads) < self._max:
            self._grow()

    def _grow(self) -> None:
        """Make a thread. If the system has none left, those that are there have to do."""
        self._made += 1
        thread = threading.Thread(target=self._work, name=f"{self._name}-{self._made}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return
        self._threads.add(thread)
        self._coming += 1

    def _next(self) -> Call | None:
        """The next call for this thread, which is idle if there is none. The lock is held."""
        if not self._queue:
            self._idle += 1
            return None
        call = self._queue.popleft()
        self._running[call] = threading.current_thread()
        if self._queue:
            self._call_up()
        return call

    def _work(self) -> None:
        while True:
            with self._lock:
                self._coming -= bool(self._coming)
                call = self._next()
            while call is not None:
                self._context.copy().run(enter, call)
                done = call
                with self._lock:
                    lost = self._running.pop(done, None) is None
                    call = None if lost else self._next()
                done.host.ended(done)
                if lost:
                    return  # its place has been filled
                del done  # or an idle thread would keep the last step's values alive
            if self._closed:
                break
            self._bell.get()
        with self._lock:
            self._threads.discard(threading.current_thread())
            if not self._threads:
                self._empty.set()
