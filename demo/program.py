"""The demo as a program: play the scenes, say what they proved, leave nothing behind.

Exit codes: 0 everything was proved, 1 something differs, 130 interrupted. How it is started: __main__.py.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from demo.calls import Bmc
from demo.children import Children
from demo.scenes import SCENES, Scene
from demo.show import Show
from demo.stage import Stage

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def play(scenes: Sequence[Scene], show: Show, directory: Path, children: Children) -> int:
    """Play the scenes, each on a machine of its own; how many of them did not prove their claim."""
    names = [f"node-{number}" for number in range(1, len(scenes) + 1)]
    bmc = Bmc(directory / "bmc", names)
    bmc.start(children)
    show.say(f"A Redfish BMC (sushy-emulator, process {bmc.process.pid}) answers at {bmc.url}: {len(names)} machines.")
    different = 0
    for number, (scene, name) in enumerate(zip(scenes, names, strict=True), 1):
        show.heading(number, (scene.__doc__ or scene.__name__).strip())
        stage = Stage(number, bmc.nodes[name], directory, children, show)
        try:
            checks = scene(stage)
        except Exception as problem:  # a scene that breaks is one that proves nothing; the others are still played
            stage.print_rest()
            show.problem(f"{type(problem).__name__}: {problem}")
            show.log(stage.node.calls())
            different += 1
            continue
        show.proof(checks)
        different += not all(check.holds for check in checks)
    return different


def main(scenes: Sequence[Scene] = SCENES, show: Show | None = None) -> int:
    show = show or Show()
    started = time.monotonic()
    children = Children()
    different: int | None = None
    directory = Path(tempfile.mkdtemp(prefix="holdfast-demo-"))
    try:
        different = play(scenes, show, directory, children)
    except KeyboardInterrupt:
        pass
    finally:
        with undisturbed():
            children.end_all()
            left = children.left()
            shutil.rmtree(directory, ignore_errors=True)
    took = f"{time.monotonic() - started:.0f} s"
    if different is None:
        show.verdict(f"Interrupted. {_ended(left)}", good=False)
        return 130
    if different or left:
        show.verdict(f"{different} of {len(scenes)} scenes prove something else ({took}). {_ended(left)}", good=False)
        return 1
    show.verdict(f"All {len(scenes)} scenes proved by the BMC's own call log in {took}. {_ended(left)}", good=True)
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
