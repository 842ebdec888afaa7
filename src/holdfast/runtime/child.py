"""What the process of a step does: find the step, run it with a context whose other end is the worker, say how it
ended. It runs one call and ends. Who forked it: forkserver.py. What it says: wire.py."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from holdfast.clock import SYSTEM, Clock
from holdfast.runtime.base import Call, Outcome
from holdfast.runtime.context import AsyncContext, Context
from holdfast.runtime.inline import InlineRuntime
from holdfast.runtime.locate import function_of, is_async
from holdfast.runtime.wire import frame, read_error, read_value, take_frames, write_outcome, write_value

#: Progress closer together than this is told as one: a step that floods must not keep the worker busy.
PROGRESS_EVERY_S = 0.05


def run(conn: socket.socket, order_fd: int) -> None:
    """Carry out the order that `order_fd` holds, to its end."""
    with open(order_fd, "rb") as file:
        order = json.load(file)
    sys.path[:] = order["path"]
    host = _Worker(conn)
    name = order["step_id"]
    try:
        call = _call_of(order, host)
    except BaseException as error:
        host.end(("raised", error), name, None)
        return
    threading.Thread(target=host.listen, args=(call,), name="holdfast-control", daemon=True).start()
    host.send(frame("began"))
    host.runtime.start(call)
    host.gone.wait()
    assert call.outcome is not None
    host.end(call.outcome, name, order["value_bytes_max"])


def _call_of(order: dict[str, Any], host: _Worker) -> Call:
    function = function_of(order["reference"], order["place"], order["step_id"], order["what"])
    arguments = {name: read_value(text) for name, text in order["arguments"].items()}
    coroutine = is_async(function)
    call = Call(
        host, order["row"], order["step_id"], None, order["what"], function, arguments, "process", order["reference"],
        order["deadline_at"],
    )  # fmt: skip
    seen = order["context"]
    if seen is not None:
        kind = AsyncContext if coroutine else Context
        call.context = kind(
            call, seen["key"], seen["forward_key"], seen["attempt"], seen["task_id"],
            read_value(seen["last_checkpoint"]), Clock(),
        )  # fmt: skip
        call.context.event = read_value(seen["event"])
        call.context.fence = seen["fence"]
        for name in order["ctx"]:
            arguments[name] = call.context
    if coroutine:
        from holdfast.runtime.aio import AsyncRuntime

        host.runtime = AsyncRuntime()
    return call


class _Worker:
    """The host of the one call: the worker, as seen from here."""

    def __init__(self, conn: socket.socket) -> None:
        self.conn = conn
        self.lease_until: float | None = None  # by the boot clock; None: the worker has no lease
        self.runtime: Any = InlineRuntime(passes_interrupts=False)
        self.gone = threading.Event()
        self.lock = threading.Lock()
        self.waiting: dict[int, Callable[[BaseException | None], None]] = {}
        self.checkpoints = 0
        self.latest: tuple[float, str | None] | None = None
        self.timer: threading.Timer | None = None

    # --- Host -----------------------------------------------------------------------------------------------------

    def ended(self, call: Call) -> None:
        self.gone.set()

    def checkpoint(self, call: Call, value: Any, done: Callable[[BaseException | None], None]) -> None:
        try:
            text = write_value(value, f"{call.step_id}'s checkpoint")
        except Exception as error:
            done(error)
            return
        with self.lock:
            self.checkpoints += 1
            number = self.checkpoints
            self.waiting[number] = done
        self.flush()
        self.send(frame("checkpoint", number=number, value=text))

    def progress(self, call: Call, fraction: float, message: str | None) -> None:
        with self.lock:
            self.latest = (fraction, message)
            if self.timer is not None:
                return
            self.timer = threading.Timer(PROGRESS_EVERY_S, self.flush)
            self.timer.daemon = True
            self.timer.start()
        self.flush_latest()

    # --- out ------------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Tell the latest progress; the next one may be told at once again."""
        with self.lock:
            self.timer = None
        self.flush_latest()

    def flush_latest(self) -> None:
        with self.lock:
            if self.latest is not None:
                fraction, message = self.latest
                self.latest = None
                self._send(frame("progress", fraction=fraction, message=message))

    def send(self, data: bytes) -> None:
        with self.lock:
            self._send(data)

    def _send(self, data: bytes) -> None:
        try:
            self.conn.sendall(data)
        except OSError:
            self.leave()

    def end(self, outcome: Outcome, name: str, value_bytes_max: int | None) -> None:
        self.flush_latest()
        self.send(frame("ended", **write_outcome(outcome, name, value_bytes_max)))

    # --- in -------------------------------------------------------------------------------------------------------

    def listen(self, call: Call) -> None:
        buffer = bytearray()
        while data := self._received():
            buffer += data
            for message in take_frames(buffer):
                if message["kind"] == "ask":
                    self.runtime.ask(call, message["reason"])
                elif message["kind"] == "stored":
                    with self.lock:
                        done = self.waiting.pop(message["number"])
                    done(read_error(message["error"]))
                elif message["kind"] == "lease":
                    self.lease_until = message["until"]
        self.leave()

    def _received(self) -> bytes:
        """What the worker says next. Nothing: it is gone; or its lease is over and it has not said so, because it is
        frozen, and who takes the task over must not meet this step."""
        try:
            if self.lease_until is not None:
                poll = select.poll()
                poll.register(self.conn, select.POLLIN)
                if not poll.poll(1000 * max(0.0, self.lease_until - SYSTEM.monotonic())):
                    with suppress(OSError):  # the worker may not read for long, or never
                        self.conn.send(frame("lapsed"), socket.MSG_DONTWAIT)
                    return b""
            return self.conn.recv(65536)
        except OSError:
            return b""

    def leave(self) -> None:
        """The worker is gone, or its lease. The fork server sees the first, too; this is the nearer witness."""
        os.killpg(0, signal.SIGKILL)
