"""Verbs reach running code: `ctx.sleep` ends at once. `suspend` holds the task, `resume` enters the step again where
its checkpoint says, `cancel` undoes what was done, and a task that has ended is rolled back by a new task."""

from __future__ import annotations

import threading

import holdfast as hf

sleeping = threading.Event()


@hf.step(provides="lease")
def lease_address() -> str:
    print("lease an address")
    return "192.0.2.7"


@lease_address.revert
def give_back(lease: str | None = None) -> None:
    print(f"give {lease} back")


@hf.step
def announce(ctx: hf.Context, lease: str, patience_s: float) -> None:
    print(f"announce {lease}, entry {ctx.last_checkpoint or 1}")
    ctx.checkpoint((ctx.last_checkpoint or 1) + 1)
    sleeping.set()
    ctx.sleep(patience_s)


connect = hf.linear("connect", lease_address, announce)

if __name__ == "__main__":
    with hf.open("sqlite:///:memory:") as hold, hold.working():
        task = hold.submit(connect, {"patience_s": 3600})
        sleeping.wait()
        sleeping.clear()
        task.suspend().wait()
        print("it is", task.state, "because", task.reason)

        task.resume()
        sleeping.wait()
        task.cancel().wait()
        print("it is", task.state, "and its verbs are", task.view()["supported_verbs"])

        done = hold.submit(connect, {"patience_s": 0}).wait()
        undoing = done.rollback().wait()
        print("the task is", done.state, "and its rollback", undoing.state)
