"""Steps on any `concurrent.futures.Executor`: a pool of threads or of processes. A Dask cluster's has more: dask.py.

Where the executor's threads are ours (`shared=True`) a step has the context it has everywhere. Elsewhere the step is
found by its flow's reference, and its context is a reduced one: keys, ids, the last checkpoint, `sleep` and the
deadline are there; `progress` goes nowhere; `checkpoint` raises; no request to stop gets there, so only the deadline
ends a sleep. An executor carries values by its own means (pickle), and says nothing of a worker's death but that the
future broke. For steps on this machine that must be stopped and ended there is processes.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import Any

from holdfast.core.failure import Failure
from holdfast.errors import HoldfastClosed, UsageError
from holdfast.runtime.base import Call, Host, Outcome, RemoteError, enter, refuse_while_loading
from holdfast.runtime.locate import function_of, is_async, place_elsewhere


def runtime_of(executor: Executor) -> ExecutorRuntime:
    """The runtime for it."""
    if type(executor).__module__.partition(".")[0] == "distributed":
        from holdfast.runtime.dask import DaskRuntime

        return DaskRuntime(executor)
    return ExecutorRuntime(executor)


class ExecutorRuntime:
    """shared: the executor's code runs in this process; by default, whether it is a ThreadPoolExecutor.
    The executor stays the caller's: `close` does not shut it down."""

    killable = False

    def __init__(self, executor: Executor, *, shared: bool | None = None) -> None:
        refuse_while_loading()
        self._executor = executor
        self._shared = isinstance(executor, ThreadPoolExecutor) if shared is None else shared
        self._context = copy_context()
        self._lock = threading.Lock()
        self._open: dict[Call, Future[Any]] = {}
        self._closed = False

    def start(self, call: Call) -> None:
        if self._closed:
            raise HoldfastClosed
        try:
            future: Future[Any]
            if self._shared:
                future = self._executor.submit(self._context.copy().run, enter, call)
            else:
                future = self._executor.submit(run_elsewhere, order_of(call))
        except Exception as error:
            call.outcome = ("raised", error)
            call.host.ended(call)
            return
        with self._lock:
            self._open[call] = future
        future.add_done_callback(lambda done: self._ended(call, done))

    def ask(self, call: Call, reason: str) -> None:
        call.stop_reason = reason
        if self._shared and call.context is not None:
            call.context._wake()
        future = self._open.get(call)
        if future is not None:
            future.cancel()  # heeded only by one that has not begun

    def kill(self, call: Call) -> bool:
        call.stop_reason = call.stop_reason or "abort"
        return False

    def close(self, grace_s: float = 5.0) -> None:
        self._closed = True
        with self._lock:
            running = dict(self._open)
        for call in running:
            if call.stop_reason is None:
                self.ask(call, "suspend")
        wait(running.values(), grace_s)

    def _ended(self, call: Call, future: Future[Any]) -> None:
        with self._lock:
            self._open.pop(call, None)
        if future.cancelled():
            call.outcome = ("stopped", call.stop_reason or "abort")
        elif (error := future.exception()) is not None:
            # The executor's own: it could not carry the step there or its value back, or what ran it died.
            call.outcome = ("died", f"{type(error).__name__}: {error}")
        elif not self._shared:
            call.began = True
            word, value = future.result()
            call.outcome = (word, RemoteError(Failure.from_json(value)) if word == "raised" else value)
        call.host.ended(call)


def order_of(call: Call) -> dict[str, Any]:
    """The call as data that pickle can carry. Raises: FlowNotFound."""
    context = call.context
    return {
        "reference": call.reference,
        "place": place_elsewhere(call.reference, call.step_id, call.function),
        "row": call.row,
        "step_id": call.step_id,
        "what": call.what,
        "deadline_at": call.deadline_at,
        "arguments": {name: value for name, value in call.arguments.items() if context is None or value is not context},
        "ctx": [name for name, value in call.arguments.items() if context is not None and value is context],
        "context": None
        if context is None
        else (
            context.idempotency_key,
            context.forward_key,
            context.attempt,
            context.task_id,
            context.last_checkpoint,
            context.event,
            context.fence,
        ),
    }


def run_elsewhere(order: dict[str, Any]) -> Outcome:
    """Carry out an order, wherever this is."""
    try:
        call = call_of(order, _Nobody())
    except Exception as error:
        return "raised", Failure.of(error).to_json()
    run = enter
    if call.isolation == "async":
        from holdfast.runtime.aio import run_here as run
    copy_context().run(run, call)
    assert call.outcome is not None
    word, value = call.outcome
    return word, Failure.of(value).to_json() if word == "raised" else value


def call_of(order: dict[str, Any], host: Host) -> Call:
    """The call, where it is carried out. Raises: FlowNotFound."""
    from holdfast.clock import Clock
    from holdfast.runtime.context import AsyncContext, Context

    function = function_of(order["reference"], order["place"], order["step_id"], order["what"])
    isolation = "async" if is_async(function) else "thread"
    call = Call(
        host, order["row"], order["step_id"], None, order["what"], function, order["arguments"], isolation,
        order["reference"], order["deadline_at"],
    )  # fmt: skip
    if order["context"] is not None:
        kind = AsyncContext if isolation == "async" else Context
        key, forward_key, attempt, task_id, last_checkpoint, event, fence = order["context"]
        call.context = kind(call, key, forward_key, attempt, task_id, last_checkpoint, Clock())
        call.context.event = event
        call.context.fence = fence
        call.arguments.update(dict.fromkeys(order["ctx"], call.context))
    return call


class _Nobody:
    """The host of a call whose host is out of reach."""

    def ended(self, call: Call) -> None:
        """The executor carries the outcome."""

    def checkpoint(self, call: Call, value: Any, done: Callable[[BaseException | None], None]) -> None:
        done(
            UsageError(
                f"{call.step_id} runs on an executor elsewhere, from where a checkpoint can't be stored: run it in a "
                "thread, as a coroutine or in a process"
            )
        )

    def progress(self, call: Call, fraction: float, message: str | None) -> None:
        """There is no way back for it."""
