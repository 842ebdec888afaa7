"""Steps on a pool of threads.

Theory: the pool counts its idle threads itself, so a start either takes one, makes one, or leaves a call in the queue
for whoever ends first; hand-off is one put. The threads are daemons: one whose step never comes back can't keep the
interpreter from leaving (`concurrent.futures` joins its threads at exit, whatever they do). Nothing can end a thread
from outside: a step that ignores every request is left behind by `abandon`, and its place in the pool is filled anew.
"""

from __future__ import annotations

import errno
import threading
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
        self._queue: SimpleQueue[Call | None] = SimpleQueue()
        self._context = copy_context()
        self._lock = threading.Lock()
        self._idle = 0  # threads waiting for a call that no queued call has spoken for
        self._backlog = 0  # calls in the queue that no thread has been given to
        self._made = 0
        self._threads: set[threading.Thread] = set()
        self._running: dict[Call, threading.Thread] = {}
        self._closed = False
        self._empty = threading.Event()

    def start(self, call: Call) -> None:
        starved = False
        with self._lock:
            if self._closed:
                raise HoldfastClosed
            if self._idle:
                self._idle -= 1
            elif len(self._threads) >= self._max or not self._grow():
                starved = not self._threads
                self._backlog += not starved
        if starved:
            call.outcome = ("raised", OSError(errno.EAGAIN, "the system has no thread left for this step"))
            call.host.ended(call)
        else:
            self._queue.put(call)

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
            if self._backlog and self._grow():
                self._backlog -= 1
            elif self._closed and not self._threads:
                self._empty.set()
            return True

    def close(self, grace_s: float = 5.0) -> None:
        with self._lock:
            self._closed = True
            threads = list(self._threads)
            running = list(self._running)
        for call in running:
            if call.stop_reason is None:
                self.ask(call, "suspend")
        for _ in threads:
            self._queue.put(None)
        if threads and threading.current_thread() not in threads and self._empty.wait(grace_s):
            for thread in threads:
                thread.join()  # each has said its last word

    def _grow(self) -> bool:
        """Make a thread for one call. The lock is held. False: the system has none left; others will have to do."""
        self._made += 1
        thread = threading.Thread(target=self._work, name=f"{self._name}-{self._made}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return False
        self._threads.add(thread)
        return True

    def _work(self) -> None:
        me = threading.current_thread()
        while (call := self._queue.get()) is not None:
            with self._lock:
                self._running[call] = me
            self._context.copy().run(enter, call)
            with self._lock:
                lost = self._running.pop(call, None) is None
                if lost:
                    pass  # abandoned: its place has been filled
                elif self._backlog:
                    self._backlog -= 1
                else:
                    self._idle += 1
            call.host.ended(call)
            if lost:
                return
            del call  # or an idle thread would keep the last step's values alive
        with self._lock:
            self._threads.discard(me)
            if not self._threads:
                self._empty.set()
