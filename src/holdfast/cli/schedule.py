"""`holdfast schedule …`: what is to be asked for again and again, on a database or on a service.

What a schedule is: tasks/schedules.py. Where schedules are: place.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import typer

from holdfast.cli import exits, options, place, show
from holdfast.cli.options import ClaimOption, FlowsOption, OutputOption, PriorityOption, Where, flat
from holdfast.cli.place import Wanted

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, epilog=exits.LEGEND.replace("\n", " "))

ScheduleArgument = Annotated[str, typer.Argument(metavar="SCHEDULE", help="Its name, or its id.")]


@app.callback()
def about() -> None:
    """Have tasks asked for at the moments of a cron expression, by whichever worker looks first.

    \b
    holdfast schedule add nightly "30 2 * * *" flows.py:backup disk=vda --timezone Europe/Berlin
    holdfast schedule add sundays "0 4 * * SUN" reboot --on server/web-1
    holdfast schedule list
    holdfast schedule pause nightly

    A moment makes one task, however many workers there are. Workers have to live at the moment, or later: then the
    schedule catches up as it was told.
    """


@app.command()
@flat
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called, once in a project.")],
    cron: Annotated[
        str, typer.Argument(metavar="CRON", help="Minute, hour, day of the month, month, day of the week: one word.")
    ],
    flow: Annotated[
        str,
        typer.Argument(
            metavar="FLOW", help="A flow by its name; on a database, MODULE_OR_FILE:FLOW too; or an operation."
        ),
    ],
    where: Where,
    inputs: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=TEXT|KEY:=JSON", help="Its inputs.", show_default=False)
    ] = None,
    on: Annotated[
        str | None, typer.Option("--on", metavar="KIND/ID", help="The resource, for an operation of its kind.")
    ] = None,
    timezone: Annotated[
        str, typer.Option("--timezone", metavar="ZONE", help="By whose clock, as Europe/Berlin.")
    ] = "UTC",
    catch_up: Annotated[
        Literal["one", "all", "none"],
        typer.Option("--catch-up", metavar="one|all|none", help="Of moments that passed while no worker lived."),
    ] = "one",
    overlap: Annotated[
        Literal["skip", "queue"],
        typer.Option(
            "--overlap", metavar="skip|queue", help="A moment at which its last task has not ended: pass over, or wait."
        ),
    ] = "skip",
    claim: ClaimOption = None,
    priority: PriorityOption = 0,
    flows: FlowsOption = None,
    output: OutputOption = "table",
) -> int:
    """Add a schedule. The same again is the same schedule; another of that name is refused: remove it first.

    \b
    holdfast schedule add nightly "30 2 * * *" flows.py:backup disk=vda --timezone Europe/Berlin
    holdfast schedule add sundays "0 4 * * SUN" reboot type=SOFT --on server/web-1 --url http://127.0.0.1:8760
    """
    wanted = Wanted(
        name, cron, flow, options.inputs(inputs or ()), timezone, catch_up, overlap, on, options.claims(claim or ()),
        priority,
    )  # fmt: skip
    with place.at(where, flows=flows, kinds=on is not None) as here:
        _print(here.add_schedule(wanted), output)
    return exits.OK


@app.command(name="list")
@flat
def list_(where: Where, output: OutputOption = "table") -> int:
    """List the schedules, the oldest first."""
    with place.at(where) as here:
        found = here.schedules()
    if output == "json":
        show.print_json(found)
        return exits.OK
    rows = [
        (each["name"], each["cron"], each["timezone"], each["task"], each["state"], show.moment(each["next_at"]),
         each["firings"][0]["outcome"] if each["firings"] else "")
        for each in found
    ]  # fmt: skip
    show.print_table(("NAME", "CRON", "ZONE", "TASK", "STATE", "NEXT (UTC)", "LAST"), rows)
    return exits.OK


@app.command(name="show")
@flat
def show_(schedule: ScheduleArgument, where: Where, output: OutputOption = "table") -> int:
    """Show one: what it asks for, when next, and what became of its last moments."""
    with place.at(where) as here:
        _print(here.schedule(schedule), output)
    return exits.OK


@app.command()
@flat
def pause(schedule: ScheduleArgument, where: Where, output: OutputOption = "table") -> int:
    """Ask for nothing until it is resumed. Its tasks go on."""
    return _set(schedule, "pause", where, output)


@app.command()
@flat
def resume(schedule: ScheduleArgument, where: Where, output: OutputOption = "table") -> int:
    """Go on with its next moment. Those of the pause are not caught up with."""
    return _set(schedule, "resume", where, output)


@app.command()
@flat
def remove(schedule: ScheduleArgument, where: Where, output: OutputOption = "table") -> int:
    """Ask for nothing more. Its tasks go on."""
    return _set(schedule, "remove", where, output)


def _set(schedule: str, verb: str, where: Where, output: str) -> int:
    with place.at(where) as here:
        found = here.set_schedule(schedule, verb)
    if found is not None:
        _print(found, output)
    elif output == "json":
        show.print_json({"removed": schedule})
    else:
        print(f"schedule {schedule} is removed")
    return exits.OK


def _print(found: Mapping[str, Any], output: str) -> None:
    if output == "json":
        show.print_json(found)
        return
    when = show.moment(found["next_at"])
    print(f"schedule {found['name']} is {found['state']}" + (f", next at {when} UTC" if when else ""))
    print(f"  {found['cron']}  {found['timezone']}  catch_up {found['catch_up']}, overlap {found['overlap']}")
    print(f"  {found['task']} " + " ".join(f"{name}={value!r}" for name, value in found["params"].items()))
    for each in found["firings"]:
        told = each["task"] or each["why"] or ""
        print(f"  {show.moment(each['moment'])} {each['outcome']} {told}".rstrip())
