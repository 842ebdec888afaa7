"""The flows of a cluster under chaos. Each step says when user code begins and ends, and writes to its resources.

Theory: every entry of a step gives a value that no other entry gives. So whoever is given one tells which entry was
recorded, and a step that ran twice but was recorded twice too would be seen by whoever comes after it.
"""

from __future__ import annotations

import os
import secrets
from typing import Any, Final

import holdfast as hf
from chaos.cluster import FIELD
from chaos.witness import POOL, RUNNER, Guard, here

#: A resource and how it is claimed: ["r1", "exclusive"].
Claims = list[list[str]]
PIECES: Final = 4


class Entry:
    """One entry into user code. `way`: do, undo. `given`: what the step before gave, or this step when it is undone."""

    def __init__(self, ctx: Any, number: int, way: str, claims: Claims, given: Any) -> None:
        heard = here()
        assert heard is not None, "these flows are done by a cluster"
        self._witness, self._who = heard
        self._ctx = ctx
        self._exclusive = [name for name, mode in claims if mode == "exclusive"]
        self.id = secrets.token_hex(6)
        self.say(
            "begin", task=ctx.task_id, step=number, way=way, attempt=ctx.attempt, key=ctx.idempotency_key, given=given,
            claims=claims, pool=os.environ.get(POOL),
        )  # fmt: skip

    def say(self, what: str, **more: Any) -> None:
        self._witness.say(self._who, what, entry=self.id, **more)

    def write(self) -> None:
        """To every resource that is its alone, under its fencing token."""
        for name in self._exclusive:
            Guard(self._witness).write(self._who, name, self._ctx.task_id, self._ctx.fence, entry=self.id)

    def __enter__(self) -> Entry:
        self.write()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.say("end", how="returned" if kind is None else kind.__name__)


def stand(ctx: hf.Context, number: int, way: str, claims: Claims, pause: float, given: Any) -> str:
    with Entry(ctx, number, way, claims, given) as entry:
        for place in range(PIECES):
            ctx.sleep(pause / PIECES)
            ctx.progress((place + 1) / PIECES)
            entry.write()
        return entry.id


async def drift(ctx: hf.AsyncContext, number: int, way: str, claims: Claims, pause: float, given: Any) -> str:
    with Entry(ctx, number, way, claims, given) as entry:
        for _ in range(PIECES):
            await ctx.sleep(pause / PIECES)
            entry.write()
        return entry.id


# Functions of the module, each: what a suspect task does runs in a process of its own, which has to find them.


@hf.step(name="stride1", provides="got1")
def stride1(ctx: hf.Context, claims: Claims, pause: float) -> str:
    return stand(ctx, 1, "do", claims, pause, "")


@stride1.revert
def unstride1(ctx: hf.Context, claims: Claims, pause: float) -> None:
    stand(ctx, 1, "undo", claims, pause / 2, None)


@hf.step(name="stride2", provides="got2", bind={"before": "got1"})
def stride2(ctx: hf.Context, claims: Claims, pause: float, before: str) -> str:
    return stand(ctx, 2, "do", claims, pause, before)


@stride2.revert
def unstride2(ctx: hf.Context, claims: Claims, pause: float) -> None:
    stand(ctx, 2, "undo", claims, pause / 2, None)


@hf.step(name="stride3", provides="got3", bind={"before": "got2"})
def stride3(ctx: hf.Context, claims: Claims, pause: float, before: str) -> str:
    return stand(ctx, 3, "do", claims, pause, before)


@stride3.revert
def unstride3(ctx: hf.Context, claims: Claims, pause: float) -> None:
    stand(ctx, 3, "undo", claims, pause / 2, None)


@hf.step(name="stride1", provides="got1")
async def glide1(ctx: hf.AsyncContext, claims: Claims, pause: float) -> str:
    return await drift(ctx, 1, "do", claims, pause, "")


@glide1.revert
def unglide1(ctx: hf.Context, claims: Claims, pause: float) -> None:
    stand(ctx, 1, "undo", claims, pause / 2, None)


@hf.step(name="stride2", provides="got2", bind={"before": "got1"})
async def glide2(ctx: hf.AsyncContext, claims: Claims, pause: float, before: str) -> str:
    return await drift(ctx, 2, "do", claims, pause, before)


@glide2.revert
def unglide2(ctx: hf.Context, claims: Claims, pause: float) -> None:
    stand(ctx, 2, "undo", claims, pause / 2, None)


@hf.step(name="stride3", provides="got3", bind={"before": "got2"})
async def glide3(ctx: hf.AsyncContext, claims: Claims, pause: float, before: str) -> str:
    return await drift(ctx, 3, "do", claims, pause, before)


@glide3.revert
def unglide3(ctx: hf.Context, claims: Claims, pause: float) -> None:
    stand(ctx, 3, "undo", claims, pause / 2, None)


@hf.step(name="stride4", bind={"before": "got3"})
def stumble(ctx: hf.Context, claims: Claims, pause: float, before: str) -> None:
    with Entry(ctx, 4, "do", claims, before):
        raise RuntimeError("a stone")


@hf.step(name="wait")
def doze(ctx: hf.Context, pause: float) -> Any:
    """Polls something three times, and holds nothing between."""
    polled = ctx.last_checkpoint or 0
    return hf.Again(pause, checkpoint=polled + 1) if polled < 2 else None


@hf.step(name="wait")
def await_go(ctx: hf.Context) -> Any:
    return None if ctx.event is not None else hf.WaitFor("go")


@hf.step(name="stride1", provides="got1")
def dash(ctx: hf.Context, claims: Claims) -> str:
    return stand(ctx, 1, "do", claims, 0.0, "")


@dash.revert
def undash(ctx: hf.Context, claims: Claims) -> None:
    stand(ctx, 1, "undo", claims, 0.0, None)


@hf.step(name="stride1", provides="got1")
def explode(ctx: hf.Context, claims: Claims) -> str:
    """Kills who does it, always."""
    with Entry(ctx, 1, "do", claims, "") as entry:
        alone = os.getppid() != int(os.environ[RUNNER])  # a process of the step's own: the worker lives on
        entry.say("gone" if alone else "killed")
        os.kill(os.getpid(), 9)
        return entry.id


_strides = (stride1, stride2, stride3)
MARCH = hf.linear("march", *_strides)
GLIDE = hf.linear("glide", glide1, glide2, glide3)
FORGE = hf.linear("forge", *(each.with_options(isolation="process", timeout_s=60) for each in _strides))
ERRAND = hf.linear("errand", *(each.with_options(agent=FIELD, timeout_s=60) for each in _strides))
RETREAT = hf.linear("retreat", *_strides, stumble)
DOZE = hf.linear("doze", stride1, doze, stride2)
LINGER = hf.linear("linger", stride1, await_go, stride2)
DASH = hf.linear("dash", dash)
EXPLODE = hf.linear("explode", explode)
FLOWS = [MARCH, GLIDE, FORGE, ERRAND, RETREAT, DOZE, LINGER, DASH, EXPLODE]
