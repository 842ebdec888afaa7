"""Flows that the services of these tests offer. Found again by `holdfast serve --flows tests.service.flows:FLOWS`."""

from __future__ import annotations

import os
from pathlib import Path

import holdfast as hf

#: Where steps say what they did: one line each, by their own hand.
WITNESS = "HOLDFAST_TEST_WITNESS"


def witness(word: str) -> None:
    place = os.environ.get(WITNESS)
    if place:
        with Path(place).open("a", encoding="utf-8") as file:
            file.write(f"{word}\n")


@hf.step(provides="sum")
def add(number: int = 1) -> int:
    return number + 1


@hf.step(provides="text")
def spell(letters: int) -> str:
    return "x" * letters


@hf.step
def fail(message: str = "no such luck") -> None:
    raise RuntimeError(message)


@hf.step
def wait_for_it(ctx: hf.Context) -> hf.WaitFor | None:
    """Waits for the event `go`: nothing runs, no thread is held."""
    return None if ctx.event is not None else hf.WaitFor("go")


@hf.step(timeout_s=300)
def hold_on(ctx: hf.Context) -> None:
    """Runs until it is asked to stop."""
    while True:
        ctx.sleep(60)


@hf.step
def mark() -> None:
    witness("mark")


@mark.revert
def unmark() -> None:
    witness("unmark")


QUICK = hf.linear("quick", add)
FAILING = hf.linear("failing", mark, fail)
WAITING = hf.linear("waiting", mark, wait_for_it)
HANGING = hf.linear("hanging", mark, hold_on)
UNDOABLE = hf.linear("undoable", mark)
SPELLING = hf.linear("spelling", spell)

FLOWS = [QUICK, FAILING, WAITING, HANGING, UNDOABLE, SPELLING]
