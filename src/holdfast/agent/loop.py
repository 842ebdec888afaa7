"""The agent's loop: it leases as many steps as it has places for, and lets go of none before its code is gone.

Theory: the agent only ever asks, so its host needs no port that is open inwards. It calls itself by another name each
time it is started, and says which leases it holds; so a lease whose answer was lost is given to it again, and what an
earlier process of the same host held is not. When the service is away it asks again and again, ever more rarely.

One lease: held.py. What is said: wire.py.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from holdfast.agent.held import Held
from holdfast.agent.wire import Lease, Wire
from holdfast.errors import AccessError, HoldfastError, UsageError
from holdfast.flow.registry import Flows
from holdfast.runtime.choice import Runtimes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.clock import Clock

WAIT_S: Final = 20.0  # that the service may take until it has something
AT_ONCE_MAX: Final = 32  # each has two requests open at most, and a client a hundred connections

log = logging.getLogger("holdfast.agent")


class Agent:
    """See the module. `at_once`: how many steps run at once."""

    def __init__(
        self, wire: Wire, *, pool: str, flows: Flows, at_once: int, clock: Clock, grace_s: float, wait_s: float = WAIT_S
    ) -> None:
        if not 1 <= at_once <= AT_ONCE_MAX:
            raise UsageError(f"an agent runs 1 to {AT_ONCE_MAX} steps at once, not {at_once}: start several")
        self.name = clock.token_hex(8)
        self.held: dict[str, Held] = {}
        self._wire = wire
        self._pool = pool
        self._flows = flows
        self._at_once = at_once
        self._clock = clock
        self._grace_s = grace_s
        self._wait_s = wait_s
        self._runtimes = Runtimes("threads", workers_max=at_once)
        self._leaves = asyncio.Event()
        self._freed = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        """Lease no more, ask what runs to stop at a safe point, leave. On the loop's thread."""
        self._leaves.set()

    async def run(self) -> None:
        """Until `stop`. Raises: AccessError, UsageError: the service does not want this agent."""
        leaves = asyncio.ensure_future(self._leaves.wait())
        try:
            while not self._leaves.is_set():
                self._freed.clear()
                places = self._at_once - len(self.held)
                work: Any = self._lease(places) if places > 0 else self._freed.wait()
                asking = asyncio.ensure_future(work)
                await asyncio.wait({asking, leaves}, return_when=asyncio.FIRST_COMPLETED)
                if not asking.done():
                    asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
                if not asking.cancelled():
                    asking.result()
        finally:
            leaves.cancel()
            await self._drain()
            await asyncio.to_thread(self._runtimes.close, 0.0)
            await self._wire.close()

    async def _lease(self, places: int) -> None:
        tries = 0
        while True:
            try:
                found = await self._wire.lease(self._pool, places, self._wait_s, self.name, list(self.held))
            except (AccessError, UsageError):
                raise
            except HoldfastError as error:
                tries += 1
                if tries == 1:
                    log.warning("the service gives no answer: %s", error)
                await asyncio.sleep(self._wire.patience.pause_s(tries, self._clock.random()))
                continue
            self._begin(found)
            return

    def _begin(self, found: list[dict[str, Any]]) -> None:
        for given in found:
            lease = Lease(given)
            if lease.token in self.held:
                continue
            held = Held(lease, self._wire, self._runtimes, self._clock, self._flows)
            self.held[lease.token] = held
            task = asyncio.ensure_future(self._run(held))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _run(self, held: Held) -> None:
        try:
            await held.run()
        except Exception:
            log.exception("could not go on with the %s", held.lease)
        finally:
            del self.held[held.lease.token]
            self._freed.set()

    # --- leaving --------------------------------------------------------------------------------------------------

    async def _drain(self) -> None:
        """Have what runs stop at a safe point, and say so; what can be ended is ended when its time is up."""
        await self._hand_back(list(self.held))
        for held in list(self.held.values()):
            held.stop("suspend")
        if self._running:
            await asyncio.wait(self._running, timeout=self._grace_s)
        for held in list(self.held.values()):
            held.stop("suspend", kill=True)
        if self._running:
            await asyncio.wait(self._running, timeout=1.0)
        still_run = list(self.held)  # heeding nothing: nobody else begins those before their leases are over
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._hand_back(still_run)  # the service may have noticed late that nobody waits any more

    async def _hand_back(self, held: Sequence[str]) -> None:
        """What was leased by the request that was given up just now, if anything was."""
        try:
            found = await self._wire.lease(self._pool, 0, 0.0, self.name, held)
            for given in found:
                lease = Lease(given)
                if lease.token not in held:
                    await self._wire.say(lease, "fail", {"stopped": "suspend"})
        except HoldfastError as error:
            log.debug("could not ask what is left: %s", error)
