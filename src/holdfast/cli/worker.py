"""`holdfast worker`: do whatever tasks come, until told to leave. The loop: worker/loop.py."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import Annotated, Any

import typer

from holdfast.cli import exits, options
from holdfast.cli.options import DatabaseOption, FlowsOption, RuntimeOption

LISTEN_S = 0.2  # between two looks at whether somebody has asked this process to leave


def worker(
    database: DatabaseOption = None,
    flows: FlowsOption = None,
    pool: Annotated[str | None, typer.Option("--pool", metavar="POOL", help="Take the tasks of this pool.")] = None,
    runtime: RuntimeOption = "threads",
    until_idle: Annotated[bool, typer.Option("--until-idle", help="Leave when there is nothing left to do.")] = False,
) -> int:
    """Do the tasks of a database as they come. Any number of workers may share one.

    \b
    holdfast worker --database sqlite:///tasks.db
    holdfast worker --flows cloud.flows:make_flows --pool hypervisor-7

    SIGTERM or Ctrl-C: take no more, ask the running steps to stop at a safe point, hand the tasks over, leave. A
    second one leaves at once, and nothing that was recorded is lost.
    """
    from holdfast.service import logs

    asked: list[int] = []

    def leave(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        if len(asked) > 1:
            os.write(2, b"holdfast: left at once; other workers go on with the tasks\n")
            os._exit(exits.INTERRUPTED)

    settings: dict[str, Any] = {} if pool is None else {"pool": pool}
    with options.opened(database, create=True, flows=flows, kinds=True, **settings) as hold:
        made = hold.worker(runtime)
        logs.set_up(hold.settings, worker=lambda: made.lease.id)
        error: list[BaseException] = []

        def work() -> None:
            try:
                made.run(made.is_idle if until_idle else None)
            except BaseException as raised:
                error.append(raised)

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, leave)
        thread = threading.Thread(target=work, name="holdfast-worker", daemon=True)
        thread.start()
        print(
            f"worker {made.lease.id[:8]} takes the tasks of pool {hold.settings.pool} in {hold.shown}", file=sys.stderr
        )
        while thread.is_alive() and not asked:
            thread.join(LISTEN_S)  # not an event: what a signal interrupts may hold its lock
        if asked:
            print("draining: the running steps are asked to stop; once more leaves at once", file=sys.stderr)
        made.stop()
        thread.join()
        made.close()
    if error:
        raise error[0]
    return exits.OK
