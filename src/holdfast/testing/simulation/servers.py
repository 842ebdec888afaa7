"""API servers on hosts of their own, and those who ask them: who got no answer asks again, elsewhere, under the same
tag; others read the feed, set what holds for a pool, drain workers, and make schedules.

What both kinds of world ask: testing/simulation/client.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import update

from holdfast.errors import HoldfastError
from holdfast.feed import log
from holdfast.store import keep_time
from holdfast.store.base import Tx
from holdfast.store.schema import workers
from holdfast.tasks import lease, pools, schedules, take
from holdfast.tasks.claims import claims_of
from holdfast.tasks.row import TaskRow
from holdfast.tasks.schedules import Schedule
from holdfast.tasks.submit import Request, submit
from holdfast.testing.simulation.client import Client, Server
from holdfast.testing.simulation.network import HostClock, Link, RemoteStore
from holdfast.testing.simulation.shadow import Violation

if TYPE_CHECKING:
    from holdfast.flow.patterns import Flow
    from holdfast.testing.simulation.cluster import Cluster

POOLS: Final = ("default", "hv")
KEEP_S: Final = 3.0  # between two looks at the database's clock
NAMES: Final = ("often", "seldom")


class ApiServer(Server):
    """It may be killed, frozen, cut off, and started anew; its clock is its host's."""

    world: Cluster

    def __init__(self, world: Cluster, number: int) -> None:
        self._number = number
        self.incarnation = 0
        self.is_alive = False
        self.frozen_until = 0.0
        self.waits = 0
        self.starts_at = 0.0
        self._kept_at = float("-inf")
        self.world = world
        self.is_busy = False
        self.clock: HostClock = HostClock(world.clock, world.chance)
        self.clock.skew_s = world.chance.uniform(-600.0, 600.0)
        self.name = f"api{number}"

    def boot(self) -> None:
        self.incarnation += 1
        self.name = f"api{self._number}.{self.incarnation}"
        cut_until = self.line.cut_until if self.incarnation > 1 else 0.0
        self.line = self.link = Link(self.world.disk, self.name, self._wait)
        self.store = RemoteStore(self.link)
        self.link.cut_until = cut_until
        self.link.pause = self._pause
        self.is_alive = True
        self.frozen_until = 0.0
        self._kept_at = float("-inf")
        self.world.note(f"{self.name} starts")
        self.round(self.world.now())

    line: Link

    def _wait(self, seconds: float) -> None:
        self.world.wait(self, seconds)

    def may_serve(self, now: float) -> bool:
        return self.is_alive and not self.is_busy and self.frozen_until <= now

    def round(self, now: float) -> None:
        """Come up again, and look at the database's clock."""
        if not self.is_alive and not self.is_busy and self.starts_at <= now:
            self.boot()
        if self.may_serve(now) and self._kept_at + KEEP_S <= now and not self.link.is_cut:
            self._kept_at = now
            self.do(lambda: keep_time(self.store, self.clock))

    def read(self, fn: Callable[[Tx], Any]) -> Any:
        """What `fn` returns; None: the database is out of reach."""
        return self.do(lambda: self.store.read(fn))

    def failed(self) -> None:
        if self.link.dead:
            self.die()

    def die(self) -> None:
        if self.is_alive:
            self.link.dead = True
            self.world.lose(self)


class Reader:
    """One who listens to the feed, from server to server: it goes on behind the last event that it has seen."""

    def __init__(self, world: Cluster) -> None:
        self._world = world
        self.place = 0

    def listen(self, server: ApiServer) -> None:
        limit, place = self._world.chance.randint(1, 40), self.place
        found = server.read(lambda tx: log.read(tx, place, limit=limit))
        if found is None:
            return
        seen = [(each.id, each.type, each.task) for each in found]
        told = [each for each in self._world.news.told if each[0] > place][:limit]
        if seen != told:
            raise Violation(f"who reads the feed behind {place} is told {seen[:9]}, and there is {told[:9]}")
        if seen:
            self.place = seen[-1][0]
        self._world.happened["heard"] += len(seen)


class Callers(Client):
    """Clients of many servers. `unanswered`: what was asked for and nobody knows whether it was accepted."""

    world: Cluster
    servers: list[ApiServer]  # type: ignore[assignment]
    at: ApiServer
    tagged = 0.8
    gives_all = True

    def __init__(self, world: Cluster) -> None:
        super().__init__(world)
        self.unanswered: list[Request] = []
        self.readers = [Reader(world) for _ in range(3)]

    def _servers(self) -> list[ApiServer]:  # type: ignore[override]
        return [ApiServer(self.world, number) for number in range(1, self.world.chance.randint(2, 3) + 1)]

    @property
    def is_busy(self) -> bool:
        return not self._free()

    def _free(self) -> list[ApiServer]:
        now = self.world.now()
        return [server for server in self.servers if server.may_serve(now)]

    def act(self) -> None:
        self.with_server(self._act)

    def with_server(self, fn: Callable[[], Any]) -> Any:
        """Do it by one that serves; None: there is none."""
        free = self._free()
        if not free:
            return None
        before, self.at = self.at, self.world.chance.choice(free)
        try:
            return fn()
        finally:
            self.at = before

    def _act(self) -> None:
        chance = self.world.chance
        draw = chance.random()
        if draw < 0.15 and self.unanswered:
            self.ask_again()
        elif draw < 0.3:
            chance.choice(self.readers).listen(self.at)
        elif draw < 0.34:
            self.pool(chance.choice(POOLS))
        elif draw < 0.37:
            self.drain()
        elif draw < 0.42:
            self.schedule()
        else:
            super().act()

    # --- tasks ----------------------------------------------------------------------------------------------------

    def _deployed(self, flow: Flow) -> Flow:
        return self.world.deployed(flow)

    def _pool(self) -> str:
        return self.world.chance.choice(POOLS)

    def _unanswered(self, request: Request) -> None:
        if request.tag is not None:
            self.unanswered.append(request)

    def ask_again(self) -> None:
        """The same, under the same tag."""
        self.world.happened["asked again"] += 1
        self._submit(self.unanswered.pop(0))

    # --- who works ------------------------------------------------------------------------------------------------

    def pool(self, name: str) -> None:
        """Close a pool, open it, or change how many of its tasks may run at once."""
        now, chance = self._now(), self.world.chance
        choices: list[dict[str, Any]] = [{"paused_at": None, "draining_at": None}] * 2
        choices += [{"paused_at": now}, {"draining_at": now}]
        if self.world.caps_move:
            choices.append({"running_max": chance.choice((None, 1, 2, 3))})
        values = chance.choice(choices)
        self.world.note(f"{self.at.name}: the pool {name} is to be {values}")
        self._try(lambda tx: pools.change(tx, name, values))

    def drain(self) -> None:
        """Tell a worker to hand over what it has, or not to."""
        chance = self.world.chance
        alive = [process for process in self.world.processes if process.is_alive]
        if alive:
            worker, at = chance.choice(alive).worker.lease.id, chance.choice((None, self._now()))
            self._try(lambda tx: lease.drain(tx, worker, at))

    def _try(self, fn: Callable[[Tx], Any]) -> Any:
        try:
            return self._write(fn)
        except HoldfastError as error:
            self.world.note(f"{self.at.name}: refused: {error}")
            return None

    # --- schedules ------------------------------------------------------------------------------------------------

    def schedule(self) -> None:
        """Make one, or let one rest or go on."""
        chance, now = self.world.chance, self._now()
        name = chance.choice(NAMES)
        known = self.at.read(lambda tx: [each for each in schedules.page(tx, "p") if each.name == name])
        if known is None:
            return
        if not known:
            overlap = chance.choice(schedules.OVERLAP)
            catch_up = chance.choice(schedules.CATCH_UP if overlap == "queue" else ("one", "none"))
            cron = "* * * * *" if name == "often" else "*/2 * * * *"
            made = Schedule(
                self._uuid(), "p", "", name, cron, "UTC", catch_up, overlap, "{}", "{}", None, None, 0.0, 0.0
            )
            self._try(lambda tx: schedules.add(tx, made, now))
        elif chance.random() < 0.5:
            verb = chance.choice((schedules.pause, schedules.resume, schedules.resume))
            self.world.rested.add(known[0].id)
            self._try(lambda tx: verb(tx, known[0].id, now))

    def admit(self, tx: Tx, at: Schedule, moment: float, now: float, uuid: str) -> TaskRow:
        """How the task of a moment is asked for, by whichever worker looks first."""
        request = self.order(
            self._deployed(self.world.flows[0]),
            {"items": [1], "zones": [1]},
            claims=claims_of([at.claim] if at.overlap == "queue" else []),
            pool=POOLS[0],
            request_id=f"{at.id} {moment:.0f}",
            origin=take.SCHEDULE,
        )
        return submit(tx, request, now, uuid).task

    # --- the calm -------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Let nothing be closed any more, nothing be asked for by itself, and nothing be left without an answer."""
        now = self._now()
        for name in POOLS:
            self._write(lambda tx, name=name: pools.change(tx, name, {"paused_at": None, "draining_at": None}))  # type: ignore[misc]
        self._write(_wake_all)
        for each in self.at.read(lambda tx: schedules.page(tx, "p")):
            self._write(lambda tx, id=each.id: schedules.pause(tx, id, now))  # type: ignore[misc]
        while self.unanswered:
            self.ask_again()
        for reader in self.readers:
            reader.listen(self.at)


def _wake_all(tx: Tx) -> None:
    """Those too that are about to come under another name: who was drained is so under the next."""
    tx.execute(update(workers).values(draining_at=None))
