"""Steps that are coroutines: the same flow, the same undo. Where several run at once, the failure of one stops the
others at their next `await ctx.sleep`."""

from __future__ import annotations

import asyncio

import holdfast as hf


@hf.step(provides="image")
async def fetch_image(ctx: hf.AsyncContext) -> str:
    await ctx.sleep(0.01)
    return "debian-12"


@hf.step
async def copy_to_first(ctx: hf.AsyncContext, image: str) -> None:
    print(f"copy {image} to the first host")
    try:
        await ctx.sleep(3600)
    except hf.Stopping as stop:
        print(f"asked to stop: {stop.reason}")
        raise  # let it pass, so that the engine knows


@copy_to_first.revert
async def clean_first() -> None:
    print("clean the first host")


@hf.step
async def copy_to_second(ctx: hf.AsyncContext, image: str) -> None:
    await ctx.sleep(0.05)
    raise OSError(f"no room for {image} on the second host")


spread = hf.linear("spread", fetch_image, hf.unordered("copies", copy_to_first, copy_to_second))


async def main() -> None:
    outcome = await hf.run_async(spread)
    try:
        outcome.raise_for_state()
    except hf.TaskFailed as failure:
        print(failure)


if __name__ == "__main__":
    asyncio.run(main())
