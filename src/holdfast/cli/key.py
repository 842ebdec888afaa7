"""`holdfast key …`: the keys that seal secrets. What they seal: seal.py. Where that is: store/sealed.py."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from holdfast.cli import exits, options, show
from holdfast.cli.options import DatabaseOption, OutputOption

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def about() -> None:
    """The keys that seal secrets in the database: make one, change it for another.

    \b
    (umask 077; holdfast key new > key)         the first one: then HOLDFAST_SECRET_KEY_FILE=key
    (holdfast key new; cat key) > key.new && mv key.new key
    holdfast key rotate                         afterwards the old one may be taken out

    The newest key stands first and seals; every key that is there opens. A file of keys is read anew whenever it is
    needed, so what runs need not be started again.
    """


@app.command()
def new() -> int:
    """Print a new key, for HOLDFAST_SECRET_KEY or the file that HOLDFAST_SECRET_KEY_FILE names."""
    from holdfast.seal import new_key

    print(new_key())
    return exits.OK


@app.command()
def rotate(
    database: DatabaseOption = None,
    forget: Annotated[
        bool,
        typer.Option(
            "--forget",
            help="If no key opens what requests with secrets are known by, have another: such a request that comes "
            "again under its tag is refused then.",
        ),
    ] = False,
    output: OutputOption = "table",
) -> int:
    """Seal every secret in the database with the newest key. Exit 1 if there are some that no key opens.

    It may run while everything else does, be broken off, and be run again. Everybody who works with the database has
    to have the newest key by then: those who have it from the environment are started again first.
    """
    from holdfast.store import sealed

    with options.opened(database) as hold:
        tally = sealed.rotate(hold.store, hold.sealer, forget=forget)
    if output == "json":
        show.print_json(tally._asdict())
    else:
        print(f"{tally.sealed} secrets were sealed with the newest key, {tally.had} had it already")
    if tally.lost:
        print(f"holdfast: {lost(tally.lost)}", file=sys.stderr)
        return exits.FAILED
    if output != "json":
        print("the older keys are no longer needed")
    return exits.OK


def lost(names: list[str]) -> str:
    """What to do about secrets that no key opens."""
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return (
        f"no key that is here opens the secrets of {shown}: put the key that sealed them behind the new one, "
        "or say those secrets anew (docs/how-to/secrets.md)"
    )
