"""The process that starts the processes of steps: `python -c "… main()"`, made by processes.py at the first need.

Theory: it has Holdfast imported, one thread, and runs no user code; so forking it is safe and takes a millisecond,
and it always answers, whatever the steps do. Its one more duty is that no step outlives the worker. It sees the
worker end twice over (the control socket closes; the worker's pidfd turns readable, even where a process forked from
the worker holds the socket open), kills the process group of every step, and ends. Should it be killed itself, the
kernel kills each step (PR_SET_PDEATHSIG; this process has one thread, so the *thread* that it watches is this one).
A step that hangs in C with the interpreter's lock held needs no cooperation in any of this.

Messages on the control socket have one size: kind, number of the child, a status. In: S start (with two descriptors:
the child's socket, its order), K kill. Out: E ended (the wait status), F could not be forked (the errno).
"""

from __future__ import annotations

import ctypes
import gc
import os
import selectors
import signal
import socket
import struct
import sys

from holdfast.runtime import child

MESSAGE = struct.Struct("!cII")
_PR_SET_PDEATHSIG = 1


def main(control_fd: int, worker_pid: int, inherited: list[int]) -> None:
    """Serve until the worker is gone. `inherited`: descriptors that the children hold and what they execute doesn't
    (the worker's lock)."""
    for fd in inherited:
        os.set_inheritable(fd, False)
    control = socket.socket(fileno=control_fd)
    control.set_inheritable(False)
    gc.collect()
    gc.freeze()  # what is here now is never looked at by a child's collector, so its pages stay shared
    _Server(control, worker_pid).serve()


class _Server:
    def __init__(self, control: socket.socket, worker_pid: int) -> None:
        self.control = control
        self.worker_pid = worker_pid
        self.pid = os.getpid()
        self.children: dict[int, int] = {}  # number -> pid, until reaped
        self.libc = ctypes.CDLL(None) if sys.platform == "linux" else None
        self.selector = selectors.DefaultSelector()
        self.woken, self.waker = socket.socketpair()
        self.pidfd = -1

    def serve(self) -> None:
        self.waker.setblocking(False)
        self.woken.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.waker.fileno(), warn_on_full_buffer=False)
        try:
            self.pidfd = os.pidfd_open(self.worker_pid)
        except (AttributeError, OSError):
            pass  # an old kernel; the socket alone has to do
        self.selector.register(self.control, selectors.EVENT_READ)
        self.selector.register(self.woken, selectors.EVENT_READ)
        if self.pidfd >= 0:
            self.selector.register(self.pidfd, selectors.EVENT_READ)
        try:
            # Asked after the pidfd was opened, so that it can't be another process with the worker's old number.
            while os.getppid() == self.worker_pid and self.turn():
                pass
        finally:
            self.end_all()

    def turn(self) -> bool:
        """Wait for something and do it. False: the worker is gone."""
        ready = {key.fd for key, _ in self.selector.select()}
        if self.pidfd in ready:
            return False
        if self.woken.fileno() in ready:
            try:
                self.woken.recv(4096)
            except BlockingIOError:
                pass
            self.reap()
        return self.control.fileno() not in ready or self.obey()

    def obey(self) -> bool:
        try:
            data, fds, _, _ = socket.recv_fds(self.control, MESSAGE.size, 2)
        except OSError:
            return False
        while 0 < len(data) < MESSAGE.size:
            data += self.control.recv(MESSAGE.size - len(data))
        if not data:
            return False
        kind, number, _ = MESSAGE.unpack(data)
        if kind == b"S":
            self.start(number, fds)
        elif kind == b"K" and number in self.children:
            self.kill(self.children[number])
        return True

    def start(self, number: int, fds: list[int]) -> None:
        for fd in fds:
            os.set_inheritable(fd, False)
        try:
            pid = os.fork()
        except OSError as error:
            self.tell(b"F", number, error.errno or 0)
        else:
            if pid == 0:
                self.be_child(fds)
            self.children[number] = pid
        for fd in fds:
            os.close(fd)

    def be_child(self, fds: list[int]) -> None:
        """Never returns."""
        code = 1
        try:
            os.setsid()
            if self.libc is not None:
                self.libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() == self.pid:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                self.selector.close()
                for end in (self.control, self.woken, self.waker):
                    end.close()
                if self.pidfd >= 0:
                    os.close(self.pidfd)
                child.run(socket.socket(fileno=fds[0]), fds[1])
                code = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)

    def kill(self, pid: int) -> None:
        """Kill a child that is not reaped yet, so its number is still its own, and its group, once it has made one."""
        for kill in (os.killpg, os.kill):
            try:
                kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass

    def reap(self) -> None:
        for number, pid in list(self.children.items()):
            # Look, kill what it left in its group if it did not end well, and only then let go of its number.
            seen = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if seen is None:
                continue
            if seen.si_code != os.CLD_EXITED or seen.si_status != 0:
                self.kill(pid)
            _, status = os.waitpid(pid, 0)
            del self.children[number]
            self.tell(b"E", number, status)

    def tell(self, kind: bytes, number: int, status: int) -> None:
        try:
            self.control.sendall(MESSAGE.pack(kind, number, status))
        except OSError:
            pass  # the worker is gone, which the next turn sees

    def end_all(self) -> None:
        for pid in self.children.values():
            self.kill(pid)
        for pid in self.children.values():
            os.waitpid(pid, 0)
