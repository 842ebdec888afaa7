"""`holdfast run`: submit a flow, do it, show it. Following it: follow.py."""

from __future__ import annotations

from typing import Annotated

import typer

from holdfast.cli import options
from holdfast.cli.options import (
    ClaimOption,
    DatabaseOption,
    OutputOption,
    PriorityOption,
    RuntimeOption,
    StartAfterOption,
    Stay,
    TagOption,
    TimeoutOption,
    WaitOption,
)


def run(
    flow: Annotated[str, typer.Argument(metavar="MODULE_OR_FILE:FLOW", help="The flow; or a function, as one step.")],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=TEXT|KEY:=JSON|KEY:secret=@-", help="Its inputs.", show_default=False),
    ] = None,
    database: DatabaseOption = None,
    tag: TagOption = None,
    claim: ClaimOption = None,
    pool: Annotated[
        str | None, typer.Option("--pool", metavar="POOL", help="Whose workers may do it, with --no-wait.")
    ] = None,
    priority: PriorityOption = 0,
    start_after: StartAfterOption = None,
    runtime: RuntimeOption = "threads",
    wait: WaitOption = True,
    timeout: TimeoutOption = None,
    output: OutputOption = "table",
) -> int:
    """Submit a flow, do it, and show what happens until it has ended or rests for a person.

    \b
    holdfast run flows.py:build disk=vda size:=20
    holdfast run cloud.flows:build network=public --tag order-17 --claim network/public
    holdfast run flows.py:build --no-wait        only ask for it: a `holdfast worker` does it
    holdfast run flows.py:build --no-wait --pool gpu --priority 5 --start-after +2h
    holdfast run flows.py:login user=ada password:secret=@- < password.txt

    After a crash or a Ctrl-C the same line with the same --tag goes on where it was; if another process is at it,
    it looks on. Ctrl-C suspends the task; a second one leaves at once, and nothing is lost either.

    A secret is read where nobody sees it (password:secret=@-, =@FILE, =env:VARIABLE), kept encrypted and never shown.
    """
    from holdfast.cli.near import Near, owner_lives
    from holdfast.cli.task import stayed
    from holdfast.flow.registry import load

    given = options.inputs(inputs or ())
    made = load(flow)
    with options.opened(database, create=True) as hold:
        task = hold.submit(
            made, given, tag=tag, claims=options.claims(claim or ()), pool=pool, priority=priority,
            start_after=options.moment(start_after, hold.clock.time()),
        )  # fmt: skip
        state = task.state
        held = state == "SUSPENDED" and task.reason in ("asked", "definition_changed")
        if task.replayed and (held or (state == "SUSPENDING" and not owner_lives(hold, task.id))):
            task.resume()  # whoever types the same line wants it to go on
        known = "was accepted before and is" if task.replayed else "is"
        hello = f"task {task.id} {known} {state}" + (f", tag {tag}" if tag else "")
        here = Near(hold, options.Where(database=database))
        return stayed(here, task, hello, Stay(wait, timeout, runtime), output)
