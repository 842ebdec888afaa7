"""The seeded simulator: many short histories of workers that crash, freeze and lose their leases, each from one seed,
with everything that must always hold looked at after every commit.

    python -m holdfast.testing.simulate --seeds 2000          (make simulate SEEDS=2000)
    python -m holdfast.testing.simulate --seed 1234 --trace   one history, line by line

The SQL, the store, the workers, the drives and the core are the real ones; the clock, the disk's connection and user
code are simulated. What a history is: testing/simulation/world.py; what must hold: testing/simulation/checks.py.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from holdfast.clock import SYSTEM
from holdfast.testing.simulation.disk import Disk
from holdfast.testing.simulation.shadow import Violation
from holdfast.testing.simulation.world import World

SHOWN_MAX = 5  # broken histories; the others are counted
COMMAND = "python -m holdfast.testing.simulate --seed {seed} --trace"


class History(NamedTuple):
    """What one seed gave. `lines`: its last ones, or all. `broken`: what must not have happened, or None."""

    seed: int
    lines: list[str]
    happened: Counter[str]
    broken: str | None = None

    def report(self) -> str:
        """For people: what happened, what led to it, and how to see it again."""
        told = "\n".join(f"  {line}" for line in self.lines)
        return f"seed {self.seed}: {self.broken}\n{told}\nagain: {COMMAND.format(seed=self.seed)}"


class Simulator:
    """Runs histories, one after another, on one disk that is wiped between them."""

    def __init__(self) -> None:
        self._disk = Disk()

    def run(self, seed: int, *, every_line: bool = False) -> History:
        """The history of a seed. What is raised in it, by whomever, breaks it."""
        world = World(self._disk, seed, every_line=every_line)
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
        return History(seed, list(world.lines), world.happened, broken)

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
    parser.add_argument("--trace", action="store_true", help="with --seed: print every line of it")
    given = parser.parse_args(arguments)
    if given.seed is not None:
        history = Simulator().run(given.seed, every_line=given.trace)
        if history.broken is None and given.trace:
            print("\n".join(history.lines))
        print(history.report() if history.broken is not None else f"seed {given.seed}: {_summary(history.happened)}")
        return int(history.broken is not None)
    return _many(range(given.first, given.first + given.seeds))


def _many(seeds: Sequence[int]) -> int:
    simulator, total, broken = Simulator(), Counter[str](), 0
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
    print(f"{_clear()}{len(seeds)} seeds in {seconds:.0f} s ({rate:.0f} a second), {said}: {_summary(total)}")
    return int(broken > 0)


def _clear() -> str:
    return "\r\x1b[K" if sys.stderr.isatty() else ""


def _summary(happened: Counter[str]) -> str:
    names = {
        "events": "events", "commits": "commits", "verbs": "verbs", "kill": "kills", "power": "power cuts",
        "freeze": "freezes", "fuse": "failed statements", "commit": "failed commits", "pause": "slow writes",
        "leave": "shutdowns", "lost": "tasks taken from living workers", "orphans": "from dead ones",
    }  # fmt: skip
    return ", ".join(f"{happened[name]:,} {words}" for name, words in names.items() if happened[name])


if __name__ == "__main__":
    sys.exit(main())
