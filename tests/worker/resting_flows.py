"""Flows that come to rest, each for one reason, in each direction; once `mended` is there, what made them rest is
over."""

from __future__ import annotations

import os
import threading

import holdfast as hf
from tests.worker.flows import first, last
from tests.worker.house import knob, tell


def bad(ctx: hf.Context, at: str) -> str:
    tell(at, ctx, "it")
    if not knob(at, "mended"):
        raise ConnectionError("no carrier")
    return "it"


def dies(ctx: hf.Context, at: str) -> str:
    tell(at, ctx, "it")
    if not knob(at, "mended"):
        os._exit(3)
    return "it"


def endless(ctx: hf.Context, at: str) -> str:
    tell(at, ctx, "it")
    while not knob(at, "mended"):
        threading.Event().wait(0.01)
    return "it"


def fine(ctx: hf.Context, at: str) -> str:
    tell(at, ctx, "it")
    return "it"


def unit(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "unit")


def unit_bad(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "unit")
    if not knob(at, "mended"):
        raise ConnectionError("no carrier")


def unit_dies(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "unit")
    if not knob(at, "mended"):
        os._exit(3)


def unit_endless(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "unit")
    while not knob(at, "mended"):
        threading.Event().wait(0.01)


@hf.step(provides="seen")
def see(ctx: hf.Context, at: str, it: str = "nothing") -> str:
    tell(at, ctx, f"see {it}")
    return it


@hf.step(pivot=True)
def pivot(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "pivot")


def it(execute: object, undo: object = unit, undo_timeout_s: float | None = None, **options: object) -> hf.Step:
    made = hf.step(execute, name="it", provides="it", **options)  # type: ignore[call-overload]
    made.revert(undo, timeout_s=undo_timeout_s)
    return made  # type: ignore[no-any-return]


on_failure = hf.linear("on_failure", first, it(bad), see, on_failure="suspend")
outcome_unknown = hf.linear("outcome_unknown", first, it(dies, isolation="process", on_interrupt="suspend"), see)
poison = hf.linear("poison", first, it(dies, isolation="process"), see)
step_unresponsive = hf.linear("step_unresponsive", first, it(endless, timeout_s=0.2, grace_s=0.1), see)
past_pivot = hf.linear("past_pivot", first, pivot, it(bad), see)


@hf.step
def see_again(ctx: hf.Context, at: str, it: str) -> None:
    tell(at, ctx, f"see {it}")


@see_again.revert
def unsee(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "unsee")


def unit_fails(ctx: hf.Context, at: str) -> None:
    tell(at, ctx, "unit")
    if knob(at, "undo_fails") and not knob(at, "mended"):
        raise ConnectionError("no carrier")


kept = hf.linear("kept", first, it(fine, unit_fails), see_again, last, on_failure="keep")
revert_failed = hf.linear("revert_failed", first, it(fine, unit_bad), last)
poison_back = hf.linear("poison_back", first, it(fine, unit_dies, isolation="process"), last)
unresponsive_back = hf.linear("unresponsive_back", first, it(fine, unit_endless, 0.2, grace_s=0.1), last)
