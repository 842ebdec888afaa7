"""Flows that wait: for a time, for an event, for what a retry's pause or their flow's deadline says."""

from __future__ import annotations

from typing import Any

import holdfast as hf
from tests.worker.flows import first, last
from tests.worker.house import knob, tell


@hf.step(provides="power")
def poll(ctx: hf.Context, at: str) -> Any:
    """Asks once, then looks until `off`."""
    if ctx.last_checkpoint is None:
        tell(at, ctx, "ask")
        return hf.Again(0.0, checkpoint={"looks": 0})
    looks = ctx.last_checkpoint["looks"] + 1
    tell(at, ctx, "look", looks)
    if knob(at, "off"):
        return "off"
    return hf.Again(0.02 if knob(at, "quick") else 3600.0, checkpoint={"looks": looks})


@poll.revert
def unpoll(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "unpoll", ctx.last_checkpoint)


@hf.step(provides="answer")
def wait(ctx: hf.Context, at: str) -> Any:
    tell(at, ctx, "wait", ctx.event)
    return hf.WaitFor("word") if ctx.event is None else ctx.event


@wait.revert
def unwait(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "unwait")


@hf.step(provides="answer")
def wait_so_long(ctx: hf.Context, at: str) -> Any:
    """Asks for the word, and once more when that has taken too long; then it goes without."""
    tell(at, ctx, "wait", ctx.event)
    if ctx.event is not None:
        return ctx.event
    if knob(at, "enough"):
        return "nobody spoke"
    return hf.WaitFor("word", timeout_s=0.01)


@hf.step(retry=hf.Retry(attempts=3, backoff_s=3600.0))
def back_off(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "back_off")
    raise ConnectionError("not yet")


@back_off.revert
def unback_off(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "unback_off")


polling = hf.linear("polling", first, poll, last)
hearing = hf.linear("hearing", first, wait, last)
hearing_so_long = hf.linear("hearing_so_long", first, wait_so_long, last)
two_hear = hf.linear("two_hear", hf.unordered("both", wait, wait.with_options(name="wait2", provides="answer2")), last)
backing_off = hf.linear("backing_off", first, back_off, last)
beside = hf.linear("beside", hf.unordered("both", poll, first), last)
