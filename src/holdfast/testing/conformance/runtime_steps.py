"""The steps that the runtime suite runs. In a module of their own, because other processes must find them."""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from holdfast.errors import Stopping
from holdfast.flow.patterns import unordered
from holdfast.flow.step import step
from holdfast.runtime.context import AsyncContext, Context

#: Where a process finds these steps.
REFERENCE = f"{__name__}:flow"

_seen: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="nothing")


def returns(value: Any) -> Any:
    return value


def raises() -> None:
    raise ConnectionError("no route to the switch")


def raises_from() -> None:
    try:
        raises()
    except ConnectionError as error:
        raise LookupError("no port") from error


def exits() -> None:
    sys.exit("the step left")


def interrupts() -> None:
    raise KeyboardInterrupt


def stops_itself() -> None:
    raise Stopping("suspend")


def facts(ctx: Context) -> list[Any]:
    return [
        ctx.task_id,
        ctx.step_id,
        ctx.attempt,
        ctx.idempotency_key,
        ctx.forward_key,
        ctx.fence,
        ctx.last_checkpoint,
        ctx.stopping,
    ]


def naps(ctx: Context) -> str:
    ctx.sleep(0.001)
    return "rested"


def sleeps(ctx: Context) -> str:
    ctx.progress(0.0, "here")
    ctx.sleep(600.0)
    return "overslept"


def sleeps_twice(ctx: Context) -> str:
    ctx.progress(0.0, "here")
    try:
        ctx.sleep(600.0)
    except Stopping as stop:
        first = stop.reason
    try:
        ctx.sleep(600.0)
    except Stopping as stop:
        return f"{first} {stop.reason}"
    return "overslept"


def looks(ctx: Context) -> str | None:
    ctx.progress(0.0, "here")
    try:
        ctx.sleep(600.0)
    except Stopping:
        pass
    return ctx.stopping


def checkpoints(ctx: Context) -> list[Any]:
    seen = [ctx.last_checkpoint]
    for value in ("one", {"two": (2, b"2")}, 3):
        ctx.checkpoint(value)
        seen.append(ctx.last_checkpoint)
    return seen


def checkpoints_when_stopped(ctx: Context) -> None:
    ctx.progress(0.0, "here")
    try:
        ctx.sleep(600.0)
    except Stopping:
        pass
    ctx.checkpoint("the last word")


def reports(ctx: Context) -> None:
    ctx.progress(0.25, "a quarter")
    ctx.progress(7.0)


def sets_variable() -> str:
    before = _seen.get()
    _seen.set("something")
    return before


def hangs_in_c(ctx: Context) -> None:
    """Hang with the interpreter's lock held, as a broken extension does: PyDLL, unlike CDLL, keeps it."""
    ctx.progress(0.0, str(os.getpid()))
    ctypes.PyDLL(None).pause()


def leaves(code: int) -> None:
    os._exit(code)


def crashes() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def ignores(ctx: Context) -> str:
    """Go on whatever is asked, until the second checkpoint has been taken."""
    ctx.progress(0.0, "here")
    for value in (1, 2):
        try:
            ctx.checkpoint(value)
        except Stopping:
            pass
    return "went on"


async def a_returns(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


async def a_raises() -> None:
    raises()


async def a_raises_from() -> None:
    raises_from()


async def a_exits() -> None:
    exits()


async def a_interrupts() -> None:
    interrupts()


async def a_stops_itself() -> None:
    raise Stopping("suspend")


async def a_facts(ctx: AsyncContext) -> list[Any]:
    return [
        ctx.task_id,
        ctx.step_id,
        ctx.attempt,
        ctx.idempotency_key,
        ctx.forward_key,
        ctx.fence,
        ctx.last_checkpoint,
        ctx.stopping,
    ]


async def a_naps(ctx: AsyncContext) -> str:
    await ctx.sleep(0.001)
    return "rested"


async def a_sleeps(ctx: AsyncContext) -> str:
    ctx.progress(0.0, "here")
    await ctx.sleep(600.0)
    return "overslept"


async def a_sleeps_twice(ctx: AsyncContext) -> str:
    ctx.progress(0.0, "here")
    try:
        await ctx.sleep(600.0)
    except Stopping as stop:
        first = stop.reason
    try:
        await ctx.sleep(600.0)
    except Stopping as stop:
        return f"{first} {stop.reason}"
    return "overslept"


async def a_looks(ctx: AsyncContext) -> str | None:
    ctx.progress(0.0, "here")
    try:
        await ctx.sleep(600.0)
    except Stopping:
        pass
    return ctx.stopping


async def a_checkpoints(ctx: AsyncContext) -> list[Any]:
    seen = [ctx.last_checkpoint]
    for value in ("one", {"two": (2, b"2")}, 3):
        await ctx.checkpoint(value)
        seen.append(ctx.last_checkpoint)
    return seen


async def a_checkpoints_when_stopped(ctx: AsyncContext) -> None:
    ctx.progress(0.0, "here")
    try:
        await ctx.sleep(600.0)
    except Stopping:
        pass
    await ctx.checkpoint("the last word")


async def a_reports(ctx: AsyncContext) -> None:
    ctx.progress(0.25, "a quarter")
    ctx.progress(7.0)


async def a_sets_variable() -> str:
    return sets_variable()


async def a_hangs(ctx: AsyncContext) -> None:
    ctx.progress(0.0, "here")
    await asyncio.Event().wait()


async def a_swallows(ctx: AsyncContext) -> str:
    """Swallow the cancellation, and go on."""
    ctx.progress(0.0, "here")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        pass
    await ctx.checkpoint("still here")
    return "went on"


ALL: tuple[Callable[..., Any], ...] = (
    returns, raises, raises_from, exits, interrupts, stops_itself, facts, naps, sleeps, sleeps_twice, looks,
    checkpoints, checkpoints_when_stopped, reports, sets_variable, hangs_in_c, leaves, crashes, ignores,
    a_returns, a_raises, a_raises_from, a_exits, a_interrupts, a_stops_itself, a_facts, a_naps, a_sleeps,
    a_sleeps_twice, a_looks, a_checkpoints, a_checkpoints_when_stopped, a_reports, a_sets_variable, a_hangs,
    a_swallows,
)  # fmt: skip

flow = unordered("conformance", *(step(function) for function in ALL))
