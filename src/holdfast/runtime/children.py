"""The worker's end of the fork server (forkserver.py): one thread that listens to it and to all its children.

What becomes of what they say: processes.py.
"""

from __future__ import annotations

import os
import selectors
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from holdfast.runtime.base import Call, Outcome
from holdfast.runtime.wire import take_frames

if TYPE_CHECKING:
    from holdfast.runtime.processes import ProcessRuntime

_BOOT = (
    "import sys; sys.path[:] = sys.argv[4].split(chr(0x1F)); from holdfast.runtime.forkserver import main; "
    "main(int(sys.argv[1]), int(sys.argv[2]), [int(fd) for fd in sys.argv[3].split(',') if fd])"
)


class Child:
    """One process, from the asking for it to its reaping."""

    __slots__ = ("buffer", "call", "conn", "garbled", "killed", "number", "outcome", "server")

    def __init__(self, number: int, call: Call, conn: socket.socket, server: Server) -> None:
        self.number = number
        self.call = call
        self.conn = conn
        self.server = server
        self.buffer = bytearray()
        self.outcome: Outcome | None = None  # what it said itself
        self.killed = False
        self.garbled = False

    def tell(self, data: bytes) -> None:
        """A child that is gone, or so hung that its buffer is full, needs no telling."""
        with suppress(OSError):
            self.conn.send(data)


class Server:
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
                    str(fd), str(os.getpid()), ",".join(map(str, inherit)), "\x1f".join(sys.path),
                ],
                pass_fds=(fd, *inherit),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        self.thread = threading.Thread(target=self.listen, name="holdfast-processes", daemon=True)
        self.thread.start()

    # --- any thread -----------------------------------------------------------------------------------------------

    def start(self, child: Child, conn_fd: int, order_fd: int) -> None:
        # Refused where it has just gone: `listen` sees that too and ends the child.
        with self.sending, suppress(OSError, ValueError, KeyError):
            # epoll and kqueue take a new descriptor while another thread waits in them.
            self.selector.register(child.conn, selectors.EVENT_READ, child)
            socket.send_fds(self.control, [self.message.pack(b"S", child.number, 0)], [conn_fd, order_fd])

    def kill(self, number: int) -> None:
        with self.sending, suppress(OSError):
            self.control.sendall(self.message.pack(b"K", number, 0))

    def close(self) -> None:
        with suppress(OSError):
            self.control.shutdown(socket.SHUT_WR)
        if threading.current_thread() is not self.thread:
            self.thread.join(5.0)
            if self.thread.is_alive():  # somebody has stopped it
                self.process.kill()
                self.thread.join()

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
        for child in self.runtime.children_of(self):
            child.conn.setblocking(True)
            child.conn.settimeout(5.0)
            while self.hear(child):
                pass
            self.runtime.gone(child, "signal 9")
        self.selector.close()
        self.control.close()

    def hear(self, child: Child) -> bool:
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
        if child.garbled:
            return True
        child.buffer += data
        try:
            for message in take_frames(child.buffer):
                self.runtime.heard(child, message)
        except (ValueError, KeyError, TypeError, AttributeError):
            # The step has written to a socket that is not its own. Nothing it says can be trusted any more.
            child.garbled = True
            self.kill(child.number)
        return True

    def obey(self, kind: bytes, number: int, status: int) -> None:
        child = self.runtime.child(number)
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
        self.runtime.gone(child, why)


def _received(sock: socket.socket) -> bytes:
    try:
        return sock.recv(65536)
    except OSError:
        return b""
