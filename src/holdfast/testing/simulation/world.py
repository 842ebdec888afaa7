"""One history: several processes, a client and misfortune, all drawn from one seed, on one clock and one disk.

Theory: one thread runs everything, so a seed gives the same history every time. Time stands still while somebody has
something to do, and then jumps, never by more than a heartbeat. First comes the storm; then everything that is broken
is mended, steps do as they should, every rest is answered, and every task must come to its end.
"""

from __future__ import annotations

from collections import Counter, deque
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from sqlalchemy import null, update

from holdfast.core.states import FINAL, SUSPENDED_PENDING, api_state
from holdfast.flow.compile import compile, digest
from holdfast.settings import Settings
from holdfast.store.base import JournalRow, Tx
from holdfast.store.journal import WORDS
from holdfast.store.schema import tasks
from holdfast.tasks import agents
from holdfast.tasks.row import TaskRow
from holdfast.testing.clock import FakeClock
from holdfast.testing.simulation.checks import CHECKERS, Acknowledged, Checker
from holdfast.testing.simulation.client import Client, Server
from holdfast.testing.simulation.deaths import Deaths
from holdfast.testing.simulation.disk import Disk, Line
from holdfast.testing.simulation.flows import make_flow
from holdfast.testing.simulation.news import News
from holdfast.testing.simulation.process import Process
from holdfast.testing.simulation.shadow import Commit, Shadow, Violation
from holdfast.testing.simulation.watch import Watch
from holdfast.testing.simulation.witness import Witness

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.core.plan import Plan
    from holdfast.flow.patterns import Flow
    from holdfast.tasks.schedules import Admit
    from holdfast.testing.simulation.code import Entry
    from holdfast.testing.simulation.servers import ApiServer

SETTINGS = Settings(
    lease_s=9.0, heartbeat_s=3.0, poll_s=1.0, grace_s=2.0, workers_max=4, retention_s=60.0, progress_interval_s=0.5
)
JUMP_S = 3.0  # a heartbeat
ROUNDS_MAX = 600  # of the calm after the storm, in which no task ends
HISTORY = 60  # lines that are kept
SUSPENDED = api_state(SUSPENDED_PENDING)
_FAULTS = ("kill", "kill", "freeze", "fuse", "fuse", "commit", "commit", "power", "leave")


class World:
    """`goodwill`: how often a step does as it should. `trouble`: how often, in a round, something breaks."""

    settings = SETTINGS
    admit: Admit | None = None  # how the tasks of schedules are asked for
    early_s = 0.0  # by how much a clock that somebody goes by may be fast

    def __init__(self, disk: Disk, seed: int, *, every_line: bool = False) -> None:
        disk.wipe()
        self.seed = seed
        self.disk = disk
        self.chance = chance = Random(seed)
        self.clock = FakeClock(threads=None, seed=seed)
        self.started_at = self.clock.time()
        disk.now = self.clock.time
        self.lines: deque[str] = deque(maxlen=None if every_line else HISTORY)
        self.calm = False
        self.goodwill = chance.choice((0.5, 0.8, 0.95))
        self.trouble = chance.choice((0.0, 0.05, 0.15))
        self.asking = chance.choice((0.1, 0.3, 0.5))
        self.preempts = chance.choice((0.0, 0.005, 0.02))
        self.tasks_max = chance.randint(3, 12)
        self.rounds = chance.choice((40, 80, 120))
        self.depth = 0
        self.happened: Counter[str] = Counter()
        self.locks: set[str] = set()
        self._number = 0
        self.flows = [make_flow(chance, f"{name}_") for name in ("f", "g")[: chance.randint(1, 2)]]
        self.newer: dict[str, Flow] = {}  # what an upgrade makes of them
        self.rung: set[tuple[int, int]] = set()  # tasks for which somebody has rung for nothing, and their seqs then
        self.plans = {digest(plan): plan for plan in map(compile, self.flows)}
        self.watch = Watch(self)
        self.witness = Witness(self)
        self.acknowledged = Acknowledged(self)
        self.news = News(self)
        self.checkers: list[Checker] = [kind(self) for kind in CHECKERS if kind is not Acknowledged]
        self.checkers += [self.acknowledged, self.witness, self.news, Deaths(self)]
        self.client: Client
        self.processes: Sequence[Process]
        self._people()
        disk.watch = self.watch.committed

    def _people(self) -> None:
        """Those who ask, and those who work."""
        self.client = Client(self)
        self.processes = [Process(self, number) for number in range(1, self.chance.choice((2, 3, 3, 4)))]

    # --- what everybody asks --------------------------------------------------------------------------------------

    @property
    def rows(self) -> dict[int, TaskRow]:
        """The tasks, as they were last committed."""
        return self.watch.rows

    @property
    def shadows(self) -> dict[int, Shadow]:
        return self.watch.shadows

    @property
    def purged(self) -> set[int]:
        return self.watch.purged

    def shadow_of(self, uuid: str) -> Shadow:
        return self.watch.by_uuid[uuid]

    def verbs_of(self, task: int) -> int:
        shadow = self.shadows.get(task)
        return 0 if shadow is None else shadow.verbs.total()

    def is_stale(self, entry: Entry) -> bool:
        """Whether the worker that entered it has lost its task."""
        row = self.rows.get(self.shadow_of(entry.call.host.task_id).id)  # type: ignore[attr-defined]
        return row is None or row.token != entry.token

    def now(self) -> float:
        return self.clock.time()

    def asks(self, name: str) -> bool:
        """Whether one of that name is no worker."""
        return any(server.name == name for server in self.client.servers)

    def plan_by(self, name: str, flow: str) -> Plan | None:
        """By which plan the worker of that name drives tasks of the flow; None: there is but one."""
        return None

    def may_rest_aside(self, shadow: Shadow, reason: str, by: str) -> bool:
        """Whether a worker may find that it can't drive the task."""
        return False

    def number(self) -> int:
        """One that was never given before."""
        self._number += 1
        return self._number

    def chance_to_look(self) -> bool:
        return self.chance.random() < 0.06

    def note(self, line: str) -> None:
        self.lines.append(f"{self.now() - self.started_at:8.2f} {line}")

    def lose(self, who: Process | ApiServer) -> None:
        """It is gone, and comes up again after a while."""
        self.note(f"{who.name} is gone")
        who.is_alive = False
        self.disk.recover()
        who.starts_at = self.now() + self.chance.choice((0.0, 2.0, 12.0))

    def steps_of(self, task: int) -> list[tuple[str, str]]:
        return [(step.node, step.state) for step in self.watch.steps(task)]

    def journal_of(self, task: int) -> list[JournalRow]:
        return self.watch.journal(task, 0)

    def check_acknowledged(self, task: int) -> None:
        self.acknowledged.check(task)

    def see(self, shadow: Shadow, row: JournalRow) -> None:
        """A new row of a journal, not folded yet."""
        event = shadow.read(row)
        for checker in self.checkers:
            checker.event(shadow, row, event)
        shadow.fold(row, event)
        self.happened["events"] += 1
        self.happened["verbs"] += row.kind in WORDS and row.kind.endswith(("_asked", "delivered", "force_failed"))

    def seen(self, commit: Commit) -> None:
        for checker in self.checkers:
            checker.commit(commit)

    # --- the history ----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """The storm, and the calm. Raises: Violation."""
        for process in self.processes:
            process.boot()
        self.client.submit()
        idle = False
        for _ in range(self.rounds):
            if self.chance.random() < (0.8 if idle else self.asking):
                self.client.act()
            if self.chance.random() < self.trouble:
                self.break_something()
            idle = not self.round()
            if idle:
                self.jump()
        self._examine()
        self.mend()
        rounds = ended = 0
        while rounds < ROUNDS_MAX:
            rounds += 1
            if self.round():
                continue
            self._ring_for_nothing()
            left = [row for row in self.rows.values() if row.state not in FINAL]
            if not left:
                self._examine()
                return
            if len(self.rows) - len(left) > ended:
                rounds, ended = 0, len(self.rows) - len(left)
            if not self.help(left):
                self.jump()
        stuck = ", ".join(f"task {row.id} {row.state} {row.hold or ''} {row.reason or ''}" for row in left)
        raise Violation(f"nothing is in the way any more, and still there are {stuck}")

    def _ring_for_nothing(self) -> None:
        """Who looks at a task that waits for a bell finds nothing to do: else it was for somebody to ring. An upgrade
        is nobody's bell."""
        if not self._quiet():
            return  # who does not look by himself is not helped
        self._look_around()
        quiet = self._quiet()
        if not quiet:
            return
        self._examine()
        for row in quiet:
            self.client.at.write(partial(agents.ring, task=row.id, now=0.0))
        self._look_around()
        for row in quiet:
            at = self.rows.get(row.id, row)
            if at.seq != row.seq:
                raise Violation(f"task {row.id} {row.state} had something to do, and nobody had rung for it")
            if at.epoch == row.epoch:  # nobody could take it now
                self.client.at.write(partial(_silence, task=row.id))
            else:
                self.rung.add((row.id, row.seq))

    def _quiet(self) -> list[TaskRow]:
        """The tasks that wait for a bell, and that nobody has rung for in vain yet."""
        live = [row for row in self.rows.values() if row.state not in (*FINAL, SUSPENDED) and not self.newer]
        quiet = [row for row in live if row.ready and row.worker_id is None and row.due_at is None]
        return [row for row in quiet if (row.id, row.seq) not in self.rung]

    def _look_around(self) -> None:
        """Every worker looks, and does what there is to do at this moment."""
        for process in self.processes:
            if process.is_alive:
                process.worker.poke()
        for _ in range(ROUNDS_MAX):
            if not self.round():
                return
        raise Violation("the workers go round, and no time passes")

    def _examine(self) -> None:
        if found := self.watch.faults():
            raise Violation("; ".join(found))

    def round(self) -> bool:
        """A turn for everybody who may have one; whether anybody did anything."""
        order = list(self.processes)
        self.chance.shuffle(order)
        did = False
        for process in order:
            now = self.now()
            if not process.is_alive and not process.is_busy and process.starts_at <= now:
                process.boot()
            if process.may_run(now):
                did = process.turn(now) or did
        return did

    def jump(self, most_s: float = JUMP_S) -> None:
        """Let time pass until somebody has something to do."""
        now = self.now()
        moments = [at for process in self.processes if (at := process.next_at()) is not None and at > now]
        self.clock.advance(max(0.001, min([JUMP_S, most_s, *(at - now for at in moments)])))

    def help(self, left: list[TaskRow]) -> bool:
        """Answer one task that rests, or deliver what one waits for; whether any did."""
        for row in left:
            if row.state == SUSPENDED:
                return self.client.answer(row)
        return self.client.deliver(left, wanted=True)

    # --- misfortune -----------------------------------------------------------------------------------------------

    def break_something(self) -> None:
        chance = self.chance
        what = chance.choice(_FAULTS)
        process = chance.choice(self.processes)
        self.happened[what] += 1
        self.note(f"{what}: {process.name}")
        if what == "power":
            for each in self.processes:
                each.die()
            self.client.at.line.dead = True
            if self.disk.cut_power():
                self.watch.look_anew()
            if not self.client.is_busy:
                self.client.at.boot()
        elif not process.is_alive:
            return
        elif what == "freeze":
            process.frozen_until = self.now() + chance.choice((1.0, 5.0, 15.0))
        elif what == "kill":
            process.die()
        elif what == "leave":
            if not process.is_busy:
                process.leave()
        else:
            line = chance.choice((process.line, process.line, process.line, self.client.at.line))
            if what == "fuse":
                line.fuse, line.fault = chance.randint(1, 30), chance.choice(("kill", "kill", "busy", "ioerr", "full"))
            else:
                line.at_commit = chance.choice(("kill_before", "kill_after", "lost", "done", "full", "busy"))

    def pause(self, who: Process | Server) -> None:
        """Before a transaction of theirs the disk is slow, or the system runs somebody else."""
        chance = self.chance
        if self.calm or self.depth or not self.preempts or chance.random() >= self.preempts:
            return
        self.depth += 1
        self.happened["pause"] += 1
        self.note(f"{who.name} is kept waiting")
        try:
            for _ in range(chance.choice((1, 1, 3, 8))):
                if chance.random() < self.trouble:
                    self.break_something()
                if chance.random() < self.asking and not self.client.is_busy:
                    self.client.act()
                if not self.round() or chance.random() < 0.3:
                    self.jump()
        finally:
            self.depth -= 1

    def mend(self) -> None:
        self.note("the storm is over")
        self.calm = True
        for server in self.client.servers:
            server.line.calm()
        for process in self.processes:
            process.frozen_until = 0.0
            if process.is_alive:
                process.line.calm()


def _silence(tx: Tx, task: int) -> None:
    tx.execute(update(tasks).where(tasks.c.id == task, tasks.c.worker_id.is_(null())).values(due_at=null()))


__all__ = ["Line", "World"]
