"""`holdfast agent`: run steps on a host that has no access to the database. What it does: agent/loop.py."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated, Any

import typer

from holdfast.cli import exits, options
from holdfast.cli.options import FlowsOption, TokenOption, UrlOption
from holdfast.errors import UsageError


def agent(
    pool: Annotated[
        str, typer.Option("--pool", metavar="POOL", help="Run the steps that are for agents of this pool.")
    ],
    url: UrlOption = None,
    token: TokenOption = None,
    flows: FlowsOption = None,
    at_once: Annotated[int, typer.Option("--at-once", metavar="N", help="So many steps at once.", min=1)] = 8,
) -> int:
    """Run steps of a service's tasks on this host, which needs no database and no open port: those with
    `@hf.step(agent="POOL")`. Any number of agents may serve one pool.

    \b
    holdfast agent --url https://tasks.example.org --pool hv1
    holdfast agent --url http://127.0.0.1:8760 --pool hv1 --flows cloud.flows:make_flows

    SIGTERM or Ctrl-C: lease no more, ask the running steps to stop at a safe point, hand them back, leave. A second one
    leaves at once, and others go on once the leases have run out.
    """
    import asyncio

    from holdfast.settings import Settings

    settings = Settings.load(url=url, token=token)
    if settings.url is None:
        raise UsageError("where is the service? --url or HOLDFAST_URL")
    known = options.loaded(flows)
    return asyncio.run(_run(settings, pool, known, at_once))


async def _run(settings: Any, pool: str, flows: Any, at_once: int) -> int:
    import asyncio

    from holdfast.agent.loop import Agent
    from holdfast.agent.wire import Wire
    from holdfast.clock import SYSTEM
    from holdfast.service import logs

    made = Agent(
        Wire(settings.url, settings.token), pool=pool, flows=flows, at_once=at_once, clock=SYSTEM,
        grace_s=settings.grace_s,
    )  # fmt: skip
    logs.set_up(settings, worker=lambda: made.name)
    asked: list[int] = []

    def leave() -> None:
        asked.append(1)
        if len(asked) > 1:
            os.write(2, b"holdfast: left at once; other agents go on once the leases have run out\n")
            os._exit(exits.INTERRUPTED)
        print("draining: the running steps are asked to stop; once more leaves at once", file=sys.stderr)
        made.stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, leave)
    print(f"agent {made.name} runs the steps of pool {pool} from {settings.url}", file=sys.stderr, flush=True)
    await made.run()
    return exits.OK
