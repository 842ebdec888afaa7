"""`holdfast db …`: the database itself. Its schema and revisions: store/migrations/."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from holdfast.cli import exits, options, show
from holdfast.cli.options import DatabaseOption, OutputOption

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def about() -> None:
    """The database: bring it to this Holdfast's schema, throw away what is over, move it, and say that it was restored.

    \b
    holdfast db upgrade --database postgresql://holdfast@db.example/tasks
    holdfast db purge
    holdfast db copy sqlite:///tasks.db postgresql://holdfast@db.example/tasks
    """


@app.command()
def upgrade(database: DatabaseOption = None, output: OutputOption = "table") -> int:
    """Bring the database to the schema of this Holdfast, in one transaction. One of SQLite that isn't there is made.

    Services and workers may go on meanwhile, the older ones too, as long as the schema says that it works with them.
    Where it does not, those on PostgreSQL are disconnected, and a SQLite file must be in nobody's use.
    """
    from holdfast.settings import Settings
    from holdfast.store import migrations, redacted

    settings = Settings.load()
    url = database or settings.database
    before, after = migrations.upgrade(url, busy_timeout_s=settings.busy_timeout_s)
    url = redacted(url)
    if output == "json":
        show.print_json({"database": url, "before": before, "after": after})
    elif after != migrations.HEAD:
        print(f"{url} has schema {after}, which is newer than this Holdfast's {migrations.HEAD} and works with it")
    elif before == after:
        print(f"{url} has the newest schema, {after}")
    else:
        print(f"{url} has schema {after} now" + (f"; it had {before}" if before else ", and is new"))
    return exits.OK


@app.command()
def restored(database: DatabaseOption = None, output: OutputOption = "table") -> int:
    """Say that the database was restored from a copy: what workers and agents remember of it is refused from now on.

    Holdfast finds that out by itself where a file is another one than before, and where a PostgreSQL was restored to a
    point in time, read in from a dump, or promoted. It can't where a file was overwritten in its place, or a disk was
    set back to a snapshot. To say it once too often does no harm: steps that run are stopped, and begun anew.
    """
    with options.opened(database) as hold:
        generation = hold.store.begin_anew()
    if output == "json":
        show.print_json({"database": hold.shown, "generation": generation})
    else:
        print(f"{hold.shown} has generation {generation} now: tokens of the one before are refused")
    return exits.OK


@app.command()
def purge(database: DatabaseOption = None, output: OutputOption = "table") -> int:
    """Delete the tasks that ended so long ago that they need not be kept (setting retention_s)."""
    with options.opened(database) as hold:
        gone = hold.purge()
    if output == "json":
        show.print_json({"purged": gone})
    else:
        print(f"{gone} tasks purged")
    return exits.OK


@app.command()
def copy(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The database that there is, as sqlite:///FILE.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The one to copy it into: empty, or not there yet.")],
    output: OutputOption = "table",
) -> int:
    """Copy a database into an empty one, of SQLite or PostgreSQL, with everything in it: tasks in flight go on there.

    \b
    holdfast drain --database sqlite:///tasks.db          its workers hand over what they have
    holdfast db copy sqlite:///tasks.db postgresql://holdfast@db.example/tasks
    holdfast worker --database postgresql://holdfast@db.example/tasks

    Stop the services and workers of the source first, and start none there afterwards: what was copied would be done
    twice. The source is left as it is. Refused where the target is not empty, a worker of the source lives that is not
    drained, or somebody writes to the source meanwhile; then the target stays as it was.
    """
    from holdfast.cli.findings import is_dead
    from holdfast.clock import SYSTEM
    from holdfast.settings import Settings
    from holdfast.store import is_postgresql, open_store, redacted
    from holdfast.tasks import copying

    settings = Settings.load()
    shows = sys.stderr.isatty()

    def told(table: str, done: int, total: int) -> None:
        print(f"\r\x1b[K{table} {done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)

    waits = {"busy_timeout_s": settings.busy_timeout_s}
    with open_store(source, create=False, **waits) as old, open_store(target, **waits) as new:
        now = old.read(lambda tx: tx.now(SYSTEM.time()))
        copied = copying.copy(
            copying.Side(old, is_postgresql(source)), copying.Side(new, is_postgresql(target)), now,
            is_dead=lambda worker: is_dead(worker, now), told=told if shows else None,
        )  # fmt: skip
    if output == "json":
        show.print_json({"source": redacted(source), "target": redacted(target), "rows": copied})
    else:
        things = ", ".join(f"{copied.get(name, 0)} {name}" for name in ("tasks", "resources", "schedules"))
        print(f"copied to {redacted(target)}: {things}, and all that belongs to them")
    return exits.OK
