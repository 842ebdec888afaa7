"""The steps of a node's operations: look, tell the machine something and wait for it, put it back, stop another task.

A command is a step that is entered again and again until the machine is where it was told to be (course.py). An undo
looks, too: a soft power off can't be taken back, so the machine is watched for a while (`node_settle_s`), and put on
again if it goes off after all. What has failed is not undone: the machine is as it is, and the task says so.

The flows made of these: flows.py. How a driver is called: lines.py. What a target is derived from: views.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from holdfast.errors import BMCUnreachable, Stopping, WaitTimeout
from holdfast.flow.step import Again
from holdfast.resources import probing, sealing
from holdfast.resources.node import drivers, views, words
from holdfast.resources.node.course import GOALS, LOOKS_MAX, Course, checked, seen
from holdfast.resources.node.lines import Lines
from holdfast.resources.node.power import Bmc
from holdfast.runtime.context import AsyncContext

if TYPE_CHECKING:
    from holdfast.resources.registry import World
    from holdfast.settings import Settings
    from holdfast.store.base import Tx

T = TypeVar("T")

STOP_LOOK_S: Final = 0.02
GIVE_UP_S: Final = 2.0


class NotUndone(Exception):
    """What was done can't be taken back, or is not."""


class Power:
    """What the steps have in common. `world`: the database, once it is open."""

    def __init__(self, settings: Settings, world: World | None = None) -> None:
        self.settings = settings
        self.world = world
        self.lines = Lines(settings.node_calls_max)

    # --- talking to a BMC -----------------------------------------------------------------------------------------

    def bmc(self, node: str, desired: Mapping[str, Any], timeout_s: float | None = None) -> Bmc:
        """For a call of a driver: with the secrets in the clear. Raises: SecretKeyMissing."""
        call_s = self.settings.node_call_s
        return Bmc(
            node, sealing.opened(desired["driver_info"]), call_s if timeout_s is None else min(call_s, timeout_s)
        )

    async def power_state(self, ctx: AsyncContext, bmc: Bmc, name: str) -> str:
        return checked(name, await self.lines.call_for(ctx, bmc, lambda at: drivers.get(name).get_power_state(at)))

    def now(self) -> float:
        assert self.world is not None
        return self.world.hold.clock.time()

    async def read(self, fn: Callable[[Tx], T]) -> T:
        assert self.world is not None
        return await asyncio.to_thread(self.world.hold.store.read, fn)

    async def write(self, fn: Callable[[Tx], T]) -> T:
        assert self.world is not None
        hold = self.world.hold
        writing = asyncio.ensure_future(asyncio.to_thread(hold.store.write, fn))
        try:
            return await asyncio.shield(writing)
        except asyncio.CancelledError:  # the thread goes on: what the next attempt writes must come behind it
            await asyncio.wait({writing})
            with suppress(Exception):
                writing.result()
            raise
        finally:
            hold.poke()

    async def saw(self, ctx: AsyncContext, node: str, power: str) -> None:
        """What is known of the node, on the way: no task has to end for it to be shown."""
        known = await self.read(lambda tx: views.power_state(tx, node))
        if known != power:
            seen, now = {"power_state": power, "status": power}, self.now()
            await self.write(lambda tx: probing.noted(tx, views.KIND, node, seen, probing.held(tx, ctx), now))

    # --- steps ----------------------------------------------------------------------------------------------------

    async def verify(self, ctx: AsyncContext, resource_id: str, desired: dict[str, Any]) -> dict[str, Any]:
        """Ask the BMC for the power state: who is let in and answered can do the rest."""
        power = await self.power_state(ctx, self.bmc(resource_id, desired), desired["driver"])
        return seen(power) | {"provision_updated_at": self.now()}

    async def verify_changes(
        self, ctx: AsyncContext, resource_id: str, desired: dict[str, Any], applied: dict[str, Any] | None
    ) -> dict[str, Any]:
        """As `verify`, if there is another BMC, or another way to it. What failed before is then over, too."""
        if applied is not None and self._access(applied) == self._access(desired):
            failed = await self.read(lambda tx: views.has_failed(tx, resource_id))
            return {"last_error": None} if failed else {}
        return await self.verify(ctx, resource_id, desired)

    def _access(self, document: Mapping[str, Any]) -> tuple[Any, Any]:
        return document["driver"], sealing.opened(document["driver_info"])

    async def forget(self) -> None:
        """The machine is left as it is."""

    async def look_before(
        self, ctx: AsyncContext, resource_id: str, desired: dict[str, Any], timeout: float | None = None
    ) -> Any:
        """Where the machine is before anything is done. A BMC that does not answer is asked a few times, for as long as
        a command may take at most."""
        memory = ctx.last_checkpoint or {"looks": 0, "spent": 0.0}
        began, timeout_s = self.now(), self.settings.node_timeout_s if timeout is None else timeout
        bmc = self.bmc(resource_id, desired, max(timeout_s - memory["spent"], 1.0))
        try:
            power = await self.power_state(ctx, bmc, desired["driver"])
        except BMCUnreachable:
            looks, spent = memory["looks"] + 1, memory["spent"] + max(0.0, self.now() - began)
            if looks >= LOOKS_MAX or spent >= timeout_s:
                raise
            return Again(self.settings.node_poll_s, {"looks": looks, "spent": spent})
        await self.saw(ctx, resource_id, power)
        return {"power": power}

    async def command(
        self,
        ctx: AsyncContext,
        resource_id: str,
        desired: dict[str, Any],
        found: dict[str, Any],
        target: str,
        is_last: bool,
        timeout: float | None = None,
    ) -> Any:
        """Tell the machine, and wait until it is there. `is_last`: what is seen then is shown with the task's end."""
        course = Course(self, ctx, resource_id, desired, target, timeout, ctx.last_checkpoint)
        reached = await course.go()
        if not is_last and not isinstance(reached, Again):
            await self.saw(ctx, resource_id, reached["power_state"])
        return reached

    async def put_back(
        self,
        ctx: AsyncContext,
        resource_id: str,
        desired: dict[str, Any],
        found: dict[str, Any],
        failures: Mapping[str, Any],
        target: str,
        timeout: float | None = None,
        result: Any = None,
    ) -> Any:
        """Put the machine back where it was, if `target` has moved it, or does so in the next while."""
        told = ctx.last_checkpoint or {}
        forward, memory = told.get("forward", told), told.get("undo")
        if not forward.get("sends"):
            return None
        if failures:
            raise NotUndone(f"{target} was sent, and is not taken back")
        back = found["power"]
        if GOALS[target] == back:
            return None
        settle_s = 0.0 if result is not None else self.settings.node_settle_s
        course = Course(
            self, ctx, resource_id, desired, back, timeout, memory, wrap=lambda undo: {"forward": forward, "undo": undo}
        )
        reached = await course.go(settle_s=settle_s, is_undo=True)
        if not isinstance(reached, Again):
            await self.saw(ctx, resource_id, back)
        return reached

    async def inject(
        self,
        ctx: AsyncContext,
        resource_id: str,
        desired: dict[str, Any],
        found: dict[str, Any],
        timeout: float | None = None,
    ) -> Any:
        """Send the interrupt: nobody can see from outside whether it has come."""
        return await Course(self, ctx, resource_id, desired, words.INJECT_NMI, timeout, ctx.last_checkpoint).shoot(
            found
        )

    async def not_taken_back(self, ctx: AsyncContext) -> None:
        if (ctx.last_checkpoint or {}).get("sends"):
            raise NotUndone("an interrupt that was sent can't be taken back")

    async def stop(self, ctx: AsyncContext, resource_id: str, target: str, timeout: float | None = None) -> Any:
        """Abort what aims at `target` now, and say how it ended. Raises: WaitTimeout: it hasn't, in that time."""
        memory = ctx.last_checkpoint
        if memory is None:
            holder = await self.read(lambda tx: views.aiming(tx, resource_id, target))
            if holder is None:
                return _untouched(f"nothing aims at {target}")
            memory = {"task": holder.uuid, "at": self.now()}
            await ctx.checkpoint(memory)
        now = self.now()
        stopped = await self.write(
            lambda tx: views.stop(tx, resource_id, target, memory["task"], probing.held(tx, ctx), now)
        )
        if not stopped:
            return _untouched(f"task {memory['task']} no longer aimed at {target}", task=memory["task"])
        for _ in range(50):
            end = await self.read(lambda tx: views.end_of(tx, memory["task"]))
            if end is not None:
                await self.give_up(ctx, resource_id, memory["task"])
                return {"answer": {"task": memory["task"], "state": end}, "effect": "applied"}
            await ctx.sleep(STOP_LOOK_S)
        if self.now() >= memory["at"] + (self.settings.node_timeout_s if timeout is None else timeout):
            raise WaitTimeout(f"task {memory['task']} is told to abort, and has not ended")
        return Again(self.settings.node_poll_s, memory)

    async def give_up(self, ctx: AsyncContext, node: str, aborted: str) -> None:
        """Ask the BMC to leave off what it works on for a task that was aborted, if it can. Who comes next goes before
        this, and what becomes of it is seen by a look."""
        assert self.world is not None
        unseal = self.world.hold.sealer.unseal
        left = await self.read(lambda tx: views.worked_on(tx, aborted, unseal))
        how = None if left is None else getattr(drivers.get(left.desired["driver"]), "give_up", None)
        if left is None or how is None:
            return
        bmc = self.bmc(node, left.desired, GIVE_UP_S)
        try:
            await self.lines.call_for(ctx, bmc, lambda at: how(at, left.monitor), background=True)
        except Stopping:
            raise
        except Exception:
            pass  # the node is free all the same


def _untouched(why: str, **more: Any) -> dict[str, Any]:
    return {"answer": {"task": None, "state": None, "why": why} | more, "effect": "none"}
