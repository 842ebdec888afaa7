"""Heavy steps on a Dask cluster, here one of this machine, whose workers are processes. A step there tells how far it
is, keeps checkpoints, and can be stopped; a worker that dies is the death of the steps it had, and they go on by their
own rules. It needs `pip install 'holdfast[dask]'`."""

from __future__ import annotations

import logging
import os
import signal

import holdfast as hf


@hf.step(provides="total")
def add_up(ctx: hf.Context, upto: int) -> int:
    done, total = ctx.last_checkpoint or (0, 0)
    for number in range(done + 1, upto + 1):
        total += number
        if number % 100 == 0:
            ctx.progress(number / upto, f"{number} of {upto}")
            ctx.checkpoint((number, total))
        if number == 250 and done == 0:
            os.kill(os.getpid(), signal.SIGKILL)  # the worker of the cluster dies
    return total


@hf.step
def wait_for_long(ctx: hf.Context) -> None:
    ctx.sleep(300)


def main() -> None:
    from distributed import Client, LocalCluster

    quiet = logging.CRITICAL + 1
    logging.getLogger("asyncio").setLevel(quiet)  # of connections that end while a busy machine opens them
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=quiet) as cluster,
        Client(cluster, set_as_default=False) as client,
        hf.open("sqlite:///:memory:") as hold,
        hold.working(client.get_executor()),
    ):
        task = hold.submit(add_up, {"upto": 1000}).wait(timeout_s=60)
        print(task.state, task.results, [line for line in task.trace if "checkpoint" not in line])
        waiting = hold.submit(wait_for_long)
        while not waiting.steps:
            hold.store.wait(hold.store.changes(), 1.0)
        print(waiting.cancel().wait(timeout_s=60).state)


if __name__ == "__main__":
    main()
