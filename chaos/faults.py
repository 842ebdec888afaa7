"""The faults: what is done to a cluster, for how long, and how it is healed. Which come when is drawn from the seed.

What is done to one process: cluster.py. What only a database of its own can suffer: sqlite.py.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from chaos import load
from chaos.cluster import Cluster, Member

MOST_AT_ONCE: Final = 2
IDLE_S: Final = 15.0  # for which a fault waits for a step to run
EARLY: Final = 0.1  # how often something befalls a process that may not have started yet
BURST_S: Final = 0.25
#: Who left for want of a database comes back, and may leave again, so long after it is there again.
EXCUSE_S: Final = 5.0

Heal = Callable[[], None]


class Fault(NamedTuple):
    """`begin` does it and says how it is healed; None: by itself. `hold_s`: from and to how long it lasts. `weight`:
    how often it is drawn. `database`: it is the database that fails, so processes may end over it."""

    name: str
    begin: Callable[[random.Random], Heal | None]
    hold_s: tuple[float, float]
    weight: int = 1
    database: bool = False


class Nemesis:
    """Draws faults and heals them; `turn` is to be called often, by one thread."""

    def __init__(self, cluster: Cluster, seed: int, faults: Sequence[Fault], pause_s: tuple[float, float]) -> None:
        self._cluster = cluster
        self._chance = random.Random(f"{seed}/nemesis")
        self._faults = faults
        self._pause_s = pause_s
        self._next_at = time.monotonic() + self._chance.uniform(*pause_s)
        self._active: list[tuple[float, Fault, Heal]] = []
        self._failed_at = float("-inf")  # the database, for the last time
        self.done = Counter[str]()

    def turn(self) -> None:
        now = time.monotonic()
        for each in [each for each in self._active if each[0] <= now]:
            self._end(each)
        if now >= self._next_at and len(self._active) < MOST_AT_ONCE:
            if now < self._next_at + IDLE_S and not self._cluster.busy():
                return  # nothing runs that a fault could hurt
            self._next_at = now + self._chance.uniform(*self._pause_s)
            fault = self._chance.choices(self._faults, [each.weight for each in self._faults])[0]
            if all(fault.name != each.name and not (fault.database and each.database) for _, each, _ in self._active):
                self._begin(fault, now)

    def _begin(self, fault: Fault, now: float) -> None:
        hold_s = self._chance.uniform(*fault.hold_s)
        self._cluster.witness.say("fault", "fault", name=fault.name, hold_s=round(hold_s, 2))
        if fault.database:
            self._failed_at = float("inf")
        heal = fault.begin(self._chance)
        self.done[fault.name] += 1
        if heal is not None:
            self._active.append((now + hold_s, fault, heal))
        elif fault.database:
            self._failed_at = time.monotonic()

    def _end(self, each: tuple[float, Fault, Heal]) -> None:
        self._active.remove(each)
        _, fault, heal = each
        heal()
        self._cluster.witness.say("fault", "healed", name=fault.name)
        if fault.database:
            self._failed_at = time.monotonic()

    def excuses(self) -> bool:
        """Whether a process may end by itself, because its database fails or just has."""
        return time.monotonic() < self._failed_at + EXCUSE_S

    def heal(self) -> None:
        """Everything, now."""
        for each in list(self._active):
            self._end(each)


def standing(members: Sequence[Member], chance: random.Random) -> list[Member]:
    """Those to whom something may be done: mostly those that have started, or none would ever on a slow machine."""
    early = chance.random() < EARLY
    return [
        member
        for member in members
        if (member.is_up if early else member.is_ready) and not member.is_frozen and not member.expected
    ]


def of_processes(cluster: Cluster, lease_s: float) -> list[Fault]:
    """What may befall any process, wherever its database is."""

    def some(members: Sequence[Member], chance: random.Random) -> Member | None:
        """One that works, if there is one; but for now and then one that has started, or is just starting."""
        up = standing(members, chance)
        busy = [member for member in up if member.incarnation in cluster.busy()]
        return chance.choice(busy if busy and chance.random() < 0.8 else up) if up else None

    def killing(members: Sequence[Member], number: int = 1) -> Callable[[random.Random], Heal | None]:
        def begin(chance: random.Random) -> None:
            for _ in range(number):
                if (member := some(members, chance)) is not None:
                    member.kill()

        return begin

    def freezing(members: Sequence[Member]) -> Callable[[random.Random], Heal | None]:
        def begin(chance: random.Random) -> Heal | None:
            member = some(members, chance)
            if member is None:
                return None
            member.freeze()
            frozen = member.incarnation

            def heal() -> None:
                if member.incarnation == frozen and member.is_frozen:
                    member.thaw()

            return heal

        return begin

    def leaving(members: Sequence[Member]) -> Callable[[random.Random], Heal | None]:
        def begin(chance: random.Random) -> None:
            if (member := some(members, chance)) is not None:
                member.ask_to_leave()

        return begin

    def flooding(chance: random.Random) -> Heal:
        return load.flood(chance.choice(cluster.apis).url)

    def stuttering(chance: random.Random) -> None:
        """As on a disk that takes its time: who writes stands still, for a moment, again and again."""
        member = some(cluster.members, chance)
        for _ in range(4):
            if member is None or not member.is_up:
                return
            member.freeze()
            threading.Event().wait(BURST_S * chance.random())
            member.thaw()
            threading.Event().wait(BURST_S * chance.random() / 4)

    past_the_lease = (lease_s * 1.3, lease_s * 2.5)
    of_agents = [
        Fault("agent killed", killing(cluster.agents), (0, 0), 3),
        Fault("agent frozen past its lease", freezing(cluster.agents), past_the_lease, 3),
        Fault("agent told to leave", leaving(cluster.agents), (0, 0), 1),
    ]
    return [
        Fault("worker killed", killing(cluster.workers), (0, 0), 4),
        Fault("two workers killed", killing(cluster.workers, 2), (0, 0), 2),
        Fault("service killed", killing(cluster.apis), (0, 0), 2),
        Fault("worker frozen past its lease", freezing(cluster.workers), past_the_lease, 4),
        Fault("worker frozen for a moment", freezing(cluster.workers), (0.1, lease_s * 0.7), 2),
        Fault("service frozen", freezing(cluster.apis), (0.5, lease_s), 1),
        Fault("worker told to leave", leaving(cluster.workers), (0, 0), 2),
        Fault("service told to leave", leaving(cluster.apis), (0, 0), 1),
        Fault("service's connections exhausted", flooding, (0.3, lease_s / 2), 1),
        Fault("slow disk", stuttering, (0, 0), 2),
        *(of_agents if cluster.agents else ()),
    ]
