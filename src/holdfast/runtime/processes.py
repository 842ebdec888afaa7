"""Steps in processes of their own, which can be ended whatever they do.

Theory: each step has one process, forked by a small server (forkserver.py) and led by nobody else: it is in its own
session, and it dies with the worker. A call is ended when the server has reaped its process, never before, so
"killed" means gone. What the step said before its end is read first: an outcome that was sent beats a kill that
came too late. One thread here listens to the server and to all the children.

What crosses, and how: wire.py. The child's side: child.py. Why not multiprocessing:
docs/why/adr/0010-own-fork-server.md.
"""

from __future__ import annotations

import os
import selectors
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from holdfast.errors import FlowNotFound, HoldfastClosed
from holdfast.runtime.base import Call, Outcome
from holdfast.runtime.wire import frame, order_of, read_outcome, read_value, take_frames, write_error

_BOOT = (
    "import sys; sys.path[:] = sys.argv[4].split(':'); from holdfast.runtime.forkserver import main; "
    "main(int(sys.argv[1]), int(sys.argv[2]), [int(fd) for fd in sys.argv[3].split(',') if fd])"
)


class _Child:
    """One process, from the asking for it to its reaping."""

    __slots__ = ("buffer", "call", "conn", "killed", "number", "outcome", "server")

    def __init__(self, number: int, call: Call, conn: socket.socket, server: _Server) -> None:
        self.number = number
        self.call = call
        self.conn = conn
        self.server = server
        self.buffer = bytearray()
        self.outcome: Outcome | None = None  # what it said itself
        self.killed = False

    def tell(self, data: bytes) -> None:
        """A child that is gone, or so hung that its buffer is full, needs no telling."""
        with suppress(OSError):
            self.conn.send(data)


class ProcessRuntime:
    """inherit: descriptors that every child holds till its end, as the worker's lock.
    value_bytes_max: a larger result fails in the child, so it never gets here."""

    killable = True

    def __init__(self, *, inherit: Iterable[int] = (), value_bytes_max: int | None = None) -> None:
        self._inherit = tuple(inherit)
        self._value_bytes_max = value_bytes_max
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._server: _Server | None = None
        self._children: dict[int, _Child] = {}
        self._count = 0
        self._closed = False

    def start(self, call: Call) -> None:
        try:
            if call.reference is None:
                raise FlowNotFound(
                    f"{call.step_id} runs in a process of its own, which can't find its flow: give the flow a place "
                    "(a variable of a module), or run the step in a thread"
                )
            order = order_of(call, self._value_bytes_max)
        except Exception as error:
            self._end_now(call, ("raised", error))
            return
        if call.stop_reason is not None:
            self._end_now(call, ("stopped", call.stop_reason))
            return
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        order_fd = _memory_file(order)
        try:
            with self._lock:
                if self._closed:
                    ours.close()
                    raise HoldfastClosed
                server = self._server
                if server is None or server.gone:
                    server = self._server = _Server(self, self._inherit)
                self._count += 1
                child = call.handle = _Child(self._count, call, ours, server)
                self._children[child.number] = child
            server.start(child, theirs.fileno(), order_fd)
        finally:
            theirs.close()
            os.close(order_fd)
        # Whoever asked meanwhile wrote the word first and then told a child that could not hear yet.
        if child.killed:
            server.kill(child.number)
        elif call.stop_reason is not None:
            child.tell(frame("ask", reason=call.stop_reason))

    def ask(self, call: Call, reason: str) -> None:
        call.stop_reason = reason
        if isinstance(call.handle, _Child):
            call.handle.tell(frame("ask", reason=reason))

    def kill(self, call: Call) -> bool:
        call.stop_reason = call.stop_reason or "abort"
        child = call.handle
        if isinstance(child, _Child):
            child.killed = True
            child.server.kill(child.number)
        return True

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

    def _heard(self, child: _Child, message: dict[str, Any]) -> None:
        call, kind = child.call, message["kind"]
        if kind == "began":
            call.began = True
        elif kind == "progress":
            call.host.progress(call, message["fraction"], message["message"])
        elif kind == "ended":
            child.outcome = read_outcome(message)
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

    def _gone(self, child: _Child, why: str) -> None:
        """The process has been reaped, or never was."""
        call = child.call
        call.outcome = child.outcome or (("killed", None) if child.killed else ("died", why))
        call.handle = None
        child.conn.close()
        with self._idle:
            self._children.pop(child.number, None)
            self._idle.notify_all()
        call.host.ended(call)

    def _of(self, server: _Server) -> list[_Child]:
        with self._lock:
            return [child for child in self._children.values() if child.server is server]


class _Server:
    """One fork server, and the thread that listens to it and to its children."""

    def __init__(self, runtime: ProcessRuntime, inherit: tuple[int, ...]) -> None:
        from holdfast.runtime.forkserver import MESSAGE

        self.message = MESSAGE
        self.runtime = runtime
        self.gone = False
        self.control, theirs = socket.socketpair()
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.control, selectors.EVENT_READ)
        self.sending = threading.Lock()
        with theirs:
            fd = theirs.fileno()
            self.process = subprocess.Popen(
                [
                    sys.executable, "-c", _BOOT,
                    str(fd), str(os.getpid()), ",".join(map(str, inherit)), ":".join(sys.path),
                ],
                pass_fds=(fd, *inherit),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        self.thread = threading.Thread(target=self.listen, name="holdfast-processes", daemon=True)
        self.thread.start()

    # --- any thread -----------------------------------------------------------------------------------------------

    def start(self, child: _Child, conn_fd: int, order_fd: int) -> None:
        # epoll and kqueue take a new descriptor while another thread waits in them.
        self.selector.register(child.conn, selectors.EVENT_READ, child)
        with self.sending, suppress(OSError):  # it is gone: `listen` sees that too and ends the child
            socket.send_fds(self.control, [self.message.pack(b"S", child.number, 0)], [conn_fd, order_fd])

    def kill(self, number: int) -> None:
        with self.sending, suppress(OSError):
            self.control.sendall(self.message.pack(b"K", number, 0))

    def close(self) -> None:
        with suppress(OSError):
            self.control.shutdown(socket.SHUT_WR)
        if threading.current_thread() is not self.thread:
            self.thread.join(5.0)
            self.process.kill()  # it ended long ago, unless somebody stopped it

    # --- the listening thread -------------------------------------------------------------------------------------

    def listen(self) -> None:
        buffer = bytearray()
        while not self.gone:
            for key, _ in self.selector.select():
                if key.data is not None:
                    self.hear(key.data)
                elif data := _received(self.control):
                    buffer += data
                    while len(buffer) >= self.message.size:
                        self.obey(*self.message.unpack_from(buffer))
                        del buffer[: self.message.size]
                else:
                    self.gone = True
        self.process.wait()
        # Its children die with it; each lets go of its socket when it does.
        for child in self.runtime._of(self):
            child.conn.setblocking(True)
            child.conn.settimeout(5.0)
            while self.hear(child):
                pass
            self.runtime._gone(child, "signal 9")
        self.selector.close()
        self.control.close()

    def hear(self, child: _Child) -> bool:
        """Read what there is. False: there will be no more."""
        try:
            data = child.conn.recv(1 << 18)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            with suppress(KeyError, ValueError):
                self.selector.unregister(child.conn)
            return False
        child.buffer += data
        for message in take_frames(child.buffer):
            self.runtime._heard(child, message)
        return True

    def obey(self, kind: bytes, number: int, status: int) -> None:
        child = self.runtime._children.get(number)
        if child is None:
            return
        while self.hear(child):
            pass
        with suppress(KeyError, ValueError):
            self.selector.unregister(child.conn)
        if kind == b"F":
            why = f"it could not be started: {os.strerror(status)}"
        else:
            code = os.waitstatus_to_exitcode(status)
            why = f"signal {-code}" if code < 0 else f"exit {code}"
        self.runtime._gone(child, why)


def _received(sock: socket.socket) -> bytes:
    try:
        return sock.recv(65536)
    except OSError:
        return b""


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
