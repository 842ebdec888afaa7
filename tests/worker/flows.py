"""Flows whose steps tell the witness what they do and wait for knobs. `at` is the directory of both (house.py)."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from typing import Any

import holdfast as hf
from tests.worker.house import knob, tell


@hf.step(provides="first")
def first(ctx: hf.Context, at: str) -> int:
    tell(at, ctx, "first")
    return 1


@first.revert
def unfirst(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "unfirst")


@hf.step
def last(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "last")
    if knob(at, "last_fails"):
        raise RuntimeError("the last straw")


# --- interrupted -------------------------------------------------------------------------------------------------


@hf.step(provides="made")
def make(ctx: hf.Context, at: str) -> str:
    """Its effect happens, and then it waits for `go`."""
    tell(at, ctx, "make")
    while not knob(at, "go"):
        ctx.sleep(0.01)
    tell(at, ctx, "made")
    return "made"


@make.revert
def unmake(ctx: hf.Context, at: str, made: str | None = None) -> None:
    tell(at, ctx, "unmake", made)
    while knob(at, "undo_waits"):
        ctx.sleep(0.01)
    tell(at, ctx, "unmade", made)


@hf.step
def use(ctx: hf.Context, at: str, made: str) -> None:
    tell(at, ctx, "use", made)


def make_probed(ctx: hf.Context, at: str) -> str:
    return make.execute(ctx, at)


probed = hf.step(make_probed, name="make", provides="made")
probed.revert(unmake)


@probed.probe
def was_made(ctx: hf.Context, at: str) -> hf.Probe:
    tell(at, ctx, "probe")
    if knob(at, "happened"):
        return hf.Done("found")
    return hf.NotDone() if knob(at, "nothing_happened") else hf.Unknown("the device does not answer")


rerun = hf.linear("rerun", first, make, use)
undone = hf.linear("undone", first, make.with_options(on_interrupt="undo"), use)
once = hf.linear("once", first, make.with_options(on_interrupt="suspend"), use)
asking = hf.linear("asking", first, probed, use)
asking_once = hf.linear("asking_once", first, probed.with_options(on_interrupt="suspend"), use)
failing = hf.linear("failing", first, make, last)


@hf.step
def counting(ctx: hf.Context, at: str) -> None:
    """Three parts, a checkpoint after each; the third waits for `go`."""
    for part in range(ctx.last_checkpoint or 0, 3):
        tell(at, ctx, "part", part)
        while part == 2 and not knob(at, "go"):
            ctx.sleep(0.01)
        ctx.checkpoint(part + 1)


@counting.revert
def uncounting(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "uncounting", ctx.last_checkpoint)


counted = hf.linear("counted", counting, last)
counted_apart = hf.linear("counted_apart", counting.with_options(isolation="process"), last)


@hf.step(retry=hf.Retry(attempts=2, backoff_s=0.0))
def twice(ctx: hf.Context, at: str) -> None:
    """Fails at its first attempt; at its second it waits for `go`."""
    tell(at, ctx, "twice", ctx.last_checkpoint)
    if ctx.attempt == 1 and not knob(at, "seen_failing"):
        open(os.path.join(at, "seen_failing"), "w").close()
        ctx.checkpoint("left by the first")
        raise ConnectionError("not yet")
    while not knob(at, "go"):
        ctx.sleep(0.01)


@twice.revert
def untwice(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "untwice", ctx.forward_key)


@hf.step
def fails_once(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "fails_once")
    if not knob(at, "failed"):
        open(os.path.join(at, "failed"), "w").close()
        raise ConnectionError("once")


keyed = hf.linear("keyed", twice, fails_once, retry=hf.Retry(attempts=2, backoff_s=0.0))


# --- processes ---------------------------------------------------------------------------------------------------


@hf.step(isolation="process")
def napping(ctx: hf.Context, at: str) -> None:
    """Cooperative, in a process of its own."""
    tell(at, ctx, "napping")
    ctx.sleep(3600)


@napping.revert
def unnapping(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "unnapping")


@hf.step(isolation="process", grace_s=0.2)
def hung(ctx: hf.Context, at: str) -> None:
    """Hangs in C with the interpreter's lock held: PyDLL, unlike CDLL, keeps it."""
    tell(at, ctx, "hung")
    ctypes.PyDLL(None).pause()


@hung.revert
def unhung(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "unhung")


@hf.step
def deaf(ctx: hf.Context, at: str) -> None:
    """A thread that hears nobody until `go`."""
    tell(at, ctx, "deaf")
    while not knob(at, "go"):
        threading.Event().wait(0.01)
    tell(at, ctx, "deaf ends")


@deaf.revert
def undeaf(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "undeaf")


@hf.step
async def awaiting(ctx: hf.AsyncContext, at: str) -> None:
    tell(at, ctx, "awaiting")
    await ctx.sleep(3600)


@awaiting.revert
def unawaiting(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "unawaiting")


@hf.step
def nap(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "nap")
    ctx.sleep(3600)


@nap.revert
def unnap(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "unnap")


in_thread = hf.linear("in_thread", first, nap, last)
in_loop = hf.linear("in_loop", first, awaiting, last)
in_process = hf.linear("in_process", first, napping, last)
in_c = hf.linear("in_c", first, hung, last)
# The first starts the server of processes, so that the time of the second is its own.
in_c_timed = hf.linear("in_c_timed", first.with_options(isolation="process"), hung.with_options(timeout_s=10), last)
unhearing = hf.linear("unhearing", first, deaf, last)
unhearing_timed = hf.linear("unhearing_timed", first, deaf.with_options(timeout_s=0.2, grace_s=0.1), last)
short = hf.linear("short", first, last)


# --- bad tasks ---------------------------------------------------------------------------------------------------


@hf.step
def deadly(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "deadly")
    if not knob(at, "mended"):
        os.kill(os.getpid(), signal.SIGKILL)


@hf.step(isolation="process")
def leaving(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "leaving")
    if not knob(at, "mended"):
        os._exit(3)


@leaving.revert
def unleaving(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "unleaving")


@hf.step
def deadly_undo_of(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "deadly_undo_of")


@deadly_undo_of.revert
def deadly_undo(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "deadly_undo")
    if not knob(at, "mended"):
        os.kill(os.getpid(), signal.SIGKILL)


@hf.step(provides="much")
def much(ctx: hf.Context, at: str) -> bytes:
    tell(at, ctx, "much")
    return bytes(200_000_000)


@much.revert
def unmuch(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "unmuch")


@hf.step
def flood(ctx: hf.Context, at: str) -> None:
    for number in range(20_000):
        ctx.progress(number / 20_000, f"number {number}")
    tell(at, ctx, "flooded")
    while not knob(at, "go"):
        ctx.sleep(0.01)


@hf.step
def quick(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "quick")


killing = hf.linear("killing", first, deadly, last)
leaving_flow = hf.linear("leaving_flow", first, leaving, last)
killing_back = hf.linear("killing_back", first, deadly_undo_of, last)
vast = hf.linear("vast", first, much, last)
vast_apart = hf.linear("vast_apart", first, much.with_options(isolation="process"), last)
flooding = hf.linear("flooding", first, flood, last)
innocent = hf.linear("innocent", quick)


# --- claims ------------------------------------------------------------------------------------------------------


@hf.step
def enter(ctx: hf.Context, at: str, number: int) -> None:
    tell(at, ctx, "enter", number)


@hf.step
def work(ctx: hf.Context, at: str, number: int) -> None:
    tell(at, ctx, "work", number)
    ctx.sleep(0.002)


@hf.step
def leave(ctx: hf.Context, at: str, number: int) -> None:
    tell(at, ctx, "leave", number)


claiming = hf.linear("claiming", enter, work, leave)


@hf.step
def effect(ctx: hf.Context, at: str, number: int) -> None:
    tell(at, ctx, "effect", number)


effects = hf.linear("effects", effect, effect.with_options(name="second"))


# --- frozen ------------------------------------------------------------------------------------------------------


@hf.step
def frozen(ctx: hf.Context, at: str) -> Any:
    """The first to come waits for `thaw`, whatever is asked of it, and then tries to write."""
    tell(at, ctx, "frozen")
    if not knob(at, "came"):
        open(os.path.join(at, "came"), "w").close()
        while not knob(at, "thaw"):
            threading.Event().wait(0.01)
        tell(at, ctx, "thawed", ctx.stopping)
        try:
            ctx.checkpoint("of the dead")
        except BaseException as error:
            tell(at, ctx, "refused", type(error).__name__)
            raise
    return None


freezing = hf.linear("freezing", first, frozen, last)


@hf.step(isolation="process")
def orphaning(ctx: hf.Context, at: str) -> None:
    """Leaves a process behind that holds what the step holds and is in no group of the worker's."""
    if not knob(at, "go"):
        ready, told = os.pipe()
        if os.fork() == 0:
            os.setsid()
            os.write(told, b"!")
            while not knob(at, "orphan_may_go") and os.path.isdir(at):
                threading.Event().wait(0.01)
            os._exit(0)
        os.read(ready, 1)
        tell(at, ctx, "orphaning")
        ctx.sleep(3600)


orphans = hf.linear("orphans", first, orphaning, last)


@hf.step
def hearing_stops(ctx: hf.Context, at: str) -> None:
    """Naps, and says why it was stopped; with `go` it ends."""
    tell(at, ctx, "naps")
    try:
        while not knob(at, "go"):
            ctx.sleep(0.01)
    except hf.Stopping as stop:
        tell(at, ctx, f"stopped: {stop.reason}")
        raise


stopping = hf.linear("stopping", first, hearing_stops, last)
