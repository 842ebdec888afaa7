"""Flows in flows, whose innards tell the witness (house.py)."""

from __future__ import annotations

import os

import holdfast as hf
from tests.worker.flows import first, last, make, use
from tests.worker.house import knob, tell


@hf.step(provides="seen")
def element(ctx: hf.Context, at: str, item: int) -> int:
    """The third waits for `go`."""
    if item == 2 and not knob(at, "go"):
        tell(at, ctx, "hang")
        while not knob(at, "go"):
            ctx.sleep(0.01)
    tell(at, ctx, "done")
    return item * 10


@element.revert
def unelement(ctx: hf.Context, at: str, item: int) -> None:
    """The second waits while `undo_waits`."""
    if item == 1 and knob(at, "undo_waits"):
        tell(at, ctx, "unhang")
        while knob(at, "undo_waits"):
            ctx.sleep(0.01)
    tell(at, ctx, "undone")


ITEMS = [0, 1, 2, 3]
once = element.with_options(on_interrupt="suspend")
mapped = hf.linear("mapped", hf.map("each", element, over=ITEMS, item="item", provides="seen", at_once=1), last)
mapped_once = hf.linear("mapped_once", hf.map("each", once, over=ITEMS, item="item", provides="seen", at_once=1), last)
back = hf.linear("back", first, hf.map("each", element, over=ITEMS, item="item", at_once=1), last, undo="serial")
tried = hf.linear(
    "tried", first, hf.linear("inner", make.with_options(on_interrupt="undo"), retry=hf.Retry(attempts=2)), use
)
two = hf.linear(
    "two",
    hf.unordered(
        "both",
        make.with_options(on_interrupt="suspend"),
        make.with_options(on_interrupt="suspend", name="make2", provides="made2"),
    ),
    use,
)


def this_way(at: str) -> bool:
    return not knob(at, "other_way")


chosen = (
    hf.graph("chosen", first, make, use, last).link(first, make, when=this_way).link(first, last, when=lambda: False)
)


@hf.step(retry=hf.Retry(attempts=3, backoff_s=0.0))
def three(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, f"try {ctx.attempt}")
    if ctx.attempt < 3 or knob(at, "fails"):
        raise ConnectionError("not yet")
    tell(at, ctx, "hangs")
    while os.path.isdir(at):
        ctx.sleep(0.01)


tried_out = hf.linear("tried_out", three)
