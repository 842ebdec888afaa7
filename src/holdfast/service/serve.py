"""`holdfast serve`: the service on its sockets, with a worker beside it, until it is told to stop.

What is asked for: app.py. The worker's own way out: worker/leave.py.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import socket
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Final

import uvicorn

from holdfast.errors import UsageError
from holdfast.local import Holdfast
from holdfast.service.app import Front, make_app
from holdfast.service.connections import Connection, protocol
from holdfast.settings import Settings

BACKLOG: Final = 2048
DATE_S: Final = 1.0  # how old the date of an answer may be
# The requests of one commit are thousands of objects, and all of them go by themselves.
GARBAGE: Final = (50_000, 20, 20)
FILES_BESIDE: Final = 256  # that a process needs beside its connections: databases, children, streams


class Server(uvicorn.Server):
    """uvicorn, which first tells the application that it is about to stop: else an open stream would keep it from
    stopping until its time is up. Signals are the caller's."""

    def __init__(self, front: Front, settings: Settings) -> None:
        self.front = front
        self.ready = threading.Event()
        self._ends = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._cut_after_s = settings.stop_s / 4
        super().__init__(
            uvicorn.Config(
                front,
                http=protocol(settings),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # who asks is known by his own address
                timeout_graceful_shutdown=max(1, round(settings.stop_s) - 1),
                backlog=BACKLOG,
            )
        )

    def install_signal_handlers(self) -> None:
        """None: whoever runs it has his own."""

    async def main_loop(self) -> None:
        """uvicorn's own looks ten times a second whether it is to end; this one is told, and wakes for the date."""
        self._loop = asyncio.get_running_loop()
        while not await self.on_tick(0):
            try:
                async with asyncio.timeout(DATE_S):
                    await self._ends.wait()
            except TimeoutError:
                pass

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self.front.service.stop()
        # In time for what is asked of them to end by itself.
        asyncio.get_running_loop().call_later(self._cut_after_s, self._cut)
        await super().shutdown(sockets)

    def _cut(self) -> None:
        for connection in list(self.server_state.connections):
            if isinstance(connection, Connection):
                connection.cut()

    def stop(self) -> None:
        """From any thread."""
        self.should_exit = True
        if self._loop is not None:
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._ends.set)


def listen(host: str, port: int) -> socket.socket:
    """A socket that others can connect to from now on. Raises: UsageError: there can be none."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        made = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise UsageError(f"nobody can listen on {host}, port {port}: {why}; say another by --host and --port") from None
    # Connections have it from here. asyncio would set it only on a socket that says it is TCP, which this does not; and
    # without it the second packet of an answer waits for the first one's acknowledgement: 40 ms.
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def settle() -> None:
    """Have the garbage collector leave alone what is there when the service has started, for it stays; and look less
    often: a request makes hundreds of objects, and next to none of them in a circle."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE)


def raise_file_limit(connections_max: int) -> str | None:
    """Let this process have as many files as the connections need; a sentence for people where it may not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections_max + FILES_BESIDE
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return None
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (ValueError, OSError):
        most = soft
    if most >= wanted:
        return None
    return (
        f"this process may open {most} files, so it keeps about {max(1, most - FILES_BESIDE)} connections and not"
        f" {connections_max}: raise the limit (ulimit -Hn {wanted}, or LimitNOFILE= of its unit)"
    )


class Serving:
    """A service in a thread of its own, and its worker in another. One does not outlive the other: a service whose
    worker has died would take tasks that nobody does, and one whose database can't be written any more takes none."""

    def __init__(
        self, hold: Holdfast, settings: Settings | None = None, listener: socket.socket | None = None, *,
        worker: bool = True, runtime: str = "threads",
    ) -> None:  # fmt: skip
        self.settings = settings or hold.settings
        self._hold = hold
        self.front = make_app(hold, self.settings)
        self.service = self.front.service
        self.listener = listener or listen(self.settings.host, self.settings.port)
        self.url = url_of(self.listener)
        self._server = Server(self.front, self.settings)
        self._error: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, name="holdfast-service", daemon=True)
        self._working: AbstractContextManager[None] = (
            hold.working(runtime, failed=self._fail) if worker else nullcontext()
        )
        self.service.bridge.broken = self._fail
        self.ended: Callable[[], None] = lambda: None  # called when the service has ended, on its thread

    def start(self) -> None:
        """Returns when requests are answered."""
        self._working.__enter__()
        self._thread.start()
        while not self._server.ready.wait(0.05):
            if not self._thread.is_alive():
                self.raise_error()

    def stop(self) -> None:
        """Answer what is asked, end what streams, hand the tasks over. The second time it does nothing."""
        self._server.stop()
        self._thread.join()
        self.listener.close()
        working, self._working = self._working, nullcontext()
        working.__exit__(None, None, None)

    @property
    def worker_id(self) -> str | None:
        """Of the worker beside it, for logs; None: there is none."""
        return next((worker.lease.id for worker in self._hold._workers), None)

    def raise_error(self) -> None:
        """What ended the service, if it did not end as asked."""
        if self._error:
            raise self._error[0]

    def _fail(self, error: BaseException) -> None:
        self._error.append(error)
        self._server.stop()

    def _run(self) -> None:
        try:
            asyncio.run(self._server.serve([self.listener]))
        except BaseException as error:
            self._error.append(error)
        finally:
            self.ended()
