"""The flows that stop_holdfast.py stops: one step each, which waits far longer than anybody will. In a module of their
own, because a process step is found again by its module.

A step's witness is a directory of files that Holdfast does not know of: `entered` holds its process, `left` the moment
it stopped, by the clock that all processes of a machine share.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import holdfast as hf

FOREVER_S = 600.0
GRACE_S = 1.0


def note(witness: str, what: str, text: str) -> None:
    """Write a file that is whole as soon as it can be seen."""
    draft = Path(witness, f"{what}.draft")
    draft.write_text(text)
    draft.rename(Path(witness, what))


def wait(ctx: hf.Context, witness: str) -> None:
    note(witness, "entered", str(os.getpid()))
    try:
        ctx.sleep(FOREVER_S)
    finally:
        left = time.perf_counter()
        note(witness, "left", str(left))


@hf.step(name="wait")
async def wait_async(ctx: hf.AsyncContext, witness: str) -> None:
    note(witness, "entered", str(os.getpid()))
    try:
        await ctx.sleep(FOREVER_S)
    finally:
        left = time.perf_counter()
        note(witness, "left", str(left))


@hf.step(name="hang", isolation="process", grace_s=GRACE_S)
def hang(witness: str) -> None:
    """Ignore every request, as code stuck in C does."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note(witness, "entered", str(os.getpid()))
    while True:
        time.sleep(FOREVER_S)


in_async = hf.linear("in_async", wait_async)
in_thread = hf.linear("in_thread", hf.step(name="wait", isolation="thread")(wait))
in_process = hf.linear("in_process", hf.step(name="wait", isolation="process")(wait))
hung = hf.linear("hung", hang)

FLOWS = {"async": in_async, "thread": in_thread, "process": in_process, "hung": hung}
