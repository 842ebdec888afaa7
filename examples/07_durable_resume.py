"""A flow that survives `kill -9`: the worker's process dies in the middle of a step, another goes on. What was done is
not done again; the step that was in flight is entered again, with its checkpoint and the same idempotency key."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import holdfast as hf


@hf.step(provides="image")
def fetch() -> str:
    print("fetch the image", flush=True)
    return "debian-12"


@hf.step
def write_blocks(ctx: hf.Context, image: str, die_at: int) -> None:
    start = ctx.last_checkpoint or 0
    print(f"write {image} from block {start}", flush=True)
    for block in range(start, 6):
        if block == die_at and start == 0:
            os.kill(os.getpid(), signal.SIGKILL)  # nothing is cleaned up, nothing is said
        ctx.checkpoint(block + 1)  # durable when it returns


@hf.step
def boot(image: str) -> None:
    print(f"boot {image}", flush=True)


install = hf.linear("install", fetch, write_blocks, boot)

if __name__ == "__main__":
    if len(sys.argv) == 2:  # the worker that will die
        with hf.open(sys.argv[1]) as hold:
            hold.work(until_idle=True)
    else:
        with tempfile.TemporaryDirectory() as folder:
            url = f"sqlite:///{Path(folder) / 'tasks.db'}"
            with hf.open(url) as hold:
                task = hold.submit(install, {"die_at": 4})
                worker = subprocess.run([sys.executable, __file__, url])
                print("the worker was ended by", signal.Signals(-worker.returncode).name, flush=True)
                hold.work(until_idle=True)
                print(task.state)
