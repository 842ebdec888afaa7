"""Flows of every pattern whose steps tell a witness file what they do: one line, one write, before and after."""

from __future__ import annotations

import os
from typing import Any

import holdfast as hf


def tell(path: str, what: str, ctx: hf.Context) -> None:
    """`what task step key`: appended in one write, so a kill leaves the line out or whole."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, f"{what} {ctx.task_id} {ctx.step_id} {ctx.forward_key}\n".encode())
    finally:
        os.close(fd)


@hf.step
def work(ctx: hf.Context, witness: str, pause: float) -> None:
    tell(witness, "begin", ctx)
    ctx.sleep(pause)
    tell(witness, "end", ctx)


@work.revert
def unwork(ctx: hf.Context, witness: str, pause: float) -> None:
    tell(witness, "unbegin", ctx)
    ctx.sleep(pause / 2)
    tell(witness, "unend", ctx)


@hf.step
def item_work(ctx: hf.Context, witness: str, pause: float, item: int) -> int:
    tell(witness, "begin", ctx)
    ctx.sleep(pause)
    tell(witness, "end", ctx)
    return item


@item_work.revert
def un_item_work(ctx: hf.Context, witness: str) -> None:
    tell(witness, "unbegin", ctx)
    tell(witness, "unend", ctx)


@hf.step
def careful(ctx: hf.Context, witness: str, pause: float) -> None:
    """Leaves checkpoints and begins again where the last one was."""
    tell(witness, "begin", ctx)
    for part in range(int(ctx.last_checkpoint or 0), 3):
        ctx.sleep(pause / 3)
        ctx.checkpoint(part + 1)
    tell(witness, "end", ctx)


@careful.revert
def uncareful(ctx: hf.Context, witness: str) -> None:
    tell(witness, "unbegin", ctx)
    tell(witness, "unend", ctx)


@hf.step
def polled(ctx: hf.Context, witness: str, pause: float) -> Any:
    tell(witness, "begin", ctx)
    seen = int(ctx.last_checkpoint or 0) + 1
    if seen < 4:
        return hf.Again(pause, checkpoint=seen)
    tell(witness, "end", ctx)
    return None


@hf.step
def boom(ctx: hf.Context, witness: str) -> None:
    tell(witness, "begin", ctx)
    raise ConnectionError("it always fails")


@boom.revert
def unboom(ctx: hf.Context, witness: str) -> None:
    tell(witness, "unbegin", ctx)
    tell(witness, "unend", ctx)


@hf.step(retry=hf.Retry(attempts=3, backoff_s=0.02))
def flaky(ctx: hf.Context, witness: str) -> None:
    tell(witness, "begin", ctx)
    if ctx.attempt < 3:
        raise ConnectionError("not yet")
    tell(witness, "end", ctx)


@hf.step
async def awaited(ctx: hf.AsyncContext, witness: str, pause: float) -> None:
    tell(witness, "begin", ctx)  # type: ignore[arg-type]
    await ctx.sleep(pause)
    tell(witness, "end", ctx)  # type: ignore[arg-type]


@awaited.revert
async def unawaited(ctx: hf.AsyncContext, witness: str) -> None:
    tell(witness, "unbegin", ctx)  # type: ignore[arg-type]
    tell(witness, "unend", ctx)  # type: ignore[arg-type]


def named(*names: str) -> list[Any]:
    return [work.with_options(name=name) for name in names]


line = hf.linear("line", *named("a", "b", "c", "d"), polled)
fan = hf.linear("fan", *named("a"), hf.unordered("all", *named("b", "c", "d"), awaited), *named("e"))
lattice = hf.graph("lattice", *named("a", "b", "c", "d")).link("a", "b").link("a", "c").link("b", "d").link("c", "d")
mapped = hf.linear("mapped", hf.map("each", item_work, over="items", item="item"), *named("z"))
nested = hf.linear("nested", hf.linear("in", careful, hf.linear("in2", *named("a"), flaky)), *named("b"))
apart = hf.linear("apart", work.with_options(name="a", isolation="process"), *named("b"))
tried = hf.linear(
    "tried",
    *named("a"),
    hf.linear("again", *named("b"), boom, retry=hf.Retry(attempts=2, backoff_s=0.02)),
)
back_line = hf.linear("back_line", *named("a", "b"), careful, boom)
back_fan = hf.linear("back_fan", *named("a"), hf.unordered("all", *named("b", "c"), awaited), boom)
back_lattice = (
    hf.graph("back_lattice", *named("a", "b", "c"), boom).link("a", "b").link("a", "c").link("b", boom).link("c", boom)
)

FORWARD = (line, fan, lattice, mapped, nested, apart)
BACKWARD = (tried, back_line, back_fan, back_lattice)
