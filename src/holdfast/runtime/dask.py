"""Steps on a Dask cluster: what its executor leaves out. Progress, checkpoints and requests to stop go both ways over
the cluster's own connections, and a step is entered once, whatever dies.

Theory: Dask does again by itself what a worker had that died; a step may not be. So code on the cluster asks before it
enters a step, and this side, where all is known, answers: go, or no, because it was asked to stop meanwhile, or was
entered before. Messages from there are events of one topic of the scheduler's; those to there go through a queue of the
scheduler's for each entry. A worker that dies is told of by the scheduler, and is the death of the steps it had.
A step whose Holdfast worker is gone hears nothing more, asks, and is told to stop when nobody answers.

Where the connection is lost, Dask forgets what it was asked to run at once, and the code may run on. So a step that was
let in counts as gone only after the time in which it has heard that it is to stop, or has found that nobody answers.

An executor without all this: executor.py.
"""

from __future__ import annotations

import threading
from concurrent.futures import Executor, Future, wait
from contextvars import copy_context
from itertools import count
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from holdfast.clock import SYSTEM
from holdfast.core.failure import Failure
from holdfast.errors import HoldfastClosed, UsageError
from holdfast.runtime.base import Call, Outcome, RemoteError, enter
from holdfast.runtime.executor import ExecutorRuntime, call_of, order_of

if TYPE_CHECKING:
    from collections.abc import Callable

ANSWER_S: Final = 30.0  # for which code on the cluster waits for this side
ASK_S: Final = 1.0  # after which it asks once more whether it may begin
SILENCE_S: Final = 10.0  # after which it asks whether anybody is there
UNHEARD: Final = 3  # such times, after which it stops
LOST_S: Final = SILENCE_S * (UNHEARD + 1)  # after which what was lost has stopped


class _Line:
    """A call that is on the cluster. `entry`: the one that was let in; `worker`: where. `is_lost`: the cluster has let
    go of it."""

    __slots__ = ("call", "entry", "future", "is_lost", "number", "worker")

    def __init__(self, call: Call, number: int) -> None:
        self.call = call
        self.number = number
        self.entry: str | None = None
        self.worker: str | None = None
        self.future: Future[Any] | None = None
        self.is_lost = False


class DaskRuntime(ExecutorRuntime):
    """For the executor of a Dask client (`client.get_executor()`). It has a client of its own for its messages."""

    def __init__(self, executor: Executor) -> None:
        super().__init__(executor, shared=False)
        self._theirs: Any = executor._client  # type: ignore[attr-defined]  # it has no other way to its cluster
        self._submit: Any = executor.submit  # which takes more than others'
        self._client: Any = _distributed().Client(
            self._theirs.scheduler.address, security=self._theirs.security, set_as_default=False, name="holdfast"
        )
        self._topic = f"holdfast-{self._client.id}"
        self._numbers = count(1)
        self._lines: dict[int, _Line] = {}
        self._queues: dict[str, Any] = {}
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="holdfast-dask", daemon=True)
        self._thread.start()
        self._subscribed: Any = None  # the connection over which
        self._subscribe()

    def _subscribe(self) -> None:
        """Anew where the connection is another: with the old one it is forgotten."""
        connection = self._client.scheduler_comm
        if connection is None or connection is not self._subscribed:
            self._client.subscribe_topic(self._topic, lambda event: self._work.put(lambda: self._hear(event[1])))
            self._client.subscribe_topic("all", lambda event: self._work.put(lambda: self._see(event[1])))
            self._subscribed = connection

    def _check_open(self) -> None:
        """Raises: ConnectionError."""
        if {self._theirs.status, self._client.status} & {"closing", "closed"}:
            raise ConnectionError("the Dask cluster could not be reached again, and its client is closed: make another")

    def start(self, call: Call) -> None:
        if self._closed:
            raise HoldfastClosed
        line = _Line(call, next(self._numbers))
        call.handle = line
        with self._lock:
            self._lines[line.number] = line
        try:
            self._check_open()
            self._subscribe()
            order = order_of(call) | {"topic": self._topic, "number": line.number}
            # No two are the same, even if they look so; and what becomes of a failure is not the cluster's affair.
            key = f"{self._topic}-{line.number}"
            line.future = self._submit(run_on_cluster, order, key=key, pure=False, retries=0)
            self._check_open()  # or nobody would ever say what became of it
        except Exception as error:
            self._end(line, ("raised", error))
            return
        line.future.add_done_callback(lambda done: self._over(line, done))

    def ask(self, call: Call, reason: str) -> None:
        call.stop_reason = reason
        self._work.put(lambda: self._stop(call.handle, reason))

    def close(self, grace_s: float = 5.0) -> None:
        if self._closed:
            return
        self._closed = True
        with self._lock:
            running = [line.call for line in self._lines.values()]
        for call in running:
            if call.stop_reason is None:
                self.ask(call, "suspend")
        wait([line.future for line in list(self._lines.values()) if line.future is not None], grace_s)
        self._work.put(None)
        self._thread.join(grace_s)
        self._client.close()

    # --- on the thread of this runtime ----------------------------------------------------------------------------

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                work()
            except Exception:
                if self._closed:
                    return
                # The cluster is out of reach: its calls end by their futures, or with their deadline.

    def _hear(self, said: dict[str, Any]) -> None:
        line = self._lines.get(said["number"])
        entry = said["entry"]
        if said["what"] == "begin":
            self._send(entry, *self._let_in(line, entry, said["worker"]))
        elif line is None or line.entry != entry or line.is_lost:
            if said["what"] == "there?":
                self._send(entry, "stop", "lease_lost")
        elif said["what"] == "there?":
            self._send(entry, "here")
        elif said["what"] == "progress":
            line.call.host.progress(line.call, said["fraction"], said["message"])
        elif said["what"] == "checkpoint":
            line.call.host.checkpoint(
                line.call, said["value"],
                lambda error: self._work.put(lambda: self._send(entry, "kept", None if error is None else repr(error))),
            )  # fmt: skip

    def _let_in(self, line: _Line | None, entry: str, worker: str) -> tuple[Any, ...]:
        if line is None:
            return "no", ("stopped", "abort")
        if line.entry == entry:  # it asks again
            return "go", line.call.deadline_at
        if line.entry is not None:  # the cluster does again what was under way when its worker died
            return "no", ("died", f"the worker {line.worker} of the cluster died")
        if line.call.stop_reason is not None:
            return "no", ("stopped", line.call.stop_reason)
        line.entry, line.worker = entry, worker
        line.call.begin()
        return "go", line.call.deadline_at

    def _stop(self, line: _Line | None, reason: str) -> None:
        if line is None or line.number not in self._lines:
            return
        if line.entry is not None:
            self._send(line.entry, "stop", reason)
        elif line.future is not None:
            line.future.cancel()

    def _see(self, told: dict[str, Any]) -> None:
        """Something has happened to the cluster."""
        if told.get("action") != "remove-worker":
            return
        for line in [line for line in self._lines.values() if line.worker == told["worker"]]:
            if line.future is not None and not line.future.done():
                self._end(line, ("died", f"the worker {line.worker} of the cluster died"))
                line.future.cancel()

    def _over(self, line: _Line, future: Future[Any]) -> None:
        if future.cancelled():
            self._work.put(lambda: self._lose(line))
        elif (error := future.exception()) is not None:
            self._end(line, ("died", f"{type(error).__name__}: {error}"))
        else:
            word, value = future.result()
            self._end(line, (word, RemoteError(Failure.from_json(value)) if word == "raised" else value))

    def _lose(self, line: _Line) -> None:
        """Nothing will be heard of it any more."""
        if line.number not in self._lines:
            return
        if line.entry is None:
            self._end(line, ("stopped", line.call.stop_reason or "abort"))
            return
        line.is_lost = True
        gone = threading.Timer(LOST_S, self._end, (line, ("killed", None)))
        gone.daemon = True
        gone.start()
        self._subscribe()  # it may ask whether anybody is there

    def _end(self, line: _Line, outcome: Outcome) -> None:
        with self._lock:
            if self._lines.pop(line.number, None) is None:
                return
            queue = self._queues.pop(line.entry or "", None)
        if queue is not None:
            queue.close()
        line.call.outcome = outcome
        line.call.host.ended(line.call)

    def _send(self, entry: str, *said: Any) -> None:
        queue = self._queues.get(entry) or _distributed().Queue(f"{self._topic}-{entry}", client=self._client)
        queue.put(list(said), timeout=ANSWER_S)
        with self._lock:
            if any(line.entry == entry for line in self._lines.values()):
                self._queues[entry] = queue
                return
        queue.close()


def _distributed() -> Any:
    """Dask's package, which is loaded where it is needed, and has half its types."""
    import distributed

    return distributed


# --- on the cluster ----------------------------------------------------------------------------------------------


class _There:
    """The host of a call there: what it says goes to the runtime, and what that says comes to it."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._worker: Any = _distributed().get_worker()
        self._order = order
        self._entry = SYSTEM.token_hex(16)
        name = f"{order['topic']}-{self._entry}"
        self._queue: Any = _distributed().Queue(name, client=_distributed().get_client())
        self._kept: list[Callable[[BaseException | None], None]] = []
        self._thread: threading.Thread | None = None

    def say(self, what: str, **more: Any) -> None:
        message = {"number": self._order["number"], "entry": self._entry, "what": what, "worker": self._worker.address}
        self._worker.log_event(self._order["topic"], message | more)

    def begin(self) -> list[Any]:
        """What the runtime says of it. It is asked again, because what was said before it had subscribed is lost."""
        for _ in range(int(ANSWER_S / ASK_S)):
            self.say("begin")
            try:
                found: list[Any] = self._queue.get(timeout=ASK_S)
                return found
            except TimeoutError:
                pass
        raise TimeoutError("the runtime that gave the step to the cluster does not answer")

    def listen(self, call: Call) -> None:
        self._thread = threading.Thread(target=self._listen, args=(call,), name="holdfast-line", daemon=True)
        self._thread.start()

    def _listen(self, call: Call) -> None:
        asked = 0
        while call.outcome is None:
            try:
                word, *rest = self._queue.get(timeout=SILENCE_S)
            except TimeoutError:
                asked += 1
                if asked == UNHEARD:
                    word, rest = "stop", ["lease_lost"]
                else:
                    self.say("there?")
                    continue
            except Exception:  # the cluster itself has ended
                word, rest = "stop", ["lease_lost"]
            asked = 0
            if word == "stop":
                call.stop_reason = rest[0]
                if call.context is not None:
                    call.context._wake()
                if rest[0] == "lease_lost":
                    return
            elif word == "kept" and self._kept:
                self._kept.pop(0)(None if rest[0] is None else UsageError(str(rest[0])))
            elif word == "over":
                return

    def close(self) -> None:
        self._queue.put(["over"], timeout=ANSWER_S)
        if self._thread is not None:
            self._thread.join(ANSWER_S)
        self._queue.close()

    # --- holdfast.runtime.base.Host -------------------------------------------------------------------------------

    def ended(self, call: Call) -> None:
        """The cluster carries the outcome."""

    def checkpoint(self, call: Call, value: Any, done: Callable[[BaseException | None], None]) -> None:
        self._kept.append(done)
        self.say("checkpoint", value=value)

    def progress(self, call: Call, fraction: float, message: str | None) -> None:
        self.say("progress", fraction=fraction, message=message)


def run_on_cluster(order: dict[str, Any]) -> Outcome:
    """Carry out an order on the cluster, if the runtime lets it in."""
    there = _There(order)
    try:
        answer, told = there.begin()
        if answer != "go":
            return tuple(told)
        call = call_of(order, there)
    except Exception as error:
        return "raised", Failure.of(error).to_json()
    call.deadline_at = told
    there.listen(call)
    copy_context().run(enter, call)
    there.close()
    assert call.outcome is not None
    word, value = call.outcome
    return word, Failure.of(value).to_json() if word == "raised" else value
