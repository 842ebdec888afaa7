"""Six steps in a line. The one whose id is `doomed`, where it is entered first, has its own worker get a signal."""

from __future__ import annotations

import os
from pathlib import Path

import holdfast as hf
from tests.worker.house import knob, tell


@hf.step
def work(ctx: hf.Context, at: str, doomed: str, number: int) -> None:
    tell(at, ctx, "begin")
    if ctx.step_id == doomed and not knob(at, "met"):
        Path(at, "met").touch()
        os.kill(os.getpid(), number)
        ctx.sleep(60)
    tell(at, ctx, "end")


six = hf.linear("six", *[work.with_options(name=name) for name in "abcdef"])
STEPS = tuple(f"six/{name}" for name in "abcdef")
