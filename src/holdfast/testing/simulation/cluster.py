"""Many machines: workers of several pools and API servers, each with a clock of its own, on one database that they
lose sight of now and then, also in the middle of a commit.

Theory: as in testing/simulation/world.py, one thread runs everything; but whoever waits for the database lets the
others go on, at any commit of his. A worker that waits has two threads that don't: that of its lease, which stops its
steps in time, and those of the steps. Two are at once if both go on: one that is frozen is not asked what it does.

The network: testing/simulation/network.py. What must hold beside the rest: testing/simulation/apart.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.errors import WorldError
from holdfast.flow.child import child
from holdfast.flow.compile import compile
from holdfast.flow.outline import changed, digest, outline
from holdfast.flow.patterns import linear, unordered
from holdfast.flow.step import Again, WaitFor
from holdfast.settings import Settings
from holdfast.store import keep_time
from holdfast.tasks import pools
from holdfast.testing.simulation.apart import Apart, OneTask, Taking
from holdfast.testing.simulation.code import Code, Entry
from holdfast.testing.simulation.disk import Disk, Killed
from holdfast.testing.simulation.flows import make_flow, newer
from holdfast.testing.simulation.network import HostClock, Link, RemoteStore
from holdfast.testing.simulation.process import Process
from holdfast.testing.simulation.servers import POOLS, ApiServer, Callers
from holdfast.testing.simulation.world import SUSPENDED, World

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.core.plan import Plan
    from holdfast.flow.patterns import Flow
    from holdfast.flow.step import Step
    from holdfast.runtime.base import Call
    from holdfast.store.base import Store, Tx
    from holdfast.tasks.row import TaskRow
    from holdfast.testing.simulation.shadow import Shadow

SETTINGS = Settings(
    lease_s=9.0, heartbeat_s=3.0, poll_s=1.0, grace_s=2.0, workers_max=4, retention_s=320.0, progress_interval_s=0.5
)
SKEW_S = 600.0  # by how much a host's clock is off when it is started
STEP_S = 120.0  # by how much somebody sets one
DEPTH_MAX = 3
LONG_S = (5.0, 12.0, 25.0)  # how long a step takes that takes longer than a lease
_FAULTS = (
    "kill",
    "kill",
    "freeze",
    "cut",
    "cut",
    "fuse",
    "fuse",
    "commit",
    "commit",
    "commit",
    "away",
    "leave",
    "clock",
)
_AT_COMMIT = ("kill_before", "kill_after", "cut_before", "cut_after", "cut_after")


class RemoteCode(Code):
    """Steps in processes of their own end themselves when the lease is over and nobody has extended it."""

    process: Member

    def extend(self, until: float) -> None:
        self._lease_until = until

    def expire(self) -> bool:
        """Whether any has ended so."""
        if self._lease_until is None or self.process.clock.monotonic() < self._lease_until:
            return False
        over = [each for each in self.entries if each.call.isolation == "process" and each.call.began]
        for entry in over:
            self._end(entry, ("died", "exit 1"))
        return bool(over)

    def over_at(self) -> float | None:
        """When that will be, by the true clock."""
        if self._lease_until is None or not any(each.call.isolation == "process" for each in self.entries):
            return None
        return self.world.now() + self._lease_until - self.process.clock.monotonic()

    def take(self, call: Call) -> None:
        before = len(self.entries)
        super().take(call)
        if len(self.entries) > before and not self.world.calm and self.world.chance.random() < 0.15:
            self.entries[-1].lasts_s = self.world.chance.choice(LONG_S)
        if getattr(call.step, "makes_child", False):
            entry = self.entries[-1]
            entry.will, entry.checkpoints, entry.deaf = ("returned", None), 0, False

    def _go_on(self, entry: Entry, now: float) -> None:
        call = entry.call
        if entry.will[0] != "returned" or not getattr(call.step, "makes_child", False):
            super()._go_on(entry, now)
            return
        if not call.began and not self._begin(entry):
            return
        outcome = None if self.process.waits else self._by_desk(call)
        if outcome is None:  # its thread has to wait
            entry.due = now + 0.2
        elif entry in self.entries:
            self._end(entry, outcome)

    def _by_desk(self, call: Call) -> tuple[str, Any] | None:
        """What a step that makes a child does (flow/child.py); None: it may make none any more, and is told why."""
        step: Any = call.step
        given = dict(call.arguments)
        ctx, desk = given.pop("ctx"), call.host.desk  # type: ignore[attr-defined]
        try:
            if call.what == "execute":
                made = desk.make(lambda at: step.ask(at, given), ctx.forward_key, ctx.attempt)
                if made is None:
                    return None
                return "returned", step._result(made.results) if made.event is None else WaitFor(made.event)
            left = desk.undo(ctx.forward_key, ctx.event)
            return "returned", None if left is None else WaitFor(left) if left else Again(1.0)
        except Exception as error:
            return "raised", error

    def enter(self, entry: Entry) -> None:
        super().enter(entry)
        self.process.world.apart.begins(entry, self.process)


class Member(Process):
    """A worker on a host of its own. `thawed_at`: when it was frozen last. `waits`: its worker's thread is in the
    middle of a transaction."""

    world: Cluster
    code: RemoteCode
    clock: HostClock
    line: Link

    def __init__(self, world: Cluster, number: int) -> None:
        super().__init__(world, number)
        self.clock = HostClock(world.clock, world.chance)
        self.clock.skew_s = world.chance.uniform(-SKEW_S, SKEW_S)
        self.pool = POOLS[number - 1] if number <= len(POOLS) else world.chance.choice(POOLS)
        self.locked = world.chance.random() < 0.25
        self.thawed_at = float("-inf")
        self.waits = 0
        self._cut_until = 0.0

    def boot(self) -> None:
        if self._cut_until > self.world.now():
            self.starts_at = self._cut_until
            return
        self.is_busy = True
        self.flows = [self.world.deployed(flow) for flow in self.world.flows]
        if self.world.inner is not None:
            self.flows.append(self.world.inner)
        try:
            super().boot()
            keep_time(self.worker._store, self.clock)
        except Killed:
            self.die()
        except WorldError:
            self.die()
        finally:
            self.is_busy = False

    def _store(self) -> Store:
        self.line = Link(self.world.disk, self.name, self._wait)
        return RemoteStore(self.line)

    def _wait(self, seconds: float) -> None:
        self.world.wait(self, seconds)

    def _code(self) -> RemoteCode:
        return RemoteCode(self.world, self)

    def die(self) -> None:
        if self.is_alive:
            self._cut_until = self.line.cut_until
            self.frozen_until = 0.0
        super().die()

    def thaw(self) -> None:
        """It was frozen, and goes on."""
        if self.frozen_until:
            self.frozen_until, self.thawed_at = 0.0, self.world.now()
            self.world.note(f"{self.name} goes on")

    def turn(self, now: float) -> bool:
        self.thaw()
        return any([self._guard(), super().turn(now)])

    def beside(self, now: float) -> bool:
        """What goes on while the worker's thread waits; whether anything did."""
        if self.frozen_until > now:
            return self.code.expire()
        self.thaw()
        return any([self._guard(), self.code.run(now)])

    def _guard(self) -> bool:
        """What the lease's second thread does, and the children of the worker."""
        lease = self.worker.lease
        if lease._registered and lease._left_s() <= 0:
            if self.code.entries:
                self.world.note(f"{self.name} stops its steps: its lease is over")
            self.worker._lost_lease(None)
        return self.code.expire()

    def next_at(self) -> float | None:
        moments = [super().next_at()]
        if self.is_alive:
            moments.append(self.code.over_at())
            if self.worker.lease._registered:
                left_s = self.worker.lease._left_s()
                moments += [
                    self.world.now() + left_s,
                    self.world.now() + left_s - SETTINGS.heartbeat_s,
                ]  # its next beat
        now = self.world.now()
        return min((at for at in moments if at is not None and at > now), default=None)


def _by_digest(flows: Sequence[Flow]) -> dict[str, Plan]:
    return {digest(plan): plan for plan in map(compile, flows)}


class Cluster(World):
    """`caps`: how many tasks of each pool may run at once; `caps_move`: somebody changes that. `rested`: the schedules
    that somebody has paused. `inner`: the flow of children; None: nobody makes any."""

    settings = SETTINGS
    early_s = 300.0
    client: Callers
    processes: list[Member]

    def __init__(self, disk: Disk, seed: int, *, every_line: bool = False) -> None:
        self.rested: set[str] = set()
        self.inner: Flow | None = None
        super().__init__(disk, seed, every_line=every_line)

    def _people(self) -> None:
        chance = self.chance
        self.preempts = chance.choice((0.0, 0.01, 0.03))
        self.caps = {name: chance.choice((None, 1, 2, 3)) for name in POOLS}
        self.caps_move = chance.random() < 0.3
        if chance.random() < 0.4:
            self._have_children()
        self.newer = {flow.name: newer(chance, flow) for flow in self.flows} if chance.random() < 0.4 else {}
        inner = [] if self.inner is None else [self.inner]
        self.plans = _by_digest([*self.flows, *inner, *self.newer.values()])
        self.rolls_at = self.now() + chance.uniform(0.0, 60.0)
        self.client = Callers(self)
        self.admit = self.client.admit
        self.processes = [Member(self, number) for number in range(1, chance.choice((3, 4, 5)))]
        self.apart = Apart(self)
        self.one_task = OneTask(self)
        self.checkers += [self.apart, Taking(self), self.one_task]

    def run(self) -> None:
        self.calm = True
        for server in self.client.servers:
            server.boot()
        self.client.at.write(self._set_caps)
        self.calm = False
        super().run()
        self.one_task.finish()

    def _set_caps(self, tx: Tx) -> None:
        for name, most in self.caps.items():
            pools.change(tx, name, {"running_max": most})

    def _have_children(self) -> None:
        """One of the flows has a step that makes a task of another, between its others or beside one of them."""
        inner, outer = make_flow(self.chance, "c_"), self.flows[0]
        members: list[Step | Flow] = list(outer.children)
        place = self.chance.randint(0, len(members))
        made: Step | Flow = child("kid", inner)
        if place < len(members) and self.chance.random() < 0.5:
            made = unordered("beside", made, members.pop(place))
        members.insert(place, made)
        self.inner = inner
        self.flows[0] = linear(outer.name, *members, **(outer.options or {}))

    # --- upgrades -------------------------------------------------------------------------------------------------

    def deployed(self, flow: Flow) -> Flow:
        """What a process has of the flow that starts now, in the middle of an upgrade."""
        if not self.newer or self.now() < self.rolls_at or (not self.calm and self.chance.random() < 0.3):
            return flow
        return self.newer[flow.name]

    def plan_by(self, name: str, flow: str) -> Plan | None:
        for process in self.processes if self.newer else ():
            if process.name == name:
                return next(compile(each) for each in process.flows if each.name == flow)
        return None

    def may_rest_aside(self, shadow: Shadow, reason: str, by: str) -> bool:
        plan = self.plan_by(by, shadow.plan.name)
        if reason != "definition_changed" or plan is None:
            return False
        self.happened["changed"] += 1
        return bool(changed(shadow.recorded(), outline(shadow.plan), plan))

    # --- what goes on ---------------------------------------------------------------------------------------------

    def round(self) -> bool:
        now, did = self.now(), False
        for process in self.processes:
            if process.is_alive and (process.is_busy or process.frozen_until > now):
                did = process.beside(now) or did
        for server in self.client.servers:
            server.round(now)
        return super().round() or did

    # --- misfortune -----------------------------------------------------------------------------------------------

    def break_something(self) -> None:
        chance = self.chance
        what = chance.choice(_FAULTS)
        everybody: list[Member | ApiServer] = [*self.processes, *self.client.servers]
        who = chance.choice(everybody)
        self.happened[what] += 1
        self.note(f"{what}: {who.name}")
        if what == "away":
            until = self.now() + chance.choice((1.0, 6.0, 20.0))
            for each in everybody:
                if each.is_alive:
                    each.line.cut_until = until
        elif what == "clock":
            who.clock.skew_s += chance.uniform(-STEP_S, STEP_S)
        elif not who.is_alive:
            return
        elif what == "freeze":
            who.frozen_until = self.now() + chance.choice((1.0, 5.0, 15.0))
        elif what == "kill":
            who.die()
        elif what == "leave":
            if isinstance(who, Member) and not who.is_busy and who.frozen_until <= self.now():
                who.leave()
        elif what == "cut":
            who.line.cut_until = self.now() + chance.choice((1.0, 6.0, 12.0, 30.0))
        else:
            who.line.cut_s = chance.choice((0.0, 2.0, 6.0, 15.0))
            if what == "fuse":
                who.line.fuse, who.line.fault = chance.randint(1, 30), chance.choice(("kill", "cut", "cut"))
            else:
                who.line.at_commit = chance.choice(_AT_COMMIT)

    def pause(self, who: Member | ApiServer) -> None:  # type: ignore[override]
        """Before a transaction of theirs they are stopped, or have to wait."""
        chance = self.chance
        if self.calm or self.depth >= DEPTH_MAX or not self.preempts or chance.random() >= self.preempts:
            return
        self.happened["pause"] += 1
        if chance.random() < 0.5:
            who.frozen_until = self.now() + chance.choice((1.0, 5.0, 15.0))
            self.note(f"{who.name} is frozen, before a transaction")
            self.wait(who, 0.0)
        else:
            self.note(f"{who.name} is kept waiting")
            self.wait(who, chance.choice((0.5, 2.0, 6.0, 12.0)))

    def wait(self, who: Member | ApiServer, seconds: float) -> None:
        """Let the others go on, until the time is up and who waits is not frozen."""
        chance, until = self.chance, self.now() + seconds
        self.depth += 1
        who.waits += 1
        try:
            while who.is_alive and (self.now() < until or who.frozen_until > self.now()):
                if not self.calm and chance.random() < self.trouble / 2:
                    self.break_something()
                if not self.calm and chance.random() < self.asking and not self.client.is_busy:
                    self.client.act()
                if not self.round() or chance.random() < 0.3:
                    self.jump(max(until, who.frozen_until) - self.now())
        finally:
            self.depth -= 1
            who.waits -= 1
        if isinstance(who, Member):
            who.thaw()

    def help(self, left: list[TaskRow]) -> bool:
        resting = [row for row in left if row.state == SUSPENDED]
        return any(self.client.answer(row) for row in resting) or self.client.deliver(left, wanted=True)

    def mend(self) -> None:
        super().mend()
        for server in self.client.servers:
            server.frozen_until = 0.0
            if not server.is_alive:
                server.boot()
            server.line.calm()
        self.client.settle()
