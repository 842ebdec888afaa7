"""`holdfast worker`: do whatever tasks come, until told to leave; and who does, in `holdfast worker list`. The loop:
worker/loop.py."""

from __future__ import annotations

import sys
import threading
from typing import Annotated, Any

import typer

from holdfast.cli import exits, options, place, show
from holdfast.cli.leaving import Leaving
from holdfast.cli.options import DatabaseOption, FlowsOption, OutputOption, RuntimeOption, Where, flat

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)


@app.callback()
def worker(
    context: typer.Context,
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
    holdfast worker list                    who is there, and what each does

    SIGTERM or Ctrl-C: take no more, ask the running steps to stop at a safe point, hand the tasks over, leave. A
    second one leaves at once, and nothing that was recorded is lost.
    """
    if context.invoked_subcommand is not None:
        return exits.OK
    from holdfast.service import logs

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
            finally:
                leaving.wake()

        leaving = Leaving()
        thread = threading.Thread(target=work, name="holdfast-worker", daemon=True)
        thread.start()
        print(
            f"worker {made.lease.id[:8]} takes the tasks of pool {hold.settings.pool} in {hold.shown}", file=sys.stderr
        )
        leaving.wait()
        if leaving.asked:
            print("draining: the running steps are asked to stop; once more leaves at once", file=sys.stderr)
        made.stop()
        thread.join()
        made.close()
    if error:
        raise error[0]
    return exits.OK


@app.command(name="list")
@flat
def list_(
    where: Where,
    pool: Annotated[str | None, typer.Option("--pool", metavar="POOL", help="Only those of this pool.")] = None,
    output: OutputOption = "table",
) -> int:
    """List the workers that are not known to be dead: since when nothing was heard of them, and what they do."""
    with place.at(where) as here:
        found = here.workers(pool)
    if output == "json":
        show.print_json(found)
        return exits.OK
    rows = []
    for each in found:
        does = [
            f"{task['task']} {task['uuid']} ({task['state']}, {task['running_s']:.0f} s)" for task in each["tasks"][:3]
        ]
        more = len(each["tasks"]) - len(does)
        rows.append(
            (each["id"][:8], each["pool"], each["state"], f"{each['heartbeat_age_s']:.1f} of {each['lease_s']:g} s",
             f"{each['pid']} on {each['host']}", each["version"] or "", show.moment(each["started_at"]),
             "; ".join(does) + (f" and {more} more" if more else ""))
        )  # fmt: skip
    head = ("WORKER", "POOL", "STATE", "HEARD OF", "PROCESS", "VERSION", "SINCE (UTC)", "DOES")
    show.print_table(head, rows)
    return exits.OK
