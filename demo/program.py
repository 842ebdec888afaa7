"""The demo as a program: tell the service's story, play the scenes on the BMC, say what was proved, leave nothing
behind.

Exit codes: 0 everything was proved, 1 something differs, 130 interrupted. How it is started: __main__.py.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TypeVar

from demo import story
from demo.calls import Bmc
from demo.children import Children
from demo.evidence import Check
from demo.scenes import SCENES, Scene
from demo.service import Service
from demo.show import Show
from demo.stage import Stage

T = TypeVar("T")

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def tell(scenes: Sequence[story.Scene], show: Show, service: Service) -> int:
    """Play the scenes, one after the other on one service; how many of them did not prove their claim."""
    show.part("Part 1: a service and its servers, over HTTP")
    show.say(
        "A server is a process on this machine, which outlives the service. What it writes itself is the evidence."
    )
    told = story.Story(service)
    try:
        told.begin()
        different = 0
        for number, scene in enumerate(scenes, 1):
            wrong = _differs(number, scene, told, show)
            if wrong is None:
                show.output(service.process.new_lines()[-20:])
            different += wrong is not False
        return different
    except Exception as problem:  # of `begin`: without a service there is nothing to tell
        show.problem(f"{type(problem).__name__}: {problem}")
        for scene in scenes:
            show.remember(_title(scene), good=False)
        return len(scenes)
    finally:
        told.close()


def play(scenes: Sequence[Scene], show: Show, directory: Path, children: Children, *, first: int = 1) -> int:
    """Play the scenes, each on a machine of its own; how many of them did not prove their claim."""
    show.part("Part 2: the library alone, and a machine behind a Redfish BMC")
    names = [f"node-{number}" for number in range(1, len(scenes) + 1)]
    bmc = Bmc(directory / "bmc", names)
    bmc.start(children)
    show.say(f"A Redfish BMC (sushy-emulator, process {bmc.process.pid}) answers at {bmc.url}: {len(names)} machines.")
    different = 0
    for number, (scene, name) in enumerate(zip(scenes, names, strict=True), 1):
        stage = Stage(number, bmc.nodes[name], directory, children, show)
        wrong = _differs(first + number - 1, scene, stage, show)
        if wrong is None:
            stage.print_rest()
            show.log(stage.node.calls())
        different += wrong is not False
    return different


def _differs(number: int, scene: Callable[[T], list[Check]], on: T, show: Show) -> bool | None:
    """Play a scene; whether its evidence differs. None: it broke, so it proves nothing; the others are still played."""
    title = _title(scene)
    show.heading(number, title)
    try:
        checks = scene(on)
    except Exception as problem:
        show.problem(f"{type(problem).__name__}: {problem}")
        show.remember(title, good=False)
        return None
    show.proof(checks)
    show.remember(title, good=all(check.holds for check in checks))
    return not all(check.holds for check in checks)


def _title(scene: Callable[..., list[Check]]) -> str:
    return (scene.__doc__ or scene.__name__).strip()


def main(
    scenes: Sequence[Scene] = SCENES, show: Show | None = None, *, acts: Sequence[story.Scene] = story.SCENES
) -> int:
    """Tell the `acts` of the service's story, and play the `scenes` on the BMC."""
    show = show or Show()
    started = time.monotonic()
    children = Children()
    different: int | None = None
    directory = Path(tempfile.mkdtemp(prefix="holdfast-demo-"))
    service = Service(directory, children, show)
    try:
        told = tell(acts, show, service) if acts else 0
        played = play(scenes, show, directory, children, first=len(acts) + 1) if scenes else 0
        different = told + played
    except KeyboardInterrupt:
        pass
    finally:
        with undisturbed():
            children.end_all()
            service.end_servers()
            left = sorted({*children.left(), *service.witness.processes()})
            shutil.rmtree(directory, ignore_errors=True)
    show.remembered()
    took = f"{time.monotonic() - started:.0f} s"
    if different is None:
        show.verdict(f"Interrupted. {_ended(left)}", good=False)
        return 130
    count = len(acts) + len(scenes)
    if different or left:
        show.verdict(f"{different} of {count} scenes prove something else ({took}). {_ended(left)}", good=False)
        return 1
    show.verdict(
        f"All {count} scenes proved by what the guests and the BMC wrote, in {took}. {_ended(left)}", good=True
    )
    return 0


@contextmanager
def undisturbed() -> Iterator[None]:
    """While the demo tidies up, one more Ctrl-C could only leave something behind."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ended(left: Sequence[int]) -> str:
    if left:
        return f"Still running: {', '.join(map(str, left))}."
    return "Every process that was started has ended."


def as_interrupt(number: int, frame: FrameType | None) -> None:
    """A handler that makes a `kill`, or a terminal that closes, as clean as a Ctrl-C."""
    raise KeyboardInterrupt
