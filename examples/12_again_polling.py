"""A long wait that holds nothing: a step that returns `hf.Again` gives up its thread and is entered again later. The
wait is a row in the database, so it survives the process. Here a fake clock jumps over the twenty minutes."""

from __future__ import annotations

import holdfast as hf
from holdfast.testing.clock import FakeClock

clock = FakeClock(threads=3)  # who waits for it: the worker, and the threads of its heartbeat and of its lease
FIRMWARE_READY_AT = clock.time() + 1200


@hf.step
def start_update() -> None:
    print("the BMC writes its new firmware")


@hf.step(timeout_s=3600)  # for all looks together
def wait_until_ready(ctx: hf.Context) -> hf.Again | None:
    looks = (ctx.last_checkpoint or 0) + 1
    if clock.time() >= FIRMWARE_READY_AT:
        print(f"ready after {looks} looks")
        return None
    ctx.progress(looks / 10, f"look {looks}: not yet")
    return hf.Again(after_s=180, checkpoint=looks)


update = hf.linear("update", start_update, wait_until_ready)

if __name__ == "__main__":
    began = clock.time()
    with hf.open("sqlite:///:memory:", clock=clock, poll_s=60) as hold:
        task = hold.submit(update)
        hold.work(until_idle=True, runtime="inline")
        print(task.state, f"in {(clock.time() - began) / 60:.0f} minutes that nobody has waited")
        print([step.attempt for step in task.steps], "attempts")
