"""One lease that the agent holds: its step, its heartbeat, and what is still to be said of it.

Theory: the step runs on a runtime as in a worker, and this is its host. Three coroutines share it. `_beat` says that it
lives and hears what is asked; `_tell` says the latest progress, every checkpoint and the end, in that order, each until
it is answered; `_guard` stops the step when the last heartbeat that was answered is so old that the lease may soon be
another's, counted on the boot clock from before it was sent. So the step has been told to stop before anybody else may
begin with it. Who was cut off for so long says what became of it when somebody answers again: if the lease is not
over yet, that was no death. What was lost is never spoken of again.

How the words travel: wire.py. Who leases: loop.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from json import dumps
from typing import TYPE_CHECKING, Any, Final

from holdfast.agent.wire import Lease, Wire, checkpoint_body, end_of, refused
from holdfast.core.values import decode
from holdfast.errors import AccessError, FlowNotFound, HoldfastError, LeaseLost, RateLimited, WorldError
from holdfast.flow.registry import Flows, find
from holdfast.runtime.base import Call, isolation_of
from holdfast.runtime.context import AsyncContext, Context
from holdfast.runtime.locate import can_run_elsewhere, step_at

if TYPE_CHECKING:
    from holdfast.clock import Clock
    from holdfast.runtime.choice import Runtimes

BEAT: Final = 1 / 5  # of the lease: how long a heartbeat waits for news,
ANSWER: Final = 1 / 4  # and how much longer its answer may take
SAFE: Final = 3 / 4  # of the lease: for so long the step may go on without an answer,
LAST: Final = 7 / 8  # and its process, where nobody is there to stop it: an agent that is frozen
PROGRESS_S: Final = 0.5  # between two reports of progress
_FUNCTION: Final = {"execute": "execute", "revert": "undo", "probe": "probing"}
_LATER: Final = (WorldError, AccessError, RateLimited)  # what may be answered otherwise after a while

log = logging.getLogger("holdfast.agent")


class Held:
    """A Host. `run` returns when the step's code is gone and its end was said, or is nobody's business any more."""

    def __init__(self, lease: Lease, wire: Wire, runtimes: Runtimes, clock: Clock, flows: Flows) -> None:
        self.lease = lease
        self.call: Call | None = None
        self.lost = False
        self._wire = wire
        self._runtimes = runtimes
        self._clock = clock
        self._flows = flows
        self._loop = asyncio.get_running_loop()
        self._beat_at = 0.0  # boot clock, before the last heartbeat that was answered was sent
        self._cut_off = False  # the step was stopped because nobody answered,
        self._was_at_work = False  # and had not come to an end
        self._asked: tuple[str | None, bool] = (None, False)
        self._wanted: tuple[str, bool] | None = None  # to stop, and why
        self._progress: tuple[float, str | None] | None = None
        self._checkpoints: deque[tuple[Any, Callable[[BaseException | None], None]]] = deque()
        self._count = 0
        self._news = asyncio.Event()
        self._gone = asyncio.Event()  # user code is
        self._said = asyncio.Event()  # its end is, or need not be

    async def run(self) -> None:
        """The lease, to its end."""
        if not await self._is_ours():
            return
        log.info("begins with the %s", self.lease)
        beside = [asyncio.ensure_future(each) for each in (self._beat(), self._guard())]
        try:
            await self._start()
            await self._tell()
        finally:
            self._said.set()
            for each in beside:
                each.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def _is_ours(self) -> bool:
        """Have a heartbeat answered before anything is done: nobody knows how long the answer with the lease took."""
        tries, began = 0, self._clock.monotonic()
        while self._clock.monotonic() - began < self.lease.lease_s:
            sent = self._clock.monotonic()
            try:
                self._heard(await self._wire.beat(self.lease, 0.0, ANSWER * self.lease.lease_s, self._asked), sent)
                return True
            except _LATER:
                tries += 1
                await asyncio.sleep(self._wire.patience.pause_s(tries, self._clock.random()))
            except HoldfastError as error:
                log.warning("has lost the lease of the %s: %s", self.lease, error)
                return False
        return False

    async def _start(self) -> None:
        try:
            call = self.call = await asyncio.to_thread(self._made)
            if self._wanted is not None:
                call.stop_reason = self._wanted[0]
            call.runtime.start(call)
        except Exception as error:  # the code is not here, or another; an argument can't be read
            if self.call is None:
                self.call = Call(self, 0, self.lease.step, None, self.lease.what, print, {})
            self.call.outcome = ("raised", error)
            self._gone.set()
        self._extend()

    def stop(self, reason: str, *, kill: bool = False) -> None:
        """Ask the step to stop, or end it where that can be done."""
        self._wanted = (reason, kill)
        call = self.call
        if call is None or call.outcome is not None:
            return
        if kill and call.runtime.killable:
            call.stop_reason = reason
            if call.runtime.kill(call):
                return
        call.runtime.ask(call, reason)

    # --- Host: from any thread ------------------------------------------------------------------------------------

    def ended(self, call: Call) -> None:
        self._soon(self._gone.set)

    def checkpoint(self, call: Call, value: Any, done: Callable[[BaseException | None], None]) -> None:
        self._checkpoints.append((value, done))
        if self.lost or self._cut_off:
            self._refuse_checkpoints()
        self._soon(self._news.set)

    def progress(self, call: Call, fraction: float, message: str | None) -> None:
        before = self._progress
        if before is None or fraction >= before[0]:
            self._progress = (fraction, message)
            self._soon(self._news.set)

    def _soon(self, fn: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop has ended, and the agent with it
            self._loop.call_soon_threadsafe(fn)

    # --- the step -------------------------------------------------------------------------------------------------

    def _made(self) -> Call:
        """The call that the lease is for. Raises: FlowNotFound, ValueRefused."""
        lease, work = self.lease, self.lease.work
        reference = work["reference"]
        step = step_at(find(reference, self._flows), lease.step)
        function = None if step is None else getattr(step, _FUNCTION[lease.what])
        if step is None or function is None:
            raise FlowNotFound(
                f"{reference} has no {lease.what} of a step {lease.step} where this agent runs: it has other code than"
                " the worker"
            )
        arguments = {name: decode(dumps(value), _as_is) for name, value in work["arguments"].items()}
        deadline_at = None if lease.timeout_s is None else self._clock.time() + lease.timeout_s
        call = Call(self, 0, lease.step, step, lease.what, function, arguments, "agent", reference, deadline_at)
        wanted = isolation_of(call)
        alone = bool(work.get("alone")) and wanted == "thread" and can_run_elsewhere(reference, lease.step, function)
        call.runtime, call.isolation = self._runtimes.of(wanted, alone)
        told = work["context"]
        if told is not None:
            kind = AsyncContext if call.isolation == "async" else Context
            last = decode(dumps(told["last_checkpoint"]), _as_is)
            call.context = kind(
                call, told["key"], told["forward_key"], told["attempt"], told["task_id"], last, self._clock
            )
            call.context.event = decode(dumps(told["event"]), _as_is)
            call.context.fence = told["fence"]
            arguments.update(dict.fromkeys(work["ctx"], call.context))
        return call

    # --- living ---------------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        lease_s, tries = self.lease.lease_s, 0
        while not (self.lost or self._said.is_set()):
            sent = self._clock.monotonic()
            try:
                answer = await self._wire.beat(self.lease, BEAT * lease_s, ANSWER * lease_s, self._asked)
            except _LATER as error:
                tries += 1
                log.debug("a heartbeat had no answer: %s", error)
                await asyncio.sleep(min(self._wire.patience.pause_s(tries, self._clock.random()), lease_s / 10))
                continue
            except HoldfastError as error:
                if not self._gone.is_set():  # else whoever says its end hears whether that counts
                    self._lose(error)
                return
            tries = 0
            self._heard(answer, sent)

    def _heard(self, answer: Any, sent: float) -> None:
        """A heartbeat was answered: the lease was renewed when it came, so at the earliest when it was sent."""
        self._beat_at = max(self._beat_at, sent)
        self._extend()
        asked = (answer["stop"], bool(answer["kill"]))
        if asked != self._asked:
            self._asked = asked
            if asked[0] is not None:
                log.info("is asked to stop the %s: %s", self.lease, asked[0])
                self.stop(asked[0], kill=asked[1])

    def _extend(self) -> None:
        if self.call is not None and self.call.isolation == "process":
            self.call.runtime.extend(self._beat_at + LAST * self.lease.lease_s, self.call)

    async def _guard(self) -> None:
        """Stop the step in time, if nobody answers."""
        while not (self.lost or self._gone.is_set()):
            left = self._beat_at + SAFE * self.lease.lease_s - self._clock.monotonic()
            if left <= 0:
                self._cut_off = True
                self._was_at_work = self.call is not None and self.call.outcome is None
                log.warning("stops the %s: no heartbeat was answered in time", self.lease)
                self._stop_for_good()
                return
            await asyncio.sleep(min(left, self.lease.lease_s / 10))

    def _lose(self, error: HoldfastError) -> None:
        if self.lost:
            return
        self.lost = True
        log.warning("has lost the lease of the %s: %s", self.lease, error)
        self._stop_for_good()

    def _stop_for_good(self) -> None:
        self.stop("lease_lost", kill=True)
        self._refuse_checkpoints()
        self._news.set()

    def _refuse_checkpoints(self) -> None:
        while True:
            try:
                _, done = self._checkpoints.popleft()
            except IndexError:
                return
            done(LeaseLost())

    # --- telling --------------------------------------------------------------------------------------------------

    async def _tell(self) -> None:
        told_at = float("-inf")
        told: tuple[float, str | None] | None = None
        gone = asyncio.ensure_future(self._gone.wait())
        try:
            while not self._gone.is_set() or self._checkpoints:
                news = asyncio.ensure_future(self._news.wait())
                pause_s = None if self._progress == told else max(0.0, told_at + PROGRESS_S - self._clock.monotonic())
                if not self._checkpoints and pause_s != 0.0:
                    await asyncio.wait({news, gone}, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
                self._news.clear()
                if self.lost:
                    await self._gone.wait()
                    return
                await self._tell_checkpoints()
                if self._progress not in (None, told) and self._clock.monotonic() - told_at >= PROGRESS_S:
                    told, told_at = self._progress, self._clock.monotonic()
                    assert told is not None
                    with suppress(HoldfastError):  # the next says more; who has lost the lease hears of it otherwise
                        await self._wire.say(self.lease, "progress", {"fraction": told[0], "message": told[1]})
        finally:
            gone.cancel()
        await self._tell_end()

    async def _tell_checkpoints(self) -> None:
        while self._checkpoints:
            try:
                value, done = self._checkpoints.popleft()
            except IndexError:  # the step's thread has refused it
                return
            try:
                name = f"the checkpoint of {self.lease.step}"
                body = checkpoint_body(value, self._count + 1, name, self.lease.work.get("value_bytes_max"))
                await self._insist("checkpoint", body, though_cut_off=False)
                self._count += 1
                done(None)
            except HoldfastError as error:
                done(error)

    async def _tell_end(self) -> None:
        assert self.call is not None
        outcome = self.call.outcome
        assert outcome is not None
        if self._was_at_work and outcome[0] == "raised":  # it may be for being stopped: how far it came, nobody knows
            outcome = "killed", None
        verb, body = end_of(outcome, f"the result of {self.lease.step}", self.lease.work.get("value_bytes_max"))
        try:
            await self._insist(verb, body)
        except LeaseLost as error:
            log.warning("the end of the %s is nobody's business any more: %s", self.lease, error)
            return
        except HoldfastError as error:
            log.warning("the service does not take the end of the %s: %s", self.lease, error)
            with suppress(HoldfastError):
                await self._insist(*refused(error, body))
            return
        log.info("the %s is %s", self.lease, "done" if verb == "complete" else f"over: {outcome[0]}")

    async def _insist(self, verb: str, body: dict[str, Any], *, though_cut_off: bool = True) -> None:
        """Say it until it is answered. Raises: LeaseLost and what else is for good."""
        tries = 0
        while not self.lost and (though_cut_off or not self._cut_off):
            try:
                await self._wire.say(self.lease, verb, body)
                return
            except _LATER:
                tries += 1
                await asyncio.sleep(self._wire.patience.pause_s(tries, self._clock.random()))
        raise LeaseLost


def _as_is(text: str) -> str:
    return text
