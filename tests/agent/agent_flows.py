"""Flows whose steps agents run. Found again by `--flows tests.agent.agent_flows:FLOWS`. What they did stands in a file
that Holdfast does not write; what they wait for is another."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import holdfast as hf
from tests.service.flows import WITNESS, witness

COUNT = 12


def gate(name: str) -> Path:
    """The file that lets steps which wait for `name` go on."""
    return Path(os.environ[WITNESS]).with_suffix(f".{name}")


@hf.step(provides="made", agent="hv-{unit}")
def make(ctx: hf.Context, unit: str) -> str:
    witness(f"make {os.getpid()}")
    ctx.progress(0.5, "half made")
    return f"disk on {unit}"


@make.revert
def unmake(ctx: hf.Context, made: str | None = None) -> None:
    witness(f"unmake {os.getpid()}")


@hf.step(provides="told")
def tell(made: str) -> str:
    witness(f"tell {os.getpid()}")
    return made.upper()


@hf.step
def fail_after(made: str) -> None:
    raise RuntimeError("no such luck")


@hf.step(provides="counted", agent="hv1")
def count(ctx: hf.Context) -> int:
    """Counts on from where the entry before it came to."""
    try:
        for number in range(ctx.last_checkpoint or 0, COUNT):
            witness(f"count {number} {os.getpid()}")
            ctx.checkpoint(number + 1)
            ctx.progress((number + 1) / COUNT, f"at {number + 1}")
            ctx.sleep(0.1)
    except hf.Stopping as stop:
        witness(f"stopped {stop.reason} {os.getpid()}")
        raise
    return COUNT


@hf.step(agent="hv1")
def tick() -> None:
    """For ever, and it heeds nothing."""
    while True:
        witness(f"tick {os.getpid()}")
        threading.Event().wait(0.02)


@hf.step(provides="paid", agent="hv1", on_interrupt="suspend")
def pay(ctx: hf.Context) -> str:
    """Once at most, and it heeds nothing."""
    witness(f"pay {os.getpid()}")
    while not gate("paid").exists():
        threading.Event().wait(0.02)
    return "paid"


@hf.step(provides="waited", agent="hv1")
def wait_here(ctx: hf.Context) -> str:
    """Runs until its gate is open."""
    witness(f"wait {os.getpid()}")
    try:
        while not gate("open").exists():
            ctx.sleep(0.02)
    except hf.Stopping as stop:
        witness(f"stopped {stop.reason} {os.getpid()}")
        raise
    return "waited"


@wait_here.revert
def unwait() -> None:
    witness("unwait")


@hf.step(agent="hv1", isolation="process")
def hang() -> None:
    witness(f"hang {os.getpid()}")
    threading.Event().wait(300)


@hf.step(agent="hv1")
def kill() -> None:
    witness(f"kill {os.getpid()}")
    os.kill(os.getpid(), signal.SIGKILL)


@hf.step(agent="hv1", retry=hf.Retry(attempts=2, backoff_s=0.01, on=(ConnectionError,)))
def fail_once(ctx: hf.Context) -> None:
    witness(f"try {ctx.attempt}")
    if ctx.attempt == 1:
        raise ConnectionRefusedError("not yet")


@hf.step(provides="asked", agent="hv1", timeout_s=1.0)
def too_slow(ctx: hf.Context) -> None:
    ctx.sleep(300)


@hf.step(provides="known", agent="hv1")
def knowable(ctx: hf.Context) -> str:
    return "done"


@knowable.probe
def known(ctx: hf.Context) -> hf.Probe:
    return hf.Done("it was done")


@hf.step(provides="each", agent="hv1")
def one_of_many(ctx: hf.Context, number: int) -> int:
    witness(f"one {number} {os.getpid()}")
    ctx.sleep(0.02)
    return number


@hf.step(provides="shown", agent="hv1")
def use_secret(ctx: hf.Context, password: hf.Secret) -> hf.Secret:
    witness(f"used {len(password.reveal())}")
    return hf.Secret(password.reveal() + "-too")


@hf.step
def check_secret(shown: hf.Secret) -> None:
    witness(f"checked {shown.reveal().endswith('-too')}")


FLOWS = [
    hf.linear("making", make, tell),
    hf.linear("undone", make, fail_after),
    hf.linear("counting", count),
    hf.linear("paying", pay),
    hf.linear("ticking", tick),
    hf.linear("waiting_there", wait_here),
    hf.linear("hanging_there", hang),
    hf.linear("killing_there", kill),
    hf.linear("failing_once", fail_once),
    hf.linear("slow_there", too_slow),
    hf.linear("knowable_there", knowable),
    hf.map("many", one_of_many, over="numbers", item="number", provides="all", at_once=8),
    hf.linear("secretive", use_secret, check_secret),
]
