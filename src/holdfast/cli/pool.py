"""`holdfast pool …`: what holds for all workers of a pool together, on a database or on a service.

What a pool is: tasks/pools.py. Where pools are: place.py. Workers: worker.py, drain.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from holdfast.cli import exits, place, show
from holdfast.cli.options import OutputOption, Where, flat
from holdfast.errors import UsageError

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, epilog=exits.LEGEND.replace("\n", " "))

PoolArgument = Annotated[str, typer.Argument(metavar="POOL", help="Its name.")]
NONE = "none"


@app.callback()
def about() -> None:
    """Pools: how many of a pool's tasks run at once over all its workers, how many may wait, and whether any is taken.

    \b
    holdfast pool list
    holdfast pool set hv1 --running-max 8 --queued-max 10000
    holdfast pool pause hv1                 take none of its tasks; what runs goes on
    holdfast pool drain hv1                 and hand over what runs, at the end of each step
    holdfast pool resume hv1

    A pool is there once a task was asked for in it or a worker has served it: `holdfast worker --pool hv1`. On a
    service these are for administrators.
    """


@app.command(name="list")
@flat
def list_(where: Where, output: OutputOption = "table") -> int:
    """List the pools, by name."""
    with place.at(where) as here:
        found = here.pools()
    if output == "json":
        show.print_json(found)
        return exits.OK
    rows = [
        (each["name"], each["state"], str(each["workers"]), f"{each['running']} of {_limit(each['running_max'])}",
         f"{each['queued']} of {_limit(each['queued_max'])}", str(each["due"]), _wait(each))
        for each in found
    ]  # fmt: skip
    show.print_table(("POOL", "STATE", "WORKERS", "RUNNING", "QUEUED", "DUE", "WAITS"), rows)
    return exits.OK


@app.command(name="show")
@flat
def show_(pool: PoolArgument, where: Where, output: OutputOption = "table") -> int:
    """Show one: its limits, and what waits in it."""
    with place.at(where) as here:
        _print(here.pool(pool), output)
    return exits.OK


@app.command(name="set")
@flat
def set_(
    pool: PoolArgument,
    where: Where,
    running_max: Annotated[
        str | None,
        typer.Option("--running-max", metavar="N|none", help="So many of its tasks run at once, over all its workers."),
    ] = None,
    queued_max: Annotated[
        str | None,
        typer.Option("--queued-max", metavar="N|none", help="So many may wait to be begun; more are refused."),
    ] = None,
    output: OutputOption = "table",
) -> int:
    """Set limits of a pool, which is made if it isn't there. What is not named stays as it is.

    \b
    holdfast pool set hv1 --running-max 8
    holdfast pool set hv1 --queued-max none

    A lower limit stops nothing that runs: no more is taken until fewer run than it says.
    """
    said = {"running_max": running_max, "queued_max": queued_max}
    limits = {name: _number(name, text) for name, text in said.items() if text is not None}
    with place.at(where) as here:
        _print(here.set_pool(pool, limits), output)
    return exits.OK


@app.command()
@flat
def pause(pool: PoolArgument, where: Where, output: OutputOption = "table") -> int:
    """Take none of its tasks from now on. What runs goes on, and what is asked for waits."""
    return _give(pool, "pause", where, output)


@app.command()
@flat
def resume(pool: PoolArgument, where: Where, output: OutputOption = "table") -> int:
    """Take its tasks again."""
    return _give(pool, "resume", where, output)


@app.command()
@flat
def drain(pool: PoolArgument, where: Where, output: OutputOption = "table") -> int:
    """Take none of its tasks, and hand over what runs at the end of each step. It holds for workers that start later.

    It doesn't wait: `holdfast pool show` says DRAINED when nothing of it runs any more. `holdfast drain --pool` waits.
    """
    return _give(pool, "drain", where, output)


def _give(pool: str, verb: str, where: Where, output: str) -> int:
    with place.at(where) as here:
        _print(here.give_pool(pool, verb), output)
    return exits.OK


def _number(name: str, text: str) -> int | None:
    if text == NONE:
        return None
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{name} is {text!r}, but has to be a whole number, or {NONE}") from None


def _limit(number: int | None) -> str:
    return "any" if number is None else str(number)


def _wait(found: Mapping[str, Any]) -> str:
    return "" if found["oldest_wait_s"] is None else f"{found['oldest_wait_s']:.1f} s"


def _print(found: Mapping[str, Any], output: str) -> None:
    if output == "json":
        show.print_json(found)
        return
    since = show.moment(found["draining_at"] or found["paused_at"])
    print(f"pool {found['name']} is {found['state']}" + (f" since {since} UTC" if since else ""))
    print(f"  {found['running']} run, of {_limit(found['running_max'])}, on {found['workers']} workers")
    print(f"  {found['queued']} have not begun, of {_limit(found['queued_max'])}")
    waits = f", the first for {_wait(found)}" if found["due"] else ""
    print(f"  {found['due']} could be taken now{waits}")
