"""How a machine is brought to where it was told to be: one entry of a step after the other.

Theory: what a step knows is its checkpoint (`Course.memory`), so whoever goes on after a death knows whether a command
may have been sent. Such a one is never repeated before somebody has looked, and not at once then: a machine takes its
time. Between two entries nothing runs; the longer a machine takes, the longer they are apart, for a look is not free,
and that it is there is seen late by a tenth of the time that it took. Verbs, and the end of the time, wait for no look.
Only time in which somebody could look counts for the timeout, so a task that was suspended, or whose worker was dead,
has as long as it would have had.

The steps: steps.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from holdfast import errors
from holdfast.errors import BMCAuthFailed, BMCError, BMCRefused, BMCUnreachable, PowerUnchanged, PowerUnknown
from holdfast.flow.step import Again
from holdfast.resources.node import drivers, words
from holdfast.resources.node.power import Follow
from holdfast.runtime.context import AsyncContext

if TYPE_CHECKING:
    from holdfast.resources.node.power import Bmc
    from holdfast.resources.node.steps import Power

GOALS: Final = {
    words.POWER_ON: words.POWER_ON,
    words.POWER_OFF: words.POWER_OFF,
    words.SOFT_POWER_OFF: words.POWER_OFF,
}
LOOKS_MAX: Final = 3  # without an answer, before anything was sent
SENDS_MAX: Final = 3  # of one command whose outcome was not known
REPEAT_POLLS: Final = 10  # between two of them
POLL_S_MAX: Final = 5.0  # of one that takes its time
RARER: Final = 10.0  # who has waited that many seconds for it looks a second later


class Course:
    """One entry of a step that moves a machine. `memory`: what entries before know. `wrap`: what is stored of it."""

    def __init__(
        self,
        power: Power,
        ctx: AsyncContext,
        node: str,
        desired: dict[str, Any],
        target: str,
        timeout_s: float | None,
        memory: dict[str, Any] | None,
        *,
        wrap: Callable[[dict[str, Any]], Any] = lambda memory: memory,
    ) -> None:
        self.power, self.ctx, self.node, self.desired, self.target = power, ctx, node, desired, target
        self.timeout_s = power.settings.node_timeout_s if timeout_s is None else timeout_s
        self.wrap = wrap
        self.began = power.now()
        # sends: how often it was sent; sending: the last time nobody has heard how that came out; monitor: where to
        # ask; said, error: what the BMC answered last; spent: seconds, of which sent_at by the last time, and all
        # until `at`; pause: how long nobody was to look then.
        self.memory: dict[str, Any] = {
            "sends": 0, "sending": False, "monitor": None, "said": None, "error": None, "looks": 0,
            "spent": 0.0, "sent_at": 0.0, "at": self.began, "pause": 0.0,
        } | (memory or {})  # fmt: skip
        away_s = max(0.0, self.began - self.memory["at"])
        self.memory["spent"] += min(away_s, self.memory["pause"] + power.settings.node_call_s)
        self.fraction = 0.0
        self.after_s = 0.0  # the BMC does not want to be asked before

    @property
    def spent(self) -> float:
        return float(self.memory["spent"]) + max(0.0, self.power.now() - self.began)

    @property
    def left_s(self) -> float:
        return self.timeout_s - self.spent

    def bmc(self) -> Bmc:
        return self.power.bmc(self.node, self.desired, max(self.left_s, 1.0))

    # --- moving ---------------------------------------------------------------------------------------------------

    async def go(self, *, settle_s: float = 0.0, is_undo: bool = False) -> Any:
        """What is seen of the machine once it is there; until then Again. `settle_s`: how long one that is there, and
        was told nothing, is watched. `is_undo`: a BMC that does not answer is waited for.

        Raises: PowerUnchanged and what else is in errors/bmc.py.
        """
        power = await self.look(is_patient=is_undo)
        if power is not None and not self.memory["sends"]:
            await self.power.saw(self.ctx, self.node, power)
        if power == GOALS[self.target]:
            if not self.memory["sends"] and self.spent < settle_s:
                return self.wait(f"it is {power}, and is watched for a while")
            return self.arrived(power)
        if power is not None and self.memory["monitor"] is not None:
            await self.follow()
        elif power is not None and self.may_send():
            await self.send()
            power = await self.look()
            if power == GOALS[self.target]:
                return self.arrived(power)
        self.refuse_if_over(power)
        return self.wait(f"waits until it is {GOALS[self.target]}")

    async def look(self, *, is_patient: bool = False) -> str | None:
        """None: no answer. Raises: BMCUnreachable: so often, that nothing will be sent; what else the BMC says."""
        try:
            power = await self.power.power_state(self.ctx, self.bmc(), self.desired["driver"])
        except BMCError as error:
            self.memory["looks"] += 1
            self.memory["said"] = str(error)
            if isinstance(error, BMCAuthFailed):
                raise  # many BMCs lock out who tries again and again
            if self.memory["sends"]:
                return None  # a BMC that restarts says many things; there is a deadline
            is_silent = isinstance(error, BMCUnreachable)
            if not is_silent or (not is_patient and self.memory["looks"] >= LOOKS_MAX):
                raise
            return None
        self.memory["looks"] = 0
        return power

    def may_send(self) -> bool:
        memory = self.memory
        if not memory["sends"]:
            return True
        pause_s = REPEAT_POLLS * self.power.settings.node_poll_s
        return bool(memory["sending"]) and memory["sends"] < SENDS_MAX and self.spent - memory["sent_at"] >= pause_s

    async def send(self) -> None:
        """Once: what became of it is in the memory."""
        memory = self.memory
        memory.update(sends=memory["sends"] + 1, sending=True, sent_at=self.spent)
        await self.keep()
        try:
            answer = await self.call(None)
        except BMCUnreachable as error:
            memory["said"] = str(error)  # it may have heard
            return
        except (BMCRefused, BMCAuthFailed) as error:
            if memory["sends"] == 1:
                await self.keep(sends=0, sending=False)
                raise
            memory["said"] = str(error)  # of the one before nobody knows yet
            return
        except BMCError as error:  # it may be doing it all the same
            memory.update(sending=False, error=[type(error).__name__, str(error)], said=str(error))
            return
        memory.update(sending=False, said=None)
        self.note(answer)
        if answer is not None:
            await self.keep()  # whoever goes on asks there, and sends nothing

    async def follow(self) -> None:
        """Ask how far it is. A BMC that says that it failed is not believed before the machine was looked at."""
        try:
            self.note(await self.call(self.memory["monitor"]))
        except BMCUnreachable as error:
            self.memory["said"] = str(error)
        except PowerUnknown as error:  # whether it is done can be seen
            self.memory.update(monitor=None, said=str(error))
        except BMCError as error:
            self.memory.update(monitor=None, error=[type(error).__name__, str(error)], said=str(error))

    def note(self, answer: Follow | None) -> None:
        self.memory["monitor"] = None if answer is None else answer.monitor
        if answer is not None:
            self.fraction = answer.fraction or 0.0
            self.after_s = answer.after_s
            self.memory["said"] = answer.message or self.memory["said"]

    async def call(self, monitor: Any) -> Follow | None:
        name = self.desired["driver"]
        return await self.power.lines.call_for(
            self.ctx, self.bmc(), lambda at: drivers.get(name).set_power_state(at, self.target, monitor)
        )

    async def keep(self, **changes: Any) -> None:
        now = self.power.now()
        self.memory.update(spent=self.spent, at=now, pause=0.0, **changes)
        self.began = now
        await self.ctx.checkpoint(self.wrap(dict(self.memory)))

    def refuse_if_over(self, power: str | None) -> None:
        memory = self.memory
        if memory["error"] is not None:
            pause_s = min(REPEAT_POLLS * self.power.settings.node_poll_s, self.timeout_s)
            if self.spent - memory["sent_at"] >= pause_s and power is not None:
                raise _error(memory["error"])
        if self.left_s > 0:
            return
        said = f"; the BMC said: {memory['said']}" if memory["said"] else ""
        if power is None:
            raise BMCUnreachable(f"{self.target}: after {self.timeout_s:g} s nobody knows where the machine is{said}")
        raise PowerUnchanged(f"{self.target}: after {self.timeout_s:g} s the machine still is {power}{said}")

    def wait(self, message: str) -> Again:
        spent = self.spent
        said = f"; the BMC said: {self.memory['said']}" if self.memory["said"] else ""
        self.ctx.progress(min(0.99, max(self.fraction, spent / self.timeout_s)), message + said)
        rarer_s = min(spent / RARER, POLL_S_MAX)
        pause_s = max(self.power.settings.node_poll_s, self.after_s, rarer_s)
        pause_s = max(0.0, min(pause_s, self.timeout_s - spent))
        self.memory.update(spent=spent, at=self.power.now(), pause=pause_s)
        return Again(pause_s, self.wrap(self.memory))

    def arrived(self, power: str) -> dict[str, Any]:
        self.ctx.progress(1.0, f"the machine is {power}")
        return seen(power)

    # --- what can't be seen ---------------------------------------------------------------------------------------

    async def shoot(self, found: dict[str, Any]) -> Any:
        """Send it once, whatever happens. Raises: PowerUnknown."""
        memory = self.memory
        if memory["sending"]:
            raise PowerUnknown(f"{self.target}: whoever sent it was stopped, and nobody knows whether it has come")
        if memory["monitor"] is None:
            memory.update(sends=1, sending=True)
            await self.keep()
        try:
            answer = await self.call(memory["monitor"])
        except BMCUnreachable as error:
            if memory["monitor"] is None or self.left_s <= 0:
                raise PowerUnknown(f"{self.target}: nobody knows whether it has come: {error}") from error
            return self.wait("waits for the BMC")
        except (BMCRefused, BMCAuthFailed):
            await self.keep(sends=0, sending=False)
            raise
        memory["sending"] = False
        self.note(answer)
        if answer is None:
            return seen(found["power"])
        if self.left_s <= 0:
            raise PowerUnknown(f"{self.target}: after {self.timeout_s:g} s the BMC still works on it")
        return self.wait("waits for the BMC")


def seen(power: str) -> dict[str, Any]:
    """What is observed of a node whose operation has succeeded."""
    return {"power_state": power, "status": power, "last_error": None}


def checked(name: str, power: Any) -> str:
    """Raises: BMCError: that is no power state."""
    if power not in (words.POWER_ON, words.POWER_OFF):
        raise BMCError(f"the driver {name} says that the machine is {str(power)[:80]!r}")
    return str(power)


def _error(told: list[str]) -> BMCError:
    """The error that was remembered."""
    kind = getattr(errors, told[0], BMCError)
    return kind(told[1]) if isinstance(kind, type) and issubclass(kind, BMCError) else BMCError(told[1])
