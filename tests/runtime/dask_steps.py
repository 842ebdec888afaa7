"""Steps for a Dask cluster. Each says to a witness that it was entered, where and under which key.

The witness is that of tests/worker/house.py, which is not imported: the cluster's processes would load all of it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import holdfast as hf


def tell(at: str, ctx: hf.Context, what: str, extra: Any = None) -> None:
    words = [what, ctx.step_id, ctx.attempt, ctx.idempotency_key, os.getpid(), extra]
    with open(Path(at, "witness"), "ab", buffering=0) as file:
        file.write((json.dumps(words) + "\n").encode())


def knob(at: str, name: str) -> bool:
    return Path(at, name).exists()


@hf.step(provides="sum")
def add_up(ctx: hf.Context, at: str, numbers: list[int]) -> int:
    tell(at, ctx, "add_up", ctx.last_checkpoint)
    done = 0
    for place, number in enumerate(numbers):
        done += number
        ctx.progress((place + 1) / len(numbers), f"{place + 1} of {len(numbers)}")
        ctx.checkpoint(done)
    return done


@hf.step
def sleep_long(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "sleep_long")
    if not knob(at, "go"):
        ctx.sleep(300)


@sleep_long.revert
def wake_up(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "wake_up")


careful = sleep_long.with_options(name="careful", on_interrupt="suspend")


@hf.step
def heed(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "heed")
    try:
        if not knob(at, "go"):
            ctx.sleep(300)
    except hf.Stopping as stop:
        tell(at, ctx, f"heeded {stop.reason}")
        raise


@hf.step
def fail(at: str) -> None:
    raise LookupError("no such luck")
