"""A step that makes one effect, and asks the witness whether it has been made: as one asks a hypervisor for a port."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import holdfast as hf
from tests.worker.house import knob, tell


@hf.step
def plug(ctx: hf.Context, at: str, number: int) -> None:
    tell(at, ctx, "enter", number)
    ctx.sleep(0.002)
    tell(at, ctx, "effect", number)
    tell(at, ctx, "leave", number)


@plug.probe
def is_plugged(ctx: hf.Context, at: str, number: int) -> Any:
    found = f'["effect", "{ctx.step_id}"'
    lines = Path(at, "witness").read_text().splitlines()
    if any(line.startswith(found) and line.endswith(f" {number}]") for line in lines):
        return hf.Done(None)
    return hf.NotDone()


plugged = hf.linear("plugged", plug)


@hf.step
def hold(ctx: hf.Context, at: str, number: int) -> None:
    """Runs until `go`, or until it is asked to stop."""
    tell(at, ctx, "enter", number)
    tell(at, ctx, "fence", [number, ctx.fence])
    try:
        while not knob(at, "go"):
            ctx.sleep(0.01)
    except hf.Stopping as stop:
        tell(at, ctx, "stopped", [number, stop.reason, os.getpid()])
        raise
    tell(at, ctx, "leave", number)


held = hf.linear("held", hold)


@hf.step(isolation="process")
def beat(ctx: hf.Context, at: str) -> None:
    """Goes on and on, and asks nobody, until `go`."""
    while not knob(at, "go"):
        tell(at, ctx, "beat")
        threading.Event().wait(0.01)


beating = hf.linear("beating", beat)
