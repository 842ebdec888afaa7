"""Steps in processes of their own, which can be ended whatever they do.

Theory: each step has one process, forked by a small server (forkserver.py) and led by nobody else: it is in its own
session, and it dies with the worker. It ends itself when the worker's lease is over and was not extended, because a
worker that is frozen can't end it. A call is ended when the server has reaped its process, never before, so "killed"
means gone. What the step said before its end is read first: an outcome that was sent beats a kill that came too late.
One thread listens to the server and to all its children (children.py).

What crosses, and how: wire.py. The child's side: child.py. Why not multiprocessing:
docs/why/adr/0010-own-fork-server.md.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterable
from typing import Any

from holdfast.errors import HoldfastClosed
from holdfast.runtime.base import Call, Outcome, refuse_while_loading
from holdfast.runtime.children import Child, Server
from holdfast.runtime.wire import frame, order_of, read_outcome, read_value, write_error


class ProcessRuntime:
    """inherit: descriptors that every child holds till its end, as the worker's lock.
    value_bytes_max: a larger result fails in the child, so it never gets here."""

    killable = True

    def __init__(self, *, inherit: Iterable[int] = (), value_bytes_max: int | None = None) -> None:
        refuse_while_loading()
        self._inherit = tuple(inherit)
        self._value_bytes_max = value_bytes_max
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._server: Server | None = None
        self._children: dict[int, Child] = {}
        self._count = 0
        self._lease_until: float | None = None
        self._closed = False

    def start(self, call: Call) -> None:
        try:
            order = order_of(call, self._value_bytes_max)
        except Exception as error:
            self._end_now(call, ("raised", error))
            return
        if call.stop_reason is not None:
            self._end_now(call, ("stopped", call.stop_reason))
            return
        try:
            child = self._send(call, order)
        except OSError as error:  # no descriptors, no memory, no processes left
            self._end_now(call, ("raised", error))
            return
        # Whoever asked meanwhile wrote the word first and then told a child that could not hear yet.
        if child.killed:
            child.server.kill(child.number)
        elif call.stop_reason is not None:
            child.tell(frame("ask", reason=call.stop_reason))
        if self._lease_until is not None:
            child.tell(frame("lease", until=self._lease_until))

    def _send(self, call: Call, order: bytes) -> Child:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        order_fd = -1
        child: Child | None = None
        try:
            order_fd = _memory_file(order)
            with self._lock:
                if self._closed:
                    raise HoldfastClosed
                server = self._server
                if server is None or server.gone:
                    server = self._server = Server(self, self._inherit)
                self._count += 1
                child = call.handle = Child(self._count, call, ours, server)
                self._children[child.number] = child
            server.start(child, theirs.fileno(), order_fd)
            return child
        finally:
            theirs.close()
            if order_fd >= 0:
                os.close(order_fd)
            if child is None:
                ours.close()

    def ask(self, call: Call, reason: str) -> None:
        call.stop_reason = reason
        if isinstance(child := call.handle, Child):
            child.tell(frame("ask", reason=reason))

    def kill(self, call: Call) -> bool:
        call.stop_reason = call.stop_reason or "abort"
        child = call.handle
        if isinstance(child, Child):
            child.killed = True
            child.server.kill(child.number)
        return True

    def extend(self, until: float, call: Call | None = None) -> None:
        """The worker may write until then, by its boot clock. A child that hears of no later moment ends itself.
        `call`: that holds for this one alone."""
        if call is not None:
            if isinstance(child := call.handle, Child):
                child.tell(frame("lease", until=until))
            return
        with self._lock:
            self._lease_until = until
            children = list(self._children.values())
        for child in children:
            child.tell(frame("lease", until=until))

    def close(self, grace_s: float = 5.0) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            server = self._server
            children = list(self._children.values())
        for child in children:
            if child.call.stop_reason is None:
                self.ask(child.call, "suspend")
        with self._idle:
            self._idle.wait_for(lambda: not self._children, grace_s)
            children = list(self._children.values())
        for child in children:
            self.kill(child.call)
        with self._idle:
            self._idle.wait_for(lambda: not self._children, 5.0)
        if server is not None:
            server.close()

    # --- from the server's thread ---------------------------------------------------------------------------------

    def _end_now(self, call: Call, outcome: Outcome) -> None:
        call.outcome = outcome
        call.host.ended(call)

    def heard(self, child: Child, message: dict[str, Any]) -> None:
        call, kind = child.call, message["kind"]
        if kind == "began":
            call.began = True
        elif kind == "progress":
            call.host.progress(call, message["fraction"], message["message"])
        elif kind == "ended":
            child.outcome = read_outcome(message)
        elif kind == "lapsed":  # it ended itself with the worker's lease
            child.killed = True
        elif kind == "checkpoint":
            number = message["number"]

            def done(error: BaseException | None) -> None:
                child.tell(frame("stored", number=number, error=write_error(error)))

            try:
                value = read_value(message["value"])
            except Exception as error:
                done(error)
            else:
                call.host.checkpoint(call, value, done)

    def gone(self, child: Child, why: str) -> None:
        """The process has been reaped, or never was."""
        call = child.call
        call.outcome = child.outcome or (("killed", None) if child.killed else ("died", why))
        call.handle = None
        child.conn.close()
        with self._idle:
            self._children.pop(child.number, None)
            self._idle.notify_all()
        call.host.ended(call)

    def child(self, number: int) -> Child | None:
        return self._children.get(number)

    def children_of(self, server: Server) -> list[Child]:
        with self._lock:
            return [child for child in self._children.values() if child.server is server]


def _memory_file(data: bytes) -> int:
    """A file without a name that holds `data`, to be read from its start."""
    if sys.platform == "linux":
        fd = os.memfd_create("holdfast-order")
    else:
        import tempfile

        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
