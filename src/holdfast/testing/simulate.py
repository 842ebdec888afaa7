"""The seeded simulator: many short histories of workers that crash, freeze and lose their leases, each from one seed,
with everything that must always hold looked at after every commit.

    python -m holdfast.testing.simulate --seeds 2000          of each world (make simulate SEEDS=2000)
    python -m holdfast.testing.simulate --world cluster --seed 1234 --trace   one history, line by line

The SQL, the store, the workers, the drives and the core are the real ones; the clock, the connection and user code are
simulated. What a history is: on one host testing/simulation/world.py, on many testing/simulation/cluster.py. What must
hold: testing/simulation/checks.py, testing/simulation/apart.py.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from holdfast.clock import SYSTEM
from holdfast.testing.simulation.cluster import Cluster
from holdfast.testing.simulation.disk import Disk
from holdfast.testing.simulation.shadow import Violation
from holdfast.testing.simulation.world import World

SHOWN_MAX = 5  # broken histories; the others are counted
WORLDS: dict[str, type[World]] = {"host": World, "cluster": Cluster}
COMMAND = "python -m holdfast.testing.simulate --world {world} --seed {seed} --trace"


class History(NamedTuple):
    """What one seed gave. `lines`: its last ones, or all. `broken`: what must not have happened, or None."""

    seed: int
    lines: list[str]
    happened: Counter[str]
    broken: str | None = None
    world: str = "host"

    def report(self) -> str:
        """For people: what happened, what led to it, and how to see it again."""
        told = "\n".join(f"  {line}" for line in self.lines)
        again = COMMAND.format(world=self.world, seed=self.seed)
        return f"seed {self.seed} ({self.world}): {self.broken}\n{told}\nagain: {again}"


class Simulator:
    """Runs histories, one after another, on one disk that is wiped between them. `world`: one of WORLDS."""

    def __init__(self, world: str = "host") -> None:
        self.world = world
        self._disk = Disk()

    def run(self, seed: int, *, every_line: bool = False) -> History:
        """The history of a seed. What is raised in it, by whomever, breaks it."""
        world = WORLDS[self.world](self._disk, seed, every_line=every_line)
        broken = None
        try:
            world.run()
        except Violation as error:
            broken = str(error)
        except Exception as error:
            import traceback

            where = "".join(traceback.format_exception(error)[-6:]).rstrip()
            broken = f"{type(error).__name__}: {error}\n{where}"
        if broken is not None:
            self._disk = Disk()  # in whatever state the old one was left
        return History(seed, list(world.lines), world.happened, broken, self.world)

    def first_broken(self, seeds: Iterable[int]) -> History | None:
        """The first of the seeds whose history is broken."""
        for seed in seeds:
            history = self.run(seed)
            if history.broken is not None:
                return history
        return None


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all is well; 1: a seed is broken; it is printed with what led to it."""
    parser = ArgumentParser(prog="python -m holdfast.testing.simulate", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2000, help="how many histories (default: 2000)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--seed", type=int, help="this one history only")
    parser.add_argument("--world", choices=list(WORLDS), help="of this one only (default: both; with --seed: host)")
    parser.add_argument("--trace", action="store_true", help="with --seed: print every line of it")
    given = parser.parse_args(arguments)
    if given.seed is not None:
        history = Simulator(given.world or "host").run(given.seed, every_line=given.trace)
        if history.broken is None and given.trace:
            print("\n".join(history.lines))
        print(history.report() if history.broken is not None else f"seed {given.seed}: {_summary(history.happened)}")
        return int(history.broken is not None)
    worlds = [given.world] if given.world else list(WORLDS)
    return max([_many(range(given.first, given.first + given.seeds), world) for world in worlds])


def _many(seeds: Sequence[int], world: str) -> int:
    simulator, total, broken = Simulator(world), Counter[str](), 0
    began = shown = SYSTEM.monotonic()
    for done, seed in enumerate(seeds, 1):
        history = simulator.run(seed)
        total += history.happened
        if history.broken is not None:
            broken += 1
            if broken <= SHOWN_MAX:
                print(f"{_clear()}{history.report()}", flush=True)
            else:
                print(f"{_clear()}seed {seed} is broken too", flush=True)
        now = SYSTEM.monotonic()
        if now - shown >= 1 and sys.stderr.isatty():
            shown = now
            rate = done / (now - began)
            print(f"{_clear()}{done} of {len(seeds)} seeds, {rate:.0f} a second", end="", file=sys.stderr, flush=True)
    seconds = SYSTEM.monotonic() - began
    rate = len(seeds) / seconds if seconds else 0.0
    said = "all is well" if not broken else f"{broken} broken"
    print(f"{_clear()}{world}: {len(seeds)} seeds in {seconds:.0f} s ({rate:.0f} a second), {said}: {_summary(total)}")
    return int(broken > 0)


def _clear() -> str:
    return "\r\x1b[K" if sys.stderr.isatty() else ""


def _summary(happened: Counter[str]) -> str:
    names = {
        "events": "events", "commits": "commits", "verbs": "verbs", "kill": "kills", "power": "power cuts",
        "freeze": "freezes", "cut": "processes cut off", "away": "databases away", "clock": "clocks set",
        "fuse": "failed statements", "commit": "failed commits", "pause": "slow writes",
        "leave": "shutdowns", "lost": "tasks taken from living workers", "orphans": "from dead ones",
        "children": "children", "fired": "moments of schedules", "asked again": "requests asked again",
        "replanned": "plans changed", "changed": "definitions that do not fit", "heard": "events heard",
    }  # fmt: skip
    return ", ".join(f"{happened[name]:,} {words}" for name, words in names.items() if happened[name])


if __name__ == "__main__":
    sys.exit(main())
